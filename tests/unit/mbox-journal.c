/*
 * Unit tests of mbox-journal.c, mbox-journal-names.c, mbox-ranges.c and
 * mbox-redo.c. The tests stop a removal before each system call that writes.
 * After each such stop they stop the recovery before each system call that
 * writes. Mail arrives between the removal and the recovery. Other tests let
 * each call fail once, or arrive late. Runs as any user.
 *
 * The linker replaces the system calls by the __wrap_ functions below (--wrap).
 * To stop means to end the process right before the call.
 */
#include "config.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <sha2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "mbox-ranges.h"
#include "mbox-redo.h"
#include "tests/unit/check.h"
#include "volume.h"

/*
 * The size of a message. It is so large that the hashed blocks of 64 KiB do not
 * cover the whole mailbox.
 */
#define MESSAGE 30000
#define COUNT 9
#define STOPPED 77
#define ASIDE 2 /* exit status of a recovery that has set a journal aside */

/*
 * Calls are counted from 1 on. These are the numbers of the calls at which
 * something happens.
 */
enum { NEVER = -1 };
static int calls, stop_at = NEVER, fail_at = NEVER, meddle_at = NEVER,
		  vanish_at = NEVER, late_at = NEVER, fail_with;
static int state, spool;
static struct journal_box box = { .state = -1, .fd = -1, .dir = -1 };
int __real_ftruncate(int, off_t);
int __real_renameat(int, const char *, int, const char *);
int __real_unlinkat(int, const char *, int);

/*
 * The call before which a process has stopped, if it is a rename or an unlink;
 * otherwise `from` is empty. If `to` is empty, it is an unlink. Processes share
 * this memory.
 */
struct name_call {
	char from[JOURNAL_NAME], to[JOURNAL_NAME];
	int calls; /* of the last process that has not stopped */
};
static struct name_call *stopped;

static void
do_stopped_call(void)
{
	if (stopped->to[0] != '\0')
		__real_renameat(state, stopped->from, state, stopped->to);
	else
		__real_unlinkat(state, stopped->from, 0);
}

/*
 * Counts a call, and does what must happen at this call. from and to are the
 * names that the call changes, or empty. Returns true if the call must fail.
 */
static bool
turn(const char *from, const char *to)
{
	calls++;
	if (calls == stop_at) {
		strlcpy(stopped->from, from, JOURNAL_NAME);
		strlcpy(stopped->to, to, JOURNAL_NAME);
		_exit(STOPPED);
	}
	/* The call of a process on another host, which has stopped, is late. */
	if (calls == late_at)
		do_stopped_call();
	/* Another program, which takes no lock, truncates the mailbox. */
	if (calls == meddle_at)
		__real_ftruncate(spool, MESSAGE / 2);
	/* A late call of another host removes the journal. */
	if (calls == vanish_at) {
		__real_unlinkat(state, "j", 0);
		__real_unlinkat(state, "j.cut", 0);
	}
	if (calls != fail_at)
		return false;
	errno = fail_with;
	return true;
}

#define WRAP(type, name, parameters, arguments, from, to)                      \
	type __real_##name parameters;                                         \
	type __wrap_##name parameters;                                         \
	type __wrap_##name parameters                                          \
	{                                                                      \
		return turn(from, to) ? -1 : __real_##name arguments;          \
	}
/* Only processes end here, so a sync would change nothing. */
#define WRAP_SYNC(name)                                                        \
	int __wrap_##name(int);                                                \
	int __wrap_##name(int fd)                                              \
	{                                                                      \
		(void)fd;                                                      \
		return turn("", "") ? -1 : 0;                                  \
	}
WRAP_SYNC(fsync)
WRAP_SYNC(fdatasync)
WRAP(int, ftruncate, (int fd, off_t n), (fd, n), "", "")
WRAP(int, renameat, (int a, const char *b, int c, const char *d), (a, b, c, d),
    b, d)
WRAP(int, unlinkat, (int a, const char *b, int c), (a, b, c), b, "")

