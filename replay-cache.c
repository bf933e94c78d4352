/*
 * Records which authenticators were used, and how many each principal has used.
 *
 * Runs in the pre-auth process. replay_open runs as root and makes or repairs
 * the file. Then the pre-auth user has only the descriptor of the file. A
 * compromised pre-auth process can alter the file's bytes, but not its size,
 * mode or name. Altered bytes can make later processes refuse clients, but only
 * for a limited time, because impossible times in the file are ignored.
 *
 * libkrb5's own replay cache is not used. That cache discards an authenticator
 * 300 seconds after its use. But if the client's clock is fast, libkrb5 accepts
 * the same authenticator for up to 600 seconds.
 *
 * The seed is secret; otherwise a client could choose the bucket of its
 * authenticator.
 *
 * Several hosts may have the file, on a shared file system. Then it is opened
 * with O_DIRECT and O_DSYNC, so each read asks the server, and each write is at
 * the server before the lock is released. These two flags need no system call
 * in the jail.
 */
#include "config.h"

#include <sys/endian.h>
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

#include "clock.h"
#include "log.h"
#include "replay-cache.h"
#include "turn.h"
#include "volume.h"

#define MAGIC "kpopd replay 1\n"
#define TAG 16 /* bytes */
/*
 * Services with different clock skews may share the file. From the longest of
 * these skews, each service computes how long it keeps a record. Otherwise a
 * service could discard a record while another service still accepts the
 * authenticator. The file's size records the longest skew, because the pre-auth
 * process cannot change the size. The size is REPLAY_SIZE plus one byte for
 * each second above LEAST_SKEW.
 */
#define LEAST_SKEW 300      /* seconds */
#define MOST_SKEW (1 << 20) /* seconds */
/*
 * The pause between two attempts to lock. A process holds the lock only for
 * microseconds.
 */
#define PAUSE_NS 300000
/*
 * A file server that does not reach a host gives its locks away, with
 * examples/hosts after six seconds. So if a record took longer than this,
 * another host may have recorded the same authenticator meanwhile.
 */
#define LATE_MS 3000
#define PATH_SIZE 4096 /* bytes of a path */
/* With O_DIRECT, offsets, sizes and buffers are multiples of this. */
#define BLOCK 4096
/* The most blocks that one login uses: two of a bucket, one of each row. */
#define BLOCKS (2 + REPLAY_ROWS)

#define COUNTERS_AT REPLAY_HEAD
#define BUCKETS_AT (COUNTERS_AT + REPLAY_ROWS * REPLAY_COLUMNS * REPLAY_COUNTER)

struct head {
	int64_t born; /* seconds since 1970: no later record is missing */
	char magic[sizeof(MAGIC)];
	uint8_t seed[32];
};

/* A record of one authenticator; all zeros: none. */
struct slot {
	uint8_t tag[TAG];
	uint32_t ctime;  /* the client's time, in seconds since 1970 */
	uint32_t stored; /* when it was recorded, in seconds since boot */
};

/* How many authenticators the principals that share this cell have used. */
struct counter {
	uint32_t epoch;
	uint16_t now;    /* number in this epoch */
	uint16_t before; /* number in the previous epoch */
};

_Static_assert(sizeof(struct head) <= REPLAY_HEAD, "the head fits");
_Static_assert(sizeof(struct slot) == REPLAY_SLOT, "a slot's size");
_Static_assert(sizeof(struct counter) == REPLAY_COUNTER, "a counter's size");
_Static_assert(REPLAY_MOST <= UINT16_MAX, "a counter can reach the limit");
_Static_assert(REPLAY_SIZE % BLOCK == 0, "the file has whole blocks");

struct replay {
	int fd;
	bool is_shared; /* other hosts may use the file */
	int64_t skew;   /* the clock skew of this service, in seconds */
	int64_t keep;   /* the longest clock skew of all services */
	/*
	 * How far the clocks of the hosts that use the file may differ, in
	 * seconds. A host whose clock differs from the clients' by more than
	 * the skew serves none of them. So two hosts may differ by twice that.
	 */
	int64_t apart;
	int64_t deadline; /* for the lock: ms of CLOCK_MONOTONIC */
	int64_t locked;   /* when it asked for the lock that it got; likewise */
	struct head head;
};

/* A block of a shared file, as it is while the file is locked. */
struct block {
	_Alignas(BLOCK) unsigned char bytes[BLOCK];
	off_t at;
};

