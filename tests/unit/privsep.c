/*
 * Unit tests of privsep.c: names, accounts, and what the monitor takes for a report.
 * Runs as anybody, with an account database that can be strange.
 */
#include "config.h"

#include <sys/socket.h>

#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "privsep.h"
#include "tests/unit/check.h"

static int channel[2];

static struct passwd *entry; /* what the database has for every name and uid; NULL: the machine's own */

struct passwd *__real_getpwnam(const char *);
struct passwd *__wrap_getpwnam(const char *);
struct passwd *__real_getpwuid(uid_t);
struct passwd *__wrap_getpwuid(uid_t);

struct passwd *
__wrap_getpwnam(const char *name)
{
	return entry != NULL ? entry : __real_getpwnam(name);
}

struct passwd *
__wrap_getpwuid(uid_t uid)
{
	return entry != NULL ? entry : __real_getpwuid(uid);
}

static void
names(void)
{
	static const char *const good[] = { "alice", "a", "_x", "A.b-c_d", "9lives",
		"abcdefghijklmnopqrstuvwxyz012345" };
	static const char *const bad[] = { "", ".", "..", ".a", "-a", "a/b", "../a", "a b",
		"a@b", "a%s", "a\n", "\xc3\xa9", "abcdefghijklmnopqrstuvwxyz0123456", "a\x7f" };

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(account_name_valid(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!account_name_valid(bad[i]));
}

static void
accounts(void)
{
	struct account a;

	CHECK(strcmp(account_find("root", 1, &a), "uid 0") == 0);
	CHECK(strcmp(account_find("daemon", 1000, &a), "uid below the minimum") == 0);
	CHECK(strcmp(account_find("no-such-user-here", 1, &a), "unknown user") == 0);
	CHECK(strcmp(account_find("ro/ot", 1, &a), "not a user name") == 0);
	CHECK(account_find("daemon", 1, &a) == NULL && a.uid == 1);
	CHECK(account_find_uid(1, 1, &a) == NULL && strcmp(a.name, "daemon") == 0);
	CHECK(strcmp(account_find_uid(0, 1, &a), "uid 0") == 0);
	CHECK(strcmp(account_find_uid(4000000000, 1, &a), "unknown user") == 0);
}

/* Databases that fold case, and entries that are longer than Unix has them. */
static void
strange_accounts(void)
{
	static char name[] = "alice", other[] = "Alice", home[5000], long_name[40];
	struct passwd strange = { .pw_name = name, .pw_uid = 1000, .pw_gid = 1000, .pw_dir = home };
	struct account a;

	memset(long_name, 'a', sizeof(long_name) - 1);
	entry = &strange;
	CHECK(account_find("alice", 1, &a) == NULL && a.gid == 1000 && a.home[0] == '\0');
	strange.pw_name = other;
	CHECK(strcmp(account_find("alice", 1, &a), "user name differs from the account's") == 0);
	strange.pw_name = long_name;
	CHECK(strcmp(account_find_uid(1000, 1, &a), "user name too long") == 0);
	strange.pw_name = name;
	memset(home, '/', sizeof(home) - 1);
	CHECK(strcmp(account_find("alice", 1, &a), "home directory name too long") == 0);
	entry = NULL;
}

/* Returns true if a monitor takes this packet for a report. */
static bool
taken(const void *packet, size_t n, struct report *r)
{
	char space[sizeof(*r)];
	ssize_t size;

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel) == 0);
	CHECK(send(channel[1], packet, n, 0) == (ssize_t)n);
	size = packet_receive(channel[0], space, sizeof(space));
	close(channel[0]);
	close(channel[1]);
	CHECK(size == (n > sizeof(space) ? PACKET_BAD : (ssize_t)n));
	return size > 0 && report_read(space, (size_t)size, r);
}

static struct report
good_report(void)
{
	struct report r = { .unread_size = 6, .user = "alice", .unread = "STAT\r\n" };

	r.kind = REPORT_LOGIN;
	strlcpy(r.address, "[2001:db8::1]:4711", sizeof(r.address));
	strlcpy(r.peer.principal, "alice@KPOPD.TEST", sizeof(r.peer.principal));
	return r;
}

static void
reports(void)
{
	struct report good = good_report(), r, bad;
	char larger[sizeof(r) + 1] = { 0 };
	unsigned char noise[sizeof(r)];
	int fds[2];

	CHECK(taken(&good, sizeof(good), &r));
	CHECK(memcmp(&good, &r, sizeof(r)) == 0);
	memcpy(larger, &good, sizeof(good));
	CHECK(!taken(larger, sizeof(larger), &r));
	for (size_t n = 1; n < sizeof(good); n += 7)
		CHECK(!taken(&good, n, &r));

	bad = good;
	bad.kind = 'X';
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	strlcpy(bad.address, "192.0.2.1:1\nlogin user=root", sizeof(bad.address));
	CHECK(!taken(&bad, sizeof(bad), &r));
	memset(bad.address, '1', sizeof(bad.address));
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	memset(bad.peer.layer, 'a', sizeof(bad.peer.layer));
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	bad.unread_size = IO_IN + 1;
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad.unread_size = UINT32_MAX;
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	memset(bad.user, 'a', sizeof(bad.user));
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	strlcpy(bad.user, "../alice", sizeof(bad.user));
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	memset(bad.peer.principal, 'a', sizeof(bad.peer.principal));
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	memset(bad.peer.service, 'a', sizeof(bad.peer.service));
	CHECK(!taken(&bad, sizeof(bad), &r));
	bad = good;
	memset(bad.peer.enctype, 'a', sizeof(bad.peer.enctype));
	CHECK(!taken(&bad, sizeof(bad), &r));
	srandom(1);
	for (int i = 0; i < 1000; i++) {
		for (size_t k = 0; k < sizeof(noise); k++)
			noise[k] = (unsigned char)random();
		CHECK(!taken(noise, sizeof(noise), &r));
	}

	/* The gate ends: with nothing said, and with descriptors sent along. */
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0);
	CHECK(packet_receive(fds[0], &r, sizeof(r)) == PACKET_NONE);
	close(fds[1]);
	CHECK(packet_receive(fds[0], &r, sizeof(r)) == PACKET_END);
	close(fds[0]);
}

static void
descriptors_are_refused(void)
{
	struct report good = good_report(), r;
	struct iovec part = { &good, sizeof(good) };
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .room = { 0 } };
	struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1,
		.msg_control = control.room, .msg_controllen = sizeof(control.room) };
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &(int){ 0 }, sizeof(int));
	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channel) == 0);
	CHECK(sendmsg(channel[1], &message, 0) == (ssize_t)sizeof(good));
	CHECK(packet_receive(channel[0], &r, sizeof(r)) == PACKET_BAD);
}

int
main(void)
{
	names();
	accounts();
	strange_accounts();
	reports();
	descriptors_are_refused();
	return 0;
}
