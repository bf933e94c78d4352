/*
 * An MDA delivers to an mbox before each system call of a session that reads
 * the mailbox. Runs as any user.
 *
 * 	deliver-mbox [all]
 *
 * The MDA locks the mailbox and writes its message in two pieces, as procmail
 * does: procmail writes the letter F alone. Between the pieces the session goes
 * on until it waits for the lock, or makes a number of further calls. At each
 * of these points the session must send the messages that it has listed, keep
 * their ids, and remove only the marked one. The MDA obeys the locks, so no
 * message may count as changed. Without "all", the test tries every seventh
 * kind of session.
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lock.h"
#include "mbox-cache.h"
#include "tests/unit/check.h"
#include "tests/unit/drop.h"

#define BEGIN "From sender@kpopd.test Mon Nov 23 05:00:00 2026\n"
#define ONE "Message-ID: <1@kpopd.test>\n\nOne.\n"
#define TWO "Subject: it has no Message-ID\n\nTwo.\n"
#define THREE "Message-ID: <3@kpopd.test>\n\n"
#define FOUR "Message-ID: <4@kpopd.test>\n\nFour.\n"
#define NEVER 10000 /* more calls than a session makes */

/* A point: what the session and the MDA do. */
struct point {
	int at;            /* the MDA begins before this call */
	size_t piece;      /* bytes of its first piece */
	int calls_between; /* calls of the session between the pieces */
	bool has_index;    /* an earlier session has listed the mailbox */
	bool large;        /* a mailbox that has grown is not read again */
	bool stable;       /* the fingerprints are stable */
};

static const char *const wires[] = {
	"Message-ID: <1@kpopd.test>\r\n\r\nOne.\r\n",
	"Subject: it has no Message-ID\r\n\r\nTwo.\r\n",
	"Message-ID: <3@kpopd.test>\r\n\r\n",
	"Message-ID: <4@kpopd.test>\r\n\r\nFour.\r\n"
};
static const char before[] = BEGIN ONE "\n" BEGIN TWO "\n" BEGIN THREE;
static const char new[] = BEGIN FOUR "\n";
static const char after[] = BEGIN ONE "\n" BEGIN THREE BEGIN FOUR "\n";

static struct point point;
static int calls; /* -1: the MDA does not deliver yet */
static int mda;   /* the MDA's descriptor of the mailbox */
static enum { WAITS, HAS_BEGUN, HAS_ENDED } mda_state;

static void
mda_begin(void)
{
	if (lock_fcntl(mda, F_WRLCK) == -1)
		return;
	CHECK(write(mda, new, point.piece) == (ssize_t)point.piece);
	mda_state = HAS_BEGUN;
	point.calls_between += calls;
}

static void
mda_end(void)
{
	size_t rest = sizeof(new) - 1 - point.piece;

	CHECK(write(mda, &new[point.piece], rest) == (ssize_t)rest);
	CHECK(lock_fcntl(mda, F_UNLCK) == 0);
	mda_state = HAS_ENDED;
}

/* The session makes a call that reads the mailbox. */
static void
turn(void)
{
	if (calls == -1)
		return;
	calls++;
	if (mda_state == WAITS && calls >= point.at)
		mda_begin();
	else if (mda_state == HAS_BEGUN && calls > point.calls_between)
		mda_end();
}

/* The linker replaces these functions (--wrap). */
int __real_fstat(int, struct stat *);
int __wrap_fstat(int, struct stat *);
ssize_t __real_pread(int, void *, size_t, off_t);
ssize_t __wrap_pread(int, void *, size_t, off_t);
int __real_clock_gettime(clockid_t, struct timespec *);
int __wrap_clock_gettime(clockid_t, struct timespec *);
int __wrap_nanosleep(const struct timespec *, struct timespec *);

int
__wrap_fstat(int fd, struct stat *st)
{
	turn();
	return __real_fstat(fd, st);
}

ssize_t
__wrap_pread(int fd, void *to, size_t n, off_t at)
{
	turn();
	return __real_pread(fd, to, n, at);
}

/* If the clock is an hour fast, the fingerprint of a new file is stable. */
int
__wrap_clock_gettime(clockid_t which, struct timespec *t)
{
	int result = __real_clock_gettime(which, t);

	if (which == CLOCK_REALTIME_COARSE && point.stable)
		t->tv_sec += 3600;
	return result;
}

