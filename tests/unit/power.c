/* promise:7 */
/*
 * The power fails while mbox-journal.c removes messages, and again while it
 * recovers (mbox-ranges.c, mbox-redo.c). Runs as any user.
 *
 * 	power [points]
 *
 * The system calls act on a disk in memory. A crash keeps all synced data and a
 * random part of the other data. For a file, it keeps or loses each block of 8
 * bytes and the size independently. For the directory, it keeps or loses each
 * change independently, or keeps only the first changes.
 *
 * Mail arrives after each crash. In the end the mailbox must be the old one or
 * the new one, plus the mail that has arrived. If the removal was reported as
 * done, the mailbox must be the new one. No journal may be set aside.
 *
 * The test also checks itself: it leaves out one fsync at a time, and must then
 * find a loss.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "mbox-ranges.h"
#include "mbox-redo.h"
#include "tests/unit/check.h"

#define SECTOR 8
#define BLOCK 64   /* a truncate clears the rest of the last block */
#define SIZE 16384 /* most bytes of a file */
#define FILES 64   /* most files that one run creates */
#define NAMES 16   /* most names that one run has */
#define CHANGES 32
#define MESSAGES 6
#define STATE 100 /* the descriptor of the directory */
#define FIRST 200 /* the descriptor of file 0 */

struct content {
	char data[SIZE];
	off_t size;
};
struct file {
	struct content now, disk;
};
/*
 * A change of the directory. The name then belongs to this file. If file is -1,
 * the name is removed.
 */
struct change {
	int name, file;
};

static char names[NAMES][80];
static int known; /* number of names */
static struct file files[FILES];
static int made;                    /* number of files; file 0 is the mailbox */
static int now[NAMES], disk[NAMES]; /* the file of each name, or -1 */
static struct change pending[CHANGES]; /* the changes since the last fsync */
static int changes;

static jmp_buf crash;
static int calls, crash_at; /* the power fails before this call */
static bool is_shared;      /* other hosts may change the disk */
static int rename_error;    /* errno of renames, or 0 */
static int syncs, without; /* without: number of the fsync to leave out, or 0 */

static void
turn(void)
{
	if (++calls == crash_at)
		longjmp(crash, 1);
}

static int
name_of(const char *name)
{
	int i = 0;

	while (i < known && strcmp(name, names[i]) != 0)
		i++;
	CHECK(i < NAMES);
	if (i == known) {
		strlcpy(names[i], name, sizeof(names[i]));
		now[i] = disk[i] = -1;
		known++;
	}
	return i;
}

static void
change(int name, int file)
{
	CHECK(changes < CHANGES);
	now[name] = file;
	pending[changes++] = (struct change){ name, file };
}

static struct file *
file_of(int fd)
{
	CHECK(fd >= FIRST && fd < FIRST + made);
	return &files[fd - FIRST];
}

/*
 * Replacements of system calls. They implement only what the tested code uses.
 */
int __wrap_openat(int, const char *, int, ...);
int __wrap_close(int);
int __wrap_fstat(int, struct stat *);
int __wrap_fsync(int);
int __wrap_fdatasync(int);
int __wrap_ftruncate(int, off_t);
int __real_ftruncate(int, off_t);
int __wrap_renameat(int, const char *, int, const char *);
int __wrap_unlinkat(int, const char *, int);
ssize_t __wrap_pread(int, void *, size_t, off_t);
ssize_t __wrap_pwrite(int, const void *, size_t, off_t);
int __wrap_volume_open(int, const char *, int);
bool __wrap_volume_is_shared(int);
int __wrap_volume_each_name(int, int (*)(void *, const char *), void *);

int
__wrap_openat(int dir, const char *path, int flags, ...)
{
	int name = name_of(path);

	CHECK(dir == STATE);
	turn();
	if ((flags & O_CREAT) != 0) {
		CHECK(now[name] == -1 && made < FILES);
		memset(&files[made], 0, sizeof(files[made]));
		change(name, made++);
	}
	errno = ENOENT;
	return now[name] == -1 ? -1 : FIRST + now[name];
}

int
__wrap_close(int fd)
{
	return fd >= FIRST ? 0 : -1;
}

