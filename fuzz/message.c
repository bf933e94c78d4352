/*
 * Fuzz target: message_read_preauth with any packet that a compromised pre-auth
 * process could send, and message_read_session with any packet of a session.
 *
 * Input: the first byte selects the kind. Then comes either a packet, or a list
 * of changes to a valid packet, each with offset, length and bytes. The target
 * checks that a packet is accepted if and only if it is what message.h
 * describes. It checks that no descriptor is received with a packet. It reads a
 * packet as a message of the pre-auth process and as one of a session.
 */
#include "config.h"

#include <sys/socket.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "message.h"
#include "packet.h"

enum { RAW = 1, WITH_FD = 2, SHORTER = 4, LONGER = 8 };

/* Returns true if a field ends with a NUL and has no forbidden character. */
static bool
is_field(const char *text, const struct message_field *f)
{
	for (size_t i = 0; i < f->size; i++) {
		if (text[i] == '\0')
			return true;
		if (f->characters != NULL &&
		    strchr(f->characters, text[i]) == NULL)
			return false;
	}
	return false;
}

/*
 * Returns true if the message is what message.h describes. This check uses no
 * code of message.c.
 */
static bool
is_valid(const struct preauth_message *m)
{
	for (size_t i = 0; i < MESSAGE_FIELDS; i++)
		if (!is_field((const char *)m + message_fields[i].offset,
			&message_fields[i]))
			return false;
	return (m->kind == 'R' || m->kind == 'T' || m->kind == 'L' ||
		   m->kind == 'P') &&
	    m->unread_size <= sizeof(m->unread);
}

/* Fails unless a packet is accepted if and only if message.h describes it. */
static void
check_session(const void *packet, size_t n)
{
	static const struct message_field text = {
		.size = MESSAGE_TEXT,
		.characters = "0123456789 .,:_-abcdefghijklmnopqrstuvwxyz"
			      "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
	};
	struct session_message got;
	const char *bytes = packet;
	bool valid = n == sizeof(got) &&
	    is_field(bytes + offsetof(struct session_message, text), &text);

	HOLDS(message_read_session(packet, n, &got) == valid);
	HOLDS(!valid || memcmp(&got, packet, n) == 0);
}

/*
 * Fails unless the table has every string of the message except "unread". All
 * other members and the padding have fewer than 16 bytes together, and each
 * string has more than that. So the sizes show whether a string is missing.
 */
static void
check_table(void)
{
	size_t bytes = 0;

	for (size_t i = 0; i < MESSAGE_FIELDS; i++)
		bytes += message_fields[i].size;
	HOLDS(sizeof(struct preauth_message) - IO_IN - bytes < 16);
}

/* Makes a valid message. Then makes the changes that the input specifies. */
static void
change(struct preauth_message *m, struct input *in)
{
	*m = (struct preauth_message){ .kind = 'R',
		.address = { "192.0.2.1:1" },
		.user = "alice",
		.unread_size = 6,
		.unread = "STAT\r\n",
		.peer = { .principal = "alice@R",
		    .service = "pop/h@R",
		    .ticket = "t",
		    .session = "s",
		    .layer = "none" } };
	while (in->left > 0) {
		size_t at = input_below(in, sizeof(*m)), n = input_byte(in);
		const uint8_t *from = input_take(in, &n);

		if (n > sizeof(*m) - at)
			n = sizeof(*m) - at;
		memcpy((char *)m + at, from, n);
	}
}

static void
send_packet(int channel, const void *data, size_t n, bool with_fd)
{
	struct iovec space = { .iov_base = (void *)(uintptr_t)data,
		.iov_len = n };
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .space = { 0 } };
	struct msghdr message = { .msg_iov = &space, .msg_iovlen = 1 };

	if (with_fd) {
		struct cmsghdr *c;

		message.msg_control = &control;
		message.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&message);
		*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(c), &channel, sizeof(int));
	}
	HOLDS(sendmsg(channel, &message, 0) == (ssize_t)n);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int channel[2] = { -1, -1 }, next = -1;
	static struct preauth_message packet[2];
	static char space[sizeof(struct preauth_message)];
	struct preauth_message got, *sent = &packet[0];
	struct input in = { data, size };
	unsigned how = input_byte(&in);
	size_t n = sizeof(*sent);
	ssize_t received;
	bool valid;

	check_table();
	if (channel[0] == -1)
		HOLDS(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0,
			  channel) == 0);
	memset(packet, 0, sizeof(packet));
	if ((how & RAW) != 0) {
		n = in.left < sizeof(packet) ? in.left : sizeof(packet);
		memcpy(packet, in.at, n);
		check_session(packet, n);
	} else {
		change(sent, &in);
		n = (how & SHORTER) != 0 ? n - 1 :
		    (how & LONGER) != 0  ? n + 1 :
					   n;
	}
	send_packet(channel[0], sent, n, (how & WITH_FD) != 0);
	memset(&got, 0x55, sizeof(got));
	received = packet_receive(channel[1], space, sizeof(space));
	/* An empty packet counts as the end. */
	HOLDS(received ==
	    ((how & WITH_FD) != 0 || n > sizeof(space) ? PACKET_BAD :
							 (ssize_t)n));
	valid = received == (ssize_t)sizeof(*sent) && is_valid(sent);
	HOLDS((received > 0 &&
		  message_read_preauth(space, (size_t)received, &got)) ==
	    valid);
	HOLDS(!valid || memcmp(&got, sent, sizeof(got)) == 0);
	/*
	 * If a descriptor was received, the lowest free descriptor has changed.
	 */
	if (next == -1)
		next = dup(0);
	else
		HOLDS(dup(0) == next);
	close(next);
	return 0;
}
