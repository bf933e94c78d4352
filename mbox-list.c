/*
 * Holds the list of the messages in an mbox: made, kept, trusted, continued.
 *
 * Runs as the owner of the mailbox. The list is an index (index.c), which
 * outlives the session. It answers with the strongest thing that it can prove:
 *
 *	the mailbox has the stamp that it had  nothing is read
 *	it is large and has grown, and some    what was appended is read
 *	messages are where they were
 *	anything else                          everything is read
 *
 * That a mailbox has grown does not prove that nothing else in it has changed:
 * readers rewrite flags in place, and sort. So the messages before are only
 * assumed then, until something proves them: the mailbox compares the header of
 * each such message with its id before the message is sent or removed.
 *
 * A stamp that was not settled (fingerprint.c) proves nothing; then the part that
 * was there under the last settled stamp is treated as if all after it had
 * been appended now.
 *
 * A unique id is made of the header alone if that identifies the message.
 * Otherwise, because the header has neither a Message-ID nor a Received field,
 * the id is made of the body, too. If several messages have an equal header that
 * should identify each, the first one gets the id of the header alone, and later
 * ones get what distinguishes their bodies into theirs. Such an id is not given
 * to a message with another body even when the first one has gone, because
 * clients would take it for seen: a list is made with the one before in mind,
 * and the note remembers the last messages that have gone.
 */
#include "config.h"

#include <sys/stat.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "mbox-list.h"
#include "log.h"
#include "store.h"

#define KIND "mbox   4"
#define KIND_QUOTED "mboxo  4"
/* The kinds of the version before, which counted other bytes. Records and note have the same form. */
#define KIND_BEFORE "mbox   3"
#define KIND_QUOTED_BEFORE "mboxo  3"
#define NONE UINT32_MAX
/* Messages that are looked at before the rest of a mailbox that has grown is assumed. */
#define SAMPLES 16
#define SPENT_BITS 16384 /* of a filter in front of the ring */

off_t list_small = (off_t)4 << 20;

/* What is known of a message in the index. */
enum { WEAK = 1, REACHES = 2, TWIN = 4, SUFFIXED = 8 };

/* A message in the index. */
struct record {
	uint64_t at;
	uint64_t wire_size;
	uint64_t body;        /* as in struct list_message */
	uint32_t header : 28; /* bytes; the greatest value stands for all greater ones */
	uint32_t flags : 4;
	uint32_t ordinal;
	unsigned char id[UIDL_HASH];
};

_Static_assert(sizeof(struct list_note) <= INDEX_NOTE, "the note does not fit");

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
	bool by_body;   /* a chain has equal bodies, too */
	struct slot *slots;
	uint32_t *next; /* in the chain, less first; in the order of the messages */
};

static void
add(void *self, const struct scan_message *one)
{
	struct list *l = self;
	struct record r = { .at = (uint64_t)one->at, .wire_size = one->wire_size, .body = one->body,
		.header = one->header < LIST_HEADER_MOST ? (uint32_t)one->header & LIST_HEADER_MOST : LIST_HEADER_MOST,
		/* Most of these stay as they are here: a record that is changed later has to be synced. */
		.flags = (one->weak ? WEAK | SUFFIXED : 0u) | (one->reaches ? REACHES : 0u) };

	memcpy(r.id, one->id, UIDL_HASH);
	if (one->open && l->note.open > l->count)
		l->note.open = l->count;
	l->note.reaching += one->reaches;
	index_put(l->index, l->count++, &r);
	l->note.wire_size += one->wire_size;
}

/*
 * Copies record i. Returns false if the list is damaged. Only the first message
 * can begin at 0: a header that survived a power failure which its block did
 * not counts a record of zeros.
 */
static bool
get(const struct list *l, size_t i, struct record *r)
{
	const void *p = index_get(l->index, i);

	if (p == NULL)
		return false;
	memcpy(r, p, sizeof(*r));
	return r->at > 0 || i == 0;
}

