/*
 * Unit tests of the replay cache, with simulated clocks. They check that an
 * authenticator is accepted only once, whatever the clocks do and however many
 * others are recorded meanwhile. They check that the table is large enough for
 * the number of logins in DESIGN §2.8, and that one principal cannot fill the
 * table. A damaged file must be repaired or refused.
 *
 * Runs as any user.
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

#include "clock.h"
#include "replay-cache.h"
#include "tests/unit/check.h"

#define SKEW 300         /* seconds */
#define START 1800000000 /* seconds of the wall clock, in 2027 */
#define BOOT 1000000     /* seconds since the boot */

/* The record as replay-cache.c declares it. */
struct slot {
	uint8_t tag[16];
	uint32_t ctime, stored;
};

static char on_disk[] = "/tmp/kpopd-replay.XXXXXX";
/* Here O_DSYNC takes no time. */
static char in_memory[] = "/dev/shm/kpopd-replay.XXXXXX";
static char *state = on_disk;
static bool is_shared;
static time_t wall = START;
static unsigned written, fail_at;

ssize_t __real_pwrite(int fd, const void *p, size_t n, off_t at);
ssize_t __wrap_pwrite(int fd, const void *p, size_t n, off_t at);
time_t __wrap_time(time_t *t);
bool __wrap_volume_is_shared(int fd);

/* The call whose number is fail_at fails. */
ssize_t
__wrap_pwrite(int fd, const void *p, size_t n, off_t at)
{
	if (++written == fail_at) {
		errno = ENOSPC;
		return -1;
	}
	return __real_pwrite(fd, p, n, at);
}

bool
__wrap_volume_is_shared(int fd)
{
	(void)fd;
	return is_shared;
}

time_t
__wrap_time(time_t *t)
{
	return t != NULL ? (*t = wall) : wall;
}

/* Returns the path of the cache. */
static const char *
file(void)
{
	static char path[64];

	snprintf(path, sizeof(path), "%s/replay", state);
	return path;
}

/* Returns a deadline about 200 ms from now. */
static int64_t
soon(void)
{
	return clock_ms() + 200;
}

/* Makes a cache that has existed for a long time. */
static struct replay *
make_cache(int skew)
{
	struct replay *r;

	unlink(file());
	wall = START - 1000000;
	CHECK((r = replay_open(state, skew, soon())) != NULL);
	wall = START;
	return r;
}

/*
 * Records authenticator number n of a principal. The argument "ctime" is the
 * client's time. The argument "at" is the time of the wall clock, and "boot" is
 * the time since the boot.
 */
static enum replay_result
record(struct replay *r, const char *who, uint64_t n, int64_t ctime, int64_t at,
    int64_t boot)
{
	const struct replay_piece piece = { &n, sizeof(n) };
	const struct replay_authenticator a = { .principal = { who,
						    strlen(who) },
		.ctime = (uint32_t)ctime,
		.pieces = &piece,
		.count = 1 };
	const struct replay_clock now = { at, boot };

	return replay_record_at(r, &a, &now);
}

/*
 * Logs in `count` principals whose clients have the right time. Returns the
 * number of logins that were refused.
 */
static unsigned
log_in_many(struct replay *r, uint64_t from, uint64_t count, int64_t at,
    int64_t boot)
{
	unsigned refused = 0;
	char name[32];

	for (uint64_t n = from; n < from + count; n++) {
		snprintf(name, sizeof(name), "user%lu", (unsigned long)n);
		refused += record(r, name, n, at, at, boot) != REPLAY_NEW;
	}
	return refused;
}

/* Fills each empty slot with a record that has these times. */
static void
fill(int64_t ctime, int64_t stored)
{
	static struct slot table[REPLAY_BUCKETS * REPLAY_SLOTS];
	int fd = open(file(), O_RDWR | O_CLOEXEC);

	CHECK(fd != -1 &&
	    pread(fd, table, sizeof(table), REPLAY_SIZE - sizeof(table)) ==
		sizeof(table));
	for (size_t i = 0; i < REPLAY_BUCKETS * REPLAY_SLOTS; i++)
		if (table[i].ctime == 0) {
			memcpy(table[i].tag, &i, sizeof(i));
			table[i].ctime = (uint32_t)ctime;
			table[i].stored = (uint32_t)stored;
		}
	CHECK(__real_pwrite(fd, table, sizeof(table),
		  REPLAY_SIZE - sizeof(table)) == sizeof(table));
	close(fd);
}

