/*
 * Finds, reads and removes messages in one spool file, each after a line "From …".
 *
 * Runs as the owner of the mailbox. Nothing in the file is trusted: lines may
 * be of any length, NULs are ordinary octets, and other programs may write at
 * any time. The file is never mapped (another's truncate would be a SIGBUS),
 * never copied, and never written but to remove messages (journal.c).
 *
 * A message begins at "From " at the beginning of the file or behind an empty
 * line, and reaches to the next one: the messages partition the file. Of this,
 * the "From " line and an empty last line are the mailbox's, the rest is what
 * POP3 shows. Line ends may be LF or CRLF, also mixed. Content-Length is not
 * believed. The internal message that UW-IMAP and its relatives keep at the
 * front is neither shown nor removed.
 *
 * A message's unique id is made of its header alone, without the fields that
 * mail readers rewrite, so that it survives the loss of all our state and a
 * move to another host: the first 128 bits of a SHA-256. Equal ones are told
 * apart by their order.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "journal.h"
#include "lock.h"
#include "log.h"
#include "store.h"
#include "wire.h"

#define PIECE ((size_t)256 << 10) /* read at a time: larger is no faster */
#define TWINS 100 /* messages with equal headers that are told apart in a mailbox that was changed */
#define LINE_HEAD 64 /* of a line's beginning, always seen in one piece */
#define FROM "From "
#define FROM_SIZE (sizeof(FROM) - 1)

struct message {
	off_t at;        /* of its "From " */
	uint64_t octets; /* as POP3 counts */
	uint64_t body;   /* of these, from the empty line behind the header on */
	unsigned char id[UIDL_HASH];
};

struct mbox {
	struct store_place place;
	int fd;              /* -1: there is no spool, hence no mail */
	struct stat seen;    /* when the list was made */
	bool settled;        /* a later change would show in seen's times */
	off_t end;           /* of the last message */
	struct message *list;
	size_t count, room;
	uint32_t *order;     /* sort_by_id's; NULL: not needed yet */
	uint32_t *ordinal;   /* among equal ids; NULL when all differ */
	bool ordered;        /* ordinal has been looked for */
};

/* A walk through lines; see piece(). */
struct scan {
	struct mbox *m;   /* gets the messages */
	off_t at;         /* of the next piece in the file */
	enum { PREAMBLE, FROM_LINE, HEADER, BODY } in;
	bool begins;      /* the next piece begins a line */
	bool blank;       /* the line before was empty, or there was none */
	bool header_only; /* stop where a header ends */
	bool skip;        /* this header field is not part of the id */
	bool held_cr;     /* a CR that ended a piece is not hashed yet */
	bool has_imap, has_subject, has_received; /* marks of the internal message */
	uint64_t header;  /* octets */
	struct message now;
	struct wire wire;
	SHA2_CTX hash;
};

enum scan_result { SCAN_ON, SCAN_STOP, SCAN_FOREIGN, SCAN_FAILED };

static void
add(struct mbox *m, const struct message *one)
{
	if (m->count == m->room) {
		m->room = m->room == 0 ? 64 : m->room * 2;
		m->list = reallocarray(m->list, m->room, sizeof(*m->list));
		if (m->list == NULL || m->room > UINT32_MAX)
			fatal("list of %zu messages", m->room);
	}
	m->list[m->count++] = *one;
}

/* The message that ends here is complete. */
static void
finish(struct scan *s)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];

	if (s->in == PREAMBLE)
		return;
	wire_end(&s->wire, NULL);
	s->now.octets = s->wire.octets - (s->blank ? 2 : 0);
	s->now.body = s->in == BODY ? s->now.octets - s->header : 0;
	SHA256Final(digest, &s->hash);
	memcpy(s->now.id, digest, UIDL_HASH);
	/* What came by mail is mail, or a sender could hide what he sends. */
	if (s->now.at == 0 && s->has_imap && s->has_subject && !s->has_received)
		return;
	add(s->m, &s->now);
}

static void
start(struct scan *s)
{
	s->in = FROM_LINE;
	s->skip = s->held_cr = false;
	s->has_imap = s->has_subject = s->has_received = false;
	s->now.at = s->at;
	wire_init(&s->wire, WIRE_ALL);
	SHA256Init(&s->hash);
}

