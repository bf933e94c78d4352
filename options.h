/* The command line: see options.c. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <sys/types.h>

#include <stdbool.h>

#include "accept-limits.h"
#include "account.h"
#include "lock.h"
#include "mailboxes.h"
#include "proxies.h"

#define TLS_CIPHERS_MOST 1000 /* bytes of -C with its NUL */
/* kpopd-tls's exit status if OpenSSL does not have them. */
#define TLS_BAD_CIPHERS 2

/* When TLS is used. TLS_UNSET: only while the options are read. */
enum tls_when { TLS_NO, TLS_OFFER, TLS_REQUIRE, TLS_IMMEDIATE, TLS_UNSET };

/*
 * The options. Every field has its default after options_read. Its strings are
 * those of argv or constants.
 */
struct options {
	bool by_hand;        /* mistakes are printed, not logged */
	const char *keytab;  /* NULL: libkrb5's default */
	const char *service; /* NULL: every pop/ and pop3/ of the keytab */
	struct mailboxes mailboxes;
	const char *state; /* the state directory */
	const char *user;  /* of the pre-auth process */
	/*
	 * Domains of mail addresses in USER, with commas; NULL: only the host
	 * and the realm.
	 */
	const char *domains;
	const char *realms;          /* of clients, with commas; NULL: any */
	struct account_uids uids;    /* that may log in */
	int login, idle;             /* seconds */
	struct limits_config limits; /* of the listener */
	int linger; /* seconds until an idle listener ends; 0: never */
	bool pop3;  /* POP3 with AUTH GSSAPI, not KPOP */
	struct {
		const char *certificate, *key; /* paths; NULL: no TLS */
		const char *user;              /* of kpopd-tls */
		const char *ciphers; /* OpenSSL's list; "": kpopd-tls's own */
		enum tls_when when;
		bool works; /* set by main */
	} tls;
	struct proxies proxies;
	struct lock_plan locks;
	bool recover; /* finish interrupted removals, serve no client */
	struct {
		bool is_optional;
		unsigned missing; /* parts that sandbox.h names; set by main */
	} sandbox;
};

/*
 * Reads the command line. by_hand: fd 0 is not a connection. A mistake ends the
 * process (options_refuse), as do --help and --version.
 */
void options_read(struct options *o, int argc, char **argv, bool by_hand);

/*
 * Reports the text of why, then that of what, as the reason for which kpopd
 * cannot start: on standard error with the usage if kpopd was started by hand,
 * otherwise in the log. Ends the process with status 2.
 */
_Noreturn void options_refuse(const struct options *o, const char *why,
    const char *what);

/* As options_refuse, always in the log. */
_Noreturn void options_log_refusal(const char *why, const char *what);

#endif
