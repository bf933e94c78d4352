/*
 * Finds messages of a list by the hashes of their headers and bodies.
 *
 * Runs as the owner of the mailbox. Senders choose the bytes that are hashed,
 * and the user can write to the index while it is read.
 *
 * The table is a hash table with open addressing. Each chain of messages with
 * the same key has one slot. The keys themselves are in the records of the
 * list. A slot contains 32 bits of the key's hash, so that a search reads few
 * records. The hash has a random seed. Without the seed, a sender could make
 * thousands of messages that need the same slot.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "log.h"
#include "mbox-table.h"

#define NONE UINT32_MAX

/*
 * In the arrays slots[] and next[], the messages of the table are numbered from
 * 0.
 */
struct slot {
	uint32_t head; /* the first message of the chain; or NONE */
	uint32_t tag;  /* 32 bits of the key's hash */
};

struct table {
	const struct list *list;
	size_t first; /* index in the list of the table's message 0 */
	size_t mask;  /* number of slots, a power of 2, minus 1 */
	uint64_t seed;
	bool by_body; /* the key is header and body */
	struct slot *slots;
	uint32_t *next; /* [i]: the message after i in its chain; or NONE */
};

/*
 * Returns the slot of the chain with this key. If there is no such chain,
 * returns an empty slot and puts the key's tag into it. If a record cannot be
 * read any more, it counts as equal.
 */
static struct slot *
find_slot(const struct table *t, const unsigned char *id, uint64_t body)
{
	uint64_t seed = t->by_body ? t->seed ^ body : t->seed;
	uint64_t hash = XXH3_64bits_withSeed(id, UIDL_HASH, seed);
	uint32_t tag = (uint32_t)(hash >> 32);

	for (uint64_t k = hash;; k++) {
		struct slot *slot = &t->slots[k & t->mask];
		struct list_record r;

		if (slot->head == NONE) {
			slot->tag = tag;
			return slot;
		}
		if (slot->tag != tag)
			continue;
		if (!list_record(t->list, t->first + slot->head, &r) ||
		    (memcmp(r.id, id, UIDL_HASH) == 0 &&
			(!t->by_body || r.body == body)))
			return slot;
	}
}

static struct table *
make_table(const struct list *l, size_t first, bool by_body)
{
	struct table *t = calloc(1, sizeof(*t));
	size_t n = l->count - first, slots = 16;
	struct list_record r;

	while (slots < 2 * n)
		slots *= 2;
	if (t == NULL ||
	    (t->slots = reallocarray(NULL, slots, sizeof(*t->slots))) == NULL ||
	    (t->next = reallocarray(NULL, n + 1, sizeof(*t->next))) == NULL)
		fatal("table of %zu messages", n);
	t->list = l;
	t->by_body = by_body;
	t->first = first;
	t->mask = slots - 1;
	arc4random_buf(&t->seed, sizeof(t->seed));
	memset(t->slots, 0xff, slots * sizeof(*t->slots));
	/*
	 * Go backwards, because each message is inserted at the head of its
	 * chain.
	 */
	for (size_t i = n; i-- > 0;) {
		struct slot *slot;

		t->next[i] = NONE;
		if (!list_record(l, first + i, &r))
			continue;
		slot = find_slot(t, r.id, r.body);
		t->next[i] = slot->head;
		slot->head = (uint32_t)i;
	}
	return t;
}

struct table *
table_by_header(const struct list *l, size_t first)
{
	return make_table(l, first, false);
}

struct table *
table_by_body(const struct list *l)
{
	return make_table(l, 0, true);
}

size_t
table_first(const struct table *t, const unsigned char id[UIDL_HASH])
{
	return table_first_with_body(t, id, 0);
}

size_t
table_first_with_body(const struct table *t, const unsigned char id[UIDL_HASH],
    uint64_t body)
{
	uint32_t i = find_slot(t, id, body)->head;

	return i == NONE ? SIZE_MAX : t->first + i;
}

size_t
table_next(const struct table *t, size_t i)
{
	uint32_t next = t->next[i - t->first];

	return next == NONE ? SIZE_MAX : t->first + next;
}

void
table_drop_first(struct table *t, size_t i)
{
	struct list_record r;
	struct slot *slot;

	if (!list_record(t->list, i, &r))
		return;
	slot = find_slot(t, r.id, r.body);
	if (slot->head != NONE && t->first + slot->head == i &&
	    t->next[i - t->first] != NONE)
		slot->head = t->next[i - t->first];
}

void
table_free(struct table *t)
{
	if (t == NULL)
		return;
	free(t->slots);
	free(t->next);
	free(t);
}
