/* A realm without a KDC, and AP-REQs for it (ticket.c). */
#ifndef TICKET_H
#define TICKET_H

#include "auth.h"
#include "fuzz/fuzz.h"

#define TICKET_SERVICE "pop/mail.kpopd.test@KPOPD.TEST"
#define TICKET_CLIENT "alice@KPOPD.TEST"
#define TICKET_MOST 65536

/* Makes the realm, and starts auth.c with its keytab. Call it once. */
struct auth *ticket_realm(void);

/* Discards the records of the replay cache. */
void ticket_forget_replays(void);

/* Flags that select how an AP-REQ is made. */
enum {
	/*
	 * Encrypt the ticket with the key of the host/ service, which the
	 * keytab contains.
	 */
	TICKET_WRONG_KEY = 1,
	/* Encrypt the authenticator with a key that is not in the ticket. */
	TICKET_WRONG_SESSION = 2,
	/* Ask for mutual authentication. */
	TICKET_MUTUAL = 4,
};

/*
 * Makes an AP-REQ in out[TICKET_MOST] from the cleartexts of an EncTicketPart
 * and an Authenticator. Both cleartexts may be any bytes. Returns the size of
 * the AP-REQ.
 */
size_t ticket_request(unsigned how, const uint8_t *part, size_t part_size,
    const uint8_t *authenticator, size_t authenticator_size, uint8_t *out);

/*
 * Writes the cleartext of a good ticket for TICKET_CLIENT to out[512]. Returns
 * the size of the cleartext.
 */
size_t ticket_part(uint8_t *out);

/*
 * Puts a good ticket for TICKET_CLIENT into the default ccache, for a client in
 * this process.
 */
void ticket_cache(void);

#endif
