/* The command line: see options.c. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <sys/types.h>

#include <stdbool.h>

#include "account.h"
#include "accept-limits.h"
#include "lock.h"
#include "maildrop.h"
#include "proxies.h"

#define TLS_CIPHERS_MOST 1000 /* bytes of -C with its NUL */
#define TLS_BAD_CIPHERS 2     /* kpopd-tls's exit status if OpenSSL does not have them */

enum tls_when { TLS_NO, TLS_OFFER, TLS_REQUIRE, TLS_IMMEDIATE };

/* What the administrator asked for. Every field has its default once options_read has returned. */
struct options {
	const char *keytab;  /* NULL: libkrb5's default */
	const char *service; /* NULL: any pop/ or pop3/ of the keytab */
	struct mailboxes mailboxes;
	const char *state;   /* the state directory */
	const char *user;    /* of the pre-auth process */
	const char *domains; /* of mail addresses that USER may have, with commas; NULL: none but the host's own */
	const char *realms;  /* of clients, with commas; NULL: any */
	struct account_uids uids; /* that may log in */
	int login, idle; /* seconds */
	struct limits_config limits; /* where fd 0 listens */
	int linger;           /* seconds that a listener stays without anybody; 0: for ever */
	bool pop3;       /* AUTH GSSAPI in place of the ticket in front */
	struct {
		const char *certificate, *key; /* files; NULL: no TLS */
		const char *user;              /* of kpopd-tls */
		const char *ciphers;           /* OpenSSL's cipher list; "": kpopd-tls's own */
		enum tls_when when;
		bool works; /* for main to find out */
	} tls;
	struct proxies proxies;
	struct lock_plan locks;
	bool recover; /* by hand: finish what crashes left, serve nobody */
};

/*
 * Reads the command line. What is wrong with it ends the process, as does
 * --help or --version. by_hand: standard input is no connection.
 */
void options_read(struct options *o, int argc, char **argv, bool by_hand);

/* Says why and what, on the terminal or in syslog, and ends the process with status 2. */
_Noreturn void options_refuse(bool by_hand, const char *why, const char *what);

#endif