int
__wrap_fstat(int fd, struct stat *st)
{
	memset(st, 0, sizeof(*st));
	st->st_mode = S_IFREG | 0600;
	st->st_uid = geteuid();
	st->st_ino = (ino_t)fd;
	st->st_size = file_of(fd)->now.size;
	return 0;
}

int
__wrap_fsync(int fd)
{
	turn();
	if (++syncs == without)
		return 0;
	if (fd == STATE) {
		memcpy(disk, now, sizeof(disk));
		changes = 0;
	} else
		file_of(fd)->disk = file_of(fd)->now;
	return 0;
}

int
__wrap_fdatasync(int fd)
{
	return __wrap_fsync(fd);
}

int
__wrap_ftruncate(int fd, off_t size)
{
	struct content *c;

	/* A build that measures coverage writes to a real file. */
	if (fd < FIRST)
		return __real_ftruncate(fd, size);
	c = &file_of(fd)->now;
	turn();
	if (size < c->size)
		memset(c->data + size, 0, (size_t)(c->size - size));
	c->size = size;
	return 0;
}

int
__wrap_renameat(int a, const char *from, int b, const char *to)
{
	int file = now[name_of(from)];

	CHECK(a == STATE && b == STATE && file != -1);
	turn();
	errno = rename_error;
	if (rename_error != 0)
		return -1;
	/*
	 * Record one change for both names, because a crash keeps or loses a
	 * rename as a whole.
	 */
	change(name_of(to), file);
	now[name_of(from)] = -1;
	return 0;
}

int
__wrap_unlinkat(int dir, const char *path, int flags)
{
	CHECK(dir == STATE && flags == 0);
	turn();
	errno = ENOENT;
	if (now[name_of(path)] == -1)
		return -1;
	change(name_of(path), -1);
	return 0;
}

ssize_t
__wrap_pread(int fd, void *to, size_t n, off_t at)
{
	const struct content *c = &file_of(fd)->now;

	if (at >= c->size)
		return 0;
	if ((off_t)n > c->size - at)
		n = (size_t)(c->size - at);
	memcpy(to, c->data + at, n);
	return (ssize_t)n;
}

/* Writes in two halves, so that a crash can come between them. */
ssize_t
__wrap_pwrite(int fd, const void *from, size_t n, off_t at)
{
	struct content *c = &file_of(fd)->now;

	turn();
	if (n > 100)
		n /= 2;
	CHECK(at + (off_t)n <= SIZE);
	memcpy(c->data + at, from, n);
	if (at + (off_t)n > c->size)
		c->size = at + (off_t)n;
	return (ssize_t)n;
}

int
__wrap_volume_open(int dir, const char *name, int flags)
{
	return __wrap_openat(dir, name, flags);
}

bool
__wrap_volume_is_shared(int fd)
{
	CHECK(fd == STATE || fd >= FIRST);
	return is_shared;
}

int
__wrap_volume_each_name(int dir, int (*visit)(void *, const char *), void *self)
{
	int result = 0;

	CHECK(dir == STATE);
	for (int i = 0; i < known && result == 0; i++)
		if (now[i] != -1)
			result = visit(self, names[i]);
	return result;
}

static bool
chance(void)
{
	return random() % 2 == 0;
}

/* Returns the end of the zeros that a truncate leaves in the last block. */
static off_t
cleared(off_t size)
{
	return (size + BLOCK - 1) / BLOCK * BLOCK;
}

/* Loses a random part of the bytes of a file that were not synced. */
static void
lose_bytes(struct file *f)
{
	struct content kept = { .size = chance() ? f->now.size : f->disk.size };
	bool all = random() % 4 == 0, none = random() % 4 == 0;

	for (off_t at = 0; at < kept.size; at += SECTOR) {
		bool newer = all || (!none && chance());
		const struct content *c =
		    newer && at < cleared(f->now.size) ? &f->now : &f->disk;

		/* Bytes that were never written are zeros. */
		for (off_t i = at; i < at + SECTOR && i < kept.size; i++)
			kept.data[i] =
			    i < c->size || c == &f->now ? c->data[i] : '\0';
	}
	f->now = f->disk = kept;
}