static bool
has_prefix(const char *p, size_t n, const char *prefix)
{
	size_t k = strlen(prefix);

	return n >= k && strncasecmp(p, prefix, k) == 0;
}

/* Fields that mail readers add, change or take away. */
static bool
is_rewritten(const char *p, size_t n)
{
	static const char *const fields[] = { "Status:", "X-Status:", "X-UID:",
		"X-UIDL:", "X-IMAP:", "X-IMAPbase:", "X-Keywords:",
		"Content-Length:", "Lines:", "X-Mozilla-Status:",
		"X-Mozilla-Status2:", "X-Mozilla-Keys:", "X-Evolution:" };

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (has_prefix(p, n, fields[i]))
			return true;
	return false;
}

/* A piece of the header into the hash, with line ends as LF. */
static void
hash_piece(struct scan *s, const char *p, size_t n)
{
	bool ends = p[n - 1] == '\n';

	if (s->held_cr && n > 1)
		SHA256Update(&s->hash, (const uint8_t *)"\r", 1);
	n -= ends;
	s->held_cr = n > 0 && p[n - 1] == '\r';
	n -= s->held_cr;
	SHA256Update(&s->hash, (const uint8_t *)p, n);
	if (ends) {
		SHA256Update(&s->hash, (const uint8_t *)"\n", 1);
		s->held_cr = false;
	}
}

static void
header_piece(struct scan *s, const char *p, size_t n)
{
	if (s->begins && *p != ' ' && *p != '\t') {
		s->skip = is_rewritten(p, n);
		s->has_imap |= has_prefix(p, n, "X-IMAP");
		s->has_received |= has_prefix(p, n, "Received:");
		s->has_subject |= has_prefix(p, n,
		    "Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA");
	}
	if (!s->skip)
		hash_piece(s, p, n);
}

/*
 * One line, or a part of a line longer than the buffer. A part that begins a
 * line has at least LINE_HEAD octets or the whole line.
 */
static enum scan_result
piece(struct scan *s, const char *p, size_t n)
{
	bool ends = p[n - 1] == '\n';
	bool blank = s->begins && ends && (n == 1 || (n == 2 && *p == '\r'));

	if (s->begins && s->blank && n >= FROM_SIZE &&
	    memcmp(p, FROM, FROM_SIZE) == 0) {
		finish(s);
		start(s);
	} else if (s->in == PREAMBLE) {
		if (!blank)
			return SCAN_FOREIGN;
	} else if (s->in != FROM_LINE) {
		if (s->in == HEADER && blank) {
			s->in = BODY;
			s->header = s->wire.octets;
		}
		if (s->in == HEADER)
			header_piece(s, p, n);
		wire_put(&s->wire, p, n, NULL);
	}
	if (ends && s->in == FROM_LINE)
		s->in = HEADER;
	s->blank = blank;
	s->begins = ends;
	s->at += (off_t)n;
	return s->header_only && s->in == BODY ? SCAN_STOP : SCAN_ON;
}

/* All lines in [p, end). What remains of a line goes to *rest. */
static enum scan_result
pieces(struct scan *s, const char *p, const char *end, const char **rest)
{
	const char *lf;
	enum scan_result r = SCAN_ON;

	while (r == SCAN_ON && p < end &&
	    (lf = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		r = piece(s, p, (size_t)(lf + 1 - p));
		p = lf + 1;
	}
	*rest = p;
	return r;
}

/* Walks through [s->at, to) of fd. SCAN_ON: the end was reached, and the last message is finished. */
static enum scan_result
scan(struct scan *s, int fd, off_t to)
{
	static char buffer[PIECE];
	size_t kept = 0;
	off_t at = s->at;
	enum scan_result r;

	for (;;) {
		const char *rest, *end;
		size_t left, want = PIECE - kept;
		ssize_t n;

		if ((off_t)want > to - at)
			want = (size_t)(to - at);
		n = pread(fd, buffer + kept, want, at);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1) {
			log_event(LOG_ERR, "failed", "what=\"reading the mailbox\" "
			    "error=\"%s\"", strerror(errno));
			return SCAN_FAILED;
		}
		at += n;
		end = buffer + kept + n;
		if ((r = pieces(s, buffer, end, &rest)) != SCAN_ON)
			return r;
		left = (size_t)(end - rest);
		kept = 0;
		if (n > 0 && s->begins && left < LINE_HEAD) {
			memmove(buffer, rest, left);
			kept = left;
		} else if (left > 0 && (r = piece(s, rest, left)) != SCAN_ON)
			return r;
		if (n == 0)
			break;
	}
	finish(s);
	return SCAN_ON;
}

