/*
 * Unit tests of the replay cache, by clocks of their own: an authenticator is
 * accepted once, whatever the clocks do and whatever is shown in between; the
 * table takes what DESIGN promises; one principal fills nothing; a file that is
 * not as it should be is put right, or refused.
 * Runs as anybody.
 */
#include "config.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "replay-cache.h"
#include "tests/unit/check.h"

#define SKEW 300
#define START 1800000000 /* 2027 */
#define BOOT 1000000

/* As replay-cache.c writes them. */
struct slot {
	uint8_t tag[16];
	uint32_t ctime, stored;
};

static char state[] = "/tmp/kpopd-replay.XXXXXX";
static time_t wall = START;
static unsigned written, fail_at;

ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at);
time_t __wrap_time(time_t *t);

/* The one with this number fails. */
ssize_t
__wrap_pwrite(int fd, const void *p, size_t n, off_t at)
{
	if (++written == fail_at) {
		errno = ENOSPC;
		return -1;
	}
	return __real_pwrite(fd, p, n, at);
}

time_t
__wrap_time(time_t *t)
{
	return t != NULL ? (*t = wall) : wall;
}

static const char *
file(void)
{
	static char path[64];

	snprintf(path, sizeof(path), "%s/replay", state);
	return path;
}

static int64_t
soon(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + 200;
}

/* A cache that has been there for long. */
static struct replay *
anew(int skew)
{
	struct replay *r;

	unlink(file());
	wall = START - 1000000;
	CHECK((r = replay_open(state, skew, soon())) != NULL);
	wall = START;
	return r;
}

/* Shows authenticator number n of a principal, made at ctime, at these clocks. */
static enum replay_result
show(struct replay *r, const char *who, uint64_t n, int64_t ctime, int64_t at, int64_t boot)
{
	const struct replay_piece piece = { &n, sizeof(n) };
	const struct replay_authenticator a = { .principal = { who, strlen(who) }, .ctime = (uint32_t)ctime,
		.pieces = &piece, .count = 1 };
	const struct replay_clock now = { at, boot };

	return replay_show_at(r, &a, &now);
}

/* So many logins, each of another principal, by clients whose clocks are right. Returns how many were refused. */
static unsigned
crowd(struct replay *r, uint64_t from, uint64_t count, int64_t at, int64_t boot)
{
	unsigned refused = 0;
	char name[32];

	for (uint64_t n = from; n < from + count; n++) {
		snprintf(name, sizeof(name), "user%lu", (unsigned long)n);
		refused += show(r, name, n, at, at, boot) != REPLAY_NEW;
	}
	return refused;
}

/* Each slot that is empty gets a record of these times: the table is full. */
static void
fill(int64_t ctime, int64_t stored)
{
	static struct slot table[REPLAY_BUCKETS * REPLAY_SLOTS];
	int fd = open(file(), O_RDWR | O_CLOEXEC);

	CHECK(fd != -1 && pread(fd, table, sizeof(table), REPLAY_SIZE - sizeof(table)) == sizeof(table));
	for (size_t i = 0; i < REPLAY_BUCKETS * REPLAY_SLOTS; i++)
		if (table[i].ctime == 0) {
			memcpy(table[i].tag, &i, sizeof(i));
			table[i].ctime = (uint32_t)ctime;
			table[i].stored = (uint32_t)stored;
		}
	CHECK(__real_pwrite(fd, table, sizeof(table), REPLAY_SIZE - sizeof(table)) == sizeof(table));
	close(fd);
}

/* A client's clock may be so many seconds fast: what it showed is refused at every later moment. */
static void
is_accepted_once(void)
{
	for (int64_t fast = -SKEW; fast <= SKEW; fast += 46) {
		struct replay *r = anew(SKEW);
		int64_t made = START + fast;

		CHECK(show(r, "alice", 1, made, START, BOOT) == REPLAY_NEW);
		for (int64_t t = 0; t <= 3 * SKEW; t++) {
			enum replay_result result = show(r, "alice", 1, made, START + t, BOOT + t);

			CHECK(result == (fast - t < -SKEW ? REPLAY_SKEW : REPLAY_SHOWN));
			/* Others come meanwhile. */
			if (t % 50 == 0)
				CHECK(crowd(r, 1000000 + (uint64_t)t * 1000, 50, START + t, BOOT + t) == 0);
		}
	}
}

