/*
 * Makes the removal of messages survive any crash: the redo journal and its recovery.
 *
 * Runs as the owner of the mailbox, with the mailbox locked for writing and
 * the session's lock held: nobody else is in the state directory but the user
 * himself, whose forgeries can only hurt the user.
 *
 * Let P be where the first removed byte stands, S the mailbox' size, D the
 * bytes kept behind P. The mailbox becomes [0,P) D. [0,P) is never written.
 *
 *	1  j.tmp := a head and D; fsync; rename to j; fsync the directory.
 *	   From here on the removal is decided.
 *	2  write D at P, behind it a marker: random bytes, the first a NUL;
 *	   fsync the mailbox
 *	3  rename j to j.cut; fsync the directory
 *	4  unless the mailbox has grown: cut it behind D; fsync; unlink j.cut
 *
 * What a crash leaves, and what recovery does with it:
 *
 *	j.tmp alone   nothing has happened: forget it.
 *	j             [0,P) and everything from S on are untouched, between them
 *	              is anything. Nothing was cut. Do 2 to 4 again; they give
 *	              the same result however often.
 *	j.cut         [0,P) D is on the disk. If the marker stands behind D, or
 *	              zeros in its place, the cut has not happened, else it has:
 *	              an MDA that appends behind the cut begins with "F" or a
 *	              line end, never a NUL.
 *
 * Mail that arrived behind S meanwhile is taken into a new journal before
 * anything is written: in j as a part of D, in j.cut (where D is already in
 * its place) as a D of its own.
 *
 * The head also contains hashes of the 64 KiB before P, of the last 64 KiB of D
 * and of the last 64 KiB of what will be cut, and a witness: the bytes that
 * stood at P and those that stood before S. Nobody but the removal writes
 * there, so after a crash each of them is what it was or what the removal makes
 * of it. If all of that fits, the mailbox is the journal's, whatever its inode
 * and device are: it may have been restored or moved to another disk. If it
 * does not fit, another program has rewritten the mailbox: the journal is kept
 * as rescue.TIME for a person to look at, and the mailbox is served as it is.
 * Unless the directory of the mailbox is another one than it was: then the
 * file system of the spool may not be mounted, and the journal waits; as it
 * does if there is no mailbox at all.
 *
 * A failed fsync is final: the page cache no longer tells what the disk has.
 * The process stops, the journal stays, the next recovery writes everything
 * again.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <sha2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "mbox-journal.h"
#include "log.h"

#define TEMPORARY "j.tmp"
#define DECIDED "j"
#define CUT "j.cut"
#define DAMAGED (-2)

#define MAGIC "kpopd j2"
#define MAGIC_1 "kpopd j1" /* the same without a witness */
#define MARKER 16
#define WINDOW ((off_t)64 << 10) /* bytes hashed on either side */
#define HEAD 4096 /* bytes before D in the file: blocks stay aligned */
#define WITNESS_AT 512 /* its place before D */
#define FRONT 1024 /* bytes of the witness at P, at most */
#define BACK 2048 /* bytes of the witness before S, at most */
#define COPY ((size_t)256 << 10) /* copied at a time */
#define PIECE ((off_t)8 << 20) /* what the disk is given at a time */

/* The head, in the byte order of this machine: the journal never leaves it. */
struct head {
	char magic[8];
	uint64_t inode;
	int64_t from;   /* P */
	int64_t kept;   /* the length of D */
	int64_t size;   /* S */
	uint8_t marker[MARKER];
	uint64_t marker_size;
	uint8_t before[SHA256_DIGEST_LENGTH];
	uint8_t behind[SHA256_DIGEST_LENGTH];
	uint8_t tail[SHA256_DIGEST_LENGTH]; /* of D */
	uint8_t checksum[SHA256_DIGEST_LENGTH]; /* of all above */
};

