/*
 * Serves the messages in one mbox spool file.
 *
 * Runs as the owner of the mailbox. Nothing in the file is trusted: lines may
 * be of any length, NULs are ordinary bytes, and other programs may write at
 * any time. The file is never mapped, because a truncation by another program
 * would raise SIGBUS. The file is not copied to read it, and is written only to
 * remove messages.
 *
 * The code of this format is in these files. Each file calls only files that
 * are listed below it:
 *
 *	mbox.c           the operations of store.h: opens the mailbox, fetches
 *	mbox-remove.c    removes the marked messages
 *	mbox-find.c      finds a listed message in the file as it is now
 *	mbox-cache.c     keeps the list between sessions (see mbox-list.c for
 *	                 the files of the list)
 *	mbox-ranges.c    removes ranges of bytes so that a crash loses nothing
 *	mbox-redo.c      finishes a removal, also after a crash
 *	mbox-journal.c   the journal file of a removal, and the proof; with
 *	                 mbox-journal-names.c
 *	mbox-spool.c     opens and locks the file
 *	mbox-scan.c      finds the messages in the file; with mbox-boundary.c,
 *	                 mbox-fields.c, mbox-from.c, mbox-hash.c, mbox-lines.c
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lock-session.h"
#include "log.h"
#include "mbox-boundary.h"
#include "mbox-cache.h"
#include "mbox-find.h"
#include "mbox-from.h"
#include "mbox-number.h"
#include "mbox-redo.h"
#include "mbox-remove.h"
#include "mbox-spool.h"
#include "mbox.h"
#include "volume.h"

#define LOOK_BYTES 65536 /* bytes that mbox_look reads, at most */
#define LOOK_TRIES 30    /* tenths of a second that mbox_look waits, at most */

/*
 * Opens and locks the spool, and finishes a removal that a crash interrupted.
 * Sets *aside to true if the journal was set aside. Returns as
 * spool_open_locked does. Also returns DROP_FAILED if the mailbox cannot be
 * used yet, for example because an interrupted removal must be finished and
 * this login may only read.
 */
static enum drop_error
open_recovered(struct mbox *m, const struct store_place *place, bool *aside)
{
	bool pending = redo_is_pending(place->state);
	enum drop_error error;
	int result = 0;

	m->place = *place;
	if (pending && place->read_only) {
		log_failed_at(LOG_NOTICE, "this login may only read",
		    "finishing an interrupted removal");
		return DROP_FAILED;
	}
	if ((error = spool_open_locked(m, pending)) != DROP_OK)
		return error;
	if (pending) {
		const struct journal_box box =
		    journal_box_make(place->state, m->fd, place->dir);

		result = redo_recover(&box);
	}
	*aside = result == 1;
	if (result != -1)
		return DROP_OK;
	spool_leave_locked(m);
	return DROP_FAILED;
}

static enum drop_error
refuse_scan(enum scan_result result)
{
	if (result == SCAN_FOREIGN) {
		log_failed_at(LOG_ERR, "it does not begin with a From line",
		    "reading the mailbox");
		return DROP_DENIED;
	}
	log_failed("reading the mailbox");
	return DROP_FAILED;
}

/*
 * Brings the list of the locked spool up to date. Makes a list if have_list is
 * false.
 */
static enum drop_error
list_spool(struct mbox *m, bool have_list)
{
	const struct list_source source = spool_source(m);
	enum scan_result result = SCAN_DONE;
	struct fingerprint now;

	if (fingerprint_take(&now, m->fd) == -1)
		fatal("fstat of the mailbox");
	m->list.source = source;
	if (!have_list)
		result = cache_make(&m->list, &source, &now, NULL);
	else if (!cache_is_current(&m->list, &now))
		result = cache_update(&m->list, &now);
	return result == SCAN_DONE ? DROP_OK : refuse_scan(result);
}

/*
 * Opens the spool without a lock, so that the session waits for no other
 * program. Sets *known to true if the spool's fingerprint matches the saved
 * list. In this case the session uses the saved list. If the fingerprint does
 * not match, closes the spool.
 */
