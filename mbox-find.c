/*
 * Finds a listed message in the mailbox as it is now.
 *
 * Runs as the owner of the mailbox. Other programs may have changed the mailbox
 * since it was listed. The user may have forged the list. A power failure may
 * have left other bytes in the mailbox than those that were listed. So a
 * message is sent or removed only if one of the following proves that it is the
 * message whose unique id the client has:
 *
 *	1  The file has the fingerprint that it had when this message was read
 *	   (find_is_certain). A message that is sent begins with "From " and
 *	   ends at a boundary. A range that is removed begins and ends at
 *	   boundaries; it may consist of several messages.
 *	2  A message with the same header is at the listed offset, and begins
 *	   and ends at boundaries. If other messages could have that header,
 *	   the body is the same, too (find_is_in_place).
 *	3  Such a message is at another offset (find_moved). It is found in a
 *	   new list of the file, the fresh list, which later sessions use.
 *
 * If several messages of the list have equal headers and bodies, each of them
 * could be proven by the same message of the file. Therefore a removal uses
 * each message of the file for at most one message of the list.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "mbox-boundary.h"
#include "mbox-cache.h"
#include "mbox-find.h"
#include "mbox-from.h"
#include "mbox-number.h"
#include "mbox-spool.h"

/*
 * Makes the list of the locked mailbox again. Returns false if the mailbox has
 * changed since it was listed, or if the new list has other messages.
 */
static bool
list_again(struct mbox *m, struct list *again)
{
	struct list_source source = spool_source(m);
	struct fingerprint now;

	source.state = -1;
	if (fingerprint_take(&now, m->fd) == -1 ||
	    !fingerprint_same(&m->listed, &now) ||
	    cache_make(again, &source, &now, &m->list) != SCAN_DONE)
		return false;
	return again->count == m->list.count &&
	    again->note.wire_size == m->list.note.wire_size;
}

/* Replaces the damaged list by a new one with the same messages. */
static void
repair_list(struct mbox *m)
{
	struct list again;
	bool same;

	log_event(LOG_NOTICE, "index",
	    "error=\"damaged, the mailbox is read again\"");
	cache_distrust(&m->list);
	errno = EIO;
	/*
	 * During a removal the mailbox is already locked, and the spool_unlock
	 * below would release these locks.
	 */
	if (m->is_removing)
		fatal("the index was damaged while the mailbox was locked");
	if (spool_lock(m, false) != DROP_OK)
		fatal("locking the mailbox to repair its index");
	same = list_again(m, &again);
	spool_unlock(m);
	if (!same)
		fatal("repairing the index: the mailbox has changed");
	list_free(&m->list);
	m->list = again;
	table_free(m->by_body);
	m->by_body = NULL;
}

struct list_message
find_listed(struct mbox *m, size_t i)
{
	struct list_message one;

	if (!list_get(&m->list, i, &one)) {
		repair_list(m);
		if (!list_get(&m->list, i, &one))
			fatal("the index cannot be repaired");
	}
	return one;
}

/*
 * Returns the table by body of the session's messages. The first call makes the
 * table.
 */
static const struct table *
table_of_bodies(struct mbox *m)
{
	if (m->by_body == NULL)
		m->by_body = table_by_body(&m->list);
	return m->by_body;
}

/* Returns true if the header of the message *one does not identify it. */
static bool
needs_body(const struct list_message *one)
{
	return one->found.weak || one->is_header_shared;
}

/*
 * Returns true if the message in [from, to) of the file has the body that is
 * listed for the message *one. Returns false if no body is listed.
 */
static bool
has_same_body(const struct mbox *m, const struct list_message *one, off_t from,
    off_t to)
{
	uint64_t body;

	return one->found.body != 0 && scan_body(m->fd, from, to, &body) == 0 &&
	    body == one->found.body;
}

bool
find_has_equal(struct mbox *m, const struct list_message *one)
{
	const struct table *t;
	size_t first;

	if (one->found.body == 0 || !needs_body(one))
		return false;
	t = table_of_bodies(m);
	first = table_first_with_body(t, one->found.id, one->found.body);
	return first != SIZE_MAX && table_next(t, first) != SIZE_MAX;
}

bool
find_is_in_place(struct mbox *m, const struct list_message *one, off_t size)
{
	return list_is_in_place(&m->list, one, size) &&
	    (!needs_body(one) ||
		has_same_body(m, one, one->found.at, one->end));
}

enum drop_error
find_in_place_locked(struct mbox *m, const struct list_message *one,
    off_t *size)
{
	enum drop_error error = spool_lock(m, false);
	struct fingerprint now;

	if (error != DROP_OK)
		return error;
	if (fingerprint_look(&now, m->fd) == 0 &&
	    find_is_in_place(m, one, (off_t)now.size))
		*size = (off_t)now.size;
	else
		error = DROP_CHANGED;
	spool_unlock(m);
	return error;
}

