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
 * Names that begin with a dot are not messages. Files that are not regular,
 * that cannot be read or have a control character in their name are skipped,
 * and the log says how many.
 */
#include "config.h"

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "store.h"
#include "wire.h"

#define PIECE ((size_t)256 << 10) /* read at a time */
#define DIRECTORIES 2
/* How often a message that is renamed just when we reach for it is looked for again. */
#define TRIES 5

/* In this order: a file that goes from the first to the second meanwhile is not missed. */
static const char *const directories[DIRECTORIES] = { "new", "cur" };

struct entry {
	size_t name;   /* where it begins in the listing's names */
	size_t unique; /* octets of it before the colon */
	int directory;
};

/* The names in new and cur at one moment, in the order of the messages. */
struct listing {
	char *names;
	size_t used, room;
	struct entry *list;
	size_t count, list_room;
	size_t skipped;
	struct stat seen[DIRECTORIES];
	bool settled; /* a later change would show in seen's times */
};

struct message {
	size_t entry;   /* in the first listing */
	dev_t device;
	ino_t inode;
	off_t size;
	uint64_t octets; /* as POP3 counts */
	unsigned ordinal; /* among equal unique names */
};

struct maildir {
	int dirs[DIRECTORIES]; /* -1: absent, hence empty */
	struct listing first, now;
	struct message *list;
	size_t count;
	int fd; /* of the message fetched last */
};

static const char *
name_of(const struct listing *l, const struct entry *e)
{
	return l->names + e->name;
}

static enum drop_error
deny(const char *what, const char *why)
{
	log_event(LOG_ERR, "failed", "what=\"opening %s\" error=\"%s\"", what, why);
	return DROP_DENIED;
}

/* By the time of delivery, with which unique names begin; then by the name. */
static int
compare_unique(const char *a, size_t an, const char *b, size_t bn)
{
	unsigned long long x = strtoull(a, NULL, 10), y = strtoull(b, NULL, 10);
	int order;

	if (x != y)
		return x < y ? -1 : 1;
	order = memcmp(a, b, an < bn ? an : bn);
	return order != 0 ? order : (an > bn) - (an < bn);
}

static int
compare_entries(const void *a, const void *b, void *listing)
{
	const struct listing *l = listing;
	const struct entry *x = a, *y = b;
	int order = compare_unique(name_of(l, x), x->unique, name_of(l, y), y->unique);

	return order != 0 ? order : strcmp(name_of(l, x), name_of(l, y));
}

static bool
has_control(const char *name)
{
	for (; *name != '\0'; name++)
		if ((unsigned char)*name < ' ' || *name == 0x7f)
			return true;
	return false;
}

/* Room for one more entry with a name of n octets. */
static void
make_room(struct listing *l, size_t n)
{
	if (l->count == l->list_room) {
		l->list_room = l->list_room == 0 ? 64 : l->list_room * 2;
		l->list = reallocarray(l->list, l->list_room, sizeof(*l->list));
	}
	if (l->used + n > l->room) {
		l->room = (l->room + n) * 2;
		l->names = realloc(l->names, l->room);
	}
	if (l->list == NULL || l->names == NULL)
		fatal("list of %zu messages", l->list_room);
}

static void
add(struct listing *l, const char *name, int directory)
{
	size_t n = strlen(name) + 1;

	make_room(l, n);
	memcpy(l->names + l->used, name, n);
	l->list[l->count++] = (struct entry){ .name = l->used,
		.unique = strcspn(name, ":"), .directory = directory };
	l->used += n;
}

