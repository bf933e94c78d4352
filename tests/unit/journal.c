/*
 * Unit tests of journal.c: a removal stopped before each of its writing system
 * calls, recovered, stopped again while recovering; with mail that arrives in
 * between, and with each call failing once. Runs as anybody.
 *
 * The linker puts the __wrap_ functions below in the place of the system calls
 * (--wrap), so that "stopped" is the process' end right before the call.
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "journal.h"
#include "tests/unit/check.h"

/* Large enough that the windows of 64 KiB do not cover everything. */
#define MESSAGE 30000
#define COUNT 9
#define STOPPED 77

/* What happens at the call whose turn it is; calls count from 1. */
enum { NEVER = -1 };
static int calls, stop_at = NEVER, fail_at = NEVER, meddle_at = NEVER, fail_with;
static int state, spool;
int __real_ftruncate(int, off_t);

static bool
turn(void)
{
	calls++;
	if (calls == stop_at)
		_exit(STOPPED);
	/* Another program that takes no lock. */
	if (calls == meddle_at)
		__real_ftruncate(spool, MESSAGE / 2);
	if (calls != fail_at)
		return false;
	errno = fail_with;
	return true;
}

#define WRAP(type, name, parameters, arguments)        \
	type __real_##name parameters;                 \
	type __wrap_##name parameters;                 \
	type __wrap_##name parameters                  \
	{                                              \
		return turn() ? -1 : __real_##name arguments; \
	}
WRAP(int, fsync, (int fd), (fd))
WRAP(int, ftruncate, (int fd, off_t n), (fd, n))
WRAP(int, renameat, (int a, const char *b, int c, const char *d), (a, b, c, d))
WRAP(int, unlinkat, (int a, const char *b, int c), (a, b, c))

/* In pieces, so that a stop between them is seen as well. */
ssize_t __real_pwrite(int, const void *, size_t, off_t);
ssize_t __wrap_pwrite(int, const void *, size_t, off_t);
ssize_t
__wrap_pwrite(int fd, const void *p, size_t n, off_t at)
{
	return turn() ? -1 : __real_pwrite(fd, p, n > 8192 ? n / 2 : n, at);
}

static char directory[] = "/tmp/kpopd-journal.XXXXXX";

/* What is in the mailbox, as it should be. */
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

/* A fresh mailbox, and an empty state directory. Kept messages become the expectation. */
static void
begin(unsigned removed)
{
	static const char *const names[] = { "j", "j.tmp", "j.cut" };

	for (size_t i = 0; i < 3; i++)
		__real_unlinkat(state, names[i], 0);
	CHECK(__real_ftruncate(spool, 0) == 0);
	expected_size = 0;
	for (int i = 0; i < COUNT; i++) {
		append(i);
		if ((removed >> i & 1) == 0)
			expect(i);
	}
}