bool
list_get(const struct list *l, size_t i, struct list_message *m)
{
	struct record r, next = { .at = (uint64_t)l->note.end };

	if (!get(l, i, &r) || (i + 1 < l->count && !get(l, i + 1, &next)) ||
	    r.at >= next.at || next.at > (uint64_t)l->note.end)
		return false;
	*m = (struct list_message){ .found = { .at = (off_t)r.at, .wire_size = r.wire_size, .header = r.header,
		.body = r.body, .weak = (r.flags & WEAK) != 0, .reaches = (r.flags & REACHES) != 0 },
		.end = (off_t)next.at, .ordinal = r.ordinal, .is_twin = (r.flags & TWIN) != 0,
		.is_suffixed = (r.flags & SUFFIXED) != 0 };
	memcpy(m->found.id, r.id, UIDL_HASH);
	return true;
}

size_t
list_at(const struct list *l, off_t at)
{
	size_t low = 0, high = l->count;
	struct record r;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (!get(l, middle, &r))
			return SIZE_MAX;
		if (r.at == (uint64_t)at)
			return middle;
		if (r.at < (uint64_t)at)
			low = middle + 1;
		else
			high = middle;
	}
	return SIZE_MAX;
}

/* Returns the name of what the index holds. A list made by other rules is not taken over. */
static const char *
kind(const struct list_source *s)
{
	return s->quoted ? KIND_QUOTED : KIND;
}

/* Makes what the list has of the mailbox prove nothing. Its ids stay known. */
static void
doubt(struct list *l)
{
	l->note.stamp = (struct fingerprint){ .stable = 0 };
	l->note.base = 0;
}

bool
list_load(struct list *l, const struct list_source *s)
{
	struct index *x = index_load(s->state, kind(s));
	bool is_before = x == NULL;

	/* Without that list a message could get the id of one that has gone. */
	if (is_before)
		x = index_load(s->state, s->quoted ? KIND_QUOTED_BEFORE : KIND_BEFORE);
	if (x == NULL)
		return false;
	*l = (struct list){ .source = *s, .index = x, .count = index_count(x) };
	memcpy(&l->note, index_note(x), sizeof(l->note));
	if (is_before)
		doubt(l);
	if (index_record_size(x) == sizeof(struct record) && l->count <= UINT32_MAX &&
	    l->note.end >= 0 && l->note.base <= l->count && l->note.numbered <= l->count &&
	    l->note.assumed <= l->count && l->note.next_spent < LIST_SPENT &&
	    (l->note.end <= l->note.stamp.size || l->note.stamp.stable == 0))
		return true;
	index_free(x);
	return false;
}

bool
list_is_current(const struct list *l, const struct fingerprint *now)
{
	return fingerprint_matches(&l->note.stamp, now);
}

bool
list_is_sure(const struct list *l, size_t i)
{
	return i >= l->note.assumed;
}

bool
list_is_elsewhere(const struct list *l)
{
	struct stat st;

	return l->note.directory_inode != 0 && l->source.dir != -1 && fstat(l->source.dir, &st) == 0 &&
	    (st.st_ino != l->note.directory_inode || st.st_dev != l->note.directory_device);
}

static void
save(struct list *l)
{
	struct stat st;

	if (l->source.state == -1)
		return;
	l->note.directory_inode = 0;
	if (l->source.dir != -1 && fstat(l->source.dir, &st) == 0) {
		l->note.directory_inode = st.st_ino;
		l->note.directory_device = st.st_dev;
	}
	index_save(l->index, &l->note, sizeof(l->note));
}

/* Notes that the list says what the mailbox had at this stamp. */
static void
settle(struct list *l, const struct fingerprint *now)
{
	l->note.stamp = *now;
	if (now->stable == 1)
		l->note.base = l->count;
}

static void number_all(struct list *l, bool is_unchanged, struct list *before);

