/* A client in memory, for what speaks through an io: see peer.c. */
#ifndef PEER_H
#define PEER_H

#include "fuzz/fuzz.h"
#include "io.h"

struct peer {
	const uint8_t *data; /* what it sends */
	size_t size, at;
	size_t piece;    /* at most so much at a time */
	bool hesitates;  /* before each piece there is nothing for a moment */
	enum { PEER_CLOSES, PEER_WAITS, PEER_RESETS } end;
	size_t patience; /* takes so many bytes, and no more */
	char *said;      /* what it has been told */
	size_t said_size, room;
	int64_t clock;   /* monotonic, ms: only poll lets time pass */
};

extern struct peer peer;

/* Begins a connection on which data comes in a manner that one byte describes. */
void peer_begin(struct io *io, const uint8_t *data, size_t size, unsigned manner);

/* Bytes of data that the program has used. */
size_t peer_used(const struct io *io);

#endif
