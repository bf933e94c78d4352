/*
 * Holds the list of the messages in an mbox: one record for each, in an index.
 *
 * Runs as the owner of the mailbox. The index (index.c) is a file of the user,
 * who can forge it. So every offset in the index is checked before it is used.
 *
 * These files share the work on the list:
 *
 *	mbox-list.c    records and the list's totals
 *	mbox-table.c   finds messages by the hashes of header and body
 *	mbox-number.c  gives each message its unique id
 *	mbox-cache.c   keeps the list between sessions; decides which part of
 *	               it is still true
 */
#include "config.h"

#include "mbox-boundary.h"
#include "mbox-list.h"

_Static_assert(sizeof(struct list_note) <= INDEX_NOTE, "the note is too large");

void
list_put(struct list *l, size_t i, const struct list_record *r)
{
	index_put(l->index, i, r);
}

/*
 * A record that changes later must be synced. So this function already sets
 * LIST_SUFFIXED for weak messages; most records of weak messages then never
 * change.
 */
void
list_add(void *list, const struct scan_message *m)
{
	struct list *l = list;
	struct list_record r = { .at = (uint64_t)m->at,
		.wire_size = m->wire_size,
		.body = m->body,
		.header = LIST_HEADER_MOST,
		.flags = (m->weak ? LIST_WEAK | LIST_SUFFIXED : 0u) |
		    (m->right_if_shrunk ? LIST_IF_SHRUNK : 0u) };

	if (m->header < LIST_HEADER_MOST)
		r.header = (uint32_t)m->header & LIST_HEADER_MOST;
	memcpy(r.id, m->id, UIDL_HASH);
	if (m->right_if_grown && l->note.first_if_grown > l->count)
		l->note.first_if_grown = l->count;
	l->note.count_if_shrunk += m->right_if_shrunk;
	list_put(l, l->count++, &r);
	l->note.wire_size += m->wire_size;
}

bool
list_get(const struct list *l, size_t i, struct list_message *m)
{
	struct list_record r, next = { .at = (uint64_t)l->note.end };

	if (!list_record(l, i, &r) ||
	    (i + 1 < l->count && !list_record(l, i + 1, &next)) ||
	    r.at >= next.at || next.at > (uint64_t)l->note.end)
		return false;
	*m = (struct list_message){ .end = (off_t)next.at,
		.ordinal = r.ordinal,
		.is_header_shared = (r.flags & LIST_SHARED) != 0,
		.is_suffixed = (r.flags & LIST_SUFFIXED) != 0 };
	m->found = (struct scan_message){ .at = (off_t)r.at,
		.wire_size = r.wire_size,
		.header = r.header,
		.body = r.body,
		.weak = (r.flags & LIST_WEAK) != 0,
		.right_if_shrunk = (r.flags & LIST_IF_SHRUNK) != 0 };
	memcpy(m->found.id, r.id, UIDL_HASH);
	return true;
}

size_t
list_at(const struct list *l, off_t at)
{
	size_t low = 0, high = l->count;
	struct list_record r;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (!list_record(l, middle, &r))
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

bool
list_is_verified(const struct list *l, size_t i)
{
	return i >= l->note.unverified;
}

uint64_t
list_body_wire_size(const struct list_message *m)
{
	uint64_t n = m->found.wire_size - m->found.header;

	return n > 2 ? n - 2 : 0;
}

bool
list_is_in_place(const struct list *l, const struct list_message *m, off_t size)
{
	unsigned char id[UIDL_HASH];
	int fd = l->source.fd;
	off_t at = m->found.at, empty;

	return (at == 0 || boundary_is_at(fd, at, size, &empty)) &&
	    scan_id(fd, at, m->end, id) == 0 &&
	    memcmp(id, m->found.id, UIDL_HASH) == 0 &&
	    boundary_is_at(fd, m->end, size, &empty);
}

bool
list_truncate(struct list *l, size_t count)
{
	struct list_message m;
	int64_t end = l->note.end;

	for (size_t i = l->count; i-- > count; end = m.found.at) {
		if (!list_get(l, i, &m))
			return false;
		l->note.wire_size -= m.found.wire_size;
		l->note.count_if_shrunk -= m.found.right_if_shrunk;
	}
	index_truncate(l->index, count);
	l->count = count;
	l->note.end = end;
	if (l->note.numbered > count)
		l->note.numbered = count;
	if (l->note.unverified > count)
		l->note.unverified = count;
	if (l->note.base > count)
		l->note.base = count;
	if (l->note.first_if_grown >= count)
		l->note.first_if_grown = LIST_NEVER;
	return true;
}

void
list_free(struct list *l)
{
	index_free(l->index);
	l->index = NULL;
}
