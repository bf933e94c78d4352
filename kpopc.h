/*
 * The functions that the files of kpopc offer each other: see kpopc.c. "The
 * program" is the mail program or person that uses kpopc through its standard
 * input and output.
 */
#ifndef KPOPC_H
#define KPOPC_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* bytes of a text from the network that are printed, at most */
#define TEXT_MAX 500
/* Bytes of a buffer for a line. A SASL token of 64 KiB in base64 fits. */
#define LINE_MOST 100000
#define LINE_USER 255 /* bytes of a user's name */

/* Exit statuses. */
enum {
	EXIT_DONE = 0,
	EXIT_REFUSED = 1, /* no session */
	EXIT_USAGE = 2,
	EXIT_BROKEN = 3, /* the session began and ended with an error */
};

struct options {
	const char *keytab;      /* NULL: the default ccache */
	const char *principal;   /* NULL: the keytab's first */
	const char *service;     /* NULL: pop/HOST */
	const char *authorities; /* file of certificates; NULL: the system's */
	const char *host, *port; /* port NULL: the default */
	int family;              /* AF_UNSPEC: any */
	const char *listen; /* a port, or LISTEN_PASSED; NULL: do not listen */
	long idle;          /* seconds, if listen */
	bool pop3, tls, cleartext, probe, map;
	/* of a probe or a list of ids; NULL: the principal's first part */
	const char *user;
	const char *command;       /* in place of a connection, or NULL */
	const char *password_file; /* NULL: log in with a ticket */
	const char *password;      /* the file's, or NULL */
	long silence;              /* seconds, if map */
	/* The limits of a probe in seconds. 0: no limit; limit is never 0. */
	double warning, critical, limit;
	char *cache; /* the name of the ccache, if pop3 */
};

/* The argument of --listen for sockets that were passed to kpopc. */
#define LISTEN_PASSED "systemd"

/*
 * How far the session has come. If kpopc listens, the process that started the
 * session shares this memory, and reads it after the session's end.
 */
struct progress {
	bool lacks_ticket; /* the session is getting its ticket */
	/*
	 * What the user has to do, a constant string of kpopc; NULL: see the
	 * message on standard error. At most 44 bytes, because Evolution shows
	 * no answer of more than 60.
	 */
	const char *advice;
	bool has_answered; /* kpopc has written an answer to the program */
	/* The program has its answer, or gets it from the server. */
	bool is_over;
};
extern struct progress *progress;

/* kpopc-answer.c, in every process of the client */

/*
 * Encodes the first n bytes of text, at most TEXT_MAX, by vis(3), so that a
 * terminal does not interpret them. Returns the result, which is valid until
 * the next call.
 */
const char *answer_printable(const char *text, size_t n);

/* Returns true if the answer begins with "+OK". */
bool answer_is_good(const char *answer);

/* Returns true if the answer begins with "-ERR". */
bool answer_is_refusal(const char *answer);

/*
 * Prints the server's refusal, encoded by vis(3), and ends the process with
 * EXIT_REFUSED.
 */
_Noreturn void answer_give_up(const char *answer);

/*
 * Ends the process as answer_give_up does, unless the answer begins with "+OK".
 * Returns the answer.
 */
const char *answer_expect_good(const char *answer);

/* kpopc-report.c, in every process of a probe */

/* Bytes of an obstacle that are printed, at most. */
#define REPORT_TEXT 1000

/* The exit statuses of a monitoring plugin. */
enum verdict {
	VERDICT_OK = 0,
	VERDICT_WARNING = 1,
	VERDICT_CRITICAL = 2,
	VERDICT_UNKNOWN = 3,
};

/* The phases of a probe, in the order in which their times are printed. */
enum phase {
	PHASE_TICKET,
	PHASE_CONNECT,
	PHASE_TLS,
	PHASE_LOGIN,
	PHASE_STAT,
	PHASE_QUIT,
};

/*
 * Makes the report of a probe, which later processes share. Without it the next
 * five functions have no effect.
 */
void report_begin(void);

/*
 * Ends the phase and enters another, or the same one again. A phase's times are
 * added.
 */
void report_enter(enum phase phase);

/* Sets the verdict of a failure, which otherwise is VERDICT_CRITICAL. */
void report_rate(enum verdict verdict);

/* Reports the client's address of the connection fd. */
void report_connection(int fd);