/* What the mailbox contained where the removal writes, in the same byte order. */
struct witness {
	uint64_t directory; /* the inode of the mailbox's directory; 0: unknown */
	uint32_t front_size, back_size;
	char front[FRONT]; /* at P */
	char back[BACK];   /* before S */
	uint8_t checksum[SHA256_DIGEST_LENGTH]; /* of all above */
};
_Static_assert(sizeof(struct head) <= WITNESS_AT && WITNESS_AT + sizeof(struct witness) <= HEAD, "no room before D");

/* A journal that is open: its file and what stands before D. */
struct journal {
	int fd;
	struct head h;
	struct witness w; /* all zero in a journal of version 1 */
};

/* What a journal and a mailbox have to do with each other. */
enum match { MATCH_ERROR = -1, MATCH_NONE, MATCH_HERE, MATCH_DONE };

/* What stands where in the mailbox when all is done but the cut. */
static off_t
new_size(const struct head *h)
{
	return (off_t)(h->from + h->kept);
}

static off_t
behind_marker(const struct head *h)
{
	return new_size(h) + (off_t)h->marker_size;
}

static int
complain(const char *what)
{
	log_event(LOG_ERR, "failed", "what=\"%s\" error=\"%s\"", what,
	    strerror(errno));
	return -1;
}

/*
 * Copies n bytes between two files. The disk is given a piece while the next
 * is copied, so that fsync has less to wait for. Not by copy_file_range: what
 * it does to bytes that stand differently in their blocks is slower.
 */
static int
copy(int from, off_t from_at, int to, off_t to_at, off_t n)
{
	static char buffer[COPY];
	off_t given = to_at;

	while (n > 0) {
		size_t some = n < (off_t)COPY ? (size_t)n : COPY;

		if (file_read(from, buffer, some, from_at) == -1 ||
		    file_write(to, buffer, some, to_at) == -1)
			return -1;
		from_at += (off_t)some;
		to_at += (off_t)some;
		n -= (off_t)some;
		if (to_at - given >= PIECE) {
			sync_file_range(to, given, to_at - given, SYNC_FILE_RANGE_WRITE);
			given = to_at;
		}
	}
	return 0;
}

/* The SHA-256 of [from, to) of fd. */
static int
hash_window(int fd, off_t from, off_t to, uint8_t digest[SHA256_DIGEST_LENGTH])
{
	char piece[4096];
	SHA2_CTX hash;

	SHA256Init(&hash);
	while (from < to) {
		size_t n = to - from < (off_t)sizeof(piece) ?
		    (size_t)(to - from) : sizeof(piece);

		if (file_read(fd, piece, n, from) == -1)
			return -1;
		SHA256Update(&hash, (uint8_t *)piece, n);
		from += (off_t)n;
	}
	SHA256Final(digest, &hash);
	return 0;
}

/* The hash of the end of what is never written. */
static int
hash_before(int fd, const struct head *h, uint8_t digest[SHA256_DIGEST_LENGTH])
{
	off_t from = h->from > WINDOW ? (off_t)h->from - WINDOW : 0;

	return hash_window(fd, from, (off_t)h->from, digest);
}

/* The hash of the end of what will be cut, behind the marker. */
static int
hash_behind(int fd, const struct head *h, uint8_t digest[SHA256_DIGEST_LENGTH])
{
	off_t from = (off_t)h->size - WINDOW;

	if (from < behind_marker(h))
		from = behind_marker(h);
	return hash_window(fd, from, (off_t)h->size, digest);
}

static void
hash_bytes(const void *p, size_t n, uint8_t digest[SHA256_DIGEST_LENGTH])
{
	SHA2_CTX hash;

	SHA256Init(&hash);
	SHA256Update(&hash, p, n);
	SHA256Final(digest, &hash);
}

static int
sync_state(int state)
{
	return fsync(state) == 0 ? 0 : complain("fsync of the state directory");
}

static int
sync_mailbox(int fd)
{
	return fsync(fd) == 0 ? 0 : complain("fsync of the mailbox");
}

/* Syncs what the journal is going to describe, because programs deliver without a sync. */
static int
sync_deliveries(int fd)
{
	return fdatasync(fd) == 0 ? 0 : complain("fdatasync of the mailbox");
}

