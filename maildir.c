/*
 * Finds, reads and removes messages in a Maildir: one file each, in new and cur.
 *
 * Runs as the owner of the mailbox. Nothing is locked: other programs deliver
 * to new, move files to cur and rename them there at any time, to change the
 * flags behind the colon. What stands before the colon is the message's
 * unique name and stays (https://cr.yp.to/proto/maildir.html); it is what we
 * follow a message by, and the file's device, inode and size are the proof
 * that it is still the one that was counted.
 *
 * Nothing is ever renamed or written; tmp is not looked at. A removal unlinks
 * and syncs the directories: a crash in its middle leaves some of the marked
 * messages and every other one, so there is nothing to recover.
 *
 * What was found is kept in an index. While new and cur have the times that
 * they had, neither is read; when they have not, the names are, and a file is
 * opened only if it was not there under its unique name and inode.
 *
 * Names that begin with a dot are not messages. Files that are not regular,
 * that cannot be read or have a control character in their name are skipped,
 * and the log says how many.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "index.h"
#include "lines.h"
#include "listing.h"
#include "log.h"
#include "stamp.h"
#include "store.h"

#define PIECE ((size_t)256 << 10) /* read at a time */
/* How often a message that is renamed just when we reach for it is looked for again. */
#define TRIES 5

static const char *const directories[LISTING_DIRECTORIES] = { "new", "cur" };

#define KIND "maildir1"
/* Octets of an index' record for a name of n. */
#define RECORD_SIZE(n) ((offsetof(struct record, name) + (n) + 8) & ~(size_t)7)

/* A message in the index. */
struct record {
	uint64_t inode;
	int64_t size;
	uint64_t octets;  /* as POP3 counts */
	uint64_t time;    /* as in struct entry */
	uint32_t ordinal; /* among equal unique names */
	uint16_t length;  /* of the name */
	uint16_t unique;  /* of it, before the colon */
	uint8_t directory;
	char name[NAME_MAX + 1];
};

/* What is kept with the index. */
struct note {
	struct stamp seen[LISTING_DIRECTORIES];
	uint64_t octets; /* of all messages */
};

struct maildir {
	int state;
	int dirs[LISTING_DIRECTORIES]; /* -1: absent, hence empty */
	struct index *list;
	size_t count;
	struct note note;
	struct listing now; /* made when a message is not where it was */
	int fd; /* of the message fetched last */
};

static enum drop_error
deny(const char *what, const char *why)
{
	log_event(LOG_ERR, "failed", "what=\"opening %s\" error=\"%s\"", what, why);
	return DROP_DENIED;
}

/* Copies record i of a list. Returns whether it is one. */
static bool
get_record(struct index *list, size_t i, struct record *r)
{
	const void *p = index_get(list, i);
	size_t size = index_record_size(list);

	if (p == NULL || size > sizeof(*r))
		return false;
	memcpy(r, p, size);
	/* No name: what a header counts that survived a power cut which its block did not. */
	return r->length > 0 && r->length < size - offsetof(struct record, name) && r->name[r->length] == '\0' &&
	    r->unique <= r->length && r->directory < LISTING_DIRECTORIES;
}

static struct unique
unique_of_record(const struct record *r)
{
	return (struct unique){ r->time, r->name, r->unique };
}

/* Whether the file with this name is that message. */
static bool
is_there(const struct maildir *m, int directory, const char *name, const struct record *r)
{
	struct stat st;

	if (fstatat(m->dirs[directory], name, &st, AT_SYMLINK_NOFOLLOW) == -1 ||
	    !S_ISREG(st.st_mode) || st.st_dev != m->note.seen[directory].device ||
	    st.st_ino != r->inode)
		return false;
	/* It was counted while somebody still wrote it, a restore perhaps: next time it is counted anew. */
	if (st.st_size != r->size)
		index_forget(m->state);
	return st.st_size == r->size;
}

/* Where a message is now. */
struct place {
	int dir;
	const char *name;
	int directory;
};

