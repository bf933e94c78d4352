/*
 * Tests the Maildir format through maildrop.c: names, flags, links, and the
 * kinds of files that a Maildir may contain.
 *
 * Runs as any user.
 */
#include "config.h"

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "maildir.h"
#include "tests/unit/check.h"
#include "tests/unit/drop.h"

#define WHERE "maildir:~/Maildir"

static int top;

/*
 * The linker replaces openat and fdopendir by these functions (--wrap). These
 * functions count the calls.
 */
static int opens, reads;
/*
 * The name of a file that cannot be opened, as if the disk could not read its
 * inode.
 */
static const char *unopenable;
int __real_openat(int, const char *, int, ...);
int __wrap_openat(int, const char *, int, ...);
int
__wrap_openat(int dir, const char *name, int flags, ...)
{
	va_list list;
	mode_t mode;

	va_start(list, flags);
	mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
	va_end(list);
	/* Only messages count: their names begin with a digit. */
	opens += name[0] >= '0' && name[0] <= '9';
	if (unopenable != NULL && strcmp(name, unopenable) == 0) {
		errno = EUCLEAN;
		return -1;
	}
	return __real_openat(dir, name, flags, mode);
}

DIR *__real_fdopendir(int);
DIR *__wrap_fdopendir(int);
DIR *
__wrap_fdopendir(int fd)
{
	reads++;
	return __real_fdopendir(fd);
}

/*
 * The linker replaces read by this function (--wrap). A read of the file whose
 * inode is "unreadable" fails, as if the disk were broken.
 */
static ino_t unreadable;
ssize_t __real_read(int, void *, size_t);
ssize_t __wrap_read(int, void *, size_t);
ssize_t
__wrap_read(int fd, void *to, size_t size)
{
	struct stat st;

	if (unreadable == 0 || fstat(fd, &st) == -1 || st.st_ino != unreadable)
		return __real_read(fd, to, size);
	errno = EIO;
	return -1;
}

/* Makes a directory. */
static void
directory(const char *name)
{
	CHECK(mkdirat(top, name, 0700) == 0);
}

/*
 * Makes a file with the given name in the Maildir. The file contains its own
 * name.
 */
static void
file(const char *name)
{
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "Maildir/%s", name);
	CHECK((fd = openat(top, path, O_WRONLY | O_CREAT | O_TRUNC, 0600)) !=
	    -1);
	CHECK(write(fd, name, strlen(name)) == (ssize_t)strlen(name) &&
	    close(fd) == 0);
}

/* Renames a file in the Maildir. */
static void
move(const char *from, const char *to)
{
	char a[400], b[400];

	snprintf(a, sizeof(a), "Maildir/%s", from);
	snprintf(b, sizeof(b), "Maildir/%s", to);
	CHECK(renameat(top, a, top, b) == 0);
}

