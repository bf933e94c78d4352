/* What the files auth-*.c share; no other file includes it. */
#ifndef AUTH_INTERNAL_H
#define AUTH_INTERNAL_H

#include <krb5.h>

/*
 * Kerberos in one process. auth-start.c fills the first three fields for every
 * process; the others are the pre-auth process's.
 */
struct auth {
	krb5_context context;
	struct krb5conf *snapshot; /* all of krb5.conf that the context has */
	char *text;                /* the snapshot as one krb5.conf file */
	krb5_keytab keys;          /* in memory: keys of pop/ and pop3/ only */
	krb5_principal name;       /* the service's, for a KRB-ERROR */
	krb5_data answer;          /* what the last auth_answer points to */
	struct replay *replay;     /* NULL: no AP-REQ can be accepted */
};

/*
 * Logs that a step failed: "failed", with what, made by the format, and
 * libkrb5's text for the error. A %s that contains anything from outside goes
 * through log_words.
 */
void auth_log_failed(krb5_context context, krb5_error_code problem,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