/* The session waits for the lock. */
int
__wrap_nanosleep(const struct timespec *t, struct timespec *left)
{
	(void)t;
	(void)left;
	CHECK(mda_state == HAS_BEGUN);
	mda_end();
	return 0;
}

static void
check_file(int top, const char *want)
{
	char text[2000];
	int fd = openat(top, "mbox", O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text));

	CHECK(n == (ssize_t)strlen(want) && memcmp(text, want, (size_t)n) == 0);
	close(fd);
}

/* Stores the ids of the first three messages. */
static void
list_ids(struct maildrop *drop, char ids[3][UIDL_SIZE])
{
	for (size_t n = 1; n <= 3; n++)
		maildrop_uidl(drop, n, ids[n - 1]);
}

/*
 * Makes the mailbox. If the point has an index, also lists the mailbox and
 * stores the ids.
 */
static void
prepare(int top, char ids[3][UIDL_SIZE])
{
	struct maildrop drop;

	mda = openat(top, "mbox", O_CREAT | O_RDWR | O_APPEND, 0600);
	CHECK(write(mda, before, strlen(before)) == (ssize_t)strlen(before));
	if (!point.has_index)
		return;
	CHECK(drop_begin(&drop, "mbox:%h/mbox") == DROP_OK);
	list_ids(&drop, ids);
}

/* Runs the session in a directory of its own. */
static void
session(int top)
{
	char earlier[3][UIDL_SIZE], ids[3][UIDL_SIZE];
	struct maildrop drop;
	size_t removed;

	prepare(top, earlier);
	calls = 0;
	CHECK(drop_begin(&drop, "mbox:%h/mbox") == DROP_OK);
	CHECK(drop.count == 3 || (drop.count == 4 && mda_state == HAS_ENDED));
	list_ids(&drop, ids);
	for (int i = 0; point.has_index && i < 3; i++)
		CHECK(strcmp(earlier[i], ids[i]) == 0);
	for (size_t n = 1; n <= drop.count; n++) {
		const struct text want = { wires[n - 1], strlen(wires[n - 1]) };

		drop_check_message(&drop, n, &want);
	}
	maildrop_mark(&drop, 2);
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	if (mda_state == HAS_BEGUN)
		mda_end();
	if (mda_state == HAS_ENDED)
		check_file(top, after);
	CHECK(drop_begin(&drop, "mbox:%h/mbox") == DROP_OK);
	drop_check_ids(&drop);
}

/*
 * Runs the session in a child. Returns true if the MDA has begun. Ends the test
 * after a failure.
 */
static bool
try_point(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		session(drop_directory());
		_exit(drop_clean_up() == 0 && mda_state == HAS_ENDED ? 0 : 2);
	}
	CHECK(child != -1 && waitpid(child, &status, 0) == child);
	if (WIFEXITED(status) && WEXITSTATUS(status) != 1)
		return WEXITSTATUS(status) == 0;
	fprintf(stderr,
	    "the MDA began before call %d with %zu bytes and ended after %d "
	    "calls; index: %d, large: %d, stable: %d\n",
	    point.at, point.piece, point.calls_between, point.has_index,
	    point.large, point.stable);
	exit(1);
}

/* Lets the MDA begin before each call of one kind of session. */
static int
sweep(const struct point *kind)
{
	int at = 1;

	cache_small = kind->large ? 0 : (off_t)4 << 20;
	do {
		point = *kind;
		point.at = at++;
	} while (try_point());
	return at;
}

int
main(int argc, char **argv)
{
	int step = argc > 1 && strcmp(argv[1], "all") == 0 ? 1 : 7;
	static const size_t pieces[] = { 1, 9, sizeof(new) - 2 };
	static const int between[] = { 0, 2, NEVER };
	int points = 0;

	for (int kind = 0; kind < 3 * 3 * 8; kind += step) {
		const struct point p = { .piece = pieces[kind % 3],
			.calls_between = between[kind / 3 % 3],
			.has_index = kind / 9 & 1,
			.large = kind / 9 & 2,
			.stable = kind / 9 & 4 };

		points += sweep(&p);
	}
	printf("deliver-mbox: %d points, 0 bad\n", points);
	CHECK(points > 500);
	return 0;
}