/* Reads on where the list ends. before: the list that this one takes the place of, or NULL. */
static enum scan_result
scan(struct list *l, const struct fingerprint *now, struct list *before)
{
	off_t end;
	enum scan_result result = scan_messages(l->source.fd, l->note.end, now->size, l->source.quoted, add, l, &end);

	l->note.end = end;
	if (result != SCAN_DONE)
		return result;
	settle(l, now);
	/* A change in the same tick would not show, so bodies that ids need are read while the mailbox is locked. A
	 * small mailbox costs nothing, and records that are put in their final form need no sync. */
	if (now->stable != 1 || now->size <= list_small || before != NULL)
		number_all(l, true, before);
	save(l);
	return result;
}

enum scan_result
list_make(struct list *l, const struct list_source *s, const struct fingerprint *now, struct list *before)
{
	struct list new = { .source = *s, .index = index_new(s->state, kind(s), sizeof(struct record)),
		.note.open = UINT64_MAX };

	if (before != NULL) {
		memcpy(new.note.spent, before->note.spent, sizeof(new.note.spent));
		new.note.next_spent = before->note.next_spent;
	}
	*l = new;
	return scan(l, now, before);
}

bool
list_is_in_place(const struct list *l, const struct list_message *m, off_t size)
{
	unsigned char id[UIDL_HASH];
	int fd = l->source.fd;
	off_t empty;

	return (m->found.at == 0 || scan_is_border(fd, m->found.at, size, &empty)) &&
	    scan_id(fd, m->found.at, m->end, id) == 0 && memcmp(id, m->found.id, UIDL_HASH) == 0 &&
	    scan_is_border(fd, m->end, size, &empty);
}

/* Takes the last messages off the list, up to this count. Returns false if the list is damaged. */
static bool
shorten(struct list *l, size_t count)
{
	struct list_message m;
	int64_t end = l->note.end;

	for (size_t i = l->count; i-- > count; end = m.found.at) {
		if (!list_get(l, i, &m))
			return false;
		l->note.wire_size -= m.found.wire_size;
		l->note.reaching -= m.found.reaches;
	}
	index_truncate(l->index, count);
	l->count = count;
	l->note.end = end;
	if (l->note.numbered > count)
		l->note.numbered = count;
	if (l->note.assumed > count)
		l->note.assumed = count;
	if (l->note.base > count)
		l->note.base = count;
	if (l->note.open >= count)
		l->note.open = UINT64_MAX;
	return true;
}

/* Returns true if the id of a message's header alone must not be given to another body. */
static bool
is_given(const struct record *r)
{
	return (r->flags & TWIN) != 0 && (r->flags & SUFFIXED) == 0 && r->body != 0;
}

/* Returns true if the last of the first count messages and some others are where the list has them. */
static bool
is_sample_in_place(const struct list *l, size_t count, off_t size)
{
	struct list_message m;

	for (int k = 0; k < SAMPLES; k++) {
		size_t i = k == 0 ? count - 1 : arc4random_uniform((uint32_t)count);

		if (!list_get(l, i, &m) || (k == 0 && m.end >= size) || !list_is_in_place(l, &m, size))
			return false;
	}
	return true;
}

/* Returns true if an id made of a header alone must not be given to another body, and its message is not among the first count. */
static bool
has_given(const struct list *l, size_t count)
{
	struct record r;

	for (size_t i = count; i < l->count; i++)
		if (get(l, i, &r) && is_given(&r))
			return true;
	return false;
}

/*
 * Returns true if the mailbox seems to be what the list has, with more after it.
 * The list then ends where reading has to go on. Otherwise the list is as it
 * was, because its ids have to be remembered.
 */
static bool
seems_grown(struct list *l, const struct fingerprint *now)
{
	const struct fingerprint then = l->note.stamp;
	size_t count = l->count;

	if (now->size <= list_small || now->device != then.device || now->inode != then.inode)
		return false;
	if (then.stable != 1 && count > l->note.base)
		count = (size_t)l->note.base;
	if (count > l->note.open)
		count = (size_t)l->note.open;
	return count > 0 && is_sample_in_place(l, count, now->size) && !has_given(l, count) && shorten(l, count);
}