/* Finds where a message is now, in new or cur under whatever flags. Returns 0, or -1 with errno; ENOENT: nowhere. */
static int
locate(struct maildir *m, const struct record *r, struct place *where)
{
	const struct unique u = unique_of_record(r);
	const struct entry *e;

	*where = (struct place){ m->dirs[r->directory], r->name, r->directory };
	if (strchr(r->name, '/') == NULL && is_there(m, r->directory, r->name, r))
		return 0;
	for (int fresh = m->now.list == NULL; fresh < 2; fresh++) {
		if (fresh == 1 && listing_make(&m->now, m->dirs) != DROP_OK) {
			errno = EIO;
			return -1;
		}
		for (e = listing_find(&m->now, &u); listing_has(&m->now, e, &u); e++) {
			*where = (struct place){ m->dirs[e->directory], listing_name(&m->now, e), e->directory };
			if (is_there(m, e->directory, where->name, r))
				return 0;
		}
		if (listing_is_current(m->dirs, m->now.seen))
			break;
	}
	errno = ENOENT;
	return -1;
}

static int
open_file(int dir, const char *name)
{
	return openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* Opens the file of an entry, under its present name when it was renamed meanwhile. Returns it, or -1 with errno. */
static int
open_new(struct maildir *m, const struct unique *u, const struct entry *e, const char *name)
{
	int fd = open_file(m->dirs[e->directory], name);

	for (int tries = 0; fd == -1 && errno == ENOENT && tries < TRIES; tries++) {
		if ((m->now.list == NULL || !listing_is_current(m->dirs, m->now.seen)) &&
		    listing_make(&m->now, m->dirs) != DROP_OK)
			return -1;
		e = listing_find(&m->now, u);
		errno = ENOENT;
		if (!listing_has(&m->now, e, u))
			break;
		fd = open_file(m->dirs[e->directory], listing_name(&m->now, e));
	}
	return fd;
}

/* Reads the open file, which has so many octets, counting. Returns 0, or -1 with errno. */
static int
count_octets(int fd, off_t size, struct record *r)
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
	r->octets = (uint64_t)r->size + bare + (lines_at_begin(&lines) ? 0 : 2);
	return 0;
}

/* What became of a file that was looked at. */
enum finding { FOUND, GONE, NONE_OF_OURS, TROUBLE };

/* Opens and counts the file of an entry. TROUBLE: see errno. */
static enum finding
look_into(struct maildir *m, const struct listing *l, const struct entry *e, struct record *r)
{
	const struct unique u = listing_unique(l, e);
	int error, fd = open_new(m, &u, e, u.name);
	enum finding result = FOUND;
	struct stat st;

	if (fd == -1)
		return errno == ENOENT ? GONE :
		    errno == EACCES || errno == EPERM || errno == ELOOP ? NONE_OF_OURS : TROUBLE;
	if (fstat(fd, &st) == -1 || (S_ISREG(st.st_mode) && count_octets(fd, st.st_size, r) == -1))
		result = TROUBLE;
	else if (!S_ISREG(st.st_mode))
		result = NONE_OF_OURS;
	error = errno;
	close(fd);
	errno = error;
	r->inode = st.st_ino;
	return result;
}

/* The list of an earlier session, walked through beside a new listing; both are in the same order. */
struct earlier {
	struct index *list; /* NULL: there is none */
	size_t at;
};

/* Whether the earlier list knows this file: then its sizes are in *r. */
static bool
is_known(struct earlier *old, const struct unique *u, ino_t inode, struct record *r)
{
	struct record there;

	if (old->list == NULL)
		return false;
	for (; get_record(old->list, old->at, &there); old->at++) {
		const struct unique v = unique_of_record(&there);

		if (unique_compare(&v, u) >= 0)
			break;
	}
	for (size_t i = old->at; get_record(old->list, i, &there); i++) {
		const struct unique v = unique_of_record(&there);

		if (unique_compare(&v, u) != 0)
			break;
		if (there.inode == inode) {
			*r = there;
			return true;
		}
	}
	return false;
}

