/*
 * Finds, reads and removes messages in one spool file, each after a line "From …".
 *
 * Runs as the owner of the mailbox. Nothing in the file is trusted: lines may
 * be of any length, NULs are ordinary octets, and other programs may write at
 * any time. The file is never mapped (another's truncate would be a SIGBUS),
 * never copied, and never written but to remove messages (journal.c).
 *
 * Which messages there are is list.c's to know, what a message is scan.c's.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "journal.h"
#include "list.h"
#include "lock.h"
#include "log.h"
#include "store.h"

#define TWINS 100 /* messages with equal headers that are told apart in a mailbox that was changed */

struct mbox {
	struct store_place place;
	int fd;              /* -1: there is no spool, hence no mail */
	struct stamp seen;   /* when the list was true */
	struct list list;
	struct list_ids *ids; /* NULL: not needed yet */
};

static enum drop_error
deny(const char *why)
{
	log_event(LOG_ERR, "failed", "what=\"opening the mailbox\" error=\"%s\"", why);
	return DROP_DENIED;
}

/* The spool itself: only a regular file of this user with one name. Absent is fine. */
static enum drop_error
open_spool(struct mbox *m)
{
	struct stat st;

	m->fd = openat(m->place.dir, m->place.name, O_RDWR | O_NOFOLLOW | O_NONBLOCK |
	    O_NOCTTY | O_CLOEXEC | O_NOATIME);
	if (m->fd == -1)
		return errno == ENOENT ? DROP_OK : deny(strerror(errno));
	if (fstat(m->fd, &st) == -1)
		return deny(strerror(errno));
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
		unlock_spool(m->place.locks, m->fd);
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

/* Opens the spool, locks it, and finishes what a crash left of a removal. */
static enum drop_error
open_recovered(struct mbox *m, const struct store_place *place)
{
	bool pending = journal_pending(place->state);
	enum drop_error error;

	m->place = *place;
	if ((error = open_locked(m, pending)) != DROP_OK)
		return error;
	if (!pending || journal_recover(place->state, m->fd) == 0)
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

/* The list of the locked spool: m's if it is true or can be continued, else a new one. */
static enum drop_error
find_messages(struct mbox *m, bool have_list)
{
	enum scan_result result = SCAN_DONE;
	struct stamp now;

	if (stamp_take(&now, m->fd) == -1)
		fatal("fstat of the mailbox");
	if (!have_list)
		result = list_make(&m->list, m->place.state, m->fd, &now);
	else if (!list_is_current(&m->list, &now))
		result = list_update(&m->list, m->fd, &now);
	return result == SCAN_DONE ? DROP_OK : deny_scan(result);
}

/*
 * With the list that was kept: opens the spool and believes the list if the
 * spool's stamp proves it. Then nobody has to be waited for.
 */
static enum drop_error
open_as_known(struct mbox *m, bool *known)
{
	struct stamp now;
	enum drop_error error = open_spool(m);

	*known = error == DROP_OK && m->fd != -1 && stamp_look(&now, m->fd) == 0 &&
	    list_is_current(&m->list, &now);
	if (m->fd != -1 && !*known)
		close(m->fd);
	return error;
}

static enum drop_error
mbox_open(const struct store_place *place, void **box)
{
	struct mbox *m = calloc(1, sizeof(*m));
	enum drop_error error = DROP_OK;
	bool have_list, known = false;

	if (m == NULL)
		fatal("calloc");
	*box = m;
	m->place = *place;
	have_list = !journal_pending(place->state) && list_load(&m->list, place->state);
	if (have_list)
		error = open_as_known(m, &known);
	if (error != DROP_OK)
		return error;
	if (!known && (error = open_recovered(m, place)) != DROP_OK)
		return error;
	if (m->fd == -1)
		m->list = (struct list){ .state = -1 };
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
	enum drop_error error = open_recovered(&m, place);

	if (error == DROP_OK)
		unlock(&m);
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
	return ((const struct mbox *)box)->list.note.octets;
}

/* The list is damaged: it is made again, which must give the same messages. The clients' numbers for them cannot change now. */
static void
mend(struct mbox *m)
{
	struct list new;
	struct stamp now;
	bool same;

	log_event(LOG_NOTICE, "index", "error=\"damaged, the mailbox is read again\"");
	index_forget(m->place.state);
	errno = EIO;
	if (lock(m, false) != DROP_OK)
		fatal("locking the mailbox to mend its index");
	same = stamp_take(&now, m->fd) == 0 && stamp_same(&m->seen, &now) &&
	    list_make(&new, -1, m->fd, &now) == SCAN_DONE &&
	    new.count == m->list.count && new.note.octets == m->list.note.octets;
	unlock(m);
	if (!same)
		fatal("mending the index: the mailbox has changed");
	index_free(m->list.index);
	m->list = new;
	if (m->ids != NULL)
		list_ids_free(m->ids);
	m->ids = NULL;
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
mbox_octets(void *box, size_t i)
{
	return get(box, i).found.octets;
}

static void
mbox_uidl(void *box, size_t i, char id[UIDL_SIZE])
{
	struct mbox *m = box;
	struct list_message one;

	list_number(&m->list);
	one = get(m, i);
	/* Mended meanwhile? */
	if (m->list.note.numbered != m->list.count) {
		list_number(&m->list);
		one = get(m, i);
	}
	uidl_write(one.found.id, id);
	if (one.ordinal > 0)
		snprintf(id + UIDL_HASH_TEXT, UIDL_SIZE - UIDL_HASH_TEXT, ".%ju",
		    (uintmax_t)one.ordinal + 1);
}

/* The octets of the empty line that [text, text + n) ends with: 0 when there is none. What is before text is no line's end. */
static off_t
empty_line(const char *text, size_t n)
{
	if (n == 0 || text[n - 1] != '\n')
		return 0;
	if (n == 1 || text[n - 2] == '\n')
		return 1;
	return text[n - 2] == '\r' && (n == 2 || text[n - 3] == '\n') ? 2 : 0;
}

/*
 * Whether a message may end at this place of a file of this size; *empty is
 * the length of the empty line before it, which the last message need not have.
 */
static bool
is_boundary(int fd, off_t at, off_t size, off_t *empty)
{
	char text[3 + SCAN_FROM_SIZE];
	size_t before = at < 3 ? (size_t)at : 3;
	ssize_t n = pread(fd, text, before + SCAN_FROM_SIZE, at - (off_t)before);

	if (at > size || n < (ssize_t)before)
		return false;
	*empty = empty_line(text, before);
	return at == size || (n == (ssize_t)(before + SCAN_FROM_SIZE) && *empty > 0 &&
	    memcmp(text + before, SCAN_FROM, SCAN_FROM_SIZE) == 0);
}

/* Whether the file is surely what it was when the list was made. */
static bool
is_unchanged(const struct mbox *m)
{
	struct stamp now;

	return stamp_look(&now, m->fd) == 0 && stamp_proves(&m->seen, &now);
}

/*
 * Whether message i is still where it was: "From " at its place, a header that
 * gives its id, its boundary at its length. The body is not read: a removal
 * shall cost what it moves.
 */
static bool
is_in_place(struct mbox *m, size_t i, off_t size)
{
	struct list_message one = get(m, i);
	unsigned char id[UIDL_HASH];
	off_t empty;

	return (one.found.at == 0 || is_boundary(m->fd, one.found.at, size, &empty)) &&
	    scan_id(m->fd, one.found.at, one.end, id) == 0 &&
	    memcmp(id, one.found.id, UIDL_HASH) == 0 && is_boundary(m->fd, one.end, size, &empty);
}

/*
 * Whether message i is still where it was, and itself: of messages with equal
 * headers one may have taken another's place, and then the last of them is not
 * in its own. So of such a group all are in their places, or none is proven.
 */
static bool
is_proven(struct mbox *m, size_t i, off_t size)
{
	struct list_message one;
	size_t n = 0;

	if (!is_in_place(m, i, size))
		return false;
	one = get(m, i);
	if (m->ids == NULL)
		m->ids = list_ids(&m->list);
	for (size_t twin = list_first(m->ids, one.found.id); twin != SIZE_MAX;
	     twin = list_next(m->ids, twin)) {
		/* Asked for each of them, more would take for ever. */
		if (++n > TWINS)
			return false;
		if (!is_in_place(m, twin, size))
			return false;
	}
	return true;
}

/* The octets of the "From " line at this place, its end included; 0: there is none. */
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

static bool
mbox_stands(void *box, size_t i)
{
	struct mbox *m = box;
	struct stat now;

	return is_unchanged(m) || (fstat(m->fd, &now) == 0 && is_proven(m, i, now.st_size));
}

/*
 * Of a message of which nothing need be proven, since the spool's stamp is the
 * list's, its borders are looked at all the same: were the list forged, or
 * older than a power cut, it would not begin there, or not end. Such a list is
 * forgotten.
 */
static enum drop_error
mbox_fetch(void *box, size_t i, struct span *s)
{
	struct mbox *m = box;
	struct list_message one = get(m, i);
	struct stat now;
	off_t line, from, empty;

	if (fstat(m->fd, &now) == -1) {
		log_event(LOG_ERR, "failed", "what=\"reading message %zu\" "
		    "error=\"%s\"", i + 1, strerror(errno));
		return DROP_FAILED;
	}
	line = from_line(m->fd, one.found.at, one.end);
	if (line == 0 || !is_boundary(m->fd, one.end, now.st_size, &empty) ||
	    !mbox_stands(m, i)) {
		if (is_unchanged(m)) {
			index_forget(m->place.state);
			m->list.state = -1;
		}
		log_event(LOG_WARNING, "failed", "what=\"reading message %zu\" "
		    "error=\"another program changed the mailbox\"", i + 1);
		return DROP_CHANGED;
	}
	from = one.found.at + line;
	*s = (struct span){ .fd = m->fd, .at = from,
		.bytes = one.end - empty > from ? (uint64_t)(one.end - empty - from) : 0,
		.octets = one.found.octets };
	return DROP_OK;
}

/* For messages that moved: the mailbox as it is now, read once when first needed. */
struct relocation {
	struct list now;
	struct list_ids *ids;
	bool known;
};

static bool
is_alone(const struct list_ids *ids, const unsigned char *id, size_t *i)
{
	*i = list_first(ids, id);
	return *i != SIZE_MAX && list_next(ids, *i) == SIZE_MAX;
}

static enum drop_error
relocate(struct mbox *m, struct relocation *r, size_t i,
    struct journal_range *where)
{
	struct list_message was = get(m, i), is;
	size_t at;

	if (!r->known) {
		struct stamp now;
		enum scan_result result;

		if (stamp_take(&now, m->fd) == -1)
			return DROP_FAILED;
		if ((result = list_make(&r->now, -1, m->fd, &now)) != SCAN_DONE)
			return deny_scan(result);
		r->ids = list_ids(&r->now);
		if (m->ids == NULL)
			m->ids = list_ids(&m->list);
		r->known = true;
	}
	/* Of two that look alike nobody can say which one was meant. */
	if (!is_alone(m->ids, was.found.id, &at) || !is_alone(r->ids, was.found.id, &at) ||
	    !list_get(&r->now, at, &is))
		return DROP_CHANGED;
	/* What has got more text since, like half a message with another behind it, is not what was marked. */
	if (is.found.octets - is.found.header != was.found.octets - was.found.header)
		return DROP_CHANGED;
	*where = (struct journal_range){ is.found.at, is.end };
	return DROP_OK;
}

static int
compare_ranges(const void *a, const void *b)
{
	const struct journal_range *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

/* Whether what the list says of the borders of what is removed is so. */
static bool
are_plausible(const struct mbox *m, const struct journal_range *ranges, size_t n)
{
	const off_t size = (off_t)m->seen.size;
	off_t empty;

	for (size_t i = 0; i < n; i++) {
		bool goes_on = i > 0 && ranges[i - 1].to == ranges[i].from;

		if (!goes_on && ranges[i].from > 0 && !is_boundary(m->fd, ranges[i].from, size, &empty))
			return false;
		if ((i + 1 == n || ranges[i].to != ranges[i + 1].from) &&
		    !is_boundary(m->fd, ranges[i].to, size, &empty))
			return false;
	}
	return true;
}

/*
 * The parts of the file that hold the marked messages, in ascending order.
 * Returns how many; each is one message. size: of the file now.
 */
static size_t
find_marked(struct mbox *m, const unsigned char *marks, bool unchanged,
    const struct stat *now, struct journal_range *ranges, bool *all)
{
	struct relocation r = { .known = false };
	size_t n = 0;

	*all = true;
	for (size_t i = 0; i < m->list.count; i++) {
		struct list_message one;

		if (!store_marked(marks, i))
			continue;
		one = get(m, i);
		if (unchanged || is_proven(m, i, now->st_size))
			ranges[n++] = (struct journal_range){ one.found.at, one.end };
		else if (relocate(m, &r, i, &ranges[n]) == DROP_OK)
			n++;
		else
			*all = false;
	}
	if (r.known)
		qsort(ranges, n, sizeof(*ranges), compare_ranges);
	return n;
}

static enum drop_error
remove_locked(struct mbox *m, const unsigned char *marks, size_t *removed)
{
	struct journal_range *ranges;
	struct stat now;
	bool all, unchanged = is_unchanged(m);
	size_t n;

	if (!still_there(m) || fstat(m->fd, &now) == -1) {
		log_event(LOG_WARNING, "failed", "what=\"removing messages\" "
		    "error=\"another program replaced the mailbox\"");
		return DROP_CHANGED;
	}
	if ((ranges = reallocarray(NULL, m->list.count, sizeof(*ranges))) == NULL)
		fatal("ranges of %zu messages", m->list.count);
	n = find_marked(m, marks, unchanged, &now, ranges, &all);
	if (unchanged && !are_plausible(m, ranges, n)) {
		index_forget(m->place.state);
		all = false;
		n = 0;
	}
	if (!all)
		log_event(LOG_WARNING, "failed", "what=\"removing messages\" "
		    "error=\"another program changed the mailbox\"");
	switch (journal_remove(m->place.state, m->fd, ranges, n)) {
	case JOURNAL_DONE:
		*removed = n;
		if (unchanged && n > 0)
			list_without(&m->list, marks, m->fd);
		return all ? DROP_OK : DROP_CHANGED;
	case JOURNAL_LATER:
		*removed = n;
		return DROP_LATER;
	default:
		return DROP_FAILED;
	}
}

static enum drop_error
mbox_remove(void *box, const unsigned char *marks, size_t *removed)
{
	struct mbox *m = box;
	enum drop_error error;

	/* What is to be mended of the list is mended before anybody has to wait for us. */
	for (size_t i = 0; i < m->list.count; i++)
		if (store_marked(marks, i))
			get(m, i);
	if ((error = lock(m, true)) == DROP_OK) {
		error = remove_locked(m, marks, removed);
		if (error == DROP_LATER)
			hand_over(m);
		else
			unlock(m);
	}
	return error;
}

const struct store_ops mbox_store = {
	.open = mbox_open,
	.recover = mbox_recover,
	.unfinished = journal_pending,
	.count = mbox_count,
	.total = mbox_total,
	.octets = mbox_octets,
	.uidl = mbox_uidl,
	.fetch = mbox_fetch,
	.stands = mbox_stands,
	.remove = mbox_remove,
};