/* Keeps random changes of the directory, or only the first changes. */
static void
lose_changes(void)
{
	bool in_order = chance();
	int until = changes > 0 ? (int)(random() % (changes + 1)) : 0;

	for (int i = 0; i < changes; i++) {
		int file = pending[i].file;

		if (in_order ? i >= until : chance())
			continue;
		/* A renamed file no longer has its old name. */
		for (int k = 0; k < known && file != -1; k++)
			if (disk[k] == file)
				disk[k] = -1;
		disk[pending[i].name] = file;
	}
	memcpy(now, disk, sizeof(now));
	changes = 0;
}

static void
power_fails(void)
{
	for (int i = 0; i < made; i++)
		lose_bytes(&files[i]);
	lose_changes();
}

/* The mailbox without the removal and with it, plus the mail that arrives. */
static struct content old, new;

static int
message(char *to, int i)
{
	int n = sprintf(to, "From %c\nN: %d\n\n", 'a' + i, i);

	memset(to + n, 'a' + i, (size_t)(i * 37 % 90 + 20));
	n += i * 37 % 90 + 20;
	return n + sprintf(to + n, "\n\n");
}

static void
append(struct content *c, int i)
{
	c->size += message(c->data + c->size, i);
}

/* Delivers a message, which is on the disk at once. */
static void
deliver(int i)
{
	append(&files[0].now, i);
	files[0].disk = files[0].now;
	append(&old, i);
	append(&new, i);
}

/*
 * Makes a new disk with a mailbox. The bits of the argument "removed" select
 * the messages to be removed. Stores the ranges of these messages. Returns the
 * number of ranges.
 */
static size_t
begin(unsigned removed, struct range *ranges)
{
	size_t n = 0;

	made = 1;
	changes = syncs = 0;
	known = 0;
	memset(&files[0], 0, sizeof(files[0]));
	memset(&old, 0, sizeof(old));
	memset(&new, 0, sizeof(new));
	for (int i = 0; i < MESSAGES; i++) {
		off_t from = old.size;

		append(&old, i);
		if ((removed >> i & 1) != 0)
			ranges[n++] = (struct range){ from, old.size };
		else
			append(&new, i);
	}
	files[0].now = files[0].disk = old;
	return n;
}

/* Starts a process. On a shared file system it has names of its own. */
static struct journal_box
next_box(void)
{
	return journal_box_make(STATE, FIRST, -1);
}

static bool
has_rescue(void)
{
	for (int i = 0; i < known; i++)
		if (now[i] != -1 && strncmp(names[i], "rescue", 6) == 0)
			return true;
	return false;
}

static bool
is(const struct content *c)
{
	return files[0].now.size == c->size &&
	    memcmp(files[0].now.data, c->data, (size_t)c->size) == 0;
}

/*
 * Ends a process. Either the power fails, or the process is killed. If it is
 * killed, all that it has written is kept.
 */
static void
process_ends(void)
{
	if (chance())
		power_fails();
}

/*
 * Runs one removal that ends before the call whose number is the argument "at".
 * Then runs up to two recoveries that end at random calls. Returns true if the
 * final mailbox is right. Sets *reached if the removal has reached that call.
 */
static bool
point(unsigned removed, int at, bool *reached)
{
	struct range ranges[MESSAGES];
	size_t n = begin(removed, ranges);
	static struct journal_box box;
	static volatile bool done;
	static volatile int crashes;

	done = false;
	is_shared = chance();
	calls = 0;
	crash_at = at;
	*reached = true;
	box = next_box();
	if (setjmp(crash) == 0) {
		done = ranges_remove(&box, ranges, n) == RANGES_REMOVED;
		*reached = false;
	}
	process_ends();
	for (crashes = 0; crashes < 2; crashes++) {
		if (chance())
			deliver(MESSAGES + crashes);
		calls = 0;
		crash_at = 1 + (int)(random() % 40);
		box = next_box();
		if (setjmp(crash) == 0 && redo_recover(&box) == -1)
			return false;
		process_ends();
	}
	if (chance())
		deliver(MESSAGES + 2);
	crash_at = 0;
	box = next_box();
	return redo_recover(&box) == 0 && !redo_is_pending(STATE) &&
	    !has_rescue() && (is(&new) || (!done && is(&old)));
}

