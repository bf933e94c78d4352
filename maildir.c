/*
 * Finds, reads and removes messages in a Maildir: one file each, in new and cur.
 *
 * Runs as the owner of the mailbox. Nothing is locked: other programs deliver
 * to new, move files to cur and rename them there at any time, to change the
 * flags behind the colon. What stands before the colon is the message's
 * unique name and stays (https://cr.yp.to/proto/maildir.html); it is what we
 * follow a message by. The file's inode proves that it is the same file, its
 * size and times that it still has the bytes that were counted. The device
 * number proves nothing: overlayfs reports several in one directory, and
 * others after the next mount.
 *
 * No message is ever renamed or written; tmp is not looked at. A removal unlinks
 * and syncs the directories: a crash in its middle leaves some of the marked
 * messages and every other one, so there is nothing to recover. Then it tells
 * the quota of the Maildir, if it has one (maildir-quota.c).
 *
 * What was found is kept in an index. While new and cur have the times that
 * they had, neither is read; when they have not, the names are, and a file is
 * opened only if it was not there under its unique name and inode.
 *
 * A file that is changed in place leaves the times of new and cur alone. In a
 * small Maildir each login looks at the files themselves. In a larger one the
 * change is found when the message is fetched: it is counted again, and the
 * index is put right.
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
#include "mbox-lines.h"
#include "maildir-names.h"
#include "log.h"
#include "maildir-quota.h"
#include "fingerprint.h"
#include "store.h"

#define PIECE ((size_t)256 << 10) /* read at a time */
/* How often a message that is renamed just when we reach for it is looked for again. */
#define TRIES 200
/* How many passes over the names a session spends on messages that it does not find; later one pass is enough. */
#define PATIENCE 500

size_t maildir_small = 256;

static const char *const directories[NAMES_DIRECTORIES] = { "new", "cur" };

#define KIND "maildir3"
/* Bytes of an index' record for a name of n. */
#define RECORD_SIZE(n) ((offsetof(struct record, name) + (n) + 8) & ~(size_t)7)

/* A message in the index. No padding before the name: records are compared by their bytes. */
struct record {
	uint64_t inode;   /* as fstat reports it */
	uint64_t listed;  /* the inode as readdir reports it, another one on some file systems; 0: to be counted again */
	int64_t size;
	int64_t mtime, ctime; /* ns */
	uint64_t wire_size;  /* as POP3 counts */
	uint64_t time;    /* as in struct entry */
	uint32_t ordinal; /* among equal unique names; a file keeps its own */
	uint16_t length;  /* of the name */
	uint16_t unique;  /* of it, before the colon */
	uint8_t directory;
	uint8_t settled;  /* as in struct fingerprint: 0 if a change at once would leave the times as they are */
	char name[NAME_MAX + 1];
};

/* Which directory it is. */
struct identity {
	uint64_t device, inode;
};

/* What is kept with the index. */
struct note {
	struct fingerprint seen[NAMES_DIRECTORIES];
	uint64_t wire_size; /* of all messages */
	/* Where the messages were; all zero if there was no Maildir. */
	struct identity directory, top;
};

struct maildir {
	int state;
	int base; /* the Maildir itself, with O_PATH; -1: absent */
	int dirs[NAMES_DIRECTORIES]; /* -1: absent, hence empty */
	struct index *list;
	size_t count;
	struct note note;
	struct identity directory, top; /* the one that the Maildir is in, and the Maildir's; all zero if it is absent */
	struct names now; /* the names as they were read last, when a message was not where it was */
	int patience;       /* passes over the names that may still be spent on what is not found */
	bool doubted;       /* the kept stamps prove nothing any more */
	int fd;             /* of the message fetched last */
	struct stat fetched; /* what fd was then */
};

static enum drop_error
deny(const char *what, const char *why)
{
	log_event(LOG_ERR, "failed", "what=\"opening %s\" error=\"%s\"", what, why);
	return DROP_DENIED;
}

