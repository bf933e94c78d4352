/* A client in memory for the code that uses an io (peer.c). */
#ifndef PEER_H
#define PEER_H

#include "fuzz/fuzz.h"
#include "io.h"

struct peer {
	const uint8_t *data; /* all bytes that the client sends */
	size_t size, at;
	size_t piece;   /* most bytes of one recv or send */
	bool hesitates; /* recv fails once with EAGAIN before each piece */
	enum { PEER_CLOSES, PEER_WAITS, PEER_RESETS } end;
	size_t takes; /* total bytes of output that the client accepts */
	char *said;   /* the output that the client has accepted */
	size_t said_size, room;
	int64_t clock; /* CLOCK_MONOTONIC in ms; only poll advances it */
};

extern struct peer peer;

/*
 * Begins a connection with size bytes of input. The bits of "manner" select the
 * pieces of the input, how the client ends, and how much output it accepts.
 */
void peer_begin(struct io *io, const uint8_t *data, size_t size,
    unsigned manner);

/* Returns the number of bytes of the input that the program has used. */
size_t peer_used(const struct io *io);

#endif
