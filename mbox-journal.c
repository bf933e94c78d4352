/*
 * Writes, reads and checks the journal file of a removal.
 *
 * Runs as the owner of the mailbox: in the session, and in the recovery after a
 * crash. The mailbox is locked for writing, except in redo_follow, which only
 * compares and moves journals. The session lock is held, so no other session
 * uses the state directory. Only late calls of a host that has lost its locks
 * may change names there (mbox-journal-names.c). The user can forge a journal,
 * but a forged journal can change only the user's own mailbox.
 *
 * The removal
 *
 * Let P be the offset of the first byte that is removed, S the size of the
 * mailbox, and D the bytes after P that are kept. After the removal the mailbox
 * consists of [0,P) and D. The bytes [0,P) are never written. mbox-ranges.c
 * does steps 0 to 2. mbox-redo.c does steps 3 to 6, and repeats them in the
 * recovery after a crash.
 *
 *	step                                      the state after it
 *
 *	0  fdatasync the mailbox                  nothing has happened
 *	1  write j.tmp: head, witness and D;      nothing has happened
 *	   fsync it
 *	2  rename j.tmp to j; fsync the           decided: after any crash the
 *	   directory                              recovery finishes the removal
 *	3  write D at P and a marker after it;    still decided
 *	   fsync the mailbox
 *	4  rename j to j.cut; fsync the           D is in its place and on the
 *	   directory                              disk
 *	5  unless the mailbox has grown:          truncated
 *	   truncate it after D; fsync it
 *	6  unlink j.cut                           finished
 *
 * The marker is a NUL and up to 15 random bytes. While the marker follows D,
 * step 5 has not happened.
 *
 * The states after a crash, and the recovery
 *
 *	j.tmp  Nothing has happened. The file is unlinked.
 *	j      The mailbox has not been truncated. [0,P) and everything from S
 *	       on are unchanged. Each byte of [P,S) has its old value or the
 *	       value that step 3 writes there. The recovery does steps 3 to 6.
 *	       It may do them any number of times, because the result is always
 *	       the same.
 *	j.cut  [0,P) and D are on the disk. If the marker or zeros follow D,
 *	       the recovery truncates the mailbox. If other bytes or no bytes
 *	       follow D, the mailbox has already been truncated, and the other
 *	       bytes are mail that a program has appended since. Such mail
 *	       begins with "F" or a line end, never with a NUL. Zeros count as
 *	       the marker, because a crash within the truncation may leave the
 *	       old size, but zeros in the rest of a block.
 *
 * If new mail has arrived after S, the recovery makes a new journal before it
 * writes to the mailbox. In the state j the new D consists of the old D and the
 * new mail. In the state j.cut the old D is already in its place, so the new D
 * is only the new mail.
 *
 * The proof that a journal is of this mailbox
 *
 * Before the recovery writes, it compares the mailbox with the journal:
 *
 *	j      a hash of the last 64 KiB before P; a hash of the last 64 KiB
 *	       before S, but of no byte before the end of the marker; the
 *	       witness: up to 1 KiB that was at P, and up to 2 KiB that was
 *	       before S
 *	j.cut  a hash of the last 64 KiB before P; a hash of the last 64 KiB of
 *	       D, which must be in its place in the mailbox
 *
 * Only the removal writes to [P,S) while the mailbox is locked. So after a
 * crash each byte that the witness covers has its old value or the value that
 * step 3 writes there. If another program has rewritten the mailbox, at least
 * one of these bytes has a third value. If all hashes and the witness fit, the
 * journal is of this mailbox. The inode and device may differ, because the
 * mailbox may have been restored or moved to another disk. Only a journal of
 * version 1, which has no witness, must contain the inode of the mailbox, and
 * only in the state j.
 *
 * If the mailbox is absent, the file system of the spool may not be mounted. So
 * the journal stays, and the mailbox is not served. The journal also stays if
 * it does not fit and the mailbox's directory differs from the directory in the
 * witness. If the journal does not fit and the directory is the same, another
 * program has rewritten the mailbox. In this case the journal is renamed to
 * rescue.TIME.PID.NAME, so that a person can look at it, and the mailbox is
 * served as it is.
 *
 * After a failed fsync of data the page cache may differ from the disk, so a
 * second fsync would prove nothing. So if the fsync of step 3 fails, the later
 * steps are not done, the journal stays, and the next recovery writes all bytes
 * of D again.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "log.h"
#include "mbox-journal.h"
#include "volume.h"

#define MAGIC "kpopd j2"
#define MAGIC_1 "kpopd j1"       /* version 1: without a witness */
#define WINDOW ((off_t)64 << 10) /* the most bytes that a hash covers */
#define WITNESS_AT 512           /* offset of the witness in the journal */
#define COPY ((size_t)256 << 10) /* bytes copied at a time */
#define FLUSH ((off_t)8 << 20)   /* bytes given to the disk at a time */

