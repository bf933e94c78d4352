/*
 * Holds the list of the messages in an mbox: made, kept, believed, continued.
 *
 * Runs as the owner of the mailbox. The list is an index (index.c), which
 * outlives the session. It answers with the strongest thing that it can prove:
 *
 *	the mailbox has the stamp that it had  nothing is read
 *	it is larger, and the last message is  what stands behind is read
 *	where it was, with its boundary
 *	anything else                          everything is read
 *
 * A stamp that was not settled (stamp.c) proves nothing; then the part that
 * was there under the last settled stamp is treated as if all behind it had
 * been appended now.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "list.h"
#include "log.h"
#include "store.h"

#define KIND "mbox   2"
#define KIND_QUOTED "mboxo  2"
#define NONE UINT32_MAX

/* A message in the index. */
struct record {
	uint64_t at;
	uint64_t octets;
	uint32_t header; /* octets; the greatest value stands for all greater ones */
	uint32_t ordinal;
	unsigned char id[UIDL_HASH];
};

/* A chain of messages with equal ids. */
struct slot {
	uint32_t head; /* the first of them, less ids->first; NONE: no chain */
	uint32_t tag;  /* of the id's hash: others need not be looked at */
};

/* An open hash table of the messages from first to count. */
struct list_ids {
	struct list *list;
	size_t first, count;
	size_t mask;
	uint64_t seed;  /* or somebody could send a thousand messages for one slot */
	struct slot *slots;
	uint32_t *next; /* in the chain, less first; in the order of the messages */
};

static uint32_t
short_header(uint64_t octets)
{
	return octets < UINT32_MAX ? (uint32_t)octets : UINT32_MAX;
}

static void
add(void *self, const struct scan_message *one)
{
	struct list *l = self;
	struct record r = { .at = (uint64_t)one->at, .octets = one->octets,
		.header = short_header(one->header) };

	if (l->count == UINT32_MAX)
		fatal("too many messages");
	memcpy(r.id, one->id, UIDL_HASH);
	index_put(l->index, l->count++, &r);
	l->note.octets += one->octets;
}

/* Copies record i. Returns whether it can be one of this list. */
static bool
get(const struct list *l, size_t i, struct record *r)
{
	const void *p = index_get(l->index, i);

	if (p == NULL)
		return false;
	memcpy(r, p, sizeof(*r));
	/* Only the first can stand at the beginning: a header that survived a power cut which its block did not counts a record of zeros. */
	return r->at < (uint64_t)l->note.end && (r->at > 0 || i == 0);
}

bool
list_get(const struct list *l, size_t i, struct list_message *m)
{
	struct record r, next = { .at = (uint64_t)l->note.end };

	if (!get(l, i, &r) || (i + 1 < l->count && !get(l, i + 1, &next)) || next.at <= r.at)
		return false;
	*m = (struct list_message){ .found.at = (off_t)r.at, .found.octets = r.octets,
		.found.header = r.header, .end = (off_t)next.at, .ordinal = r.ordinal };
	memcpy(m->found.id, r.id, UIDL_HASH);
	return true;
}

/* Returns the name of what the index holds. A list made by other rules is not taken over. */
static const char *
kind(bool quoted)
{
	return quoted ? KIND_QUOTED : KIND;
}

bool
list_load(struct list *l, int state, bool quoted)
{
	struct index *x = index_load(state, kind(quoted));

	if (x == NULL)
		return false;
	*l = (struct list){ .state = state, .quoted = quoted, .index = x, .count = index_count(x) };
	memcpy(&l->note, index_note(x), sizeof(l->note));
	if (index_record_size(x) == sizeof(struct record) && l->count <= UINT32_MAX &&
	    l->note.end >= 0 && l->note.end <= l->note.stamp.size &&
	    l->note.base_count <= l->count && l->note.numbered <= l->count &&
	    l->note.base_end >= 0 && l->note.base_end <= l->note.end)
		return true;
	index_free(x);
	return false;
}

bool
list_is_current(const struct list *l, const struct stamp *now)
{
	return stamp_proves(&l->note.stamp, now);
}

static void
save(struct list *l)
{
	if (l->state != -1)
		index_save(l->index, &l->note, sizeof(l->note));
}