/* Begins a new journal file. Returns it open, or -1. */
static int
new_journal(int state)
{
	int fd;

	if (unlinkat(state, TEMPORARY, 0) == -1 && errno != ENOENT)
		return complain("unlinking an old j.tmp");
	fd = openat(state, TEMPORARY, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd != -1 ? fd : complain("creating the journal");
}

/* The hash of the end of D, which ends at this place of the journal or, once written, of the mailbox. */
static int
hash_tail(int fd, off_t end, const struct head *h, uint8_t digest[SHA256_DIGEST_LENGTH])
{
	off_t n = h->kept < WINDOW ? (off_t)h->kept : WINDOW;

	return hash_window(fd, end - n, end, digest);
}

/* Takes the witness from the mailbox, whose head is set. Returns 0, or -1 with errno. */
static int
take_witness(const struct journal_box *b, const struct head *h, struct witness *w)
{
	struct stat st;
	off_t written = (off_t)(h->size - h->from);

	memset(w, 0, sizeof(*w));
	if (b->dir != -1 && fstat(b->dir, &st) == -1)
		return -1;
	w->directory = b->dir != -1 ? (uint64_t)st.st_ino : 0;
	w->front_size = written < FRONT ? (uint32_t)written : FRONT;
	w->back_size = written < BACK ? (uint32_t)written : BACK;
	if (file_read(b->fd, w->front, w->front_size, (off_t)h->from) == -1 ||
	    file_read(b->fd, w->back, w->back_size, (off_t)h->size - w->back_size) == -1)
		return -1;
	hash_bytes(w, offsetof(struct witness, checksum), w->checksum);
	return 0;
}

/* Puts head and witness before the D that jfd contains already. from, kept and size are set. */
static int
write_head(const struct journal_box *b, int jfd, struct head *h)
{
	struct witness w;
	struct stat st;
	off_t gap = (off_t)h->size - new_size(h);

	if (fstat(b->fd, &st) == -1)
		return -1;
	memcpy(h->magic, MAGIC, sizeof(h->magic));
	h->inode = (uint64_t)st.st_ino;
	h->marker_size = gap < MARKER ? (uint64_t)gap : MARKER;
	arc4random_buf(h->marker, sizeof(h->marker));
	h->marker[0] = '\0';
	if (hash_before(b->fd, h, h->before) == -1 ||
	    hash_behind(b->fd, h, h->behind) == -1 ||
	    hash_tail(jfd, HEAD + (off_t)h->kept, h, h->tail) == -1 ||
	    take_witness(b, h, &w) == -1)
		return -1;
	hash_bytes(h, offsetof(struct head, checksum), h->checksum);
	/* An empty D leaves the file shorter than its head. */
	if (h->kept == 0 && ftruncate(jfd, HEAD) == -1)
		return -1;
	return file_write(jfd, &w, sizeof(w), WITNESS_AT) == -1 ||
	    file_write(jfd, h, sizeof(*h), 0) == -1 ? -1 : 0;
}

/* Ends step 1. A journal that cannot be made whole is taken away; nothing is decided then. */
static int
decide(const struct journal_box *b, int jfd, struct head *h)
{
	if (write_head(b, jfd, h) == -1 || fsync(jfd) == -1) {
		complain("writing the journal");
		unlinkat(b->state, TEMPORARY, 0);
		return -1;
	}
	if (renameat(b->state, TEMPORARY, b->state, DECIDED) == -1) {
		complain("renaming the journal");
		unlinkat(b->state, TEMPORARY, 0);
		return -1;
	}
	return 0;
}

/* Returns true if a head that was read belongs to a journal file of this size. */
static bool
is_sound(const struct head *h, off_t file_size)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];

	hash_bytes(h, offsetof(struct head, checksum), digest);
	return (memcmp(h->magic, MAGIC, sizeof(h->magic)) == 0 ||
		   memcmp(h->magic, MAGIC_1, sizeof(h->magic)) == 0) &&
	    memcmp(digest, h->checksum, sizeof(digest)) == 0 &&
	    h->from >= 0 && h->kept >= 0 && h->kept == file_size - HEAD &&
	    h->marker_size > 0 && h->marker_size <= MARKER &&
	    h->size <= INT64_MAX - h->kept - MARKER &&
	    h->from <= h->size - h->kept - (int64_t)h->marker_size;
}