/* The same in a full table, where others take each slot that they can have. Its slot is the one that is due first. */
static void
is_kept_in_a_full_table(void)
{
	struct replay *r = anew(SKEW);
	uint64_t n = 10;

	CHECK(show(r, "alice", 1, START + SKEW - 1, START, BOOT) == REPLAY_NEW);
	fill(START + SKEW, BOOT);
	for (int64_t t = 0; t < 2 * SKEW; t += 50, n += 20000) {
		CHECK(crowd(r, n, 20000, START + t, BOOT + t) == 20000);
		CHECK(show(r, "alice", 1, START + SKEW - 1, START + t, BOOT + t) == REPLAY_SHOWN);
	}
	/* Then there is room again, in each bucket. */
	CHECK(crowd(r, n, 100000, START + 2 * SKEW + 1, BOOT + 2 * SKEW + 1) == 0);
	CHECK(show(r, "alice", 1, START + SKEW - 1, START + 2 * SKEW + 1, BOOT + 2 * SKEW + 1) == REPLAY_SKEW);
}

static void
knows_its_skew(void)
{
	struct replay *r = anew(SKEW);

	CHECK(show(r, "alice", 1, START + SKEW + 1, START, BOOT) == REPLAY_SKEW);
	CHECK(show(r, "alice", 1, START - SKEW - 1, START, BOOT) == REPLAY_SKEW);
	CHECK(show(r, "alice", 1, START + SKEW, START, BOOT) == REPLAY_NEW);
	CHECK(show(r, "alice", 2, START - SKEW, START, BOOT) == REPLAY_NEW);
	r = anew(1);
	CHECK(show(r, "alice", 1, START + 2, START, BOOT) == REPLAY_SKEW);
	CHECK(show(r, "alice", 1, START + 1, START, BOOT) == REPLAY_NEW);
	/* Seconds above 2^31 are later, not before 1970. */
	r = anew(SKEW);
	for (int64_t t = -300; t < 300; t += 50) {
		int64_t then = (INT64_C(1) << 31) + t;

		CHECK(show(r, "alice", (uint64_t)then, then + 299, then, BOOT) == REPLAY_NEW);
		CHECK(show(r, "alice", (uint64_t)then, then + 299, then + 400, BOOT + 400) == REPLAY_SHOWN);
	}
}

/* A wall clock that jumps ahead or back, and returns, forgets nothing within twice the skew, be the table full or not. */
static void
survives_jumps(void)
{
	static const int jumps[] = { -86400, -3600, -700, 400, 3600, 86400 };

	for (size_t i = 0; i < 2 * sizeof(jumps) / sizeof(jumps[0]); i++) {
		struct replay *r = anew(SKEW);

		CHECK(show(r, "alice", 1, START, START, BOOT) == REPLAY_NEW);
		if (i % 2 == 0)
			fill(START + 1, BOOT);
		/* Others, whose clocks have jumped, too. */
		crowd(r, 10, 40000, START + jumps[i / 2], BOOT + 30);
		CHECK(show(r, "alice", 1, START, START + 60, BOOT + 60) == REPLAY_SHOWN);
	}
}

/* A clock that is put back by an hour, after hours of logins: what was shown last is still there. */
static void
survives_a_step_back(void)
{
	struct replay *r = anew(SKEW);

	fill(START - 5000, BOOT - 5000);
	for (int64_t t = 0; t < 10000; t += 200)
		CHECK(crowd(r, 10 + (uint64_t)t * 50, 2000, START + t, BOOT + t) == 0);
	for (int64_t t = 6400; t < 10000; t += 200)
		for (uint64_t n = 0; n < 2000; n += 50)
			CHECK(show(r, "any", 10 + (uint64_t)t * 50 + n, START + t, START + t, BOOT + 10000) == REPLAY_SHOWN);
}

/* After a boot what was made before it is refused by its time, and what is younger by its record. */
static void
survives_a_boot(void)
{
	struct replay *r = anew(SKEW);

	CHECK(show(r, "alice", 1, START, START, BOOT) == REPLAY_NEW);
	CHECK(show(r, "alice", 2, START + 200, START, BOOT) == REPLAY_NEW);
	/* The machine was started at START + 60; none of the table's clocks count any more. */
	CHECK(show(r, "alice", 1, START, START + 70, 10) == REPLAY_EARLIER);
	CHECK(show(r, "alice", 3, START + 59, START + 70, 10) == REPLAY_EARLIER);
	CHECK(show(r, "alice", 4, START + 61, START + 70, 10) == REPLAY_NEW);
	fill(START + 201, BOOT);
	CHECK(crowd(r, 10, 40000, START + 70, 10) == 40000);
	CHECK(show(r, "alice", 2, START + 200, START + 80, 20) == REPLAY_SHOWN);
	/* And what the boot before has left does not stay for ever. */
	CHECK(crowd(r, 1000000, 20000, START + 2000, 1940) == 0);
}