static struct block blocks[BLOCKS];
static size_t block_count; /* of the blocks that were read under this lock */

/*
 * Locks the file against other processes. Waits for the lock until the deadline
 * at most. Returns 0 or -1. Tries the lock again and again, because a wait in
 * the kernel has no deadline and a compromised process may never release the
 * lock. The lock belongs to the open file. GlusterFS may be late to release a
 * lock that belongs to a process, and then release a newer one of that process.
 */
static int
lock_cache(struct replay *r)
{
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	while (r->locked = clock_ms(),
	    fcntl(r->fd, F_OFD_SETLK, &whole) == -1) {
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return -1;
		if (clock_ms() >= r->deadline) {
			errno = ETIMEDOUT;
			return -1;
		}
		nanosleep(&pause, NULL);
	}
	return 0;
}

/* Unlocks the file. Keeps errno. */
static void
unlock_cache(const struct replay *r)
{
	struct flock whole = { .l_type = F_UNLCK, .l_whence = SEEK_SET };
	int error = errno;

	fcntl(r->fd, F_OFD_SETLK, &whole);
	errno = error;
}

/*
 * Returns 0 if a call that reads or writes has returned the size, otherwise -1
 * with errno.
 */
static int
check_done(ssize_t done, size_t n)
{
	if (done == (ssize_t)n)
		return 0;
	if (done != -1)
		errno = EIO;
	return -1;
}

/*
 * Returns the block of a shared file that has the byte at this offset, or NULL.
 * Reads the block if it was not used since the file was locked.
 */
static struct block *
find_block(const struct replay *r, off_t at)
{
	struct block *b = blocks;

	at -= at % BLOCK;
	while (b < blocks + block_count && b->at != at)
		b++;
	if (b < blocks + block_count)
		return b;
	if (b == blocks + BLOCKS) {
		errno = EIO;
		return NULL;
	}
	b->at = at;
	if (check_done(pread(r->fd, b->bytes, BLOCK, at), BLOCK) == -1)
		return NULL;
	block_count++;
	return b;
}

/*
 * Copies n bytes from a shared file to `to`, or from `from` to the file; the
 * other one is NULL. Returns 0 or -1.
 */
static int
copy_blocks(const struct replay *r, unsigned char *to,
    const unsigned char *from, size_t n, off_t at)
{
	while (n > 0) {
		struct block *b = find_block(r, at);
		size_t offset = (size_t)(at % BLOCK);
		size_t piece = n < BLOCK - offset ? n : BLOCK - offset;

		if (b == NULL)
			return -1;
		if (to != NULL) {
			memcpy(to, b->bytes + offset, piece);
			to += piece;
		} else {
			memcpy(b->bytes + offset, from, piece);
			from += piece;
			if (check_done(pwrite(r->fd, b->bytes, BLOCK, b->at),
				BLOCK) == -1)
				return -1;
		}
		n -= piece;
		at += (off_t)piece;
	}
	return 0;
}

/* Reads n bytes. Returns 0 or -1. */
static int
read_bytes(const struct replay *r, void *p, size_t n, off_t at)
{
	return r->is_shared ? copy_blocks(r, p, NULL, n, at) :
			      check_done(pread(r->fd, p, n, at), n);
}

/* Writes n bytes. Returns 0 or -1. */
static int
write_bytes(const struct replay *r, const void *p, size_t n, off_t at)
{
	return r->is_shared ? copy_blocks(r, NULL, p, n, at) :
			      check_done(pwrite(r->fd, p, n, at), n);
}

/*
 * Reads the head. Returns 1 if the file is sound, 0 if it must be repaired, or
 * -1. A file is also repaired if head.born is in the future. Otherwise every
 * client would be refused until that time.
 */
static int
read_head(struct replay *r)
{
	struct stat st;
	int64_t longest;

	block_count = 0;
	if ((r->is_shared && volume_ask(r->fd) == -1) ||
	    fstat(r->fd, &st) == -1)
		return -1;
	memset(&r->head, 0, sizeof(r->head));
	if (st.st_size >= (off_t)sizeof(r->head) &&
	    read_bytes(r, &r->head, sizeof(r->head), 0) == -1)
		return -1;
	longest = st.st_size - REPLAY_SIZE + LEAST_SKEW;
	if (longest < r->keep || (longest > r->keep && longest > MOST_SKEW) ||
	    memcmp(r->head.magic, MAGIC, sizeof(MAGIC)) != 0 ||
	    r->head.born > time(NULL) + r->apart)
		return 0;
	r->keep = longest;
	r->apart = r->is_shared ? 2 * longest : 0;
	return 1;
}