/* Returns true if a witness that was read belongs to this head. */
static bool
is_sound_witness(const struct witness *w, const struct head *h)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];

	hash_bytes(w, offsetof(struct witness, checksum), digest);
	return memcmp(digest, w->checksum, sizeof(digest)) == 0 &&
	    w->front_size <= FRONT && w->back_size <= BACK &&
	    w->front_size <= h->size - h->from && w->back_size <= h->size - h->from;
}

/* Opens a journal and reads what stands before D. Returns 0, DAMAGED if it is none of ours, or -1 (logged). */
static int
open_journal(int state, const char *name, struct journal *j)
{
	uint8_t tail[SHA256_DIGEST_LENGTH];
	struct stat st;

	j->fd = openat(state, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (j->fd == -1 && (errno == ELOOP || errno == ENXIO))
		return DAMAGED;
	if (j->fd == -1 || fstat(j->fd, &st) == -1)
		return complain("opening the journal");
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_size < HEAD)
		return DAMAGED;
	if (file_read(j->fd, &j->h, sizeof(j->h), 0) == -1 ||
	    file_read(j->fd, &j->w, sizeof(j->w), WITNESS_AT) == -1)
		return complain("reading the journal");
	if (!is_sound(&j->h, st.st_size))
		return DAMAGED;
	if (memcmp(j->h.magic, MAGIC_1, sizeof(j->h.magic)) == 0)
		memset(&j->w, 0, sizeof(j->w));
	else if (!is_sound_witness(&j->w, &j->h))
		return DAMAGED;
	/* Otherwise a disk that has damaged D would damage the mailbox, too. */
	if (hash_tail(j->fd, st.st_size, &j->h, tail) == -1)
		return complain("reading the journal");
	return memcmp(tail, j->h.tail, sizeof(tail)) == 0 ? 0 : DAMAGED;
}