bool
find_is_certain(const struct mbox *m, size_t i)
{
	return list_is_verified(&m->list, i) && spool_is_unchanged(m);
}

/*
 * Returns true if the message *one begins with "From " and ends at a boundary
 * of the file. This must be checked even if the fingerprint matches, because
 * the list may be forged, or a power failure may have changed the mailbox.
 */
static bool
has_boundaries(const struct mbox *m, const struct list_message *one, off_t size)
{
	char from[FROM_SIZE];
	off_t empty;

	return pread(m->fd, from, sizeof(from), one->found.at) ==
	    (ssize_t)sizeof(from) &&
	    from_begins(from, sizeof(from)) &&
	    boundary_is_at(m->fd, one->end, size, &empty);
}

/*
 * Makes the fresh list count as out of date. It is kept for its ids until a new
 * one is made.
 */
static void
outdate_fresh(struct fresh *f)
{
	f->mailbox = (struct fingerprint){ .stable = 0 };
}

/*
 * Makes the fresh list of the locked mailbox. Compares it with the fresh list
 * that it replaces, if there is one, because that list may record that messages
 * own ids, and the session's list may not. Returns as find_message does.
 */
static enum drop_error
list_locked(struct mbox *m)
{
	struct fresh *f = &m->fresh;
	struct list_source source = spool_source(m);
	struct list made;
	enum scan_result result;

	/* Later sessions use the fresh list, not the session's list. */
	cache_distrust(&m->list);
	if (fingerprint_take(&f->mailbox, m->fd) == -1)
		fatal("fstat of the mailbox");
	/* Do not log a failure: a client can cause it again and again. */
	result = cache_make(&made, &source, &f->mailbox,
	    f->exists ? &f->list : &m->list);
	if (result != SCAN_DONE) {
		list_free(&made);
		outdate_fresh(f);
		return result == SCAN_FOREIGN ? DROP_CHANGED : DROP_FAILED;
	}
	if (f->exists)
		list_free(&f->list);
	table_free(f->by_header);
	table_free(f->by_body);
	f->list = made;
	f->by_header = table_by_header(&f->list, 0);
	f->by_body = table_by_body(&f->list);
	f->exists = true;
	return DROP_OK;
}

/*
 * Makes a fresh list, unless the present one is still up to date. Locks the
 * mailbox for this time, unless a removal has already locked it. Returns
 * DROP_CHANGED if a removal has taken messages of a list that is out of date.
 * In all other cases returns as find_message does.
 */
static enum drop_error
list_afresh(struct mbox *m)
{
	struct fresh *f = &m->fresh;
	enum drop_error error = DROP_OK;
	struct fingerprint now;
	int number;

	if (f->exists && fingerprint_look(&now, m->fd) == 0 &&
	    fingerprint_same(&f->mailbox, &now))
		return DROP_OK;
	if (f->taken != NULL)
		return DROP_CHANGED;
	if (!m->is_removing && (error = spool_lock(m, false)) != DROP_OK)
		return error;
	error = list_locked(m);
	number = errno;
	if (!m->is_removing)
		spool_unlock(m);
	errno = number;
	return error;
}

/*
 * Returns true if *candidate, of the fresh list, is the message *one of the
 * session's list. Their headers are equal. is_only is true if no other message
 * of the fresh list has that header. An earlier fresh list may have had one.
 */
static bool
is_same_message(struct mbox *m, const struct list_message *one,
    const struct list_message *candidate, bool is_only)
{
	if (!is_only || candidate->is_header_shared || needs_body(one))
		return has_same_body(m, one, candidate->found.at,
		    candidate->end);
	/*
	 * Only half of a message may have been listed, and another program may
	 * then have written a message after that half. The two together are not
	 * the listed message.
	 */
	return list_body_wire_size(candidate) == list_body_wire_size(one);
}

/* Returns true if a removal has already taken message i of the fresh list. */
static bool
is_taken(const struct fresh *f, size_t i)
{
	return f->taken != NULL && store_marked(f->taken, i);
}

/* Takes message i of the fresh list, if this is a removal. */
static void
take_message(struct fresh *f, size_t i)
{
	if (f->taken == NULL)
		return;
	f->taken[i / 8] |= (unsigned char)(1 << i % 8);
	table_drop_first(f->by_body, i);
}

/*
 * Searches the fresh list for messages with the header and body of *one.
 * Returns the first of these that is not taken, or the last one if all are
 * taken. Removes the taken messages before the result from the table. Otherwise
 * each search would walk through the taken messages again.
 */
