/* A realm of one service in this process, and AP-REQs for it without a KDC: see ticket.c. */
#ifndef TICKET_H
#define TICKET_H

#include "auth.h"
#include "fuzz/fuzz.h"

#define TICKET_SERVICE "pop/mail.kpopd.test@KPOPD.TEST"
#define TICKET_CLIENT "alice@KPOPD.TEST"
#define TICKET_MOST 65536

/* Opens auth.c with the realm's keytab. Once. */
struct auth *ticket_realm(void);

/* The replay cache forgets. */
void ticket_forget_replays(void);

/* How an AP-REQ is made. */
enum {
	TICKET_WRONG_KEY = 1,     /* a key of host/, which is in the keytab but not kpopd's to use */
	TICKET_WRONG_SESSION = 2, /* the authenticator with another key than the ticket's */
	TICKET_MUTUAL = 4,
};

/*
 * Makes an AP-REQ of the plain texts of an EncTicketPart and an Authenticator,
 * which may be anything. Returns its size in out[TICKET_MOST].
 */
size_t ticket_request(unsigned how, const uint8_t *part, size_t part_size,
    const uint8_t *authenticator, size_t authenticator_size, uint8_t *out);

/* The plain text of a good ticket, for TICKET_CLIENT. Returns its size in out[512]. */
size_t ticket_part(uint8_t *out);

/* Puts such a ticket into the default cache, for a client in this process. */
void ticket_cache(void);

#endif
