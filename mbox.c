/*
 * Finds, reads and removes messages in one spool file, each after a line "From …".
 *
 * Runs as the owner of the mailbox. Nothing in the file is trusted: lines may
 * be of any length, NULs are ordinary bytes, and other programs may write at
 * any time. The file is never mapped (another's truncate would be a SIGBUS),
 * never copied, and never written but to remove messages (mbox-journal.c).
 *
 * Which messages there are is mbox-list.c's to know, what a message is mbox-scan.c's.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mbox-journal.h"
#include "mbox-list.h"
#include "lock-session.h"
#include "lock-spool.h"
#include "log.h"
#include "store.h"

/* A list of the mailbox as it is now, made when a message is not where the session's list has it. */
struct fresh {
	bool exists;
	struct fingerprint seen;
	struct list list;
	struct list_ids *ids, *bodies;
	unsigned char *used; /* one bit for each message that a removal has taken; NULL: not in a removal */
};

struct mbox {
	struct store_place place;
	int fd;              /* -1: there is no spool, hence no mail */
	struct fingerprint seen;   /* when the list was true */
	bool is_removing;    /* the mailbox is locked to write */
	struct list list;
	struct list_ids *ids;    /* NULL: not needed yet */
	struct list_ids *bodies; /* messages by headers and bodies; NULL: not needed yet */
	struct fresh fresh;
	struct list_message fetched; /* the message that was fetched last */
	struct fingerprint fetched_at;     /* the mailbox then */
};

static enum drop_error
deny(const char *why)
{
	log_event(LOG_ERR, "failed", "what=\"opening the mailbox\" error=\"%s\"", why);
	return DROP_DENIED;
}

static enum drop_error
deny_by_errno(void)
{
	int error = errno;

	deny(strerror(error));
	return store_error(error);
}

/* The spool itself: only a regular file of this user with one name. Absent is fine. */
static enum drop_error
open_spool(struct mbox *m)
{
	struct stat st;

	m->fd = openat(m->place.dir, m->place.name, O_RDWR | O_NOFOLLOW | O_NONBLOCK |
	    O_NOCTTY | O_CLOEXEC | O_NOATIME);
	if (m->fd == -1)
		return errno == ENOENT ? DROP_OK : deny_by_errno();
	if (fstat(m->fd, &st) == -1)
		return deny_by_errno();
	if (!S_ISREG(st.st_mode))
		return deny("it is not a regular file");
	if (st.st_uid != geteuid())
		return deny("it has another owner");
	if (st.st_nlink > 1)
		return deny("it has more than one link");
	return DROP_OK;
}