/* Where message i ends. */
static off_t
end_of(const struct mbox *m, size_t i)
{
	return i + 1 < m->count ? m->list[i + 1].at : m->end;
}

/* The whole file anew into m's list. The spool is locked. */
static enum drop_error
list_messages(struct mbox *m)
{
	struct scan s = { .m = m, .begins = true, .blank = true };
	struct timespec now;

	m->count = 0;
	if (clock_gettime(CLOCK_REALTIME, &now) == -1 ||
	    fstat(m->fd, &m->seen) == -1)
		fatal("fstat of the mailbox");
	m->settled = store_settled(&m->seen, &now);
	switch (scan(&s, m->fd, m->seen.st_size)) {
	case SCAN_ON:
		m->end = s.at;
		return DROP_OK;
	case SCAN_FOREIGN:
		log_event(LOG_ERR, "failed", "what=\"reading the mailbox\" "
		    "error=\"it does not begin with a From line\"");
		return DROP_DENIED;
	default:
		return DROP_FAILED;
	}
}

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
	if (lock_spool(m->place.locks, m->fd, m->place.path, to_write) == 0)
		return DROP_OK;
	log_event(errno == EAGAIN ? LOG_NOTICE : LOG_ERR, "failed",
	    "what=\"locking the mailbox\" error=\"%s\"", strerror(errno));
	return errno == EAGAIN ? DROP_BUSY : DROP_FAILED;
}

static void
unlock(const struct mbox *m)
{
	if (m->fd != -1)
		unlock_spool(m->place.locks, m->fd, m->place.path);
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
	unlock(m);
	return DROP_FAILED;
}

static enum drop_error
mbox_open(const struct store_place *place, void **box)
{
	struct mbox *m = calloc(1, sizeof(*m));
	enum drop_error error;

	if (m == NULL)
		fatal("calloc");
	*box = m;
	if ((error = open_recovered(m, place)) != DROP_OK)
		return error;
	if (m->fd != -1)
		error = list_messages(m);
	unlock(m);
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
	return ((const struct mbox *)box)->count;
}

static uint64_t
mbox_octets(const void *box, size_t i)
{
	return ((const struct mbox *)box)->list[i].octets;
}

static int
compare_ids(const void *a, const void *b, void *list)
{
	const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
	const struct message *l = list;
	int order = memcmp(l[i].id, l[j].id, UIDL_HASH);

	return order != 0 ? order : (i > j) - (i < j);
}

/* The messages' numbers in the order of their ids, equal ones in their own order. */
static uint32_t *
sort_by_id(const struct mbox *m)
{
	uint32_t *order = reallocarray(NULL, m->count + 1, sizeof(*order));

	if (order == NULL)
		fatal("order of %zu messages", m->count);
	for (uint32_t i = 0; i < m->count; i++)
		order[i] = i;
	qsort_r(order, m->count, sizeof(*order), compare_ids, m->list);
	return order;
}

static bool
same_id(const struct mbox *m, uint32_t i, uint32_t j)
{
	return memcmp(m->list[i].id, m->list[j].id, UIDL_HASH) == 0;
}

static void
find_ordinals(struct mbox *m)
{
	if (m->order == NULL)
		m->order = sort_by_id(m);
	m->ordered = true;
	for (size_t k = 1; k < m->count; k++) {
		uint32_t now = m->order[k], before = m->order[k - 1];

		if (!same_id(m, now, before))
			continue;
		if (m->ordinal == NULL &&
		    (m->ordinal = calloc(m->count, sizeof(*m->ordinal))) == NULL)
			fatal("ordinals of %zu messages", m->count);
		m->ordinal[now] = m->ordinal[before] + 1;
	}
}

