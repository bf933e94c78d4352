/*
 * The client's Kerberos tickets and the KPOP exchange: see kpopc-ticket.c and
 * kpopc-kpop.c.
 */
#ifndef KPOPC_TICKET_H
#define KPOPC_TICKET_H

#include <krb5.h>

#include "kpopc.h"

struct ticket {
	krb5_context context;
	krb5_ccache cache;
	krb5_creds *creds; /* the ticket for the server */
};

/* Gets a ticket for the server into *t. Ends the process if that fails. */
void ticket_get(struct ticket *t, const struct options *o);

/*
 * Returns the name of the ccache that the ticket is in. Ends the process if
 * that fails.
 */
char *ticket_cache_name(const struct ticket *t);

/*
 * Returns the first component of the client's principal. Ends the process if
 * that fails.
 */
char *ticket_user(const struct ticket *t);

/*
 * Prints that the step `what` has failed, libkrb5's text for the error, and a
 * remedy if one is known. Ends the process with EXIT_REFUSED.
 */
_Noreturn void ticket_give_up(const struct ticket *t, krb5_error_code problem,
    const char *what);

/* kpopc-kpop.c */

/*
 * Does the KPOP exchange: sends the ticket and verifies the server's proof of
 * its identity. Ends the process if the server refuses or does not prove its
 * identity.
 */
void kpop_exchange(const struct ticket *t, int fd);

#endif
