/*
 * The interfaces between the files of the client, in the order in which they
 * call each other: see kpopc.c.
 */
#ifndef KPOPC_H
#define KPOPC_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>

#define TEXT_MAX 500 /* bytes of one text from outside in a message */
/* Bytes of a line: a SASL token of 64 KiB in base64, and more. */
#define LINE_MOST 100000
#define LINE_USER 255 /* bytes of a user's name */

/* Exit statuses. */
enum {
	EXIT_DONE = 0,
	EXIT_REFUSED = 1, /* no session */
	EXIT_USAGE = 2,
	EXIT_BROKEN = 3, /* a session that did not end in order */
};

struct options {
	const char *keytab;      /* NULL: the default ccache */
	const char *principal;   /* NULL: the keytab's first */
	const char *service;     /* NULL: pop/HOST */
	const char *authorities; /* file of certificates; NULL: the system's */
	const char *host, *port; /* port NULL: the default */
	bool pop3, tls, cleartext;
	char *cache; /* the name of the ccache, if pop3 */
};

/* kpopc-answer.c: any process of the client. */

/*
 * Returns at most n bytes of text that may come from the network, with what a
 * terminal would interpret encoded as by vis(3). Valid until the next call.
 */
const char *answer_printable(const char *text, size_t n);

/* Returns true if the answer begins with "+OK". */
bool answer_is_good(const char *answer);

/* Returns true if the answer begins with "-ERR". */
bool answer_is_refusal(const char *answer);

/*
 * Prints the server's refusal, encoded as by vis(3), and ends the process with
 * EXIT_REFUSED.
 */
_Noreturn void answer_give_up(const char *answer);

/* kpopc-connect.c */

/*
 * Returns a socket that is connected to the host. Ends the process if that
 * fails.
 */
int connect_to(const struct options *o);

/* kpopc-conn.c */

/* The connection with its layers. */
struct conn {
	int fd;          /* of the cleartext */
	pid_t layers[2]; /* the processes that do TLS and GSSAPI's layer */
	int count;       /* of these processes */
	unsigned char binding[64]; /* hash of the server's certificate */
	size_t binding_size;
	bool has_tls;
};

/*
 * Ends the process with EXIT_REFUSED unless conn_unlimit_time is called in
 * time: 35 seconds, which a trickle of bytes does not extend.
 */
void conn_limit_time(void);
void conn_unlimit_time(void);

/* Writes n bytes to fd. Ends the process if that fails. */
void conn_write(int fd, const void *data, size_t n);

/*
 * Returns the server's next line without its end, valid until the next call. A
 * closed connection, or a line without an end, ends the process unless the line
 * is a refusal.
 */
const char *conn_read_answer(const struct conn *c);

/*
 * Writes text and a line end to the server. Returns its answer, as
 * conn_read_answer does.
 */
const char *conn_ask(const struct conn *c, const char *text);

/*
 * Reads the line that a server has sent instead of the exchange, and whose
 * first byte may have been read already. Returns the line, valid until the next
 * call, or NULL at the first byte that does not belong to a refusal.
 */
const char *conn_read_refusal(int fd);

/*
 * Writes text and a line end to the program on standard output. Ends the
 * process if that fails.
 */
void conn_answer_program(const char *text);

/*
 * Reads the program's next line into text[LINE_MOST], without its end. Returns
 * false at the end of standard input.
 */
bool conn_read_program(char *text);

/*
 * Starts a process for a layer, between the connection and this process. The
 * process calls work with the connection and one end of a socket pair; the
 * other end becomes c->fd.
 */
void conn_add_layer(struct conn *c, const void *argument,
    void (*work)(const void *argument, int fd, int cleartext));

/*
 * Closes the connection and waits for the processes of its layers. Returns
 * status, or EXIT_BROKEN if status is EXIT_DONE and a layer did not end in
 * order.
 */
int conn_end(struct conn *c, int status);

/* kpopc-tls.c */

/*
 * Begins TLS by STLS. When this returns, the certificate is verified and its
 * hash is in c->binding.
 */
void tls_begin(struct conn *c, const struct options *o);

/* kpopc-auth.c */

/*
 * Logs in as user with AUTH GSSAPI, begins the security layer that was agreed
 * upon, and writes the answer to standard output. Ends the process if the
 * server refuses or does not prove its identity.
 */
void auth_login(struct conn *c, const struct options *o, const char *user);

/* kpopc-login.c */

/*
 * Reads the server's greeting, begins TLS if the options demand it, and greets
 * the program on standard output. Ends the process if that fails.
 */
void login_greet(struct conn *c, const struct options *o);

/*
 * POP3 mode: obeys the program on standard input until USER and PASS, for which
 * the server gets a ticket with AUTH GSSAPI. Returns true after the login,
 * false if the program has left.
 */
bool login_serve(struct conn *c, const struct options *o);

/* kpopc-follow.c */

/*
 * Begins to follow the dialogue. has_greeted: the greeting has been read
 * already; is_in: so has the answer to the login.
 */
void follow_begin(bool has_greeted, bool is_in);

/* Reads the next n bytes of the program's or the server's direction. */
void follow_program(const char *data, size_t n);
void follow_server(const char *data, size_t n);

/* Returns true if QUIT was the program's last line. */
bool follow_has_quit(void);

/*
 * Returns true if QUIT was the program's last line and all its lines have their
 * whole answers.
 */
bool follow_is_over(void);

/*
 * Prints the server's refusal if there was no login because of it. Returns true
 * if it did. Call it at the end.
 */
bool follow_print_refusal(void);

/*
 * Returns the name of the command that the server had not answered, or not to
 * its end, when it closed, and sets *status; or NULL. Call it at the end.
 */
const char *follow_unanswered(int *status);

/* kpopc-tunnel.c */

/*
 * Copies standard input to the connection and the connection to standard output
 * until the server has closed and all its bytes are written; kpopc-follow.c
 * reads them, too. Returns the exit status, which is EXIT_REFUSED if the server
 * refused the login.
 */
int tunnel_run(int fd);

#endif