/* Adds the message of an entry, unless it is there already under another name. */
static void
add_message(struct maildir *m, const struct listing *l, const struct entry *e, struct record *r)
{
	const struct unique u = listing_unique(l, e);
	struct record before;

	r->ordinal = 0;
	/* Equal unique names are neighbours. */
	for (size_t k = m->count; k-- > 0 && get_record(m->list, k, &before);) {
		const struct unique v = unique_of_record(&before);

		if (unique_compare(&v, &u) != 0)
			break;
		if (before.inode == r->inode)
			return;
		r->ordinal++;
	}
	r->time = e->time;
	r->directory = (uint8_t)e->directory;
	r->length = (uint16_t)strlen(u.name);
	r->unique = (uint16_t)u.n;
	memset(r->name, 0, sizeof(r->name));
	memcpy(r->name, u.name, r->length);
	index_put(m->list, m->count++, r);
	m->note.octets += r->octets;
}

/* Whether an earlier list has the entry at this very place, with all of its name. */
static bool
is_at(struct index *list, size_t i, const struct listing *l, const struct entry *e)
{
	struct record r;

	return get_record(list, i, &r) && r.inode == e->inode && r.directory == e->directory &&
	    strcmp(r.name, listing_name(l, e)) == 0;
}

/* Starts the list of this listing: with the earlier one if all of it stands in front, else anew. Returns how many entries are in it. */
static size_t
start_list(struct maildir *m, const struct listing *l, struct index *earlier)
{
	size_t n = 0;

	memcpy(m->note.seen, l->seen, sizeof(l->seen));
	if (earlier != NULL && RECORD_SIZE(l->longest) <= index_record_size(earlier) &&
	    index_count(earlier) <= l->count)
		while (n < index_count(earlier) && is_at(earlier, n, l, &l->list[n]))
			n++;
	if (n > 0 && n == index_count(earlier)) {
		m->list = earlier;
		m->count = n;
		return n;
	}
	m->list = index_new(m->state, KIND, RECORD_SIZE(l->longest));
	m->count = 0;
	m->note.octets = 0;
	return 0;
}

/* Makes the list of the messages of a listing; opens what the earlier list does not know. */
static enum drop_error
find_messages(struct maildir *m, struct listing *l, struct index *earlier)
{
	struct earlier old = { .list = earlier };

	for (size_t i = start_list(m, l, earlier); i < l->count; i++) {
		const struct entry *e = &l->list[i];
		const struct unique u = listing_unique(l, e);
		struct record r = { 0 };
		enum finding found = m->list != earlier && is_known(&old, &u, e->inode, &r) ?
		    FOUND : look_into(m, l, e, &r);

		if (found == TROUBLE) {
			log_event(LOG_ERR, "failed", "what=\"reading the Maildir\" "
			    "error=\"%s\"", strerror(errno));
			return DROP_FAILED;
		}
		if (found == FOUND)
			add_message(m, l, e, &r);
		else if (found == NONE_OF_OURS)
			l->skipped++;
	}
	if (l->skipped > 0)
		log_event(LOG_WARNING, "skipped", "files=%zu reason=\"not regular, "
		    "not readable or an odd name\"", l->skipped);
	return DROP_OK;
}

/* Opens new or cur. Absent is fine. */
static enum drop_error
open_directory(int top, const char *name, int *fd)
{
	struct stat st;

	*fd = openat(top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd == -1)
		return errno == ENOENT ? DROP_OK : deny(name, strerror(errno));
	if (fstat(*fd, &st) == -1)
		return deny(name, strerror(errno));
	return st.st_uid == geteuid() ? DROP_OK : deny(name, "it has another owner");
}

