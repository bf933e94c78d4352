/*
 * Opens and locks the spool file of an mbox.
 *
 * Runs as the owner of the mailbox. The user may have put anything at the
 * spool's name. So symlinks, FIFOs, devices, other users' files and files with
 * a second link are refused, and opening never blocks. Another program may
 * replace the spool at any time. So after taking the locks, spool_open_locked
 * checks that the spool's name still leads to the open file.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "lock-spool.h"
#include "log.h"
#include "mbox-spool.h"
#include "volume.h"

#define TRIES 5 /* attempts if the spool is replaced meanwhile */

static enum drop_error
refuse_spool(const char *why)
{
	log_failed_at(LOG_ERR, why, "opening the mailbox");
	return DROP_DENIED;
}

static enum drop_error
refuse_owner(const struct stat *st)
{
	char why[64];

	snprintf(why, sizeof(why), "it has another owner, uid %u",
	    (unsigned)st->st_uid);
	return refuse_spool(why);
}

/*
 * Refuses a spool that cannot be opened, for the error in errno. Logs what the
 * name leads to if that explains the error. For example, the error for a
 * symlink is ELOOP.
 */
static enum drop_error
refuse_by_errno(const struct mbox *m)
{
	enum drop_error error = store_error(errno);
	struct stat st;
	int number = errno;

	if (fstatat(m->place.dir, m->place.name, &st, AT_SYMLINK_NOFOLLOW) ==
	    -1)
		st = (struct stat){ .st_mode = S_IFREG, .st_uid = geteuid() };
	errno = number;
	if (S_ISLNK(st.st_mode))
		refuse_spool("it is a symlink");
	else if (!S_ISREG(st.st_mode))
		refuse_spool("it is not a regular file");
	else if (st.st_uid != geteuid())
		refuse_owner(&st);
	else
		log_failed("opening the mailbox");
	return error;
}

enum drop_error
spool_open(struct mbox *m)
{
	struct stat st;

	m->fd = volume_open(m->place.dir, m->place.name,
	    (m->place.read_only ? O_RDONLY : O_RDWR) | O_NOFOLLOW | O_NONBLOCK |
		O_NOCTTY | O_CLOEXEC | O_NOATIME);
	if (m->fd == -1)
		return errno == ENOENT ? DROP_OK : refuse_by_errno(m);
	if (fstat(m->fd, &st) == -1)
		return refuse_by_errno(m);
	if (!S_ISREG(st.st_mode))
		return refuse_spool("it is not a regular file");
	if (st.st_uid != geteuid())
		return refuse_owner(&st);
	if (st.st_nlink > 1)
		return refuse_spool("it has more than one link");
	return DROP_OK;
}

int
spool_is_same_file(const struct mbox *m)
{
	struct stat named, opened;

	if (fstatat(m->place.dir, m->place.name, &named, AT_SYMLINK_NOFOLLOW) ==
	    -1)
		return errno == ENOENT ? 0 : -1;
	if (fstat(m->fd, &opened) == -1)
		return -1;
	return named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

enum drop_error
spool_lock(const struct mbox *m, bool to_write)
{
	enum drop_error error;

	if (lock_spool(m->place.locks, m->fd, to_write) == -1) {
		error = errno == EAGAIN ? DROP_BUSY : DROP_FAILED;
		log_failed_at(error == DROP_BUSY ? LOG_NOTICE : LOG_ERR, NULL,
		    "locking the mailbox");
		return error;
	}
	if (volume_ask(m->fd) == 0)
		return DROP_OK;
	error = errno == ESTALE ? DROP_CHANGED : DROP_FAILED;
	if (error == DROP_FAILED)
		log_failed(
		    "asking the file server for the size of the mailbox");
	spool_unlock(m);
	return error;
}

void
spool_unlock(const struct mbox *m)
{
	if (m->fd != -1)
		lock_spool_release(m->place.locks, m->fd);
}

void
spool_leave_locked(const struct mbox *m)
{
	if (m->place.locks->session == -1)
		spool_unlock(m);
}

enum drop_error
spool_open_locked(struct mbox *m, bool to_write)
{
	enum drop_error error;
	int same = 0, number = 0;

	for (int tries = 0; tries < TRIES; tries++) {
		if ((error = spool_open(m)) != DROP_OK || m->fd == -1)
			return error;
		error = spool_lock(m, to_write);
		if ((error != DROP_OK && error != DROP_CHANGED) ||
		    (error == DROP_OK && (same = spool_is_same_file(m)) == 1))
			return error;
		number = errno;
		if (error == DROP_OK)
			spool_unlock(m);
		close(m->fd);
	}
	errno = number;
	log_failed_at(LOG_ERR,
	    same == 0 ? "other programs replace it again and again" : NULL,
	    "opening the mailbox");
	return DROP_FAILED;
}

bool
spool_is_unchanged(const struct mbox *m)
{
	struct fingerprint now;

	return fingerprint_look(&now, m->fd) == 0 &&
	    fingerprint_matches(&m->listed, &now);
}

struct list_source
spool_source(const struct mbox *m)
{
	return (struct list_source){ .fd = m->fd,
		.state = m->place.state,
		.dir = m->place.dir,
		.quoted = m->place.quoted };
}