static enum drop_error
open_if_known(struct mbox *m, bool *known)
{
	struct fingerprint now;
	enum drop_error error = spool_open(m);

	*known = error == DROP_OK && m->fd != -1 &&
	    fingerprint_look(&now, m->fd) == 0 &&
	    cache_is_current(&m->list, &now);
	if (*known)
		m->list.source.fd = m->fd;
	if (m->fd != -1 && !*known)
		close(m->fd);
	return error;
}

/*
 * Decides whether an absent spool means that there is no mail. If the spool
 * existed at the last login, and its path now leads to another directory, the
 * spool's file system may not be mounted. In this case returns an error. In all
 * other cases there is no mail.
 */
static enum drop_error
judge_absence(const struct mbox *m, bool have_list)
{
	if (!have_list || !cache_is_elsewhere(&m->list))
		return DROP_OK;
	log_failed_at(LOG_ERR,
	    "there is none, and its directory is not the one of the last "
	    "login: is the file system mounted?",
	    "opening the mailbox");
	return DROP_FAILED;
}

/* Accepts an absent spool as a mailbox without mail, if judge_absence does. */
static enum drop_error
accept_absence(struct mbox *m, bool have_list)
{
	enum drop_error error = judge_absence(m, have_list);

	if (error != DROP_OK)
		return error;
	if (have_list) {
		/*
		 * The saved list must not record a directory, because the spool
		 * may still be absent at the next login. That login must accept
		 * the absence, too.
		 */
		m->list.source.dir = -1;
		cache_distrust(&m->list);
	}
	m->list =
	    (struct list){ .source = { .fd = -1, .state = -1, .dir = -1 } };
	return DROP_OK;
}

static enum drop_error
mbox_open(const struct store_place *place, void **box)
{
	struct mbox *m = calloc(1, sizeof(*m));
	enum drop_error error = DROP_OK;
	bool have_list, known = false, aside;
	struct list_source source;

	if (m == NULL)
		fatal("calloc");
	*box = m;
	m->fd = -1;
	m->place = *place;
	source = spool_source(m);
	have_list = cache_load(&m->list, &source);
	if (have_list && !redo_is_pending(place->state))
		error = open_if_known(m, &known);
	if (error != DROP_OK)
		return error;
	if (!known && (error = open_recovered(m, place, &aside)) != DROP_OK)
		return error;
	if (m->fd == -1)
		error = accept_absence(m, have_list);
	else if (!known)
		error = list_spool(m, have_list);
	if (!known)
		spool_unlock(m);
	m->listed = m->list.note.mailbox;
	return error;
}

/* Does nothing with a message that scan_messages has found. */
static void
ignore_message(void *self, const struct scan_message *m)
{
	(void)self;
	(void)m;
}

/*
 * Returns true if the spool has only the first letters of a "From " line: an
 * MDA is writing the first message. procmail writes the F and waits a second.
 */
static bool
is_begun(int fd)
{
	char text[FROM_SIZE];
	ssize_t n = pread(fd, text, sizeof(text), 0);

	return n > 0 && n < (ssize_t)FROM_SIZE &&
	    memcmp(text, FROM_WORD, (size_t)n) == 0;
}

/*
 * Reads the beginning of the spool, which is not locked. Returns an error
 * (logged) if it is not an mbox.
 */
static enum drop_error
look_at_beginning(int fd)
{
	enum scan_result result;
	off_t end;

	for (int i = 0; i < LOOK_TRIES && is_begun(fd); i++)
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	result =
	    scan_messages(fd, 0, LOOK_BYTES, true, ignore_message, NULL, &end);
	return result == SCAN_DONE ? DROP_OK : refuse_scan(result);
}

static enum drop_error
mbox_look(const struct store_place *place)
{
	struct mbox m = { .fd = -1, .place = *place };
	const struct list_source source = spool_source(&m);
	bool have_list = cache_load(&m.list, &source);
	enum drop_error error = spool_open(&m);

	if (error != DROP_OK)
		return error;
	if (m.fd != -1)
		return look_at_beginning(m.fd);
	if (place->state != -1 && redo_accept_absence(place->state) == -1)
		return DROP_FAILED;
	return judge_absence(&m, have_list);
}

