/* What the files of the client share: see kpopc.c and kpopc-line.c. */
#ifndef KPOPC_H
#define KPOPC_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>

#define EXCHANGE_SECONDS 30 /* as the server's own limit */
#define TEXT_MAX 500        /* octets of others' words in one message */

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_BROKEN = 3 };

struct options {
	const char *keytab;      /* NULL: the default ccache */
	const char *principal;   /* NULL: the keytab's first */
	const char *service;     /* NULL: pop/HOST */
	const char *authorities; /* file of certificates; NULL: the system's */
	const char *host, *port;
	bool pop3, tls;
	char *cache; /* where the tickets are */
};

/* At most n octets of text that may come from the network, fit for a terminal. One at a time. */
const char *printable(const char *text, size_t n);

/* The connection, whatever layers it has. */
struct line {
	int fd;          /* of the plain text */
	pid_t helpers[2]; /* processes that do TLS and a layer of GSSAPI */
	int count;
	unsigned char binding[64]; /* hash of the server's certificate */
	size_t binding_size;
	bool has_tls;
};

/*
 * Takes the server's greeting, begins TLS if it is wanted, and passes the
 * greeting on to standard output. What fails ends the process.
 */
void line_greet(struct line *l, const struct options *o);

/*
 * POP3 mode: lets the program on standard input say USER and PASS, and shows
 * the server a ticket for that with AUTH GSSAPI. Returns whether it is logged
 * in; false when it has left.
 */
bool line_login(struct line *l, const struct options *o);

/* Waits for the layers' processes. Returns status, or EXIT_BROKEN when one of them found the end not in order. */
int line_end(struct line *l, int status);

#endif
