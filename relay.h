/* Carries bytes between a client and a session through a codec: see relay.c. */
#ifndef RELAY_H
#define RELAY_H

#include <stdbool.h>
#include <stddef.h>

#define RELAY_PIECE ((size_t)16 << 10)  /* given to a codec at once, at most */
#define RELAY_ROOM ((size_t)256 << 10)  /* what a codec may make of it */

/* Bytes on their way out. */
struct relay_buffer {
	size_t at, end;
	char data[RELAY_ROOM];
};

/* Appends. Returns 0, or -1 when there is no room. */
int relay_put(struct relay_buffer *b, const void *data, size_t n);

#define RELAY_END 1 /* open's answer when the client has said all */

/* What is done to the bytes. All return 0, or -1 to end the connection. */
struct relay_codec {
	/* n bytes from the client; what they mean goes to plain, an answer to them to sealed. */
	int (*open)(void *state, const char *data, size_t n,
	    struct relay_buffer *plain, struct relay_buffer *sealed);
	/* n bytes for the client. */
	int (*seal)(void *state, const char *data, size_t n, struct relay_buffer *sealed);
	/* Nothing more comes for the client. */
	int (*finish)(void *state, struct relay_buffer *sealed);
	/* Whether seal may be called yet. */
	bool (*ready)(void *state);
	/* The client's socket has ended, before the plain side. May be NULL. */
	void (*left)(void *state);
};

/* Which end of the connection the plain side is. */
enum relay_side {
	RELAY_SERVER, /* a session; its end is the connection's end */
	RELAY_CLIENT, /* a program or its user; the other end is heard to the last */
};

/*
 * Pumps between the client's socket and the plain side, which is read from
 * plain_in and written to plain_out (one socket may be both), until both have
 * said all. On the server's side plain_in is a socket. Its last byte stays in
 * it until the client has acknowledged it or others have come after it.
 * unread: n bytes, at most RELAY_PIECE, that the client has said already.
 * Returns 0 when both ended well, else -1.
 */
int pump(int client, int plain_in, int plain_out, enum relay_side side,
    const struct relay_codec *codec, void *state, const char *unread, size_t n);

#endif
