/*
 * Finds, opens and counts the files of the messages in a Maildir. To count a
 * file is to read it and compute its wire size.
 *
 * Runs in the session, as the owner of the mailbox. Other programs rename files
 * at any time, to change the flags after the colon. So a message is found again
 * by its unique name, which is the part before the colon. The inode proves that
 * the found file is the same file. Size and times prove that the file still
 * contains the bytes that were counted. Device numbers are not compared:
 * overlayfs reports different device numbers in one directory, and new ones
 * after each mount.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "maildir-files.h"
#include "mbox-lines.h"
#include "volume.h"

#define PIECE ((size_t)256 << 10) /* bytes read at a time */

bool
files_has(const struct maildir *m, int directory, const char *name,
    const struct record *r, struct stat *st)
{
	return strchr(name, '/') == NULL &&
	    fstatat(m->dirs[directory], name, st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st->st_mode) && st->st_ino == r->inode;
}

bool
files_has_content(const struct record *r, const struct stat *st)
{
	return st->st_ino == r->inode && st->st_size == r->size &&
	    fingerprint_ns(&st->st_mtim) == r->mtime;
}

bool
files_is_as_counted(const struct record *r, const struct stat *st,
    int directory, const char *name)
{
	return files_has_content(r, st) && r->stable == 1 &&
	    (fingerprint_ns(&st->st_ctim) == r->ctime ||
		directory != r->directory || strcmp(name, r->name) != 0);
}

/* A search for one file, which may need several passes over the names. */
struct search {
	int looks;  /* passes that the search has made */
	int misses; /* passes in a row without the file */
};

/* Reads the names if none were read yet. Returns 0, or -1 with errno. */
static int
read_names_once(struct maildir *m)
{
	if (m->now.list != NULL || names_read(&m->now, m->dirs) == DROP_OK)
		return 0;
	errno = EIO;
	return -1;
}

/*
 * Reads the names once more, because no name of the last pass has led to the
 * file. If seen is true, the last pass contained a name of the file, so another
 * program has renamed the file since. Returns true if the search can continue
 * with the new names. Returns false with errno if the search is over; errno is
 * ENOENT if the file is gone.
 */
static bool
look_again(struct maildir *m, struct search *s, bool seen)
{
	const bool patient = m->passes_left > 0;

	s->misses = seen ? 0 : s->misses + 1;
	if (names_is_current(m->dirs, m->now.seen) ||
	    s->looks >= (patient ? MAILDIR_TRIES : 1) ||
	    s->misses >= (patient ? NAMES_MISSES : 1)) {
		m->passes_left -= s->looks;
		errno = ENOENT;
		return false;
	}
	s->looks++;
	if (names_read(&m->now, m->dirs) == DROP_OK)
		return true;
	errno = EIO;
	return false;
}

int
files_locate(struct maildir *m, const struct record *r, struct location *where)
{
	const struct unique u = record_unique(r);
	struct search search = { 0 };
	bool seen;

	*where = (struct location){ .dir = m->dirs[r->directory],
		.name = r->name,
		.directory = r->directory };
	if (files_has(m, r->directory, r->name, r, &where->st))
		return 0;
	if (read_names_once(m) == -1)
		return -1;
	do {
		seen = false;
		for (const struct entry *e = names_find(&m->now, &u);
		     names_has(&m->now, e, &u); e++) {
			where->dir = m->dirs[e->directory];
			where->name = names_name(&m->now, e);
			where->directory = e->directory;
			if (files_has(m, e->directory, where->name, r,
				&where->st))
				return 0;
			seen |= e->inode == r->listed;
		}
	} while (look_again(m, &search, seen));
	return -1;
}

/*
 * Opens a file for reading. Follows no symlink and does not wait at a FIFO.
 * Returns its descriptor, or -1 with errno.
 */
static int
open_name(int dir, const char *name)
{
	int fd = openat(dir, name,
	    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd != -1)
		volume_forget(fd);
	/* Another host has renamed or removed the file. */
	else if (errno == ESTALE)
		errno = ENOENT;
	return fd;
}

/*
 * Finds the entry of m->now with this unique name and inode. Returns NULL if
 * there is none.
 */
static const struct entry *
find_entry(const struct maildir *m, const struct unique *u, ino_t inode)
{
	for (const struct entry *e = names_find(&m->now, u);
	     names_has(&m->now, e, u); e++)
		if (e->inode == inode)
			return e;
	return NULL;
}

/*
 * Opens the file of an entry, even if the file was renamed meanwhile. Returns
 * the file's descriptor, or -1 with errno.
 */
