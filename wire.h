/* Converts stored lines to lines of POP3: see wire.c. */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_ALL UINT64_MAX /* body_lines of a whole message (RETR) */

/*
 * The conversion of one message. Callers may read wire_size and done; the other
 * fields belong to wire.c.
 */
struct wire {
	/*
	 * The wire size of what was converted so far. A line end counts as
	 * CRLF, and a doubled dot as one dot (RFC 1939 §11).
	 */
	uint64_t wire_size;
	uint64_t lines_left; /* lines of the body still to convert */
	uint64_t length;     /* bytes of the current line so far */
	bool cr;             /* the last byte was CR */
	bool in_body;
	/*
	 * The header and body_lines lines of the body are converted. Never true
	 * with WIRE_ALL.
	 */
	bool done;
};

/*
 * Begins a message. Its header and at most body_lines lines of its body will be
 * converted.
 */
void wire_init(struct wire *w, uint64_t body_lines);

/*
 * Converts the next n stored bytes: LF becomes CRLF, CRLF stays, a dot that
 * begins a line is doubled (RFC 1939 §3). After w->done, nothing is converted.
 * Writes to out[2 * n], because ".\n" becomes "..\r\n". Returns the number of
 * bytes written to out. If out is NULL, writes nothing, but counts and returns
 * the same.
 */
size_t wire_put(struct wire *w, const char *in, size_t n, char *out);

/*
 * Ends the message: adds a CRLF if the last line has no end. Returns the number
 * of bytes written to out, at most 2.
 */
size_t wire_end(struct wire *w, char *out);

#endif