enum scan_result
list_update(struct list *l, const struct fingerprint *now)
{
	struct list before;
	enum scan_result result;

	if (seems_grown(l, now)) {
		l->note.assumed = l->count;
		return scan(l, now, NULL);
	}
	before = *l;
	result = list_make(l, &before.source, now, &before);
	index_free(before.index);
	return result;
}

/* The slot of this id, and of this body if the table tells bodies apart: its chain's, or an empty one, tagged. */
static struct slot *
slot_of(const struct list_ids *ids, const unsigned char *id, uint64_t body)
{
	uint64_t hash = XXH3_64bits_withSeed(id, UIDL_HASH, ids->by_body ? ids->seed ^ body : ids->seed);
	uint32_t tag = (uint32_t)(hash >> 32);

	for (uint64_t k = hash;; k++) {
		struct slot *slot = &ids->slots[k & ids->mask];
		struct record r;

		if (slot->head == NONE)
			slot->tag = tag;
		if (slot->head == NONE || (slot->tag == tag &&
		    (!get(ids->list, ids->first + slot->head, &r) ||
		    (memcmp(r.id, id, UIDL_HASH) == 0 && (!ids->by_body || r.body == body)))))
			return slot;
	}
}

/* The table of the messages from first on. */
static struct list_ids *
ids_from(struct list *l, size_t first, bool by_body)
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
	ids->by_body = by_body;
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
		slot = slot_of(ids, r.id, r.body);
		ids->next[i] = slot->head;
		slot->head = (uint32_t)i;
	}
	return ids;
}

struct list_ids *
list_ids(struct list *l)
{
	return ids_from(l, 0, false);
}

struct list_ids *
list_bodies(struct list *l)
{
	return ids_from(l, 0, true);
}

size_t
list_first(const struct list_ids *ids, const unsigned char id[UIDL_HASH])
{
	uint32_t i = slot_of(ids, id, 0)->head;

	return i == NONE ? SIZE_MAX : ids->first + i;
}

size_t
list_first_body(const struct list_ids *bodies, const unsigned char id[UIDL_HASH], uint64_t body)
{
	uint32_t i = slot_of(bodies, id, body)->head;

	return i == NONE ? SIZE_MAX : bodies->first + i;
}

