/* The lines that kpopd --check prints: see check.c. */
#ifndef KPOPD_CHECK_H
#define KPOPD_CHECK_H

#include <limits.h>
#include <stdbool.h>

#include "account.h"
#include "options.h"

struct auth;

/* How a check ended, from the best to the worst. */
enum check_verdict {
	CHECK_OK,
	CHECK_WARN, /* kpopd serves, but not all that one would expect */
	/*
	 * some clients, or all, are not served, or somebody may get in who must
	 * not
	 */
	CHECK_FAIL
};

#define CHECK_COMMAND 512 /* bytes of a remedy with its NUL */

/* What all checks share. */
struct check {
	struct options o;
	const char *program; /* the path of this kpopd */
	const char *user;    /* the USER of the command line; NULL: none */
	/*
	 * the account of user, after check_user; its name is empty if there is
	 * none that may have a mailbox
	 */
	struct account account;
	/* Kerberos without keys; NULL: libkrb5 does not start */
	struct auth *auth;
	bool json;
	/* These do not answer, and later checks must not wait for them. */
	bool accounts_are_dead, state_is_dead, spool_is_dead;
	enum check_verdict worst; /* of all lines so far */
	char remedy[CHECK_COMMAND];
};

/*
 * Makes the remedy of the next line: a command, or a sentence if no command
 * helps. Returns a text that belongs to c and is valid until the next call; or
 * NULL if the remedy is too long.
 */
const char *check_remedy(struct check *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Print one line about a thing: its kind (one word, as "keytab"), its name (a
 * path, principal, host or user; NULL: none), and what was found. The texts may
 * have any bytes; those that are not printable ASCII are printed as \\ooo.
 * check_warn and check_fail also print the remedy (NULL: none).
 */
void check_ok(struct check *c, const char *kind, const char *name,
    const char *format, ...) __attribute__((format(printf, 4, 5)));
void check_warn(struct check *c, const char *kind, const char *name,
    const char *remedy, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
void check_fail(struct check *c, const char *kind, const char *name,
    const char *remedy, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/*
 * Root: runs a check in a child that has become the account's user, because
 * root may not read that user's files, or must not follow that user's links.
 * The child has the same rights as a session, and the time of a login (-t). Its
 * lines count as this process's. Prints a line if the child does not end.
 */
void check_as_user(struct check *c, void (*run)(struct check *c));

/*
 * Between these two calls, what the functions of kpopd log does not go to
 * syslog. check_log_end returns it in short, or "". The text is valid until the
 * next call.
 */
void check_log_begin(void);
const char *check_log_end(void);

/*
 * Runs a check as root in a child, because the check reads keys, which this
 * process and its later children must not have, or because it may wait for the
 * network. The child's lines count as this process's. Returns false if the
 * child did not end within this many seconds, or crashed; then only a part of
 * its lines is printed.
 */
bool check_in_child(struct check *c, unsigned seconds,
    void (*run)(struct check *c));

/*
 * Keeps the lines that this process and its children log, so that none reaches
 * syslog. check_print_log prints those that were kept since its last call, each
 * as a warning. If log_end ends this process, it prints them, too.
 */
void check_keep_log(struct check *c);
void check_print_log(void);

/*
 * Follows the path of a file that root reads. Prints a line, with this kind,
 * for each directory in which others than root can replace a name of the path.
 * Returns true with the path without symlinks in real. If a part of the path
 * does not exist, returns false with errno and with the path of that part in
 * real.
 */
bool check_path(struct check *c, const char *kind, const char *path,
    char real[PATH_MAX]);

/*
 * The parts, in the order in which they run. Each is in the file of its name.
 */
void check_options(struct check *c);
void check_access(struct check *c);
void check_sandbox(struct check *c);
void check_state(struct check *c);
void check_kerberos(struct check *c);
void check_keytab(struct check *c);
void check_names(struct check *c);
void check_kdc(struct check *c);
void check_tls(struct check *c);
void check_service(struct check *c);
void check_leftover(struct check *c);
void check_user(struct check *c);
void check_locks(struct check *c);
void check_mailbox(struct check *c);

#endif
