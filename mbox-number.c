/*
 * Numbers the messages of an mbox: gives each its unique id.
 *
 * Runs as the owner of the mailbox. Senders choose headers and bodies. They can
 * send any number of messages that are equal or have equal hashes.
 *
 * Let H be the hash of a message's header and B the hash of its body.
 *
 *	the message                                      its id
 *
 *	1  no other message has, or had, this header     H
 *	2  other messages have, or had, this header:
 *	   the first one whose body owns H (see below)   H
 *	   the first one, if no body owns H yet          H
 *	   each other one                                H.B
 *	3  the header has neither Message-ID nor
 *	   Received, so it does not identify the message H.B
 *	4  the id by 2 or 3 would be H.B, but another    H.B.2
 *	   message already has this id                   H.B.3 and so on
 *
 * Bodies are read only in the cases 2 to 4. The ordinals of case 4 follow the
 * order of the file. A message keeps its ordinal until a new list is made.
 *
 * An id with B always means the same header and the same body. An id H means
 * one header. As long as only one message at a time has this header, its body
 * is not read. When a second message with this header is listed, the body of
 * the first message becomes the owner of the id H. From then on no message with
 * another body gets this id, even after the first message was removed.
 * Otherwise clients that keep mail on the server would take the other message
 * for the first, which they have already fetched. Therefore
 *
 *	- number_all compares the new list with the one that it replaces, and
 *	- the note of the list records the last LIST_RETIRED removed messages
 *	  that owned such an id.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "mbox-number.h"
#include "mbox-table.h"

#define NONE UINT32_MAX
#define FILTER_BITS 16384

/* What is known about the messages with one header. */
struct chain {
	uint32_t plain; /* index of the message with the id H; or NONE */
	uint32_t owner; /* if has_owner: part of the owner's body hash */
	bool has_owner;
	bool is_shared; /* more than one message has this header */
};

/* The state of numbering a list. */
struct numbering {
	struct list *list;
	size_t first;         /* the first message that is not numbered */
	struct table *table;  /* the messages from `first` on, by header */
	struct list *before;  /* the list that `list` replaces, or NULL */
	struct table *old;    /* the messages of `before`, by header */
	struct chain *chains; /* [i]: the chain that message first + i begins */
	uint64_t filter[FILTER_BITS / 64]; /* of the retired ids */
	const struct fingerprint *listed;  /* as in number_new */
	bool has_suffixes;                 /* a message has got an id with B */
};

bool
number_owns_id(const struct list_record *r)
{
	return (r->flags & LIST_SHARED) != 0 &&
	    (r->flags & LIST_SUFFIXED) == 0 && r->body != 0;
}

/* Returns the entry of this id in the ring of retired ids, or NULL. */
static const struct list_retired *
find_retired(const struct list *l, const unsigned char *id)
{
	const struct list_retired *all = l->note.retired;
	const struct list_retired *last = &all[LIST_RETIRED - 1];
	size_t used = LIST_RETIRED;
	uint32_t part;

	/* If the last entry is empty, the ring has never been full. */
	if ((last->id | last->body) == 0)
		used = (size_t)l->note.next_retired;
	memcpy(&part, id, sizeof(part));
	for (size_t i = 0; i < used; i++)
		if (all[i].id == part && (all[i].id | all[i].body) != 0)
			return &all[i];
	return NULL;
}

void
number_retire(struct list *l, const struct list_record *r)
{
	struct list_retired *entry = &l->note.retired[l->note.next_retired];

	if (!number_owns_id(r) || find_retired(l, r->id) != NULL)
		return;
	memcpy(&entry->id, r->id, sizeof(entry->id));
	entry->body = (uint32_t)r->body;
	l->note.next_retired = (l->note.next_retired + 1) % LIST_RETIRED;
}

/* Returns the bit of the filter for this part of an id. */
static size_t
filter_bit(uint32_t part)
{
	return part % FILTER_BITS;
}

/* Adds the id that begins with this part to a filter. */
static void
filter_add(uint64_t *filter, uint32_t part)
{
	size_t bit = filter_bit(part);

	filter[bit / 64] |= (uint64_t)1 << bit % 64;
}

/* Returns false if this id is certainly not in the filter. */
static bool
filter_has(const uint64_t *filter, const unsigned char *id)
{
	uint32_t part;
	size_t bit;

	memcpy(&part, id, sizeof(part));
	bit = filter_bit(part);
	return (filter[bit / 64] >> bit % 64 & 1) != 0;
}

/*
 * Fills the filter with the retired ids. Without the filter, the ring would be
 * searched for each message, which takes long for a million messages.
 */
static void
fill_filter(struct numbering *n)
{
	for (size_t i = 0; i < LIST_RETIRED; i++)
		filter_add(n->filter, n->list->note.retired[i].id);
}

/*
 * Makes the chains. If a numbered message has the header of a new message,
 * records that in the chain of this header.
 */