/*
 * Allocates the space of the file. Returns 0 or -1. Where a shared file system
 * cannot do this, posix_fallocate would write single bytes, which O_DIRECT does
 * not permit. A login whose record then finds no space is refused.
 */
static int
reserve_space(const struct replay *r)
{
	if (!r->is_shared)
		return (errno = posix_fallocate(r->fd, 0, REPLAY_SIZE)) == 0 ?
		    0 :
		    -1;
	return fallocate(r->fd, 0, 0, REPLAY_SIZE) == 0 || errno == EOPNOTSUPP ?
	    0 :
	    -1;
}

/*
 * Gives the file its size, with its space allocated, and writes a head. Returns
 * 0 or -1. Keeps all records, and the seed if the head has the magic bytes.
 */
static int
write_cache_head(struct replay *r)
{
	if (reserve_space(r) == -1 ||
	    ftruncate(r->fd, REPLAY_SIZE + r->keep - LEAST_SKEW) == -1)
		return -1;
	if (memcmp(r->head.magic, MAGIC, sizeof(MAGIC)) != 0) {
		memcpy(r->head.magic, MAGIC, sizeof(MAGIC));
		arc4random_buf(r->head.seed, sizeof(r->head.seed));
	}
	r->head.born = time(NULL);
	return write_bytes(r, &r->head, sizeof(r->head), 0);
}

/*
 * Repairs the file (logged), unless another process has just done so. Returns 0
 * or -1.
 */
static int
repair_cache(struct replay *r, const char *path)
{
	int result;

	if (lock_cache(r) == -1)
		return -1;
	if ((result = read_head(r)) == 0) {
		result = write_cache_head(r);
		if (result == 0)
			log_event(LOG_NOTICE, "replay",
			    "what=\"%s refuses older authenticators\"", path);
	}
	unlock_cache(r);
	return result == -1 ? -1 : 0;
}

/*
 * Opens the file again so that each read asks the server. Where the file system
 * does not offer this, the cache protects this host alone; kpopd --check
 * reports that. Returns 0 or -1.
 */
static int
open_shared(struct replay *r, const char *path)
{
	int fd = open(path,
	    O_RDWR | O_DIRECT | O_DSYNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd == -1)
		return errno == EINVAL ? 0 : -1;
	close(r->fd);
	r->fd = fd;
	r->is_shared = true;
	r->apart = 2 * r->keep;
	return 0;
}

/*
 * Opens the file, or makes it. Returns 0, or -1 with the reason in *why.
 * Refuses a file that does not belong to root, or that other users may read or
 * write.
 */