/* Returns true if the Maildir contains a file with this name. */
static bool
exists(const char *name)
{
	char path[400];

	snprintf(path, sizeof(path), "Maildir/%s", name);
	return faccessat(top, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Makes an empty Maildir. */
static void
renew(void)
{
	char away[32];
	static int old;

	snprintf(away, sizeof(away), "old%d", ++old);
	renameat(top, "Maildir", top, away);
	directory("Maildir");
	directory("Maildir/tmp");
	directory("Maildir/new");
	directory("Maildir/cur");
}

/* Checks that message n is the file that file() made with this name. */
static void
check_body(struct maildrop *drop, size_t n, const char *name)
{
	char body[400];
	struct text want = { body,
		(size_t)snprintf(body, sizeof(body), "%s\r\n", name) };

	drop_check_message(drop, n, &want);
}

static void
messages_come_in_the_order_of_their_delivery(void)
{
	static const char *const names[] = { "cur/99.a:2,RS", "new/100.M1.a",
		"cur/100.M2.a:2,", "new/1000.a", "new/letters",
		"cur/1000000000.a" };
	struct maildrop drop;

	renew();
	for (int i = 5; i >= 0; i--)
		file(names[i]);
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 6);
	/* A name without a number has the time 0, so it comes first. */
	check_body(&drop, 1, "new/letters");
	for (size_t i = 0; i < 4; i++)
		check_body(&drop, i + 2, names[i]);
	check_body(&drop, 6, names[5]);
}

static void
other_files_are_left_alone(void)
{
	struct maildrop drop;
	size_t removed;

	renew();
	file("new/1.good");
	file("tmp/2.half");
	file("3.outside");
	file("new/.4.hidden");
	file("new/5.new\nline");
	file("cur/6.\x01:2,S");
	file("cur/7.\x7f");
	directory("Maildir/new/8.directory");
	CHECK(symlinkat("/etc/passwd", top, "Maildir/cur/9.link") == 0);
	CHECK(symlinkat("nowhere", top, "Maildir/cur/10.dangling") == 0);
	CHECK(mkfifoat(top, "Maildir/new/11.fifo", 0600) == 0);
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 1);
	check_body(&drop, 1, "new/1.good");
	maildrop_mark(&drop, 1);
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	CHECK(exists("tmp/2.half") && exists("3.outside") &&
	    exists("new/.4.hidden") && exists("new/5.new\nline") &&
	    exists("cur/6.\x01:2,S") && exists("cur/7.\x7f") &&
	    exists("new/8.directory") && exists("cur/9.link") &&
	    exists("cur/10.dangling") && exists("new/11.fifo"));
}

static void
ids_are_unique_names_or_hashes(void)
{
	char longest[71], longer[72], path[100], id[UIDL_SIZE],
	    other[UIDL_SIZE];
	struct maildrop drop;

	memset(longest, 'x', 70);
	memset(longer, 'x', 71);
	memcpy(longest, "1.", 2);
	memcpy(longer, "2.", 2);
	longest[70] = longer[71] = '\0';
	renew();
	snprintf(path, sizeof(path), "new/%s", longest);
	file(path);
	snprintf(path, sizeof(path), "cur/%s:2,FS", longer);
	file(path);
	file("new/3.with blank");
	file("new/4.\xc3\xa4");
	file("cur/5.plain:2,PRS");
	file("cur/:2,S");
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 6);
	drop_check_ids(&drop);
	maildrop_uidl(&drop, 2, id);
	CHECK(strcmp(id, longest) == 0);
	maildrop_uidl(&drop, 3, id);
	CHECK(strlen(id) == UIDL_HASH_TEXT + 1 && id[0] == ':');
	maildrop_uidl(&drop, 6, id);
	CHECK(strcmp(id, "5.plain") == 0);
	/*
	 * If the name contains a blank, the id is a hash. This id does not
	 * change when the flags change.
	 */
	maildrop_uidl(&drop, 4, id);
	move("new/3.with blank", "cur/3.with blank:2,T");
	CHECK(drop_begin(&drop, WHERE) == DROP_OK);
	maildrop_uidl(&drop, 4, other);
	CHECK(strcmp(id, other) == 0);
}

/* Returns the number of the message whose file has this name. */
static size_t
number_of(struct maildrop *drop, const char *name)
{
	char path[400];
	struct stat st, found;
	struct span s;

	snprintf(path, sizeof(path), "Maildir/%s", name);
	CHECK(fstatat(top, path, &st, AT_SYMLINK_NOFOLLOW) == 0);
	for (size_t n = 1; n <= drop->count; n++)
		if (maildrop_begin(drop, n, &s) == DROP_OK &&
		    fstat(s.fd, &found) == 0 && found.st_ino == st.st_ino)
			return n;
	fprintf(stderr, "no message: %s\n", name);
	exit(1);
}

/*
 * Two files with one unique name are two messages. Two names of one file are
 * one message.
 */
