/*
 * What auth.c and the files auth-*.c share. No other file includes this header.
 */
#ifndef AUTH_INTERNAL_H
#define AUTH_INTERNAL_H

#include <krb5.h>

/*
 * Kerberos in one process. auth-start.c fills the first three fields for every
 * process. Only the pre-auth process uses the others.
 */
struct auth {
	krb5_context context;
	struct krb5conf *snapshot; /* the krb5.conf that the context uses */
	char *text;                /* the snapshot as one krb5.conf file */
	krb5_keytab keys;          /* in memory: keys of pop/ and pop3/ only */
	krb5_principal name;       /* the service's, for a KRB-ERROR */
	krb5_data answer;          /* what the last auth_answer points to */
	struct replay *replay;     /* NULL: no AP-REQ can be accepted */
};

/*
 * Logs the event "failed" with the step, which the format describes, and
 * libkrb5's text for the error. A text from outside must be encoded by
 * log_words before it is passed for a %s.
 */
void auth_log_failed(krb5_context context, krb5_error_code problem,
    const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