static int
open_entry(struct maildir *m, const struct unique *u, const struct entry *e)
{
	int fd = open_name(m->dirs[e->directory], u->name);
	struct search search = { 0 };
	const ino_t inode = e->inode;

	if (fd != -1 || errno != ENOENT || read_names_once(m) == -1)
		return fd;
	do {
		if ((e = find_entry(m, u, inode)) == NULL)
			continue;
		fd = open_name(m->dirs[e->directory], names_name(&m->now, e));
		if (fd != -1 || errno != ENOENT)
			return fd;
	} while (look_again(m, &search, e != NULL));
	return -1;
}

int
files_open(struct maildir *m, const struct record *r, struct location *where)
{
	for (int tries = 0; tries < MAILDIR_TRIES; tries++) {
		int fd;

		if (files_locate(m, r, where) == -1)
			return -1;
		if ((fd = open_name(where->dir, where->name)) == -1 &&
		    errno != ENOENT)
			return -1;
		if (fd != -1 && volume_ask(fd) == 0 &&
		    fstat(fd, &where->st) == 0 && where->st.st_ino == r->inode)
			return fd;
		if (fd != -1)
			close(fd);
	}
	errno = ENOENT;
	return -1;
}

/*
 * Reads at most `size` bytes of the open file. Stores the number of bytes and
 * their wire size in *r. Returns 0, or -1 with errno.
 */
static int
count_wire_size(int fd, off_t size, struct record *r)
{
	static char buffer[PIECE];
	struct lines lines = LINES_BEGIN;
	uint64_t bare = 0;
	ssize_t n;

	r->size = 0;
	while (r->size < size) {
		n = read(fd, buffer, sizeof(buffer));
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return -1;
		if (n == 0)
			break;
		bare += lines_bare(&lines, buffer, (size_t)n);
		r->size += n;
	}
	r->wire_size =
	    (uint64_t)r->size + bare + (lines_at_begin(&lines) ? 0 : 2);
	return 0;
}

int
files_count(int fd, struct record *r, struct stat *st)
{
	struct fingerprint s;

	/*
	 * Take the times before reading, so that the next comparison notices a
	 * change during the reading.
	 */
	if (fingerprint_take_stat(&s, st, fd) == -1)
		return -1;
	r->inode = st->st_ino;
	r->mtime = fingerprint_ns(&st->st_mtim);
	r->ctime = fingerprint_ns(&st->st_ctim);
	r->stable = (uint8_t)s.stable;
	return S_ISREG(st->st_mode) ? count_wire_size(fd, st->st_size, r) : 0;
}

/*
 * Fills the record of a message that cannot be read. Takes the size in *st as
 * the wire size; that size is 0 if the file could not be opened. The message is
 * counted when it is fetched. Such a message must be listed, too. If it were
 * left out, clients that keep mail on the server would forget the message, and
 * fetch it once more when it can be read. If such a message made the login
 * fail, one damaged file would block all other messages.
 */
static void
guess_wire_size(struct record *r, const struct stat *st)
{
	r->inode = st->st_ino;
	r->size = st->st_size;
	r->wire_size = (uint64_t)st->st_size;
	r->stable = 0;
}

/*
 * Decides by errno whether a file that could not be opened is a message. Fills
 * *r if the file is a message.
 */
static enum files_finding
judge_unopened(const struct entry *e, struct record *r)
{
	const struct stat st = { .st_ino = e->inode };

	switch (errno) {
	case ENOENT:
		return FILES_GONE;
	case EACCES:
	case EPERM:
	case ELOOP:
		return FILES_NOT_A_MESSAGE;
	case EIO:
	case EUCLEAN:
	case EBADMSG:
		/* If *r is from the earlier list, it is better than a guess. */
		if (r->inode == 0)
			guess_wire_size(r, &st);
		r->listed = e->inode;
		r->stable = 0;
		return FILES_UNREADABLE;
	default:
		return FILES_TROUBLE;
	}
}

enum files_finding
files_examine(struct maildir *m, const struct names *l, const struct entry *e,
    struct record *r)
{
	const struct unique u = names_unique(l, e);
	int error, fd = open_entry(m, &u, e);
	enum files_finding result = FILES_FOUND;
	struct stat st = { .st_mode = 0 };

	if (fd == -1)
		return judge_unopened(e, r);
	if (files_count(fd, r, &st) == -1)
		result = S_ISREG(st.st_mode) ? FILES_UNREADABLE : FILES_TROUBLE;
	else if (!S_ISREG(st.st_mode))
		result = FILES_NOT_A_MESSAGE;
	error = errno;
	if (result == FILES_UNREADABLE)
		guess_wire_size(r, &st);
	close(fd);
	errno = error;
	r->listed = e->inode;
	return result;
}