static void
equal_unique_names_are_told_apart(void)
{
	struct maildrop drop;
	char id[UIDL_SIZE], other[UIDL_SIZE];
	size_t removed, n;

	renew();
	file("new/1.a");
	file("cur/1.a:2,S");
	CHECK(linkat(top, "Maildir/new/1.a", top, "Maildir/cur/1.a:2,", 0) ==
	    0);
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 2);
	drop_check_ids(&drop);
	renew();
	file("new/1.a");
	file("cur/1.a:2,S");
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 2);
	drop_check_ids(&drop);
	n = number_of(&drop, "new/1.a");
	check_body(&drop, n, "new/1.a");
	check_body(&drop, 3 - n, "cur/1.a:2,S");
	maildrop_mark(&drop, n);
	move("new/1.a", "cur/1.a:2,RS");
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	CHECK(exists("cur/1.a:2,S") && !exists("cur/1.a:2,RS"));
	/*
	 * Each message keeps its id when its flags change. With another id, a
	 * client would fetch the message again.
	 */
	renew();
	file("cur/1.a:2,");
	file("cur/1.a:2,S");
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 2);
	maildrop_uidl(&drop, number_of(&drop, "cur/1.a:2,"), id);
	move("cur/1.a:2,", "cur/1.a:2,T");
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 2);
	maildrop_uidl(&drop, number_of(&drop, "cur/1.a:2,T"), other);
	CHECK(strcmp(id, other) == 0);
	move("cur/1.a:2,T", "new/1.a");
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 2);
	maildrop_uidl(&drop, number_of(&drop, "new/1.a"), other);
	CHECK(strcmp(id, other) == 0);
}

/*
 * Opens a session and checks the number of messages. Stores in id[] the id of
 * the message whose file has the given name.
 */
static void
id_of(const char *name, size_t count, char id[UIDL_SIZE])
{
	struct maildrop drop;

	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == count);
	drop_check_ids(&drop);
	maildrop_uidl(&drop, number_of(&drop, name), id);
}

/*
 * A message keeps its id if another message with the same unique name is added
 * or removed. It does not matter whether the inode of the other one is smaller
 * or larger.
 */
static void
equal_unique_names_keep_their_ids(void)
{
	char id[UIDL_SIZE], first[UIDL_SIZE], second[UIDL_SIZE];

	for (int i = 0; i < 4; i++) {
		maildir_small = i < 2 ? 0 : 256;
		renew();
		if (i % 2 == 0)
			file("tmp/later");
		file("cur/1.a:2,");
		if (i % 2 != 0)
			file("tmp/later");
		file("cur/2.b:2,");
		id_of("cur/1.a:2,", 2, first);
		CHECK(strcmp(first, "1.a") == 0);
		move("tmp/later", "cur/1.a:2,S");
		id_of("cur/1.a:2,", 3, id);
		CHECK(strcmp(first, id) == 0);
		id_of("cur/1.a:2,S", 3, second);
		CHECK(unlinkat(top, "Maildir/cur/1.a:2,", 0) == 0);
		id_of("cur/1.a:2,S", 2, id);
		CHECK(strcmp(second, id) == 0);
		/*
		 * A new file that replaces another file, as after a restore,
		 * gets the id of the replaced file.
		 */
		file("tmp/restored");
		move("tmp/restored", "cur/2.b:2,");
		id_of("cur/2.b:2,", 2, id);
		CHECK(strcmp(id, "2.b") == 0);
		file("new/1.a");
		id_of("new/1.a", 3, id);
		CHECK(strcmp(id, first) == 0);
		id_of("cur/1.a:2,S", 3, id);
		CHECK(strcmp(id, second) == 0);
	}
	maildir_small = 256;
}

/*
 * Writes text into a file of the Maildir at the given offset. No program that
 * obeys the format changes a file.
 */