/* Whether a directory entry is a message. What is none of them but could be taken for one is counted. */
static bool
is_message(struct listing *l, int directory, const struct dirent *d)
{
	struct stat st;
	bool regular = d->d_type == DT_REG;

	if (d->d_name[0] == '.')
		return false;
	if (d->d_type == DT_UNKNOWN)
		regular = fstatat(directory, d->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    S_ISREG(st.st_mode);
	if (regular && !has_control(d->d_name))
		return true;
	l->skipped++;
	return false;
}

/* Adds the names of one directory. Returns 0, or -1 with errno. */
static int
list_directory(struct listing *l, int fd, int directory)
{
	const struct dirent *d;
	int error, copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = copy != -1 ? fdopendir(copy) : NULL;

	if (stream == NULL) {
		error = errno;
		if (copy != -1)
			close(copy);
		errno = error;
		return -1;
	}
	while (errno = 0, (d = readdir(stream)) != NULL)
		if (is_message(l, copy, d))
			add(l, d->d_name, directory);
	error = errno;
	closedir(stream);
	errno = error;
	return error == 0 ? 0 : -1;
}

/* The times of new and cur as they are now. Returns whether they are the same as in seen. */
static bool
look(const struct maildir *m, struct stat seen[DIRECTORIES])
{
	bool same = true;

	for (int i = 0; i < DIRECTORIES; i++) {
		struct stat st = { 0 };

		if (m->dirs[i] != -1 && fstat(m->dirs[i], &st) == -1)
			fatal("fstat of the Maildir");
		same &= store_same_time(&st.st_mtim, &seen[i].st_mtim);
		seen[i] = st;
	}
	return same;
}

/* Whether nothing can have changed since the listing was made. */
static bool
is_current(const struct maildir *m, const struct listing *l)
{
	struct stat seen[DIRECTORIES];

	memcpy(seen, l->seen, sizeof(seen));
	return l->settled && look(m, seen);
}

/*
 * All names anew. A directory that changes while it is read may show a file
 * twice or not at all, so it is read again; whoever changes it all the time
 * gets what was seen last, and the rest at the next login.
 */
static enum drop_error
list_names(const struct maildir *m, struct listing *l)
{
	struct timespec now;

	make_room(l, 1);
	look(m, l->seen);
	for (int tries = 0; tries < TRIES; tries++) {
		l->count = l->used = l->skipped = 0;
		if (clock_gettime(CLOCK_REALTIME, &now) == -1)
			fatal("clock_gettime");
		for (int i = 0; i < DIRECTORIES; i++) {
			if (m->dirs[i] == -1 || list_directory(l, m->dirs[i], i) == 0)
				continue;
			log_event(LOG_ERR, "failed", "what=\"reading the Maildir\" "
			    "error=\"%s\"", strerror(errno));
			return DROP_FAILED;
		}
		if (look(m, l->seen))
			break;
	}
	l->settled = true;
	for (int i = 0; i < DIRECTORIES; i++)
		l->settled &= store_settled(&l->seen[i], &now);
	qsort_r(l->list, l->count, sizeof(*l->list), compare_entries, l);
	return DROP_OK;
}

/* The first entry with this unique name, or the end of the listing. */
static const struct entry *
find_unique(const struct listing *l, const char *unique, size_t n)
{
	size_t low = 0, high = l->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct entry *e = &l->list[middle];

		if (compare_unique(name_of(l, e), e->unique, unique, n) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return l->list + low;
}

static bool
has_unique(const struct listing *l, const struct entry *e, const char *unique, size_t n)
{
	return e < l->list + l->count &&
	    compare_unique(name_of(l, e), e->unique, unique, n) == 0;
}

/* Whether the file at this entry is that message. */
static bool
is_there(const struct maildir *m, const struct listing *l, const struct entry *e,
    const struct message *one)
{
	struct stat st;

	return fstatat(m->dirs[e->directory], name_of(l, e), &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) && st.st_dev == one->device &&
	    st.st_ino == one->inode && st.st_size == one->size;
}

/* Where message one is now, in new or cur under whatever flags. NULL: nowhere; errno is ENOENT or the trouble. */
static const struct entry *
locate(struct maildir *m, const struct message *one, const struct listing **l)
{
	const struct entry *e = &m->first.list[one->entry];
	const char *unique = name_of(&m->first, e);
	size_t n = e->unique;

	*l = &m->first;
	if (is_there(m, *l, e, one))
		return e;
	*l = &m->now;
	for (int fresh = (*l)->list == NULL; fresh < 2; fresh++) {
		if (fresh == 1 && list_names(m, &m->now) != DROP_OK) {
			errno = EIO;
			return NULL;
		}
		for (e = find_unique(*l, unique, n); has_unique(*l, e, unique, n); e++)
			if (is_there(m, *l, e, one))
				return e;
		if (is_current(m, &m->now))
			break;
	}
	errno = ENOENT;
	return NULL;
}

static int
open_entry(const struct maildir *m, const struct listing *l, const struct entry *e)
{
	return openat(m->dirs[e->directory], name_of(l, e),
	    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* Opens the file of an entry of the first listing, under its present name when it was renamed meanwhile. Returns it, or -1 with errno. */
static int
open_new(struct maildir *m, const struct entry *e)
{
	const char *unique = name_of(&m->first, e);
	size_t n = e->unique;
	int fd = open_entry(m, &m->first, e);

	for (int tries = 0; fd == -1 && errno == ENOENT && tries < TRIES; tries++) {
		if (!is_current(m, &m->now) && list_names(m, &m->now) != DROP_OK)
			return -1;
		e = find_unique(&m->now, unique, n);
		errno = ENOENT;
		if (!has_unique(&m->now, e, unique, n))
			break;
		fd = open_entry(m, &m->now, e);
	}
	return fd;
}

/* Reads the open file to its end, counting. Returns 0, or -1 with errno. */
static int
count_octets(int fd, struct message *one)
{
	static char buffer[PIECE];
	struct wire w;
	ssize_t n;

	wire_init(&w, WIRE_ALL);
	one->size = 0;
	while ((n = read(fd, buffer, sizeof(buffer))) != 0) {
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return -1;
		wire_put(&w, buffer, (size_t)n, NULL);
		one->size += n;
	}
	wire_end(&w, NULL);
	one->octets = w.octets;
	return 0;
}

static bool
same_file(const struct message *a, const struct message *b)
{
	return a->device == b->device && a->inode == b->inode;
}

/* Adds the message of entry i of the first listing, unless it is there already under another name. */
static void
add_message(struct maildir *m, size_t i, struct message *one)
{
	const struct entry *e = &m->first.list[i];

	one->entry = i;
	one->ordinal = 0;
	/* Equal unique names are neighbours. */
	for (size_t k = m->count; k-- > 0;) {
		const struct entry *before = &m->first.list[m->list[k].entry];

		if (compare_unique(name_of(&m->first, before), before->unique,
			name_of(&m->first, e), e->unique) != 0)
			break;
		if (same_file(&m->list[k], one))
			return;
		one->ordinal++;
	}
	m->list[m->count++] = *one;
}

/* Opens and counts every listed message. */
static enum drop_error
count_messages(struct maildir *m)
{
	m->list = reallocarray(NULL, m->first.count + 1, sizeof(*m->list));
	if (m->list == NULL)
		fatal("list of %zu messages", m->first.count);
	for (size_t i = 0; i < m->first.count; i++) {
		struct message one = { 0 };
		struct stat st;
		int error, fd = open_new(m, &m->first.list[i]);

		if (fd == -1 && errno == ENOENT)
			continue; /* removed by another program meanwhile */
		if (fd == -1 && (errno == EACCES || errno == EPERM || errno == ELOOP)) {
			m->first.skipped++;
			continue;
		}
		if (fd == -1 || fstat(fd, &st) == -1 ||
		    (S_ISREG(st.st_mode) && count_octets(fd, &one) == -1)) {
			error = errno;
			log_event(LOG_ERR, "failed", "what=\"reading the Maildir\" "
			    "error=\"%s\"", strerror(error));
			return DROP_FAILED;
		}
		close(fd);
		if (!S_ISREG(st.st_mode)) {
			m->first.skipped++;
			continue;
		}
		one.device = st.st_dev;
		one.inode = st.st_ino;
		add_message(m, i, &one);
	}
	if (m->first.skipped > 0)
		log_event(LOG_WARNING, "skipped", "files=%zu reason=\"not regular, "
		    "not readable or an odd name\"", m->first.skipped);
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
	for (int i = 0; error == DROP_OK && i < DIRECTORIES; i++)
		error = open_directory(top, directories[i], &m->dirs[i]);
	close(top);
	return error;
}

static enum drop_error
maildir_open(const struct store_place *place, void **box)
{
	struct maildir *m = calloc(1, sizeof(*m));
	enum drop_error error;

	if (m == NULL)
		fatal("calloc");
	*box = m;
	m->dirs[0] = m->dirs[1] = m->fd = -1;
	if ((error = open_directories(m, place)) != DROP_OK ||
	    (error = list_names(m, &m->first)) != DROP_OK)
		return error;
	return count_messages(m);
}

static size_t
maildir_count(const void *box)
{
	return ((const struct maildir *)box)->count;
}

static uint64_t
maildir_octets(const void *box, size_t i)
{
	return ((const struct maildir *)box)->list[i].octets;
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
	const struct maildir *m = box;
	const struct message *one = &m->list[i];
	const struct entry *e = &m->first.list[one->entry];
	const char *unique = name_of(&m->first, e);
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char ordinal[16] = "";
	SHA2_CTX hash;

	if (one->ordinal == 0 && is_id(unique, e->unique)) {
		memcpy(id, unique, e->unique);
		id[e->unique] = '\0';
		return;
	}
	SHA256Init(&hash);
	SHA256Update(&hash, (const uint8_t *)unique, e->unique);
	if (one->ordinal != 0)
		snprintf(ordinal, sizeof(ordinal), ":%u", one->ordinal + 1);
	SHA256Update(&hash, (const uint8_t *)ordinal, strlen(ordinal));
	SHA256Final(digest, &hash);
	uidl_write(digest, id);
}

static enum drop_error
maildir_fetch(void *box, size_t i, struct span *s)
{
	struct maildir *m = box;
	const struct message *one = &m->list[i];
	const struct listing *l;
	const struct entry *e;
	struct stat st;

	if (m->fd != -1)
		close(m->fd);
	m->fd = -1;
	for (int tries = 0; tries < TRIES && m->fd == -1; tries++) {
		if ((e = locate(m, one, &l)) == NULL)
			break;
		m->fd = open_entry(m, l, e);
		if (m->fd == -1 && errno != ENOENT) {
			log_event(LOG_ERR, "failed", "what=\"reading message %zu\" "
			    "error=\"%s\"", i + 1, strerror(errno));
			return DROP_FAILED;
		}
	}
	if (m->fd == -1 || fstat(m->fd, &st) == -1 || st.st_size != one->size ||
	    st.st_ino != one->inode) {
		log_event(LOG_WARNING, "failed", "what=\"reading message %zu\" "
		    "error=\"another program changed the mailbox\"", i + 1);
		return DROP_CHANGED;
	}
	*s = (struct span){ .fd = m->fd, .bytes = (uint64_t)one->size,
		.octets = one->octets };
	return DROP_OK;
}

/* Returns the directory that the message was unlinked from, or -1 with errno; ENOENT: it is gone or was changed. */
static int
unlink_message(struct maildir *m, const struct message *one)
{
	for (int tries = 0; tries < TRIES; tries++) {
		const struct listing *l;
		const struct entry *e = locate(m, one, &l);

		if (e == NULL)
			return -1;
		if (unlinkat(m->dirs[e->directory], name_of(l, e), 0) == 0)
			return e->directory;
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
	bool touched[DIRECTORIES] = { false };
	int error = 0;

	for (size_t i = 0; i < m->count; i++) {
		int directory;

		if (!store_marked(marks, i))
			continue;
		directory = unlink_message(m, &m->list[i]);
		if (directory != -1) {
			touched[directory] = true;
			++*removed;
		} else if (error == 0)
			error = errno;
	}
	for (int i = 0; i < DIRECTORIES; i++)
		if (touched[i] && fsync(m->dirs[i]) == -1 && error == 0)
			error = errno;
	return error == 0 ? DROP_OK : why_not(error, *removed);
}

const struct store_ops maildir_store = {
	.open = maildir_open,
	.count = maildir_count,
	.octets = maildir_octets,
	.uidl = maildir_uidl,
	.fetch = maildir_fetch,
	.remove = maildir_remove,
};