static size_t
ranges_of(unsigned removed, struct journal_range *ranges)
{
	size_t n = 0;

	for (int i = 0; i < COUNT; i++)
		if ((removed >> i & 1) != 0)
			ranges[n++] = (struct journal_range){ (off_t)i * MESSAGE,
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

/* Runs the removal or the recovery in a child that stops before call number at. Returns its exit status. */
static int
run(bool recover, unsigned removed, int at)
{
	int status;
	pid_t pid = fork();

	CHECK(pid != -1);
	if (pid == 0) {
		struct journal_range ranges[COUNT];

		calls = 0;
		stop_at = at;
		if (recover)
			_exit(journal_recover(state, spool) == 0 ? 0 : 1);
		_exit(journal_remove(state, spool, ranges,
		    ranges_of(removed, ranges)) == JOURNAL_DONE ? 0 : 1);
	}
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Whether the mailbox is as before the removal, with so many messages more. */
static bool
is_whole(int arrived)
{
	static char whole[sizeof(expected)];

	for (int i = 0; i < COUNT + arrived; i++)
		make_message(i, whole + i * MESSAGE);
	return is(whole, (size_t)(COUNT + arrived) * MESSAGE);
}

/* After recovery: either nothing has happened or all of it, and mail that arrived is there once. */
static void
check_outcome(int arrived)
{
	CHECK(run(true, 0, NEVER) == 0);
	CHECK(!journal_pending(state));
	for (int i = COUNT; i < COUNT + arrived; i++)
		expect(i);
	CHECK(is(expected, expected_size) || is_whole(arrived));
}

static unsigned points;

/* Stops the removal at each call; and for each, the recovery at each call, with mail arriving before and after. */
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
	CHECK(is(expected, expected_size) && !journal_pending(state));
}

/* Each call fails once, with each error: an honest answer, and the old or the new mailbox after the next login. */
static void
fails_everywhere(unsigned removed)
{
	static const int errors[] = { EIO, ENOSPC, EDQUOT, EROFS };
	struct journal_range ranges[COUNT];
	size_t n = ranges_of(removed, ranges);

	for (size_t e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
		for (int at = 1;; at++) {
			enum journal_result result;
			bool reached;

			begin(removed);
			calls = 0;
			fail_at = at;
			fail_with = errors[e];
			result = journal_remove(state, spool, ranges, n);
			reached = calls >= at;
			fail_at = NEVER;
			if (result == JOURNAL_DONE)
				CHECK(is(expected, expected_size));
			if (result == JOURNAL_NOTHING)
				CHECK(!journal_pending(state) && is_whole(0));
			CHECK(run(true, 0, NEVER) == 0);
			CHECK(!journal_pending(state));
			CHECK(result == JOURNAL_NOTHING ? is_whole(0) :
				is(expected, expected_size));
			points++;
			if (!reached)
				break;
		}
	}
}

/* A journal for another mailbox, a forged and a cut one are set aside, and the mailbox stays as it is. */
static void
strange_journals_are_set_aside(void)
{
	char text[MESSAGE];
	int fd;

	begin(2);
	for (int at = 1; !journal_pending(state) || faccessat(state, "j", F_OK, 0) == -1; at++)
		CHECK(run(false, 2, at) == STOPPED || at > 50);
	/* Another program rewrites the first message. */
	memset(text, 'z', sizeof(text));
	CHECK(__real_pwrite(spool, text, 100, 500) == 100);
	CHECK(run(true, 0, NEVER) == 0 && !journal_pending(state));
	CHECK(pread(spool, text, 100, 500) == 100 && text[0] == 'z' && text[99] == 'z');

	begin(0);
	CHECK((fd = openat(state, "j", O_WRONLY | O_CREAT, 0600)) != -1);
	CHECK(write(fd, text, sizeof(text)) == sizeof(text) && close(fd) == 0);
	CHECK(mkfifoat(state, "j.cut", 0600) == 0);
	CHECK(run(true, 0, NEVER) == 0 && !journal_pending(state));
	CHECK(is(expected, expected_size));
	CHECK(symlinkat("/etc/passwd", state, "j") == 0);
	CHECK(run(true, 0, NEVER) == 0 && !journal_pending(state));
	CHECK(is(expected, expected_size));
}

/* Where a damaged one cannot be set aside either, nothing is done, and the next login does it. */
static void
setting_aside_fails_everywhere(void)
{
	bool reached = true;
	unsigned failed = 0;

	for (int at = 1; reached; at++) {
		int fd, result;

		begin(0);
		CHECK((fd = openat(state, "j", O_WRONLY | O_CREAT, 0600)) != -1);
		CHECK(write(fd, "damaged", 7) == 7 && close(fd) == 0);
		calls = 0;
		fail_at = at;
		fail_with = EIO;
		result = journal_recover(state, spool);
		reached = calls >= at;
		fail_at = NEVER;
		CHECK(result == (reached ? -1 : 0) && is(expected, expected_size));
		failed += reached;
		CHECK(run(true, 0, NEVER) == 0 && !journal_pending(state) && is(expected, expected_size));
	}
	CHECK(failed > 0);
}

static bool
has_rescue(void)
{
	char command[200];

	snprintf(command, sizeof(command), "ls %s/rescue.* >%s/rescued 2>/dev/null", directory, directory);
	return system(command) == 0;
}

/* A program that takes no lock cuts the mailbox short before each call: a removal whose journal is set aside is not said to be done. */
static void
what_was_set_aside_is_not_done(void)
{
	char command[200];
	struct journal_range ranges[COUNT];
	size_t n = ranges_of(2, ranges);
	unsigned aside = 0;

	snprintf(command, sizeof(command), "rm -f %s/rescue*", directory);
	for (meddle_at = 1;; meddle_at++) {
		enum journal_result result;

		begin(2);
		CHECK(system(command) == 0);
		calls = 0;
		result = journal_remove(state, spool, ranges, n);
		if (calls < meddle_at)
			break;
		if (!has_rescue())
			continue;
		CHECK(result != JOURNAL_DONE);
		aside++;
	}
	meddle_at = NEVER;
	CHECK(aside > 0 && system(command) == 0);
}

int
main(void)
{
	char command[200];

	CHECK(mkdtemp(directory) != NULL);
	state = open(directory, O_RDONLY | O_DIRECTORY);
	spool = openat(state, "spool", O_RDWR | O_CREAT, 0600);
	CHECK(state != -1 && spool != -1);
	stops_everywhere(0x001); /* the first */
	stops_everywhere(0x0aa); /* every second */
	stops_everywhere(0x0fe); /* all but the first and last */
	stops_everywhere(0x180); /* the last two */
	stops_everywhere(0x1ff); /* all */
	fails_everywhere(0x0aa);
	fails_everywhere(0x180);
	strange_journals_are_set_aside();
	setting_aside_fails_everywhere();
	what_was_set_aside_is_not_done();
	printf("%u points\n", points);
	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command);
}