/*
 * An accepted authenticator is refused at every later time, however fast its
 * client's clock is.
 */
static void
an_authenticator_is_accepted_once(void)
{
	for (int64_t fast = -SKEW; fast <= SKEW; fast += 46) {
		struct replay *r = make_cache(SKEW);
		int64_t made = START + fast;

		CHECK(record(r, "alice", 1, made, START, BOOT) == REPLAY_NEW);
		for (int64_t t = 0; t <= 3 * SKEW; t++) {
			enum replay_result result =
			    record(r, "alice", 1, made, START + t, BOOT + t);

			CHECK(result ==
			    (fast - t < -SKEW ? REPLAY_SKEW : REPLAY_REPEATED));
			/* Other principals log in meanwhile. */
			if (t % 50 == 0)
				CHECK(log_in_many(r,
					  1000000 + (uint64_t)t * 1000, 50,
					  START + t, BOOT + t) == 0);
		}
	}
}

/*
 * An accepted authenticator is also refused if the table is full and other
 * logins use every slot that may be reused. If the slot of the accepted
 * authenticator could be reused, it would be used first, because it has the
 * oldest time.
 */
static void
a_full_table_keeps_it(void)
{
	struct replay *r = make_cache(SKEW);
	uint64_t n = 10;

	CHECK(record(r, "alice", 1, START + SKEW - 1, START, BOOT) ==
	    REPLAY_NEW);
	fill(START + SKEW, BOOT);
	for (int64_t t = 0; t < 2 * SKEW; t += 50, n += 20000) {
		CHECK(log_in_many(r, n, 20000, START + t, BOOT + t) == 20000);
		CHECK(record(r, "alice", 1, START + SKEW - 1, START + t,
			  BOOT + t) == REPLAY_REPEATED);
	}
	/* After twice the skew every bucket has free slots. */
	CHECK(log_in_many(r, n, 100000, START + 2 * SKEW + 1,
		  BOOT + 2 * SKEW + 1) == 0);
	CHECK(record(r, "alice", 1, START + SKEW - 1, START + 2 * SKEW + 1,
		  BOOT + 2 * SKEW + 1) == REPLAY_SKEW);
}

/*
 * An authenticator outside the clock skew is refused. An authenticator whose
 * time is exactly at the limit is accepted.
 */
static void
the_skew_is_exact(void)
{
	struct replay *r = make_cache(SKEW);

	CHECK(record(r, "alice", 1, START + SKEW + 1, START, BOOT) ==
	    REPLAY_SKEW);
	CHECK(record(r, "alice", 1, START - SKEW - 1, START, BOOT) ==
	    REPLAY_SKEW);
	CHECK(record(r, "alice", 1, START + SKEW, START, BOOT) == REPLAY_NEW);
	CHECK(record(r, "alice", 2, START - SKEW, START, BOOT) == REPLAY_NEW);
	r = make_cache(1);
	CHECK(record(r, "alice", 1, START + 2, START, BOOT) == REPLAY_SKEW);
	CHECK(record(r, "alice", 1, START + 1, START, BOOT) == REPLAY_NEW);
	/*
	 * A time of 2^31 seconds or more is in the future. It must not be read
	 * as a time before 1970.
	 */
	r = make_cache(SKEW);
	for (int64_t t = -300; t < 300; t += 50) {
		int64_t then = (INT64_C(1) << 31) + t;

		CHECK(record(r, "alice", (uint64_t)then, then + 299, then,
			  BOOT) == REPLAY_NEW);
		CHECK(record(r, "alice", (uint64_t)then, then + 299, then + 400,
			  BOOT + 400) == REPLAY_REPEATED);
	}
}

/*
 * No record is discarded within twice the skew if the wall clock jumps ahead or
 * back and returns, whether the table is full or not.
 */
