/*
 * The connection and logins of the bench's client: see line.c. Any error ends
 * the process with a message.
 */
#ifndef LINE_H
#define LINE_H

#include <stddef.h>

enum login { LOGIN_KPOP, LOGIN_GSSAPI, LOGIN_PASS };
enum layer { LAYER_NONE, LAYER_TLS, LAYER_GSSAPI };

struct how {
	enum login login;
	enum layer layer;
	/* Of the service principal; the address is 127.0.0.1. */
	const char *host;
	int port;
	const char *user, *password;
};

/* Gets what all connections share: the tickets and OpenSSL's context. */
void line_prepare(const struct how *how);

/* Connects and logs in, up to the good answer to PASS or AUTH. */
void line_login(const struct how *how);

/* Closes the connection. */
void line_close(void);

/* Sends n bytes. */
void line_send(const char *data, size_t n);

/* Sends a command, to which it adds CRLF. */
__attribute__((format(printf, 1, 2))) void line_write(const char *format, ...);

/* Returns the next line, without CRLF, valid until the next call. */
const char *line_read(void);

/* Returns the same; the line must begin with +OK. */
const char *line_read_good(void);

/*
 * Skips the lines of an answer after its first one. At least least bytes come
 * before the dot. Returns the number of bytes.
 */
size_t line_skip(size_t least);

#endif