/* An error to look is no proof of absence. */
static bool
exists(int state, const char *name)
{
	return faccessat(state, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
	    errno != ENOENT;
}

/* Keeps what cannot be used for a person to look at. Returns 1, as what finishes a step, or -1. */
static int
set_aside(int state, const char *name, const char *why)
{
	char rescue[64];

	/* With the name, or of two in one second the second would take the first one's place. */
	snprintf(rescue, sizeof(rescue), "rescue.%lld.%ld.%s",
	    (long long)time(NULL), (long)getpid(), name);
	if (renameat(state, name, state, rescue) == -1)
		return complain("setting the journal aside");
	log_event(LOG_ERR, "rescue", "file=%s reason=\"%s\"", rescue, why);
	return sync_state(state) == 0 ? 1 : -1;
}

/* Step 4, once the mailbox is known not to have grown. */
static int
cut(const struct journal_box *b, const struct head *h)
{
	if (ftruncate(b->fd, new_size(h)) == -1)
		return complain("cutting the mailbox");
	if (sync_mailbox(b->fd) == -1)
		return -1;
	/* Needs no fsync: a j.cut that comes back finds no marker, and goes. */
	if (unlinkat(b->state, CUT, 0) == -1)
		return complain("unlinking the journal");
	return 0;
}

/* Does steps 2 and 3. */
static int
apply(const struct journal_box *b, const struct journal *j)
{
	const struct head *h = &j->h;

	if (copy(j->fd, HEAD, b->fd, (off_t)h->from, (off_t)h->kept) == -1 ||
	    file_write(b->fd, h->marker, (size_t)h->marker_size, new_size(h)) == -1)
		return complain("writing the mailbox");
	if (sync_mailbox(b->fd) == -1)
		return -1;
	if (renameat(b->state, DECIDED, b->state, CUT) == -1)
		return complain("renaming the journal");
	return sync_state(b->state);
}

/*
 * Replaces the journal by one that also takes in the mail which arrived behind
 * S: D is what jfd contains (or nothing, -1) and then the mailbox from S on.
 * The head's from, kept and size are changed accordingly.
 */
static int
extend(const struct journal_box *b, int jfd, struct head *h, off_t size)
{
	off_t more = size - (off_t)h->size;
	int new;

	if (sync_deliveries(b->fd) == -1 || (new = new_journal(b->state)) == -1)
		return -1;
	if (jfd == -1) {
		h->from += h->kept;
		h->kept = 0;
	}
	if ((jfd != -1 && copy(jfd, HEAD, new, HEAD, (off_t)h->kept) == -1) ||
	    copy(b->fd, (off_t)h->size, new, HEAD + (off_t)h->kept, more) == -1) {
		complain("writing the journal");
		unlinkat(b->state, TEMPORARY, 0);
		close(new);
		return -1;
	}
	h->kept += more;
	h->size = size;
	if (decide(b, new, h) == -1 || sync_state(b->state) == -1) {
		close(new);
		return -1;
	}
	close(new);
	log_event(LOG_NOTICE, "recovery", "new_mail=%lld", (long long)more);
	return 0;
}

/* Returns what apply puts at this place of the mailbox, or -1 if it leaves that place alone; d is the byte of D there. */
static int
new_byte(const struct head *h, off_t at, char d)
{
	if (at < new_size(h))
		return (unsigned char)d;
	return at < behind_marker(h) ? h->marker[at - new_size(h)] : -1;
}

/*
 * Compares n bytes of the mailbox at this place with those that stood there:
 * each has to be the old byte or the one that apply puts there. Returns 1, 0,
 * or -1 with errno.
 */
static int
is_witnessed(int fd, const struct journal *j, const char *old, size_t n, off_t at)
{
	char there[BACK], d[BACK];
	off_t in_d = new_size(&j->h) - at;

	in_d = in_d < 0 ? 0 : in_d > (off_t)n ? (off_t)n : in_d;
	if (file_read(fd, there, n, at) == -1 ||
	    file_read(j->fd, d, (size_t)in_d, HEAD + at - (off_t)j->h.from) == -1)
		return -1;
	memset(d + in_d, 0, n - (size_t)in_d);
	for (size_t i = 0; i < n; i++)
		if (there[i] != old[i] && (unsigned char)there[i] != new_byte(&j->h, at + (off_t)i, d[i]))
			return 0;
	return 1;
}

/* Returns whether the mailbox is the one that a journal in the state "j" was made for, or MATCH_ERROR (logged). */
static enum match
match_decided(const struct journal_box *b, const struct journal *j, const struct stat *st)
{
	const struct head *h = &j->h;
	const struct witness *w = &j->w;
	uint8_t before[SHA256_DIGEST_LENGTH], behind[SHA256_DIGEST_LENGTH];
	int front, back;

	/* Without a witness the hashes may cover nothing. */
	if (st->st_size < h->size || (w->back_size == 0 && h->inode != (uint64_t)st->st_ino))
		return MATCH_NONE;
	if (hash_before(b->fd, h, before) == -1 || hash_behind(b->fd, h, behind) == -1 ||
	    (front = is_witnessed(b->fd, j, w->front, w->front_size, (off_t)h->from)) == -1 ||
	    (back = is_witnessed(b->fd, j, w->back, w->back_size, (off_t)h->size - w->back_size)) == -1)
		return (enum match)complain("reading the mailbox");
	return front == 1 && back == 1 && memcmp(before, h->before, sizeof(before)) == 0 &&
	    memcmp(behind, h->behind, sizeof(behind)) == 0 ? MATCH_HERE : MATCH_NONE;
}

/*
 * Returns whether D stands in its place in the mailbox, after what was never
 * written, and whether the rest behind D is still there (MATCH_HERE) or has
 * been cut (MATCH_DONE); or MATCH_ERROR (logged). Zeros count as the marker,
 * because a cut that the disk has seen only half may have cleared the rest of
 * its block and left the size.
 */
static enum match
match_cut(const struct journal_box *b, const struct head *h, const struct stat *st)
{
	uint8_t there[MARKER], before[SHA256_DIGEST_LENGTH], tail[SHA256_DIGEST_LENGTH];

	if (st->st_size < new_size(h))
		return MATCH_NONE;
	if (hash_before(b->fd, h, before) == -1 || hash_tail(b->fd, new_size(h), h, tail) == -1)
		return (enum match)complain("reading the mailbox");
	if (memcmp(before, h->before, sizeof(before)) != 0 || memcmp(tail, h->tail, sizeof(tail)) != 0)
		return MATCH_NONE;
	if (st->st_size < h->size)
		return MATCH_DONE;
	if (file_read(b->fd, there, (size_t)h->marker_size, new_size(h)) == -1)
		return (enum match)complain("reading the mailbox");
	for (size_t i = 0; i < h->marker_size; i++)
		if (there[i] != h->marker[i] && there[i] != 0)
			return MATCH_DONE;
	return MATCH_HERE;
}

/*
 * Decides about a journal that does not fit the mailbox. If the mailbox is in
 * another directory than it was, the file system of the spool may not be
 * mounted: the journal stays. Otherwise it is set aside. Returns as
 * finish_decided.
 */
static int
give_up(const struct journal_box *b, const char *name, const struct journal *j)
{
	struct stat st;

	if (j->w.directory != 0 && b->dir != -1) {
		if (fstat(b->dir, &st) == -1)
			return complain("fstat of the mailbox's directory");
		if ((uint64_t)st.st_ino != j->w.directory) {
			log_event(LOG_ERR, "failed", "what=\"finishing a removal\" error=\"the mailbox is not the one "
			    "that it began in, and its directory is another one: is the file system mounted?\"");
			return -1;
		}
	}
	return set_aside(b->state, name, "another program rewrote the mailbox");
}

/* Takes a journal that cannot be opened or is damaged (result) out of the way. Returns as finish_decided. */
static int
set_damaged_aside(const struct journal_box *b, const char *name, int result)
{
	return result == DAMAGED ? set_aside(b->state, name, "damaged journal") : -1;
}

/* Goes on in the state "j": nothing has been cut. Returns 0 when one step nearer to the end, 1 if the journal was set aside, or -1. */
static int
finish_decided(const struct journal_box *b)
{
	struct journal j;
	struct stat st;
	int result = open_journal(b->state, DECIDED, &j);

	if (result != 0) {
		result = set_damaged_aside(b, DECIDED, result);
	} else if (fstat(b->fd, &st) == -1) {
		result = complain("fstat of the mailbox");
	} else
		switch (match_decided(b, &j, &st)) {
		case MATCH_HERE:
			result = st.st_size > j.h.size ? extend(b, j.fd, &j.h, st.st_size) : apply(b, &j);
			break;
		case MATCH_NONE:
			result = give_up(b, DECIDED, &j);
			break;
		default:
			result = -1;
		}
	close(j.fd);
	return result;
}

/* Ends the state "j.cut" in which everything has happened. Returns 0 or -1. */
static int
forget_cut(const struct journal_box *b)
{
	/* The process that cut the mailbox may have been killed before its fsync, or the fsync failed. */
	if (sync_mailbox(b->fd) == -1)
		return -1;
	return unlinkat(b->state, CUT, 0) == 0 ? 0 : complain("unlinking the journal");
}

/* Goes on in the state "j.cut": D is in its place, the cut may be missing. Returns as finish_decided. */
static int
finish_cut(const struct journal_box *b)
{
	struct journal j;
	struct stat st;
	int result = open_journal(b->state, CUT, &j);

	close(j.fd);
	if (result != 0)
		return set_damaged_aside(b, CUT, result);
	if (fstat(b->fd, &st) == -1)
		return complain("fstat of the mailbox");
	switch (match_cut(b, &j.h, &st)) {
	case MATCH_HERE:
		/* A new j comes first while the old j.cut is still there; step 3 replaces it. */
		return st.st_size > j.h.size ? extend(b, -1, &j.h, st.st_size) : cut(b, &j.h);
	case MATCH_DONE:
		return forget_cut(b);
	case MATCH_NONE:
		return give_up(b, CUT, &j);
	default:
		return -1;
	}
}

bool
journal_pending(int state)
{
	return exists(state, DECIDED) || exists(state, CUT) ||
	    exists(state, TEMPORARY);
}

/* Moves one journal. Returns 0, or -1 (logged). */
static int
move_journal(int from, int state, const char *name)
{
	if (renameat(from, name, state, name) == -1)
		return complain("taking over a journal");
	return sync_state(state) == -1 || sync_state(from) == -1 ? -1 : 0;
}

/* Opens a journal of the directory from. Returns as open_journal, with j->fd closed. */
static int
look_at_journal(int from, const char *name, struct journal *j)
{
	int result = open_journal(from, name, j);

	if (j->fd != -1)
		close(j->fd);
	return result;
}

/* Moves one journal of an earlier version, if it is to be. */
static int
adopt_one(int from, int state, ino_t inode, const char *name)
{
	struct journal j;
	int result;

	if (!exists(from, name) || exists(state, name))
		return 0;
	result = look_at_journal(from, name, &j);
	if (result == -1)
		return -1;
	if (result == 0 && j.h.inode != (uint64_t)inode)
		return 0;
	return move_journal(from, state, name);
}

int
journal_adopt(int from, int state, ino_t inode)
{
	return adopt_one(from, state, inode, DECIDED) == -1 ||
	    adopt_one(from, state, inode, CUT) == -1 ? -1 : 0;
}

bool
journal_is_of(int from, ino_t inode)
{
	struct journal j;

	return (exists(from, DECIDED) && look_at_journal(from, DECIDED, &j) == 0 && j.h.inode == (uint64_t)inode) ||
	    (exists(from, CUT) && look_at_journal(from, CUT, &j) == 0 && j.h.inode == (uint64_t)inode);
}

/* Moves one journal if its inode and its bytes are the mailbox's. A copy of the mailbox has another inode. */
static int
follow_one(int from, const struct journal_box *b, const char *name)
{
	enum match match = MATCH_NONE;
	struct journal j;
	struct stat st;
	int result;

	if (!exists(from, name) || exists(b->state, name))
		return 0;
	if (fstat(b->fd, &st) == -1)
		return complain("fstat of the mailbox");
	result = open_journal(from, name, &j);
	if (result == 0 && j.h.inode == (uint64_t)st.st_ino)
		match = strcmp(name, CUT) == 0 ? match_cut(b, &j.h, &st) : match_decided(b, &j, &st);
	if (j.fd != -1)
		close(j.fd);
	if (result == -1 || match == MATCH_ERROR)
		return -1;
	return match != MATCH_NONE ? move_journal(from, b->state, name) : 0;
}

int
journal_follow(int from, const struct journal_box *b)
{
	return follow_one(from, b, DECIDED) == -1 || follow_one(from, b, CUT) == -1 ? -1 : 0;
}

/*
 * Goes on until no journal is left. This ends because a mailbox under lock grows
 * only by writers that ignore locks. Returns 0, 1 if a journal was set aside, or -1.
 */
static int
finish_all(const struct journal_box *b)
{
	int aside = 0;

	for (int steps = 0; steps < 16; steps++) {
		int step;

		if (exists(b->state, DECIDED))
			step = finish_decided(b);
		else if (exists(b->state, CUT))
			step = finish_cut(b);
		else
			return aside;
		if (step == -1)
			return -1;
		aside |= step;
	}
	log_event(LOG_ERR, "failed", "what=\"removing messages\" "
	    "error=\"the mailbox grows while it is locked\"");
	return -1;
}

int
journal_recover(const struct journal_box *b)
{
	bool begun = exists(b->state, DECIDED) || exists(b->state, CUT);

	if (unlinkat(b->state, TEMPORARY, 0) == -1 && errno != ENOENT)
		return complain("unlinking an old j.tmp");
	if (!begun)
		return 0;
	log_event(LOG_NOTICE, "recovery", "state=%s",
	    exists(b->state, DECIDED) ? DECIDED : CUT);
	if (b->fd == -1) {
		log_event(LOG_ERR, "failed", "what=\"finishing a removal\" "
		    "error=\"there is no mailbox: is its file system mounted?\"");
		return -1;
	}
	/* The process that renamed the journal may have died before it synced the directory. The disk could then
	 * still have the old name, under which recovery discards the journal. So sync before writing to the mailbox. */
	if (sync_state(b->state) == -1)
		return -1;
	return finish_all(b);
}

/*
 * Cuts without a journal: when nothing stays, or when nothing stays behind and
 * there is no space for a journal. In the second case a power failure at this very
 * moment may leave remains of the removed messages behind the last one; a
 * mailbox on a full disk that cannot be emptied would be worse.
 */
static enum journal_result
cut_plainly(int fd, off_t from)
{
	if (ftruncate(fd, from) == -1) {
		complain("cutting the mailbox");
		return JOURNAL_NOTHING;
	}
	return sync_mailbox(fd) == 0 ? JOURNAL_DONE : JOURNAL_LATER;
}

/* Copies what is kept behind the first range into jfd. Returns 0 or -1. */
static int
copy_kept(int fd, int jfd, const struct journal_range *ranges, size_t n,
    struct head *h)
{
	for (size_t i = 0; i < n; i++) {
		off_t from = ranges[i].to;
		off_t to = i + 1 < n ? ranges[i + 1].from : (off_t)h->size;

		if (copy(fd, from, jfd, HEAD + (off_t)h->kept, to - from) == -1)
			return -1;
		h->kept += to - from;
	}
	return 0;
}

static void
check_ranges(const struct journal_range *ranges, size_t n, off_t size)
{
	off_t at = 0;

	errno = EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (ranges[i].from < at || ranges[i].to <= ranges[i].from ||
		    ranges[i].to > size)
			fatal("ranges to remove");
		at = ranges[i].to;
	}
}

