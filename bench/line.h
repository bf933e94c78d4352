/*
 * The connection and logins of the bench's client (line.c). Any error ends the
 * process with a message.
 */
#ifndef LINE_H
#define LINE_H

#include <stddef.h>

enum login { LOGIN_KPOP, LOGIN_GSSAPI, LOGIN_PASS };
enum layer { LAYER_NONE, LAYER_TLS, LAYER_GSSAPI };

struct how {
	enum login login;
	enum layer layer;
	/*
	 * The host in the service principal. The address is always 127.0.0.1.
	 */
	const char *host;
	int port;
	const char *user, *password;
};

/* Prepares what all connections share: the tickets and OpenSSL's context. */
void line_prepare(const struct how *how);

/* Connects and logs in. Returns after the +OK to PASS or AUTH. */
void line_login(const struct how *how);

/* Closes the connection. */
void line_close(void);

/* Sends n bytes. */
void line_send(const char *data, size_t n);

/* Sends a command. Adds CRLF to it. */
__attribute__((format(printf, 1, 2))) void line_write(const char *format, ...);

/* Returns the next line without CRLF. It is valid until the next call. */
const char *line_read(void);

/* Returns the next line, which must begin with +OK. */
const char *line_read_good(void);

/*
 * Skips the remaining lines of an answer after its first one. At least least
 * bytes must come before the dot. Returns the number of bytes.
 */
size_t line_skip(size_t least);

#endif
