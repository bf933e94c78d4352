/*
 * Keeps the ids that the messages of a mailbox had on another server.
 *
 * Runs in the session and in the child of kpopd --import-uidl, as the owner of
 * the mailbox, with the session lock held. The file belongs to the user, who
 * can forge it. It is checked as a whole before a line of it is used, so that
 * no two messages ever have one id.
 *
 * The file is text. The first line names the form. Each other line has a
 * message's own id, a blank, and the id that clients get:
 *
 *	kpopd uidl map 1
 *	OWN OLD
 *	...
 *
 * No OWN and no OLD occurs twice. The order of the lines means nothing. A new
 * file is written under another name, synced and renamed. So after a crash the
 * disk has the old file or the new one.
 *
 * The text is kept in memory as it is in the file. Two hash tables find a line
 * by OWN and by OLD. Their seed is random, so a file cannot be made whose lines
 * all have one place in the tables.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "file.h"
#include "log.h"
#include "uidl-map.h"
#include "volume.h"

#define NAME "uidl"
#define TEMPORARY "uidl.tmp"
#define FIRST_LINE "kpopd uidl map 1\n"

/*
 * The place of an id in the text, and a part of the id's hash, so that other
 * ids need not be compared. `at` is 0 if the slot is empty.
 */
struct id_slot {
	uint32_t at, hash;
};

/* The slots of many ids. Their number is a power of two. */
struct id_table {
	struct id_slot *slots;
	size_t size;
};

struct uidl_map {
	char *text; /* as in the file */
	size_t used, room;
	size_t count; /* of lines but the first */
	uint64_t seed;
	struct id_table own, old;
};

/* Returns the length of the id at p, which ends with a blank or an LF. */
static size_t
id_length(const char *p)
{
	size_t n = 0;

	while (p[n] != ' ' && p[n] != '\n')
		n++;
	return n;
}

/*
 * Returns the slot of the table that has this id, or the empty slot for it,
 * with the id's hash in *hash. The table has an empty slot.
 */
static struct id_slot *
find_slot_of(const struct uidl_map *m, const struct id_table *t, const char *id,
    size_t n, uint32_t *hash)
{
	*hash = (uint32_t)XXH3_64bits_withSeed(id, n, m->seed);
	for (size_t i = *hash;; i++) {
		struct id_slot *slot = &t->slots[i & (t->size - 1)];
		const char *there = m->text + slot->at;

		if (slot->at == 0 ||
		    (slot->hash == *hash && memcmp(there, id, n) == 0 &&
			id_length(there) == n))
			return slot;
	}
}

/* Returns the place of an id in the text, or 0 if the table lacks it. */
static size_t
find_id(const struct uidl_map *m, const struct id_table *t, const char *id)
{
	uint32_t hash;

	return find_slot_of(m, t, id, strlen(id), &hash)->at;
}

/* Makes the table this large, and keeps its ids. */
static void
resize_table(const struct uidl_map *m, struct id_table *t, size_t size)
{
	struct id_table new = { calloc(size, sizeof(*new.slots)), size };

	if (new.slots == NULL)
		fatal("the map of unique ids with %zu lines", m->count);
	for (size_t k = 0; k < t->size; k++) {
		size_t i = t->slots[k].hash;

		if (t->slots[k].at == 0)
			continue;
		while (new.slots[i & (size - 1)].at != 0)
			i++;
		new.slots[i & (size - 1)] = t->slots[k];
	}
	free(t->slots);
	*t = new;
}

/* Makes sure that the tables have space for this number of lines. */
static void
reserve_slots(struct uidl_map *m, size_t lines)
{
	size_t size = m->own.size;

	while (lines > size / 4 * 3)
		size *= 2;
	if (size == m->own.size)
		return;
	resize_table(m, &m->own, size);
	resize_table(m, &m->old, size);
}

/*
 * Makes the text at least `room` bytes large. Room is left for one byte more,
 * so that memcmp with a longer id does not read past the end.
 */
static void
reserve_text(struct uidl_map *m, size_t room)
{
	if (room <= m->room)
		return;
	if (room < 2 * m->room)
		room = 2 * m->room;
	if ((m->text = realloc(m->text, room + UIDL_SIZE)) == NULL)
		fatal("the map of unique ids of %zu bytes", room);
	m->room = room;
}

struct uidl_map *
uidl_map_new(void)
{
	struct uidl_map *m = calloc(1, sizeof(*m));

	if (m == NULL)
		fatal("calloc");
	arc4random_buf(&m->seed, sizeof(m->seed));
	m->used = sizeof(FIRST_LINE) - 1;
	reserve_text(m, 4096);
	memcpy(m->text, FIRST_LINE, m->used);
	resize_table(m, &m->own, 64);
	resize_table(m, &m->old, 64);
	return m;
}

void
uidl_map_free(struct uidl_map *m)
{
	if (m == NULL)
		return;
	free(m->own.slots);
	free(m->old.slots);
	free(m->text);
	free(m);
}

/*
 * Enters the line at the offset `at` of the text, where two valid ids are, in
 * the tables. Returns false if one of the ids is there already.
 */