/*
 * Tests all subsets of messages and all calls. Stops after the given number of
 * points. Returns the number of points with a wrong mailbox.
 */
static unsigned
sweep(unsigned points)
{
	unsigned seen = 0, bad = 0;

	while (seen < points)
		for (unsigned removed = 1; removed < 1u << MESSAGES;
		     removed++) {
			bool reached = true;

			for (int at = 1; reached; at++, seen++)
				bad += !point(removed, at, &reached);
		}
	return bad;
}

/*
 * Tests random points at which the program that delivered the last message has
 * not synced it. Before the removal is decided, the power failure may lose that
 * message and no other one. After that it may lose no message. There is one
 * recovery. Returns the number of points with a wrong mailbox.
 */
static unsigned
sweep_unsynced(unsigned points)
{
	static volatile unsigned bad, seen; /* kept over longjmp */

	for (bad = seen = 0; seen < points; seen++) {
		struct range ranges[MESSAGES];
		static char last[SIZE];
		off_t synced;
		static struct journal_box box;
		size_t n =
		    begin(1 + (unsigned)random() % ((1u << (MESSAGES - 1)) - 1),
			ranges);

		synced = old.size - message(last, MESSAGES - 1);
		memset(files[0].disk.data + synced, 0,
		    (size_t)(old.size - synced));
		files[0].disk.size = synced;
		calls = 0;
		crash_at = 1 + (int)(random() % 30);
		box = next_box();
		if (setjmp(crash) == 0)
			ranges_remove(&box, ranges, n);
		power_fails();
		crash_at = 0;
		box = next_box();
		bad += redo_recover(&box) != 0 || has_rescue() ||
		    (!is(&new) &&
			(files[0].now.size < synced ||
			    memcmp(files[0].now.data, old.data,
				(size_t)synced) != 0));
	}
	return bad;
}

/*
 * Removes the last message while the journal cannot be renamed, for this error.
 * Returns true if the message is removed without a journal.
 */
static bool
is_removed_without_journal(bool shared, int error)
{
	struct range ranges[MESSAGES];
	size_t n = begin(1u << (MESSAGES - 1), ranges);
	struct journal_box box;
	bool result;

	is_shared = shared;
	box = next_box();
	crash_at = 0;
	rename_error = error;
	result = ranges_remove(&box, ranges, n) == RANGES_REMOVED;
	rename_error = 0;
	CHECK(is(result ? &new : &old) && !redo_is_pending(STATE));
	return result;
}

/*
 * If the disk is full, the end of a mailbox is removed without a journal. On a
 * shared file system an absent journal shows that another host has the mailbox.
 */
static void
only_a_full_disk_needs_no_journal(void)
{
	CHECK(is_removed_without_journal(false, ENOENT));
	CHECK(is_removed_without_journal(true, ENOSPC));
	CHECK(is_removed_without_journal(true, EDQUOT));
	CHECK(!is_removed_without_journal(true, ENOENT));
	CHECK(!is_removed_without_journal(true, EIO));
}

/* fault:3 */
int
main(int argc, char **argv)
{
	unsigned points =
	    argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 10000;
	unsigned bad;

	srandom(1109);
	only_a_full_disk_needs_no_journal();
	bad = sweep(points);
	printf("power loss: %u points, %u bad\n", points, bad);
	CHECK(bad == 0);
	bad = sweep_unsynced(points);
	printf("power loss after a delivery that was not synced: %u points, %u "
	       "bad\n",
	    points, bad);
	CHECK(bad == 0);
	for (without = 1; without <= 6; without++) {
		/*
		 * The first fsync is the one of the mailbox (DESIGN §5.2, step
		 * 0).
		 */
		bad = without == 1 ? sweep_unsynced(points / 4) :
				     sweep(points / 4);
		printf("without fsync %d: %u of %u bad\n", without, bad,
		    points / 4);
		CHECK(bad > 0);
	}
	return 0;
}
