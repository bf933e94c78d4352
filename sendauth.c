/*
 * Leads the server's half of MIT's sendauth exchange, with which KPOP begins.
 *
 * Runs in the pre-auth process, as the pre-auth user in its jail. The bytes
 * from the client are not trusted, and every length has a limit. C is the
 * client, S the server:
 *
 *	C: length 19, "KRB5_SENDAUTH_V1.0" NUL, length 9, "KPOPV1.0" NUL
 *	S: one byte, without a length: 0, or 1 or 2 if the server does not
 *	   support the first or the second version
 *	C: length, AP-REQ
 *	S: length 0; or length, KRB-ERROR, and the end; or, if no KRB-ERROR can
 *	   be made, only the end
 *	S: length, AP-REP, but only if the client asks for mutual authentication
 *
 * Lengths are four bytes, most significant first, and include the NUL. Source:
 * krb5's src/lib/krb5/krb/sendauth.c and recvauth.c; there is no RFC. A client
 * may send commands directly after the AP-REQ; they stay unread.
 */
#include "config.h"

#include <sys/endian.h>

#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "foreign.h"
#include "log.h"
#include "sendauth.h"

/* Bytes of an AP-REQ, at most. Tickets with a PAC may have tens of KiB. */
#define AP_REQ_MOST 65536
#define LENGTH 4 /* bytes of a length */

/* The answers to the versions. */
static const char ok[] = "\0";
static const char wrong_sendauth[] = "\1";
static const char wrong_application[] = "\2";
/* The answer to a client that expects text. */
static const char kpop_line[] =
    "-ERR this is KPOP: it begins with a Kerberos ticket\r\n";

static const char sendauth_version[] = "KRB5_SENDAUTH_V1.0";
static const char kpop_version[] = "KPOPV1.0";

/* Logs the reason, and writes an answer of n bytes. Returns -1. */
static int
refuse_exchange(struct io *io, const char *reason, const void *answer, size_t n)
{
	log_event(LOG_NOTICE, "refused", "reason=\"%s\"", reason);
	io_write(io, answer, n);
	return -1;
}

/* Logs the reason, and writes a line of POP3. Returns -1. */
static int
refuse_line(struct io *io, const char *reason, const char *line)
{
	return refuse_exchange(io, reason, line, strlen(line));
}

/*
 * Logs that the client closed the connection, or was too slow, before it sent a
 * byte. A client that is too slow gets a line, because it may be a POP3 client
 * that waits for a greeting. Returns -1.
 */
static int
refuse_silence(struct io *io)
{
	if (io->error != IO_TIMEOUT) {
		log_closed();
		return -1;
	}
	log_event(LOG_NOTICE, "refused",
	    "reason=\"no byte before the login deadline\"");
	io_answer_timeout(io, kpop_line, sizeof(kpop_line) - 1);
	return -1;
}

/*
 * Logs that the client closed the connection, or was too slow, during the
 * exchange. Returns -1.
 */
static int
refuse_unfinished(struct io *io)
{
	if (io->error != IO_TIMEOUT)
		return refuse_line(io, "closed during the exchange", "");
	log_event(LOG_NOTICE, "refused",
	    "reason=\"exchange not complete at the login deadline\"");
	io_answer_timeout(io, "", 0);
	return -1;
}

/*
 * Returns true if these four bytes begin a POP3 command other than QUIT and
 * DELE. QUIT is not in the list, because name_protocol has another name for it.
 * DELE is not in the list, because HTTP's DELETE begins in the same way, and no
 * POP3 client sends DELE first.
 */
static bool
is_pop3(const unsigned char *first)
{
	static const char commands[][5] = { "APOP", "AUTH", "CAPA", "LANG",
		"LIST", "NOOP", "PASS", "RETR", "RSET", "STAT", "STLS", "TOP ",
		"UIDL", "USER", "UTF8", "XTND" };

	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strncasecmp((const char *)first, commands[i], 4) == 0)
			return true;
	return false;
}

/*
 * Returns the name of the protocol that begins with these four bytes. The
 * client has sent them in place of a length. Returns NULL if the protocol is
 * unknown. Reads one more byte after "AUTH", because Kerberos 4 begins with
 * "AUTHV". If that fails, returns NULL with io->error set.
 */
static const char *
name_protocol(struct io *io, const unsigned char *first)
{
	char next = '\0';

	if (memcmp(first, "AUTH", 4) == 0 && io_exact(io, &next, 1) == -1)
		return NULL;
	if (next == 'V')
		return "Kerberos 4 client";
	if (strncasecmp((const char *)first, "QUIT", 4) == 0)
		return "POP3 QUIT, as after a ticket that the client could "
		       "not get";
	return is_pop3(first) ? "POP3 client without KPOP" :
				foreign_protocol(first);
}

/*
 * Refuses a client of another protocol. Sends a line of text if the client may
 * be able to show it. Returns -1.
 */