static void
write_at(const char *name, off_t at, const char *text)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
		{ .tv_sec = 1000000000 + (time_t)at } };
	char path[400];
	int fd;

	snprintf(path, sizeof(path), "Maildir/%s", name);
	CHECK((fd = openat(top, path, O_WRONLY)) != -1);
	CHECK(pwrite(fd, text, strlen(text), at) == (ssize_t)strlen(text));
	/*
	 * Set an mtime that no earlier change had, because the kernel's clock
	 * may not have advanced since the file was counted.
	 */
	CHECK(futimens(fd, times) == 0 && close(fd) == 0);
}

/* Returns the sum of the sizes in LIST, which STAT must report. */
static uint64_t
sum_of_wire_size(const struct maildrop *drop)
{
	uint64_t sum = 0;

	for (size_t n = 1; n <= drop->count; n++)
		sum += maildrop_wire_size(drop, n);
	return sum;
}

/*
 * Two changes in place. The first makes the file longer. The second changes the
 * number of lines without changing the size.
 */
static const struct text_at {
	off_t at;
	const char *text, *whole;
} changes[] = {
	{ 11, "\nmore\n", "cur/1.a:2,S\r\nmore\r\n" },
	{ 3, "\n\n", "cur\r\n\r\n.a:2,S\r\n" },
};

/* Checks that message n consists of the given text. */
static void
check_text(struct maildrop *drop, size_t n, const char *text)
{
	const struct text want = { text, strlen(text) };

	drop_check_message(drop, n, &want);
}

/*
 * In a small Maildir each login checks all files, so STAT and LIST are right at
 * once.
 */
static void
changed_files_are_listed_as_they_are(void)
{
	struct maildrop drop;
	size_t removed;

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		renew();
		file("cur/1.a:2,S");
		file("cur/2.b:2,S");
		CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 2);
		write_at("cur/1.a:2,S", changes[i].at, changes[i].text);
		CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 2);
		CHECK(maildrop_wire_size(&drop, 1) ==
			strlen(changes[i].whole) &&
		    drop.wire_size == sum_of_wire_size(&drop));
		check_text(&drop, 1, changes[i].whole);
		maildrop_mark(&drop, 1);
		CHECK(maildrop_commit(&drop, &removed) == DROP_OK &&
		    removed == 1);
		CHECK(!exists("cur/1.a:2,S") && exists("cur/2.b:2,S"));
	}
}

/*
 * In a larger Maildir, RETR detects the change and sends the whole message.
 * After that, STAT and LIST are right, in this session and in the next one.
 */
static void
changed_files_are_counted_when_fetched(void)
{
	struct maildrop drop;
	struct span s;

	maildir_small = 0;
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		renew();
		file("cur/1.a:2,S");
		file("cur/2.b:2,S");
		CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 2);
		/*
		 * In the first pass, make the change during the session. In the
		 * second, make it before the next session.
		 */
		for (int k = 0; k < 2; k++) {
			write_at("cur/1.a:2,S", changes[i].at, changes[i].text);
			CHECK(k == 0 || drop_begin(&drop, WHERE) == DROP_OK);
			CHECK(maildrop_begin(&drop, 1, &s) == DROP_OK &&
			    s.wire_size == strlen(changes[i].whole));
			check_text(&drop, 1, changes[i].whole);
			CHECK(maildrop_end(&drop, 1, &s, s.wire_size) &&
			    drop.wire_size == sum_of_wire_size(&drop));
			CHECK(drop_begin(&drop, WHERE) == DROP_OK &&
			    drop.wire_size == sum_of_wire_size(&drop));
			CHECK(maildrop_wire_size(&drop, 1) ==
			    strlen(changes[i].whole));
			file("cur/1.a:2,S");
			CHECK(maildrop_begin(&drop, 1, &s) == DROP_OK &&
			    drop.wire_size == sum_of_wire_size(&drop));
		}
	}
	maildir_small = 256;
}

/*
 * After DELE, STAT reports the sum of LIST, even if RETR has counted the marked
 * message again before.
 */
