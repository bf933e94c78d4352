/*
 * Removes the marked messages from an mbox: finds their bytes in the file as it
 * is now, and gives these ranges to the journal.
 *
 * Runs as the owner of the mailbox. Only a message that is proven (mbox-find.c)
 * is removed. A message that cannot be proven stays, and the client gets an
 * error. All other bytes of the file stay, including mail that has arrived
 * since the login.
 *
 * First all marked messages are looked for at their listed offsets. Unless all
 * of them are proven to be there (find_in_place), all are looked for in a fresh
 * list of the file.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mbox-boundary.h"
#include "mbox-cache.h"
#include "mbox-find.h"
#include "mbox-ranges.h"
#include "mbox-redo.h"
#include "mbox-remove.h"
#include "mbox-spool.h"
#include "volume.h"

#define NOT_IN_PLACE SIZE_MAX

static int
compare_ranges(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

/*
 * Returns true if these ranges begin and end at boundaries of the file, which
 * has this size. Does not check an offset at which one range ends and the next
 * begins.
 */
static bool
are_at_boundaries(const struct mbox *m, const struct range *ranges, size_t n,
    off_t size)
{
	off_t empty;

	for (size_t i = 0; i < n; i++) {
		const struct range *r = &ranges[i];
		bool continues = i > 0 && r[-1].to == r->from;
		bool is_continued = i + 1 < n && r->to == r[1].from;

		if (!continues && r->from > 0 &&
		    !boundary_is_at(m->fd, r->from, size, &empty))
			return false;
		if (!is_continued &&
		    !boundary_is_at(m->fd, r->to, size, &empty))
			return false;
	}
	return true;
}

/*
 * Returns true if the mailbox still has this fingerprint. It is locked, but
 * some programs ignore the locks.
 */
static bool
is_still(const struct mbox *m, const struct fingerprint *then)
{
	struct fingerprint now;

	return fingerprint_look(&now, m->fd) == 0 &&
	    fingerprint_same(then, &now);
}

/*
 * Finds the marked messages at their listed offsets in the mailbox, which has
 * the fingerprint *now. Returns their number. Returns NOT_IN_PLACE if a message
 * is not at its offset, if an equal message may be at its offset, if the ranges
 * do not begin and end at boundaries, or if the mailbox changes meanwhile.
 */
static size_t
find_in_place(struct mbox *m, const unsigned char *marks,
    const struct fingerprint *now, struct range *ranges)
{
	bool unchanged = fingerprint_matches(&m->listed, now);
	size_t n = 0;

	for (size_t i = 0; i < m->list.count; i++) {
		struct list_message one;

		if (!store_marked(marks, i))
			continue;
		one = find_listed(m, i);
		/*
		 * If another program has removed one of several equal messages,
		 * the next of these may now be at its offset.
		 */
		if ((!unchanged || !list_is_verified(&m->list, i)) &&
		    (!find_is_in_place(m, &one, now->size) ||
			find_has_equal(m, &one)))
			return NOT_IN_PLACE;
		ranges[n++] = (struct range){ one.found.at, one.end };
	}
	/*
	 * If the list is forged, or older than a power failure, the ranges may
	 * be wrong.
	 */
	return are_at_boundaries(m, ranges, n, now->size) && is_still(m, now) ?
	    n :
	    NOT_IN_PLACE;
}

/*
 * For each message that is not marked but has an equal message in the list,
 * takes one message of the file. The removal does not find taken messages. So
 * as many equal messages stay as are not marked.
 */
static void
reserve_equal(struct mbox *m, const unsigned char *marks)
{
	for (size_t i = 0; i < m->list.count; i++) {
		struct list_message one, where;

		if (store_marked(marks, i))
			continue;
		one = find_listed(m, i);
		if (find_has_equal(m, &one))
			find_moved(m, &one, &where);
	}
}

/*
 * Finds the marked messages in the mailbox as it is now. Stores their ranges in
 * ascending order, and returns the number of ranges. If some messages are not
 * found, stores the reason in *error. If the mailbox changes meanwhile, finds
 * none.
 */
static size_t
find_anywhere(struct mbox *m, const unsigned char *marks, struct range *ranges,
    enum drop_error *error)
{
	size_t n = 0;