static enum drop_error
deny_by_errno(const char *what)
{
	int error = errno;

	deny(what, strerror(error));
	return store_error(error);
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
	/* No name: what a header counts that survived a power failure which its block did not. */
	return r->length > 0 && r->length < size - offsetof(struct record, name) && r->name[r->length] == '\0' &&
	    r->unique <= r->length && r->directory < NAMES_DIRECTORIES;
}

static struct unique
unique_of_record(const struct record *r)
{
	return (struct unique){ r->time, r->name, r->unique };
}

static int64_t
ns(const struct timespec *t)
{
	return t->tv_sec * INT64_C(1000000000) + t->tv_nsec;
}

/* Returns true if there is a file with this name that is that message, whatever it contains now. */
static bool
is_there(const struct maildir *m, int directory, const char *name, const struct record *r, struct stat *st)
{
	return strchr(name, '/') == NULL && fstatat(m->dirs[directory], name, st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st->st_mode) && st->st_ino == r->inode;
}

/* Returns true if the file still has the bytes that were counted, as far as its size and mtime prove that. */
static bool
has_its_content(const struct record *r, const struct stat *st)
{
	return st->st_ino == r->inode && st->st_size == r->size && ns(&st->st_mtim) == r->mtime;
}

/*
 * Returns true if the file need not be counted again. A new ctime is explained
 * by another name; under the same name it may be a change whose mtime was set
 * back.
 */
static bool
is_as_counted(const struct record *r, const struct stat *st, int directory, const char *name)
{
	return has_its_content(r, st) && r->settled == 1 && (ns(&st->st_ctim) == r->ctime ||
	    directory != r->directory || strcmp(name, r->name) != 0);
}

/*
 * Puts message i right in the index. The total that is kept with it may be
 * wrong then, so the stamps are withdrawn first: the next login adds up the
 * sizes again.
 */
static void
put_right(struct maildir *m, size_t i, const struct record *r)
{
	struct note note = m->note;

	if (!m->doubted) {
		note.seen[0].settled = 0;
		index_save(m->list, &note, sizeof(note));
		m->doubted = true;
	}
	index_put(m->list, i, r);
}

/* Lets the next login count message i again, because it is not what the index claims. */
static void
distrust(struct maildir *m, size_t i, struct record *r)
{
	r->listed = 0;
	put_right(m, i, r);
}

/* Reads the names; what the list has is looked for before it is left out. */
static enum drop_error
make_listing(struct maildir *m, struct names *l, struct index *list)
{
	enum drop_error error = names_read(l, m->dirs);
	struct names known = { 0 };
	struct record r;

	if (error != DROP_OK || names_is_proven(l))
		return error;
	for (size_t i = 0; list != NULL && get_record(list, i, &r); i++)
		if (strchr(r.name, '/') == NULL)
			names_add(&known, r.name, (ino_t)r.listed, r.directory);
	error = names_insist(l, m->dirs, &known);
	names_free(&known);
	return error;
}

/* A search for one file in the names, pass after pass. */
struct search {
	int looks;  /* passes made for it */
	int misses; /* looks in a row that did not see it */
};

/* Reads the names if none were read yet. Returns 0 or -1, with errno. */
static int
read_names_once(struct maildir *m)
{
	if (m->now.list != NULL || names_read(&m->now, m->dirs) == DROP_OK)
		return 0;
	errno = EIO;
	return -1;
}

/*
 * Reads the names again for a file that could not be reached by them; seen: one
 * of them was the file's, so it is renamed again and again. Returns false, with
 * errno, if the search is over: ENOENT if the file is gone.
 */
static bool
look_again(struct maildir *m, struct search *s, bool seen)
{
	const bool patient = m->patience > 0;

	s->misses = seen ? 0 : s->misses + 1;
	if (names_is_current(m->dirs, m->now.seen) || s->looks >= (patient ? TRIES : 1) ||
	    s->misses >= (patient ? NAMES_MISSES : 1)) {
		m->patience -= s->looks;
		errno = ENOENT;
		return false;
	}
	s->looks++;
	if (names_read(&m->now, m->dirs) == DROP_OK)
		return true;
	errno = EIO;
	return false;
}