/* DESIGN's numbers. */
static void
takes_what_is_promised(void)
{
	struct replay *r = anew(SKEW);
	unsigned refused = 0;

	/* Random ones, a thousand each second or so, none of which may be forgotten. */
	for (unsigned i = 0; i < 500; i++)
		refused += crowd(r, 10 + i * 500, 500, START + i, BOOT + i);
	CHECK(refused == 0);
	for (unsigned i = 0; i < 500; i += 7)
		CHECK(show(r, "any", 10 + i * 500, START + i, START + i, BOOT + 500) == REPLAY_SHOWN);
}

/* One principal is refused at its bound, for twice the skew; nobody else is. */
static void
bounds_a_principal(void)
{
	struct replay *r = anew(SKEW);
	uint64_t n = 0, taken = 0;

	for (int64_t t = 0; t < 2400; t += 10)
		for (int i = 0; i < 400; i++, n++)
			if (show(r, "mallory", n, START + t, START + t, BOOT + t) == REPLAY_NEW)
				taken++;
	CHECK(taken >= 2 * REPLAY_MOST && taken <= 3 * REPLAY_MOST);
	for (; show(r, "mallory", n, START + 2400, START + 2400, BOOT + 2400) == REPLAY_NEW; n++)
		;
	CHECK(show(r, "mallory", n, START + 2400, START + 2400, BOOT + 2400) == REPLAY_TOO_MANY);
	/* What it showed before is a replay all the same. */
	CHECK(crowd(r, 10000000, 20000, START + 2400, BOOT + 2400) == 0);
	CHECK(show(r, "mallory", n, START + 3700, START + 3700, BOOT + 3700) == REPLAY_NEW);
	/* Another boot's counters, or such as a compromised process has left, are nothing. */
	r = anew(SKEW);
	for (n = 0; show(r, "mallory", n, START, START, BOOT) == REPLAY_NEW; n++)
		;
	CHECK(n == REPLAY_MOST && show(r, "mallory", n, START + 100, START + 100, 50) == REPLAY_NEW);
}

/* What is not there is made; what is not as it should be is put right in place, and serves those who have it open. */
static void
puts_right(void)
{
	static char rubbish[REPLAY_SIZE + (1 << 21)];
	struct replay *r = anew(SKEW), *again;
	struct stat before, now;
	int fd;

	CHECK(stat(file(), &before) == 0 && before.st_size == REPLAY_SIZE && (before.st_mode & 07777) == 0600);
	CHECK(before.st_blocks * 512 >= REPLAY_SIZE);
	CHECK(show(r, "alice", 1, START, START, BOOT) == REPLAY_NEW);
	CHECK((again = replay_open(state, SKEW, soon())) != NULL);
	CHECK(show(again, "alice", 1, START, START, BOOT) == REPLAY_SHOWN);
	for (size_t i = 0; i < sizeof(rubbish); i++)
		rubbish[i] = (char)(i * i >> 7);
	for (int fill = 0; fill < 4; fill++) {
		size_t size = fill < 2 ? sizeof(rubbish) : fill == 2 ? 0 : 5000;

		fd = open(file(), O_RDWR | O_CLOEXEC);
		CHECK(fd != -1 && ftruncate(fd, (off_t)size) == 0);
		/* As it was, but too large; rubbish; empty; half. */
		CHECK(fill == 0 || pwrite(fd, rubbish, size, 0) == (ssize_t)size);
		close(fd);
		CHECK((again = replay_open(state, SKEW, soon())) != NULL);
		CHECK(stat(file(), &now) == 0 && now.st_size == REPLAY_SIZE && now.st_ino == before.st_ino);
		CHECK(crowd(again, 100, 2000, START, BOOT) == 0);
		CHECK(show(again, "alice", 1, START, START, BOOT) == (fill == 0 ? REPLAY_SHOWN : REPLAY_NEW));
		CHECK(show(again, "alice", 1, START, START, BOOT) == REPLAY_SHOWN);
		/* What was remembered is lost; so what was made before that is refused. */
		CHECK(show(again, "alice", 9, START - 1, START, BOOT) == REPLAY_EARLIER);
	}
	/* A head from the future. */
	wall = START - 100;
	CHECK((again = replay_open(state, SKEW, soon())) != NULL);
	CHECK(show(again, "alice", 10, START - 100, START - 100, BOOT) == REPLAY_NEW);
	wall = START;
}

