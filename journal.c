/*
 * Makes the removal of messages survive any crash: the redo journal and its recovery.
 *
 * Runs as the owner of the mailbox, with the mailbox locked for writing and
 * the session's lock held: nobody else is in the state directory but the user
 * himself, whose forgeries can only hurt the user.
 *
 * Let P be where the first removed octet stands, S the mailbox' size, D the
 * octets kept behind P. The mailbox becomes [0,P) D. [0,P) is never written.
 *
 *	1  j.tmp := a head and D; fsync; rename to j; fsync the directory.
 *	   From here on the removal is decided.
 *	2  write D at P, behind it a marker: random octets, the first a NUL;
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
 * A head also holds hashes of the 64 KiB before P, of the last 64 KiB of D and
 * of the last 64 KiB of what will be cut. If they or the inode do not fit, another program has
 * rewritten the mailbox; then j is kept as rescue.TIME for a person to look
 * at, and the mailbox is served as it is.
 *
 * A failed fsync is final: the page cache no longer tells what the disk has.
 * The process stops, the journal stays, the next recovery writes everything
 * again.
 *
 * The device number is not compared: it may change with a reboot, which is
 * the very moment when this is needed.
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
#include "journal.h"
#include "log.h"

#define TEMPORARY "j.tmp"
#define DECIDED "j"
#define CUT "j.cut"
#define DAMAGED (-2)

#define MAGIC "kpopd j1"
#define MARKER 16
#define WINDOW ((off_t)64 << 10) /* octets hashed on either side */
#define HEAD 4096 /* octets before D in the file: blocks stay aligned */
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
 * Copies n octets between two files. The disk is given a piece while the next
 * is copied, so that fsync has less to wait for. Not by copy_file_range: what
 * it does to octets that stand differently in their blocks is slower.
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
checksum(const struct head *h, uint8_t digest[SHA256_DIGEST_LENGTH])
{
	SHA2_CTX hash;

	SHA256Init(&hash);
	SHA256Update(&hash, (const uint8_t *)h, offsetof(struct head, checksum));
	SHA256Final(digest, &hash);
}

static int
sync_state(int state)
{
	return fsync(state) == 0 ? 0 : complain("fsync of the state directory");
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

/* Puts a head before the D that jfd holds already. from, kept and size are set. */
static int
write_head(int fd, int jfd, struct head *h)
{
	struct stat st;
	off_t gap = (off_t)h->size - new_size(h);

	if (fstat(fd, &st) == -1)
		return -1;
	memcpy(h->magic, MAGIC, sizeof(h->magic));
	h->inode = (uint64_t)st.st_ino;
	h->marker_size = gap < MARKER ? (uint64_t)gap : MARKER;
	arc4random_buf(h->marker, sizeof(h->marker));
	h->marker[0] = '\0';
	if (hash_before(fd, h, h->before) == -1 ||
	    hash_behind(fd, h, h->behind) == -1 ||
	    hash_tail(jfd, HEAD + (off_t)h->kept, h, h->tail) == -1)
		return -1;
	checksum(h, h->checksum);
	/* An empty D leaves the file shorter than its head. */
	if (h->kept == 0 && ftruncate(jfd, HEAD) == -1)
		return -1;
	return file_write(jfd, h, sizeof(*h), 0);
}

/* Step 1's end. A journal that cannot be made whole is taken away; nothing is decided then. */
static int
decide(int state, int fd, int jfd, struct head *h)
{
	if (write_head(fd, jfd, h) == -1 || fsync(jfd) == -1) {
		complain("writing the journal");
		unlinkat(state, TEMPORARY, 0);
		return -1;
	}
	if (renameat(state, TEMPORARY, state, DECIDED) == -1) {
		complain("renaming the journal");
		unlinkat(state, TEMPORARY, 0);
		return -1;
	}
	return 0;
}

/* Whether a head that was read belongs to a journal file of this size. */
static bool
is_sound(const struct head *h, off_t file_size)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];

	checksum(h, digest);
	return memcmp(h->magic, MAGIC, sizeof(h->magic)) == 0 &&
	    memcmp(digest, h->checksum, sizeof(digest)) == 0 &&
	    h->from >= 0 && h->kept >= 0 && h->kept == file_size - HEAD &&
	    h->marker_size > 0 && h->marker_size <= MARKER &&
	    h->size <= INT64_MAX - h->kept - MARKER &&
	    h->from <= h->size - h->kept - (int64_t)h->marker_size;
}

