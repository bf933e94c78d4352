/*
 * Dropping for good, confinement, the one packet.
 *
 * Runs as root, and is the only file that takes root's rights away. It trusts
 * the state directory's owner; it does not trust the pre-auth process, which is the one
 * process that reads hostile bytes while it holds a key: its packet is treated
 * like anything else from outside.
 *
 * A step that fails, or that only seems to have worked, ends the process.
 */
#include "config.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "privsep.h"
#include "replay-cache.h"

/* The pre-auth process: the keytab copy, the replay cache, the connection, the channel; and some to spare. */
#define PREAUTH_FILES 16
/* Nothing is written beyond the replay cache's end. */
#define PREAUTH_FILE_SIZE ((rlim_t)REPLAY_SIZE)
/* The session: the spool, its directory, the state directory, a journal, the channels, krb5's files. */
#define SESSION_FILES 64

/*
 * Whether a directory has still to become what it should be. Root's though it
 * should be another's, or closed to those who have to pass through it: a process
 * made it a moment ago, and will say so. Open to others though its owner is
 * right: he shall not keep everybody out by it; that a compromised pre-auth process could be.
 */
static bool
is_unfinished(const struct stat *st, mode_t mode, uid_t uid)
{
	mode_t passing = mode & 0111;

	return (st->st_uid == 0 && uid != 0) ||
	    (st->st_uid == uid && ((st->st_mode & passing) != passing || (uid != 0 && (st->st_mode & 022) != 0)));
}

int
privsep_make_directory(int at, const char *name, mode_t mode, uid_t uid, gid_t gid)
{
	struct stat st;
	bool made = mkdirat(at, name, mode) == 0;
	int fd;

	if (!made && errno != EEXIST) {
		log_event(LOG_ERR, "failed", "what=\"making directory %s\" error=\"%s\"",
		    name, strerror(errno));
		return -1;
	}
	fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd == -1 || fstat(fd, &st) == -1)
		fatal("cannot open directory %s", name);
	if ((made || is_unfinished(&st, mode, uid)) &&
	    (fchown(fd, uid, gid) == -1 || fchmod(fd, mode) == -1 ||
		fstat(fd, &st) == -1))
		fatal("cannot give away directory %s", name);
	errno = EPERM;
	if (st.st_uid != uid || (st.st_mode & 022) != 0)
		fatal("directory %s has another owner or is writable by others", name);
	return fd;
}

void
privsep_make_jail(const char *state, const char *name)
{
	int top = privsep_make_directory(AT_FDCWD, state, 0755, 0, 0);
	int jail = top != -1 ? privsep_make_directory(top, name, 0711, 0, 0) : -1;

	if (jail == -1)
		exit(1);
	close(jail);
	close(top);
}

static void
set_limit(int what, rlim_t most)
{
	struct rlimit limit;

	if (getrlimit(what, &limit) == -1)
		fatal("getrlimit");
	/* What inetd set lower stays. */
	if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max > most)
		limit.rlim_max = most;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(what, &limit) == -1)
		fatal("setrlimit");
}

/* Every set of capabilities empty, and the kernel's word for it. */
static void
drop_capabilities(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct none[2] = { 0 }, now[2];

	if (syscall(SYS_capset, &head, none) == -1)
		fatal("capset");
	if (syscall(SYS_capget, &head, now) == -1)
		fatal("capget");
	errno = EPERM;
	if (memcmp(none, now, sizeof(none)) != 0)
		fatal("capabilities stayed");
}

static void
verify_identity(uid_t uid, gid_t gid, gid_t effective)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid, group;

	errno = EPERM;
	if (getresuid(&ruid, &euid, &suid) == -1 || ruid != uid ||
	    euid != uid || suid != uid)
		fatal("uid not taken");
	if (getresgid(&rgid, &egid, &sgid) == -1 || rgid != gid ||
	    egid != effective || sgid != effective)
		fatal("gid not taken");
	if (getgroups(1, &group) != 1 || group != gid)
		fatal("other groups stayed");
	if (setuid(0) != -1 || seteuid(0) != -1 || setresuid(0, 0, 0) != -1)
		fatal("root came back");
	if (gid != 0 && effective != 0 && (setgid(0) != -1 || setegid(0) != -1))
		fatal("group root came back");
}