/* What a compromised pre-auth process may leave: the next ones go on at once, or when twice or three times the skew is over. */
static void
outlives_forgeries(void)
{
	static const struct { int64_t ctime, stored, mended; } forged[] = {
		{ START + 100000, BOOT, 2 * SKEW + 1 }, { START + 100000, BOOT + 1, 0 }, { UINT32_MAX, UINT32_MAX, 0 }, { START - 1000, BOOT + 99999, 0 }, { 1, 0, 0 },
		{ START + 2 * SKEW, UINT32_MAX, 3 * SKEW + 1 }, { START - 1000, BOOT, 2 * SKEW + 1 },
	};

	for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
		struct replay *r = anew(SKEW);

		fill(forged[i].ctime, forged[i].stored);
		if (forged[i].mended > 0)
			CHECK(show(r, "alice", 1, START, START, BOOT) == REPLAY_FULL);
		CHECK(crowd(r, 10, 2000, START + forged[i].mended, BOOT + forged[i].mended) == 0);
		CHECK(crowd(r, 10, 2000, START + forged[i].mended, BOOT + forged[i].mended) == 2000);
	}
}

/* What is not root's own file is not used. */
static void
refuses_others(void)
{
	char other[64];

	snprintf(other, sizeof(other), "%s/other", state);
	unlink(file());
	CHECK(symlink("other", file()) == 0 && replay_open(state, SKEW, soon()) == NULL && access(other, F_OK) == -1);
	CHECK(unlink(file()) == 0 && mkfifo(file(), 0600) == 0 && replay_open(state, SKEW, soon()) == NULL);
	CHECK(unlink(file()) == 0 && mkdir(file(), 0700) == 0 && replay_open(state, SKEW, soon()) == NULL);
	CHECK(rmdir(file()) == 0);
	anew(SKEW);
	CHECK(link(file(), other) == 0 && replay_open(state, SKEW, soon()) == NULL);
	CHECK(unlink(other) == 0 && chmod(file(), 0660) == 0 && replay_open(state, SKEW, soon()) == NULL);
	CHECK(chmod(file(), 0600) == 0 && replay_open(state, SKEW, soon()) != NULL);
	CHECK(geteuid() != 0 || (chown(file(), 1, 0) == 0 && replay_open(state, SKEW, soon()) == NULL));
}

/* Whatever write fails, what was not remembered is not accepted. */
static void
refuses_what_it_cannot_write(void)
{
	struct replay *r = anew(SKEW);

	for (fail_at = 1; fail_at <= 4; fail_at++) {
		written = 0;
		CHECK(show(r, "alice", fail_at, START, START, BOOT) == REPLAY_FAILED && errno == ENOSPC);
	}
	written = 0;
	CHECK(show(r, "alice", fail_at, START, START, BOOT) == REPLAY_NEW && written == 4);
	fail_at = 0;
}

/* Half of the file is missing: nobody is let in. */
static void
refuses_half_a_file(void)
{
	struct replay *r = anew(SKEW);

	CHECK(truncate(file(), REPLAY_SIZE / 2) == 0);
	for (uint64_t n = 0; n < 1000; n++) {
		enum replay_result result = show(r, "alice", n, START, START, BOOT);

		CHECK(result == REPLAY_FAILED || (result == REPLAY_NEW && show(r, "alice", n, START, START, BOOT) == REPLAY_SHOWN));
	}
}

