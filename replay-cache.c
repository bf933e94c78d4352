/*
 * Remembers which authenticators were shown, and how many each principal has shown.
 *
 * Opened by root, which makes the file and puts it right; used by the pre-auth
 * process, which inherits the descriptor. That process can alter the bytes,
 * but not the size, mode or name. So nothing in the file is trusted with more
 * than to refuse, and nothing in it refuses for long.
 *
 * libkrb5's own cache is not used, because it forgets an authenticator 300
 * seconds after it was shown, while libkrb5 still accepts it up to twice that
 * time if its client's clock is fast.
 *
 * The seed is secret, so that no client can choose the bucket of what it shows.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <sha2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "replay-cache.h"

#define MAGIC "kpopd replay 1\n"
#define TAG 16 /* bytes */
/*
 * Services that share the file keep records by the longest of their skews;
 * otherwise one would forget what another still accepts. It stands in the
 * file's size, because that is what the pre-auth process cannot change: as many
 * bytes beyond REPLAY_SIZE as it has seconds more than the least.
 */
#define LEAST_SKEW 300
#define MOST_SKEW (1 << 20)
/* Between two tries of the lock, which its holder has for some microseconds. */
#define PAUSE_NS 300000

#define COUNTERS_AT REPLAY_HEAD
#define BUCKETS_AT (COUNTERS_AT + REPLAY_ROWS * REPLAY_COLUMNS * REPLAY_COUNTER)

struct head {
	int64_t born; /* since when the table is complete; seconds since 1970 */
	char magic[sizeof(MAGIC)];
	uint8_t seed[32];
};

/* One authenticator; all zeros: none. */
struct slot {
	uint8_t tag[TAG];
	uint32_t ctime;  /* the client's, since 1970 */
	uint32_t stored; /* since the machine was started */
};

/* How many authenticators the principals of this cell have shown. */
struct counter {
	uint32_t epoch; /* to which "now" belongs */
	uint16_t now;
	uint16_t before; /* in the epoch before */
};

_Static_assert(sizeof(struct head) <= REPLAY_HEAD, "the head's place");
_Static_assert(sizeof(struct slot) == REPLAY_SLOT, "a slot's size");
_Static_assert(sizeof(struct counter) == REPLAY_COUNTER, "a counter's size");
_Static_assert(REPLAY_MOST <= UINT16_MAX, "a counter holds what is permitted");

struct replay {
	int fd;
	int64_t skew;
	int64_t keep; /* the skew by which records are kept */
	int64_t deadline;
	struct head head;
};

static bool
is_late(const struct replay *r)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 >= r->deadline;
}

/*
 * Locks the file against other processes. Tries again and again, because a
 * compromised process could hold the lock until its end; waiting for the lock
 * in the kernel would have no deadline. Returns 0 or -1.
 */
static int
lock_cache(const struct replay *r)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	while (fcntl(r->fd, F_SETLK, &whole) == -1) {
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return -1;
		if (is_late(r)) {
			errno = ETIMEDOUT;
			return -1;
		}
		nanosleep(&pause, NULL);
	}
	return 0;
}

static void
unlock_cache(const struct replay *r)
{
	struct flock whole = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
	int error = errno;

	fcntl(r->fd, F_SETLK, &whole);
	errno = error;
}

/* Reads n bytes. Returns 0 or -1. */
static int
get_bytes(const struct replay *r, void *p, size_t n, off_t at)
{
	ssize_t got = pread(r->fd, p, n, at);

	if (got == (ssize_t)n)
		return 0;
	if (got != -1)
		errno = EIO;
	return -1;
}

static int
put_bytes(const struct replay *r, const void *p, size_t n, off_t at)
{
	ssize_t put = pwrite(r->fd, p, n, at);

	if (put == (ssize_t)n)
		return 0;
	if (put != -1)
		errno = EIO;
	return -1;
}

/*
 * Reads the head. Returns 1 if the file is as it should be, 0 if it must be
 * put right, or -1. A head from the future would refuse everybody until then.
 */
static int
read_head(struct replay *r)
{
	struct stat st;
	int64_t longest;

	if (fstat(r->fd, &st) == -1)
		return -1;
	memset(&r->head, 0, sizeof(r->head));
	if (st.st_size >= (off_t)sizeof(r->head) && get_bytes(r, &r->head, sizeof(r->head), 0) == -1)
		return -1;
	longest = st.st_size - REPLAY_SIZE + LEAST_SKEW;
	if (longest < r->keep || (longest > r->keep && longest > MOST_SKEW) ||
	    memcmp(r->head.magic, MAGIC, sizeof(MAGIC)) != 0 || r->head.born > time(NULL))
		return 0;
	r->keep = longest;
	return 1;
}