static void
marked_sizes_stay_true(void)
{
	struct maildrop drop;
	struct span s;

	renew();
	file("cur/1.a:2,S");
	file("cur/2.b:2,S");
	CHECK(drop_begin(&drop, WHERE) == DROP_OK);
	write_at("cur/1.a:2,S", 11, "\nmore\n");
	CHECK(maildrop_begin(&drop, 1, &s) == DROP_OK);
	maildrop_mark(&drop, 1);
	CHECK(drop.wire_size - drop.marked_wire_size ==
	    maildrop_wire_size(&drop, 2));
	maildrop_reset(&drop);
	CHECK(drop.wire_size == sum_of_wire_size(&drop) &&
	    drop.marked_wire_size == 0);
}

/*
 * If a message changes during RETR, maildrop_end reports that. A change of
 * flags does not count.
 */
static void
messages_that_change_during_retr_are_not_whole(void)
{
	struct maildrop drop;
	struct span s;

	renew();
	file("cur/1.a:2,S");
	CHECK(drop_begin(&drop, WHERE) == DROP_OK &&
	    maildrop_begin(&drop, 1, &s) == DROP_OK);
	CHECK(maildrop_end(&drop, 1, &s, s.wire_size));
	move("cur/1.a:2,S", "cur/1.a:2,RS");
	CHECK(maildrop_end(&drop, 1, &s, s.wire_size));
	write_at("cur/1.a:2,RS", 3, "\n");
	CHECK(!maildrop_end(&drop, 1, &s, s.wire_size));
	CHECK(maildrop_begin(&drop, 1, &s) == DROP_OK &&
	    maildrop_end(&drop, 1, &s, s.wire_size));
	write_at("cur/1.a:2,RS", 30, "x");
	CHECK(!maildrop_end(&drop, 1, &s, s.wire_size));
}

/*
 * A client deletes what it has read. So a file that has changed since RETR is
 * kept for one more session. A new link does not count as a change.
 */
static void
messages_changed_since_they_were_read_stay(void)
{
	struct maildrop drop;
	struct span s;
	size_t removed;

	for (size_t limit = 0; limit < 512; limit += 256) {
		maildir_small = limit;
		renew();
		file("cur/1.a:2,S");
		file("cur/2.b:2,S");
		CHECK(drop_begin(&drop, WHERE) == DROP_OK &&
		    maildrop_begin(&drop, 1, &s) == DROP_OK);
		maildrop_mark(&drop, 1);
		maildrop_mark(&drop, 2);
		write_at("cur/1.a:2,S", 3, "\n");
		CHECK(linkat(top, "Maildir/cur/2.b:2,S", top, "Maildir/backup",
			  0) == 0);
		CHECK(maildrop_commit(&drop, &removed) == DROP_CHANGED &&
		    removed == 1);
		CHECK(exists("cur/1.a:2,S") && !exists("cur/2.b:2,S") &&
		    exists("backup"));
		CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 1);
		CHECK(maildrop_wire_size(&drop, 1) == 14 &&
		    drop.wire_size == 14);
		maildrop_mark(&drop, 1);
		CHECK(maildrop_commit(&drop, &removed) == DROP_OK &&
		    removed == 1 && !exists("cur/1.a:2,S"));
	}
	maildir_small = 256;
}

/*
 * A mail reader may link a new name and then unlink the old one. If it stops in
 * between, the file has two names, and QUIT removes both.
 */
static void
both_names_are_removed(void)
{
	struct maildrop drop;
	size_t removed;

	renew();
	file("new/1.a");
	file("new/2.b");
	file("cur/2.b:2,T");
	CHECK(linkat(top, "Maildir/new/1.a", top, "Maildir/cur/1.a:2,S", 0) ==
	    0);
	CHECK(linkat(top, "Maildir/new/1.a", top, "Maildir/cur/3.other:2,S",
		  0) == 0);
	CHECK(linkat(top, "Maildir/new/2.b", top, "Maildir/backup", 0) == 0);
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 4);
	maildrop_mark(&drop, 1);
	maildrop_mark(&drop, number_of(&drop, "new/2.b"));
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 2);
	CHECK(!exists("new/1.a") && !exists("cur/1.a:2,S") &&
	    exists("cur/3.other:2,S"));
	CHECK(!exists("new/2.b") && exists("cur/2.b:2,T") && exists("backup"));
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 2);
}