static void
find_numbered(struct numbering *n)
{
	uint64_t is_new[FILTER_BITS / 64] = { 0 }; /* filter of the new ids */
	size_t first = n->first;
	struct list_record r;
	uint32_t part;

	n->chains = calloc(n->list->count - first + 1, sizeof(*n->chains));
	if (n->chains == NULL)
		fatal("ids of %zu messages", n->list->count);
	for (size_t i = first; i < n->list->count; i++) {
		n->chains[i - first].plain = NONE;
		if (first > 0 && list_record(n->list, i, &r)) {
			memcpy(&part, r.id, sizeof(part));
			filter_add(is_new, part);
		}
	}
	for (size_t i = 0; i < first; i++) {
		size_t chain = SIZE_MAX;

		if (list_record(n->list, i, &r) && filter_has(is_new, r.id))
			chain = table_first(n->table, r.id);
		if (chain == SIZE_MAX)
			continue;
		n->chains[chain - first].is_shared = true;
		if ((r.flags & LIST_SUFFIXED) == 0)
			n->chains[chain - first].plain = (uint32_t)i;
	}
}

/*
 * Returns true if the mailbox seems to be still the one that was listed. A
 * program that ignores the locks may change it.
 */
static bool
is_unchanged(const struct numbering *n)
{
	struct fingerprint now;

	return fingerprint_look(&now, n->list->source.fd) == 0 &&
	    fingerprint_same(n->listed, &now);
}

/*
 * Computes the hash of the body of message i. Returns false if the body cannot
 * be read, or if an unverified message is not at its listed offset.
 */
static bool
read_body(const struct numbering *n, size_t i, uint64_t *body)
{
	struct list_message m;

	return list_get(n->list, i, &m) &&
	    (list_is_verified(n->list, i) ||
		list_is_in_place(n->list, &m, (off_t)n->listed->size)) &&
	    scan_body(n->list->source.fd, m.found.at, m.end, body) == 0 &&
	    is_unchanged(n);
}

/*
 * Computes the hash of the body of message i, unless r->body already has it.
 * Returns true if r->body is the hash. If the body cannot be read any more,
 * returns false, and r->body becomes a random number. No other message can get
 * an id with this number. Later sessions must not take it for a hash, so the
 * file of the index does not change any more.
 */
static bool
learn_body(struct numbering *n, size_t i, struct list_record *r)
{
	if (r->body != 0 || read_body(n, i, &r->body))
		return true;
	arc4random_buf(&r->body, sizeof(r->body));
	r->body |= 1;
	index_detach(n->list->index);
	n->list->source.state = -1;
	return false;
}

/* Records that another message has the header of message i, too. */
static void
mark_shared(struct numbering *n, size_t i)
{
	struct list_record r;

	if (!list_record(n->list, i, &r) || (r.flags & LIST_SHARED) != 0)
		return;
	/* A later list would take a random number for the id's owner. */
	if (!learn_body(n, i, &r))
		r.body = 0;
	r.flags |= LIST_SHARED;
	list_put(n->list, i, &r);
}

/*
 * Finds the body to which this id, a hash of a header alone, belongs. Searches
 * the retired messages and the replaced list. Stores part of the body's hash in
 * *body. Returns false if the id belongs to no body.
 */
static bool
find_owner(const struct numbering *n, const unsigned char *id, uint32_t *body)
{
	const struct list_retired *retired = NULL;
	struct list_record r;

	if (filter_has(n->filter, id))
		retired = find_retired(n->list, id);
	if (retired != NULL) {
		*body = retired->body;
		return true;
	}
	if (n->before == NULL)
		return false;
	for (size_t i = table_first(n->old, id); i != SIZE_MAX;
	     i = table_next(n->old, i))
		if (list_record(n->before, i, &r) && number_owns_id(&r)) {
			*body = (uint32_t)r.body;
			return true;
		}
	return false;
}

/*
 * Returns the chain of message i. If i is the first message of the chain, also
 * fills the fields is_shared and has_owner. They are found only once, because a
 * chain may be long.
 */
static struct chain *
chain_of(const struct numbering *n, size_t i, const struct list_record *r)
{
	size_t first = table_first(n->table, r->id);
	struct chain *c;

	/* The user can change the index at any time. */
	if (first == SIZE_MAX)
		fatal("the index has changed while it was read");
	c = &n->chains[first - n->first];
	if (i == first) {
		c->is_shared |= table_next(n->table, first) != SIZE_MAX;
		c->has_owner = (r->flags & LIST_WEAK) == 0 &&
		    find_owner(n, r->id, &c->owner);
	}
	return c;
}

/*
 * Decides whether message i gets the id H or an id with the hash of its body.
 */