static bool
enter_line(struct uidl_map *m, size_t at)
{
	const char *own = m->text + at;
	size_t own_size = id_length(own);
	const char *old = own + own_size + 1;
	uint32_t own_hash, old_hash;
	struct id_slot *own_slot, *old_slot;

	reserve_slots(m, m->count + 1);
	own_slot = find_slot_of(m, &m->own, own, own_size, &own_hash);
	old_slot = find_slot_of(m, &m->old, old, id_length(old), &old_hash);
	if (own_slot->at != 0 || old_slot->at != 0)
		return false;
	*own_slot = (struct id_slot){ (uint32_t)at, own_hash };
	*old_slot = (struct id_slot){ (uint32_t)(at + own_size + 1), old_hash };
	m->count++;
	return true;
}

/* Returns the number of line ends in the text. */
static size_t
count_lines(const struct uidl_map *m)
{
	const char *p = m->text, *end = m->text + m->used;
	size_t n = 0;

	while ((p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		p++;
		n++;
	}
	return n;
}

/* Enters all lines of the text. Returns false if it does not have the form. */
static bool
enter_lines(struct uidl_map *m)
{
	const size_t first = sizeof(FIRST_LINE) - 1;
	const char *p = m->text + first, *end = m->text + m->used;

	if (m->used < first || memcmp(m->text, FIRST_LINE, first) != 0)
		return false;
	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		const char *blank =
		    lf != NULL ? memchr(p, ' ', (size_t)(lf - p)) : NULL;

		if (blank == NULL || !uidl_is_valid(p, (size_t)(blank - p)) ||
		    !uidl_is_valid(blank + 1, (size_t)(lf - blank - 1)) ||
		    !enter_line(m, (size_t)(p - m->text)))
			return false;
		p = lf + 1;
	}
	return true;
}

/*
 * Reads the map from its file. Returns 0, or -1 with errno. The user may
 * truncate the file meanwhile.
 */
static int
read_map(struct uidl_map *m, int fd)
{
	struct stat st;

	if (fstat(fd, &st) == -1)
		return -1;
	errno = EBADMSG;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() ||
	    st.st_size > (off_t)UIDL_MAP_MOST)
		return -1;
	m->used = (size_t)st.st_size;
	reserve_text(m, m->used);
	if (file_read(fd, m->text, m->used, 0) == -1) {
		if (errno == ENODATA)
			errno = EBADMSG;
		return -1;
	}
	reserve_slots(m, count_lines(m));
	errno = EBADMSG;
	return enter_lines(m) ? 0 : -1;
}

int
uidl_map_load(int state, struct uidl_map **m)
{
	int fd = volume_open(state, NAME,
	    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	int result;

	*m = NULL;
	if (fd == -1)
		return errno == ENOENT ? 0 : -1;
	*m = uidl_map_new();
	result = read_map(*m, fd);
	file_close(fd);
	if (result == -1) {
		int error = errno;

		uidl_map_free(*m);
		*m = NULL;
		errno = error;
	}
	return result;
}

bool
uidl_map_add(struct uidl_map *m, const char *own, const char *old)
{
	size_t at = m->used, n = strlen(own) + 1 + strlen(old) + 1;

	if (!uidl_is_valid(own, strlen(own)) ||
	    !uidl_is_valid(old, strlen(old)) || n > UIDL_MAP_MOST - at)
		return false;
	reserve_text(m, at + n);
	snprintf(m->text + at, n + 1, "%s %s\n", own, old);
	if (!enter_line(m, at))
		return false;
	m->used += n;
	return true;
}

size_t
uidl_map_count(const struct uidl_map *m)
{
	return m->count;
}

bool
uidl_map_has_own(const struct uidl_map *m, const char *own)
{
	return find_id(m, &m->own, own) != 0;
}

bool
uidl_map_has_old(const struct uidl_map *m, const char *old)
{
	return find_id(m, &m->old, old) != 0;
}

/*
 * Replaces an own id that a line gives to another message. No own id has this
 * form: those of an mbox have no colon, and those of a Maildir have one only at
 * the beginning.
 */
static void
replace_taken(const struct uidl_map *m, char id[UIDL_SIZE])
{
	XXH128_canonical_t digest;

	XXH128_canonicalFromHash(&digest, XXH3_128bits(id, strlen(id)));
	for (unsigned n = 0; uidl_map_has_old(m, id); n++)
		uidl_write(digest.digest,
		    id + snprintf(id, UIDL_SIZE, ":%u:", n));
}

void
uidl_map_apply(const struct uidl_map *m, char id[UIDL_SIZE])
{
	size_t own_size = strlen(id), at = find_id(m, &m->own, id);

	if (at == 0) {
		replace_taken(m, id);
		return;
	}
	at += own_size + 1;
	memcpy(id, m->text + at, id_length(m->text + at));
	id[id_length(m->text + at)] = '\0';
}

/* Writes the text to the new file and renames it. Returns 0, or -1. */
static int
write_text(const struct uidl_map *m, int state, int fd)
{
	return file_write(fd, m->text, m->used, 0) == 0 && fsync(fd) == 0 ?
	    renameat(state, TEMPORARY, state, NAME) :
	    -1;
}

int
uidl_map_write(const struct uidl_map *m, int state)
{
	int fd, result, error;

	unlinkat(state, TEMPORARY, 0);
	fd = openat(state, TEMPORARY,
	    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1)
		return -1;
	result = write_text(m, state, fd);
	file_close(fd);
	if (result == 0)
		return fsync(state);
	error = errno;
	unlinkat(state, TEMPORARY, 0);
	errno = error;
	return -1;
}
