/*
 * Quotes paths and names for the remedies of kpopd --check, which are commands
 * of the shell.
 *
 * Runs in kpopd-check; pure computation. It quotes as sh(1) of POSIX 2024 and
 * bash do, and uses only printable ASCII.
 */
#include "config.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "check-quote.h"

#define PLAIN                                                                  \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"       \
	"/._-+:@%,="

/* Appends the byte as it is written between $' and '. */
static void
append_byte(char *to, size_t room, unsigned char byte)
{
	size_t at = strlen(to);

	if (byte >= ' ' && byte <= '~' && byte != '\'' && byte != '\\')
		snprintf(to + at, room - at, "%c", byte);
	else
		snprintf(to + at, room - at, "\\%03o", byte);
}

const char *
check_quote(struct check_word *w, const char *text)
{
	/* Each byte of the longest word could be an escape. */
	char quoted[4 * CHECK_WORD + 8];
	bool is_plain = *text != '\0' && text[strspn(text, PLAIN)] == '\0';

	/* A path must not look like an option. */
	snprintf(quoted, sizeof(quoted), "%s%s", is_plain ? "" : "$'",
	    *text == '-' ? "./" : "");
	if (is_plain)
		strlcat(quoted, text, sizeof(quoted));
	else {
		for (const char *p = text; *p != '\0' && p < text + CHECK_WORD;
		     p++)
			append_byte(quoted, sizeof(quoted), (unsigned char)*p);
		strlcat(quoted, "'", sizeof(quoted));
	}
	if (strlcpy(w->text, quoted, sizeof(w->text)) >= sizeof(w->text))
		strlcpy(w->text, "PATH", sizeof(w->text));
	return w->text;
}
