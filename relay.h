/* Carries bytes between a client and a session through a codec: see relay.c. */
#ifndef RELAY_H
#define RELAY_H

#include <stdbool.h>
#include <stddef.h>

#define RELAY_PIECE ((size_t)64 << 10) /* bytes that are read at once */
#define RELAY_ROOM ((size_t)256 << 10) /* bytes that a buffer can hold */

/* Bytes that are still to be sent: data[at] to data[end - 1]. */
struct relay_buffer {
	size_t at, end;
	char data[RELAY_ROOM];
};

/* Appends n bytes. Returns 0, or -1 if they do not fit into the buffer. */
int relay_put(struct relay_buffer *b, const void *data, size_t n);

#define RELAY_END 1 /* unwrap's result if the client has ended its stream */

/*
 * The functions that convert the bytes: "cleartext" is the session's form,
 * "wrapped" the client's. The functions that return an int return 0, or -1 to
 * end the connection. state is the argument of relay_run.
 */
struct relay_codec {
	/*
	 * The most bytes that wrap gets at once, up to RELAY_PIECE. The result
	 * of wrap must fit into an empty relay_buffer. So must the result of
	 * unwrap for RELAY_PIECE bytes.
	 */
	size_t piece;
	/*
	 * Unwraps n bytes from the client and appends the result to *cleartext.
	 * Appends the codec's own answers to the client to *wrapped. May return
	 * RELAY_END.
	 */
	int (*unwrap)(void *state, const char *data, size_t n,
	    struct relay_buffer *cleartext, struct relay_buffer *wrapped);
	/* Wraps n bytes for the client and appends the result to *wrapped. */
	int (*wrap)(void *state, const char *data, size_t n,
	    struct relay_buffer *wrapped);
	/* Ends the stream to the client. */
	int (*finish)(void *state, struct relay_buffer *wrapped);
	/* Returns true if wrap may be called. */
	bool (*is_ready)(void *state);
	/*
	 * Notes that the client's socket has ended without an error. On the
	 * server's side the cleartext side has not ended yet. May be NULL.
	 */
	void (*note_client_end)(void *state);
};

/* What the cleartext side is connected to. */
enum relay_side {
	RELAY_SERVER, /* a session; its end ends the connection */
	RELAY_CLIENT, /* a program; all that the server sends is passed on */
};

/*
 * Carries bytes between the client's socket and the cleartext side. Ends when
 * the session has ended. In kpopc, ends when both sides have ended. The
 * cleartext side is read from cleartext_in and written to cleartext_out, which
 * may be one socket. unread: n bytes, at most RELAY_PIECE, that were already
 * read from the client's socket. Returns 0, or -1 after an error or a time
 * limit.
 *
 * On the server's side cleartext_in is a socket. The last byte from this socket
 * is passed on, but stays in the socket until the client has acknowledged it or
 * more bytes have come.
 */
int relay_run(int client, int cleartext_in, int cleartext_out,
    enum relay_side side, const struct relay_codec *codec, void *state,
    const char *unread, size_t n);

#endif