static void
jumps_discard_nothing(void)
{
	static const int jumps[] = { -86400, -3600, -700, 400, 3600, 86400 };

	for (size_t i = 0; i < 2 * sizeof(jumps) / sizeof(jumps[0]); i++) {
		struct replay *r = make_cache(SKEW);

		CHECK(record(r, "alice", 1, START, START, BOOT) == REPLAY_NEW);
		if (i % 2 == 0)
			fill(START + 1, BOOT);
		/* Other principals log in. Their clocks have also jumped. */
		log_in_many(r, 10, 40000, START + jumps[i / 2], BOOT + 30);
		CHECK(record(r, "alice", 1, START, START + 60, BOOT + 60) ==
		    REPLAY_REPEATED);
	}
}

/*
 * After hours of logins the wall clock is set back by an hour. The records of
 * that hour are still in the table.
 */
static void
a_step_back_discards_nothing(void)
{
	struct replay *r = make_cache(SKEW);

	fill(START - 5000, BOOT - 5000);
	for (int64_t t = 0; t < 10000; t += 200)
		CHECK(log_in_many(r, 10 + (uint64_t)t * 50, 2000, START + t,
			  BOOT + t) == 0);
	for (int64_t t = 6400; t < 10000; t += 200)
		for (uint64_t n = 0; n < 2000; n += 50)
			CHECK(record(r, "any", 10 + (uint64_t)t * 50 + n,
				  START + t, START + t,
				  BOOT + 10000) == REPLAY_REPEATED);
}

/*
 * An authenticator that was accepted before a boot is refused after the boot.
 * If its time is before the boot, it is refused because of its time, otherwise
 * because of its record.
 */
static void
a_boot_accepts_nothing_again(void)
{
	struct replay *r = make_cache(SKEW);

	CHECK(record(r, "alice", 1, START, START, BOOT) == REPLAY_NEW);
	CHECK(record(r, "alice", 2, START + 200, START, BOOT) == REPLAY_NEW);
	/*
	 * The boot is at START + 60. The times of storing in the table count
	 * from the earlier boot, so they are not used.
	 */
	CHECK(record(r, "alice", 1, START, START + 70, 10) == REPLAY_EARLIER);
	CHECK(record(r, "alice", 3, START + 59, START + 70, 10) ==
	    REPLAY_EARLIER);
	CHECK(record(r, "alice", 4, START + 61, START + 70, 10) == REPLAY_NEW);
	fill(START + 201, BOOT);
	CHECK(log_in_many(r, 10, 40000, START + 70, 10) == 40000);
	CHECK(record(r, "alice", 2, START + 200, START + 80, 20) ==
	    REPLAY_REPEATED);
	/* The records from before the boot are not kept forever. */
	CHECK(log_in_many(r, 1000000, 20000, START + 2000, 1940) == 0);
}

/* The table is large enough for the number of logins in DESIGN §2.8. */
static void
the_table_is_large_enough(void)
{
	struct replay *r = make_cache(SKEW);
	unsigned refused = 0;

	/* Log in 500 principals a second. No record may be discarded. */
	for (unsigned i = 0; i < 500; i++)
		refused +=
		    log_in_many(r, 10 + i * 500, 500, START + i, BOOT + i);
	CHECK(refused == 0);
	for (unsigned i = 0; i < 500; i += 7)
		CHECK(record(r, "any", 10 + i * 500, START + i, START + i,
			  BOOT + 500) == REPLAY_REPEATED);
}

/*
 * A principal is refused at its limit, for twice the skew. No other principal
 * is refused.
 */
static void
a_principal_has_a_limit(void)
{
	struct replay *r = make_cache(SKEW);
	uint64_t n = 0, taken = 0;

	for (int64_t t = 0; t < 2400; t += 10)
		for (int i = 0; i < 400; i++, n++)
			if (record(r, "mallory", n, START + t, START + t,
				BOOT + t) == REPLAY_NEW)
				taken++;
	CHECK(taken >= 2 * REPLAY_MOST && taken <= 3 * REPLAY_MOST);
	for (; record(r, "mallory", n, START + 2400, START + 2400,
		   BOOT + 2400) == REPLAY_NEW;
	     n++)
		;
	CHECK(record(r, "mallory", n, START + 2400, START + 2400,
		  BOOT + 2400) == REPLAY_TOO_MANY);
	/* Other principals are accepted. */
	CHECK(log_in_many(r, 10000000, 20000, START + 2400, BOOT + 2400) == 0);
	CHECK(record(r, "mallory", n, START + 3700, START + 3700,
		  BOOT + 3700) == REPLAY_NEW);
	/*
	 * Counters from before the boot, or forged ones from the future, count
	 * as 0.
	 */
	r = make_cache(SKEW);
	for (n = 0; record(r, "mallory", n, START, START, BOOT) == REPLAY_NEW;
	     n++)
		;
	CHECK(n == REPLAY_MOST &&
	    record(r, "mallory", n, START + 100, START + 100, 50) ==
		REPLAY_NEW);
}