void
list_take(struct list_ids *ids, size_t i)
{
	struct record r;
	struct slot *slot;

	if (!get(ids->list, i, &r))
		return;
	slot = slot_of(ids, r.id, r.body);
	if (slot->head != NONE && ids->first + slot->head == i && ids->next[i - ids->first] != NONE)
		slot->head = ids->next[i - ids->first];
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

/* Returns the entry of this id in the ring, or NULL. */
static const struct list_spent *
find_spent(const struct list *l, const unsigned char *id)
{
	const struct list_spent *last = &l->note.spent[LIST_SPENT - 1];
	size_t used = (last->id | last->body) != 0 ? LIST_SPENT : (size_t)l->note.next_spent;
	uint32_t part;

	memcpy(&part, id, sizeof(part));
	for (size_t i = 0; i < used; i++)
		if (l->note.spent[i].id == part && (l->note.spent[i].id | l->note.spent[i].body) != 0)
			return &l->note.spent[i];
	return NULL;
}

/* Remembers a message that goes and has the id of its header alone. The oldest entry is forgotten. */
static void
spend(struct list *l, const struct record *r)
{
	struct list_spent *s = &l->note.spent[l->note.next_spent];

	if (!is_given(r) || find_spent(l, r->id) != NULL)
		return;
	memcpy(&s->id, r->id, sizeof(s->id));
	s->body = (uint32_t)r->body;
	l->note.next_spent = (l->note.next_spent + 1) % LIST_SPENT;
}

/* What is known of a chain of messages with equal ids. */
struct chain {
	uint32_t plain; /* the message with the id of the header alone; NONE: no one yet */
	uint32_t owner; /* the body that this id belongs to */
	bool has_owner;
	bool is_twin;   /* more than one message has this header */
};

/* What list_number works with. */
struct numbering {
	struct list *list;
	struct list_ids *ids;  /* of the messages that are not numbered yet */
	struct list *before;   /* NULL: there is none */
	struct list_ids *before_ids;
	struct chain *chains;  /* for the first message of each chain of ids, less ids->first */
	uint64_t spent[SPENT_BITS / 64]; /* a filter: the bits of the ids in the ring */
	bool is_unchanged, has_suffixes, has_unknown;
};

/* Returns the bit of the filter that belongs to this part of an id. */
static size_t
spent_bit(uint32_t part)
{
	return part % SPENT_BITS;
}

/* Notes which ids are in the ring. Looking for each of a million messages in it would take longer than all the rest. */
static void
filter_spent(struct numbering *n)
{
	for (size_t i = 0; i < LIST_SPENT; i++) {
		size_t bit = spent_bit(n->list->note.spent[i].id);

		n->spent[bit / 64] |= (uint64_t)1 << bit % 64;
	}
}

/* Returns false if this id is surely not in the ring. */
static bool
may_be_spent(const struct numbering *n, const unsigned char *id)
{
	uint32_t part;
	size_t bit;

	memcpy(&part, id, sizeof(part));
	bit = spent_bit(part);
	return (n->spent[bit / 64] >> bit % 64 & 1) != 0;
}

/* Finds, for each header of the new messages, those that are numbered already. */
static void
find_numbered(struct numbering *n)
{
	size_t first = n->ids->first;
	struct record r;

	n->chains = calloc(n->ids->count - first + 1, sizeof(*n->chains));
	if (n->chains == NULL)
		fatal("ids of %zu messages", n->list->count);
	for (size_t i = first; i < n->ids->count; i++)
		n->chains[i - first].plain = NONE;
	for (size_t i = 0; i < first; i++) {
		size_t chain = get(n->list, i, &r) ? list_first(n->ids, r.id) : SIZE_MAX;

		if (chain == SIZE_MAX)
			continue;
		n->chains[chain - first].is_twin = true;
		if ((r.flags & SUFFIXED) == 0)
			n->chains[chain - first].plain = (uint32_t)i;
	}
}

/*
 * Reads the body of message i if its hash is not known. If it cannot be read any
 * more, any number takes the place of the hash, otherwise another session could
 * give the same id to another message. Returns true if the hash is that of the body.
 */
static bool
know_body(struct numbering *n, size_t i, struct record *r)
{
	struct list_message m;

	if (r->body != 0 || (n->is_unchanged && list_get(n->list, i, &m) &&
	    scan_body(n->list->source.fd, m.found.at, m.end, &r->body) == 0))
		return true;
	arc4random_buf(&r->body, sizeof(r->body));
	r->body |= 1;
	n->has_unknown = true;
	return false;
}

/* Notes of a message that had its header for itself that another one has it, too. */
static void
mark_twin(struct numbering *n, size_t i)
{
	struct record r;

	if (!get(n->list, i, &r) || (r.flags & TWIN) != 0)
		return;
	know_body(n, i, &r);
	r.flags |= TWIN;
	index_put(n->list->index, i, &r);
}

/* Finds the body of the message that has, or had, the id of this header alone. Returns false if none is known. */
static bool
find_owner(const struct numbering *n, const unsigned char *id, uint32_t *body)
{
	const struct list_spent *spent = may_be_spent(n, id) ? find_spent(n->list, id) : NULL;
	struct record r;

	if (spent != NULL) {
		*body = spent->body;
		return true;
	}
	if (n->before == NULL)
		return false;
	for (size_t i = list_first(n->before_ids, id); i != SIZE_MAX; i = list_next(n->before_ids, i))
		if (get(n->before, i, &r) && is_given(&r)) {
			*body = (uint32_t)r.body;
			return true;
		}
	return false;
}

/* Finds the chain that message i is in. It is looked at once, at its first message, because a chain may be long. */
static struct chain *
chain_of(const struct numbering *n, size_t i, const struct record *r)
{
	size_t first = list_first(n->ids, r->id);
	struct chain *c;

	/* The user can write to the index while it is read. */
	if (first == SIZE_MAX)
		fatal("the index has changed while it was read");
	c = &n->chains[first - n->ids->first];
	if (i == first) {
		c->is_twin |= list_next(n->ids, first) != SIZE_MAX;
		c->has_owner = (r->flags & WEAK) == 0 && find_owner(n, r->id, &c->owner);
	}
	return c;
}

/* Decides whether message i has the id of its header alone. */
static void
number(struct numbering *n, size_t i)
{
	struct record r;
	struct chain *c;
	bool is_plain;

	if (!get(n->list, i, &r))
		return;
	c = chain_of(n, i, &r);
	if (!c->is_twin && !c->has_owner && (r.flags & WEAK) == 0)
		return;
	is_plain = know_body(n, i, &r) && (r.flags & WEAK) == 0 && c->plain == NONE &&
	    (!c->has_owner || c->owner == (uint32_t)r.body);
	if (is_plain)
		c->plain = (uint32_t)i;
	else if (c->plain != NONE)
		mark_twin(n, c->plain);
	r.ordinal = 0;
	/* A message whose header others had stays one that is told from them, because its id is remembered by this. */
	r.flags = (r.flags & (WEAK | REACHES)) | (c->is_twin || c->has_owner ? TWIN : 0u) | (is_plain ? 0u : SUFFIXED);
	n->has_suffixes |= !is_plain;
	index_put(n->list->index, i, &r);
}

/* A message whose id has a suffix. */
struct suffixed {
	unsigned char id[UIDL_HASH];
	uint64_t body;
	uint32_t i, ordinal;
};

static int
compare_suffixed(const void *a, const void *b)
{
	const struct suffixed *x = a, *y = b;
	int order = memcmp(x->id, y->id, UIDL_HASH);

	if (order != 0)
		return order;
	if (x->body != y->body)
		return x->body < y->body ? -1 : 1;
	return (x->i > y->i) - (x->i < y->i);
}

/* Collects all messages whose ids have a suffix, sorted by header and body. Returns how many. */
static size_t
collect_suffixed(struct list *l, struct suffixed **all)
{
	size_t count = 0, room = 0;
	struct record r;

	*all = NULL;
	for (size_t i = 0; i < l->count; i++) {
		if (!get(l, i, &r) || (r.flags & SUFFIXED) == 0)
			continue;
		if (count == room) {
			room = room == 0 ? 64 : room * 2;
			if ((*all = reallocarray(*all, room, sizeof(**all))) == NULL)
				fatal("ids of %zu messages", l->count);
		}
		(*all)[count] = (struct suffixed){ .body = r.body, .i = (uint32_t)i, .ordinal = r.ordinal };
		memcpy((*all)[count++].id, r.id, UIDL_HASH);
	}
	if (count > 0)
		qsort(*all, count, sizeof(**all), compare_suffixed);
	return count;
}

/* Tells new messages with equal headers and bodies apart. The others keep their ordinals. */
static void
order(struct list *l, size_t numbered)
{
	struct suffixed *all;
	size_t count = collect_suffixed(l, &all);
	uint32_t next = 0;
	struct record r;

	for (size_t k = 0; k < count; k++) {
		if (k > 0 && (all[k].body != all[k - 1].body || memcmp(all[k].id, all[k - 1].id, UIDL_HASH) != 0))
			next = 0;
		if (all[k].i < numbered) {
			if (next <= all[k].ordinal)
				next = all[k].ordinal + 1;
			continue;
		}
		if (get(l, all[k].i, &r)) {
			r.ordinal = next++;
			index_put(l->index, all[k].i, &r);
		}
	}
	free(all);
}

/* Remembers the messages of the list before that have gone. */
static void
spend_gone(const struct numbering *n)
{
	struct record r;

	for (size_t i = 0; i < n->before->count; i++) {
		size_t first;

		if (!get(n->before, i, &r) || !is_given(&r))
			continue;
		first = list_first(n->ids, r.id);
		if (first == SIZE_MAX || n->chains[first - n->ids->first].plain == NONE)
			spend(n->list, &r);
	}
}

/* As list_number, but does not keep the list. before: as in list_make; then no message is numbered yet. */
static void
number_all(struct list *l, bool is_unchanged, struct list *before)
{
	struct numbering n = { .list = l, .before = before, .is_unchanged = is_unchanged };

	filter_spent(&n);
	n.ids = ids_from(l, (size_t)l->note.numbered, false);
	if (before != NULL)
		n.before_ids = list_ids(before);
	find_numbered(&n);
	for (size_t i = n.ids->first; i < n.ids->count; i++)
		number(&n, i);
	if (n.has_suffixes)
		order(l, n.ids->first);
	if (before != NULL) {
		spend_gone(&n);
		list_ids_free(n.before_ids);
	}
	free(n.chains);
	list_ids_free(n.ids);
	l->note.numbered = l->count;
	/* Ids of bodies that are not known last for this session. */
	if (n.has_unknown)
		l->source.state = -1;
}

void
list_number(struct list *l, bool is_unchanged)
{
	if (l->note.numbered == l->count)
		return;
	number_all(l, is_unchanged, NULL);
	save(l);
}

void
list_uidl(const struct list_message *m, char id[UIDL_SIZE])
{
	char *suffix = id + UIDL_HASH_TEXT;
	size_t room = UIDL_SIZE - UIDL_HASH_TEXT;

	uidl_write(m->found.id, id);
	if (m->is_suffixed && m->ordinal == 0)
		snprintf(suffix, room, ".%016jx", (uintmax_t)m->found.body);
	else if (m->is_suffixed)
		snprintf(suffix, room, ".%016jx.%ju", (uintmax_t)m->found.body, (uintmax_t)m->ordinal + 1);
}

/* Returns true if the marked messages are the last ones. *first is the first of them. */
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

/* Makes a new list of the messages that are not marked, in their new places. Returns false if the old one is damaged. */
static bool
squeeze(struct list *l, const unsigned char *marks, struct list *kept)
{
	size_t numbered = 0, assumed = 0;
	uint64_t gone = 0;
	struct record r;

	*kept = *l;
	kept->index = index_new(l->source.state, kind(&l->source), sizeof(struct record));
	kept->count = 0;
	for (size_t i = 0; i < l->count; i++) {
		struct list_message m;

		if (!list_get(l, i, &m) || !get(l, i, &r))
			return false;
		if (store_marked(marks, i)) {
			gone += (uint64_t)(m.end - m.found.at);
			kept->note.wire_size -= r.wire_size;
			kept->note.reaching -= m.found.reaches;
			continue;
		}
		r.at -= gone;
		index_put(kept->index, kept->count++, &r);
		numbered += i < l->note.numbered;
		assumed += i < l->note.assumed;
	}
	kept->note.numbered = numbered;
	kept->note.assumed = assumed;
	kept->note.base = 0;
	kept->note.open = UINT64_MAX;
	kept->note.end = l->note.end - (int64_t)gone;
	return true;
}

void
list_without(struct list *l, const unsigned char *marks)
{
	struct list kept;
	struct record r;
	struct fingerprint now;
	size_t first;
	bool is_good;

	for (size_t i = 0; i < l->count; i++)
		if (store_marked(marks, i) && get(l, i, &r))
			spend(l, &r);
	kept = *l;
	is_good = is_tail(l, marks, &first) ? shorten(&kept, first) : squeeze(l, marks, &kept);

	if (!is_good || fingerprint_put(&now, l->source.fd) == -1 || now.size != kept.note.end) {
		list_distrust(l);
		return;
	}
	/* Where a message ends may depend on what has been removed. */
	if (kept.note.reaching > 0 || kept.note.open != UINT64_MAX || l->note.open != UINT64_MAX)
		now = (struct fingerprint){ .stable = 0 };
	settle(&kept, &now);
	save(&kept);
}

void
list_distrust(struct list *l)
{
	doubt(l);
	save(l);
	l->source.state = -1;
}