/* Opens a journal and reads its head. Returns it open, DAMAGED when it is none of ours, or -1 (logged). */
static int
open_journal(int state, const char *name, struct head *h)
{
	struct stat st;
	int jfd = openat(state, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (jfd == -1 && (errno == ELOOP || errno == ENXIO))
		return DAMAGED;
	if (jfd == -1 || fstat(jfd, &st) == -1)
		return complain("opening the journal");
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || st.st_size < HEAD)
		return DAMAGED;
	if (file_read(jfd, h, sizeof(*h), 0) == -1)
		return complain("reading the journal");
	return is_sound(h, st.st_size) ? jfd : DAMAGED;
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
cut(int state, int fd, const struct head *h)
{
	if (ftruncate(fd, new_size(h)) == -1)
		return complain("cutting the mailbox");
	if (fsync(fd) == -1)
		return complain("fsync of the mailbox");
	/* Needs no fsync: a j.cut that comes back finds no marker, and goes. */
	if (unlinkat(state, CUT, 0) == -1)
		return complain("unlinking the journal");
	return 0;
}

/* Steps 2 and 3. */
static int
apply(int state, int fd, int jfd, const struct head *h)
{
	if (copy(jfd, HEAD, fd, (off_t)h->from, (off_t)h->kept) == -1 ||
	    file_write(fd, h->marker, h->marker_size, new_size(h)) == -1)
		return complain("writing the mailbox");
	if (fsync(fd) == -1)
		return complain("fsync of the mailbox");
	if (renameat(state, DECIDED, state, CUT) == -1)
		return complain("renaming the journal");
	return sync_state(state);
}

/*
 * Replaces the journal by one that also takes in the mail which arrived behind
 * S: D is what jfd (or nothing, -1) holds and then the mailbox from S on.
 * The head's from, kept and size are changed accordingly.
 */
static int
extend(int state, int fd, int jfd, struct head *h, off_t size)
{
	off_t more = size - (off_t)h->size;
	int new = new_journal(state);

	if (new == -1)
		return -1;
	if (jfd == -1) {
		h->from += h->kept;
		h->kept = 0;
	}
	if ((jfd != -1 && copy(jfd, HEAD, new, HEAD, (off_t)h->kept) == -1) ||
	    copy(fd, (off_t)h->size, new, HEAD + (off_t)h->kept, more) == -1) {
		complain("writing the journal");
		unlinkat(state, TEMPORARY, 0);
		close(new);
		return -1;
	}
	h->kept += more;
	h->size = size;
	if (decide(state, fd, new, h) == -1 || sync_state(state) == -1) {
		close(new);
		return -1;
	}
	close(new);
	log_event(LOG_NOTICE, "recovery", "new_mail=%lld", (long long)more);
	return 0;
}

/* Whether the mailbox is the one that the head was made for: 1, 0, or -1 (logged). */
static int
fits(int fd, const struct head *h, const struct stat *st)
{
	uint8_t before[SHA256_DIGEST_LENGTH], behind[SHA256_DIGEST_LENGTH];

	if (h->inode != (uint64_t)st->st_ino || st->st_size < h->size)
		return 0;
	if (hash_before(fd, h, before) == -1 || hash_behind(fd, h, behind) == -1)
		return complain("reading the mailbox");
	return memcmp(before, h->before, sizeof(before)) == 0 &&
	    memcmp(behind, h->behind, sizeof(behind)) == 0;
}

/*
 * Whether D stands in its place, behind what was never written, and has not
 * been cut off behind: 1, 0, or -1 (logged). Zeros count as the marker: a cut
 * that the disk has seen only half may have cleared the rest of its block and
 * left the size.
 */
static int
is_uncut(int fd, const struct head *h, const struct stat *st)
{
	uint8_t there[MARKER], before[SHA256_DIGEST_LENGTH], tail[SHA256_DIGEST_LENGTH];

	if (st->st_size < h->size)
		return 0;
	if (file_read(fd, there, h->marker_size, new_size(h)) == -1 ||
	    hash_before(fd, h, before) == -1 ||
	    hash_tail(fd, new_size(h), h, tail) == -1)
		return complain("reading the mailbox");
	for (size_t i = 0; i < h->marker_size; i++)
		if (there[i] != h->marker[i] && there[i] != 0)
			return 0;
	return memcmp(before, h->before, sizeof(before)) == 0 &&
	    memcmp(tail, h->tail, sizeof(tail)) == 0;
}

/* The state "j": nothing has been cut. Returns 0 when one step nearer to the end, 1 when there the journal was set aside, or -1. */
static int
finish_decided(int state, int fd)
{
	struct head h;
	struct stat st;
	int same = 0, result, jfd = open_journal(state, DECIDED, &h);

	if (jfd < 0)
		return jfd == DAMAGED ?
		    set_aside(state, DECIDED, "damaged journal") : -1;
	if (fd != -1 && (fstat(fd, &st) == -1 || (same = fits(fd, &h, &st)) == -1))
		return -1;
	if (!same)
		result = set_aside(state, DECIDED, "another program rewrote the mailbox");
	else if (st.st_size > h.size)
		result = extend(state, fd, jfd, &h, st.st_size);
	else
		result = apply(state, fd, jfd, &h);
	close(jfd);
	return result;
}

/* The state "j.cut": all is in its place, the cut may be missing. Returns as finish_decided. */
static int
finish_cut(int state, int fd)
{
	struct head h;
	struct stat st;
	int uncut = 0, jfd = open_journal(state, CUT, &h);

	if (jfd < 0)
		return jfd == DAMAGED ?
		    set_aside(state, CUT, "damaged journal") : -1;
	close(jfd);
	if (fd != -1 && (fstat(fd, &st) == -1 || (uncut = is_uncut(fd, &h, &st)) == -1))
		return -1;
	if (!uncut) {
		/* Who cut it may have been killed before its fsync, or that failed. */
		if (fd != -1 && fsync(fd) == -1)
			return complain("fsync of the mailbox");
		if (unlinkat(state, CUT, 0) == -1)
			return complain("unlinking the journal");
		return 0;
	}
	/* A new j comes first while the old j.cut is still there; step 3 replaces it. */
	return st.st_size > h.size ? extend(state, fd, -1, &h, st.st_size) :
				     cut(state, fd, &h);
}

bool
journal_pending(int state)
{
	return exists(state, DECIDED) || exists(state, CUT) ||
	    exists(state, TEMPORARY);
}

/*
 * Goes on until no journal is left; ends because a mailbox under lock grows only
 * by writers that ignore locks. Returns 0, 1 when a journal was set aside, or -1.
 */
static int
finish_all(int state, int fd)
{
	int aside = 0;

	for (int steps = 0; steps < 16; steps++) {
		int step;

		if (exists(state, DECIDED))
			step = finish_decided(state, fd);
		else if (exists(state, CUT))
			step = finish_cut(state, fd);
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
journal_recover(int state, int fd)
{
	bool begun = exists(state, DECIDED) || exists(state, CUT);

	if (unlinkat(state, TEMPORARY, 0) == -1 && errno != ENOENT)
		return complain("unlinking an old j.tmp");
	if (begun)
		log_event(LOG_NOTICE, "recovery", "state=%s",
		    exists(state, DECIDED) ? DECIDED : CUT);
	/* Who gave it this name may have been killed before its fsync. By the name that the disk has,
	 * nothing may have been decided; what is written from here on would then be nobody's. */
	if (begun && sync_state(state) == -1)
		return -1;
	return finish_all(state, fd) == -1 ? -1 : 0;
}

/*
 * Cuts without a journal: when nothing stays, or when nothing stays behind and
 * there is no space for a journal. In the second case a power cut at this very
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
	if (fsync(fd) == -1) {
		complain("fsync of the mailbox");
		return JOURNAL_LATER;
	}
	return JOURNAL_DONE;
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
begin(int state, int fd, const struct journal_range *ranges, size_t n, off_t size)
{
	struct head h = { .from = ranges[0].from, .size = size };
	int jfd = new_journal(state);

	if (jfd == -1)
		return JOURNAL_NOTHING;
	if (copy_kept(fd, jfd, ranges, n, &h) == -1) {
		complain("writing the journal");
		unlinkat(state, TEMPORARY, 0);
		close(jfd);
		return JOURNAL_NOTHING;
	}
	if (decide(state, fd, jfd, &h) == -1) {
		close(jfd);
		return JOURNAL_NOTHING;
	}
	/* Left open, or the client would wait at the unlink until its space is given back; now that is when we have ended. */
	return sync_state(state) == 0 ? JOURNAL_DONE : JOURNAL_LATER;
}

enum journal_result
journal_remove(int state, int fd, const struct journal_range *ranges, size_t n)
{
	enum journal_result result;
	struct stat st;
	off_t removed = 0;

	if (n == 0)
		return JOURNAL_DONE;
	if (fstat(fd, &st) == -1) {
		complain("fstat of the mailbox");
		return JOURNAL_NOTHING;
	}
	check_ranges(ranges, n, st.st_size);
	for (size_t i = 0; i < n; i++)
		removed += ranges[i].to - ranges[i].from;
	if (removed == st.st_size)
		return cut_plainly(fd, 0);
	result = begin(state, fd, ranges, n, st.st_size);
	if (result == JOURNAL_NOTHING && ranges[0].from + removed == st.st_size)
		return cut_plainly(fd, ranges[0].from);
	if (result != JOURNAL_DONE)
		return result;
	switch (finish_all(state, fd)) {
	case 0:
		return JOURNAL_DONE;
	case 1:
		return JOURNAL_NOTHING;
	default:
		return JOURNAL_LATER;
	}
}