/*
 * A missing file is made. A damaged file is repaired in place, so a process
 * that already has the file open uses the repaired table.
 */
static void
a_damaged_file_is_repaired(void)
{
	static char random_bytes[REPLAY_SIZE + (1 << 21)];
	struct replay *r = make_cache(SKEW), *again;
	struct stat before, now;
	int fd;

	CHECK(stat(file(), &before) == 0 && before.st_size == REPLAY_SIZE &&
	    (before.st_mode & 07777) == 0600);
	CHECK(before.st_blocks * 512 >= REPLAY_SIZE);
	CHECK(record(r, "alice", 1, START, START, BOOT) == REPLAY_NEW);
	CHECK((again = replay_open(state, SKEW, soon())) != NULL);
	CHECK(record(again, "alice", 1, START, START, BOOT) == REPLAY_REPEATED);
	for (size_t i = 0; i < sizeof(random_bytes); i++)
		random_bytes[i] = (char)(i * i >> 7);
	for (int fill = 0; fill < 4; fill++) {
		size_t size = fill < 2 ? sizeof(random_bytes) :
		    fill == 2          ? 0 :
					 5000;

		fd = open(file(), O_RDWR | O_CLOEXEC);
		CHECK(fd != -1 && ftruncate(fd, (off_t)size) == 0);
		/*
		 * The four contents are an intact file that is too large, too
		 * many random bytes, nothing, and 5000 random bytes.
		 */
		CHECK(fill == 0 ||
		    pwrite(fd, random_bytes, size, 0) == (ssize_t)size);
		close(fd);
		CHECK((again = replay_open(state, SKEW, soon())) != NULL);
		CHECK(stat(file(), &now) == 0 && now.st_size == REPLAY_SIZE &&
		    now.st_ino == before.st_ino);
		CHECK(log_in_many(again, 100, 2000, START, BOOT) == 0);
		CHECK(record(again, "alice", 1, START, START, BOOT) ==
		    (fill == 0 ? REPLAY_REPEATED : REPLAY_NEW));
		CHECK(record(again, "alice", 1, START, START, BOOT) ==
		    REPLAY_REPEATED);
		/*
		 * Records may be lost, so authenticators made before the repair
		 * are refused.
		 */
		CHECK(record(again, "alice", 9, START - 1, START, BOOT) ==
		    REPLAY_EARLIER);
	}
	/*
	 * Set the clock back, so that the time in the file's head is in the
	 * future.
	 */
	wall = START - 100;
	CHECK((again = replay_open(state, SKEW, soon())) != NULL);
	CHECK(record(again, "alice", 10, START - 100, START - 100, BOOT) ==
	    REPLAY_NEW);
	wall = START;
}

/*
 * Records that a compromised pre-auth process has forged refuse logins for at
 * most five times the skew.
 */