static int
open_cache_file(struct replay *r, const char *path, const char **why)
{
	struct stat st;

	r->fd = open(path,
	    O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
	if (r->fd == -1 ||
	    (volume_is_shared(r->fd) && open_shared(r, path) == -1) ||
	    fstat(r->fd, &st) == -1) {
		*why = strerror(errno);
		return -1;
	}
	*why = NULL;
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		*why = "it is not a regular file with one name";
	else if (st.st_uid != geteuid() || (st.st_mode & 077) != 0)
		*why = "others than root may own, read or write it";
	return *why == NULL ? 0 : -1;
}

/*
 * Repairs the open file if it is not sound. Returns 0, or -1 with the reason in
 * *why.
 */
static int
make_sound(struct replay *r, const char *path, const char **why)
{
	int sound = read_head(r);

	if (sound == 0)
		sound = repair_cache(r, path) == 0 ? 1 : -1;
	if (sound == 1)
		return 0;
	*why = strerror(errno);
	return -1;
}

struct replay *
replay_open(const char *state, int skew, int64_t deadline)
{
	struct replay *r = calloc(1, sizeof(*r));
	const char *why;
	char path[PATH_SIZE];

	if (r == NULL)
		fatal("calloc");
	if (snprintf(path, sizeof(path), "%s/replay", state) >=
	    (int)sizeof(path))
		fatal("the path of the state directory is too long");
	r->skew = skew;
	r->keep = skew > LEAST_SKEW ? skew : LEAST_SKEW;
	r->deadline = deadline;
	if (open_cache_file(r, path, &why) == 0 &&
	    make_sound(r, path, &why) == 0)
		return r;
	log_failed_at(LOG_ERR, why, "opening the replay cache %s", path);
	if (r->fd != -1)
		close(r->fd);
	free(r);
	return NULL;
}

/* The purpose of a hash. */
enum { OF_PRINCIPAL = 'p', OF_AUTHENTICATOR = 'a' };

/* Hashes the seed, the purpose and the pieces. Each piece follows its size. */
static void
hash_pieces(const struct replay *r, char purpose,
    const struct replay_piece *pieces, size_t count,
    uint8_t digest[SHA256_DIGEST_LENGTH])
{
	SHA2_CTX hash;

	SHA256Init(&hash);
	SHA256Update(&hash, r->head.seed, sizeof(r->head.seed));
	SHA256Update(&hash, (const uint8_t *)&purpose, 1);
	for (size_t i = 0; i < count; i++) {
		uint64_t size = pieces[i].size;

		SHA256Update(&hash, (const uint8_t *)&size, sizeof(size));
		if (size > 0)
			SHA256Update(&hash, pieces[i].data, size);
	}
	SHA256Final(digest, &hash);
}

/*
 * Returns true if a slot must not be reused. Ignores a client's time that is so
 * far in the future that no authenticator with this time is accepted. A slot
 * with such a time was forged, or the wall clock was set back.
 */
static bool
is_needed(const struct replay *r, const struct slot *s,
    const struct replay_clock *now)
{
	int64_t ctime = s->ctime, stored = s->stored;

	if (ctime == 0)
		return false;
	/* The wall clock can be set, so also use the time since the boot. */
	if (stored <= now->boot && now->boot <= stored + 2 * r->keep)
		return true;
	return now->wall <= ctime + r->keep + r->apart &&
	    ctime <= now->wall + (r->is_shared ? 3 : 2) * r->keep;
}

/*
 * Looks for a tag in a bucket. Returns REPLAY_REPEATED if a slot has the tag,
 * or REPLAY_FULL if no slot may be reused. Otherwise returns REPLAY_NEW with
 * the index of the slot to use in *slot. This is an empty slot, or the slot
 * with the oldest time of all that are not needed. A younger record is more
 * likely to be needed again if the wall clock is set back.
 */
static enum replay_result
find_record_slot(const struct replay *r, const struct slot bucket[REPLAY_SLOTS],
    const uint8_t tag[TAG], const struct replay_clock *now, size_t *slot)
{
	const struct slot *oldest = NULL;

	for (const struct slot *s = bucket; s < bucket + REPLAY_SLOTS; s++) {
		if (s->ctime != 0 && memcmp(s->tag, tag, TAG) == 0)
			return REPLAY_REPEATED;
		if (!is_needed(r, s, now) &&
		    (oldest == NULL || s->ctime < oldest->ctime))
			oldest = s;
	}
	if (oldest == NULL)
		return REPLAY_FULL;
	*slot = (size_t)(oldest - bucket);
	return REPLAY_NEW;
}

/*
 * Returns the number of the present epoch. Each host has started at another
 * time, so the hosts count the epochs of a shared file by the wall clock.
 */
static uint32_t
find_epoch(const struct replay *r, const struct replay_clock *now)
{
	int64_t time = r->is_shared ? now->wall : now->boot;

	return (uint32_t)(time / (2 * r->keep)) + 1;
}

/*
 * Moves a counter to this epoch. A counter of a later epoch becomes 0, because
 * it was forged or is from before the last boot. But if the clock of another
 * host is ahead, the counter may already be in the next epoch.
 */
static void
move_counter(const struct replay *r, struct counter *c, uint32_t epoch)
{
	if (c->epoch == epoch || (r->is_shared && c->epoch == epoch + 1))
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
 * Reads the counters of a principal. Returns how many authenticators the
 * principal has used in this and the previous epoch, or -1. The result is too
 * large only if the principal shares its cell with other principals in every
 * row.
 */
static long
read_counters(const struct replay *r, const struct replay_piece *principal,
    const struct replay_clock *now, struct counters *c)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	uint32_t epoch = find_epoch(r, now);
	long least = UINT16_MAX * 2;

	hash_pieces(r, OF_PRINCIPAL, principal, 1, digest);
	for (size_t i = 0; i < REPLAY_ROWS; i++) {
		size_t column =
		    (size_t)be16dec(digest + 2 * i) % REPLAY_COLUMNS;
		long sum;

		c->at[i] = (off_t)(COUNTERS_AT +
		    (i * REPLAY_COLUMNS + column) * REPLAY_COUNTER);
		if (read_bytes(r, &c->cell[i], sizeof(c->cell[i]), c->at[i]) ==
		    -1)
			return -1;
		move_counter(r, &c->cell[i], epoch);
		sum = (long)c->cell[i].now + c->cell[i].before;
		if (sum < least)
			least = sum;
	}
	return least;
}

/* Counts one more authenticator, and writes the counters. Returns 0 or -1. */
static int
write_counters(const struct replay *r, struct counters *c)
{
	for (size_t i = 0; i < REPLAY_ROWS; i++) {
		if (c->cell[i].now < UINT16_MAX)
			c->cell[i].now++;
		if (write_bytes(r, &c->cell[i], sizeof(c->cell[i]), c->at[i]) ==
		    -1)
			return -1;
	}
	return 0;
}

/*
 * Checks the time of an authenticator. Returns REPLAY_NEW, or the reason to
 * refuse it.
 */
static enum replay_result
check_time(const struct replay *r, uint32_t ctime,
    const struct replay_clock *now)
{
	int64_t made = ctime, started = now->wall - now->boot;

	if (made > now->wall + r->skew || made < now->wall - r->skew)
		return REPLAY_SKEW;
	/*
	 * Refuse times before the boot: a power failure may have lost records.
	 */
	return made < started || made < r->head.born ? REPLAY_EARLIER :
						       REPLAY_NEW;
}

enum replay_result
replay_record_at(struct replay *r, const struct replay_authenticator *a,
    const struct replay_clock *now)
{
	struct slot bucket[REPLAY_SLOTS];
	struct slot new = { .ctime = a->ctime, .stored = (uint32_t)now->boot };
	struct counters counters;
	uint8_t digest[SHA256_DIGEST_LENGTH];
	enum replay_result result = check_time(r, a->ctime, now);
	size_t slot = 0;
	off_t at;
	long many;

	if (result != REPLAY_NEW)
		return result;
	block_count = 0;
	hash_pieces(r, OF_AUTHENTICATOR, a->pieces, a->count, digest);
	memcpy(new.tag, digest, TAG);
	at = (off_t)(BUCKETS_AT +
	    (size_t)be16dec(digest + TAG) % REPLAY_BUCKETS * sizeof(bucket));
	if (read_bytes(r, bucket, sizeof(bucket), at) == -1)
		return REPLAY_FAILED;
	result = find_record_slot(r, bucket, new.tag, now, &slot);
	if (result != REPLAY_NEW)
		return result;
	many = read_counters(r, &a->principal, now, &counters);
	if (many == -1)
		return REPLAY_FAILED;
	if (many >= REPLAY_MOST)
		return REPLAY_TOO_MANY;
	if (write_bytes(r, &new, sizeof(new),
		at + (off_t)(slot * sizeof(new))) == -1 ||
	    write_counters(r, &counters) == -1)
		return REPLAY_FAILED;
	return REPLAY_NEW;
}

/* Locks the file and records the authenticator. */
static enum replay_result
record_locked(struct replay *r, const struct replay_authenticator *a)
{
	struct replay_clock now;
	struct timespec boot;
	enum replay_result result;

	if (lock_cache(r) == -1)
		return REPLAY_FAILED;
	/*
	 * Read the time only when the file is locked. If this process read the
	 * time earlier, another process could reuse the slot of this
	 * authenticator in between, and the authenticator would be accepted
	 * twice.
	 */
	now.wall = time(NULL);
	clock_gettime(CLOCK_BOOTTIME, &boot);
	now.boot = boot.tv_sec;
	result = replay_record_at(r, a, &now);
	unlock_cache(r);
	if (result == REPLAY_NEW && r->is_shared &&
	    clock_ms() - r->locked > LATE_MS) {
		errno = ETIMEDOUT;
		return REPLAY_FAILED;
	}
	return result;
}

enum replay_result
replay_record(struct replay *r, const struct replay_authenticator *a)
{
	enum replay_result result;

	/* The file system may not answer. */
	turn_give();
	result = record_locked(r, a);
	turn_retake();
	return result;
}
