/*
 * Runs the relay of a GSSAPI security layer that AUTH GSSAPI has negotiated.
 *
 * Runs in the relay, as the pre-auth user in the relay's jail. The relay is a
 * child of the monitor. It receives only the GSSAPI context and never has a key
 * of the service. The client and the pre-auth process are not trusted; the
 * GSSAPI library is trusted.
 */
#include "config.h"

#include <sys/socket.h>

#include <gssapi/gssapi_ext.h>
#include <stddef.h>

#include "log.h"
#include "relay-sasl.h"
#include "sasl-handover.h"
#include "sasl-status.h"

/*
 * Logs that a step of GSSAPI failed. If major is 0, GSSAPI reported no error,
 * but the step broke a rule of the layer.
 */
static void
log_gss_failed(int priority, const char *step, OM_uint32 major, OM_uint32 minor)
{
	struct log_text t;

	log_failed_at(priority,
	    major != 0 ? sasl_status(&t, major, minor) :
			 "the security layer does not allow it",
	    "%s", step);
}

/* Returns true if the n bytes of *h are a valid handover. */
static bool
is_valid_handover(const struct sasl_handover *h, size_t n)
{
	const size_t head = offsetof(struct sasl_handover, data);

	return n >= head && h->unread_size <= n - head &&
	    h->text_size >= RELAY_GSS_LEAST && h->text_size <= RELAY_GSS_TOKEN;
}

/*
 * Prepares the codec for the layer in the n bytes of *h. Returns 0, or -1
 * (logged).
 */
static int
import_layer(struct sasl_handover *h, size_t n, struct relay_gss *w)
{
	const size_t head = offsetof(struct sasl_handover, data);
	gss_buffer_desc token;
	OM_uint32 major, minor;

	if (!is_valid_handover(h, n)) {
		log_event(LOG_ALERT, "fatal",
		    "error=\"malformed handover of a "
		    "security layer from the pre-auth process\"");
		return -1;
	}
	token.value = h->data + h->unread_size;
	token.length = n - head - h->unread_size;
	major = gss_import_sec_context(&minor, &token, &w->context);
	if (GSS_ERROR(major)) {
		log_gss_failed(LOG_ERR, "importing the GSSAPI security layer",
		    major, minor);
		return -1;
	}
	w->is_confidential = h->layer == RELAY_GSS_CONFIDENTIALITY;
	w->text_size = h->text_size;
	w->output = RELAY_GSS_ANSWER;
	return 0;
}

int
relay_sasl_run(int client, int cleartext, int handoff)
{
	static struct sasl_handover h;
	static struct relay_gss w;
	ssize_t n = recv(handoff, &h, sizeof(h), 0);

	/* If no packet came, the pre-auth process has ended early. */
	if (n <= 0 || import_layer(&h, (size_t)n, &w) == -1)
		return -1;
	if (relay_run(client, cleartext, cleartext, RELAY_SERVER,
		&relay_gss_codec, &w, h.data, h.unread_size) == 0)
		return 0;
	if (w.problem != NULL)
		log_gss_failed(LOG_NOTICE, w.problem, w.major, w.minor);
	return -1;
}