_Static_assert(sizeof(struct journal_head) <= WITNESS_AT &&
	WITNESS_AT + sizeof(struct journal_witness) <= JOURNAL_D,
    "head and witness do not fit before D");

off_t
journal_new_size(const struct journal_head *h)
{
	return (off_t)(h->from + h->kept);
}

/* Returns the offset where the marker ends in the mailbox. */
static off_t
marker_end(const struct journal_head *h)
{
	return journal_new_size(h) + (off_t)h->marker_size;
}

int
journal_failed(const char *what)
{
	int error = errno;

	log_failed("%s", what);
	errno = error;
	return -1;
}

int
journal_discard(const struct journal_box *b, const char *what)
{
	int error = errno;

	journal_failed(what);
	unlinkat(b->state, b->temporary, 0);
	errno = error;
	return -1;
}

/*
 * The kernel writes each FLUSH bytes to the disk while the next bytes are
 * copied, so that fsync takes less time. copy_file_range(2) would be slower,
 * because D begins at a block boundary only in the journal.
 */
int
journal_copy(int from, off_t from_at, int to, off_t to_at, off_t n)
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
		if (to_at - given >= FLUSH) {
			sync_file_range(to, given, to_at - given,
			    SYNC_FILE_RANGE_WRITE);
			given = to_at;
		}
	}
	return 0;
}

/* Computes the SHA-256 of [from, to) of fd. Returns 0, or -1 with errno. */
static int
hash_window(int fd, off_t from, off_t to, uint8_t digest[SHA256_DIGEST_LENGTH])
{
	char piece[4096];
	SHA2_CTX hash;

	SHA256Init(&hash);
	while (from < to) {
		size_t n = sizeof(piece);

		if (to - from < (off_t)n)
			n = (size_t)(to - from);
		if (file_read(fd, piece, n, from) == -1)
			return -1;
		SHA256Update(&hash, (uint8_t *)piece, n);
		from += (off_t)n;
	}
	SHA256Final(digest, &hash);
	return 0;
}

/* Hashes the last bytes before P, which the removal does not change. */
static int
hash_before(int fd, const struct journal_head *h,
    uint8_t digest[SHA256_DIGEST_LENGTH])
{
	off_t from = h->from > WINDOW ? (off_t)h->from - WINDOW : 0;

	return hash_window(fd, from, (off_t)h->from, digest);
}

/* Hashes the last bytes before S, but no byte before the end of the marker. */
static int
hash_after(int fd, const struct journal_head *h,
    uint8_t digest[SHA256_DIGEST_LENGTH])
{
	off_t from = (off_t)h->size - WINDOW;

	if (from < marker_end(h))
		from = marker_end(h);
	return hash_window(fd, from, (off_t)h->size, digest);
}

/* Hashes the last bytes of D, which ends at offset end of the file fd. */
static int
hash_tail(int fd, off_t end, const struct journal_head *h,
    uint8_t digest[SHA256_DIGEST_LENGTH])
{
	off_t n = h->kept < WINDOW ? (off_t)h->kept : WINDOW;

	return hash_window(fd, end - n, end, digest);
}

static void
hash_bytes(const void *p, size_t n, uint8_t digest[SHA256_DIGEST_LENGTH])
{
	SHA2_CTX hash;

	SHA256Init(&hash);
	SHA256Update(&hash, p, n);
	SHA256Final(digest, &hash);
}

int
journal_sync_state(int state)
{
	if (fsync(state) == 0)
		return 0;
	return journal_failed("fsync of the state directory");
}

int
journal_sync_mailbox(int fd)
{
	return fsync(fd) == 0 ? 0 : journal_failed("fsync of the mailbox");
}

int
journal_sync_deliveries(int fd)
{
	if (fdatasync(fd) == 0)
		return 0;
	return journal_failed("fdatasync of the mailbox");
}