/*
 * If a file has another link elsewhere, the names are not read again for each
 * such file, because that would take minutes.
 */
static void
many_linked_messages_are_removed_soon(void)
{
	enum { LINKED = 3000 };
	struct maildrop drop;
	size_t removed;
	char name[50], path[100];

	renew();
	directory("Maildir/backup");
	for (int i = 0; i < LINKED; i++) {
		snprintf(name, sizeof(name), "new/%d.a", i);
		file(name);
		snprintf(path, sizeof(path), "Maildir/%s", name);
		snprintf(name, sizeof(name), "Maildir/backup/%d", i);
		CHECK(linkat(top, path, top, name, 0) == 0);
	}
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == LINKED);
	for (size_t n = 1; n <= LINKED; n++)
		maildrop_mark(&drop, n);
	reads = 0;
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == LINKED);
	CHECK(reads < 100);
}

/*
 * A file may be changed without a new mtime, and renamed at the same time. The
 * change is noticed when the message is sent, and the message is counted again
 * once.
 */
static void
hidden_changes_are_counted_once(void)
{
	static const struct text changed = TEXT("cur\r\n1.a:2,S\r\n");
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
		{ .tv_sec = 1000000003 } };
	struct maildrop drop;
	char text[100];
	struct span s;
	ssize_t n;

	for (size_t limit = 0; limit < 512; limit += 256) {
		maildir_small = limit;
		renew();
		file("cur/1.a:2,S");
		file("cur/2.b:2,S");
		CHECK(utimensat(top, "Maildir/cur/1.a:2,S", times, 0) == 0);
		/* Wait until the times of the file are stable. */
		for (int i = 0, tries = 0; tries < 2 || i != 0; i = opens) {
			CHECK(tries++ < 100 &&
			    nanosleep(&(struct timespec){ .tv_nsec = 60000000 },
				NULL) == 0);
			opens = 0;
			CHECK(drop_begin(&drop, WHERE) == DROP_OK &&
			    maildrop_begin(&drop, 1, &s) == DROP_OK);
			opens--;
			CHECK(drop_begin(&drop, WHERE) == DROP_OK &&
			    drop.count == 2);
		}
		write_at("cur/1.a:2,S", 3, "\n");
		/*
		 * A rename changes the ctime. In a large Maildir a new name
		 * explains a new ctime only if the file was renamed during the
		 * session.
		 */
		CHECK(limit != 0 || drop_begin(&drop, WHERE) == DROP_OK);
		move("cur/1.a:2,S", "cur/1.a:2,RS");
		CHECK(limit == 0 || drop_begin(&drop, WHERE) == DROP_OK);
		CHECK(maildrop_begin(&drop, 1, &s) == DROP_OK);
		/*
		 * RETR sends the whole message, although its size is not what
		 * LIST has reported.
		 */
		while ((n = maildrop_read(&s, text, sizeof(text))) > 0)
			continue;
		CHECK(n == 0 && s.wire_size + 1 == changed.n &&
		    maildrop_end(&drop, 1, &s, changed.n));
		drop_check_message(&drop, 1, &changed);
		CHECK(drop_begin(&drop, WHERE) == DROP_OK);
		drop_check_message(&drop, 1, &changed);
	}
	maildir_small = 256;
}

/*
 * If a file becomes readable, no time of new or cur changes. The next login
 * opens that file again and no other file.
 */