/* Step 1: a whole journal in its place. Returns JOURNAL_DONE when it is decided for certain. */
static enum journal_result
begin(const struct journal_box *b, const struct journal_range *ranges, size_t n, off_t size)
{
	struct head h = { .from = ranges[0].from, .size = size };
	int jfd;

	if (sync_deliveries(b->fd) == -1 || (jfd = new_journal(b->state)) == -1)
		return JOURNAL_NOTHING;
	if (copy_kept(b->fd, jfd, ranges, n, &h) == -1) {
		complain("writing the journal");
		unlinkat(b->state, TEMPORARY, 0);
		close(jfd);
		return JOURNAL_NOTHING;
	}
	if (decide(b, jfd, &h) == -1) {
		close(jfd);
		return JOURNAL_NOTHING;
	}
	/* Left open, or the client would wait at the unlink until its space is given back; now that is when we have ended. */
	return sync_state(b->state) == 0 ? JOURNAL_DONE : JOURNAL_LATER;
}

enum journal_result
journal_remove(const struct journal_box *b, const struct journal_range *ranges, size_t n)
{
	enum journal_result result;
	struct stat st;
	off_t removed = 0;

	if (n == 0)
		return JOURNAL_DONE;
	if (fstat(b->fd, &st) == -1) {
		complain("fstat of the mailbox");
		return JOURNAL_NOTHING;
	}
	check_ranges(ranges, n, st.st_size);
	for (size_t i = 0; i < n; i++)
		removed += ranges[i].to - ranges[i].from;
	if (removed == st.st_size)
		return cut_plainly(b->fd, 0);
	result = begin(b, ranges, n, st.st_size);
	if (result == JOURNAL_NOTHING && ranges[0].from + removed == st.st_size)
		return cut_plainly(b->fd, ranges[0].from);
	if (result != JOURNAL_DONE)
		return result;
	switch (finish_all(b)) {
	case 0:
		return JOURNAL_DONE;
	case 1:
		return JOURNAL_NOTHING;
	default:
		return JOURNAL_LATER;
	}
}