static void
forged_records_do_not_last(void)
{
	static const struct {
		int64_t ctime, stored, free_after;
	} forged[] = {
		{ START + 100000, BOOT, 2 * SKEW + 1 },
		{ START + 100000, BOOT + 1, 0 },
		{ UINT32_MAX, UINT32_MAX, 0 },
		{ START - 1000, BOOT + 99999, 0 },
		{ 1, 0, 0 },
		{ START + 2 * SKEW, UINT32_MAX, 3 * SKEW + 1 },
		/*
		 * A slot stays in use first because of the client's time, and
		 * then because of the time of storing.
		 */
		{ START + 2 * SKEW, BOOT + 3 * SKEW, 5 * SKEW + 1 },
		{ START - 1000, BOOT, 2 * SKEW + 1 },
	};

	for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
		struct replay *r = make_cache(SKEW);
		int64_t last = forged[i].free_after - 1;

		fill(forged[i].ctime, forged[i].stored);
		if (forged[i].free_after > 0)
			CHECK(record(r, "alice", 1, START, START, BOOT) ==
				REPLAY_FULL &&
			    record(r, "alice", 1, START + last, START + last,
				BOOT + last) == REPLAY_FULL);
		CHECK(log_in_many(r, 10, 2000, START + forged[i].free_after,
			  BOOT + forged[i].free_after) == 0);
		CHECK(log_in_many(r, 10, 2000, START + forged[i].free_after,
			  BOOT + forged[i].free_after) == 2000);
	}
}

/* kpopd does not use a file that another user owns, can read or can write. */
static void
a_foreign_file_is_refused(void)
{
	char other[64];

	snprintf(other, sizeof(other), "%s/other", state);
	unlink(file());
	CHECK(symlink("other", file()) == 0 &&
	    replay_open(state, SKEW, soon()) == NULL &&
	    access(other, F_OK) == -1);
	CHECK(unlink(file()) == 0 && mkfifo(file(), 0600) == 0 &&
	    replay_open(state, SKEW, soon()) == NULL);
	CHECK(unlink(file()) == 0 && mkdir(file(), 0700) == 0 &&
	    replay_open(state, SKEW, soon()) == NULL);
	CHECK(rmdir(file()) == 0);
	make_cache(SKEW);
	CHECK(link(file(), other) == 0 &&
	    replay_open(state, SKEW, soon()) == NULL);
	CHECK(unlink(other) == 0 && chmod(file(), 0660) == 0 &&
	    replay_open(state, SKEW, soon()) == NULL);
	CHECK(chmod(file(), 0600) == 0 &&
	    replay_open(state, SKEW, soon()) != NULL);
	CHECK(geteuid() != 0 ||
	    (chown(file(), 1, 0) == 0 &&
		replay_open(state, SKEW, soon()) == NULL));
}

/*
 * Each of the four writes may fail: one of the record, three of counters. In
 * each case the authenticator is refused.
 */
static void
a_failed_write_refuses(void)
{
	struct replay *r = make_cache(SKEW);

	for (fail_at = 1; fail_at <= 4; fail_at++) {
		written = 0;
		CHECK(record(r, "alice", fail_at, START, START, BOOT) ==
			REPLAY_FAILED &&
		    errno == ENOSPC);
	}
	written = 0;
	CHECK(record(r, "alice", fail_at, START, START, BOOT) == REPLAY_NEW &&
	    written == 4);
	fail_at = 0;
}

/*
 * If the disk has only half of the file, an authenticator is refused or is
 * accepted only once.
 */
static void
half_a_file_accepts_nothing_twice(void)
{
	struct replay *r = make_cache(SKEW);

	CHECK(truncate(file(), REPLAY_SIZE / 2) == 0);
	for (uint64_t n = 0; n < 1000; n++) {
		enum replay_result result =
		    record(r, "alice", n, START, START, BOOT);

		CHECK(result == REPLAY_FAILED ||
		    (result == REPLAY_NEW &&
			record(r, "alice", n, START, START, BOOT) ==
			    REPLAY_REPEATED));
	}
}

/*
 * Many processes that make the file at once must get the same file. If many
 * processes use one authenticator at once, only one is accepted.
 */
static void
processes_share_the_file(void)
{
	enum { MANY = 40, ROUNDS = 20 };

	for (unsigned round = 0; round < ROUNDS; round++) {
		const struct replay_piece piece = { &round, sizeof(round) };
		const struct replay_authenticator a = { .principal = { "alice",
							    5 },
			.ctime = START,
			.pieces = &piece,
			.count = 1 };
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
				_exit(r == NULL                            ? 2 :
					replay_record(r, &a) == REPLAY_NEW ? 1 :
									     0);
			}
		close(go[0]);
		close(go[1]);
		for (int i = 0; i < MANY; i++) {
			CHECK(wait(&status) > 0 && WIFEXITED(status) &&
			    WEXITSTATUS(status) < 2);
			in += WEXITSTATUS(status);
		}
		CHECK(in == 1);
	}
}

