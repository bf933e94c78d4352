/* The command line and the file of options: see options.c. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <sys/types.h>

#include <stdbool.h>

#include "accept-limits.h"
#include "account.h"
#include "lock.h"
#include "mailboxes.h"
#include "networks.h"
#include "uidl-scheme.h"

#define TLS_CIPHERS_MOST 1000 /* bytes of -C with its NUL */
/* kpopd-tls's exit status if OpenSSL does not have the ciphers of -C. */
#define TLS_BAD_CIPHERS 2

/* When TLS is used. TLS_UNSET: only while the options are read. */
enum tls_when { TLS_NO, TLS_OFFER, TLS_REQUIRE, TLS_IMMEDIATE, TLS_UNSET };

/*
 * The options, after options_read. A field that no option sets has its default.
 * The strings are those of argv or of the file, or constants.
 */
struct options {
	bool by_hand;        /* mistakes are printed, not logged */
	const char *config;  /* path of the file; NULL: the default */
	const char *keytab;  /* NULL: libkrb5's default */
	const char *service; /* NULL: every pop/ and pop3/ of the keytab */
	struct mailboxes mailboxes;
	struct uidl_scheme uidl;
	const char *state; /* the state directory */
	const char *user;  /* of the pre-auth process */
	/*
	 * Domains of mail addresses in USER, with commas; NULL: only the host
	 * and the realm.
	 */
	const char *domains;
	const char *realms; /* of clients, with commas; NULL: any */
	const char *access; /* path of the access file; NULL: the default */
	struct account_uids uids;    /* that may log in */
	uid_t least_user;            /* the smallest uid of the host's users */
	int login, idle;             /* seconds */
	struct limits_config limits; /* of the listener */
	int linger; /* seconds until an idle listener ends; 0: never */
	bool pop3;  /* POP3 with AUTH GSSAPI, not KPOP */
	struct {
		const char *certificate, *key; /* paths; NULL: no TLS */
		const char *user;              /* of kpopd-tls */
		const char *ciphers; /* OpenSSL's list; "": kpopd-tls's own */
		enum tls_when when;
		bool works;   /* kpopd-tls can use these; set by main */
		bool is_kept; /* only keep a kpopd-tls ready, serve no client */
	} tls;
	struct networks proxies;
	struct lock_plan locks;
	bool recover; /* finish interrupted removals, serve no client */
	/*
	 * The user whose mailbox gets the ids of another server, or for whom
	 * kpopd only reports what that would do. NULL: no user.
	 */
	const char *import_uidl, *uidl_report;
	/* kpopd --check: print what is wrong, serve no client */
	struct {
		bool run, json;
		const char *user; /* NULL: none is named */
	} check;
	struct {
		bool is_optional;
		unsigned missing; /* parts that sandbox.h names; set by main */
	} sandbox;
};

/*
 * Reads the command line and the file of options. by_hand: fd 0 was open at the
 * start and is not a socket. Ends the process for --help and --version. Returns
 * false if there is a mistake; then o has the options without mistakes, for
 * options_refuse_mistake and the answer to clients. Called once.
 */
bool options_read(struct options *o, int argc, char **argv, bool by_hand);

/*
 * Returns true if options_read has found a mistake: the text *why, followed by
 * the text *what. *from is the path of the file that has the mistake, or NULL
 * if the command line has it. *line is the number of the line in the file; 0:
 * the whole file is wrong.
 */
bool options_find_mistake(const char **why, const char **what,
    const char **from, unsigned *line);

/*
 * Reads the command line of another kpopd, and the file that it names, into *o.
 * Returns NULL, or the mistake: a text that is followed by the text *what. The
 * texts are valid until the next call.
 */
const char *options_read_other(struct options *o, int argc, char **argv,
    const char **what);

/* An option that has different values on two command lines. */
struct options_difference {
	const char *name;
	const char *here, *there; /* the arguments; NULL: it is not given */
	const char *in_file; /* the file's, which the other line replaces */
};

/*
 * Looks for the next option that the process of options_read_other has with
 * another value than this process; from the row *row of the table, at first 0.
 * here and there are what the two functions have read. Returns false if there
 * is no other.
 */
bool options_differ(size_t *row, const struct options *here,
    const struct options *there, struct options_difference *d);

/*
 * Reports the mistake and ends the process, as options_refuse does. If the
 * command line has the mistake, and kpopd was started by hand, also prints the
 * usage.
 */
_Noreturn void options_refuse_mistake(const struct options *o);

/*
 * Reads the file of options again. Returns true if the options are without a
 * mistake and are not those that options_read has read. Does not change the
 * struct options that options_read has filled. Logs a mistake.
 */
bool options_have_changed(void);

/* The name of the file in memory that options_show makes. */
#define OPTIONS_SHOWN "kpopd.conf"

/*
 * Listener: keeps a file in memory open, with the options of the file that are
 * in use, which kpopd --check reads through /proc.
 */
void options_show(void);

/*
 * Compares the file of options that options_read_other has read with the one
 * that options_show has made in a process with the same command line. Returns
 * the name of the first option that differs; NULL if there is none, or if the
 * path cannot be read.
 */
const char *options_find_newer(const char *shown);

/*
 * Reports why kpopd cannot start: the text why, followed by the text what. If
 * kpopd was started by hand, prints this to standard error; otherwise logs it.
 * Ends the process with status 2.
 */
_Noreturn void options_refuse(const struct options *o, const char *why,
    const char *what);

/* Does the same as options_refuse, but always logs. */
_Noreturn void options_log_refusal(const char *why, const char *what);

/*
 * Does the same as options_log_refusal. The reason is that the option with this
 * long name takes what the text `takes` says, and not `text`.
 */
_Noreturn void options_log_wrong(const char *name, const char *takes,
    const char *text);

#endif