/* Where a message is now. */
struct place {
	int dir;
	const char *name;
	int directory;
	struct stat st;
};

/* Finds where a message is now, in new or cur under whatever flags. Returns 0, or -1 with errno; ENOENT: nowhere. */
static int
locate(struct maildir *m, const struct record *r, struct place *where)
{
	const struct unique u = unique_of_record(r);
	struct search search = { 0 };
	bool seen;

	*where = (struct place){ .dir = m->dirs[r->directory], .name = r->name, .directory = r->directory };
	if (is_there(m, r->directory, r->name, r, &where->st))
		return 0;
	if (read_names_once(m) == -1)
		return -1;
	do {
		seen = false;
		for (const struct entry *e = names_find(&m->now, &u); names_has(&m->now, e, &u); e++) {
			where->dir = m->dirs[e->directory];
			where->name = names_name(&m->now, e);
			where->directory = e->directory;
			if (is_there(m, e->directory, where->name, r, &where->st))
				return 0;
			seen |= e->inode == r->listed;
		}
	} while (look_again(m, &search, seen));
	return -1;
}

static int
open_file(int dir, const char *name)
{
	return openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* Finds an entry of m->now for this file, by unique name and inode; NULL: there is none. */
static const struct entry *
find_entry(const struct maildir *m, const struct unique *u, ino_t inode)
{
	for (const struct entry *e = names_find(&m->now, u); names_has(&m->now, e, u); e++)
		if (e->inode == inode)
			return e;
	return NULL;
}

/* Opens the file of an entry, under its present name when it was renamed meanwhile. Returns it, or -1 with errno. */
static int
open_new(struct maildir *m, const struct unique *u, const struct entry *e)
{
	int fd = open_file(m->dirs[e->directory], u->name);
	struct search search = { 0 };
	const ino_t inode = e->inode;

	if (fd != -1 || errno != ENOENT || read_names_once(m) == -1)
		return fd;
	do {
		if ((e = find_entry(m, u, inode)) == NULL)
			continue;
		fd = open_file(m->dirs[e->directory], names_name(&m->now, e));
		if (fd != -1 || errno != ENOENT)
			return fd;
	} while (look_again(m, &search, e != NULL));
	return -1;
}

/* Reads the open file, which has so many bytes, counting. Returns 0, or -1 with errno. */
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
	r->wire_size = (uint64_t)r->size + bare + (lines_at_begin(&lines) ? 0 : 2);
	return 0;
}

/* Counts the open file and notes what it is. Returns 0, or -1 with errno. */
static int
count_file(int fd, struct record *r, struct stat *st)
{
	struct fingerprint s;

	/* The times from before the reading: a change after them shows in the next comparison. */
	if (fingerprint_take_stat(&s, st, fd) == -1)
		return -1;
	r->inode = st->st_ino;
	r->mtime = ns(&st->st_mtim);
	r->ctime = ns(&st->st_ctim);
	r->settled = (uint8_t)s.settled;
	return S_ISREG(st->st_mode) ? count_wire_size(fd, st->st_size, r) : 0;
}

/* What became of a file that was looked at. UNREAD: it is a message, but the disk cannot read it. */
enum finding { FOUND, UNREAD, GONE, NONE_OF_OURS, TROUBLE };

/*
 * Lists a message that cannot be read with the file's size. If it were left out,
 * clients that keep mail would forget that they have it; if the login failed,
 * one broken file would block all others. It is counted when it is fetched.
 */
static void
guess_wire_size(struct record *r, const struct stat *st)
{
	r->inode = st->st_ino;
	r->size = st->st_size;
	r->wire_size = (uint64_t)st->st_size;
	r->settled = 0;
}