static void
unreadable_files_are_tried_again(void)
{
	struct maildrop drop;

	/*
	 * The superuser can read all files, so the test continues as another
	 * user.
	 */
	if (geteuid() == 0) {
		renameat(top, "state", top, "root's state");
		CHECK(fchown(top, 12345, 12345) == 0 && seteuid(12345) == 0);
	}
	for (size_t limit = 0; limit < 512; limit += 256) {
		maildir_small = limit;
		renew();
		file("new/1.a");
		file("new/2.b");
		file("new/3.c");
		CHECK(fchmodat(top, "Maildir/new/2.b", 0, 0) == 0);
		/*
		 * Wait until the times of all files are stable. From then on no
		 * other file is opened.
		 */
		for (int i = 0, tries = 0; tries < 2 || i != 1; i = opens) {
			CHECK(tries++ < 100 &&
			    nanosleep(&(struct timespec){ .tv_nsec = 60000000 },
				NULL) == 0);
			opens = 0;
			CHECK(drop_begin(&drop, WHERE) == DROP_OK &&
			    drop.count == 2);
		}
		CHECK(fchmodat(top, "Maildir/new/2.b", 0600, 0) == 0);
		CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 3);
		check_body(&drop, 2, "new/2.b");
	}
	maildir_small = 256;
	CHECK(seteuid(getuid()) == 0);
}

/*
 * A file that the disk cannot read does not hide other messages. The broken
 * file is still listed, because a client would otherwise forget that message.
 */
static void
a_broken_file_blocks_no_other(void)
{
	struct maildrop drop;
	char id[UIDL_SIZE];
	struct stat st;
	struct span s;
	size_t removed;

	for (size_t limit = 0; limit < 512; limit += 256) {
		maildir_small = limit;
		renew();
		file("new/1.a");
		file("new/2.b\n");
		file("new/3.c");
		move("new/2.b\n", "new/2.b");
		CHECK(fstatat(top, "Maildir/new/2.b", &st, 0) == 0);
		unreadable = st.st_ino;
		for (int logins = 0; logins < 2; logins++) {
			CHECK(drop_begin(&drop, WHERE) == DROP_OK &&
			    drop.count == 3);
			maildrop_uidl(&drop, 2, id);
			CHECK(strcmp(id, "2.b") == 0 &&
			    maildrop_wire_size(&drop, 2) ==
				(uint64_t)st.st_size);
			CHECK(maildrop_begin(&drop, 2, &s) == DROP_FAILED);
			check_body(&drop, 1, "new/1.a");
			check_body(&drop, 3, "new/3.c");
		}
		unreadable = 0;
		CHECK(maildrop_begin(&drop, 2, &s) == DROP_OK &&
		    s.wire_size == (uint64_t)st.st_size + 1);
		CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 3 &&
		    maildrop_wire_size(&drop, 2) == (uint64_t)st.st_size + 1);
		/*
		 * The index still has a record of the file, and the session
		 * uses it.
		 */
		unopenable = "2.b";
		CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 3);
		CHECK(maildrop_wire_size(&drop, 2) == (uint64_t)st.st_size + 1);
		file("new/4.d");
		unopenable = "4.d";
		CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 4);
		check_body(&drop, 3, "new/3.c");
		CHECK(maildrop_begin(&drop, 4, &s) == DROP_FAILED);
		unopenable = NULL;
		CHECK(maildrop_begin(&drop, 4, &s) == DROP_OK);
		check_body(&drop, 4, "new/4.d");
		unreadable = st.st_ino;
		maildrop_mark(&drop, 2);
		CHECK(maildrop_commit(&drop, &removed) == DROP_OK &&
		    removed == 1 && !exists("new/2.b"));
		unreadable = 0;
	}
	maildir_small = 256;
}

/*
 * Flags change between any two steps of a session. The message is then found
 * under its new name.
 */
static void
renamed_messages_are_followed(void)
{
	struct maildrop drop;
	size_t removed;

	renew();
	file("new/1.a");
	file("new/2.b");
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 2);
	move("new/1.a", "cur/1.a:2,");
	check_body(&drop, 1, "new/1.a");
	move("cur/1.a:2,", "cur/1.a:2,S");
	check_body(&drop, 1, "new/1.a");
	check_body(&drop, 2, "new/2.b");
	move("new/2.b", "cur/2.b:2,F");
	maildrop_mark(&drop, 2);
	move("cur/2.b:2,F", "cur/2.b:2,FS");
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	CHECK(exists("cur/1.a:2,S") && !exists("cur/2.b:2,FS"));
}