int
journal_create(const struct journal_box *b)
{
	int fd;

	if (unlinkat(b->state, b->temporary, 0) == -1 && errno != ENOENT)
		return journal_failed("unlinking an old j.tmp");
	fd = openat(b->state, b->temporary,
	    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd != -1 ?
	    fd :
	    journal_failed("creating the journal in the state directory");
}

/*
 * Reads the witness from the mailbox. The caller has set h->from, h->kept and
 * h->size. Returns 0, or -1 with errno.
 */
static int
take_witness(const struct journal_box *b, const struct journal_head *h,
    struct journal_witness *w)
{
	struct stat st;
	off_t written = (off_t)(h->size - h->from);

	memset(w, 0, sizeof(*w));
	if (b->dir != -1 && fstat(b->dir, &st) == -1)
		return -1;
	w->directory = b->dir != -1 ? (uint64_t)st.st_ino : 0;
	w->front_size =
	    written < JOURNAL_FRONT ? (uint32_t)written : JOURNAL_FRONT;
	w->back_size =
	    written < JOURNAL_BACK ? (uint32_t)written : JOURNAL_BACK;
	if (file_read(b->fd, w->front, w->front_size, (off_t)h->from) == -1 ||
	    file_read(b->fd, w->back, w->back_size,
		(off_t)h->size - w->back_size) == -1)
		return -1;
	hash_bytes(w, offsetof(struct journal_witness, checksum), w->checksum);
	return 0;
}

/*
 * Writes head and witness into the journal jfd, which already contains D. The
 * caller has set h->from, h->kept and h->size. Returns 0, or -1 with errno.
 */
static int
write_head(const struct journal_box *b, int jfd, struct journal_head *h)
{
	struct journal_witness w;
	struct stat st;
	off_t gap = (off_t)h->size - journal_new_size(h);

	if (fstat(b->fd, &st) == -1)
		return -1;
	memcpy(h->magic, MAGIC, sizeof(h->magic));
	h->inode = (uint64_t)st.st_ino;
	h->marker_size = gap < JOURNAL_MARKER ? (uint64_t)gap : JOURNAL_MARKER;
	arc4random_buf(h->marker, sizeof(h->marker));
	h->marker[0] = '\0';
	if (hash_before(b->fd, h, h->before) == -1 ||
	    hash_after(b->fd, h, h->after) == -1 ||
	    hash_tail(jfd, JOURNAL_D + (off_t)h->kept, h, h->tail) == -1 ||
	    take_witness(b, h, &w) == -1)
		return -1;
	hash_bytes(h, offsetof(struct journal_head, checksum), h->checksum);
	/* If D is empty, no write of D has extended the file to JOURNAL_D. */
	if (h->kept == 0 && ftruncate(jfd, JOURNAL_D) == -1)
		return -1;
	if (file_write(jfd, &w, sizeof(w), WITNESS_AT) == -1)
		return -1;
	return file_write(jfd, h, sizeof(*h), 0);
}

int
journal_decide(const struct journal_box *b, int jfd, struct journal_head *h)
{
	if (write_head(b, jfd, h) == -1 || fsync(jfd) == -1)
		return journal_discard(b,
		    "writing the journal in the state directory");
	if (renameat(b->state, b->temporary, b->state, b->decided) == -1)
		return journal_discard(b,
		    "renaming the journal in the state directory");
	return 0;
}

/*
 * Returns true if the head is undamaged and fits a journal file of this size.
 */
static bool
is_sound_head(const struct journal_head *h, off_t file_size)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];

	hash_bytes(h, offsetof(struct journal_head, checksum), digest);
	return (memcmp(h->magic, MAGIC, sizeof(h->magic)) == 0 ||
		   memcmp(h->magic, MAGIC_1, sizeof(h->magic)) == 0) &&
	    memcmp(digest, h->checksum, sizeof(digest)) == 0 && h->from >= 0 &&
	    h->kept >= 0 && h->kept == file_size - JOURNAL_D &&
	    h->marker_size > 0 && h->marker_size <= JOURNAL_MARKER &&
	    h->size <= INT64_MAX - h->kept - JOURNAL_MARKER &&
	    h->from <= h->size - h->kept - (int64_t)h->marker_size;
}

/* Returns true if the witness is undamaged and fits this head. */
static bool
is_sound_witness(const struct journal_witness *w, const struct journal_head *h)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];

	hash_bytes(w, offsetof(struct journal_witness, checksum), digest);
	return memcmp(digest, w->checksum, sizeof(digest)) == 0 &&
	    w->front_size <= JOURNAL_FRONT && w->back_size <= JOURNAL_BACK &&
	    w->front_size <= h->size - h->from &&
	    w->back_size <= h->size - h->from;
}

int
journal_open(int state, const char *name, struct journal *j)
{
	uint8_t tail[SHA256_DIGEST_LENGTH];
	struct stat st;

	j->fd = volume_open(state, name,
	    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (j->fd == -1 && (errno == ELOOP || errno == ENXIO))
		return JOURNAL_DAMAGED;
	if (j->fd == -1 || fstat(j->fd, &st) == -1)
		return journal_failed("opening the journal");
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    st.st_size < JOURNAL_D)
		return JOURNAL_DAMAGED;
	if (file_read(j->fd, &j->head, sizeof(j->head), 0) == -1 ||
	    file_read(j->fd, &j->witness, sizeof(j->witness), WITNESS_AT) == -1)
		return journal_failed("reading the journal");
	if (!is_sound_head(&j->head, st.st_size))
		return JOURNAL_DAMAGED;
	if (memcmp(j->head.magic, MAGIC_1, sizeof(j->head.magic)) == 0)
		memset(&j->witness, 0, sizeof(j->witness));
	else if (!is_sound_witness(&j->witness, &j->head))
		return JOURNAL_DAMAGED;
	/* A damaged D must not get into the mailbox. */
	if (hash_tail(j->fd, st.st_size, &j->head, tail) == -1)
		return journal_failed("reading the journal");
	if (memcmp(tail, j->head.tail, sizeof(tail)) != 0)
		return JOURNAL_DAMAGED;
	return 0;
}

