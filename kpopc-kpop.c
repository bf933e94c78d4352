/*
 * Does the KPOP exchange: Kerberos' sendauth with mutual authentication.
 *
 * Runs as the caller. The server is not trusted before it has proven its
 * identity. So the memory of this process is limited, and the server's texts
 * are printed encoded.
 */
#include "config.h"

#include <sys/resource.h>
#include <sys/time.h>

#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "kpopc-ticket.h"

/*
 * In libkrb5's error table, the codes up to this one are for the protocol (RFC
 * 4120 §7.5.9).
 */
#define PROTOCOL_CODES 127

/*
 * Prints the reason in a KRB-ERROR. The server is not authenticated yet, so its
 * text is encoded.
 */
static void
print_krb_error(const struct ticket *t, const krb5_error *e)
{
	/*
	 * Larger codes are not defined, and with them the sum could overflow.
	 */
	krb5_error_code code = e->error <= PROTOCOL_CODES ?
	    (krb5_error_code)(ERROR_TABLE_BASE_krb5 + (long)e->error) :
	    (krb5_error_code)KRB5KRB_ERR_GENERIC;
	const char *text = "";

	progress->lacks_ticket = true;
	if (e->text.length > 0)
		text = answer_printable(e->text.data, e->text.length);
	fprintf(stderr, "kpopc: the server refused the ticket: %s\n",
	    *text != '\0' ? text : krb5_get_error_message(t->context, code));
}

/* Prints why sendauth has failed, and ends the process. */
_Noreturn static void
explain_sendauth(const struct ticket *t, krb5_error_code problem, int fd)
{
	const char *refusal;

	switch (problem) {
	case KRB5_SENDAUTH_BADAUTHVERS:
	case KRB5_SENDAUTH_BADAPPLVERS:
		errx(EXIT_REFUSED, "the server speaks another version of KPOP");
	case KRB5_SENDAUTH_BADRESPONSE:
		if ((refusal = conn_read_refusal(fd)) != NULL)
			answer_give_up(refusal);
		errx(EXIT_REFUSED, "the server does not speak Kerberos 5 KPOP");
	case ECONNABORTED:
	case ECONNRESET:
	case EPIPE:
		if ((refusal = conn_read_refusal(fd)) != NULL)
			answer_give_up(refusal);
		errx(EXIT_REFUSED,
		    "the server closed the connection during the"
		    " exchange (does it speak Kerberos 5 KPOP?)");
	default:
		ticket_give_up(t, problem, "the exchange failed");
	}
}

/*
 * Limits the memory of this process, and stores the limit before. Before the
 * server is authenticated, libkrb5 allocates as much as a message's length
 * field demands, up to 2 GiB.
 */
static void
limit_memory(struct rlimit *before)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_DATA, before) == -1)
		err(EXIT_REFUSED, "getrlimit");
	limit = *before;
	if (limit.rlim_cur > PREAUTH_MEMORY)
		limit.rlim_cur = PREAUTH_MEMORY;
	if (setrlimit(RLIMIT_DATA, &limit) == -1)
		err(EXIT_REFUSED, "setrlimit");
}

void
kpop_exchange(const struct ticket *t, int fd)
{
	krb5_creds *creds = t->creds;
	krb5_auth_context session = NULL;
	krb5_ap_rep_enc_part *proof = NULL;
	krb5_error *refusal = NULL;
	krb5_error_code problem;
	struct rlimit before;
	char version[] = "KPOPV1.0";

	limit_memory(&before);
	problem = krb5_sendauth(t->context, &session, &fd, version,
	    creds->client, creds->server, AP_OPTS_MUTUAL_REQUIRED, NULL, creds,
	    NULL, &refusal, &proof, NULL);
	if (problem == KRB5_SENDAUTH_REJECTED && refusal != NULL) {
		print_krb_error(t, refusal);
		exit(EXIT_REFUSED);
	}
	if (problem != 0)
		explain_sendauth(t, problem, fd);
	if (proof == NULL)
		errx(EXIT_REFUSED, "the server did not prove its identity");
	/* The list of a large mailbox may need more. */
	if (setrlimit(RLIMIT_DATA, &before) == -1)
		err(EXIT_REFUSED, "setrlimit");
}