static enum drop_error
mbox_recover(const struct store_place *place)
{
	struct mbox m = { .fd = -1 };
	bool aside = false;
	enum drop_error error = open_recovered(&m, place, &aside);

	if (error == DROP_OK)
		spool_unlock(&m);
	return aside ? DROP_CHANGED : error;
}

static enum drop_error
mbox_adopt(const struct store_place *place, int shared)
{
	struct stat st;

	if (!redo_is_pending(shared))
		return DROP_OK;
	if (fstatat(place->dir, place->name, &st, AT_SYMLINK_NOFOLLOW) == -1) {
		log_failed_at(LOG_ERR,
		    errno == ENOENT ?
			"there is no mailbox: is its file system mounted?" :
			NULL,
		    "taking over a removal that an earlier version did not "
		    "finish");
		return DROP_FAILED;
	}
	if (redo_adopt(shared, place->state, st.st_ino) == -1)
		return DROP_FAILED;
	return DROP_OK;
}

/*
 * Takes over the journals that were made under another path of this spool.
 * Meanwhile holds the session lock in the state directory of that path, so that
 * no other process finishes the removal.
 */
static enum drop_error
follow_locked(struct mbox *m, int other)
{
	const struct journal_box box =
	    journal_box_make(m->place.state, m->fd, m->place.dir);
	struct lock_session lock;
	int result;

	if (lock_session(other, NULL, &lock) == -1) {
		enum drop_error error =
		    errno == EAGAIN ? DROP_BUSY : DROP_FAILED;

		log_failed_at(error == DROP_BUSY ? LOG_NOTICE : LOG_ERR, NULL,
		    "locking another path's session to finish its removal");
		return error;
	}
	result = redo_follow(other, &box);
	lock_session_release(&lock);
	return result == 0 ? DROP_OK : DROP_FAILED;
}

static enum drop_error
mbox_follow(const struct store_place *place, int other)
{
	struct mbox m = { .fd = -1, .place = *place };
	enum drop_error error;
	struct stat st;

	if (!redo_is_pending(other))
		return DROP_OK;
	if ((error = spool_open(&m)) != DROP_OK || m.fd == -1)
		return error;
	if (fstat(m.fd, &st) == 0 && redo_is_of(other, st.st_ino))
		error = follow_locked(&m, other);
	close(m.fd);
	return error;
}

static size_t
mbox_count(const void *box)
{
	return ((const struct mbox *)box)->list.count;
}

static uint64_t
mbox_total(const void *box)
{
	return ((const struct mbox *)box)->list.note.wire_size;
}

static uint64_t
mbox_wire_size(void *box, size_t i)
{
	return find_listed(box, i).found.wire_size;
}

static void
mbox_uidl(void *box, size_t i, char id[UIDL_SIZE])
{
	const struct list_message one = find_listed(box, i);

	number_uidl(&one, id);
}

/*
 * Returns the size, with the line end, of the "From " line at the offset `at`
 * of fd. Returns 0 if no "From " line is there. `end` is the offset where the
 * message ends.
 */
static off_t
from_line_size(int fd, off_t at, off_t end)
{
	char text[512];
	off_t from = at;

	while (at < end) {
		ssize_t n = pread(fd, text, sizeof(text), at);
		const char *lf = NULL;

		if (n > 0)
			lf = memchr(text, '\n', (size_t)n);
		if (at == from && (n <= 0 || !from_begins(text, (size_t)n)))
			return 0;
		if (lf != NULL)
			return at + (lf + 1 - text) - from;
		if (n <= 0)
			break;
		at += n;
	}
	return end - from;
}

/*
 * Returns true if the message *one has a body, even if the body is only one
 * empty line. If the list proves that the body has text, does not read the
 * file. Reading the header once more would cost more than the rest of
 * mbox_fetch.
 */