/*
 * Returns the byte that step 3 writes at this offset of the mailbox. Returns -1
 * if step 3 does not write at this offset. d is the byte of D for the offset,
 * if D covers the offset.
 */
static int
new_byte(const struct journal_head *h, off_t at, char d)
{
	if (at < journal_new_size(h))
		return (unsigned char)d;
	if (at < marker_end(h))
		return h->marker[at - journal_new_size(h)];
	return -1;
}

/*
 * Compares n bytes at this offset of the mailbox with the n bytes in `old`,
 * which are from the witness. Returns 1 if each byte of the mailbox has the
 * value in `old` or the value that step 3 writes there. Returns 0 if some byte
 * has another value, or -1 with errno.
 */
static int
compare_witness(int fd, const struct journal *j, const char *old, size_t n,
    off_t at)
{
	const struct journal_head *h = &j->head;
	char there[JOURNAL_BACK], d[JOURNAL_BACK];
	off_t in_d = journal_new_size(h) - at;

	if (in_d < 0)
		in_d = 0;
	else if (in_d > (off_t)n)
		in_d = (off_t)n;
	if (file_read(fd, there, n, at) == -1 ||
	    file_read(j->fd, d, (size_t)in_d,
		JOURNAL_D + at - (off_t)h->from) == -1)
		return -1;
	memset(d + in_d, 0, n - (size_t)in_d);
	for (size_t i = 0; i < n; i++)
		if (there[i] != old[i] &&
		    (unsigned char)there[i] != new_byte(h, at + (off_t)i, d[i]))
			return 0;
	return 1;
}

enum journal_match
journal_match_decided(const struct journal_box *b, const struct journal *j,
    const struct stat *st)
{
	const struct journal_head *h = &j->head;
	const struct journal_witness *w = &j->witness;
	uint8_t before[SHA256_DIGEST_LENGTH], after[SHA256_DIGEST_LENGTH];
	int front, back;

	/*
	 * Without a witness the inodes must be equal, because the hashes may
	 * cover no byte.
	 */
	if (st->st_size < h->size ||
	    (w->back_size == 0 && h->inode != (uint64_t)st->st_ino))
		return MATCH_NONE;
	if (hash_before(b->fd, h, before) == -1 ||
	    hash_after(b->fd, h, after) == -1 ||
	    (front = compare_witness(b->fd, j, w->front, w->front_size,
		 (off_t)h->from)) == -1 ||
	    (back = compare_witness(b->fd, j, w->back, w->back_size,
		 (off_t)h->size - w->back_size)) == -1)
		return (enum journal_match)
		    journal_failed("reading the mailbox");
	if (front != 1 || back != 1 ||
	    memcmp(before, h->before, sizeof(before)) != 0 ||
	    memcmp(after, h->after, sizeof(after)) != 0)
		return MATCH_NONE;
	return MATCH_HERE;
}

enum journal_match
journal_match_written(const struct journal_box *b, const struct journal_head *h,
    const struct stat *st)
{
	uint8_t before[SHA256_DIGEST_LENGTH], tail[SHA256_DIGEST_LENGTH];
	uint8_t there[JOURNAL_MARKER];

	if (st->st_size < journal_new_size(h))
		return MATCH_NONE;
	if (hash_before(b->fd, h, before) == -1 ||
	    hash_tail(b->fd, journal_new_size(h), h, tail) == -1)
		return (enum journal_match)
		    journal_failed("reading the mailbox");
	if (memcmp(before, h->before, sizeof(before)) != 0 ||
	    memcmp(tail, h->tail, sizeof(tail)) != 0)
		return MATCH_NONE;
	if (st->st_size < h->size)
		return MATCH_DONE;
	if (file_read(b->fd, there, (size_t)h->marker_size,
		journal_new_size(h)) == -1)
		return (enum journal_match)
		    journal_failed("reading the mailbox");
	for (size_t i = 0; i < h->marker_size; i++)
		if (there[i] != h->marker[i] && there[i] != 0)
			return MATCH_DONE;
	return MATCH_HERE;
}