static int
refuse_protocol(struct io *io, const unsigned char *first)
{
	static const char kerberos4[] =
	    "-ERR Kerberos 4 is not served here, only Kerberos 5\r\n";
	const char *name =
	    isdigit(first[0]) ? "Kerberos 4 client" : name_protocol(io, first);

	if (io->error != IO_OK)
		return refuse_unfinished(io);
	if (name == NULL)
		name = "unknown protocol";
	if (strcmp(name, "Kerberos 4 client") == 0)
		return refuse_line(io, name, kerberos4);
	return refuse_line(io, name, isalpha(first[0]) ? kpop_line : "");
}

/*
 * Refuses a client that has sent a wrong value for a length after the first.
 * Sends an answer of n bytes. If the value is the beginning of another
 * protocol, logs the protocol's name, otherwise `reason`. For example, a client
 * without a ticket may send a command of POP3. Returns -1.
 */
static int
refuse_length(struct io *io, const unsigned char *length, const char *reason,
    const void *answer, size_t n)
{
	const char *name = length[0] != 0 ? name_protocol(io, length) : NULL;

	if (io->error != IO_OK)
		return refuse_unfinished(io);
	return refuse_exchange(io, name != NULL ? name : reason, answer, n);
}

/*
 * Reads the first length, or refuses a client that sends something else.
 * Returns 0 or -1.
 */
static int
read_first_length(struct io *io, unsigned char length[LENGTH])
{
	if (io_exact(io, length, 1) == -1)
		return refuse_silence(io);
	if (io_exact(io, length + 1, LENGTH - 1) == -1)
		return refuse_unfinished(io);
	return length[0] == 0 ? 0 : refuse_protocol(io, length);
}

/*
 * Reads the two versions, and sends the byte that answers both. Returns 0 or
 * -1.
 */
static int
agree_on_versions(struct io *io)
{
	static const char sendauth[] = "wrong sendauth version";
	static const char application[] = "wrong application version";
	unsigned char length[LENGTH];
	char text[sizeof(sendauth_version)];

	if (read_first_length(io, length) == -1)
		return -1;
	if (be32dec(length) != sizeof(sendauth_version))
		return refuse_exchange(io, sendauth, wrong_sendauth, 1);
	if (io_exact(io, text, sizeof(sendauth_version)) == -1)
		return refuse_unfinished(io);
	if (memcmp(text, sendauth_version, sizeof(sendauth_version)) != 0)
		return refuse_exchange(io, sendauth, wrong_sendauth, 1);
	if (io_exact(io, length, sizeof(length)) == -1)
		return refuse_unfinished(io);
	if (be32dec(length) != sizeof(kpop_version))
		return refuse_length(io, length, application, wrong_application,
		    1);
	if (io_exact(io, text, sizeof(kpop_version)) == -1)
		return refuse_unfinished(io);
	if (memcmp(text, kpop_version, sizeof(kpop_version)) != 0)
		return refuse_exchange(io, application, wrong_application, 1);
	io_write(io, ok, 1);
	return 0;
}

/* Writes the length of an answer that auth.c has made, then the answer. */
static void
write_message(struct io *io, const struct auth_answer *answer)
{
	unsigned char length[LENGTH];

	be32enc(length, (uint32_t)answer->size);
	io_write(io, length, sizeof(length));
	io_write(io, answer->data, answer->size);
}

/*
 * Writes a KRB-ERROR. Writes nothing if auth.c could not make one, because the
 * length 0 would mean that the AP-REQ is accepted.
 */
static void
write_error(struct io *io, const struct auth_answer *error)
{
	if (error->size > 0)
		write_message(io, error);
}

/* Reads an AP-REQ into ap_req. Returns its size or -1. */
static int
read_ap_req(struct io *io, struct auth *a, char ap_req[AP_REQ_MOST])
{
	unsigned char length[LENGTH];
	struct auth_answer answer;
	char reason[64];
	uint32_t n;

	if (io_exact(io, length, sizeof(length)) == -1)
		return refuse_unfinished(io);
	n = be32dec(length);
	if (n == 0 || n > AP_REQ_MOST) {
		snprintf(reason, sizeof(reason),
		    "AP-REQ of %" PRIu32 " bytes, not of 1 to %d", n,
		    AP_REQ_MOST);
		refuse_length(io, length, reason, "", 0);
		auth_refuse(a, &answer);
		write_error(io, &answer);
		return -1;
	}
	return io_exact(io, ap_req, n) == 0 ? (int)n : refuse_unfinished(io);
}

int
sendauth_serve(struct io *io, struct auth *a, struct auth_peer *peer)
{
	static char ap_req[AP_REQ_MOST];
	static const struct auth_answer nothing = { .size = 0 };
	struct auth_answer answer;
	int n;

	if (agree_on_versions(io) == -1 ||
	    (n = read_ap_req(io, a, ap_req)) == -1)
		return -1;
	if (auth_accept(a, ap_req, (size_t)n, peer, &answer) == -1) {
		write_error(io, &answer);
		return -1;
	}
	write_message(io, &nothing);
	if (peer->mutual)
		write_message(io, &answer);
	return 0;
}