static void
mbox_uidl(void *box, size_t i, char id[UIDL_SIZE])
{
	struct mbox *m = box;

	if (!m->ordered)
		find_ordinals(m);
	uidl_write(m->list[i].id, id);
	if (m->ordinal != NULL && m->ordinal[i] > 0)
		snprintf(id + UIDL_HASH_TEXT, UIDL_SIZE - UIDL_HASH_TEXT, ".%u", m->ordinal[i] + 1);
}

/* The octets of the empty line that ends right before at: 0 when there is none. */
static off_t
empty_line_before(int fd, off_t at)
{
	char end[3];
	off_t n = at < 3 ? at : 3;

	if (n == 0 || pread(fd, end, (size_t)n, at - n) != n || end[n - 1] != '\n')
		return 0;
	if (n == 1 || end[n - 2] == '\n')
		return 1;
	return end[n - 2] == '\r' && (n == 2 || end[n - 3] == '\n') ? 2 : 0;
}

/* Whether a message may end at this place of a file of this size. */
static bool
is_boundary(int fd, off_t at, off_t size)
{
	char next[FROM_SIZE];

	if (at >= size)
		return at == size;
	return pread(fd, next, FROM_SIZE, at) == (ssize_t)FROM_SIZE &&
	    memcmp(next, FROM, FROM_SIZE) == 0 && empty_line_before(fd, at) > 0;
}

/* Whether the file is surely what it was when the list was made. */
static bool
is_unchanged(const struct mbox *m, const struct stat *now)
{
	return m->settled && now->st_size == m->seen.st_size &&
	    store_same_time(&now->st_mtim, &m->seen.st_mtim) &&
	    store_same_time(&now->st_ctim, &m->seen.st_ctim);
}