/* Reports the user, and the numbers of messages and of their bytes. */
void report_user(const char *user);
void report_maildrop(uint64_t messages, uint64_t bytes);

/*
 * Print the line of a probe that came to its end, or that failed in the present
 * phase. Return the exit status.
 */
int report_result(const struct options *o);
int report_obstacle(const char *obstacle);

/*
 * Prints the line of a probe that cannot begin, and ends the process with
 * VERDICT_UNKNOWN.
 */
_Noreturn void report_give_up(const char *reason);

/* kpopc-connect.c */

/*
 * Returns a socket that is connected to the host. Ends the process if that
 * fails.
 */
int connect_to(const struct options *o);

/* kpopc-conn.c */

/* The connection with its layers. */
struct conn {
	int fd;          /* carries the cleartext */
	pid_t layers[2]; /* the processes for TLS and for a GSSAPI layer */
	int count;       /* the number of these processes */
	unsigned char binding[64]; /* hash of the server's certificate */
	size_t binding_size;
	bool has_tls;
};

/*
 * More than the server's login deadline (30 seconds), so that kpopc can still
 * read the server's reason for closing the connection.
 */
#define EXCHANGE_SECONDS 35

/*
 * conn_limit_time makes the process end with EXIT_REFUSED after so many
 * seconds, even if bytes still come in. conn_unlimit_time removes this limit.
 */
void conn_limit_time(long seconds);
void conn_unlimit_time(void);

/* Makes the kernel send each write to the socket fd at once. */
void conn_send_at_once(int fd);

/* Writes n bytes to fd. Ends the process if that fails. */
void conn_write(int fd, const void *data, size_t n);

/*
 * Returns the server's next line without its end, valid until the next call. If
 * the connection is closed before the line ends, returns the line if it is a
 * refusal, and ends the process if it is not.
 */
const char *conn_read_answer(const struct conn *c);

/*
 * Writes text and a line end to the server. Returns the server's answer, as
 * conn_read_answer does.
 */
const char *conn_ask(const struct conn *c, const char *text);

/*
 * Reads the line that a server has sent in place of the KPOP exchange. If the
 * caller has already read the first byte of the line, that byte counts as "-".
 * Stops reading at the first byte that cannot belong to a refusal. Returns the
 * whole line, valid until the next call, if it is a refusal; otherwise NULL.
 */
const char *conn_read_refusal(int fd);

/* Writes text and a line end to the program. Ends the process if that fails. */
void conn_answer_program(const char *text);

/*
 * Reads the program's next line into text[LINE_MOST], without its end. Returns
 * false at the end of standard input.
 */
bool conn_read_program(char *text);

/*
 * Starts a process for a layer, which calls work(). There fd is the connection,
 * and cleartext is one end of a socket pair. The other end becomes c->fd.
 */
void conn_add_layer(struct conn *c, const void *argument,
    void (*work)(const void *argument, int fd, int cleartext));

/*
 * Closes the connection and waits for the processes of its layers. Returns
 * status, or EXIT_BROKEN if status is EXIT_DONE and a layer's process ended
 * with an error.
 */
int conn_end(struct conn *c, int status);

/* kpopc-tls.c */

/*
 * Begins TLS with STLS. When this returns, the certificate is verified and its
 * hash is in c->binding.
 */
void tls_begin(struct conn *c, const struct options *o);

/* kpopc-auth.c */

/*
 * Logs in as user with AUTH GSSAPI, begins the negotiated security layer, and
 * writes the answer to standard output. Ends the process if the server does not
 * prove its identity. Returns the server's answer, "+OK" or "-ERR", which is
 * valid until the next line is read.
 */
const char *auth_login(struct conn *c, const struct options *o,
    const char *user);

/* kpopc-login.c */

/*
 * Reads the server's greeting, begins TLS if the options demand it, and greets
 * the program on standard output. Ends the process if that fails.
 */
void login_greet(struct conn *c, const struct options *o);

/*
 * POP3 mode: obeys the program's commands until USER and PASS, then logs in to
 * the server with AUTH GSSAPI. Returns true after the login. Returns false if
 * QUIT or the end of standard input comes first.
 */
bool login_serve(struct conn *c, const struct options *o);

/*
 * Returns true if the text can be sent as a user's name or a password: 1 to
 * LINE_USER bytes without control characters.
 */
bool login_is_word(const char *text);

