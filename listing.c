/*
 * Lists the names in a Maildir, in the order of its messages.
 *
 * Runs as the owner of the mailbox. Names that begin with a dot are not
 * messages. Files that are not regular or have a control character in their
 * name are left out and counted. Nothing is locked: what a name stands for may
 * have gone a moment later, and comes back under another one (maildir.c).
 */
#include "config.h"

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "listing.h"
#include "log.h"

/* How often a directory that changes meanwhile is read again. */
#define TRIES 5

const char *
listing_name(const struct listing *l, const struct entry *e)
{
	return l->names + e->name;
}

struct unique
listing_unique(const struct listing *l, const struct entry *e)
{
	return (struct unique){ e->time, listing_name(l, e), e->unique };
}

static uint64_t
time_of(const char *name)
{
	return strtoull(name, NULL, 10);
}

int
unique_compare(const struct unique *x, const struct unique *y)
{
	int order;

	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	order = memcmp(x->name, y->name, x->n < y->n ? x->n : y->n);
	return order != 0 ? order : (x->n > y->n) - (x->n < y->n);
}

static int
compare_entries(const void *a, const void *b, void *listing)
{
	const struct entry *e = a, *f = b;
	struct unique x, y;
	int order;

	if (e->time != f->time)
		return e->time < f->time ? -1 : 1;
	x = listing_unique(listing, e);
	y = listing_unique(listing, f);
	if ((order = unique_compare(&x, &y)) != 0)
		return order;
	/* Not by the flags: of two with one name each would have the other's ordinal, and so its id, when they change. */
	return e->inode != f->inode ? (e->inode > f->inode ? 1 : -1) : strcmp(x.name, y.name);
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
add(struct listing *l, const struct dirent *d, int directory)
{
	size_t n = strlen(d->d_name);

	make_room(l, n + 1);
	memcpy(l->names + l->used, d->d_name, n + 1);
	l->list[l->count++] = (struct entry){ .time = time_of(d->d_name), .inode = d->d_ino,
		.name = l->used, .unique = (size_t)(strchrnul(d->d_name, ':') - d->d_name), .directory = directory };
	l->used += n + 1;
	if (n > l->longest)
		l->longest = n;
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
			add(l, d, directory);
	error = errno;
	closedir(stream);
	errno = error;
	return error == 0 ? 0 : -1;
}

/* What new and cur are now. */
static void
look(const int dirs[LISTING_DIRECTORIES], struct stamp seen[LISTING_DIRECTORIES])
{
	for (int i = 0; i < LISTING_DIRECTORIES; i++) {
		seen[i] = (struct stamp){ .settled = 1 };
		if (dirs[i] != -1 && stamp_take(&seen[i], dirs[i]) == -1)
			fatal("fstat of the Maildir");
	}
}

bool
listing_is_current(const int dirs[LISTING_DIRECTORIES], const struct stamp seen[LISTING_DIRECTORIES])
{
	struct stamp now[LISTING_DIRECTORIES];

	look(dirs, now);
	return stamp_proves(&seen[0], &now[0]) && stamp_proves(&seen[1], &now[1]);
}

/*
 * A directory that changes while it is read may show a file
 * twice or not at all, so it is read again; whoever changes it all the time
 * gets what was seen last, and the rest at the next login.
 */
enum drop_error
listing_make(struct listing *l, const int dirs[LISTING_DIRECTORIES])
{
	struct stamp now[LISTING_DIRECTORIES];

	make_room(l, 1);
	for (int tries = 0; tries < TRIES; tries++) {
		look(dirs, l->seen);
		l->count = l->used = l->skipped = l->longest = 0;
		for (int i = 0; i < LISTING_DIRECTORIES; i++) {
			if (dirs[i] == -1 || list_directory(l, dirs[i], i) == 0)
				continue;
			log_event(LOG_ERR, "failed", "what=\"reading the Maildir\" "
			    "error=\"%s\"", strerror(errno));
			return DROP_FAILED;
		}
		look(dirs, now);
		if (stamp_same(&l->seen[0], &now[0]) && stamp_same(&l->seen[1], &now[1]))
			break;
		l->seen[0].settled = 0;
	}
	qsort_r(l->list, l->count, sizeof(*l->list), compare_entries, l);
	return DROP_OK;
}

const struct entry *
listing_find(const struct listing *l, const struct unique *u)
{
	size_t low = 0, high = l->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct unique there = listing_unique(l, &l->list[middle]);

		if (unique_compare(&there, u) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return l->list + low;
}

bool
listing_has(const struct listing *l, const struct entry *e, const struct unique *u)
{
	struct unique there;

	if (e >= l->list + l->count)
		return false;
	there = listing_unique(l, e);
	return unique_compare(&there, u) == 0;
}

void
listing_free(struct listing *l)
{
	free(l->names);
	free(l->list);
}