/*
 * A process that keeps the lock delays other processes only until their
 * deadline.
 */
static void
a_lock_delays_until_the_deadline(void)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	const struct replay_piece piece = { "x", 1 };
	const struct replay_authenticator a = { .principal = { "alice", 5 },
		.ctime = START,
		.pieces = &piece,
		.count = 1 };
	int locked[2], fd;
	struct replay *r;
	pid_t pid;
	char c = 0;

	make_cache(SKEW);
	CHECK(pipe(locked) == 0 && (pid = fork()) != -1);
	if (pid == 0) {
		CHECK((fd = open(file(), O_RDWR)) != -1 &&
		    fcntl(fd, F_SETLK, &whole) == 0);
		CHECK(write(locked[1], &c, 1) == 1);
		pause();
		_exit(0);
	}
	CHECK(read(locked[0], &c, 1) == 1 &&
	    (r = replay_open(state, SKEW, soon())) != NULL);
	CHECK(replay_record(r, &a) == REPLAY_FAILED && errno == ETIMEDOUT);
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, 0) == pid);
	CHECK(replay_record(r, &a) == REPLAY_NEW &&
	    replay_record(r, &a) == REPLAY_REPEATED);
}

enum { LONG_SKEW = 3 * SKEW };

/* Opens one file for two services with different skews. */
static void
open_both(struct replay **longer, struct replay **shorter)
{
	make_cache(SKEW);
	wall = START - 1000000;
	CHECK((*longer = replay_open(state, LONG_SKEW, soon())) != NULL);
	CHECK((*shorter = replay_open(state, SKEW, soon())) != NULL);
	wall = START;
}

/*
 * Services with different skews must count a principal's logins in the same
 * epochs.
 */
/* attack:1-13 */
static void
services_share_the_counters(void)
{
	struct replay *longer, *shorter;
	unsigned accepted = 0;

	open_both(&longer, &shorter);
	for (uint64_t n = 0; n < 2 * REPLAY_MOST; n++)
		accepted += record(n % 2 == 0 ? longer : shorter, "mallory", n,
				START, START, BOOT) == REPLAY_NEW;
	CHECK(accepted == REPLAY_MOST);
}

/*
 * Services with different skews keep records for the longest skew. If the
 * service with the shorter skew kept records for its own skew only, it would
 * discard a record while the other service still accepts the authenticator.
 */
/* attack:1-12 */
static void
the_longest_skew_keeps_records(void)
{
	struct replay *longer, *shorter;

	open_both(&longer, &shorter);
	/* Fill the table. By the shorter skew, alice's slot may be reused. */
	CHECK(record(longer, "alice", 1, START + LONG_SKEW, START, BOOT) ==
	    REPLAY_NEW);
	fill(START + 1300, BOOT + 1300);
	log_in_many(shorter, 10, 10 * REPLAY_BUCKETS, START + 1300,
	    BOOT + 1300);
	CHECK(record(longer, "alice", 1, START + LONG_SKEW, START + 1700,
		  BOOT + 1700) == REPLAY_REPEATED);
}

/*
 * When the skew grows, an authenticator is refused if its record may have been
 * discarded.
 */
/* attack:1-14 */
static void
a_longer_skew_begins_anew(void)
{
	struct replay *longer;
	struct stat st;

	make_cache(SKEW);
	CHECK((longer = replay_open(state, LONG_SKEW, soon())) != NULL);
	CHECK(record(longer, "alice", 2, START - 1, START, BOOT) ==
	    REPLAY_EARLIER);
	CHECK(stat(file(), &st) == 0 &&
	    st.st_size == REPLAY_SIZE + LONG_SKEW - SKEW);
	CHECK(st.st_blocks * 512 < REPLAY_SIZE + (1 << 20));
}

/* The time of another host, which was started at another time. */
enum { OTHER_BOOT = 77 };

/*
 * A host whose clock is ahead or behind by twice the skew discards no record of
 * an authenticator that another host still accepts, even if the table is full.
 * `apart` is how far the clock of the host that needs slots is ahead.
 */