/* Decides what a file is that could not be opened, by errno. */
static enum finding
judge_unopened(const struct entry *e, struct record *r)
{
	const struct stat st = { .st_ino = e->inode };

	switch (errno) {
	case ENOENT:
		return GONE;
	case EACCES:
	case EPERM:
	case ELOOP:
		return NONE_OF_OURS;
	case EIO:
	case EUCLEAN:
	case EBADMSG:
		/* What the earlier list has of it is better than nothing. */
		if (r->inode == 0)
			guess_wire_size(r, &st);
		r->listed = e->inode;
		r->settled = 0;
		return UNREAD;
	default:
		return TROUBLE;
	}
}

/* Opens and counts the file of an entry. TROUBLE and UNREAD: see errno. */
static enum finding
look_into(struct maildir *m, const struct names *l, const struct entry *e, struct record *r)
{
	const struct unique u = names_unique(l, e);
	int error, fd = open_new(m, &u, e);
	enum finding result = FOUND;
	struct stat st = { .st_mode = 0 };

	if (fd == -1)
		return judge_unopened(e, r);
	if (count_file(fd, r, &st) == -1)
		result = S_ISREG(st.st_mode) ? UNREAD : TROUBLE;
	else if (!S_ISREG(st.st_mode))
		result = NONE_OF_OURS;
	error = errno;
	if (result == UNREAD)
		guess_wire_size(r, &st);
	close(fd);
	errno = error;
	r->listed = e->inode;
	return result;
}

/* The list of an earlier session, walked through beside a new listing; both are in the same order. */
struct earlier {
	struct index *list; /* NULL: there is none */
	size_t at;
};

/* Returns true if the earlier list knows this file by its unique name and inode: then *r is its record. */
static bool
is_known(struct earlier *old, const struct unique *u, ino_t inode, struct record *r)
{
	struct record there = { 0 };

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
		if (there.listed == inode) {
			*r = there;
			return true;
		}
	}
	return false;
}

/*
 * Returns true if the file with this name is what its record claims, or cannot
 * be found now, because it was renamed: then it is looked at next time.
 */
static bool
is_confirmed(const struct maildir *m, int directory, const char *name, struct record *r)
{
	struct stat st;

	if (fstatat(m->dirs[directory], name, &st, AT_SYMLINK_NOFOLLOW) == -1)
		return errno == ENOENT;
	if (!S_ISREG(st.st_mode) || !is_as_counted(r, &st, directory, name))
		return false;
	r->ctime = ns(&st.st_ctim);
	return true;
}

/* Copies the first m->count records of the earlier list to a new one, in which a name of this length fits. */
static void
begin_list(struct maildir *m, struct index *earlier, size_t longest)
{
	struct record r = { 0 };

	m->list = index_new(m->state, KIND, RECORD_SIZE(longest));
	for (size_t i = 0; i < m->count && get_record(earlier, i, &r); i++)
		index_put(m->list, i, &r);
}

/* Puts a record at the end of the list. The list is the earlier one for as long as both have the same records. */
static void
put_record(struct maildir *m, const struct names *l, struct index *earlier, const struct record *r)
{
	const void *there;

	m->note.wire_size += r->wire_size;
	if (m->list == earlier) {
		size_t size = index_record_size(earlier);

		there = index_get(earlier, m->count);
		if (there != NULL && memcmp(there, r, size) == 0) {
			m->count++;
			return;
		}
		if (m->count < index_count(earlier) || RECORD_SIZE(l->longest) > size)
			begin_list(m, earlier, l->longest);
	}
	index_put(m->list, m->count++, r);
}

/* Copies record i of a list. Returns true if it is one, with this unique name. */
static bool
get_double(struct index *list, size_t i, const struct unique *u, struct record *r)
{
	struct unique v;

	if (list == NULL || !get_record(list, i, r))
		return false;
	v = unique_of_record(r);
	return unique_compare(&v, u) == 0;
}

/* Returns true if the listing has a file with this unique name that is the record's. */
static bool
is_listed(const struct names *l, const struct unique *u, const struct record *r)
{
	for (const struct entry *e = names_find(l, u); names_has(l, e, u); e++)
		if (e->inode == r->listed || e->inode == r->inode)
			return true;
	return false;
}

