/*
 * Remembers what was found last time: a list of records in the state directory.
 *
 * Runs as the owner of the mailbox, with the session's lock held, so that
 * nobody else writes here but the user himself, whose forgeries can only hurt
 * the user. The list is a cache: that it cannot be read or written costs time
 * and is no error. Whether it still describes the mailbox is for the store to
 * prove, by the note that it keeps with it.
 *
 * The file is a header of one block and blocks of records behind it:
 *
 *	header    magic, kind, bytes of a record, their count, the note, a hash
 *	block     records; in its last 8 bytes a hash of the rest
 *
 * Each hash (XXH3, 64 bits, seeded with the block's number) is looked at
 * before the first use of what it covers: a list that lost its power half
 * written is found out where it is damaged. It is not synced for the same
 * reason. A new list is written to another name and renamed. Records are
 * added to the last block and behind it before the header counts them: a
 * header that does not know them is still true, and where a header is on the
 * disk and the block behind it is not, the record is all zeros, which no store
 * takes for one. Only a record in another's place would leave one that looks
 * true: then the blocks are synced before the header is written.
 *
 * A few blocks are read at a time. The file is not mapped: the user could cut
 * it short under the session, which would be a SIGBUS, and what is mapped and
 * not on the disk yet counts as the session's own memory. A list that is being
 * made, or could not be written, is in memory in the same form.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "file.h"
#include "index.h"
#include "log.h"

#define NAME "index"
#define TEMPORARY "index.tmp"
#define MAGIC UINT64_C(0x31786469646f706b) /* also tells one byte order from the other */
#define BLOCK ((size_t)4096)
#define USABLE (BLOCK - sizeof(uint64_t)) /* of a block, for records */
#define WINDOW 4 /* blocks */

struct header {
	uint64_t magic;
	char kind[8];
	uint64_t record;
	uint64_t count;
	unsigned char note[INDEX_NOTE];
	uint64_t hash; /* of all above */
};

struct index {
	int state;
	int fd;             /* -1: the list is in memory */
	struct header h;
	size_t in_block;    /* records */
	unsigned char *blocks; /* in memory: all; of the file: a window of it */
	size_t room;        /* blocks that fit there */
	size_t first, held; /* the window: its first block, and how many it holds */
	bool replaced;      /* the file has a record in another's place */
	/* The block asked for last: its records, from one to before another. Dividing for each of a million costs. */
	const unsigned char *block;
	size_t from, to;
};

static size_t
blocks_for(const struct index *x, size_t count)
{
	return (count + x->in_block - 1) / x->in_block;
}

static uint64_t
hash_block(const unsigned char *block, size_t number)
{
	return XXH3_64bits_withSeed(block, USABLE, number);
}

static uint64_t
hash_header(const struct header *h)
{
	return XXH3_64bits(h, offsetof(struct header, hash));
}

static struct index *
make(int state, const char *kind, size_t record)
{
	struct index *x = calloc(1, sizeof(*x));

	if (x == NULL)
		fatal("calloc");
	x->state = state;
	x->fd = -1;
	x->h.magic = MAGIC;
	memcpy(x->h.kind, kind, sizeof(x->h.kind));
	x->h.record = record;
	x->in_block = USABLE / record;
	return x;
}

struct index *
index_new(int state, const char *kind, size_t record)
{
	return make(state, kind, record);
}

void
index_free(struct index *x)
{
	if (x == NULL)
		return;
	free(x->blocks);
	if (x->fd != -1)
		close(x->fd);
	free(x);
}

/* Whether a header that was read belongs to a file of this size, and is of this kind. */
static bool
is_sound(const struct header *h, const char *kind, off_t size)
{
	uint64_t blocks = (uint64_t)size / BLOCK;

	return h->magic == MAGIC && h->hash == hash_header(h) &&
	    memcmp(h->kind, kind, sizeof(h->kind)) == 0 && blocks > 0 &&
	    h->record > 0 && h->record <= INDEX_RECORD_MOST &&
	    h->count <= (blocks - 1) * (USABLE / h->record) && h->count <= SIZE_MAX / INDEX_RECORD_MOST;
}

struct index *
index_load(int state, const char *kind)
{
	struct header h;
	struct index *x;
	struct stat st;
	int fd = openat(state, NAME, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd == -1)
		return NULL;
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) || !is_sound(&h, kind, st.st_size)) {
		close(fd);
		return NULL;
	}
	x = make(state, kind, (size_t)h.record);
	x->h = h;
	x->fd = fd;
	return x;
}

size_t
index_count(const struct index *x)
{
	return (size_t)x->h.count;
}

size_t
index_record_size(const struct index *x)
{
	return (size_t)x->h.record;
}

const void *
index_note(const struct index *x)
{
	return x->h.note;
}

/* Room for this many blocks in memory. */
static void
make_room(struct index *x, size_t blocks)
{
	size_t room = x->room == 0 ? WINDOW : x->room;

	while (room < blocks)
		room *= 2;
	if (room == x->room)
		return;
	if ((x->blocks = reallocarray(x->blocks, room, BLOCK)) == NULL)
		fatal("list of %zu blocks", room);
	memset(x->blocks + x->room * BLOCK, 0, (room - x->room) * BLOCK);
	x->room = room;
}

/* Whether a block says what was written to it. */
static bool
is_whole(const unsigned char *block, size_t number)
{
	uint64_t hash;

	memcpy(&hash, block + USABLE, sizeof(hash));
	return hash == hash_block(block, number);
}