/* Gives the file its size, all of its space, and a head. Returns 0 or -1. */
static int
write_anew(struct replay *r)
{
	if ((errno = posix_fallocate(r->fd, 0, REPLAY_SIZE)) != 0 ||
	    ftruncate(r->fd, REPLAY_SIZE + r->keep - LEAST_SKEW) == -1)
		return -1;
	if (memcmp(r->head.magic, MAGIC, sizeof(MAGIC)) != 0) {
		memcpy(r->head.magic, MAGIC, sizeof(MAGIC));
		arc4random_buf(r->head.seed, sizeof(r->head.seed));
	}
	r->head.born = time(NULL);
	return put_bytes(r, &r->head, sizeof(r->head), 0);
}

/* Puts the file right, unless another process has done so meanwhile. Returns 0 or -1. */
static int
put_right(struct replay *r, const char *path)
{
	int result;

	if (lock_cache(r) == -1)
		return -1;
	if ((result = read_head(r)) == 0) {
		result = write_anew(r);
		if (result == 0)
			log_event(LOG_NOTICE, "replay", "what=\"%s is begun anew\"", path);
	}
	unlock_cache(r);
	return result == -1 ? -1 : 0;
}

/* Opens the file, which only root can have made. Returns 0, or -1 with *why. */
static int
open_file(struct replay *r, const char *path, const char **why)
{
	struct stat st;

	r->fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (r->fd == -1 || fstat(r->fd, &st) == -1) {
		*why = strerror(errno);
		return -1;
	}
	*why = !S_ISREG(st.st_mode) || st.st_nlink != 1 ? "it is not a file with one name" :
	    st.st_uid != geteuid() || (st.st_mode & 077) != 0 ? "it is not root's alone" : NULL;
	return *why == NULL ? 0 : -1;
}

/* Removes libkrb5's cache, which versions before used; nothing in the jail shall belong to the pre-auth process. */
static void
remove_former(const char *state)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/preauth/replay/cache", state);
	unlink(path);
	snprintf(path, sizeof(path), "%s/preauth/replay", state);
	rmdir(path);
}

struct replay *
replay_open(const char *state, int skew, int64_t deadline)
{
	struct replay *r = calloc(1, sizeof(*r));
	const char *why;
	char path[4096];
	int is_right;

	if (r == NULL)
		fatal("calloc");
	if (snprintf(path, sizeof(path), "%s/replay", state) >= (int)sizeof(path))
		fatal("the state directory's name is too long");
	r->skew = skew;
	r->keep = skew > LEAST_SKEW ? skew : LEAST_SKEW;
	r->deadline = deadline;
	if (open_file(r, path, &why) == 0) {
		if ((is_right = read_head(r)) == 0) {
			remove_former(state);
			is_right = put_right(r, path) == 0 ? 1 : -1;
		}
		if (is_right == 1)
			return r;
		why = strerror(errno);
	}
	log_event(LOG_ERR, "failed", "what=\"opening the replay cache %s\" error=\"%s\"", path, why);
	if (r->fd != -1)
		close(r->fd);
	free(r);
	return NULL;
}

/* Hashes pieces with the seed; what: which of the two hashes it is. */
static void
hash_pieces(const struct replay *r, char what, const struct replay_piece *pieces, size_t count,
    uint8_t digest[SHA256_DIGEST_LENGTH])
{
	SHA2_CTX hash;

	SHA256Init(&hash);
	SHA256Update(&hash, r->head.seed, sizeof(r->head.seed));
	SHA256Update(&hash, (const uint8_t *)&what, 1);
	for (size_t i = 0; i < count; i++) {
		uint64_t size = pieces[i].size;

		SHA256Update(&hash, (const uint8_t *)&size, sizeof(size));
		if (size > 0)
			SHA256Update(&hash, pieces[i].data, size);
	}
	SHA256Final(digest, &hash);
}

/*
 * Returns true if a slot must not be used again. A time that is further in the
 * future than any that is accepted is forged, or the wall clock was put back.
 */
static bool
is_needed(const struct replay *r, const struct slot *s, const struct replay_clock *now)
{
	int64_t ctime = s->ctime, stored = s->stored;

	if (ctime == 0)
		return false;
	/* The wall clock may have jumped, and may jump back. */
	if (stored <= now->boot && now->boot <= stored + 2 * r->keep)
		return true;
	return now->wall <= ctime + r->keep && ctime <= now->wall + 2 * r->keep;
}

/*
 * Looks for a tag in a bucket. Returns REPLAY_SHOWN; or REPLAY_NEW with the
 * slot to use, which has the oldest record of those that are not needed, or
 * none; or REPLAY_FULL. The oldest, because a clock may be put back by more
 * than the time for which records are needed.
 */