/*
 * If another file now has the name of a marked message, the other file is kept.
 */
static void
replaced_messages_stay(void)
{
	struct maildrop drop;
	struct span s;
	size_t removed;

	renew();
	file("new/1.a");
	file("new/2.b");
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 2);
	file("tmp/other");
	move("tmp/other", "new/1.a");
	CHECK(maildrop_begin(&drop, 1, &s) == DROP_CHANGED);
	maildrop_mark(&drop, 1);
	maildrop_mark(&drop, 2);
	CHECK(maildrop_commit(&drop, &removed) == DROP_CHANGED && removed == 1);
	CHECK(exists("new/1.a") && !exists("new/2.b"));
}

static void
a_maildir_is_made_only_on_request(void)
{
	struct maildrop drop;
	struct stat st;

	CHECK(drop_begin(&drop, "maildir:~/made") == DROP_OK &&
	    drop.count == 0);
	CHECK(faccessat(top, "made", F_OK, 0) == -1);
	CHECK(drop_begin(&drop, "maildir+create:~/made/") == DROP_OK &&
	    drop.count == 0);
	CHECK(fstatat(top, "made", &st, 0) == 0 &&
	    (st.st_mode & 07777) == 0700);
	CHECK(fstatat(top, "made/tmp", &st, 0) == 0 &&
	    fstatat(top, "made/new", &st, 0) == 0 &&
	    fstatat(top, "made/cur", &st, 0) == 0 &&
	    (st.st_mode & 07777) == 0700);
	CHECK(drop_begin(&drop, "maildir+create:~/made") == DROP_OK &&
	    drop.count == 0);
}

static void
strange_directories_are_refused(void)
{
	struct maildrop drop;
	int fd;

	renew();
	CHECK(unlinkat(top, "Maildir/cur", AT_REMOVEDIR) == 0);
	file("new/1.a");
	CHECK(drop_begin(&drop, WHERE) == DROP_OK && drop.count == 1);
	CHECK(symlinkat("/tmp", top, "Maildir/cur") == 0);
	CHECK(drop_begin(&drop, WHERE) == DROP_DENIED);
	CHECK(unlinkat(top, "Maildir/cur", 0) == 0);
	file("cur");
	CHECK(drop_begin(&drop, WHERE) == DROP_DENIED);
	CHECK((fd = openat(top, "file", O_WRONLY | O_CREAT, 0600)) != -1 &&
	    close(fd) == 0);
	CHECK(drop_begin(&drop, "maildir:~/file") == DROP_DENIED);
	/* The Maildir itself may be a symlink. */
	CHECK(symlinkat("made", top, "link") == 0);
	CHECK(drop_begin(&drop, "maildir:~/link") == DROP_OK &&
	    drop.count == 0);
}

int
main(void)
{
	top = drop_directory();
	messages_come_in_the_order_of_their_delivery();
	other_files_are_left_alone();
	ids_are_unique_names_or_hashes();
	equal_unique_names_are_told_apart();
	equal_unique_names_keep_their_ids();
	changed_files_are_listed_as_they_are();
	changed_files_are_counted_when_fetched();
	hidden_changes_are_counted_once();
	marked_sizes_stay_true();
	messages_that_change_during_retr_are_not_whole();
	messages_changed_since_they_were_read_stay();
	both_names_are_removed();
	many_linked_messages_are_removed_soon();
	a_broken_file_blocks_no_other();
	renamed_messages_are_followed();
	replaced_messages_stay();
	a_maildir_is_made_only_on_request();
	strange_directories_are_refused();
	unreadable_files_are_tried_again();
	return drop_clean_up();
}
