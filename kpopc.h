/* What the files of the client share: see kpopc.c. */
#ifndef KPOPC_H
#define KPOPC_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>

#define EXCHANGE_SECONDS 35 /* more than the server's own limit, at which it may say why */
#define TEXT_MAX 500        /* bytes of others' words in one message */
#define LINE_MOST 100000    /* a server's SASL token of 64 KiB in base64, and more */
#define LINE_USER 255       /* bytes of a user's name */

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_BROKEN = 3 };

struct options {
	const char *keytab;      /* NULL: the default ccache */
	const char *principal;   /* NULL: the keytab's first */
	const char *service;     /* NULL: pop/HOST */
	const char *authorities; /* file of certificates; NULL: the system's */
	const char *host, *port;
	bool pop3, tls, cleartext;
	char *cache; /* where the tickets are */
};

/* At most n bytes of text that may come from the network, fit for a terminal. One at a time. */
const char *printable(const char *text, size_t n);

/* Ends the process unless alarm(0) is called within EXCHANGE_SECONDS; a trickle of bytes does not extend that. */
void limit_time(void);

/* Returns a socket that is connected to the host. What fails ends the process. */
int connect_to(const struct options *o);

/* The connection, whatever layers it has. */
struct line {
	int fd;          /* of the plain text */
	pid_t helpers[2]; /* processes that do TLS and a layer of GSSAPI */
	int count;
	unsigned char binding[64]; /* hash of the server's certificate */
	size_t binding_size;
	bool has_tls;
};

/* Writes n bytes to the connection. What fails ends the process. */
void line_write(int fd, const void *data, size_t n);

/* Writes text and a line end to the program on standard output. What fails ends the process. */
void line_tell(const char *text);

/*
 * Returns the server's next line without its end. A closed connection, or a
 * line without an end, ends the process unless the line is a refusal.
 */
const char *line_hear(const struct line *l);

/* Writes text and a line end to the server and returns its answer, as line_hear does. */
const char *line_ask(const struct line *l, const char *text);

/* Returns true if the answer begins with "+OK". */
bool line_is_good(const char *answer);

/* Returns true if the answer begins with "-ERR". */
bool line_is_refusal(const char *answer);

/* Prints the server's refusal, encoded as by vis(3), and ends the process with EXIT_REFUSED. */
_Noreturn void line_give_up(const char *answer);

/*
 * Reads the line that a server has sent in place of the exchange, whose first
 * byte may have been read already. Returns the line if it is a refusal, else
 * NULL at its first byte that is not one's.
 */
const char *line_hear_refusal(int fd);

/* Puts a process between the connection and the rest: work gets the connection and one end of a socket pair, l the other. */
void line_put_between(struct line *l, const void *what, void (*work)(const void *what, int fd, int plain));

/*
 * Reads the server's greeting, begins TLS if it is wanted, and greets the
 * program on standard output. What fails ends the process.
 */
void line_greet(struct line *l, const struct options *o);

/*
 * POP3 mode: lets the program on standard input say USER and PASS, and shows
 * the server a ticket for that with AUTH GSSAPI. Returns true once it is logged
 * in, false if the program has left.
 */
bool line_login(struct line *l, const struct options *o);

/* Begins TLS by STLS. When this returns the certificate is verified, and its hash is in l->binding. */
void line_begin_tls(struct line *l, const struct options *o);

/*
 * Logs in as user with AUTH GSSAPI, begins the security layer that was agreed
 * upon, and writes the answer to standard output. A server that refuses, or
 * does not prove itself, ends the process.
 */
void line_authenticate(struct line *l, const struct options *o, const char *user);

/*
 * Copies standard input to the connection and the connection to standard
 * output, until the server has closed and all that it said is out. Returns the
 * exit status. Unless is_in, the login is still to come, and a server that
 * refuses it makes the status EXIT_REFUSED; unless has_greeted, so is the
 * greeting.
 */
int tunnel(int fd, bool has_greeted, bool is_in);

/*
 * Returns the name of the command that the server had not answered, or not to
 * its end, when it closed, and sets *status; or NULL. Call it after tunnel.
 */
const char *tunnel_unanswered(int *status);

/* Waits for the layers' processes. Returns status, or EXIT_BROKEN if one of them found the end not in order. */
int line_end(struct line *l, int status);

#endif