/* Many that make the file at once end with one, and of many that show one authenticator at once one gets in. */
static void
is_shared(void)
{
	enum { MANY = 40, ROUNDS = 20 };

	for (unsigned round = 0; round < ROUNDS; round++) {
		const struct replay_piece piece = { &round, sizeof(round) };
		const struct replay_authenticator a = { .principal = { "alice", 5 }, .ctime = START, .pieces = &piece, .count = 1 };
		int go[2], status, in = 0;

		unlink(file());
		CHECK(pipe(go) == 0);
		for (int i = 0; i < MANY; i++)
			if (fork() == 0) {
				struct replay *r;
				char c;

				close(go[1]);
				CHECK(read(go[0], &c, 1) == 0);
				r = replay_open(state, SKEW, INT64_MAX);
				_exit(r == NULL ? 2 : replay_show(r, &a) == REPLAY_NEW ? 1 : 0);
			}
		close(go[0]);
		close(go[1]);
		for (int i = 0; i < MANY; i++) {
			CHECK(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) < 2);
			in += WEXITSTATUS(status);
		}
		CHECK(in == 1);
	}
}

/* A process that keeps the lock keeps out others until their deadline only. */
static void
waits_no_longer_than_the_deadline(void)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	const struct replay_piece piece = { "x", 1 };
	const struct replay_authenticator a = { .principal = { "alice", 5 }, .ctime = START, .pieces = &piece, .count = 1 };
	int locked[2], fd;
	struct replay *r;
	pid_t pid;
	char c = 0;

	anew(SKEW);
	CHECK(pipe(locked) == 0 && (pid = fork()) != -1);
	if (pid == 0) {
		CHECK((fd = open(file(), O_RDWR)) != -1 && fcntl(fd, F_SETLK, &whole) == 0);
		CHECK(write(locked[1], &c, 1) == 1);
		pause();
		_exit(0);
	}
	CHECK(read(locked[0], &c, 1) == 1 && (r = replay_open(state, SKEW, soon())) != NULL);
	CHECK(replay_show(r, &a) == REPLAY_FAILED && errno == ETIMEDOUT);
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, 0) == pid);
	CHECK(replay_show(r, &a) == REPLAY_NEW && replay_show(r, &a) == REPLAY_SHOWN);
}

/* Services with different skews share a file: the longer skew counts for all, or the other would forget what this one still accepts. */
static void
keeps_by_the_longest_skew(void)
{
	enum { LONG = 3 * SKEW };
	struct replay *longer, *shorter = anew(SKEW);
	unsigned accepted = 0;
	struct stat st;

	wall = START - 1000000;
	CHECK((longer = replay_open(state, LONG, soon())) != NULL && (shorter = replay_open(state, SKEW, soon())) != NULL);
	wall = START;
	/* By turns, whose epochs shall be the same. */
	for (uint64_t n = 0; n < 2 * REPLAY_MOST; n++)
		accepted += show(n % 2 == 0 ? longer : shorter, "mallory", n, START, START, BOOT) == REPLAY_NEW;
	/* attack:1-13 */
	CHECK(accepted == REPLAY_MOST);
	/* A full table, in which one record is old by the shorter skew. */
	shorter = anew(SKEW);
	wall = START - 1000000;
	CHECK((longer = replay_open(state, LONG, soon())) != NULL && (shorter = replay_open(state, SKEW, soon())) != NULL);
	wall = START;
	CHECK(show(longer, "alice", 1, START + LONG, START, BOOT) == REPLAY_NEW);
	fill(START + 1300, BOOT + 1300);
	crowd(shorter, 10, 10 * REPLAY_BUCKETS, START + 1300, BOOT + 1300);
	/* attack:1-12 */
	CHECK(show(longer, "alice", 1, START + LONG, START + 1700, BOOT + 1700) == REPLAY_SHOWN);
	/* Where the skew grows, what was forgotten by the shorter one is refused. */
	shorter = anew(SKEW);
	CHECK((longer = replay_open(state, LONG, soon())) != NULL);
	/* attack:1-14 */
	CHECK(show(longer, "alice", 2, START - 1, START, BOOT) == REPLAY_EARLIER);
	CHECK(stat(file(), &st) == 0 && st.st_size == REPLAY_SIZE + LONG - SKEW && st.st_blocks * 512 < REPLAY_SIZE + (1 << 20));
}

int
main(void)
{
	CHECK(mkdtemp(state) != NULL);
	is_accepted_once();
	is_kept_in_a_full_table();
	knows_its_skew();
	keeps_by_the_longest_skew();
	survives_jumps();
	survives_a_step_back();
	survives_a_boot();
	takes_what_is_promised();
	bounds_a_principal();
	puts_right();
	outlives_forgeries();
	refuses_others();
	refuses_what_it_cannot_write();
	refuses_half_a_file();
	is_shared();
	waits_no_longer_than_the_deadline();
	unlink(file());
	return rmdir(state);
}