static void
number_message(struct numbering *n, size_t i)
{
	struct list_record r;
	struct chain *c;
	bool is_plain;

	if (!list_record(n->list, i, &r))
		return;
	c = chain_of(n, i, &r);
	if (!c->is_shared && !c->has_owner && (r.flags & LIST_WEAK) == 0)
		return;
	is_plain = learn_body(n, i, &r) && (r.flags & LIST_WEAK) == 0 &&
	    c->plain == NONE && (!c->has_owner || c->owner == (uint32_t)r.body);
	if (is_plain)
		c->plain = (uint32_t)i;
	else if (c->plain != NONE)
		mark_shared(n, c->plain);
	r.ordinal = 0;
	r.flags &= LIST_WEAK | LIST_IF_SHRUNK;
	/*
	 * LIST_SHARED stays set even after the other messages with this header
	 * were removed. number_retire needs the flag when this message is
	 * removed, too.
	 */
	r.flags |= (c->is_shared || c->has_owner ? LIST_SHARED : 0u) |
	    (is_plain ? 0u : LIST_SUFFIXED);
	n->has_suffixes |= !is_plain;
	list_put(n->list, i, &r);
}

/* A message whose id has a suffix. */
struct suffixed {
	unsigned char id[UIDL_HASH];
	uint64_t body;
	uint32_t i, ordinal;
};

/* Compares header, body and position, for qsort. */
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

/*
 * Stores all messages whose ids have a suffix in *all, sorted by header, body
 * and position. Returns their number. The caller frees *all.
 */
static size_t
collect_suffixed(struct list *l, struct suffixed **all)
{
	size_t count = 0, room = 0;
	struct list_record r;

	*all = NULL;
	for (size_t i = 0; i < l->count; i++) {
		if (!list_record(l, i, &r) || (r.flags & LIST_SUFFIXED) == 0)
			continue;
		if (count == room) {
			room = room == 0 ? 64 : room * 2;
			*all = reallocarray(*all, room, sizeof(**all));
			if (*all == NULL)
				fatal("ids of %zu messages", l->count);
		}
		(*all)[count] = (struct suffixed){
			.body = r.body, .i = (uint32_t)i, .ordinal = r.ordinal
		};
		memcpy((*all)[count++].id, r.id, UIDL_HASH);
	}
	if (count > 0)
		qsort(*all, count, sizeof(**all), compare_suffixed);
	return count;
}

/*
 * Gives an ordinal to each message whose id has a suffix, from the index
 * `first` on. The messages before that index keep their ordinals.
 */
static void
give_ordinals(struct list *l, size_t first)
{
	struct suffixed *all;
	size_t count = collect_suffixed(l, &all);
	uint32_t next = 0;
	struct list_record r;

	for (size_t k = 0; k < count; k++) {
		if (k > 0 &&
		    (all[k].body != all[k - 1].body ||
			memcmp(all[k].id, all[k - 1].id, UIDL_HASH) != 0))
			next = 0;
		if (all[k].i < first) {
			if (next <= all[k].ordinal)
				next = all[k].ordinal + 1;
			continue;
		}
		if (list_record(l, all[k].i, &r)) {
			r.ordinal = next++;
			list_put(l, all[k].i, &r);
		}
	}
	free(all);
}

/*
 * Retires the ids that are gone: ids of a header alone that a message of the
 * replaced list owned and no message of the new list has.
 */
static void
retire_gone(const struct numbering *n)
{
	struct list_record r;

	for (size_t i = 0; i < n->before->count; i++) {
		size_t first;

		if (!list_record(n->before, i, &r) || !number_owns_id(&r))
			continue;
		first = table_first(n->table, r.id);
		if (first == SIZE_MAX ||
		    n->chains[first - n->first].plain == NONE)
			number_retire(n->list, &r);
	}
}

/* Numbers the messages of n->list from n->first on. */
static void
number_messages(struct numbering *n)
{
	struct list *l = n->list;

	fill_filter(n);
	n->table = table_by_header(l, n->first);
	if (n->before != NULL)
		n->old = table_by_header(n->before, 0);
	find_numbered(n);
	for (size_t i = n->first; i < l->count; i++)
		number_message(n, i);
	if (n->has_suffixes)
		give_ordinals(l, n->first);
	if (n->before != NULL)
		retire_gone(n);
	free(n->chains);
	table_free(n->table);
	table_free(n->old);
	l->note.numbered = l->count;
}

void
number_new(struct list *l, const struct fingerprint *listed)
{
	struct numbering n = {
		.list = l, .first = (size_t)l->note.numbered, .listed = listed
	};

	number_messages(&n);
}

void
number_all(struct list *l, const struct fingerprint *listed,
    struct list *before)
{
	struct numbering n = { .list = l, .before = before, .listed = listed };

	number_messages(&n);
}

void
number_uidl(const struct list_message *m, char id[UIDL_SIZE])
{
	char *suffix = id + UIDL_HASH_TEXT;
	size_t room = UIDL_SIZE - UIDL_HASH_TEXT;
	uintmax_t body = m->found.body, n = (uintmax_t)m->ordinal + 1;

	uidl_write(m->found.id, id);
	if (!m->is_suffixed)
		return;
	if (n == 1)
		snprintf(suffix, room, ".%016jx", body);
	else
		snprintf(suffix, room, ".%016jx.%ju", body, n);
}