static void
clocks_discard_nothing(int64_t apart, int64_t fast)
{
	static const int64_t times[] = { 1, SKEW + 1, 2 * SKEW };
	struct replay *r = make_cache(SKEW);

	CHECK(record(r, "alice", 1, START + fast, START, BOOT) == REPLAY_NEW);
	/* Both hosts may reuse these slots, but alice's is the oldest. */
	fill(START + 5 * SKEW, UINT32_MAX);
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
		log_in_many(r, 10 + i * 100000, 3 * REPLAY_BUCKETS,
		    START + times[i] + apart, OTHER_BOOT + times[i]);
		CHECK(record(r, "alice", 1, START + fast, START + times[i],
			  BOOT + times[i]) != REPLAY_NEW);
	}
}

static void
hosts_whose_clocks_differ_keep_records(void)
{
	clocks_discard_nothing(2 * SKEW, SKEW);
	clocks_discard_nothing(2 * SKEW, -SKEW);
	clocks_discard_nothing(-2 * SKEW, SKEW);
	clocks_discard_nothing(SKEW, 0);
}

/*
 * The logins of a principal on all hosts count together, also at the moment in
 * which the clock of one host is in the next epoch.
 */
static void
hosts_count_together(void)
{
	static const struct {
		uint32_t epoch;
		uint16_t now, before;
	} cell = { START / (2 * SKEW) + 1, REPLAY_MOST - 5, 0 };
	struct replay *r = make_cache(SKEW);
	int fd = open(file(), O_RDWR | O_CLOEXEC);
	unsigned accepted = 0;

	for (off_t i = 0; i < REPLAY_ROWS * REPLAY_COLUMNS; i++)
		CHECK(__real_pwrite(fd, &cell, sizeof(cell),
			  REPLAY_HEAD + i * REPLAY_COUNTER) == sizeof(cell));
	close(fd);
	for (uint64_t n = 0; n < 20; n++)
		accepted += n % 2 == 0 ?
		    record(r, "mallory", n, START, START, BOOT) == REPLAY_NEW :
		    record(r, "mallory", n, START - 10, START - 10,
			OTHER_BOOT) == REPLAY_NEW;
	CHECK(accepted == 5);
}

/* A host whose clock is behind does not repair a file that is sound. */
static void
a_clock_behind_repairs_nothing(void)
{
	struct replay *r;

	unlink(file());
	wall = START + SKEW;
	CHECK(replay_open(state, SKEW, soon()) != NULL);
	wall = START;
	CHECK((r = replay_open(state, SKEW, soon())) != NULL);
	CHECK(record(r, "alice", 1, START, START, OTHER_BOOT) ==
	    REPLAY_EARLIER);
}

/*
 * The tests of a file that hosts share. They are left out where a file in
 * memory cannot be read directly.
 */
static void
several_hosts(void)
{
	int fd;

	state = in_memory;
	if (mkdtemp(state) == NULL)
		return;
	is_shared = true;
	fd = open(file(), O_RDWR | O_CREAT | O_DIRECT | O_CLOEXEC, 0600);
	unlink(file());
	if (fd != -1) {
		close(fd);
		hosts_whose_clocks_differ_keep_records();
		hosts_count_together();
		a_clock_behind_repairs_nothing();
		processes_share_the_file();
		a_failed_write_refuses();
		unlink(file());
	}
	CHECK(rmdir(state) == 0);
	is_shared = false;
	state = on_disk;
}

int
main(void)
{
	several_hosts();
	CHECK(mkdtemp(state) != NULL);
	an_authenticator_is_accepted_once();
	a_full_table_keeps_it();
	the_skew_is_exact();
	services_share_the_counters();
	the_longest_skew_keeps_records();
	a_longer_skew_begins_anew();
	jumps_discard_nothing();
	a_step_back_discards_nothing();
	a_boot_accepts_nothing_again();
	the_table_is_large_enough();
	a_principal_has_a_limit();
	a_damaged_file_is_repaired();
	forged_records_do_not_last();
	a_foreign_file_is_refused();
	a_failed_write_refuses();
	half_a_file_accepts_nothing_twice();
	processes_share_the_file();
	a_lock_delays_until_the_deadline();
	unlink(file());
	return rmdir(state);
}
