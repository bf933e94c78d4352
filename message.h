/* What the processes of a connection send to each other: see message.c. */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account.h"
#include "address.h"
#include "auth.h"
#include "io.h"

/* What the pre-auth process sends to the monitor. */
enum preauth_kind {
	MESSAGE_LOGIN = 'R', /* a login; it is the last message */
	MESSAGE_TLS = 'T',   /* a request, at most one: start kpopd-tls */
	MESSAGE_LAYER = 'L', /* a request, at most one: start the relay */
	MESSAGE_PEER = 'P',  /* the client's address, from a PROXY header */
};

/*
 * A message of the pre-auth process. It has a fixed size, no pointer, and no
 * length that decides an allocation. Fields that a kind does not use are zero.
 * A PEER comes before all other messages, and only if the connection comes from
 * a proxy.
 */
struct preauth_message {
	char kind;                   /* an enum preauth_kind */
	struct address_text address; /* PEER: the client's address and port */
	uint32_t unread_size;        /* LOGIN: bytes used of unread */
	char user[ACCOUNT_NAME];     /* LOGIN: as the client wrote it, or "" */
	struct auth_peer peer;       /* LOGIN: from the ticket */
	char unread[IO_IN]; /* LOGIN: what the client sent after the login */
};

/* A string field of struct preauth_message. */
struct message_field {
	size_t offset, size;    /* in bytes; the size includes the NUL */
	const char *characters; /* that the field may contain; NULL: any */
};

#define MESSAGE_FIELDS 7
extern const struct message_field message_fields[MESSAGE_FIELDS];

/*
 * Pre-auth process: sends the message. Returns 0, or -1 if the monitor has
 * ended.
 */
int message_send_preauth(int channel, const struct preauth_message *m);

/*
 * Monitor: copies a packet of n bytes to *m. Returns true if the size of the
 * packet, the kind and unread_size are valid, and each field of message_fields
 * has a NUL and no forbidden character. If it returns false, *m must not be
 * used. Even in a valid message, user and the strings of peer may be any text.
 */
bool message_read_preauth(const void *packet, size_t n,
    struct preauth_message *m);

/*
 * Pre-auth process: sends a request and waits for the answer. Returns the
 * descriptor that the monitor sent, or -1 if the monitor refuses.
 */
int message_ask(int channel, const struct preauth_message *request);

/*
 * Monitor: answers a request with a descriptor. Returns 0, or -1 if the
 * pre-auth process has ended.
 */
int message_answer(int channel, int fd);

#define MESSAGE_TEXT 256 /* bytes of a session's text with its NUL */

/*
 * What a session, a broker, a recovery or an import sends, besides log lines,
 * to the root process that watches it.
 */
enum session_kind {
	/* session: the login is permitted; text: the rule */
	MESSAGE_PERMITTED = 'Y',
	MESSAGE_REFUSED = 'N', /* session: it is refused; text: why */
	/* session, after MESSAGE_REFUSED: what .k5login or krb5.conf lacks */
	MESSAGE_CAUSE = 'C',
	/* session, recovery, import: it has the session lock */
	MESSAGE_LOCKED = 'K',
	MESSAGE_RECOVERS = 'F', /* broker: it finishes a removal */
	MESSAGE_LISTED = 'M',   /* import: it has read the list */
	MESSAGE_REPORT = 'O',   /* import: a line for standard output */
	MESSAGE_MISTAKE = 'E',  /* import: a line for standard error */
};

struct session_message {
	char kind; /* an enum session_kind */
	char text[MESSAGE_TEXT];
};

/*
 * What the monitor sends to a permitted session, with two descriptors: the
 * client's socket and STATE/users/UID.
 */
struct session_entry {
	uint32_t unread_size; /* bytes used of unread */
	char unread[IO_IN];   /* what the client sent after its login */
};

/*
 * Session, broker, recovery, import: sends a message. Cuts a text that does not
 * fit into struct session_message. Characters that the text may not contain
 * become "_". Fatal if the monitor has ended.
 */
void message_send_session(int channel, enum session_kind kind,
    const char *text);

/*
 * Monitor: copies a packet of n bytes to *m. Returns true if the packet has the
 * right size, and the text has a NUL and contains only letters, digits, blanks
 * and ".,:_-". If it returns false, *m must not be used. The caller must check
 * the kind.
 */
bool message_read_session(const void *packet, size_t n,
    struct session_message *m);

#endif