/* The list says what fd had at this stamp. */
static void
settle(struct list *l, const struct stamp *now)
{
	l->note.stamp = *now;
	if (now->settled != 1)
		return;
	l->note.base_count = l->count;
	l->note.base_octets = l->note.octets;
	l->note.base_end = l->note.end;
}

/* Reads on where the list ends. */
static enum scan_result
scan(struct list *l, int fd, const struct stamp *now)
{
	off_t end;
	enum scan_result result = scan_messages(fd, l->note.end, now->size, l->quoted, add, l, &end);

	l->note.end = end;
	if (result == SCAN_DONE) {
		settle(l, now);
		save(l);
	}
	return result;
}

enum scan_result
list_make(struct list *l, int state, int fd, const struct stamp *now, bool quoted)
{
	*l = (struct list){ .state = state, .quoted = quoted,
		.index = index_new(state, kind(quoted), sizeof(struct record)) };
	return scan(l, fd, now);
}

/* Goes back to the part that a settled stamp covered. */
static void
go_back(struct list *l)
{
	index_truncate(l->index, l->note.base_count);
	l->count = l->note.base_count;
	l->note.octets = l->note.base_octets;
	l->note.end = l->note.base_end;
	if (l->note.numbered > l->count)
		l->note.numbered = l->count;
}

/* Whether the mailbox is what the list says, with something behind it. */
static bool
has_grown(struct list *l, int fd, const struct stamp *now)
{
	const struct stamp *then = &l->note.stamp;
	unsigned char id[UIDL_HASH];
	struct list_message last;
	off_t empty;

	if (now->device != then->device || now->inode != then->inode)
		return false;
	if (then->settled != 1)
		go_back(l);
	return l->count > 0 && now->size > l->note.end && list_get(l, l->count - 1, &last) &&
	    scan_is_border(fd, l->note.end, now->size, &empty) && scan_id(fd, last.found.at, last.end, id) == 0 &&
	    memcmp(id, last.found.id, UIDL_HASH) == 0;
}

enum scan_result
list_update(struct list *l, int fd, const struct stamp *now)
{
	int state = l->state;

	if (has_grown(l, fd, now))
		return scan(l, fd, now);
	index_free(l->index);
	return list_make(l, state, fd, now, l->quoted);
}

/* The slot of this id: its chain's, or an empty one, tagged. */
static struct slot *
slot_of(const struct list_ids *ids, const unsigned char *id)
{
	uint64_t hash = XXH3_64bits_withSeed(id, UIDL_HASH, ids->seed);
	uint32_t tag = (uint32_t)(hash >> 32);

	for (uint64_t k = hash;; k++) {
		struct slot *slot = &ids->slots[k & ids->mask];
		struct record r;

		if (slot->head == NONE)
			slot->tag = tag;
		if (slot->head == NONE || (slot->tag == tag &&
		    (!get(ids->list, ids->first + slot->head, &r) || memcmp(r.id, id, UIDL_HASH) == 0)))
			return slot;
	}
}

/* The table of the messages from first on. */
static struct list_ids *
ids_from(struct list *l, size_t first)
{
	struct list_ids *ids = calloc(1, sizeof(*ids));
	size_t n = l->count - first, slots = 16;
	struct record r;

	while (slots < 2 * n)
		slots *= 2;
	if (ids == NULL || (ids->slots = reallocarray(NULL, slots, sizeof(*ids->slots))) == NULL ||
	    (ids->next = reallocarray(NULL, n + 1, sizeof(*ids->next))) == NULL)
		fatal("ids of %zu messages", n);
	ids->list = l;
	ids->first = first;
	ids->count = l->count;
	ids->mask = slots - 1;
	arc4random_buf(&ids->seed, sizeof(ids->seed));
	memset(ids->slots, 0xff, slots * sizeof(*ids->slots));
	for (size_t i = n; i-- > 0;) {
		struct slot *slot;

		ids->next[i] = NONE;
		if (!get(l, first + i, &r))
			continue;
		slot = slot_of(ids, r.id);
		ids->next[i] = slot->head;
		slot->head = (uint32_t)i;
	}
	return ids;
}

