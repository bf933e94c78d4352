/*
 * Removes the marked messages from an mbox: finds their bytes in the file as it
 * is now, and gives these ranges to the journal.
 *
 * Runs as the owner of the mailbox. Only a message that is proven (mbox-find.c)
 * is removed. A message that cannot be proven stays, and the client gets an
 * error. All else in the file stays byte for byte, also mail that has arrived
 * since the login.
 *
 * First all marked messages are looked for where the list has them. If one of
 * them is elsewhere, all are looked for in a fresh list of the file.
 */
#include "config.h"

#include <sys/stat.h>

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "mbox-boundary.h"
#include "mbox-cache.h"
#include "mbox-find.h"
#include "mbox-ranges.h"
#include "mbox-remove.h"
#include "mbox-spool.h"

#define NOT_IN_PLACE SIZE_MAX

static int
compare_ranges(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return (x->from > y->from) - (x->from < y->from);
}

/*
 * Returns true if messages may begin and end where these ranges do, in a file
 * of this size. Where one range continues another, nothing needs to be read.
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
 * Finds the marked messages where the list has them, in a file of this size.
 * Returns their number, or NOT_IN_PLACE if one of them is elsewhere.
 */
static size_t
find_in_place(struct mbox *m, const unsigned char *marks, off_t size,
    struct range *ranges)
{
	bool unchanged = spool_is_unchanged(m);
	size_t n = 0;

	for (size_t i = 0; i < m->list.count; i++) {
		struct list_message one;

		if (!store_marked(marks, i))
			continue;
		one = find_listed(m, i);
		/* If another program has removed one of several equal messages,
		 * the next of them may be in its place. */
		if ((!unchanged || !list_is_verified(&m->list, i)) &&
		    (!find_is_in_place(m, &one, size) ||
			find_has_equal(m, &one)))
			return NOT_IN_PLACE;
		ranges[n++] = (struct range){ one.found.at, one.end };
	}
	/* A forged list, or one older than a power failure, does not fit. */
	return are_at_boundaries(m, ranges, n, size) ? n : NOT_IN_PLACE;
}

/*
 * For each listed message that is not marked and has an equal one, takes one
 * message of the file. So of equal messages as many stay as are not marked.
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
 * ascending order. Returns their number, and in *error why some are missing.
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
	return n;
}

/* Does what remove_marked does, in the locked mailbox. */
static enum drop_error
remove_locked(struct mbox *m, const unsigned char *marks, size_t *removed)
{
	const struct journal_box box = { m->place.state, m->fd, m->place.dir };
	enum drop_error error = DROP_OK;
	struct range *ranges;
	struct stat now;
	bool unchanged = spool_is_unchanged(m);
	size_t n;

	if (!spool_is_same_file(m) || fstat(m->fd, &now) == -1) {
		log_failed_at(LOG_WARNING,
		    "another program replaced the mailbox",
		    "removing messages");
		return DROP_CHANGED;
	}
	ranges = reallocarray(NULL, m->list.count, sizeof(*ranges));
	if (ranges == NULL)
		fatal("ranges of %zu messages", m->list.count);
	n = find_in_place(m, marks, now.st_size, ranges);
	if (n == NOT_IN_PLACE) {
		unchanged = false;
		n = find_anywhere(m, marks, ranges, &error);
	}
	if (error != DROP_OK)
		log_failed_at(LOG_WARNING,
		    "another program changed the mailbox", "removing messages");
	if (error != DROP_OK && error != DROP_CHANGED)
		return error;
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
 * Reads the records that the removal will need. So the list is repaired, if it
 * is damaged, before the mailbox is locked to write. The removal needs all
 * records if the mailbox may have changed, otherwise those of marked messages.
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

	/* The list remembers the ids of the messages that go. */
	if (spool_is_unchanged(m))
		cache_number(&m->list, true);
	repair_before_removal(m, marks);
	if ((error = spool_lock(m, true)) != DROP_OK)
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
