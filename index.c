/*
 * Keeps a list of records in the state directory from one session to the next.
 *
 * Runs in the session, as the owner of the mailbox, with the session lock held.
 * So apart from this process only the user can write to the file, and a forged
 * list harms only that user. The list is a cache. If it cannot be read or
 * written, that costs only time and is not an error. The mailbox format saves a
 * note with the list. By the note, a later session can prove that the list
 * still describes the mailbox.
 *
 * The file consists of a header, which is one block, and blocks of records:
 *
 *	header    magic, kind, size of a record, count of records, note, hash
 *	block     records; a hash of the rest in its last 8 bytes
 *
 * The hashes are XXH3 of 64 bits. The hash of a block of records is seeded with
 * the block's number. The hash of a block is checked before the block is used.
 * So damage by a power failure is detected, and the file need not be synced.
 *
 * A new list is written under another name and renamed. To add records, first
 * the last block and new blocks are written, then the header with the new
 * count. After a power failure the disk may have only some of these writes:
 *
 *	- The old header does not count the new records, and is still true.
 *	- If the disk has the new header but lacks a new block, the size of the
 *	  file or the hash of the block is wrong.
 *	- If the disk has the new header but the old version of the last block,
 *	  the hash of that version is right. That version has zeros in the
 *	  places of the new records. No format takes zeros for a record.
 *	- If a record replaces another one, both versions look valid. Therefore
 *	  in this case the blocks are synced before the header is written.
 *
 * On a shared file system a list is never changed in place. It is written to a
 * new file, which is synced, so that other hosts read all of it or none.
 *
 * A few blocks are read at a time. The file is not mapped, because the user
 * could truncate it during the session, which would raise SIGBUS. Also, mapped
 * pages that are not on the disk yet count as memory of the session. A list
 * that is new, detached, or cannot be written, is kept in memory in the same
 * form.
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
#include "volume.h"

#define NAME "index"
#define TEMPORARY "index.tmp"
/*
 * A machine with the other byte order reads a different number and does not use
 * the file.
 */
#define MAGIC UINT64_C(0x31786469646f706b)
#define BLOCK ((size_t)4096)
#define USABLE (BLOCK - sizeof(uint64_t)) /* bytes of a block for records */
#define WINDOW 4                          /* blocks that are read at a time */

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
	int fd; /* -1: the list is in memory */
	struct header h;
	size_t in_block; /* records of a block */
	/* if the list is in memory, all blocks; else those in the window */
	unsigned char *blocks;
	size_t room; /* number of blocks that are allocated */
	/* the window: its first block, and the number of its blocks */
	size_t first, held;
	/* a record in the file was replaced since the last save */
	bool replaced;
	/*
	 * The block used last, which contains the records [from, to). A record
	 * in this block is found without a division.
	 */
	const unsigned char *block;
	size_t from, to;
};

/* Returns the number of blocks that `count` records need. */
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

struct index *
index_new(int state, const char *kind, size_t record)
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

/*
 * Returns true if the header is undamaged, has this kind and fits a file of
 * this size.
 */
static bool
is_valid_header(const struct header *h, const char *kind, off_t size)
{
	uint64_t blocks = (uint64_t)size / BLOCK;

	return h->magic == MAGIC && h->hash == hash_header(h) &&
	    memcmp(h->kind, kind, sizeof(h->kind)) == 0 && blocks > 0 &&
	    h->record > 0 && h->record <= INDEX_RECORD_MOST &&
	    h->count <= (blocks - 1) * (USABLE / h->record) &&
	    h->count <= SIZE_MAX / INDEX_RECORD_MOST;
}

struct index *
index_load(int state, const char *kind)
{
	struct header h;
	struct index *x;
	struct stat st;
	int fd = volume_open(state, NAME,
	    O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd == -1)
		return NULL;
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode) ||
	    st.st_uid != geteuid() ||
	    pread(fd, &h, sizeof(h), 0) != (ssize_t)sizeof(h) ||
	    !is_valid_header(&h, kind, st.st_size)) {
		close(fd);
		return NULL;
	}
	x = index_new(state, kind, (size_t)h.record);
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

bool
index_is_in_memory(const struct index *x)
{
	return x->fd == -1;
}

const void *
index_note(const struct index *x)
{
	return x->h.note;
}

/*
 * Allocates at least this many blocks in memory. Fills new blocks with zeros.
 */
static void
reserve_blocks(struct index *x, size_t blocks)
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

/* Returns true if a block is undamaged. */
static bool
is_whole(const unsigned char *block, size_t number)
{
	uint64_t hash;

	memcpy(&hash, block + USABLE, sizeof(hash));
	return hash == hash_block(block, number);
}

/*
 * Returns the offset of a block in the file as an off_t, because a size_t of 32
 * bits would be too small.
 */
static off_t
offset_of(size_t number)
{
	return ((off_t)number + 1) * (off_t)BLOCK;
}

/* Reads a block of the file. Returns true if the block exists and is whole. */
static bool
read_block(const struct index *x, size_t number, unsigned char block[BLOCK])
{
	return pread(x->fd, block, BLOCK, offset_of(number)) ==
	    (ssize_t)BLOCK &&
	    is_whole(block, number);
}