/* Writes in pieces, so that a stop can come between them. */
ssize_t __real_pwrite(int, const void *, size_t, off_t);
ssize_t __wrap_pwrite(int, const void *, size_t, off_t);
ssize_t
__wrap_pwrite(int fd, const void *p, size_t n, off_t at)
{
	return turn("", "") ? -1 :
			      __real_pwrite(fd, p, n > 8192 ? n / 2 : n, at);
}

static char directory[] = "/tmp/kpopd-journal.XXXXXX";

/* The bytes that the mailbox must contain. */
static char expected[(COUNT + 4) * MESSAGE];
static size_t expected_size;

static void
make_message(int i, char *text)
{
	int n = snprintf(text, MESSAGE, "From sender%d\nSubject: %d\n\n", i, i);

	memset(text + n, 'a' + i, (size_t)(MESSAGE - n - 2));
	memcpy(text + MESSAGE - 2, "\n\n", 2);
}

static void
append(int i)
{
	char text[MESSAGE];
	struct stat st;

	make_message(i, text);
	CHECK(fstat(spool, &st) == 0);
	CHECK(__real_pwrite(spool, text, MESSAGE, st.st_size) == MESSAGE);
}

static void
expect(int i)
{
	make_message(i, expected + expected_size);
	expected_size += MESSAGE;
}

static int
unlink_one(void *self, enum journal_state what, const char *name)
{
	(void)self, (void)what;
	return __real_unlinkat(state, name, 0);
}

/*
 * Makes a new mailbox and an empty state directory. Stores the bytes of the
 * kept messages in expected[].
 */
static void
begin(unsigned removed)
{
	CHECK(journal_each(state,
		  JOURNAL_TEMPORARY | JOURNAL_DECIDED | JOURNAL_WRITTEN,
		  unlink_one, NULL) == 0);
	CHECK(__real_ftruncate(spool, 0) == 0);
	expected_size = 0;
	for (int i = 0; i < COUNT; i++) {
		append(i);
		if ((removed >> i & 1) == 0)
			expect(i);
	}
}

static size_t
ranges_of(unsigned removed, struct range *ranges)
{
	size_t n = 0;

	for (int i = 0; i < COUNT; i++)
		if ((removed >> i & 1) != 0)
			ranges[n++] = (struct range){ (off_t)i * MESSAGE,
				(off_t)(i + 1) * MESSAGE };
	return n;
}

static bool
is(const char *text, size_t n)
{
	static char there[sizeof(expected) + 1];

	return pread(spool, there, sizeof(there), 0) == (ssize_t)n &&
	    memcmp(there, text, n) == 0;
}

/*
 * Runs the removal or the recovery in a child process. The child stops before
 * the call whose number is the argument "at". Returns the child's exit status.
 */
