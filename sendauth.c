/*
 * Speaks the server's half of MIT's sendauth exchange, as KPOP begins.
 *
 * Runs as the pre-auth user, in its jail. Every byte is the peer's and every
 * length has a limit of ours. The client speaks first:
 *
 *	C: length 19, "KRB5_SENDAUTH_V1.0" NUL, length 9, "KPOPV1.0" NUL
 *	S: one byte, without a length: 0, or 1 or 2 for the version it cannot
 *	C: length, AP-REQ
 *	S: length 0; or length, KRB-ERROR, and the end
 *	S: length, AP-REP, but only if mutual authentication was asked for
 *
 * Lengths are four bytes, most significant first, and count the NUL. Source:
 * krb5's src/lib/krb5/krb/sendauth.c and recvauth.c; there is no RFC. Clients
 * that pipeline are served: nothing behind the AP-REQ is touched.
 */
#include "config.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "foreign.h"
#include "log.h"
#include "sendauth.h"

/* Tickets with a PAC reach tens of KiB. */
#define AP_REQ_MOST 65536

static const char sendauth_version[] = "KRB5_SENDAUTH_V1.0";
static const char kpop_version[] = "KPOPV1.0";

static uint32_t
number(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	    (uint32_t)p[2] << 8 | p[3];
}

/* The reason in the log, our last words on the line. Returns -1. */
static int
refuse(struct io *io, const char *reason, const void *words, size_t n)
{
	log_event(LOG_NOTICE, "refused", "reason=\"%s\"", reason);
	io_write(io, words, n);
	return -1;
}

static int
refuse_line(struct io *io, const char *reason, const char *line)
{
	return refuse(io, reason, line, strlen(line));
}

/* The peer went away or was too slow; silence gets the line that a waiting POP3 client understands. */
static int
cut_off(struct io *io, bool silent)
{
	static const char late[] = "-ERR this is KPOP: it begins with a Kerberos ticket\r\n";

	if (io->error != IO_TIMEOUT) {
		log_event(LOG_NOTICE, "refused", "reason=\"%s\"",
		    silent ? "closed without a word" : "closed during the exchange");
		return -1;
	}
	log_event(LOG_NOTICE, "refused", "reason=\"%s\"", silent ? "silence" : "slow exchange");
	io_answer_timeout(io, late, silent ? sizeof(late) - 1 : 0);
	return -1;
}

/* Returns true if these four bytes are the beginning of a POP3 command. HTTP's DELETE would look like DELE, with which no client begins. */
static bool
is_pop3(const unsigned char *first)
{
	static const char commands[][5] = { "APOP", "AUTH", "CAPA", "LANG", "LIST", "NOOP", "PASS", "RETR",
		"RSET", "STAT", "STLS", "TOP ", "UIDL", "USER", "UTF8", "XTND" };

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strncasecmp((const char *)first, commands[i], 4) == 0)
			return true;
	return false;
}

/*
 * Returns the name of what begins with these four bytes in place of a length,
 * or NULL. "AUTH" alone is two protocols' beginning: the next byte decides.
 */
static const char *
name_stranger(struct io *io, const unsigned char *first)
{
	char next = '\0';

	if (memcmp(first, "AUTH", 4) == 0 && io_exact(io, &next, 1) == -1)
		return NULL;
	if (next == 'V')
		return "Kerberos 4 client";
	if (strncasecmp((const char *)first, "QUIT", 4) == 0)
		return "POP3 QUIT, as after a ticket that the client could not get";
	return is_pop3(first) ? "POP3 client without KPOP" : foreign_protocol(first);
}

/* Answers what does not begin like sendauth with a line that a client of text can show. */
static int
refuse_stranger(struct io *io, const unsigned char *first)
{
	static const char kerberos4[] = "-ERR Kerberos 4 is not served here, only Kerberos 5\r\n";
	static const char kpop[] = "-ERR this is KPOP: it begins with a Kerberos ticket\r\n";
	const char *name = isdigit(first[0]) ? "Kerberos 4 client" : name_stranger(io, first);

	if (io->error != IO_OK)
		return cut_off(io, false);
	if (name == NULL)
		name = "unknown protocol";
	if (strcmp(name, "Kerberos 4 client") == 0)
		return refuse_line(io, name, kerberos4);
	return refuse_line(io, name, isalpha(first[0]) ? kpop : "");
}

/*
 * Refuses what stands in place of a later length, as the text of a client that
 * has given up. reason is what the log has if nothing is known of it.
 */
static int
refuse_length(struct io *io, const unsigned char *length, const char *reason, const void *words, size_t n)
{
	const char *name = length[0] != 0 ? name_stranger(io, length) : NULL;

	if (io->error != IO_OK)
		return cut_off(io, false);
	return refuse(io, name != NULL ? name : reason, words, n);
}

/* Agrees on the two versions, and answers them with a byte. Returns 0 or -1. */
static int
agree(struct io *io)
{
	unsigned char length[4];
	char text[sizeof(sendauth_version)];

	if (io_exact(io, length, 1) == -1)
		return cut_off(io, true);
	if (io_exact(io, length + 1, 3) == -1)
		return cut_off(io, false);
	if (length[0] != 0)
		return refuse_stranger(io, length);
	if (number(length) != sizeof(sendauth_version))
		return refuse(io, "sendauth version", "\1", 1);
	if (io_exact(io, text, sizeof(sendauth_version)) == -1)
		return cut_off(io, false);
	if (memcmp(text, sendauth_version, sizeof(sendauth_version)) != 0)
		return refuse(io, "sendauth version", "\1", 1);
	if (io_exact(io, length, 4) == -1)
		return cut_off(io, false);
	if (number(length) != sizeof(kpop_version))
		return refuse_length(io, length, "application version", "\2", 1);
	if (io_exact(io, text, sizeof(kpop_version)) == -1)
		return cut_off(io, false);
	if (memcmp(text, kpop_version, sizeof(kpop_version)) != 0)
		return refuse(io, "application version", "\2", 1);
	io_write(io, "", 1);
	return 0;
}

static void
put_message(struct io *io, const struct auth_answer *answer)
{
	unsigned char length[4] = {
		(unsigned char)(answer->size >> 24),
		(unsigned char)(answer->size >> 16),
		(unsigned char)(answer->size >> 8),
		(unsigned char)answer->size,
	};

	io_write(io, length, sizeof(length));
	io_write(io, answer->data, answer->size);
}

int
sendauth_serve(struct io *io, struct auth *a, struct auth_peer *peer)
{
	static char ap_req[AP_REQ_MOST];
	unsigned char length[4];
	char reason[64];
	struct auth_answer answer;
	size_t n;

	if (agree(io) == -1)
		return -1;
	if (io_exact(io, length, sizeof(length)) == -1)
		return cut_off(io, false);
	n = number(length);
	if (n == 0 || n > sizeof(ap_req)) {
		snprintf(reason, sizeof(reason), "AP-REQ of %zu bytes", n);
		refuse_length(io, length, reason, "", 0);
		auth_refuse(a, &answer);
		put_message(io, &answer);
		return -1;
	}
	if (io_exact(io, ap_req, n) == -1)
		return cut_off(io, false);
	if (auth_accept(a, ap_req, n, peer, &answer) == -1) {
		put_message(io, &answer);
		return -1;
	}
	io_write(io, "\0\0\0", 4);
	if (peer->mutual)
		put_message(io, &answer);
	return 0;
}