/* How many messages of m have this id; *first is where they begin in order, which is sort_by_id's. */
static size_t
find_id(const struct mbox *m, const uint32_t *order, const unsigned char *id,
    size_t *first)
{
	size_t low = 0, high = m->count, n = 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (memcmp(m->list[order[middle]].id, id, UIDL_HASH) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*first = low;
	while (low + n < m->count &&
	    memcmp(m->list[order[low + n]].id, id, UIDL_HASH) == 0)
		n++;
	return n;
}

/*
 * Whether message i is still where it was: "From " at its place, a header that
 * gives its id, its boundary at its length. The body is not read: a removal
 * shall cost what it moves.
 */
static bool
is_in_place(const struct mbox *m, size_t i, off_t size)
{
	struct mbox found = { .fd = m->fd };
	struct scan s = { .m = &found, .at = m->list[i].at, .begins = true,
		.blank = true, .header_only = true };
	off_t end = end_of(m, i);
	bool same;

	if (end > size || (s.at > 0 && empty_line_before(m->fd, s.at) == 0))
		return false;
	switch (scan(&s, m->fd, end)) {
	case SCAN_STOP:
		finish(&s);
		break;
	case SCAN_ON:
		break;
	default:
		return false;
	}
	same = found.count == 1 &&
	    memcmp(found.list[0].id, m->list[i].id, UIDL_HASH) == 0;
	free(found.list);
	return same && is_boundary(m->fd, end, size);
}

/*
 * Whether message i is still where it was, and itself: of messages with equal
 * headers one may have taken another's place, and then the last of them is not
 * in its own. So of such a group all are in their places, or none is proven.
 */
static bool
is_proven(struct mbox *m, size_t i, off_t size)
{
	size_t first, n;

	if (!is_in_place(m, i, size))
		return false;
	if (m->order == NULL)
		m->order = sort_by_id(m);
	n = find_id(m, m->order, m->list[i].id, &first);
	/* Asked for each of them, more would take for ever. */
	if (n > TWINS)
		return false;
	for (size_t k = 0; k < n; k++)
		if (!is_in_place(m, m->order[first + k], size))
			return false;
	return true;
}

/* The octets of the "From " line at this place, its end included. */
static off_t
from_line(int fd, off_t at, off_t end)
{
	char text[512];
	off_t from = at;

	while (at < end) {
		ssize_t n = pread(fd, text, sizeof(text), at);
		const char *lf = n > 0 ? memchr(text, '\n', (size_t)n) : NULL;

		if (lf != NULL)
			return at + (lf + 1 - text) - from;
		if (n <= 0)
			break;
		at += n;
	}
	return end - from;
}

static enum drop_error
mbox_fetch(void *box, size_t i, struct span *s)
{
	struct mbox *m = box;
	struct stat now;
	off_t from = m->list[i].at, to = end_of(m, i);

	if (fstat(m->fd, &now) == -1)
		return DROP_FAILED;
	if (!is_unchanged(m, &now) && !is_proven(m, i, now.st_size)) {
		log_event(LOG_WARNING, "failed", "what=\"reading message %zu\" "
		    "error=\"another program changed the mailbox\"", i + 1);
		return DROP_CHANGED;
	}
	from += from_line(m->fd, from, to);
	to -= empty_line_before(m->fd, to);
	*s = (struct span){ .fd = m->fd, .at = from,
		.bytes = to > from ? (uint64_t)(to - from) : 0,
		.octets = m->list[i].octets };
	return DROP_OK;
}

/* For messages that moved: the mailbox as it is now, read once when first needed. */
struct relocation {
	struct mbox now;
	uint32_t *order;
	bool known;
};

static enum drop_error
relocate(struct mbox *m, struct relocation *r, size_t i,
    struct journal_range *where)
{
	size_t at;
	enum drop_error error;

	if (!r->known) {
		r->now = (struct mbox){ .fd = m->fd };
		if ((error = list_messages(&r->now)) != DROP_OK)
			return error;
		r->order = sort_by_id(&r->now);
		if (m->order == NULL)
			m->order = sort_by_id(m);
		r->known = true;
	}
	/* Of two that look alike nobody can say which one was meant. */
	if (find_id(m, m->order, m->list[i].id, &at) != 1 ||
	    find_id(&r->now, r->order, m->list[i].id, &at) != 1)
		return DROP_CHANGED;
	at = r->order[at];
	/* What has got more text since, like half a message with another behind it, is not what was marked. */
	if (r->now.list[at].body != m->list[i].body)
		return DROP_CHANGED;
	*where = (struct journal_range){ r->now.list[at].at, end_of(&r->now, at) };
	return DROP_OK;
}

static int
compare_ranges(const void *a, const void *b)
{
	const struct journal_range *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

/*
 * The parts of the file that hold the marked messages, in ascending order.
 * Returns how many; each is one message. size: of the file now.
 */
static size_t
find_marked(struct mbox *m, const unsigned char *marks,
    const struct stat *now, struct journal_range *ranges, bool *all)
{
	struct relocation r = { .known = false };
	bool unchanged = is_unchanged(m, now);
	size_t n = 0;

	*all = true;
	for (size_t i = 0; i < m->count; i++) {
		if (!store_marked(marks, i))
			continue;
		if (unchanged || is_proven(m, i, now->st_size))
			ranges[n++] = (struct journal_range){ m->list[i].at, end_of(m, i) };
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
	size_t n;
	bool all;

	if (!still_there(m) || fstat(m->fd, &now) == -1) {
		log_event(LOG_WARNING, "failed", "what=\"removing messages\" "
		    "error=\"another program replaced the mailbox\"");
		return DROP_CHANGED;
	}
	if ((ranges = reallocarray(NULL, m->count, sizeof(*ranges))) == NULL)
		fatal("ranges of %zu messages", m->count);
	n = find_marked(m, marks, &now, ranges, &all);
	if (!all)
		log_event(LOG_WARNING, "failed", "what=\"removing messages\" "
		    "error=\"another program changed the mailbox\"");
	switch (journal_remove(m->place.state, m->fd, ranges, n)) {
	case JOURNAL_DONE:
		*removed = n;
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
	enum drop_error error = lock(m, true);

	if (error == DROP_OK) {
		error = remove_locked(m, marks, removed);
		unlock(m);
	}
	return error;
}

const struct store_ops mbox_store = {
	.open = mbox_open,
	.recover = mbox_recover,
	.unfinished = journal_pending,
	.count = mbox_count,
	.octets = mbox_octets,
	.uidl = mbox_uidl,
	.fetch = mbox_fetch,
	.remove = mbox_remove,
};