static bool
has_body_lines(const struct mbox *m, const struct list_message *one,
    bool certain)
{
	return (certain && one->found.header < LIST_HEADER_MOST &&
		   list_body_wire_size(one) > 0) ||
	    scan_has_body(m->fd, one->found.at, one->end);
}

static enum drop_error
mbox_fetch(void *box, size_t i, struct span *s)
{
	struct mbox *m = box;
	struct list_message *one = &m->fetched;
	enum drop_error error;
	off_t size, line, from, empty;
	struct stat now;
	bool certain;

	if (volume_ask(m->fd) == -1)
		return errno == ESTALE ? DROP_CHANGED : DROP_FAILED;
	if (fstat(m->fd, &now) == -1 ||
	    fingerprint_take(&m->at_fetch, m->fd) == -1)
		return DROP_FAILED;
	size = now.st_size;
	error = find_message(m, i, &size, one, &certain);
	if (error != DROP_OK)
		return error;
	/*
	 * The mailbox may be larger now, because an MDA has begun to write its
	 * message, perhaps only the letter F. So do not look after this size.
	 */
	line = from_line_size(m->fd, one->found.at, one->end);
	if (line == 0 || !boundary_is_at(m->fd, one->end, size, &empty))
		return DROP_CHANGED;
	from = one->found.at + line;
	/*
	 * If the message has no body, its last line is the empty line that ends
	 * the header. This line belongs to the message.
	 */
	if (empty > 0 && !has_body_lines(m, one, certain))
		empty = 0;
	*s = (struct span){
		.fd = m->fd, .at = from, .wire_size = one->found.wire_size
	};
	if (one->end - empty > from)
		s->bytes = (uint64_t)(one->end - empty - from);
	return DROP_OK;
}

static void
mbox_prologue(void *box, struct span *s)
{
	const struct mbox *m = box;

	/* Message 1 was fetched last, so its present offset is known. */
	*s = (struct span){ .fd = m->fd,
		.bytes = (uint64_t)m->fetched.found.at };
}

/*
 * find_is_certain can return true although at_fetch does not match. If the
 * clock was set back, at_fetch may not be stable although the list's
 * fingerprint is.
 */
static bool
mbox_is_unchanged(void *box, size_t i)
{
	struct mbox *m = box;
	struct fingerprint now;
	off_t size;

	if (volume_ask(m->fd) == -1 || fingerprint_look(&now, m->fd) == -1)
		return false;
	return fingerprint_matches(&m->at_fetch, &now) ||
	    find_is_certain(m, i) ||
	    find_is_in_place(m, &m->fetched, (off_t)now.size) ||
	    find_in_place_locked(m, &m->fetched, &size) == DROP_OK;
}

/*
 * The listed size is wrong if another program has changed the message after it
 * was listed. If the file did not change while the message was sent, the sent
 * bytes are the message.
 */
static bool
mbox_accept_other_size(void *box, size_t i)
{
	struct mbox *m = box;
	struct fingerprint now;

	if (!mbox_is_unchanged(m, i) || fingerprint_look(&now, m->fd) == -1 ||
	    !fingerprint_same(&m->at_fetch, &now))
		return false;
	cache_distrust(&m->list);
	return true;
}

static enum drop_error
mbox_remove(void *box, const unsigned char *marks, size_t *removed)
{
	return remove_marked(box, marks, removed);
}

const struct store_ops mbox_store = {
	.name = "mbox",
	/*
	 * The session needs the right to the directory, because another program
	 * may make or replace the spool while the session waits for a lock.
	 */
	.directory_access = STORE_WRITE,
	.is_locked = true,
	.open = mbox_open,
	.look = mbox_look,
	.recover = mbox_recover,
	.adopt = mbox_adopt,
	.follow = mbox_follow,
	.unfinished = redo_is_pending,
	.count = mbox_count,
	.total = mbox_total,
	.wire_size = mbox_wire_size,
	.uidl = mbox_uidl,
	.prologue = mbox_prologue,
	.fetch = mbox_fetch,
	.is_unchanged = mbox_is_unchanged,
	.accept_other_size = mbox_accept_other_size,
	.remove = mbox_remove,
};