/* Whether the spool's name still leads to the file that is open. */
static bool
still_there(const struct mbox *m)
{
	struct stat named, opened;

	return fstatat(m->place.dir, m->place.name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	    fstat(m->fd, &opened) == 0 && named.st_dev == opened.st_dev &&
	    named.st_ino == opened.st_ino;
}

static enum drop_error
lock(const struct mbox *m, bool to_write)
{
	if (lock_spool(m->place.locks, m->fd, to_write) == 0)
		return DROP_OK;
	log_event(errno == EAGAIN ? LOG_NOTICE : LOG_ERR, "failed",
	    "what=\"locking the mailbox\" error=\"%s\"", strerror(errno));
	return errno == EAGAIN ? DROP_BUSY : DROP_FAILED;
}

static void
unlock(const struct mbox *m)
{
	if (m->fd != -1)
		lock_spool_release(m->place.locks, m->fd);
}

/*
 * Leaves the locks to the monitor and the recovery that it starts, because no
 * other program may read the spool before. Without a monitor it gives them back.
 */
static void
hand_over(const struct mbox *m)
{
	if (m->place.locks->session == -1)
		unlock(m);
}

/* Opens and locks the spool, again if another file took its name meanwhile. */
static enum drop_error
open_locked(struct mbox *m, bool to_write)
{
	enum drop_error error;

	for (int tries = 0; tries < 5; tries++) {
		if ((error = open_spool(m)) != DROP_OK || m->fd == -1 ||
		    (error = lock(m, to_write)) != DROP_OK || still_there(m))
			return error;
		unlock(m);
		close(m->fd);
	}
	log_event(LOG_ERR, "failed", "what=\"opening the mailbox\" "
	    "error=\"it is being replaced again and again\"");
	return DROP_FAILED;
}

/* Opens the spool, locks it, and finishes what a crash left of a removal. *aside: its journal was set aside. */
static enum drop_error
open_recovered(struct mbox *m, const struct store_place *place, bool *aside)
{
	bool pending = journal_pending(place->state);
	enum drop_error error;
	int result = 0;

	m->place = *place;
	if ((error = open_locked(m, pending)) != DROP_OK)
		return error;
	if (pending)
		result = journal_recover(&(struct journal_box){ place->state, m->fd, place->dir });
	*aside = result == 1;
	if (result != -1)
		return DROP_OK;
	hand_over(m);
	return DROP_FAILED;
}

static enum drop_error
deny_scan(enum scan_result result)
{
	if (result == SCAN_FOREIGN) {
		log_event(LOG_ERR, "failed", "what=\"reading the mailbox\" "
		    "error=\"it does not begin with a From line\"");
		return DROP_DENIED;
	}
	log_event(LOG_ERR, "failed", "what=\"reading the mailbox\" error=\"%s\"",
	    strerror(errno));
	return DROP_FAILED;
}

static struct list_source
source_of(const struct mbox *m)
{
	return (struct list_source){ .fd = m->fd, .state = m->place.state, .dir = m->place.dir,
		.quoted = m->place.quoted };
}

/* Makes the list of the locked spool true, or makes a new one. */
static enum drop_error
find_messages(struct mbox *m, bool have_list)
{
	const struct list_source source = source_of(m);
	enum scan_result result = SCAN_DONE;
	struct fingerprint now;

	if (fingerprint_take(&now, m->fd) == -1)
		fatal("fstat of the mailbox");
	m->list.source = source;
	if (!have_list)
		result = list_make(&m->list, &source, &now, NULL);
	else if (!list_is_current(&m->list, &now))
		result = list_update(&m->list, &now);
	return result == SCAN_DONE ? DROP_OK : deny_scan(result);
}

/*
 * Opens the spool, and uses the list that was kept if the spool's stamp proves
 * it. Then no other program has to be waited for.
 */
static enum drop_error
open_as_known(struct mbox *m, bool *known)
{
	struct fingerprint now;
	enum drop_error error = open_spool(m);

	*known = error == DROP_OK && m->fd != -1 && fingerprint_look(&now, m->fd) == 0 &&
	    list_is_current(&m->list, &now);
	if (*known)
		m->list.source.fd = m->fd;
	if (m->fd != -1 && !*known)
		close(m->fd);
	return error;
}

/*
 * Decides what an absent spool means. If it was there last time, and in another
 * directory, its file system may not be mounted, and the client must not be
 * told that there is no mail. Otherwise another program has removed it.
 */
static enum drop_error
open_absent(struct mbox *m, bool have_list)
{
	if (have_list && list_is_elsewhere(&m->list)) {
		log_event(LOG_ERR, "failed", "what=\"opening the mailbox\" error=\"there is none, and its "
		    "directory is another one than last time: is the file system mounted?\"");
		return DROP_FAILED;
	}
	if (have_list) {
		/* Without a directory: next time it may be absent anywhere. */
		m->list.source.dir = -1;
		list_distrust(&m->list);
	}
	m->list = (struct list){ .source = { .fd = -1, .state = -1, .dir = -1 } };
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
	source = source_of(m);
	have_list = list_load(&m->list, &source);
	if (have_list && !journal_pending(place->state))
		error = open_as_known(m, &known);
	if (error != DROP_OK)
		return error;
	if (!known && (error = open_recovered(m, place, &aside)) != DROP_OK)
		return error;
	if (m->fd == -1)
		error = open_absent(m, have_list);
	else if (!known)
		error = find_messages(m, have_list);
	if (!known)
		unlock(m);
	m->seen = m->list.note.stamp;
	return error;
}

static enum drop_error
mbox_recover(const struct store_place *place)
{
	struct mbox m = { .fd = -1 };
	bool aside = false;
	enum drop_error error = open_recovered(&m, place, &aside);

	if (error == DROP_OK)
		unlock(&m);
	return aside ? DROP_CHANGED : error;
}

static enum drop_error
mbox_adopt(const struct store_place *place, int shared)
{
	struct stat st;

	if (!journal_pending(shared))
		return DROP_OK;
	if (fstatat(place->dir, place->name, &st, AT_SYMLINK_NOFOLLOW) == -1) {
		log_event(LOG_ERR, "failed", "what=\"taking over a removal that an earlier version did not finish\" "
		    "error=\"%s\"", errno == ENOENT ? "there is no mailbox: is its file system mounted?" : strerror(errno));
		return DROP_FAILED;
	}
	return journal_adopt(shared, place->state, st.st_ino) == 0 ? DROP_OK : DROP_FAILED;
}

/* Takes over the removal of a session that knew this spool by another path, which nothing else may be finishing. */
static enum drop_error
mbox_follow(const struct store_place *place, int other)
{
	struct mbox m = { .fd = -1, .place = *place };
	struct lock_session lock;
	enum drop_error error;
	struct stat st;
	int result;

	if (!journal_pending(other))
		return DROP_OK;
	if ((error = open_spool(&m)) != DROP_OK || m.fd == -1)
		return error;
	if (fstat(m.fd, &st) == -1 || !journal_is_of(other, st.st_ino)) {
		close(m.fd);
		return DROP_OK;
	}
	if (lock_session(other, NULL, &lock) == -1) {
		error = errno == EAGAIN ? DROP_BUSY : DROP_FAILED;
		log_event(error == DROP_BUSY ? LOG_NOTICE : LOG_ERR, "failed",
		    "what=\"locking another path's session to finish its removal\" error=\"%s\"", strerror(errno));
		close(m.fd);
		return error;
	}
	result = journal_follow(other, &(struct journal_box){ place->state, m.fd, place->dir });
	lock_session_release(&lock);
	close(m.fd);
	return result == 0 ? DROP_OK : DROP_FAILED;
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

/* Makes a damaged list again, which must give the same messages, because the clients' numbers for them cannot change now. */
static void
mend(struct mbox *m)
{
	struct list_source source = source_of(m);
	struct list new;
	struct fingerprint now;
	bool same;

	log_event(LOG_NOTICE, "index", "error=\"damaged, the mailbox is read again\"");
	list_distrust(&m->list);
	source.state = -1;
	errno = EIO;
	/* To lock and unlock again would end the lock that the removal needs. */
	if (m->is_removing)
		fatal("the index was damaged while the mailbox was locked");
	if (lock(m, false) != DROP_OK)
		fatal("locking the mailbox to mend its index");
	same = fingerprint_take(&now, m->fd) == 0 && fingerprint_same(&m->seen, &now) &&
	    list_make(&new, &source, &now, &m->list) == SCAN_DONE &&
	    new.count == m->list.count && new.note.wire_size == m->list.note.wire_size;
	unlock(m);
	if (!same)
		fatal("mending the index: the mailbox has changed");
	index_free(m->list.index);
	m->list = new;
	if (m->ids != NULL)
		list_ids_free(m->ids);
	if (m->bodies != NULL)
		list_ids_free(m->bodies);
	m->ids = m->bodies = NULL;
}

/* Message i. */
static struct list_message
get(struct mbox *m, size_t i)
{
	struct list_message one;

	if (!list_get(&m->list, i, &one)) {
		mend(m);
		if (!list_get(&m->list, i, &one))
			fatal("the index cannot be mended");
	}
	return one;
}

static uint64_t
mbox_wire_size(void *box, size_t i)
{
	return get(box, i).found.wire_size;
}

/* Returns true if the file is surely what it was when the list was made. */
static bool
is_unchanged(const struct mbox *m)
{
	struct fingerprint now;

	return fingerprint_look(&now, m->fd) == 0 && fingerprint_matches(&m->seen, &now);
}

static void
mbox_uidl(void *box, size_t i, char id[UIDL_SIZE])
{
	struct mbox *m = box;
	struct list_message one;

	if (m->list.note.numbered != m->list.count)
		list_number(&m->list, is_unchanged(m));
	one = get(m, i);
	/* Mended meanwhile? */
	if (m->list.note.numbered != m->list.count) {
		list_number(&m->list, is_unchanged(m));
		one = get(m, i);
	}
	list_uidl(&one, id);
}

/* Returns true if other messages of the list have the same header. */
static bool
is_twin(struct mbox *m, const struct list_message *one)
{
	size_t first;

	if (m->list.note.numbered == m->list.count)
		return one->is_twin;
	if (m->ids == NULL)
		m->ids = list_ids(&m->list);
	first = list_first(m->ids, one->found.id);
	return first != SIZE_MAX && list_next(m->ids, first) != SIZE_MAX;
}

/* Returns true if the header of this message does not say which message it is. */
static bool
needs_body(struct mbox *m, const struct list_message *one)
{
	return one->found.weak || is_twin(m, one);
}

/* Returns true if the body at this place is the one that the list has. What it does not know it cannot find. */
static bool
has_body(const struct mbox *m, const struct list_message *one, off_t from, off_t to)
{
	uint64_t body;

	return one->found.body != 0 && scan_body(m->fd, from, to, &body) == 0 && body == one->found.body;
}

/*
 * Returns true if the list has another message with the same header and body.
 * Which of them is sent makes no difference, but as many as are not marked have
 * to stay.
 */
static bool
has_equal(struct mbox *m, const struct list_message *one)
{
	size_t first;

	if (one->found.body == 0 || !needs_body(m, one))
		return false;
	if (m->bodies == NULL)
		m->bodies = list_bodies(&m->list);
	first = list_first_body(m->bodies, one->found.id, one->found.body);
	return first != SIZE_MAX && list_next(m->bodies, first) != SIZE_MAX;
}

/*
 * Returns true if message one is still in its place: its header, what follows
 * it, and its body if the header could be another message's, too. Otherwise the
 * body is not read: a removal shall cost what it moves.
 */
static bool
is_itself(struct mbox *m, const struct list_message *one, off_t size)
{
	return list_is_in_place(&m->list, one, size) &&
	    (!needs_body(m, one) || has_body(m, one, one->found.at, one->end));
}

/* Returns true if nothing needs to be compared: message i was listed, and the file has not changed since. */
static bool
is_sure(const struct mbox *m, size_t i)
{
	return list_is_sure(&m->list, i) && is_unchanged(m);
}

/*
 * Returns true if message one begins and ends in the file where the list has
 * it. This is looked at even if the spool's stamp is the list's: a list that
 * was forged, or is older than a power failure, does not fit.
 */
static bool
has_borders(const struct mbox *m, const struct list_message *one, off_t size)
{
	char from[SCAN_FROM_SIZE];
	off_t empty;

	return pread(m->fd, from, sizeof(from), one->found.at) == (ssize_t)sizeof(from) &&
	    memcmp(from, SCAN_FROM, sizeof(from)) == 0 && scan_is_border(m->fd, one->end, size, &empty);
}

/* Discards the fresh list, if there is one. */
static void
discard_fresh(struct fresh *f)
{
	if (!f->exists)
		return;
	index_free(f->list.index);
	list_ids_free(f->ids);
	list_ids_free(f->bodies);
	f->exists = false;
}

/*
 * Makes a list of the mailbox as it is now, unless there is one. locked: the
 * mailbox is locked already. Later sessions have the new list.
 */
static enum drop_error
look_afresh(struct mbox *m, bool locked)
{
	struct fresh *f = &m->fresh;
	struct list_source source = source_of(m);
	enum scan_result result;
	enum drop_error error = DROP_OK;
	struct fingerprint now;

	if (f->exists && fingerprint_look(&now, m->fd) == 0 && fingerprint_same(&f->seen, &now))
		return DROP_OK;
	discard_fresh(f);
	if (!locked && (error = lock(m, false)) != DROP_OK)
		return error;
	/* The session's list is not kept any more. */
	list_distrust(&m->list);
	if (fingerprint_take(&f->seen, m->fd) == -1)
		fatal("fstat of the mailbox");
	/* Not logged here: a client can ask for this again and again. */
	if ((result = list_make(&f->list, &source, &f->seen, &m->list)) != SCAN_DONE)
		error = result == SCAN_FOREIGN ? DROP_CHANGED : DROP_FAILED;
	if (!locked)
		unlock(m);
	if (error != DROP_OK)
		return error;
	f->ids = list_ids(&f->list);
	f->bodies = list_bodies(&f->list);
	f->exists = true;
	return DROP_OK;
}

/* Returns the bytes of the message's body, without the empty line before it. */
static uint64_t
body_wire_size(const struct list_message *one)
{
	uint64_t n = one->found.wire_size - one->found.header;

	return n > 2 ? n - 2 : 0;
}

/* Returns true if candidate, of the fresh list, is message one of the session's list. sole: no other has its header. */
static bool
is_same(struct mbox *m, const struct list_message *one, struct list_message *candidate, bool sole)
{
	if (!sole || needs_body(m, one))
		return has_body(m, one, candidate->found.at, candidate->end);
	/* What has got more text since, like half a message with another after it, is not the same. */
	return body_wire_size(candidate) == body_wire_size(one);
}

/* Returns true if a removal has taken message i of the fresh list already. */
static bool
is_taken(const struct fresh *f, size_t i)
{
	return f->used != NULL && store_marked(f->used, i);
}

/*
 * Returns the first message of the fresh list with this header and body that is
 * free, or the last one. The messages before it leave the table, otherwise each
 * search would pass them again.
 */
static size_t
first_free(struct fresh *f, const struct list_message *one)
{
	size_t next, i = list_first_body(f->bodies, one->found.id, one->found.body);

	while (i != SIZE_MAX && is_taken(f, i) && (next = list_next(f->bodies, i)) != SIZE_MAX) {
		list_take(f->bodies, i);
		i = next;
	}
	return i;
}

/* Returns true if message i of the fresh list is message one, and free; *where is that message then. sole: as in is_same. */
static bool
is_found(struct mbox *m, const struct list_message *one, size_t i, struct list_message *where, bool sole)
{
	return i != SIZE_MAX && !is_taken(&m->fresh, i) && list_get(&m->fresh.list, i, where) &&
	    memcmp(where->found.id, one->found.id, UIDL_HASH) == 0 && is_same(m, one, where, sole);
}

/* Finds message one, which is not in its place, in the mailbox as it is now. Returns OK, CHANGED if it is not there, or why not, with errno. */
static enum drop_error
relocate(struct mbox *m, const struct list_message *one, bool locked, struct list_message *where)
{
	struct fresh *f = &m->fresh;
	enum drop_error error = look_afresh(m, locked);
	size_t i, at;
	bool sole;

	if (error != DROP_OK)
		return error;
	i = list_first(f->ids, one->found.id);
	sole = i != SIZE_MAX && list_next(f->ids, i) == SIZE_MAX;
	/* There may be a million with its header, so only those with its body are looked at. */
	if (!sole)
		i = first_free(f, one);
	/* Of equal ones it is the one that is where it was. */
	at = list_at(&f->list, one->found.at);
	if (is_found(m, one, at, where, sole))
		i = at;
	while (i != SIZE_MAX && !is_found(m, one, i, where, sole))
		i = sole ? SIZE_MAX : list_next(f->bodies, i);
	if (i == SIZE_MAX)
		return DROP_CHANGED;
	if (f->used != NULL) {
		f->used[i / 8] |= (unsigned char)(1 << i % 8);
		list_take(f->bodies, i);
	}
	return DROP_OK;
}

/*
 * Finds message one, which is not in its place, to send it. The fresh list may
 * be older than a change in the same tick of the clock, so the message is
 * compared there, too. Returns as relocate.
 */
static enum drop_error
look_for(struct mbox *m, const struct list_message *one, struct list_message *where)
{
	enum drop_error error = relocate(m, one, false, where);

	if (error != DROP_OK || m->fresh.seen.stable == 1 || is_itself(m, where, m->fresh.seen.size))
		return error;
	discard_fresh(&m->fresh);
	return relocate(m, one, false, where);
}

/* Finds where message i is in a file of this size: in its place, or moved. Stores in *sure if the list decided. Returns as relocate. */
static enum drop_error
find(struct mbox *m, size_t i, off_t size, struct list_message *where, bool *sure)
{
	struct list_message one;

	/* Of a mailbox that has grown only the new messages have to be numbered; a table of all would take longer. */
	if (!list_is_sure(&m->list, i) && m->list.note.numbered != m->list.count && is_unchanged(m))
		list_number(&m->list, true);
	*where = one = get(m, i);
	*sure = is_sure(m, i);
	if (*sure ? has_borders(m, &one, size) : is_itself(m, &one, size))
		return DROP_OK;
	*sure = false;
	return look_for(m, &one, where);
}

/* The bytes of the "From " line at this place, its end included; 0: there is none. */
static off_t
from_line(int fd, off_t at, off_t end)
{
	char text[512];
	off_t from = at;

	while (at < end) {
		ssize_t n = pread(fd, text, sizeof(text), at);
		const char *lf = n > 0 ? memchr(text, '\n', (size_t)n) : NULL;

		if (at == from && (n < (ssize_t)SCAN_FROM_SIZE || memcmp(text, SCAN_FROM, SCAN_FROM_SIZE) != 0))
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
 * Returns true if a message has a body, be it an empty line. The list decides
 * if it is sure that there is text, because reading the header a second time
 * would cost more than the rest of mbox_fetch.
 */
static bool
has_body_lines(const struct mbox *m, const struct list_message *one, bool sure)
{
	return (sure && one->found.header < LIST_HEADER_MOST && body_wire_size(one) > 0) ||
	    scan_has_body(m->fd, one->found.at, one->end);
}

static enum drop_error
mbox_fetch(void *box, size_t i, struct span *s)
{
	struct mbox *m = box;
	struct list_message *one = &m->fetched;
	enum drop_error error;
	struct stat now;
	off_t line, from, empty;
	bool sure;

	if (fstat(m->fd, &now) == -1 || fingerprint_take(&m->fetched_at, m->fd) == -1)
		return DROP_FAILED;
	if ((error = find(m, i, now.st_size, one, &sure)) != DROP_OK)
		return error;
	line = from_line(m->fd, one->found.at, one->end);
	if (line == 0 || fstat(m->fd, &now) == -1 || !scan_is_border(m->fd, one->end, now.st_size, &empty))
		return DROP_CHANGED;
	from = one->found.at + line;
	if (empty > 0 && !has_body_lines(m, one, sure))
		empty = 0;
	*s = (struct span){ .fd = m->fd, .at = from,
		.bytes = one->end - empty > from ? (uint64_t)(one->end - empty - from) : 0,
		.wire_size = one->found.wire_size };
	return DROP_OK;
}

static bool
mbox_stands(void *box, size_t i)
{
	struct mbox *m = box;
	struct fingerprint now;

	if (fingerprint_look(&now, m->fd) == -1)
		return false;
	/* The list's stamp may have settled though one that is taken now has not, because the clock was set back. */
	return fingerprint_matches(&m->fetched_at, &now) || is_sure(m, i) || is_itself(m, &m->fetched, (off_t)now.size);
}

/*
 * The list was wrong about the bytes: another program has changed the message
 * in its place since it was listed. If nothing has changed while it was sent,
 * what was sent is the message.
 */
static bool
mbox_recounted(void *box, size_t i)
{
	struct mbox *m = box;
	struct fingerprint now;

	if (fingerprint_look(&now, m->fd) == -1 || !fingerprint_same(&m->fetched_at, &now) || !mbox_stands(m, i))
		return false;
	list_distrust(&m->list);
	return true;
}

static int
compare_ranges(const void *a, const void *b)
{
	const struct journal_range *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

/* Returns true if messages may begin and end in a file of this size where these ranges do. */
static bool
have_borders(const struct mbox *m, const struct journal_range *ranges, size_t n, off_t size)
{
	off_t empty;

	for (size_t i = 0; i < n; i++) {
		bool goes_on = i > 0 && ranges[i - 1].to == ranges[i].from;

		if (!goes_on && ranges[i].from > 0 && !scan_is_border(m->fd, ranges[i].from, size, &empty))
			return false;
		if ((i + 1 == n || ranges[i].to != ranges[i + 1].from) &&
		    !scan_is_border(m->fd, ranges[i].to, size, &empty))
			return false;
	}
	return true;
}

/*
 * Finds the marked messages in their places. Returns how many, or SIZE_MAX if
 * one of them is elsewhere.
 */
static size_t
find_in_place(struct mbox *m, const unsigned char *marks, off_t size, struct journal_range *ranges)
{
	bool unchanged = is_unchanged(m);
	size_t n = 0;

	for (size_t i = 0; i < m->list.count; i++) {
		struct list_message one;

		if (!store_marked(marks, i))
			continue;
		one = get(m, i);
		/* Of equal messages another program may have removed one; then the next is in its place. */
		if ((!unchanged || !list_is_sure(&m->list, i)) && (!is_itself(m, &one, size) || has_equal(m, &one)))
			return SIZE_MAX;
		ranges[n++] = (struct journal_range){ one.found.at, one.end };
	}
	/* A list that was forged, or is older than a power failure, does not fit. */
	return have_borders(m, ranges, n, size) ? n : SIZE_MAX;
}

/* Lets each message that is not marked, and has an equal one, keep one of those that there are now. */
static void
reserve_equal(struct mbox *m, const unsigned char *marks)
{
	for (size_t i = 0; i < m->list.count; i++) {
		struct list_message one, where;

		if (store_marked(marks, i))
			continue;
		one = get(m, i);
		if (has_equal(m, &one))
			relocate(m, &one, true, &where);
	}
}

/* Finds the marked messages in the mailbox as it is now. Returns how many, in ascending order; *error: why not all. */
static size_t
find_moved(struct mbox *m, const unsigned char *marks, struct journal_range *ranges, enum drop_error *error)
{
	struct fresh *f = &m->fresh;
	size_t n = 0;

	/* The mailbox may have been changed once more in the same tick of the clock as before. */
	if (f->seen.stable != 1)
		discard_fresh(f);
	if ((*error = look_afresh(m, true)) != DROP_OK)
		return 0;
	if ((f->used = calloc(f->list.count / 8 + 1, 1)) == NULL)
		fatal("marks for %zu messages", f->list.count);
	reserve_equal(m, marks);
	for (size_t i = 0; i < m->list.count; i++) {
		struct list_message one, where;

		if (!store_marked(marks, i))
			continue;
		one = get(m, i);
		if (relocate(m, &one, true, &where) == DROP_OK)
			ranges[n++] = (struct journal_range){ where.found.at, where.end };
		else
			*error = DROP_CHANGED;
	}
	free(f->used);
	f->used = NULL;
	if (n > 0)
		qsort(ranges, n, sizeof(*ranges), compare_ranges);
	return n;
}

static enum drop_error
remove_locked(struct mbox *m, const unsigned char *marks, size_t *removed)
{
	const struct journal_box box = { m->place.state, m->fd, m->place.dir };
	enum drop_error error = DROP_OK;
	struct journal_range *ranges;
	struct stat now;
	bool unchanged = is_unchanged(m);
	size_t n;

	if (!still_there(m) || fstat(m->fd, &now) == -1) {
		log_event(LOG_WARNING, "failed", "what=\"removing messages\" "
		    "error=\"another program replaced the mailbox\"");
		return DROP_CHANGED;
	}
	if ((ranges = reallocarray(NULL, m->list.count, sizeof(*ranges))) == NULL)
		fatal("ranges of %zu messages", m->list.count);
	n = find_in_place(m, marks, now.st_size, ranges);
	if (n == SIZE_MAX) {
		unchanged = false;
		n = find_moved(m, marks, ranges, &error);
	}
	if (error != DROP_OK)
		log_event(LOG_WARNING, "failed", "what=\"removing messages\" "
		    "error=\"another program changed the mailbox\"");
	if (error != DROP_OK && error != DROP_CHANGED)
		return error;
	switch (journal_remove(&box, ranges, n)) {
	case JOURNAL_DONE:
		*removed = n;
		if (unchanged && n > 0)
			list_without(&m->list, marks);
		return error;
	case JOURNAL_LATER:
		*removed = n;
		return DROP_LATER;
	default:
		return DROP_FAILED;
	}
}

/*
 * Mends the list, if it is damaged, before the mailbox is locked to write. Of a
 * mailbox that may have changed the removal looks at all messages; otherwise at
 * those that are marked.
 */
static void
mend_for_removal(struct mbox *m, const unsigned char *marks)
{
	bool all = !is_unchanged(m) || m->list.note.assumed > 0;

	for (size_t i = 0; i < m->list.count; i++)
		if (all || store_marked(marks, i))
			get(m, i);
}

static enum drop_error
mbox_remove(void *box, const unsigned char *marks, size_t *removed)
{
	struct mbox *m = box;
	enum drop_error error;

	/* The ids of messages that go are remembered. */
	if (is_unchanged(m))
		list_number(&m->list, true);
	mend_for_removal(m, marks);
	if ((error = lock(m, true)) == DROP_OK) {
		m->is_removing = true;
		error = remove_locked(m, marks, removed);
		m->is_removing = false;
		if (error == DROP_LATER)
			hand_over(m);
		else
			unlock(m);
	}
	return error;
}

const struct store_ops mbox_store = {
	.name = "mbox",
	/* The directory and not the spool, because the spool may be made or replaced while the session waits for a lock. */
	.directory_access = STORE_WRITE,
	.is_locked = true,
	.open = mbox_open,
	.recover = mbox_recover,
	.adopt = mbox_adopt,
	.follow = mbox_follow,
	.unfinished = journal_pending,
	.count = mbox_count,
	.total = mbox_total,
	.wire_size = mbox_wire_size,
	.uidl = mbox_uidl,
	.fetch = mbox_fetch,
	.is_unchanged = mbox_stands,
	.accept_other_size = mbox_recounted,
	.remove = mbox_remove,
};
