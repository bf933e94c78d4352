/* Carries octets between a client and a session through a codec: see pump.c. */
#ifndef PUMP_H
#define PUMP_H

#include <stdbool.h>
#include <stddef.h>

#define PUMP_PIECE ((size_t)16 << 10)  /* given to a codec at once, at most */
#define PUMP_ROOM ((size_t)256 << 10)  /* what a codec may make of it */

/* Octets on their way out. */
struct pump_buffer {
	size_t at, end;
	char data[PUMP_ROOM];
};

/* Appends. Returns 0, or -1 when there is no room. */
int pump_put(struct pump_buffer *b, const void *data, size_t n);

#define PUMP_END 1 /* open's answer when the client has said all */

/* What is done to the octets. All return 0, or -1 to end the connection. */
struct pump_codec {
	/* n octets from the client; what they mean goes to plain, an answer to them to sealed. */
	int (*open)(void *state, const char *data, size_t n,
	    struct pump_buffer *plain, struct pump_buffer *sealed);
	/* n octets for the client. */
	int (*seal)(void *state, const char *data, size_t n, struct pump_buffer *sealed);
	/* Nothing more comes for the client. */
	int (*finish)(void *state, struct pump_buffer *sealed);
	/* Whether seal may be called yet. */
	bool (*ready)(void *state);
	/* The client's socket has ended, before the plain side. May be NULL. */
	void (*left)(void *state);
};

/* Which end of the connection the plain side is. */
enum pump_side {
	PUMP_SERVER, /* a session; its end is the connection's end */
	PUMP_CLIENT, /* a program or its user; the other end is heard to the last */
};

/*
 * Pumps between the client's socket and the plain side, which is read from
 * plain_in and written to plain_out (one socket may be both), until both have
 * said all. On the server's side plain_in is a socket. Its last byte stays in
 * it until the client has acknowledged it or others have come after it.
 * unread: n bytes, at most PUMP_PIECE, that the client has said already.
 * Returns 0 when both ended well, else -1.
 */
int pump(int client, int plain_in, int plain_out, enum pump_side side,
    const struct pump_codec *codec, void *state, const char *unread, size_t n);

#endif