struct list_ids *
list_ids(struct list *l)
{
	return ids_from(l, 0);
}

size_t
list_first(const struct list_ids *ids, const unsigned char id[UIDL_HASH])
{
	uint32_t i = slot_of(ids, id)->head;

	return i == NONE ? SIZE_MAX : ids->first + i;
}

size_t
list_next(const struct list_ids *ids, size_t i)
{
	uint32_t next = ids->next[i - ids->first];

	return next == NONE ? SIZE_MAX : ids->first + next;
}

void
list_ids_free(struct list_ids *ids)
{
	free(ids->slots);
	free(ids->next);
	free(ids);
}

/* Numbers a chain of equal ids, of which there are before already. */
static void
number_chain(struct list *l, const struct list_ids *ids, size_t i, uint32_t before)
{
	struct record r;

	for (; i != SIZE_MAX; i = list_next(ids, i), before++)
		if (before > 0 && get(l, i, &r)) {
			r.ordinal = before;
			index_put(l->index, i, &r);
		}
}

/* For each of the new messages that is the first with its id: how many there were before. */
static uint32_t *
count_before(struct list *l, const struct list_ids *ids)
{
	uint32_t *before = calloc(ids->count - ids->first + 1, sizeof(*before));
	struct record r;

	if (before == NULL)
		fatal("ids of %zu messages", l->count);
	for (size_t i = 0; i < ids->first; i++) {
		size_t twin = get(l, i, &r) ? list_first(ids, r.id) : SIZE_MAX;

		if (twin != SIZE_MAX)
			before[twin - ids->first]++;
	}
	return before;
}

void
list_number(struct list *l)
{
	struct list_ids *ids;
	uint32_t *before;
	struct record r;

	if (l->note.numbered == l->count)
		return;
	ids = ids_from(l, l->note.numbered);
	before = count_before(l, ids);
	for (size_t i = ids->first; i < ids->count; i++)
		if (get(l, i, &r) && list_first(ids, r.id) == i)
			number_chain(l, ids, i, before[i - ids->first]);
	free(before);
	list_ids_free(ids);
	l->note.numbered = l->count;
	save(l);
}

/* Whether the marked messages are the last ones. *first is the first of them. */
static bool
is_tail(const struct list *l, const unsigned char *marks, size_t *first)
{
	size_t i = 0;

	while (i < l->count && !store_marked(marks, i))
		i++;
	*first = i;
	while (i < l->count && store_marked(marks, i))
		i++;
	return i == l->count;
}

/* A new list of the messages that are not marked, in their new places. Returns whether the old one could be read. */
static bool
squeeze(struct list *l, const unsigned char *marks, struct list *kept)
{
	struct list_message m;
	off_t gone = 0;

	*kept = (struct list){ .state = l->state, .quoted = l->quoted,
		.index = index_new(l->state, kind(l->quoted), sizeof(struct record)) };
	for (size_t i = 0; i < l->count; i++) {
		if (!list_get(l, i, &m))
			return false;
		if (store_marked(marks, i))
			gone += m.end - m.found.at;
		else {
			m.found.at -= gone;
			add(kept, &m.found);
		}
	}
	kept->note.end = l->note.end - gone;
	return true;
}

/* Takes the last messages off the list. Returns whether it could be read. */
static bool
shorten(struct list *l, size_t count)
{
	struct list_message m;
	off_t end = (off_t)l->note.end;

	for (size_t i = l->count; i-- > count; end = m.found.at) {
		if (!list_get(l, i, &m))
			return false;
		l->note.octets -= m.found.octets;
	}
	index_truncate(l->index, count);
	l->count = count;
	l->note.end = end;
	if (l->note.numbered > count)
		l->note.numbered = count;
	return true;
}

void
list_without(struct list *l, const unsigned char *marks, int fd)
{
	struct list kept = *l;
	struct stamp now;
	size_t first;
	bool good = is_tail(l, marks, &first) ? shorten(&kept, first) : squeeze(l, marks, &kept);

	if (!good || stamp_put(&now, fd) == -1 || now.size != kept.note.end)
		return;
	settle(&kept, &now);
	save(&kept);
}
