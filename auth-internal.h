/*
 * What auth.c and the files auth-*.c share. No other file includes this header.
 */
#ifndef AUTH_INTERNAL_H
#define AUTH_INTERNAL_H

#include <krb5.h>

#define KEYTAB_NAME 1024 /* bytes of a keytab's name for the log, at most */

/*
 * Kerberos in one process. auth-start.c fills the first three fields for every
 * process. Only the pre-auth process uses the others.
 */
struct auth {
	krb5_context context;
	struct krb5conf *snapshot; /* the krb5.conf that the context uses */
	char *text;                /* the snapshot as one krb5.conf file */
	krb5_keytab keys;          /* in memory: keys of pop/ and pop3/ only */
	/* the keytab that they come from, for the log */
	char keytab[KEYTAB_NAME];
	krb5_principal name;   /* of the service, for a KRB-ERROR */
	krb5_data answer;      /* what the last auth_answer points to */
	struct replay *replay; /* NULL: no AP-REQ can be accepted */
};

/*
 * Logs the event "failed" with libkrb5's text for the error. The format
 * describes the step that failed. The caller must encode a text from outside by
 * log_words before it passes the text as an argument.
 */
void auth_log_failed(krb5_context context, krb5_error_code problem,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
