/*
 * Converts stored lines to POP3 lines and counts their bytes. Makes no system
 * call.
 *
 * Runs as the owner of the mailbox. The message is not trusted: its lines may
 * have any length and any bytes. The message comes in pieces of any size, and
 * the result does not depend on these sizes.
 *
 * The stores compute the size for LIST without this file (mbox-scan.c,
 * maildir-files.c). They must count line ends by the rules of this file,
 * because maildrop_end compares the size for LIST with the size that was sent.
 *
 * RFC 1939 §3 (stuffing) and §11 (the size of a message).
 */
#include "config.h"

#include <string.h>

#include "wire.h"

void
wire_init(struct wire *w, uint64_t body_lines)
{
	*w = (struct wire){ .lines_left = body_lines };
}

/*
 * Copies n bytes to the offset `at` of out, unless out is NULL. Returns the
 * offset after these bytes.
 */
static size_t
put(char *out, size_t at, const char *from, size_t n)
{
	if (out != NULL)
		memcpy(out + at, from, n);
	return at + n;
}

/*
 * Ends a line. The first empty line ends the header. Each line of the body
 * counts against the number of lines that TOP asks for.
 */
static void
end_line(struct wire *w)
{
	bool empty = w->length == 0 || (w->length == 1 && w->cr);

	if (w->in_body)
		w->lines_left -= w->lines_left != WIRE_ALL;
	else
		w->in_body = empty;
	w->done = w->in_body && w->lines_left == 0;
	w->length = 0;
	w->cr = false;
}

size_t
wire_put(struct wire *w, const char *in, size_t n, char *out)
{
	const char *const end = in + n;
	size_t at = 0;

	while (in < end && !w->done) {
		const char *lf = memchr(in, '\n', (size_t)(end - in));
		size_t run = (size_t)((lf != NULL ? lf : end) - in);

		if (run > 0) {
			if (w->length == 0 && *in == '.')
				at = put(out, at, ".", 1);
			at = put(out, at, in, run);
			w->wire_size += run;
			w->length += run;
			w->cr = in[run - 1] == '\r';
		}
		if (lf == NULL)
			break;
		at = w->cr ? put(out, at, "\n", 1) : put(out, at, "\r\n", 2);
		w->wire_size += w->cr ? 1 : 2;
		end_line(w);
		in = lf + 1;
	}
	return at;
}

size_t
wire_end(struct wire *w, char *out)
{
	if (w->done || w->length == 0)
		return 0;
	w->wire_size += 2;
	end_line(w);
	return put(out, 0, "\r\n", 2);
}
