/*
 * Unit tests of message.c and packet.c: which packets the monitor accepts as
 * messages of the pre-auth process. Runs as any user.
 */
#include "config.h"

#include <sys/socket.h>

#include <ctype.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "message.h"
#include "packet.h"
#include "tests/unit/check.h"

static int channel[2];

/* Returns true if the monitor accepts the packet as a message. */
static bool
is_accepted(const void *packet, size_t n, struct preauth_message *m)
{
	char space[sizeof(*m)];
	ssize_t size;

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel) == 0);
	CHECK(send(channel[1], packet, n, 0) == (ssize_t)n);
	size = packet_receive(channel[0], space, sizeof(space));
	close(channel[0]);
	close(channel[1]);
	CHECK(size == (n > sizeof(space) ? PACKET_BAD : (ssize_t)n));
	return size > 0 && message_read_preauth(space, (size_t)size, m);
}

static struct preauth_message
valid_message(void)
{
	struct preauth_message m = {
		.unread_size = 6, .user = "alice", .unread = "STAT\r\n"
	};

	m.kind = MESSAGE_LOGIN;
	strlcpy(m.address.text, "[2001:db8::1]:4711", sizeof(m.address.text));
	strlcpy(m.peer.principal, "alice@KPOPD.TEST", sizeof(m.peer.principal));
	return m;
}

/*
 * For each field of the table, the monitor refuses a message in which the
 * field's NUL is missing. If only some characters are allowed in the field, the
 * monitor refuses a message with another character there.
 */
static void
fields(void)
{
	struct preauth_message valid = valid_message(), m;
	size_t bytes = 0;

	/*
	 * The table must have every string except "unread", which has a length
	 * instead. All other members and the padding have fewer than 16 bytes
	 * together, and each string has more than that. So a missing string
	 * would be noticed.
	 */
	for (size_t i = 0; i < MESSAGE_FIELDS; i++)
		bytes += message_fields[i].size;
	CHECK(sizeof(m) - sizeof(m.unread) - bytes < 16);
	for (size_t i = 0; i < MESSAGE_FIELDS; i++) {
		const struct message_field *f = &message_fields[i];
		struct preauth_message changed = valid;
		char *text = (char *)&changed + f->offset;

		memset(text, '1', f->size);
		CHECK(!is_accepted(&changed, sizeof(changed), &m));
		text[f->size - 1] = '\0';
		CHECK(is_accepted(&changed, sizeof(changed), &m));
		for (int c = 1; c < 256; c++) {
			text[0] = (char)c;
			CHECK(is_accepted(&changed, sizeof(changed), &m) ==
			    (f->characters == NULL ||
				strchr(f->characters, (char)c) != NULL));
		}
	}
}

static void
messages(void)
{
	struct preauth_message valid = valid_message(), m, bad;
	char larger[sizeof(m) + 1] = { 0 };
	unsigned char noise[sizeof(m)];
	int fds[2];

	CHECK(is_accepted(&valid, sizeof(valid), &m));
	CHECK(memcmp(&valid, &m, sizeof(m)) == 0);
	memcpy(larger, &valid, sizeof(valid));
	CHECK(!is_accepted(larger, sizeof(larger), &m));
	for (size_t n = 1; n < sizeof(valid); n += 7)
		CHECK(!is_accepted(&valid, n, &m));

	bad = valid;
	bad.kind = 'X';
	CHECK(!is_accepted(&bad, sizeof(bad), &m));
	bad = valid;
	strlcpy(bad.address.text, "192.0.2.1:1\nlogin user=root",
	    sizeof(bad.address.text));
	CHECK(!is_accepted(&bad, sizeof(bad), &m));
	bad = valid;
	bad.unread_size = IO_IN + 1;
	CHECK(!is_accepted(&bad, sizeof(bad), &m));
	bad.unread_size = UINT32_MAX;
	CHECK(!is_accepted(&bad, sizeof(bad), &m));
	/*
	 * The message is accepted, because the monitor checks only later
	 * whether an account has that name.
	 */
	bad = valid;
	strlcpy(bad.user, "../alice\n", sizeof(bad.user));
	CHECK(is_accepted(&bad, sizeof(bad), &m));
	srandom(1);
	for (int i = 0; i < 1000; i++) {
		for (size_t k = 0; k < sizeof(noise); k++)
			noise[k] = (unsigned char)random();
		CHECK(!is_accepted(noise, sizeof(noise), &m));
	}

	/* The pre-auth process has ended without a message. */
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0);
	CHECK(packet_receive(fds[0], &m, sizeof(m)) == PACKET_NONE);
	close(fds[1]);
	CHECK(packet_receive(fds[0], &m, sizeof(m)) == PACKET_END);
	close(fds[0]);
}

/*
 * A session may send a text with characters that a message may not contain. The
 * session replaces these characters. Without that, the monitor would end the
 * session, and the reason in the text would be lost.
 */
static void
a_session_sends_any_text(void)
{
	static const char *const texts[] = { "the account's own name",
		"a \"quote\"=1\n", "" };
	static const char *const arrived[] = { "the account_s own name",
		"a _quote__1_", "" };
	struct session_message sent, m;
	int ends[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
	for (int i = 0; i < 3; i++) {
		message_send_session(ends[0], MESSAGE_REFUSED, texts[i]);
		CHECK(recv(ends[1], &sent, sizeof(sent), 0) == sizeof(sent));
		CHECK(message_read_session(&sent, sizeof(sent), &m));
		CHECK(strcmp(m.text, arrived[i]) == 0);
	}
	close(ends[0]);
	close(ends[1]);
}

/*
 * Tests a session's message: its size, the NUL that ends its text, and the
 * characters that are allowed.
 */
static void
session_messages(void)
{
	struct session_message good = { 'N', "no such user, 1.5:_-" }, m;

	CHECK(message_read_session(&good, sizeof(good), &m));
	CHECK(memcmp(&good, &m, sizeof(m)) == 0);
	CHECK(!message_read_session(&good, sizeof(good) - 1, &m));
	for (int c = 1; c < 256; c++) {
		good.text[0] = (char)c;
		CHECK(message_read_session(&good, sizeof(good), &m) ==
		    (c < 128 && (isalnum(c) || strchr(" .,:_-", c) != NULL)));
	}
	memset(good.text, 'a', sizeof(good.text));
	CHECK(!message_read_session(&good, sizeof(good), &m));
}

static void
descriptors_are_refused(void)
{
	struct preauth_message valid = valid_message(), m;
	struct iovec part = { &valid, sizeof(valid) };
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .room = { 0 } };
	struct msghdr message = { .msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.room,
		.msg_controllen = sizeof(control.room) };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &(int){ 0 }, sizeof(int));
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel) == 0);
	CHECK(sendmsg(channel[1], &message, 0) == (ssize_t)sizeof(valid));
	CHECK(packet_receive(channel[0], &m, sizeof(m)) == PACKET_BAD);
}

int
main(void)
{
	fields();
	messages();
	session_messages();
	a_session_sends_any_text();
	descriptors_are_refused();
	return 0;
}
