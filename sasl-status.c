/*
 * Writes the text of an error of GSSAPI.
 *
 * Runs in the pre-auth process and in the relay. It makes no system call.
 */
#include "config.h"

#include <gssapi/gssapi_krb5.h>
#include <stdbool.h>
#include <stdio.h>

#include "sasl-status.h"

const char *
sasl_status(struct log_text *t, OM_uint32 major, OM_uint32 minor)
{
	char text[256] = "";
	OM_uint32 unused, more = 0;
	gss_buffer_desc words;
	/*
	 * For wrong channel bindings GSSAPI has a text, but the mechanism has
	 * none.
	 */
	bool of_mechanism =
	    minor != 0 && GSS_ROUTINE_ERROR(major) != GSS_S_BAD_BINDINGS;

	if (gss_display_status(&unused, of_mechanism ? minor : major,
		of_mechanism ? GSS_C_MECH_CODE : GSS_C_GSS_CODE,
		(gss_OID)gss_mech_krb5, &more, &words) == GSS_S_COMPLETE) {
		snprintf(text, sizeof(text), "%.*s", (int)words.length,
		    (char *)words.value);
		gss_release_buffer(&unused, &words);
	}
	return log_words(t, text);
}