static int
run(bool recover, unsigned removed, int at)
{
	int status;
	pid_t pid = fork();

	CHECK(pid != -1);
	if (pid == 0) {
		struct range ranges[COUNT];

		calls = 0;
		stop_at = at;
		if (recover)
			_exit((int[]){ 1, 0, ASIDE }[redo_recover(&box) + 1]);
		_exit(ranges_remove(&box, ranges, ranges_of(removed, ranges)) ==
			    RANGES_REMOVED ?
			0 :
			1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

/*
 * Returns true if the mailbox contains the bytes from before the removal, and
 * then exactly the messages that have arrived. The argument is their number.
 */
static bool
is_whole(int arrived)
{
	static char whole[sizeof(expected)];

	for (int i = 0; i < COUNT + arrived; i++)
		make_message(i, whole + i * MESSAGE);
	return is(whole, (size_t)(COUNT + arrived) * MESSAGE);
}

/*
 * Runs a recovery. Checks that all marked messages were removed or none, and
 * that each message that has arrived is in the mailbox once.
 */
static void
check_outcome(int arrived)
{
	CHECK(run(true, 0, NEVER) == 0);
	CHECK(!redo_is_pending(state));
	for (int i = COUNT; i < COUNT + arrived; i++)
		expect(i);
	CHECK(is(expected, expected_size) || is_whole(arrived));
}

static unsigned points;

/*
 * Stops the removal at each call. After each stop, stops the recovery at each
 * call. Mail arrives before and after the recovery.
 */
static void
stops_everywhere(unsigned removed)
{
	for (int at = 1;; at++) {
		int result;

		begin(removed);
		result = run(false, removed, at);
		CHECK(result == 0 || result == STOPPED);
		if (result == 0)
			break;
		check_outcome(0);
		points++;
		for (int again = 1;; again++) {
			begin(removed);
			CHECK(run(false, removed, at) == STOPPED);
			append(COUNT);
			result = run(true, 0, again);
			CHECK(result == 0 || result == STOPPED);
			append(COUNT + 1);
			check_outcome(2);
			points++;
			if (result == 0)
				break;
		}
	}
	begin(removed);
	CHECK(run(false, removed, NEVER) == 0);
	CHECK(is(expected, expected_size) && !redo_is_pending(state));
}

/*
 * Lets each call fail once, with each error. The reported result must be true,
 * and the next login must find the old mailbox or the new one.
 */
static void
fails_everywhere(unsigned removed)
{
	static const int errors[] = { EIO, ENOSPC, EDQUOT, EROFS };
	struct range ranges[COUNT];
	size_t n = ranges_of(removed, ranges);

	for (size_t e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
		for (int at = 1;; at++) {
			enum ranges_result result;
			bool reached;

			begin(removed);
			calls = 0;
			fail_at = at;
			fail_with = errors[e];
			result = ranges_remove(&box, ranges, n);
			reached = calls >= at;
			fail_at = NEVER;
			if (result == RANGES_REMOVED)
				CHECK(is(expected, expected_size));
			if (result == RANGES_KEPT)
				CHECK(!redo_is_pending(state) && is_whole(0));
			CHECK(run(true, 0, NEVER) == 0);
			CHECK(!redo_is_pending(state));
			CHECK(result == RANGES_KEPT ?
				is_whole(0) :
				is(expected, expected_size));
			points++;
			if (!reached)
				break;
		}
	}
}

/*
 * A journal of another mailbox, a forged journal and a file that is not a
 * journal are set aside. The mailbox is not changed.
 */
static void
strange_journals_are_set_aside(void)
{
	char text[MESSAGE];
	int fd;

	begin(2);
	for (int at = 1;
	     !redo_is_pending(state) || faccessat(state, "j", F_OK, 0) == -1;
	     at++)
		CHECK(run(false, 2, at) == STOPPED || at > 50);
	/* Another program rewrites the first message. */
	memset(text, 'z', sizeof(text));
	CHECK(__real_pwrite(spool, text, 100, 500) == 100);
	CHECK(run(true, 0, NEVER) == ASIDE && !redo_is_pending(state));
	CHECK(pread(spool, text, 100, 500) == 100 && text[0] == 'z' &&
	    text[99] == 'z');

	begin(0);
	CHECK((fd = openat(state, "j", O_WRONLY | O_CREAT, 0600)) != -1);
	CHECK(write(fd, text, sizeof(text)) == sizeof(text) && close(fd) == 0);
	CHECK(mkfifoat(state, "j.cut", 0600) == 0);
	CHECK(run(true, 0, NEVER) == ASIDE && !redo_is_pending(state));
	CHECK(is(expected, expected_size));
	CHECK(symlinkat("/etc/passwd", state, "j") == 0);
	CHECK(run(true, 0, NEVER) == ASIDE && !redo_is_pending(state));
	CHECK(is(expected, expected_size));
}

/*
 * If a damaged journal cannot be set aside, the mailbox is not changed. The
 * next login sets the journal aside.
 */
static void
setting_aside_fails_everywhere(void)
{
	bool reached = true;
	unsigned failed = 0;

	for (int at = 1; reached; at++) {
		int fd, result;

		begin(0);
		CHECK((fd = openat(state, "j", O_WRONLY | O_CREAT, 0600)) !=
		    -1);
		CHECK(write(fd, "damaged", 7) == 7 && close(fd) == 0);
		calls = 0;
		fail_at = at;
		fail_with = EIO;
		result = redo_recover(&box);
		reached = calls >= at;
		fail_at = NEVER;
		CHECK(result == (reached ? -1 : 1) &&
		    is(expected, expected_size));
		failed += reached;
		result = run(true, 0, NEVER);
		CHECK((result == 0 || result == ASIDE) &&
		    !redo_is_pending(state) && is(expected, expected_size));
	}
	CHECK(failed > 0);
}

/*
 * Stops a removal at each call that comes after the decision to remove. The
 * bits of "removed" select the messages. Calls look() after each stop.
 */
static void
at_each_pending(unsigned removed, void (*look)(void))
{
	unsigned seen = 0;

	for (int at = 1;; at++) {
		int result;

		begin(removed);
		result = run(false, removed, at);
		CHECK(result == 0 || result == STOPPED);
		if (result == 0)
			break;
		if (faccessat(state, "j", F_OK, 0) == -1 &&
		    faccessat(state, "j.cut", F_OK, 0) == -1)
			continue;
		look();
		seen++;
		points++;
	}
	CHECK(seen > 0);
}

/*
 * If the mailbox is absent, the journal is kept. The removal is finished once
 * the mailbox is back.
 */
static void
look_while_absent(void)
{
	box.fd = -1;
	CHECK(run(true, 0, NEVER) == 1 && redo_is_pending(state));
	box.fd = spool;
	CHECK(run(true, 0, NEVER) == 0 && !redo_is_pending(state) &&
	    is(expected, expected_size));
}

/*
 * If a file system is not mounted, another mailbox in another directory may be
 * at the path. The journal does not belong to that mailbox, and is kept.
 */
static void
look_while_unmounted(void)
{
	int other;
	char text[100] =
	    "From a user\nSubject: came while the spool was not mounted\n\n";

	CHECK(mkdirat(state, "below", 0700) == 0);
	CHECK((box.dir = openat(state, "below", O_RDONLY | O_DIRECTORY)) != -1);
	CHECK((other = openat(box.dir, "spool", O_RDWR | O_CREAT, 0600)) != -1);
	CHECK(write(other, text, sizeof(text)) == sizeof(text));
	box.fd = other;
	CHECK(run(true, 0, NEVER) == 1 && redo_is_pending(state));
	box.fd = spool;
	close(box.dir);
	box.dir = state;
	CHECK(run(true, 0, NEVER) == 0 && !redo_is_pending(state) &&
	    is(expected, expected_size));
	CHECK(__real_unlinkat(state, "below/spool", 0) == 0 &&
	    __real_unlinkat(state, "below", AT_REMOVEDIR) == 0);
	close(other);
}

/*
 * A move to another disk leaves the same bytes in another inode and another
 * directory. The journal still belongs to that mailbox.
 */
static void
look_after_move(void)
{
	static char whole[sizeof(expected)];
	ssize_t n = pread(spool, whole, sizeof(whole), 0);
	int moved, old = spool;

	CHECK(n > 0 && mkdirat(state, "moved", 0700) == 0);
	CHECK((box.dir = openat(state, "moved", O_RDONLY | O_DIRECTORY)) != -1);
	CHECK((moved = openat(box.dir, "spool", O_RDWR | O_CREAT, 0600)) != -1);
	CHECK(__real_pwrite(moved, whole, (size_t)n, 0) == n);
	box.fd = spool = moved;
	CHECK(run(true, 0, NEVER) == 0 && !redo_is_pending(state) &&
	    is(expected, expected_size));
	close(box.dir);
	box = journal_box_make(state, spool = old, state);
	CHECK(__real_unlinkat(state, "moved/spool", 0) == 0 &&
	    __real_unlinkat(state, "moved", AT_REMOVEDIR) == 0);
	close(moved);
}

/*
 * Stops a small removal once it is decided. Then changes one byte of the
 * mailbox that the removal does not write. The journal must then be set aside.
 * Repeats this for each such byte.
 */
static void
small_removals_are_recognized(void)
{
	static const char old[] =
	    "From a\nA: 1\n\none\n\nFrom x\n\nFrom b\nB: 2\n\ntwo\n\n";
	const struct range tiny = { 20, 28 };
	char there[sizeof(old)];
	unsigned seen = 0;

	for (size_t from = 0; from <= 20; from += 20)
		for (size_t meddle = from; meddle < sizeof(old) - 1; meddle++) {
			struct range range =
			    from == 0 ? (struct range){ 0, 20 } : tiny;
			unsigned char byte, marker[16];
			int fd, status;
			pid_t pid;

			begin(0x1ff);
			CHECK(__real_ftruncate(spool, 0) == 0 &&
			    __real_pwrite(spool, old, sizeof(old) - 1, 0) ==
				sizeof(old) - 1);
			/*
			 * Stop as soon as the removal is decided. Nothing has
			 * been written to the mailbox at that time.
			 */
			for (int at = 1; faccessat(state, "j", F_OK, 0) == -1;
			     at++) {
				if ((pid = fork()) == 0) {
					calls = 0;
					stop_at = at;
					_exit(ranges_remove(&box, &range, 1) ==
						    RANGES_REMOVED ?
						0 :
						1);
				}
				CHECK(waitpid(pid, &status, 0) == pid &&
				    WEXITSTATUS(status) == STOPPED);
			}
			/*
			 * Choose a byte that occurs neither in the messages nor
			 * in the marker.
			 */
			CHECK((fd = openat(state, "j", O_RDONLY)) != -1 &&
			    pread(fd, marker, 16, 40) == 16 && close(fd) == 0);
			for (byte = 0x80; memchr(marker, byte, 16) != NULL;
			     byte++)
				;
			CHECK(__real_pwrite(spool, &byte, 1, (off_t)meddle) ==
			    1);
			CHECK(run(true, 0, NEVER) == ASIDE &&
			    pread(spool, there, sizeof(there), 0) ==
				sizeof(old) - 1);
			CHECK((unsigned char)there[meddle] == byte &&
			    memcmp(there, old, meddle) == 0 &&
			    memcmp(there + meddle + 1, old + meddle + 1,
				sizeof(old) - 2 - meddle) == 0);
			seen++;
		}
	CHECK(seen > 40);
}

/*
 * A journal of version 1 has no witness. Recovery obeys it only if the mailbox
 * has the inode in the journal.
 */
static void
journals_of_version_1_are_obeyed(void)
{
	struct {
		char magic[8];
		uint64_t inode;
		int64_t from, kept, size;
		uint8_t marker[16];
		uint64_t marker_size;
		uint8_t hashes[3][32], sum[32];
	} h;
	SHA2_CTX c;
	int fd;

	for (int same = 0; same < 2; same++) {
		begin(0x002);
		for (int at = 1; faccessat(state, "j", F_OK, 0) == -1; at++)
			CHECK(run(false, 0x002, at) == STOPPED);
		CHECK((fd = openat(state, "j", O_RDWR)) != -1 &&
		    pread(fd, &h, sizeof(h), 0) == sizeof(h));
		memcpy(h.magic, "kpopd j1", 8);
		h.inode += !same;
		SHA256Init(&c);
		SHA256Update(&c, (uint8_t *)&h, offsetof(__typeof__(h), sum));
		SHA256Final(h.sum, &c);
		CHECK(__real_pwrite(fd, &h, sizeof(h), 0) == sizeof(h) &&
		    close(fd) == 0);
		CHECK(run(true, 0, NEVER) == (same ? 0 : ASIDE) &&
		    !redo_is_pending(state));
		CHECK(same ? is(expected, expected_size) : is_whole(0));
	}
}

static int
unlink_rescue(void *self, const char *name)
{
	unsigned *n = self;

	if (strncmp(name, "rescue.", 7) == 0) {
		CHECK(__real_unlinkat(state, name, 0) == 0);
		++*n;
	}
	return 0;
}

/* Removes the journals that were set aside. Returns their number. */
static unsigned
remove_rescues(void)
{
	unsigned n = 0;

	CHECK(volume_each_name(state, unlink_rescue, &n) == 0);
	return n;
}

/*
 * A program that takes no lock truncates the mailbox before each call. If the
 * journal is set aside, the result must not be RANGES_REMOVED.
 */
static void
a_journal_set_aside_is_not_a_removal(void)
{
	struct range ranges[COUNT];
	size_t n = ranges_of(2, ranges);
	unsigned aside = 0;

	remove_rescues();
	for (meddle_at = 1;; meddle_at++) {
		enum ranges_result result;

		begin(2);
		calls = 0;
		result = ranges_remove(&box, ranges, n);
		if (calls < meddle_at)
			break;
		if (remove_rescues() == 0)
			continue;
		CHECK(result != RANGES_REMOVED);
		aside++;
	}
	meddle_at = NEVER;
	CHECK(aside > 0);
}

/*
 * The journal vanishes before each call. The result must be RANGES_REMOVED only
 * if the messages are removed.
 */
static void
a_lost_journal_is_not_a_removal(void)
{
	struct range ranges[COUNT];
	size_t n = ranges_of(2, ranges);
	unsigned lost = 0;

	for (vanish_at = 1;; vanish_at++) {
		enum ranges_result result;

		begin(2);
		calls = 0;
		result = ranges_remove(&box, ranges, n);
		if (calls < vanish_at)
			break;
		CHECK(result != RANGES_REMOVED || is(expected, expected_size));
		lost += result == RANGES_DECIDED;
	}
	vanish_at = NEVER;
	CHECK(lost > 0);
}

/*
 * Gives the box names as on a shared file system. n is the last digit of their
 * number; 0: the same names for all processes, as on a local file system.
 */
static void
use_names(int n)
{
	box = journal_box_make(state, spool, state);
	if (n == 0)
		return;
	snprintf(box.temporary, JOURNAL_NAME, "j.tmp.000000000000000%d", n);
	snprintf(box.decided, JOURNAL_NAME, "j.000000000000000%d", n);
	snprintf(box.written, JOURNAL_NAME, "j.cut.000000000000000%d", n);
}

/*
 * Recovers the mailbox in a child process, which then removes the first
 * message. The late call arrives before the call `late`. Returns the child's
 * exit status: 0 if the message is removed.
 */
static int
next_session(int late)
{
	const struct range first = { 0, MESSAGE };
	int status;
	pid_t pid = fork();

	CHECK(pid != -1);
	if (pid == 0) {
		bool is_removed;

		calls = 0;
		late_at = late;
		is_removed = redo_recover(&box) != -1 &&
		    ranges_remove(&box, &first, 1) == RANGES_REMOVED;
		stopped->calls = calls;
		_exit(is_removed ? 0 : 1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

/*
 * Recovers the mailbox after two removals of which either may have happened.
 * Returns true if it then has the kept messages and the one that has arrived,
 * once each. If first_removed, the second removal must have happened.
 */
static bool
is_right_after(bool first_removed)
{
	static char whole[sizeof(expected)];
	const char *texts[] = { whole, expected };
	size_t sizes[] = { COUNT * MESSAGE, expected_size };

	if (run(true, 0, NEVER) != 0 || redo_is_pending(state))
		return false;
	for (int i = 0; i < COUNT; i++)
		make_message(i, whole + i * MESSAGE);
	for (int i = 0; i < 2; i++) {
		char *end = (i == 0 ? whole : expected) + sizes[i];

		make_message(COUNT, end);
		sizes[i] += MESSAGE;
		if (is(texts[i] + MESSAGE, sizes[i] - MESSAGE) ||
		    (!first_removed && is(texts[i], sizes[i])))
			return true;
	}
	return false;
}

/*
 * Stops a removal before the call `at`, or, if in_recovery, stops the recovery
 * of a decided removal there. Returns the exit status of what was stopped.
 */
static int
stop_at_call(unsigned removed, bool own_names, bool in_recovery, int at)
{
	begin(removed);
	use_names(own_names ? 1 : 0);
	if (!in_recovery)
		return run(false, removed, at);
	for (int call = 1; journal_find_own(&box) != JOURNAL_DECIDED; call++)
		CHECK(run(false, removed, call) == STOPPED);
	use_names(own_names ? 2 : 0);
	return run(true, 0, at);
}

/*
 * Stops a removal, or its recovery, before each rename and each unlink. Then
 * another process recovers the mailbox and removes the first message, and the
 * stopped call of the first process arrives before each call of the second one.
 * Returns how often the mailbox is wrong afterwards.
 */
static unsigned
late_calls(unsigned removed, bool own_names, bool in_recovery)
{
	unsigned wrong = 0, late_names = 0;

	for (int at = 1;; at++) {
		int result, most = 0;

		if (stop_at_call(removed, own_names, in_recovery, at) == 0)
			break;
		if (stopped->from[0] == '\0')
			continue;
		late_names++;
		/* In the first round the call does not arrive. */
		for (int late = 0; late <= most; late++) {
			CHECK(stop_at_call(removed, own_names, in_recovery,
				  at) == STOPPED);
			use_names(own_names ? 3 : 0);
			result = next_session(late);
			if (late == 0)
				most = stopped->calls;
			append(COUNT);
			use_names(own_names ? 4 : 0);
			wrong += !is_right_after(result == 0);
			CHECK(remove_rescues() == 0 || !own_names);
			points++;
		}
	}
	CHECK(late_names >= 3);
	use_names(0);
	return wrong;
}

/*
 * On a shared file system a call of a host that has lost its locks may arrive
 * at any time. With equal names it does harm.
 */
static void
late_calls_change_nothing(void)
{
	CHECK(late_calls(0x0aa, true, false) == 0);
	CHECK(late_calls(0x180, true, false) == 0);
	CHECK(late_calls(0x0aa, true, true) == 0);
	CHECK(late_calls(0x0aa, false, false) > 0);
}

/*
 * A mailbox that was moved from a shared file system to a local one may have
 * journals with other names. The one that fits is obeyed, the others are set
 * aside.
 */
static void
many_journals_are_finished(void)
{
	static const char *const names[] = { "j", "j.0123456789abcdef",
		"j.cut.fedcba9876543210", "j.cut" };

	/* In each round one of these names has no journal. */
	for (size_t i = 0; i < 4; i++) {
		unsigned aside;
		int fd, at = 1;

		begin(0x0aa);
		use_names(1);
		while (journal_find_own(&box) != JOURNAL_DECIDED)
			CHECK(run(false, 0x0aa, at++) == STOPPED);
		use_names(0);
		for (size_t k = 0; k < 4; k++) {
			if (k == i)
				continue;
			CHECK((fd = openat(state, names[k], O_WRONLY | O_CREAT,
				   0600)) != -1);
			CHECK(write(fd, "damaged", 7) == 7 && close(fd) == 0);
		}
		CHECK(run(true, 0, NEVER) == ASIDE && !redo_is_pending(state));
		CHECK(is(expected, expected_size));
		/* The removal replaces a j.cut that is beside its j. */
		aside = remove_rescues();
		CHECK(aside == 2 || aside == 3);
	}
}

int
main(void)
{
	char command[200];

	CHECK(mkdtemp(directory) != NULL);
	state = open(directory, O_RDONLY | O_DIRECTORY);
	spool = openat(state, "spool", O_RDWR | O_CREAT, 0600);
	CHECK(state != -1 && spool != -1);
	box = journal_box_make(state, spool, state);
	stopped = mmap(NULL, sizeof(*stopped), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(stopped != MAP_FAILED);
	stops_everywhere(0x001); /* the first message */
	stops_everywhere(0x0aa); /* every second message */
	stops_everywhere(0x0fe); /* all but the first and the last message */
	stops_everywhere(0x180); /* the last two messages */
	stops_everywhere(0x1ff); /* all messages */
	fails_everywhere(0x0aa);
	fails_everywhere(0x180);
	strange_journals_are_set_aside();
	setting_aside_fails_everywhere();
	a_journal_set_aside_is_not_a_removal();
	a_lost_journal_is_not_a_removal();
	late_calls_change_nothing();
	many_journals_are_finished();
	at_each_pending(0x002, look_while_absent);
	at_each_pending(0x180, look_while_absent);
	at_each_pending(0x0aa, look_while_unmounted);
	at_each_pending(0x180, look_while_unmounted);
	at_each_pending(0x0ab, look_after_move);
	at_each_pending(0x180, look_after_move);
	small_removals_are_recognized();
	journals_of_version_1_are_obeyed();
	printf("%u points\n", points);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command);
}