/*
 * Logs in as the user with AUTH GSSAPI, or with USER and PASS. The password is
 * that of the options, or any word after the KPOP exchange. Ends the process if
 * the server refuses USER. Returns the server's last answer, which is valid
 * until the next line is read.
 */
const char *login_as(struct conn *c, const struct options *o, const char *user);

/* kpopc-probe.c */

/*
 * Returns in another process, in which the errors of the probe end the process.
 * This process supervises the other, prints the line of the probe, and ends.
 */
void probe_start(const struct options *o);

/*
 * Logs in as the user, and sends STAT and QUIT. Ends the process if an answer
 * is not as it should be.
 */
void probe_session(struct conn *c, const struct options *o, const char *user);

/* kpopc-command.c */

/*
 * Starts a command of sh(1). Returns a descriptor that is its standard input
 * and output. The command ends by itself when the descriptor is closed. Ends
 * the process if that fails.
 */
int command_start(const char *command);

/*
 * Reads a password, the first line of the file. Ends the process if other users
 * have rights to the file, or if the line is no password.
 */
void command_read_password(const char *file, char password[LINE_USER + 1]);

/* kpopc-map.c */

/*
 * Keeps standard output for the list of ids. Everything else that is written
 * there from now on is discarded.
 */
void map_begin(void);

/*
 * Reads the ids and headers of the mailbox that c is logged in to, sends QUIT,
 * and writes the list of ids. The server may send nothing for `silence`
 * seconds. Ends the process with EXIT_BROKEN, without a list, if anything is
 * not as it should be.
 */
void map_session(const struct conn *c, long silence);

/* kpopc-follow.c */

/*
 * Begins to follow the dialogue. has_greeted: the server's greeting has been
 * read already. is_in: the answer to the login has been read already.
 */
void follow_begin(bool has_greeted, bool is_in);

/* Follows the next n bytes that the program or the server has sent. */
void follow_program(const char *data, size_t n);
void follow_server(const char *data, size_t n);

/* Returns true if QUIT was the program's last line. */
bool follow_has_quit(void);

/*
 * Returns true if QUIT was the program's last line, and each of the program's
 * lines has its complete answer.
 */
bool follow_is_over(void);

/*
 * If the server refused the login, prints the refusal and returns true. Call it
 * when no more bytes will come.
 */
bool follow_print_refusal(void);

/*
 * Returns the name of a command without a complete answer, and stores the
 * resulting exit status in *status. Returns NULL if all commands have their
 * answers. Call it after the server has closed the connection.
 */
const char *follow_unanswered(int *status);

/*
 * Makes the process end if the program's first line is no command with which a
 * client of POP3 begins.
 */
void follow_require_pop3(void);

/*
 * Ends the process if a client of POP3 would not begin with this line. A
 * browser of the same user may have been made to connect by a web page, and the
 * lines after its first one may be commands.
 */
void follow_check_first(const char *line);

/* kpopc-tunnel.c */

/*
 * Copies standard input to the connection and the connection to standard
 * output, and passes a copy of all bytes to kpopc-follow.c. Ends when the
 * server has closed the connection and all bytes from the server are written.
 * Returns the exit status, which is EXIT_REFUSED if the server refused the
 * login.
 */
int tunnel_run(int fd);

/* kpopc-peer.c */

/*
 * Finds the user that has made the socket at the other end of fd, a TCP
 * connection within this machine and this network namespace. Returns 0 and
 * stores the uid in *owner, or returns -1 if the kernel reports none. A process
 * may have given its socket to another one; the user is the one that made it.
 */
int peer_find(int fd, uid_t *owner);

/*
 * Returns true if no other user can seem to have this uid. In a user namespace
 * all users that the namespace does not have seem to have one uid.
 */
bool peer_is_distinct(uid_t uid);

/* kpopc-listen.c */

/*
 * Listens as the options demand, and starts a process for each connection of
 * the same user, which calls serve_program. Returns the exit status after a
 * signal that ends kpopc.
 */
int listen_run(const struct options *o, int (*run)(const struct options *o));

/* kpopc-serve.c */

/*
 * Serves the program at the other end of fd. run() has a session with the
 * server, between descriptors 0 and 1 and the server; it runs in a process of
 * its own. If there is no session, answers the program with the reason. Ends
 * when the process `parent` ends. Returns the exit status.
 */
int serve_program(int fd, pid_t parent, const struct options *o,
    int (*run)(const struct options *o));

#endif