static enum replay_result
look_up(const struct replay *r, const struct slot bucket[REPLAY_SLOTS], const uint8_t tag[TAG],
    const struct replay_clock *now, size_t *slot)
{
	const struct slot *oldest = NULL;

	for (const struct slot *s = bucket; s < bucket + REPLAY_SLOTS; s++) {
		if (s->ctime != 0 && memcmp(s->tag, tag, TAG) == 0)
			return REPLAY_SHOWN;
		if (!is_needed(r, s, now) && (oldest == NULL || s->ctime < oldest->ctime))
			oldest = s;
	}
	if (oldest == NULL)
		return REPLAY_FULL;
	*slot = (size_t)(oldest - bucket);
	return REPLAY_NEW;
}

/* Makes a counter one of this epoch. One from the future is forged or another boot's, and counts nothing. */
static void
age_counter(struct counter *c, uint32_t epoch)
{
	if (c->epoch == epoch)
		return;
	c->before = c->epoch + 1 == epoch ? c->now : 0;
	c->now = 0;
	c->epoch = epoch;
}

/* The counters of one principal, one in each row. */
struct counters {
	off_t at[REPLAY_ROWS];
	struct counter cell[REPLAY_ROWS];
};

/*
 * Reads the counters of a principal. Returns how many authenticators it has
 * shown in this epoch and the one before, or more if it shares cells in all
 * rows; or -1.
 */
static long
read_counters(const struct replay *r, const struct replay_piece *principal, const struct replay_clock *now,
    struct counters *c)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	uint32_t epoch = (uint32_t)(now->boot / (2 * r->keep)) + 1;
	long least = UINT16_MAX * 2;

	hash_pieces(r, 'p', principal, 1, digest);
	for (size_t i = 0; i < REPLAY_ROWS; i++) {
		size_t column = ((size_t)digest[2 * i] << 8 | digest[2 * i + 1]) % REPLAY_COLUMNS;
		long sum;

		c->at[i] = (off_t)(COUNTERS_AT + (i * REPLAY_COLUMNS + column) * REPLAY_COUNTER);
		if (get_bytes(r, &c->cell[i], sizeof(c->cell[i]), c->at[i]) == -1)
			return -1;
		age_counter(&c->cell[i], epoch);
		sum = (long)c->cell[i].now + c->cell[i].before;
		if (sum < least)
			least = sum;
	}
	return least;
}

static int
write_counters(const struct replay *r, struct counters *c)
{
	for (size_t i = 0; i < REPLAY_ROWS; i++) {
		if (c->cell[i].now < UINT16_MAX)
			c->cell[i].now++;
		if (put_bytes(r, &c->cell[i], sizeof(c->cell[i]), c->at[i]) == -1)
			return -1;
	}
	return 0;
}

/* Returns REPLAY_NEW unless the time alone refuses it. */
static enum replay_result
look_at_time(const struct replay *r, uint32_t ctime, const struct replay_clock *now)
{
	int64_t made = ctime, started = now->wall - now->boot;

	if (made > now->wall + r->skew || made < now->wall - r->skew)
		return REPLAY_SKEW;
	/* Power may have failed before the disk had what was remembered last. */
	return made < started || made < r->head.born ? REPLAY_EARLIER : REPLAY_NEW;
}

enum replay_result
replay_show_at(struct replay *r, const struct replay_authenticator *a, const struct replay_clock *now)
{
	struct slot bucket[REPLAY_SLOTS], new = { .ctime = a->ctime, .stored = (uint32_t)now->boot };
	struct counters counters;
	uint8_t digest[SHA256_DIGEST_LENGTH];
	enum replay_result result = look_at_time(r, a->ctime, now);
	size_t slot = 0;
	off_t at;
	long many;

	if (result != REPLAY_NEW)
		return result;
	hash_pieces(r, 'a', a->pieces, a->count, digest);
	memcpy(new.tag, digest, TAG);
	at = (off_t)(BUCKETS_AT + ((size_t)digest[TAG] << 8 | digest[TAG + 1]) % REPLAY_BUCKETS * sizeof(bucket));
	if (get_bytes(r, bucket, sizeof(bucket), at) == -1)
		return REPLAY_FAILED;
	if ((result = look_up(r, bucket, new.tag, now, &slot)) != REPLAY_NEW)
		return result;
	if ((many = read_counters(r, &a->principal, now, &counters)) == -1)
		return REPLAY_FAILED;
	if (many >= REPLAY_MOST)
		return REPLAY_TOO_MANY;
	if (put_bytes(r, &new, sizeof(new), at + (off_t)(slot * sizeof(new))) == -1 ||
	    write_counters(r, &counters) == -1)
		return REPLAY_FAILED;
	return REPLAY_NEW;
}

enum replay_result
replay_show(struct replay *r, const struct replay_authenticator *a)
{
	struct replay_clock now;
	struct timespec boot;
	enum replay_result result;

	if (lock_cache(r) == -1)
		return REPLAY_FAILED;
	/* With the lock; otherwise another process could forget the record after this one has looked at the time. */
	now.wall = time(NULL);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	now.boot = boot.tv_sec;
	result = replay_show_at(r, a, &now);
	unlock_cache(r);
	return result;
}
