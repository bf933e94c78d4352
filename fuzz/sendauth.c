/*
 * Fuzz target: sendauth.c and auth.c with the beginning of a KPOP connection.
 *
 * Input: the first byte selects how the client's bytes arrive, and the second
 * byte selects the kind of the input. Then come either the bytes themselves, or
 * the cleartexts of a ticket and of an authenticator. The size of the ticket
 * comes before the ticket, in two bytes. The second byte may also select a good
 * ticket, which is then not in the input. The target encrypts the cleartexts
 * with right or wrong keys, and frames the result.
 *
 * The target checks that a wrong key is refused, that the same bytes are
 * accepted only once, and that an accepted ticket is for the service. The bytes
 * after the AP-REQ must stay unread. Clients must be able to understand the
 * answer.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "fuzz/peer.h"
#include "fuzz/ticket.h"
#include "sendauth.h"

enum { RAW = 8, GOOD_TICKET = 16 };

static const uint8_t hello[] =
    "\0\0\0\x13KRB5_SENDAUTH_V1.0\0\0\0\0\x09KPOPV1.0";
static const uint8_t following[] = "USER alice\r\n";

static struct auth *a;
static struct io io;

/*
 * Makes the bytes of the whole exchange from the input. Returns the number of
 * bytes.
 */
static size_t
make_exchange(struct input *in, unsigned how, uint8_t *out)
{
	uint8_t good[512];
	const uint8_t *part = good;
	size_t size, n = sizeof(hello);

	if ((how & GOOD_TICKET) != 0)
		size = ticket_part(good);
	else {
		size = input_below(in, 8192);
		part = input_take(in, &size);
	}
	memcpy(out, hello, n);
	size = ticket_request(how, part, size, in->at,
	    in->left < 8192 ? in->left : 8192, out + n + 4);
	out[n++] = 0;
	out[n++] = 0;
	out[n++] = (uint8_t)(size >> 8);
	out[n++] = (uint8_t)size;
	return n + size;
}

/*
 * Checks the output from said[at] on. It must consist of a length and of a
 * message that has that length and the given tag.
 */
static void
check_message(size_t at, unsigned char tag)
{
	const unsigned char *said = (const unsigned char *)peer.said + at;

	HOLDS(peer.said_size > at + 4 && said[0] == 0 && said[1] == 0);
	HOLDS(peer.said_size == at + 4 + ((size_t)said[2] << 8 | said[3]) &&
	    said[4] == tag);
}

/* Returns true if there is a NUL in the first "size" bytes of the text. */
static bool
ends(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

/* Checks what is reported and sent for an accepted client. */
static void
check_accepted(const struct auth_peer *who)
{
	HOLDS(ends(who->principal, AUTH_NAME) &&
	    ends(who->ticket, AUTH_ENCTYPE) &&
	    ends(who->session, AUTH_ENCTYPE));
	HOLDS(who->ticket[0] != '\0' && who->session[0] != '\0' &&
	    who->principal[0] != '\0');
	HOLDS(strcmp(who->service, TICKET_SERVICE) == 0);
	HOLDS(peer.said_size >= 5 && memcmp(peer.said, "\0\0\0\0\0", 5) == 0);
	if (who->mutual)
		check_message(5, 0x6f); /* AP-REP */
	else
		HOLDS(peer.said_size == 5);
}

/* Checks what is sent to a refused client. */
static void
check_refused(void)
{
	const char *said = peer.said;
	size_t n = peer.said_size;

	if (n > 1 && said[0] == '\0')
		check_message(1, 0x7e); /* KRB-ERROR */
	else if (n > 1)
		HOLDS(memcmp(said, "-ERR ", 5) == 0 &&
		    memcmp(said + n - 2, "\r\n", 2) == 0);
	else
		HOLDS(n == 0 || said[0] == 0 || said[0] == 1 || said[0] == 2);
}

/* Runs the exchange with these bytes. Returns 0 or -1. */
static int
serve(const uint8_t *data, size_t n, unsigned manner, struct auth_peer *who)
{
	int result;

	/*
	 * Let the client read all output, because the target cannot check half
	 * a message.
	 */
	peer_begin(&io, data, n, manner & 0x1f);
	result = sendauth_serve(&io, a, who);
	io_flush(&io);
	return result;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t made[TICKET_MOST + 256];
	struct input in = { data, size };
	unsigned manner = input_byte(&in), how = input_byte(&in);
	const uint8_t *bytes = in.at;
	size_t n = in.left, used = 0;
	struct auth_peer who;

	if (a == NULL)
		a = ticket_realm();
	if ((how & RAW) == 0) {
		used = make_exchange(&in, how, made);
		memcpy(made + used, following, sizeof(following));
		bytes = made;
		n = used + sizeof(following);
	}
	ticket_forget_replays();
	if (serve(bytes, n, manner, &who) == -1) {
		check_refused();
		return 0;
	}
	fuzz_let_in++;
	check_accepted(&who);
	if ((how & RAW) == 0)
		HOLDS(peer_used(&io) == used &&
		    (how & (TICKET_WRONG_KEY | TICKET_WRONG_SESSION)) == 0 &&
		    who.mutual == ((how & TICKET_MUTUAL) != 0));
	HOLDS(serve(bytes, n, manner, &who) == -1);
	check_refused();
	return 0;
}