/*
 * Gives a message the ordinal that the earlier list has for its file. A new one
 * has 0 if no file there has it, otherwise one that no message has had. By the
 * order of the inodes a new file could take the UIDL of another message, and its
 * client would take it for fetched.
 */
static void
choose_ordinal(const struct maildir *m, const struct names *l, const struct unique *u, const struct earlier *old,
    struct record *r)
{
	struct record other = { 0 };
	bool is_taken = false;
	uint32_t next = 1;

	r->ordinal = 0;
	for (size_t i = old->at; get_double(old->list, i, u, &other); i++) {
		if (other.inode == r->inode)
			r->ordinal = other.ordinal;
		else if (other.ordinal == 0)
			is_taken |= is_listed(l, u, &other);
		if (other.ordinal >= next)
			next = other.ordinal + 1;
	}
	if (r->ordinal != 0)
		is_taken = false;
	for (size_t k = m->count; k-- > 0 && get_double(m->list, k, u, &other);) {
		is_taken |= other.ordinal == r->ordinal;
		if (other.ordinal >= next)
			next = other.ordinal + 1;
	}
	if (is_taken)
		r->ordinal = next;
}

/* Adds the message of an entry, unless it is there already under another name. */
static void
add_message(struct maildir *m, const struct names *l, const struct entry *e, const struct earlier *old, struct record *r)
{
	const struct unique u = names_unique(l, e);
	struct record before = { 0 };

	/* Equal unique names are neighbours. */
	for (size_t k = m->count; k-- > 0 && get_double(m->list, k, &u, &before);)
		if (before.inode == r->inode)
			return;
	choose_ordinal(m, l, &u, old, r);
	r->time = e->time;
	r->directory = (uint8_t)e->directory;
	r->length = (uint16_t)strlen(u.name);
	r->unique = (uint16_t)u.n;
	memset(r->name, 0, sizeof(r->name));
	memcpy(r->name, u.name, r->length);
	put_record(m, l, old->list, r);
}

/* Returns true if an earlier list has the entry at this very place, with all of its name. */
static bool
is_at(struct index *list, size_t i, const struct names *l, const struct entry *e, struct record *r)
{
	return get_record(list, i, r) && r->listed == e->inode && r->directory == e->directory &&
	    strcmp(r->name, names_name(l, e)) == 0;
}

/*
 * Starts the list with the records of the earlier one that the listing begins
 * with. Returns how many; old->at is the first record to which a later entry
 * can belong.
 */
static size_t
start_list(struct maildir *m, const struct names *l, struct earlier *old)
{
	const bool small = l->count <= maildir_small;
	struct record r = { 0 };

	memcpy(m->note.seen, l->seen, sizeof(l->seen));
	m->note.wire_size = 0;
	m->count = 0;
	m->list = old->list != NULL ? old->list : index_new(m->state, KIND, RECORD_SIZE(l->longest));
	while (old->list != NULL && m->count < l->count && is_at(old->list, m->count, l, &l->list[m->count], &r) &&
	    (!small || is_confirmed(m, r.directory, r.name, &r))) {
		m->note.wire_size += r.wire_size;
		m->count++;
	}
	for (old->at = m->count; old->at > 0 && m->count < l->count; old->at--) {
		const struct unique u = names_unique(l, &l->list[m->count]);
		struct unique v;

		if (!get_record(old->list, old->at - 1, &r))
			break;
		v = unique_of_record(&r);
		if (unique_compare(&v, &u) != 0)
			break;
	}
	return m->count;
}

/* Finds the record of an entry: in the earlier list if that is still true, or by opening the file. */
static enum finding
find_record(struct maildir *m, const struct names *l, const struct entry *e, struct earlier *old, struct record *r)
{
	const struct unique u = names_unique(l, e);
	const bool small = l->count <= maildir_small;

	if (is_known(old, &u, e->inode, r) && (!small || is_confirmed(m, e->directory, u.name, r)))
		return FOUND;
	return look_into(m, l, e, r);
}