/*
 * Moves the window so that it contains this block. Returns true if the block
 * and all blocks before it in the window exist and are whole.
 */
static bool
move_window(struct index *x, size_t number)
{
	size_t first = number / WINDOW * WINDOW;
	ssize_t n;

	if (number >= x->first && number < x->first + x->held)
		return true;
	reserve_blocks(x, WINDOW);
	x->first = first;
	x->held = 0;
	n = pread(x->fd, x->blocks, WINDOW * BLOCK, offset_of(first));
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
		if (x->fd != -1 && !move_window(x, number))
			return NULL;
		x->block = x->blocks + (number - x->first) * BLOCK;
		x->from = number * x->in_block;
		x->to = x->from + x->in_block;
	}
	return x->block + (i - x->from) * x->h.record;
}

/* Empties the window, because its blocks may have changed. */
static void
empty_window(struct index *x)
{
	x->held = 0;
	x->from = x->to = 0;
}

/*
 * Continues with the records of the file in memory. Fills each damaged block
 * with 0xff, which no format takes for a record.
 */
static void
move_to_memory(struct index *x)
{
	struct index old = *x;

	empty_window(x);
	x->fd = -1;
	x->first = 0;
	reserve_blocks(x, blocks_for(x, index_count(x)));
	for (size_t b = 0; b < blocks_for(x, index_count(x)); b++)
		if (!read_block(&old, b, x->blocks + b * BLOCK))
			memset(x->blocks + b * BLOCK, 0xff, BLOCK);
	close(old.fd);
}

void
index_detach(struct index *x)
{
	if (x->fd != -1)
		move_to_memory(x);
}

/*
 * Continues in memory if other hosts may change the file. The next save then
 * writes a new file. Otherwise the client of the file system could still pass
 * blocks of this session to the server when a session of another host already
 * writes to the same file.
 */
static void
leave_shared_file(struct index *x)
{
	if (x->fd != -1 && volume_is_shared(x->fd))
		move_to_memory(x);
}

/*
 * Removes the file, because a block is damaged, or because a failed write may
 * have changed the file in part. Continues in memory.
 */
static void
leave_file(struct index *x)
{
	index_discard(x->state);
	move_to_memory(x);
}

/*
 * Puts the record into its block and writes the block to the file. Returns 0 or
 * -1.
 */
static int
put_in_file(struct index *x, size_t i, const void *record)
{
	unsigned char block[BLOCK];
	size_t number = i / x->in_block;
	unsigned char *there = block + i % x->in_block * x->h.record;
	uint64_t hash;

	if (!read_block(x, number, block)) {
		if (i % x->in_block > 0 || i < x->h.count)
			return -1;
		memset(block, 0, sizeof(block));
	}
	if (memcmp(there, record, index_record_size(x)) == 0)
		return 0;
	for (size_t k = 0; k < x->h.record && !x->replaced; k++)
		x->replaced = there[k] != 0;
	memcpy(there, record, index_record_size(x));
	hash = hash_block(block, number);
	memcpy(block + USABLE, &hash, sizeof(hash));
	return pwrite(x->fd, block, BLOCK, offset_of(number)) ==
		(ssize_t)BLOCK ?
	    0 :
	    -1;
}

void
index_put(struct index *x, size_t i, const void *record)
{
	empty_window(x);
	leave_shared_file(x);
	if (x->fd != -1 && put_in_file(x, i, record) == -1)
		leave_file(x);
	if (x->fd == -1) {
		reserve_blocks(x, i / x->in_block + 1);
		memcpy(x->blocks + i / x->in_block * BLOCK +
			i % x->in_block * index_record_size(x),
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

/* Writes the header's block. Returns 0, or -1 with errno. */
static int
write_header(int fd, const struct header *h)
{
	unsigned char block[BLOCK] = { 0 };

	memcpy(block, h, sizeof(*h));
	return file_write(fd, block, BLOCK, 0);
}

/*
 * Writes the list from memory to a new file, which then takes the place of the
 * memory. Returns 0, or -1 if the list stays in memory.
 */
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
	fd = openat(x->state, TEMPORARY,
	    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1)
		return -1;
	if (file_write(fd, x->blocks, n * BLOCK, BLOCK) == -1 ||
	    write_header(fd, &x->h) == -1 ||
	    (volume_is_shared(fd) && fsync(fd) == -1) ||
	    renameat(x->state, TEMPORARY, x->state, NAME) == -1) {
		unlinkat(x->state, TEMPORARY, 0);
		close(fd);
		return -1;
	}
	free(x->blocks);
	x->blocks = NULL;
	x->room = 0;
	empty_window(x);
	x->fd = fd;
	return 0;
}

void
index_save(struct index *x, const void *note, size_t n)
{
	memset(x->h.note, 0, sizeof(x->h.note));
	memcpy(x->h.note, note, n);
	x->h.hash = hash_header(&x->h);
	leave_shared_file(x);
	if (x->fd == -1) {
		if (move_to_file(x) == -1)
			index_discard(x->state);
		return;
	}
	if ((x->replaced && fdatasync(x->fd) == -1) ||
	    write_header(x->fd, &x->h) == -1)
		leave_file(x);
	x->replaced = false;
}

void
index_discard(int state)
{
	unlinkat(state, NAME, 0);
}
