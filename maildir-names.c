/*
 * Lists the names of the files in a Maildir, in the order of its messages.
 *
 * Runs in the session, as the owner of the mailbox. Files whose names begin
 * with a dot are not messages. Files that are not regular, or have a control
 * character in their name, are left out, and their number is logged. Nothing is
 * locked, so a file may have another name a moment later. Then maildir-files.c
 * searches for the file.
 *
 * If a file is renamed during a pass over the directories, readdir may return
 * the file under both names or not at all. A pass certainly contains every file
 * if the directories did not change during the pass and for some time before
 * (fingerprint.c). If they did change, more passes are made. All passes are
 * compared with each other and with the list of an earlier session.
 */
#include "config.h"

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "maildir-names.h"
#include "volume.h"

/*
 * names_insist stops after this many passes or this time. Files that are still
 * missing stay in the list. Otherwise clients that keep mail on the server
 * would fetch such a message once more when its file reappears.
 */
#define PASSES 50
#define PASSES_NS INT64_C(1000000000)
/*
 * If the times of the directories have not changed for QUIET_NS, a file counts
 * as removed after only MISSES_IF_QUIET passes without it. QUIET_NS is four
 * ticks, as in fingerprint.c.
 */
#define QUIET_NS INT64_C(40000000)
#define MISSES_IF_QUIET 3
/* The least number of passes, with and without an earlier list. */
#define PASSES_IF_KNOWN 2
#define PASSES_IF_NEW 4

const char *
names_name(const struct names *l, const struct entry *e)
{
	return l->names + e->name;
}

struct unique
names_unique(const struct names *l, const struct entry *e)
{
	return (struct unique){ e->time, names_name(l, e), e->unique };
}

/* Returns the number with which a name begins, or 0 if no number is there. */
static uint64_t
time_of(const char *name)
{
	return strtoull(name, NULL, 10);
}

