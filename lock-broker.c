/*
 * Obeys the requests (verbs) of a session: makes and removes the dotlock, and
 * keeps the locks that must outlive the session.
 *
 * Runs in the broker, as the owner of the mailbox, with the spool's group if
 * only that group may write to the directory. On Debian this directory is
 * root:mail 2775, and mailboxes are often 0660 user:mail. If a session had that
 * group, it could read the mail of all users. The broker has the group, but
 * gets no byte from the client. It gets only the path of one mailbox. From the
 * session it gets verbs of one byte, and open files, which it does not read.
 */
#include "config.h"

#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "lock-broker.h"

/*
 * How often the broker sets the dotlock's time, and how often if other hosts
 * may see the dotlock. TOUCHED_SECONDS and SHARED_TOUCHED_SECONDS of
 * lock-dotlock.c are at least twice these times.
 */
#define TOUCH_MS 60000
#define SHARED_TOUCH_MS 15000

void
lock_broker_prepare(struct lock_kept *k, const struct lock_plan *plan,
    const char *path, const char *reason)
{
	*k = (struct lock_kept){ .spool = -1, .session = -1 };
	dotlock_prepare(&k->dotlock, plan, path, reason);
}

/*
 * Returns true if fd is a regular file of the user. The broker keeps only such
 * files.
 */
static bool
is_users_file(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    st.st_uid == geteuid();
}

/*
 * Closes the kept files. That releases their locks if the session and the
 * recovery have ended.
 */
static void
close_kept(struct lock_kept *k)
{
	if (k->spool != -1)
		close(k->spool);
	if (k->session != -1)
		close(k->session);
	k->spool = k->session = -1;
}

/*
 * Keeps these two open files, the spool and the session lock, in place of
 * earlier ones. Returns 0, or EINVAL if it does not keep the files.
 */
static unsigned char
keep_files(struct lock_kept *k, const int *fds, int n)
{
	if (n != 2 || !is_users_file(fds[0]) || !is_users_file(fds[1]))
		return EINVAL;
	close_kept(k);
	k->spool = fds[0];
	k->session = fds[1];
	return 0;
}

/*
 * Obeys a verb. Closes descriptors that it does not keep. Returns the answer: 0
 * or an errno.
 */
static unsigned char
serve_verb(struct lock_kept *k, char verb, const int *fds, int n)
{
	unsigned char answer = EINVAL;

	if (verb == LOCK_KEEP)
		answer = keep_files(k, fds, n);
	else if (n == 0 && verb == LOCK_TAKE)
		answer =
		    !k->dotlock.is_possible || dotlock_take(&k->dotlock) == 0 ?
		    0 :
		    (unsigned char)errno;
	else if (n == 0 && verb == LOCK_GIVE && k->dotlock.fd != -1) {
		dotlock_give(&k->dotlock);
		answer = 0;
	}
	while (answer != 0 && n > 0)
		close(fds[--n]);
	return answer;
}

/*
 * Receives a verb and at most two descriptors. Returns the number of
 * descriptors. Returns -1 if the other end is closed, or if the packet has more
 * than one byte or more than two descriptors.
 */
static int
receive_verb(int channel, char *verb, int fds[2])
{
	char text[2] = "";
	struct iovec space = { .iov_base = text, .iov_len = sizeof(text) };
	union {
		char space[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr message = { .msg_iov = &space,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	ssize_t size =
	    recvmsg(channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = size > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	int n = 0;

	if (c != NULL && c->cmsg_level == SOL_SOCKET &&
	    c->cmsg_type == SCM_RIGHTS) {
		n = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), (size_t)n * sizeof(int));
	}
	*verb = text[0];
	/*
	 * If control data was truncated, more than two descriptors were sent.
	 * The kernel has closed the others.
	 */
	if (size == 1 && (message.msg_flags & (MSG_CTRUNC | MSG_TRUNC)) == 0)
		return n;
	while (n > 0)
		close(fds[--n]);
	return -1;
}

/* Returns the ms until the dotlock must be touched; -1: there is none. */
static int
touch_ms(const struct dotlock *d)
{
	if (d->fd == -1)
		return -1;
	return d->is_shared ? SHARED_TOUCH_MS : TOUCH_MS;
}

void
lock_broker(struct lock_kept *k, int channel)
{
	struct pollfd p = { .fd = channel, .events = POLLIN };

	for (;;) {
		int ready = poll(&p, 1, touch_ms(&k->dotlock));
		unsigned char answer;
		int fds[2], n;
		char verb;
		ssize_t sent;

		if (ready == 0)
			dotlock_touch(&k->dotlock);
		if (ready == 0 || (ready == -1 && errno == EINTR))
			continue;
		/*
		 * The session may wait for an answer. The caller shuts the
		 * channel down, which ends that wait.
		 */
		if ((n = receive_verb(channel, &verb, fds)) == -1)
			return;
		answer = serve_verb(k, verb, fds, n);
		do
			sent = send(channel, &answer, 1, MSG_NOSIGNAL);
		while (sent == -1 && errno == EINTR);
		if (sent != 1)
			return;
	}
}

void
lock_broker_end(struct lock_kept *k)
{
	const int fds[2] = { k->spool, k->session };

	if (k->dotlock.fd != -1)
		dotlock_give(&k->dotlock);
	/*
	 * close alone might not release the locks. After a failed ftruncate the
	 * client of GlusterFS 10.3 never closes the file at the servers.
	 */
	for (int i = 0; i < 2; i++)
		if (fds[i] != -1) {
			flock(fds[i], LOCK_UN);
			lock_fcntl(fds[i], F_UNLCK);
		}
	close_kept(k);
}
