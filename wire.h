/* Stored lines to POP3 lines: see wire.c. */
#ifndef WIRE_H
#define WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_ALL UINT64_MAX /* wire_init: the whole message, as RETR */

/* Where the conversion of one message stands. All fields belong to wire.c but bytes. */
struct wire {
	uint64_t wire_size;     /* so far, as RFC 1939 §11 counts: CRLF, no stuffing */
	uint64_t lines_left; /* of the body still to pass */
	uint64_t length;     /* bytes of the current line */
	bool cr;             /* the last byte was CR */
	bool in_body;
	bool done; /* the lines asked for have passed */
};

/* Starts a message of which the header and at most body_lines lines of the body are wanted. */
void wire_init(struct wire *w, uint64_t body_lines);

/*
 * Converts the next n stored bytes into out, which has room for 2 * n bytes
 * (a stored line may be one byte, its POP3 form two: ".\n" becomes "..\r\n").
 * With out NULL it only counts. Returns how many bytes were put (or would
 * have been): LF becomes CRLF, CRLF stays, a dot that begins a line is doubled
 * (RFC 1939 §3). Nothing more is put once w->done.
 */
size_t wire_put(struct wire *w, const char *in, size_t n, char *out);

/* Ends the message: a last line without an end gets one. Needs room for 2 bytes, returns how many were put. */
size_t wire_end(struct wire *w, char *out);

#endif