struct unique
unique_of(const char *name, size_t n)
{
	char text[NAME_MAX + 1];

	memcpy(text, name, n);
	text[n] = '\0';
	return (struct unique){ time_of(text), name, n };
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

/*
 * Compares two files by unique name, then by inode. The full name must not
 * decide, because it contains the flags. Otherwise merge_pass would take a file
 * with new flags for another file. Also, if there is no earlier list, this
 * order decides the ordinals, and so the UIDLs, of two messages with the same
 * unique name.
 */
static int
compare_files(const struct names *l, const struct entry *e,
    const struct names *k, const struct entry *f)
{
	struct unique x, y;
	int order;

	if (e->time != f->time)
		return e->time < f->time ? -1 : 1;
	x = names_unique(l, e);
	y = names_unique(k, f);
	if ((order = unique_compare(&x, &y)) != 0)
		return order;
	return (e->inode > f->inode) - (e->inode < f->inode);
}

/*
 * Compares two entries of a list for qsort_r: as compare_files does, then by
 * full name.
 */
static int
compare_entries(const void *a, const void *b, void *listing)
{
	const struct entry *e = a, *f = b;
	int order = compare_files(listing, e, listing, f);

	return order != 0 ?
	    order :
	    strcmp(names_name(listing, e), names_name(listing, f));
}

/* Sorts the entries into the order of the messages. */
static void
sort_entries(struct names *l)
{
	if (l->count > 0)
		qsort_r(l->list, l->count, sizeof(*l->list), compare_entries,
		    l);
}

/* Returns true if a name contains a control character. */
static bool
has_control(const char *name)
{
	for (; *name != '\0'; name++)
		if ((unsigned char)*name < ' ' || *name == 0x7f)
			return true;
	return false;
}

/* Makes room for one more entry with a name of n bytes. */
static void
reserve_entry(struct names *l, size_t n)
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

void
names_add(struct names *l, const char *name, ino_t inode, int directory)
{
	size_t n = strlen(name);

	reserve_entry(l, n + 1);
	memcpy(l->names + l->used, name, n + 1);
	l->list[l->count++] = (struct entry){ .time = time_of(name),
		.inode = inode,
		.name = l->used,
		.unique = (size_t)(strchrnul(name, ':') - name),
		.directory = directory };
	l->used += n + 1;
	if (n > l->longest)
		l->longest = n;
}

/*
 * Returns true if a directory entry that is not hidden can be a message. If the
 * entry's type is unknown and fstatat does not find the file, the entry counts
 * as a message, because the file was probably renamed.
 */
static bool
is_message(int directory, const struct dirent *d)
{
	struct stat st;
	bool regular = d->d_type == DT_REG;

	if (d->d_type == DT_UNKNOWN)
		regular = fstatat(directory, d->d_name, &st,
			      AT_SYMLINK_NOFOLLOW) == -1 ||
		    S_ISREG(st.st_mode);
	return regular && !has_control(d->d_name);
}

/* Adds the names of one directory. Returns 0, or -1 with errno. */
static int
list_directory(struct names *l, int fd, int directory)
{
	DIR *stream = volume_open_names(fd);
	const struct dirent *d;
	int error;

	if (stream == NULL)
		return -1;
	while (errno = 0, (d = readdir(stream)) != NULL) {
		if (d->d_name[0] == '.')
			continue;
		if (is_message(fd, d))
			names_add(l, d->d_name, d->d_ino, directory);
		else
			l->skipped++;
	}
	error = errno;
	closedir(stream);
	errno = error;
	return error == 0 ? 0 : -1;
}

/*
 * Takes the fingerprints of new and cur. An absent directory gets an empty
 * fingerprint that is stable.
 */
static void
take_fingerprints(const int dirs[NAMES_DIRECTORIES],
    struct fingerprint seen[NAMES_DIRECTORIES])
{
	for (int i = 0; i < NAMES_DIRECTORIES; i++) {
		seen[i] = (struct fingerprint){ .stable = 1 };
		if (dirs[i] != -1 && fingerprint_take(&seen[i], dirs[i]) == -1)
			fatal("fstat of the Maildir");
	}
}

/*
 * Makes take_fingerprints return what the directories are now. Returns 0, or -1
 * with errno.
 */
static int
ask_directories(const int dirs[NAMES_DIRECTORIES], int (*ask)(int))
{
	for (int i = 0; i < NAMES_DIRECTORIES; i++)
		if (dirs[i] != -1 && ask(dirs[i]) == -1)
			return -1;
	return 0;
}

bool
names_is_current(const int dirs[NAMES_DIRECTORIES],
    const struct fingerprint seen[NAMES_DIRECTORIES])
{
	struct fingerprint now[NAMES_DIRECTORIES];

	if (ask_directories(dirs, volume_ask_directory) == -1)
		return false;
	take_fingerprints(dirs, now);
	return fingerprint_matches(&seen[0], &now[0]) &&
	    fingerprint_matches(&seen[1], &now[1]);
}

bool
names_is_proven(const struct names *l)
{
	return l->seen[0].stable == 1 && l->seen[1].stable == 1;
}

/* Logs errno. Returns DROP_FAILED. */
static enum drop_error
fail_to_read(void)
{
	log_failed("reading the Maildir");
	return DROP_FAILED;
}

enum drop_error
names_read(struct names *l, const int dirs[NAMES_DIRECTORIES])
{
	struct fingerprint now[NAMES_DIRECTORIES];

	reserve_entry(l, 1);
	if (ask_directories(dirs, volume_ask) == -1)
		return fail_to_read();
	take_fingerprints(dirs, l->seen);
	l->count = l->used = l->skipped = l->longest = 0;
	for (int i = 0; i < NAMES_DIRECTORIES; i++)
		if (dirs[i] != -1 && list_directory(l, dirs[i], i) == -1)
			return fail_to_read();
	if (ask_directories(dirs, volume_ask) == -1)
		return fail_to_read();
	take_fingerprints(dirs, now);
	if (!fingerprint_matches(&l->seen[0], &now[0]) ||
	    !fingerprint_matches(&l->seen[1], &now[1]))
		l->seen[0].stable = 0;
	sort_entries(l);
	return DROP_OK;
}

/* Returns the monotonic clock in ns. */
static int64_t
monotonic_ns(void)
{
	struct timespec t;

	if (clock_gettime(CLOCK_MONOTONIC, &t) == -1)
		fatal("clock_gettime");
	return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Returns true if new and cur have the same fingerprints in a and b. */
static bool
have_same_times(const struct fingerprint a[NAMES_DIRECTORIES],
    const struct fingerprint b[NAMES_DIRECTORIES])
{
	return fingerprint_same(&a[0], &b[0]) && fingerprint_same(&a[1], &b[1]);
}

/*
 * Adds the files of a pass to the known files. Counts for each known file how
 * many passes in a row have lacked it.
 */
static void
merge_pass(struct names *known, const struct names *l)
{
	size_t i = 0, n = known->count;

	for (size_t k = 0; k < n; k++)
		known->list[k].missed++;
	for (size_t k = 0; k < l->count; k++) {
		const struct entry *e = &l->list[k];

		while (i < n && compare_files(known, &known->list[i], l, e) < 0)
			i++;
		if (i < n && compare_files(known, &known->list[i], l, e) == 0)
			known->list[i].missed = 0;
		else if (k == 0 || compare_files(l, e - 1, l, e) != 0)
			names_add(known, names_name(l, e), e->inode,
			    e->directory);
	}
	if (known->count > n)
		sort_entries(known);
}

/*
 * Returns true if the last pass lacks this known file, and the file does not
 * count as removed yet.
 */
static bool
is_missing(const struct entry *e, unsigned misses)
{
	return e->missed > 0 && e->missed < misses;
}

/* Returns true if any known file is missing. */
static bool
is_any_missing(const struct names *known, unsigned misses)
{
	for (size_t i = 0; i < known->count; i++)
		if (is_missing(&known->list[i], misses))
			return true;
	return false;
}

/* Adds the known files that are missing to the last pass. */
static void
add_missing(const struct names *known, unsigned misses, struct names *l)
{
	for (size_t i = 0; i < known->count; i++) {
		const struct entry *e = &known->list[i];

		if (is_missing(e, misses))
			names_add(l, names_name(known, e), e->inode,
			    e->directory);
	}
}

enum drop_error
names_insist(struct names *l, const int dirs[NAMES_DIRECTORIES],
    struct names *known)
{
	const int least = known->count > 0 ? PASSES_IF_KNOWN : PASSES_IF_NEW;
	const int64_t begin = monotonic_ns();
	int64_t now = begin, quiet_since = begin;

	sort_entries(known);
	for (int passes = 1;; passes++) {
		unsigned misses = now - quiet_since > QUIET_NS ?
		    MISSES_IF_QUIET :
		    NAMES_MISSES;
		struct fingerprint before[NAMES_DIRECTORIES];
		enum drop_error error;

		merge_pass(known, l);
		if (names_is_proven(l) ||
		    (passes >= least && !is_any_missing(known, misses)))
			return DROP_OK;
		if (passes >= PASSES ||
		    (passes >= least && now - begin > PASSES_NS)) {
			add_missing(known, misses, l);
			sort_entries(l);
			return DROP_OK;
		}
		memcpy(before, l->seen, sizeof(before));
		if ((error = names_read(l, dirs)) != DROP_OK)
			return error;
		now = monotonic_ns();
		if (!have_same_times(before, l->seen))
			quiet_since = now;
	}
}

const struct entry *
names_find(const struct names *l, const struct unique *u)
{
	size_t low = 0, high = l->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct unique there = names_unique(l, &l->list[middle]);

		if (unique_compare(&there, u) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return l->list + low;
}

bool
names_has(const struct names *l, const struct entry *e, const struct unique *u)
{
	struct unique there;

	if (e >= l->list + l->count)
		return false;
	there = names_unique(l, e);
	return unique_compare(&there, u) == 0;
}

void
names_free(struct names *l)
{
	free(l->names);
	free(l->list);
}