/* Makes the list of the messages of a listing; opens what the earlier list does not know. */
static enum drop_error
find_messages(struct maildir *m, struct names *l, struct index *earlier)
{
	struct earlier old = { .list = earlier };
	size_t unread = 0;
	int error = 0;

	for (size_t i = start_list(m, l, &old); i < l->count; i++) {
		const struct entry *e = &l->list[i];
		struct record r = { 0 };
		enum finding found = find_record(m, l, e, &old, &r);

		if (found == TROUBLE) {
			log_event(LOG_ERR, "failed", "what=\"reading the Maildir\" "
			    "error=\"%s\"", strerror(errno));
			return DROP_FAILED;
		}
		if (found == UNREAD) {
			error = errno;
			unread++;
		}
		if (found == FOUND || found == UNREAD)
			add_message(m, l, e, &old, &r);
		else if (found == NONE_OF_OURS) {
			/* No time of new or cur tells when it can be read: the next login tries again. */
			l->skipped++;
			m->note.seen[0].settled = 0;
		}
	}
	if (m->count < index_count(m->list))
		index_truncate(m->list, m->count);
	if (unread > 0)
		log_event(LOG_ERR, "failed", "what=\"reading messages of the Maildir\" files=%zu error=\"%s\"",
		    unread, strerror(error));
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
		return errno == ENOENT ? DROP_OK : deny_by_errno(name);
	if (fstat(*fd, &st) == -1)
		return deny_by_errno(name);
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

/* Returns true if the directory is not the one that the kept list was made with. */
static bool
is_another(const struct stat *st, const struct identity *then)
{
	return st->st_dev != then->device || st->st_ino != then->inode;
}

/*
 * Returns true if there were messages last time, there is no place for any now,
 * and the directory that had them is another one: then a file system may not be
 * mounted, and the client must not be told that there is no mail.
 */
static bool
has_vanished(const struct note *note, const struct store_place *place)
{
	struct stat directory, top, st;
	char name[NAME_MAX + 8];

	if (note->top.inode == 0 || fstat(place->dir, &directory) == -1)
		return false;
	if (fstatat(place->dir, place->name, &top, 0) == -1)
		return errno == ENOENT && is_another(&directory, &note->directory);
	for (int i = 0; i < NAMES_DIRECTORIES; i++) {
		snprintf(name, sizeof(name), "%s/%s", place->name, directories[i]);
		if (fstatat(place->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT)
			return false;
	}
	return is_another(&directory, &note->directory) || is_another(&top, &note->top);
}

/* Notes which directories have the messages. */
static int
identify(struct maildir *m, int directory, int top)
{
	struct stat st;

	if (fstat(directory, &st) == -1)
		return -1;
	m->directory = (struct identity){ st.st_dev, st.st_ino };
	if (fstat(top, &st) == -1)
		return -1;
	m->top = (struct identity){ st.st_dev, st.st_ino };
	return 0;
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
		return errno == ENOENT ? DROP_OK : deny_by_errno("the Maildir");
	if (fstat(top, &st) == -1 || identify(m, place->dir, top) == -1)
		return deny_by_errno("the Maildir");
	if (st.st_uid != geteuid())
		return deny("the Maildir", "it has another owner");
	for (int i = 0; error == DROP_OK && i < NAMES_DIRECTORIES; i++)
		error = open_directory(top, directories[i], &m->dirs[i]);
	m->base = top;
	return error;
}

/* The earlier session's list, if there is one. Whether it is current is another question. */
static struct index *
load(struct maildir *m)
{
	struct index *list = index_load(m->state, KIND);

	if (list == NULL || index_record_size(list) < RECORD_SIZE(1) || index_record_size(list) > sizeof(struct record))
		return NULL;
	memcpy(&m->note, index_note(list), sizeof(m->note));
	return list;
}

/* Reads the names, and the files that old does not know. */
static enum drop_error
update(struct maildir *m, struct index *old)
{
	struct names l = { 0 };
	enum drop_error error = make_listing(m, &l, old);

	if (error == DROP_OK)
		error = find_messages(m, &l, old);
	names_free(&l);
	m->doubted = false;
	m->note.directory = m->directory;
	m->note.top = m->dirs[0] != -1 || m->dirs[1] != -1 ? m->top : (struct identity){ 0 };
	if (error == DROP_OK)
		index_save(m->list, &m->note, sizeof(m->note));
	return error;
}

/* Returns true if all files of a small Maildir are what the list claims. */
static bool
is_confirmed_by_all(const struct maildir *m, struct index *list)
{
	struct record r = { 0 };
	uint64_t wire_size = 0;
	struct stat st;
	size_t i;

	for (i = 0; i < index_count(list); i++) {
		if (!get_record(list, i, &r) || !is_there(m, r.directory, r.name, &r, &st) ||
		    !is_as_counted(&r, &st, r.directory, r.name))
			return false;
		wire_size += r.wire_size;
	}
	return wire_size == m->note.wire_size;
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
	m->base = m->dirs[0] = m->dirs[1] = m->fd = -1;
	m->patience = PATIENCE;
	old = load(m);
	if (old != NULL && has_vanished(&m->note, place)) {
		log_event(LOG_ERR, "failed", "what=\"opening the Maildir\" error=\"there is none, and its "
		    "directory is another one than last time: is the file system mounted?\"");
		return DROP_FAILED;
	}
	if ((error = open_directories(m, place)) != DROP_OK)
		return error;
	if (old != NULL && names_is_current(m->dirs, m->note.seen) &&
	    (index_count(old) > maildir_small || is_confirmed_by_all(m, old))) {
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
	if (!names_is_current(m->dirs, was.seen) || update(m, NULL) != DROP_OK ||
	    m->count != count || m->note.wire_size != was.wire_size) {
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
	return ((const struct maildir *)box)->note.wire_size;
}

static uint64_t
maildir_wire_size(void *box, size_t i)
{
	struct record r;

	get(box, i, &r);
	return r.wire_size;
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

/* Opens a message where it is now. Returns its descriptor, or -1 with errno; ENOENT: it is gone. */
static int
open_message(struct maildir *m, const struct record *r, struct place *where)
{
	for (int tries = 0; tries < TRIES; tries++) {
		int fd;

		if (locate(m, r, where) == -1)
			return -1;
		if ((fd = open_file(where->dir, where->name)) == -1 && errno != ENOENT)
			return -1;
		if (fd != -1 && fstat(fd, &where->st) == 0 && where->st.st_ino == r->inode)
			return fd;
		if (fd != -1)
			close(fd);
	}
	errno = ENOENT;
	return -1;
}

/*
 * Counts the open message i again if it was changed in place, or could have
 * been: the client gets what stands there, and its right size. The index is put
 * right, too. Returns 0, or -1 with errno.
 */
static int
recount(struct maildir *m, size_t i, struct record *r, struct place *where)
{
	const uint64_t wire_size = r->wire_size;
	const void *kept;

	if (is_as_counted(r, &where->st, where->directory, where->name))
		return 0;
	if (count_file(m->fd, r, &where->st) == -1)
		return -1;
	m->note.wire_size += r->wire_size - wire_size;
	kept = index_get(m->list, i);
	if (kept == NULL || memcmp(kept, r, index_record_size(m->list)) != 0)
		put_right(m, i, r);
	return 0;
}

static enum drop_error
maildir_fetch(void *box, size_t i, struct span *s)
{
	struct maildir *m = box;
	struct record r = { 0 };
	struct place where;

	get(m, i, &r);
	if (m->fd != -1)
		close(m->fd);
	m->fd = open_message(m, &r, &where);
	if (m->fd == -1 && errno == ENOENT) {
		distrust(m, i, &r);
		return DROP_CHANGED;
	}
	if (m->fd == -1 || recount(m, i, &r, &where) == -1)
		return DROP_FAILED;
	m->fetched = where.st;
	*s = (struct span){ .fd = m->fd, .bytes = (uint64_t)r.size, .wire_size = r.wire_size };
	return DROP_OK;
}

/* Returns true if the message fetched last was not changed since. A rename, which changes only the ctime, does not matter. */
static bool
maildir_stands(void *box, size_t i)
{
	const struct maildir *m = box;
	struct stat st;

	(void)i;
	return fstat(m->fd, &st) == 0 && st.st_size == m->fetched.st_size &&
	    ns(&st.st_mtim) == ns(&m->fetched.st_mtim);
}

/*
 * The file has other bytes than were counted, and the size and mtime that it had
 * then. If it did not change while it was sent, what was sent is the message. It
 * is counted again when it is fetched next, and at the next login.
 */
static bool
maildir_recounted(void *box, size_t i)
{
	struct maildir *m = box;
	struct record r = { 0 };

	get(m, i, &r);
	r.settled = 0;
	distrust(m, i, &r);
	return maildir_stands(m, i);
}

/* A removal: what it needs of one message for the next. */
struct removal {
	bool touched[NAMES_DIRECTORIES]; /* to be synced */
	bool listed;                       /* m->now was made by it */
	struct quota quota;
};

/*
 * Removes the other names of a message that has just been unlinked: a mail
 * reader that links a file and unlinks the old name may have stopped in between.
 * The names are read once for all messages, because a backup program may have
 * given each file a second link elsewhere.
 */
static void
unlink_others(struct maildir *m, const struct record *r, struct removal *removal)
{
	const struct unique u = unique_of_record(r);
	struct stat st;

	if (!removal->listed && make_listing(m, &m->now, m->list) != DROP_OK)
		return;
	removal->listed = true;
	for (const struct entry *e = names_find(&m->now, &u); names_has(&m->now, e, &u); e++)
		if (is_there(m, e->directory, names_name(&m->now, e), r, &st) && has_its_content(r, &st) &&
		    unlinkat(m->dirs[e->directory], names_name(&m->now, e), 0) == 0)
			removal->touched[e->directory] = true;
}

/*
 * Removes a message. Returns 0, or -1 with errno; ENOENT: it is gone, or was
 * changed since it was listed or fetched. The ctime does not count here:
 * a new link or other flags are no reason to keep what the client deleted.
 */
static int
unlink_message(struct maildir *m, size_t i, struct removal *removal)
{
	struct record r = { 0 };
	struct place where;

	get(m, i, &r);
	for (int tries = 0; tries < TRIES; tries++) {
		if (locate(m, &r, &where) == -1)
			break;
		if (!has_its_content(&r, &where.st)) {
			errno = ENOENT;
			break;
		}
		if (unlinkat(where.dir, where.name, 0) == 0) {
			removal->touched[where.directory] = true;
			/* Before the names are read again. */
			quota_note(&removal->quota, where.name, where.st.st_size);
			if (where.st.st_nlink > 1)
				unlink_others(m, &r, removal);
			return 0;
		}
		if (errno != ENOENT)
			return -1;
	}
	if (errno == ENOENT) {
		distrust(m, i, &r);
		errno = ENOENT;
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
	struct removal removal = { .listed = false };
	int error = 0;

	for (size_t i = 0; i < m->count; i++) {
		if (!store_marked(marks, i))
			continue;
		if (unlink_message(m, i, &removal) == 0)
			++*removed;
		else if (error == 0)
			error = errno;
	}
	for (int i = 0; i < NAMES_DIRECTORIES; i++)
		if (removal.touched[i] && fsync(m->dirs[i]) == -1 && error == 0)
			error = errno;
	quota_tell(&removal.quota, m->base);
	return error == 0 ? DROP_OK : why_not(error, *removed);
}

const struct store_ops maildir_store = {
	.open = maildir_open,
	.count = maildir_count,
	.total = maildir_total,
	.wire_size = maildir_wire_size,
	.uidl = maildir_uidl,
	.fetch = maildir_fetch,
	.stands = maildir_stands,
	.recounted = maildir_recounted,
	.remove = maildir_remove,
};
