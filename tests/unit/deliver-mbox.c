/*
 * An MDA delivers two messages to an mbox before the system calls of a session
 * that reads the mailbox. Runs as any user.
 *
 * 	deliver-mbox [all]
 *
 * The MDA locks the mailbox and writes each message in two pieces, as procmail
 * does: procmail writes the letter F alone. Between the pieces the session goes
 * on until it waits for the lock, or makes a number of further calls. At each
 * of these points the session must send the messages that it has listed, keep
 * their ids, and remove only the marked one. The MDA obeys the locks, so no
 * message may count as changed. Without "all", the test tries every 23rd kind
 * of session.
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

#define OLD 3       /* messages of the mailbox before the MDA delivers */
#define ALL 5       /* messages at the end, the marked one included */
#define MARKED 2    /* the message that the session removes */
#define NEVER 10000 /* more calls than a session makes */
#define KINDS (3 * 3 * 32)

/* A point: what the session and the MDA do. */
struct point {
	int at;            /* the MDA goes on before this call */
	size_t piece;      /* bytes of a message's first piece; 0: all but 1 */
	int calls_between; /* calls of the session between the pieces */
	bool has_index;    /* an earlier session has listed the mailbox */
	bool large;        /* a mailbox that has grown is not read again */
	bool stable;       /* the fingerprints are stable */
	bool equal;        /* messages 1, 3 and 4 have the same header */
	bool asks_ids;     /* the client asks for the ids first */
};

/*
 * The texts of the messages. In the second row messages 1, 3 and 4 have equal
 * headers.
 */
static const char *const texts[2][ALL] = {
	{ "Message-ID: <1@kpopd.test>\n\nOne.\n",
	    "Subject: it has no Message-ID\n\nTwo.\n",
	    "Message-ID: <3@kpopd.test>\n\n",
	    "Message-ID: <4@kpopd.test>\n\nFour.\n",
	    "Message-ID: <5@kpopd.test>\n\nFive.\n" },
	{ "Message-ID: <1@kpopd.test>\n\nOne.\n",
	    "Subject: it has no Message-ID\n\nTwo.\n",
	    "Message-ID: <1@kpopd.test>\n\nThree.\n",
	    "Message-ID: <1@kpopd.test>\n\nFour.\n",
	    "Message-ID: <5@kpopd.test>\n\nFive.\n" }
};

static struct point point;
static int calls;        /* -1: the MDA does not deliver yet */
static int mda;          /* the MDA's descriptor of the mailbox */
static bool has_begun;   /* the MDA has written the first piece */
static size_t delivered; /* number of messages that the MDA has delivered */

/* Stores message i as it is in the mailbox. Returns its size. */
static size_t
make_stored(size_t i, char to[200])
{
	int n = snprintf(to, 200,
	    "From sender@kpopd.test Mon Nov 23 05:00:00 2026\n%s\n",
	    texts[point.equal][i]);

	CHECK(n > 0 && n < 200);
	return (size_t)n;
}

/* Stores the text of message i with CRLF. Returns its size. */
static size_t
make_wire(size_t i, char to[200])
{
	size_t n = 0;

	for (const char *p = texts[point.equal][i]; *p != '\0'; p++) {
		if (*p == '\n')
			to[n++] = '\r';
		to[n++] = *p;
	}
	return n;
}

static size_t
first_piece(size_t size)
{
	return point.piece == 0 ? size - 1 : point.piece;
}

static void
mda_begin(void)
{
	char text[200];
	size_t n = first_piece(make_stored(OLD + delivered, text));

	if (lock_fcntl(mda, F_WRLCK) == -1)
		return;
	CHECK(write(mda, text, n) == (ssize_t)n);
	has_begun = true;
	point.at = calls + point.calls_between;
}

static void
mda_end(void)
{
	char text[200];
	size_t size = make_stored(OLD + delivered, text);
	size_t n = first_piece(size);

	CHECK(write(mda, &text[n], size - n) == (ssize_t)(size - n));
	CHECK(lock_fcntl(mda, F_UNLCK) == 0);
	has_begun = false;
	delivered++;
}

/* The session makes a call that reads the mailbox. */
static void
turn(void)
{
	if (calls == -1 || ++calls < point.at || OLD + delivered == ALL)
		return;
	if (has_begun)
		mda_end();
	else
		mda_begin();
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
	CHECK(has_begun);
	mda_end();
	return 0;
}