	if ((*error = find_begin_removal(m)) != DROP_OK)
		return 0;
	reserve_equal(m, marks);
	for (size_t i = 0; i < m->list.count; i++) {
		struct list_message one, where;

		if (!store_marked(marks, i))
			continue;
		one = find_listed(m, i);
		if (find_moved(m, &one, &where) == DROP_OK)
			ranges[n++] =
			    (struct range){ where.found.at, where.end };
		else
			*error = DROP_CHANGED;
	}
	find_end_removal(m);
	if (n > 0)
		qsort(ranges, n, sizeof(*ranges), compare_ranges);
	if (are_at_boundaries(m, ranges, n, m->fresh.mailbox.size) &&
	    is_still(m, &m->fresh.mailbox))
		return n;
	*error = DROP_CHANGED;
	return 0;
}

/*
 * Returns true (logged) if the state directory has a journal. At the login
 * there was none, so it is the journal of a session that has had the session
 * lock since: a file server has given the lock away and back, and lock_spool
 * did not notice. The mailbox may be half written. The recovery, which runs
 * after this session, finishes that removal.
 */
static bool
is_begun_elsewhere(const struct mbox *m)
{
	if (!volume_is_shared(m->place.state) ||
	    !redo_is_pending(m->place.state))
		return false;
	log_failed_at(LOG_ERR,
	    "the removal of a later session is unfinished: did this host lose "
	    "its locks?",
	    "removing messages");
	return true;
}

static void
log_replaced(void)
{
	log_failed_at(LOG_WARNING, "another program replaced the mailbox",
	    "removing messages");
}

/* Does what remove_marked does, in the locked mailbox. */
static enum drop_error
remove_locked(struct mbox *m, const unsigned char *marks, size_t *removed)
{
	const struct journal_box box =
	    journal_box_make(m->place.state, m->fd, m->place.dir);
	enum drop_error error = DROP_OK;
	struct range *ranges;
	struct fingerprint now;
	bool unchanged;
	int same;
	size_t n;

	if (is_begun_elsewhere(m))
		return DROP_FAILED;
	if ((same = spool_is_same_file(m)) == -1 ||
	    fingerprint_look(&now, m->fd) == -1) {
		log_failed("removing messages");
		return DROP_FAILED;
	}
	if (same == 0) {
		log_replaced();
		return DROP_CHANGED;
	}
	ranges = reallocarray(NULL, m->list.count, sizeof(*ranges));
	if (ranges == NULL)
		fatal("ranges of %zu messages", m->list.count);
	unchanged = fingerprint_matches(&m->listed, &now);
	n = find_in_place(m, marks, &now, ranges);
	if (n == NOT_IN_PLACE) {
		unchanged = false;
		n = find_anywhere(m, marks, ranges, &error);
	}
	if (error == DROP_CHANGED)
		log_failed_at(LOG_WARNING,
		    "another program changed the mailbox", "removing messages");
	else if (error != DROP_OK) {
		log_failed("removing messages");
		return error;
	}
	switch (ranges_remove(&box, ranges, n)) {
	case RANGES_REMOVED:
		*removed = n;
		if (unchanged && n > 0)
			cache_remove(&m->list, marks);
		return error;
	case RANGES_DECIDED:
		*removed = n;
		return DROP_LATER;
	default:
		return DROP_FAILED;
	}
}

/*
 * Reads the records that the removal will need, so that a damaged list is
 * repaired before the mailbox is locked for writing. The removal needs all
 * records if the mailbox may have changed, or if some message is not verified
 * (list_is_verified). Otherwise the removal needs only the records of marked
 * messages.
 */
static void
repair_before_removal(struct mbox *m, const unsigned char *marks)
{
	bool all = !spool_is_unchanged(m) || m->list.note.unverified > 0;

	for (size_t i = 0; i < m->list.count; i++)
		if (all || store_marked(marks, i))
			find_listed(m, i);
}

enum drop_error
remove_marked(struct mbox *m, const unsigned char *marks, size_t *removed)
{
	enum drop_error error;

	repair_before_removal(m, marks);
	if ((error = spool_lock(m, true)) == DROP_CHANGED)
		log_replaced();
	if (error != DROP_OK)
		return error;
	m->is_removing = true;
	error = remove_locked(m, marks, removed);
	m->is_removing = false;
	if (error == DROP_LATER)
		spool_leave_locked(m);
	else
		spool_unlock(m);
	return error;
}