/* From root to uid and gid for good; effective is gid but for the broker. OpenSSH's permanently_set_uid is the model. */
static void
drop(uid_t uid, gid_t gid, gid_t effective)
{
	errno = EPERM;
	if (uid == 0)
		fatal("refusing to stay root");
	if (setgroups(1, &gid) == -1)
		fatal("setgroups");
	if (setresgid(gid, effective, effective) == -1)
		fatal("setresgid");
	if (setresuid(uid, uid, uid) == -1)
		fatal("setresuid");
	drop_capabilities();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 ||
	    prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		fatal("no_new_privs");
	/* Other processes of the same uid shall not read or trace this one. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1 ||
	    prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		fatal("still dumpable");
	verify_identity(uid, gid, effective);
}

void
privsep_jail(const char *state, const char *name, const struct account *a)
{
	if (chdir(state) == -1 || chroot(name) == -1 || chdir("/") == -1)
		fatal("chroot to %s/%s", state, name);
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_NPROC, 0);
	set_limit(RLIMIT_NOFILE, PREAUTH_FILES);
	set_limit(RLIMIT_FSIZE, PREAUTH_FILE_SIZE);
	set_limit(RLIMIT_AS, PREAUTH_MEMORY);
	drop(a->uid, a->gid, a->gid);
	errno = EPERM;
	if (access("/", W_OK) == 0 || access("/..", W_OK) == 0)
		fatal("the jail's root is writable");
	if (chroot("/") != -1)
		fatal("chroot still works");
}

void
privsep_become(const struct account *a)
{
	if (chdir("/") == -1)
		fatal("chdir");
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_NPROC, 0);
	set_limit(RLIMIT_NOFILE, SESSION_FILES);
	drop(a->uid, a->gid, a->gid);
}

/* It may make one more process, to recover what a session left. */
void
privsep_become_broker(const struct account *a, gid_t group)
{
	if (chdir("/") == -1)
		fatal("chdir");
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_NOFILE, SESSION_FILES);
	drop(a->uid, a->gid, group);
}

void
privsep_leave_broker(const struct account *a)
{
	set_limit(RLIMIT_NPROC, 0);
	if (setresgid(a->gid, a->gid, a->gid) == -1)
		fatal("setresgid");
	verify_identity(a->uid, a->gid, a->gid);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		fatal("still dumpable");
}

/* Sends a packet with k descriptors (at most PACKET_FILES). */
int
packet_send(int channel, const void *data, size_t n, const int *fds, int k)
{
	struct iovec space = { .iov_base = (void *)(uintptr_t)data, .iov_len = n };
	union {
		char space[CMSG_SPACE(PACKET_FILES * sizeof(int))];
		struct cmsghdr align;
	} control = { .space = { 0 } };
	struct msghdr message = { .msg_iov = &space, .msg_iovlen = 1 };
	ssize_t sent;

	if (k > 0) {
		struct cmsghdr *c;

		message.msg_control = &control;
		message.msg_controllen = CMSG_SPACE((size_t)k * sizeof(int));
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)k * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)k * sizeof(int));
	}
	do
		sent = k > 0 ? sendmsg(channel, &message, MSG_NOSIGNAL) : send(channel, data, n, MSG_NOSIGNAL);
	while (sent == -1 && errno == EINTR);
	return sent == (ssize_t)n ? 0 : -1;
}

int
packet_await(int channel, void *data, size_t n, int *fds, int k)
{
	struct iovec space = { .iov_base = data, .iov_len = n };
	union {
		char space[CMSG_SPACE(PACKET_FILES * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = { .msg_iov = &space, .msg_iovlen = 1,
		.msg_control = &control, .msg_controllen = sizeof(control) };
	const struct cmsghdr *c;
	ssize_t got;

	do
		got = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
	while (got == -1 && errno == EINTR);
	c = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	if (got != (ssize_t)n || c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
	    c->cmsg_len != CMSG_LEN((size_t)k * sizeof(int)))
		return -1;
	memcpy(fds, CMSG_DATA(c), (size_t)k * sizeof(int));
	return 0;
}

ssize_t
packet_receive(int channel, void *data, size_t size)
{
	struct iovec space = { .iov_base = data, .iov_len = size };
	struct msghdr message = { .msg_iov = &space, .msg_iovlen = 1 };
	ssize_t n = recvmsg(channel, &message, MSG_DONTWAIT);

	if (n == -1)
		return errno == EAGAIN || errno == EINTR ? PACKET_NONE : PACKET_END;
	return (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 ? n : PACKET_BAD;
}

int
report_send(int channel, const struct report *r)
{
	return packet_send(channel, r, sizeof(*r), NULL, 0);
}

static bool
ends(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

/* An address with its port, in the letters of addresses. */
static bool
address_valid(const char *address)
{
	return strspn(address, "0123456789abcdefABCDEF.:[]") == strlen(address);
}

static bool
report_valid(const struct report *r)
{
	return (r->kind == REPORT_LOGIN || r->kind == REPORT_TLS || r->kind == REPORT_LAYER || r->kind == REPORT_PEER) &&
	    ends(r->address.text, sizeof(r->address.text)) && address_valid(r->address.text) &&
	    ends(r->user, sizeof(r->user)) &&
	    ends(r->peer.principal, sizeof(r->peer.principal)) &&
	    ends(r->peer.service, sizeof(r->peer.service)) &&
	    ends(r->peer.ticket, sizeof(r->peer.ticket)) &&
	    ends(r->peer.session, sizeof(r->peer.session)) &&
	    ends(r->peer.layer, sizeof(r->peer.layer)) &&
	    r->unread_size <= sizeof(r->unread);
}

bool
report_read(const void *packet, size_t n, struct report *r)
{
	if (n != sizeof(*r))
		return false;
	memcpy(r, packet, sizeof(*r));
	return report_valid(r);
}

int
report_answer(int channel, int fd)
{
	char verdict = fd != -1 ? 'y' : 'n';

	return packet_send(channel, &verdict, 1, &fd, fd != -1 ? 1 : 0);
}

int
report_ask(int channel, const struct report *r)
{
	char verdict;
	int fd;

	return report_send(channel, r) == 0 && packet_await(channel, &verdict, 1, &fd, 1) == 0 ? fd : -1;
}
