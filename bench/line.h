/* The bench client's connection and its logins: see line.c. What fails ends the process with its reason. */
#ifndef LINE_H
#define LINE_H

#include <stddef.h>

enum login { LOGIN_KPOP, LOGIN_GSSAPI, LOGIN_PASS };
enum layer { LAYER_NONE, LAYER_TLS, LAYER_GSSAPI };

struct how {
	enum login login;
	enum layer layer;
	const char *host; /* of the service principal; the address is 127.0.0.1 */
	int port;
	const char *user, *password;
};

/* Gets what all connections share: tickets, OpenSSL's start. */
void line_prepare(const struct how *how);

/* Connects and logs in, up to PASS's good answer, or AUTH's. */
void line_login(const struct how *how);

void line_close(void);

/* Bytes as they are. */
void line_send(const char *data, size_t n);

/* A command; CRLF is added. */
__attribute__((format(printf, 1, 2))) void line_say(const char *format, ...);

/* The next line, without CRLF; one at a time. */
const char *line_hear(void);

/* The same, and it has to be +OK. */
const char *line_hear_good(void);

/* All of an answer of several lines behind its first, of which at least `least` bytes come before the dot. Returns their number. */
size_t line_skip(size_t least);

#endif