/* Returns where this block is in the file; a size_t of 32 bits could not say. */
static off_t
place_of(size_t number)
{
	return ((off_t)number + 1) * (off_t)BLOCK;
}

/* Reads a block of the file. Returns whether it is there and whole. */
static bool
read_block(const struct index *x, size_t number, unsigned char block[BLOCK])
{
	return pread(x->fd, block, BLOCK, place_of(number)) == (ssize_t)BLOCK &&
	    is_whole(block, number);
}

/* Moves the window to this block. Returns whether it is there and whole. */
static bool
show(struct index *x, size_t number)
{
	size_t first = number / WINDOW * WINDOW;
	ssize_t n;

	if (number >= x->first && number < x->first + x->held)
		return true;
	make_room(x, WINDOW);
	x->first = first;
	x->held = 0;
	n = pread(x->fd, x->blocks, WINDOW * BLOCK, place_of(first));
	while (n >= (ssize_t)((x->held + 1) * BLOCK) &&
	    is_whole(x->blocks + x->held * BLOCK, first + x->held))
		x->held++;
	return number < first + x->held;
}

const void *
index_get(struct index *x, size_t i)
{
	size_t number;

	if (i >= x->h.count)
		return NULL;
	if (i < x->from || i >= x->to) {
		number = i / x->in_block;
		x->from = x->to = 0;
		if (x->fd != -1 && !show(x, number))
			return NULL;
		x->block = x->blocks + (number - x->first) * BLOCK;
		x->from = number * x->in_block;
		x->to = x->from + x->in_block;
	}
	return x->block + (i - x->from) * x->h.record;
}

/* What was read from the blocks is old. */
static void
unshow(struct index *x)
{
	x->held = 0;
	x->from = x->to = 0;
}

/* Goes on in memory, with what the file has; the file, now half changed, goes. Damaged records are nonsense then. */
static void
leave_file(struct index *x)
{
	struct index old = *x;

	index_forget(x->state);
	unshow(x);
	x->fd = -1;
	x->first = 0;
	make_room(x, blocks_for(x, index_count(x)));
	for (size_t b = 0; b < blocks_for(x, index_count(x)); b++)
		if (!read_block(&old, b, x->blocks + b * BLOCK))
			memset(x->blocks + b * BLOCK, 0xff, BLOCK);
	close(old.fd);
}

/* Changes the file: the block with this record, hash and all. Returns 0 or -1. */
static int
put_in_file(struct index *x, size_t i, const void *record)
{
	unsigned char block[BLOCK];
	size_t number = i / x->in_block;
	unsigned char *place = block + i % x->in_block * x->h.record;
	uint64_t hash;

	if (!read_block(x, number, block)) {
		if (i % x->in_block > 0 || i < x->h.count)
			return -1;
		memset(block, 0, sizeof(block));
	}
	if (memcmp(place, record, index_record_size(x)) == 0)
		return 0;
	for (size_t k = 0; k < x->h.record && !x->replaced; k++)
		x->replaced = place[k] != 0;
	memcpy(place, record, index_record_size(x));
	hash = hash_block(block, number);
	memcpy(block + USABLE, &hash, sizeof(hash));
	return pwrite(x->fd, block, BLOCK, place_of(number)) == (ssize_t)BLOCK ? 0 : -1;
}

void
index_put(struct index *x, size_t i, const void *record)
{
	unshow(x);
	if (x->fd != -1 && put_in_file(x, i, record) == -1)
		leave_file(x);
	if (x->fd == -1) {
		make_room(x, i / x->in_block + 1);
		memcpy(x->blocks + i / x->in_block * BLOCK + i % x->in_block * index_record_size(x),
		    record, index_record_size(x));
	}
	if (i == x->h.count)
		x->h.count++;
}

void
index_truncate(struct index *x, size_t count)
{
	x->h.count = count;
}

static int
write_header(int fd, const struct header *h)
{
	unsigned char block[BLOCK] = { 0 };

	memcpy(block, h, sizeof(*h));
	return file_write(fd, block, BLOCK, 0);
}

/* Writes the list from memory to a new file and goes on there. Returns 0, or -1: it stays in memory. */
static int
move_to_file(struct index *x)
{
	size_t n = blocks_for(x, index_count(x));
	int fd;

	for (size_t b = 0; b < n; b++) {
		uint64_t hash = hash_block(x->blocks + b * BLOCK, b);

		memcpy(x->blocks + b * BLOCK + USABLE, &hash, sizeof(hash));
	}
	unlinkat(x->state, TEMPORARY, 0);
	fd = openat(x->state, TEMPORARY, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1)
		return -1;
	if (file_write(fd, x->blocks, n * BLOCK, BLOCK) == -1 || write_header(fd, &x->h) == -1 ||
	    renameat(x->state, TEMPORARY, x->state, NAME) == -1) {
		unlinkat(x->state, TEMPORARY, 0);
		close(fd);
		return -1;
	}
	free(x->blocks);
	x->blocks = NULL;
	x->room = 0;
	unshow(x);
	x->fd = fd;
	return 0;
}

void
index_save(struct index *x, const void *note, size_t n)
{
	memset(x->h.note, 0, sizeof(x->h.note));
	memcpy(x->h.note, note, n);
	x->h.hash = hash_header(&x->h);
	if (x->fd == -1) {
		if (move_to_file(x) == -1)
			index_forget(x->state);
		return;
	}
	if ((x->replaced && fdatasync(x->fd) == -1) || write_header(x->fd, &x->h) == -1)
		leave_file(x);
	x->replaced = false;
}

void
index_forget(int state)
{
	unlinkat(state, NAME, 0);
}