/* Checks that the mailbox has all messages except the marked one. */
static void
check_file(int top)
{
	char want[ALL * 200], text[sizeof(want)];
	int fd = openat(top, "mbox", O_RDONLY);
	size_t n = 0;

	for (size_t i = 0; i < OLD + delivered; i++)
		if (i + 1 != MARKED)
			n += make_stored(i, want + n);
	CHECK(read(fd, text, sizeof(text)) == (ssize_t)n);
	CHECK(memcmp(text, want, n) == 0);
	close(fd);
}

/* Checks that the ids of the messages are these, if the client knows them. */
static void
check_ids(struct maildrop *drop, char ids[ALL][UIDL_SIZE])
{
	char id[UIDL_SIZE];

	for (size_t n = 1; n <= drop->count; n++) {
		maildrop_uidl(drop, n, id);
		if (ids[n - 1][0] == '\0')
			strlcpy(ids[n - 1], id, UIDL_SIZE);
		CHECK(strcmp(ids[n - 1], id) == 0);
	}
}

/* Makes the mailbox. If the point has an index, also lists the mailbox. */
static void
prepare(int top, char ids[ALL][UIDL_SIZE])
{
	struct maildrop drop;
	char text[200];

	mda = openat(top, "mbox", O_CREAT | O_RDWR | O_APPEND, 0600);
	for (size_t i = 0; i < OLD; i++) {
		size_t n = make_stored(i, text);

		CHECK(write(mda, text, n) == (ssize_t)n);
	}
	if (!point.has_index)
		return;
	CHECK(drop_begin(&drop, "mbox:%h/mbox") == DROP_OK);
	check_ids(&drop, ids);
}

/* Fetches all messages and removes one. */
static void
session(int top, char ids[ALL][UIDL_SIZE])
{
	struct maildrop drop;
	char wire[200];
	size_t removed;

	CHECK(drop_begin(&drop, "mbox:%h/mbox") == DROP_OK);
	CHECK(drop.count >= OLD && drop.count <= OLD + delivered);
	if (point.asks_ids)
		check_ids(&drop, ids);
	for (size_t n = 1; n <= drop.count; n++) {
		const struct text want = { wire, make_wire(n - 1, wire) };

		drop_check_message(&drop, n, &want);
	}
	check_ids(&drop, ids);
	maildrop_mark(&drop, MARKED);
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	if (has_begun)
		mda_end();
	CHECK(lock_fcntl(mda, F_WRLCK) == 0 && lock_fcntl(mda, F_UNLCK) == 0);
	check_file(top);
}

/* Runs the sessions of a point in a directory of its own. */
static void
sessions(int top)
{
	char ids[ALL][UIDL_SIZE] = { "" };
	struct maildrop drop;

	prepare(top, ids);
	calls = 0;
	session(top, ids);
	calls = -1;
	memmove(ids[MARKED - 1], ids[MARKED], (ALL - MARKED) * UIDL_SIZE);
	ids[ALL - 1][0] = '\0';
	CHECK(drop_begin(&drop, "mbox:%h/mbox") == DROP_OK);
	CHECK(drop.count == OLD - 1 + delivered);
	check_ids(&drop, ids);
	drop_check_ids(&drop);
}

/*
 * Runs the sessions in a child. Returns true if the MDA has delivered. Ends the
 * test after a failure.
 */
static bool
try_point(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		sessions(drop_directory());
		CHECK(drop_clean_up() == 0);
		_exit(delivered > 0 ? 0 : 2);
	}
	CHECK(child != -1 && waitpid(child, &status, 0) == child);
	if (WIFEXITED(status) &&
	    (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 2))
		return WEXITSTATUS(status) == 0;
	fprintf(stderr,
	    "the MDA began before call %d with %zu bytes and went on after %d "
	    "calls; index: %d, large: %d, stable: %d, equal: %d, ids: %d\n",
	    point.at, point.piece, point.calls_between, point.has_index,
	    point.large, point.stable, point.equal, point.asks_ids);
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
	static const size_t pieces[] = { 1, 9, 0 };
	static const int between[] = { 1, 3, NEVER };
	int step = argc > 1 && strcmp(argv[1], "all") == 0 ? 1 : 23;
	int points = 0;

	for (int kind = 0; kind < KINDS; kind += step) {
		const struct point p = { .piece = pieces[kind % 3],
			.calls_between = between[kind / 3 % 3],
			.has_index = kind / 9 & 1,
			.large = kind / 9 & 2,
			.stable = kind / 9 & 4,
			.equal = kind / 9 & 8,
			.asks_ids = kind / 9 & 16 };

		points += sweep(&p);
	}
	printf("deliver-mbox: %d points, 0 bad\n", points);
	CHECK(points > 500);
	return 0;
}