static size_t
first_not_taken(struct fresh *f, const struct list_message *one)
{
	size_t next, i;

	i = table_first_with_body(f->by_body, one->found.id, one->found.body);
	while (i != SIZE_MAX && is_taken(f, i) &&
	    (next = table_next(f->by_body, i)) != SIZE_MAX) {
		table_drop_first(f->by_body, i);
		i = next;
	}
	return i;
}

/*
 * Stores message i of the fresh list in *where. Returns true if this is the
 * message *one and is not taken. is_only is as in is_same_message.
 */
static bool
matches(struct mbox *m, const struct list_message *one, size_t i,
    struct list_message *where, bool is_only)
{
	return i != SIZE_MAX && !is_taken(&m->fresh, i) &&
	    list_get(&m->fresh.list, i, where) &&
	    memcmp(where->found.id, one->found.id, UIDL_HASH) == 0 &&
	    is_same_message(m, one, where, is_only);
}

/*
 * Finds the message *one in the fresh list. Returns its index in that list, or
 * SIZE_MAX, and stores the message in *where. A million messages may have the
 * same header. So if several have it, compares only messages that also have the
 * body of *one. Prefers a message at the listed offset.
 */
static size_t
find_in_fresh(struct mbox *m, const struct list_message *one,
    struct list_message *where)
{
	struct fresh *f = &m->fresh;
	size_t i = table_first(f->by_header, one->found.id), at;
	bool is_only = i != SIZE_MAX && table_next(f->by_header, i) == SIZE_MAX;

	if (!is_only)
		i = first_not_taken(f, one);
	at = list_at(&f->list, one->found.at);
	if (matches(m, one, at, where, is_only))
		i = at;
	while (i != SIZE_MAX && !matches(m, one, i, where, is_only))
		i = is_only ? SIZE_MAX : table_next(f->by_body, i);
	return i;
}

enum drop_error
find_moved(struct mbox *m, const struct list_message *one,
    struct list_message *where)
{
	enum drop_error error = list_afresh(m);
	size_t i;

	if (error != DROP_OK)
		return error;
	i = find_in_fresh(m, one, where);
	if (i == SIZE_MAX)
		return DROP_CHANGED;
	take_message(&m->fresh, i);
	return DROP_OK;
}

/*
 * Finds the message *one, which is not at its listed offset, in order to send
 * it. If the fingerprint of the fresh list is not stable, the file may have
 * changed in the same tick of the clock after the listing. Then also compares
 * the found message with the file. Makes the list once more if the found
 * message differs, or if none is found and the tick has passed. (Earlier, the
 * new list would prove no more, and a client could cause it again and again.)
 */
static enum drop_error
find_to_send(struct mbox *m, const struct list_message *one,
    struct list_message *where)
{
	const struct fresh *f = &m->fresh;
	enum drop_error error = find_moved(m, one, where);
	struct fingerprint now;

	if ((error != DROP_OK && error != DROP_CHANGED) ||
	    f->mailbox.stable == 1 ||
	    (error == DROP_OK ?
		    find_is_in_place(m, where, f->mailbox.size) :
		    fingerprint_take(&now, m->fd) == -1 || now.stable != 1))
		return error;
	outdate_fresh(&m->fresh);
	return find_moved(m, one, where);
}

enum drop_error
find_message(struct mbox *m, size_t i, off_t *size, struct list_message *where,
    bool *certain)
{
	struct list_message one;
	enum drop_error error;

	*where = one = find_listed(m, i);
	*certain = find_is_certain(m, i);
	if (*certain ? has_boundaries(m, &one, *size) :
		       find_is_in_place(m, &one, *size))
		return DROP_OK;
	*certain = false;
	/*
	 * If an MDA writes after the last message, this look takes less time
	 * than a fresh list.
	 */
	if (i + 1 == m->list.count && !m->fresh.exists) {
		error = find_in_place_locked(m, &one, size);
		if (error != DROP_CHANGED)
			return error;
	}
	error = find_to_send(m, &one, where);
	*size = (off_t)m->fresh.mailbox.size;
	return error;
}

enum drop_error
find_begin_removal(struct mbox *m)
{
	struct fresh *f = &m->fresh;
	enum drop_error error;

	/*
	 * If the fingerprint of the fresh list is not stable, the list may be
	 * out of date: the mailbox may have changed again in the same tick of
	 * the clock.
	 */
	if (f->mailbox.stable != 1)
		outdate_fresh(f);
	if ((error = list_afresh(m)) != DROP_OK)
		return error;
	f->taken = calloc(f->list.count / 8 + 1, 1);
	if (f->taken == NULL)
		fatal("marks for %zu messages", f->list.count);
	return DROP_OK;
}

void
find_end_removal(struct mbox *m)
{
	free(m->fresh.taken);
	m->fresh.taken = NULL;
}