/* Makes what is absent of the Maildir. */
static enum drop_error
create(const struct store_place *place)
{
	static const char *const parts[] = { "", "/tmp", "/new", "/cur" };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		char name[NAME_MAX + 8];

		snprintf(name, sizeof(name), "%s%s", place->name, parts[i]);
		if (mkdirat(place->dir, name, 0700) == -1 && errno != EEXIST) {
			log_event(LOG_ERR, "failed", "what=\"making the Maildir\" "
			    "error=\"%s\"", strerror(errno));
			return DROP_FAILED;
		}
	}
	return DROP_OK;
}

static enum drop_error
open_directories(struct maildir *m, const struct store_place *place)
{
	enum drop_error error = place->create ? create(place) : DROP_OK;
	struct stat st;
	int top;

	if (error != DROP_OK)
		return error;
	top = openat(place->dir, place->name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (top == -1)
		return errno == ENOENT ? DROP_OK : deny("the Maildir", strerror(errno));
	if (fstat(top, &st) == -1)
		return deny("the Maildir", strerror(errno));
	if (st.st_uid != geteuid())
		return deny("the Maildir", "it has another owner");
	for (int i = 0; error == DROP_OK && i < LISTING_DIRECTORIES; i++)
		error = open_directory(top, directories[i], &m->dirs[i]);
	close(top);
	return error;
}

/* The earlier session's list, if there is one. Whether it is current is another question. */
static struct index *
load(struct maildir *m)
{
	struct index *list = index_load(m->state, KIND);

	if (list != NULL)
		memcpy(&m->note, index_note(list), sizeof(m->note));
	return list;
}

/* Reads the names, and the files that old does not know. */
static enum drop_error
update(struct maildir *m, struct index *old)
{
	struct listing l = { 0 };
	enum drop_error error = listing_make(&l, m->dirs);

	if (error == DROP_OK)
		error = find_messages(m, &l, old);
	listing_free(&l);
	if (error == DROP_OK)
		index_save(m->list, &m->note, sizeof(m->note));
	return error;
}

static enum drop_error
maildir_open(const struct store_place *place, void **box)
{
	struct maildir *m = calloc(1, sizeof(*m));
	enum drop_error error;
	struct index *old;

	if (m == NULL)
		fatal("calloc");
	*box = m;
	m->state = place->state;
	m->dirs[0] = m->dirs[1] = m->fd = -1;
	if ((error = open_directories(m, place)) != DROP_OK)
		return error;
	old = load(m);
	if (old != NULL && listing_is_current(m->dirs, m->note.seen)) {
		m->list = old;
		m->count = index_count(old);
		return DROP_OK;
	}
	error = update(m, old);
	if (m->list != old)
		index_free(old);
	return error;
}

/* The list is damaged: it is made again, which must give the same messages. The clients' numbers for them cannot change now. */
static void
mend(struct maildir *m)
{
	struct index *damaged = m->list;
	struct note was = m->note;
	size_t count = m->count;

	log_event(LOG_NOTICE, "index", "error=\"damaged, the mailbox is read again\"");
	index_forget(m->state);
	if (!listing_is_current(m->dirs, was.seen) || update(m, NULL) != DROP_OK ||
	    m->count != count || m->note.octets != was.octets) {
		errno = EIO;
		fatal("mending the index: the mailbox has changed");
	}
	index_free(damaged);
}

/* Message i. */
static void
get(struct maildir *m, size_t i, struct record *r)
{
	if (get_record(m->list, i, r))
		return;
	mend(m);
	if (!get_record(m->list, i, r))
		fatal("the index cannot be mended");
}

static size_t
maildir_count(const void *box)
{
	return ((const struct maildir *)box)->count;
}

static uint64_t
maildir_total(const void *box)
{
	return ((const struct maildir *)box)->note.octets;
}

static uint64_t
maildir_octets(void *box, size_t i)
{
	struct record r;

	get(box, i, &r);
	return r.octets;
}

/* Whether a unique name can be an id as it is. */
static bool
is_id(const char *unique, size_t n)
{
	if (n == 0 || n >= UIDL_SIZE)
		return false;
	while (n > 0 && unique[n - 1] >= 0x21 && unique[n - 1] <= 0x7e)
		n--;
	return n == 0;
}

static void
maildir_uidl(void *box, size_t i, char id[UIDL_SIZE])
{
	char name[NAME_MAX + 24];
	XXH128_canonical_t digest;
	struct record r;
	size_t n;

	get(box, i, &r);
	if (r.ordinal == 0 && is_id(r.name, r.unique)) {
		memcpy(id, r.name, r.unique);
		id[r.unique] = '\0';
		return;
	}
	n = r.unique;
	memcpy(name, r.name, n);
	if (r.ordinal != 0)
		n += (size_t)snprintf(name + n, sizeof(name) - n, ":%ju", (uintmax_t)r.ordinal + 1);
	XXH128_canonicalFromHash(&digest, XXH3_128bits(name, n));
	/* What no unique name has in it, or a file could have the name of another's hash. */
	id[0] = ':';
	uidl_write(digest.digest, id + 1);
}

static enum drop_error
maildir_fetch(void *box, size_t i, struct span *s)
{
	struct maildir *m = box;
	struct place where;
	struct record r;
	struct stat st;

	get(m, i, &r);
	if (m->fd != -1)
		close(m->fd);
	m->fd = -1;
	for (int tries = 0; tries < TRIES && m->fd == -1; tries++) {
		if (locate(m, &r, &where) == -1)
			break;
		m->fd = open_file(where.dir, where.name);
		if (m->fd == -1 && errno != ENOENT)
			return DROP_FAILED;
	}
	if (m->fd == -1 || fstat(m->fd, &st) == -1 || st.st_size != r.size ||
	    st.st_ino != r.inode)
		return DROP_CHANGED;
	*s = (struct span){ .fd = m->fd, .bytes = (uint64_t)r.size, .octets = r.octets };
	return DROP_OK;
}

/* Returns the directory that the message was unlinked from, or -1 with errno; ENOENT: it is gone or was changed. */
static int
unlink_message(struct maildir *m, size_t i)
{
	struct place where;
	struct record r;

	get(m, i, &r);
	for (int tries = 0; tries < TRIES; tries++) {
		if (locate(m, &r, &where) == -1)
			return -1;
		if (unlinkat(where.dir, where.name, 0) == 0)
			return where.directory;
		if (errno != ENOENT)
			return -1;
	}
	return -1;
}

/* What it means that not all could be unlinked, and the first error was this. */
static enum drop_error
why_not(int error, size_t removed)
{
	log_event(error == ENOENT ? LOG_WARNING : LOG_ERR, "failed",
	    "what=\"removing messages\" error=\"%s\"", error == ENOENT ?
		"another program changed the mailbox" : strerror(error));
	if (removed > 0 || error == ENOENT)
		return DROP_CHANGED;
	return error == EACCES || error == EPERM || error == EROFS ?
	    DROP_DENIED : DROP_FAILED;
}

static enum drop_error
maildir_remove(void *box, const unsigned char *marks, size_t *removed)
{
	struct maildir *m = box;
	bool touched[LISTING_DIRECTORIES] = { false };
	int error = 0;

	for (size_t i = 0; i < m->count; i++) {
		int directory;

		if (!store_marked(marks, i))
			continue;
		directory = unlink_message(m, i);
		if (directory != -1) {
			touched[directory] = true;
			++*removed;
		} else if (error == 0)
			error = errno;
	}
	for (int i = 0; i < LISTING_DIRECTORIES; i++)
		if (touched[i] && fsync(m->dirs[i]) == -1 && error == 0)
			error = errno;
	return error == 0 ? DROP_OK : why_not(error, *removed);
}

const struct store_ops maildir_store = {
	.open = maildir_open,
	.count = maildir_count,
	.total = maildir_total,
	.octets = maildir_octets,
	.uidl = maildir_uidl,
	.fetch = maildir_fetch,
	.remove = maildir_remove,
};
