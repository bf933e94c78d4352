/*
 * Writes and checks what the processes of a connection send to each other.
 *
 * The monitor runs this code as root to receive; its children run it to send.
 * Any child may be compromised: the pre-auth process has a key and reads
 * hostile bytes, and the user can influence the session and the broker. So the
 * monitor checks the whole message before it uses any field of it.
 */
#include "config.h"

#include <string.h>

#include "log.h"
#include "message.h"
#include "packet.h"

#define DIGITS "0123456789"
/*
 * The characters that the text of a session's message may contain. The text
 * becomes a value in a log line, so it must not contain a quote or "=".
 */
#define TEXT_CHARACTERS                                                        \
	DIGITS "abcdefghijklmnopqrstuvwxyz"                                    \
	       "ABCDEFGHIJKLMNOPQRSTUVWXYZ .,:_-"

#define FIELD(name, characters)                                                \
	{                                                                      \
		offsetof(struct preauth_message, name),                        \
		    sizeof(((struct preauth_message *)NULL)->name), characters \
	}

const struct message_field message_fields[MESSAGE_FIELDS] = {
	/* The address is logged without encoding. */
	FIELD(address.text, DIGITS "abcdefABCDEF.:[]"),
	FIELD(user, NULL),
	FIELD(peer.principal, NULL),
	FIELD(peer.service, NULL),
	FIELD(peer.ticket, NULL),
	FIELD(peer.session, NULL),
	FIELD(peer.layer, NULL),
};

/*
 * Returns true if text has a NUL within its size bytes and contains only these
 * characters (NULL: any).
 */
static bool
is_text(const char *text, size_t size, const char *characters)
{
	return memchr(text, '\0', size) != NULL &&
	    (characters == NULL || text[strspn(text, characters)] == '\0');
}

int
message_send_preauth(int channel, const struct preauth_message *m)
{
	return packet_send(channel, m, sizeof(*m), NULL, 0);
}

bool
message_read_preauth(const void *packet, size_t n, struct preauth_message *m)
{
	if (n != sizeof(*m))
		return false;
	memcpy(m, packet, sizeof(*m));
	for (size_t i = 0; i < MESSAGE_FIELDS; i++) {
		const struct message_field *f = &message_fields[i];

		if (!is_text((const char *)m + f->offset, f->size,
			f->characters))
			return false;
	}
	return (m->kind == MESSAGE_LOGIN || m->kind == MESSAGE_TLS ||
		   m->kind == MESSAGE_LAYER || m->kind == MESSAGE_PEER) &&
	    m->unread_size <= sizeof(m->unread);
}

int
message_ask(int channel, const struct preauth_message *request)
{
	char verdict;
	int fd;

	return message_send_preauth(channel, request) == 0 &&
		packet_await(channel, &verdict, 1, &fd, 1) == 0 ?
	    fd :
	    -1;
}

int
message_answer(int channel, int fd)
{
	return packet_send(channel, "y", 1, &fd, 1);
}

void
message_send_session(int channel, enum session_kind kind, const char *text)
{
	struct session_message m = { .kind = (char)kind };

	strlcpy(m.text, text, sizeof(m.text));
	/*
	 * Replace other characters. Otherwise the monitor would kill this
	 * process and discard the text.
	 */
	for (char *p = m.text; *(p += strspn(p, TEXT_CHARACTERS)) != '\0';)
		*p = '_';
	if (packet_send(channel, &m, sizeof(m), NULL, 0) == -1)
		fatal("the monitor has ended");
}

bool
message_read_session(const void *packet, size_t n, struct session_message *m)
{
	if (n != sizeof(*m))
		return false;
	memcpy(m, packet, sizeof(*m));
	return is_text(m->text, sizeof(m->text), TEXT_CHARACTERS);
}
