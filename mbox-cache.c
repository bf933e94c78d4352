/*
 * Keeps the list of an mbox between sessions, and decides which part of a saved
 * list is still true.
 *
 * Runs as the owner of the mailbox. Other programs change the mailbox between
 * and during sessions: they append, remove and sort messages, and rewrite flags
 * in place. So a saved list is compared with the file:
 *
 *	what is found                           what is read
 *
 *	1  the list has a stable fingerprint,   nothing; no lock is needed
 *	   and the mailbox still has it
 *	2  the mailbox is larger than           the part that was appended
 *	   cache_small and has grown; the
 *	   last listed message and 15 others,
 *	   chosen at random, are at their
 *	   listed offsets
 *	3  anything else                        the whole mailbox
 *
 * Case 2 does not prove that the older messages are unchanged. So the list
 * marks them as unverified (note.unverified). Each of them is compared with the
 * file before it is sent or removed (mbox-find.c).
 *
 * If the fingerprint in the list is not stable (fingerprint.c), it proves
 * nothing, because the file may have changed once more in the same tick of the
 * clock. In this situation, case 2 reads from the first message that was not
 * yet listed at the last stable fingerprint (note.base). If the growth may have
 * made the Content-Length of an earlier message right, reading begins at that
 * message (note.first_if_grown).
 *
 * A small mailbox that has changed is always read as a whole, because that
 * takes only about a millisecond.
 */
#include "config.h"

#include <sys/stat.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mbox-cache.h"
#include "mbox-number.h"
#include "store.h"
#include "volume.h"

#define KIND "mbox   4"
#define KIND_QUOTED "mboxo  4"
/*
 * The kinds of the previous version of kpopd. That version used the same form
 * of records and note, but computed other wire sizes.
 */
#define KIND_BEFORE "mbox   3"
#define KIND_QUOTED_BEFORE "mboxo  3"
#define SAMPLES 16 /* messages compared in case 2 */

off_t cache_small = (off_t)4 << 20;

/*
 * Returns the kind of the index. A quoted mailbox has another kind, because its
 * messages may begin at other offsets.
 */
static const char *
kind_of(const struct list_source *s)
{
	return s->quoted ? KIND_QUOTED : KIND;
}

/*
 * Removes the fingerprint from the list, so that the list proves nothing about
 * the mailbox. The ids in the list stay. Without them, a message could get the
 * id of a removed message.
 */
static void
discard_proof(struct list *l)
{
	l->note.mailbox = (struct fingerprint){ .stable = 0 };
	l->note.base = 0;
}

/* Returns true if the loaded list has the form that this program writes. */
static bool
is_well_formed(const struct list *l)
{
	const struct list_note *note = &l->note;

	return index_record_size(l->index) == sizeof(struct list_record) &&
	    l->count <= UINT32_MAX && note->end >= 0 &&
	    note->base <= l->count && note->numbered <= l->count &&
	    note->unverified <= l->count && note->next_retired < LIST_RETIRED &&
	    (note->end <= note->mailbox.size || note->mailbox.stable == 0);
}

bool
cache_load(struct list *l, const struct list_source *s)
{
	struct index *x = index_load(s->state, kind_of(s));
	bool is_before = x == NULL;

	if (is_before)
		x = index_load(s->state,
		    s->quoted ? KIND_QUOTED_BEFORE : KIND_BEFORE);
	if (x == NULL)
		return false;
	*l = (struct list){ .source = *s, .index = x, .count = index_count(x) };
	memcpy(&l->note, index_note(x), sizeof(l->note));
	/* Earlier versions saved lists whose messages had no ids yet. */
	if (is_before || l->note.numbered != l->count)
		discard_proof(l);
	if (is_well_formed(l))
		return true;
	list_free(l);
	return false;
}

bool
cache_is_current(const struct list *l, const struct fingerprint *now)
{
	return fingerprint_matches(&l->note.mailbox, now);
}

bool
cache_is_elsewhere(const struct list *l)
{
	struct stat st;

	return l->note.directory_inode != 0 && l->source.dir != -1 &&
	    fstat(l->source.dir, &st) == 0 &&
	    (st.st_ino != l->note.directory_inode ||
		volume_device(l->source.dir, &st) != l->note.directory_device);
}

/* Writes the list to the state directory, unless source.state is -1. */
static void
save_list(struct list *l)
{
	struct stat st;

	if (l->source.state == -1)
		return;
	l->note.directory_inode = 0;
	if (l->source.dir != -1 && fstat(l->source.dir, &st) == 0) {
		l->note.directory_inode = st.st_ino;
		l->note.directory_device = volume_device(l->source.dir, &st);
	}
	index_save(l->index, &l->note, sizeof(l->note));
}

/* Records that the list describes the mailbox with this fingerprint. */
static void
set_fingerprint(struct list *l, const struct fingerprint *now)
{
	l->note.mailbox = *now;
	if (now->stable == 1)
		l->note.base = l->count;
}

/*
 * Reads the mailbox from the end of the last listed message on, numbers the
 * messages, and saves the list. `before` is as in cache_make.
 *
 * Numbering reads the bodies that ids need. So it is done while the mailbox is
 * locked. Later an MDA may append a message, and the mailbox would no longer be
 * known to have the listed bodies.
 */
static enum scan_result
read_on(struct list *l, const struct fingerprint *now, struct list *before)
{
	enum scan_result result;
	off_t end;

	result = scan_messages(l->source.fd, l->note.end, now->size,
	    l->source.quoted, list_add, l, &end);
	l->note.end = end;
	if (result != SCAN_DONE)
		return result;
	set_fingerprint(l, now);
	if (before != NULL)
		number_all(l, now, before);
	else
		number_new(l, now);
	save_list(l);
	return result;
}

enum scan_result
cache_make(struct list *l, const struct list_source *s,
    const struct fingerprint *now, struct list *before)
{
	struct list made = { .source = *s, .note.first_if_grown = LIST_NEVER };

	made.index =
	    index_new(s->state, kind_of(s), sizeof(struct list_record));
	if (before != NULL) {
		memcpy(made.note.retired, before->note.retired,
		    sizeof(made.note.retired));
		made.note.next_retired = before->note.next_retired;
	}
	*l = made;
	return read_on(l, now, before);
}

/*
 * Compares the first `count` messages with the file: the last of these, and
 * some others that are chosen at random. Returns true if all compared messages
 * are at their listed offsets, and the last of the `count` messages ends before
 * the end of the file.
 */
static bool
is_sample_in_place(const struct list *l, size_t count, off_t size)
{
	struct list_message m;

	for (int k = 0; k < SAMPLES; k++) {
		size_t i = count - 1;

		if (k > 0)
			i = arc4random_uniform((uint32_t)count);
		if (!list_get(l, i, &m) || (k == 0 && m.end >= size) ||
		    !list_is_in_place(l, &m, size))
			return false;
	}
	return true;
}

/*
 * Returns true if a message with the index `first` or a higher index owns the
 * id of its header alone.
 */
static bool
has_owner_from(const struct list *l, size_t first)
{
	struct list_record r;

	for (size_t i = first; i < l->count; i++)
		if (list_record(l, i, &r) && number_owns_id(&r))
			return true;
	return false;
}

/*
 * Returns true if the mailbox seems to contain the listed messages and more
 * messages after these (case 2). Stores in *count how many messages stay in the
 * list. The other listed messages must be read again. If one of these owns its
 * id, returns false, because the record of the ownership would be lost.
 */
static bool
has_grown(const struct list *l, const struct fingerprint *now, size_t *count)
{
	const struct fingerprint *then = &l->note.mailbox;

	if (now->size <= cache_small || now->device != then->device ||
	    now->inode != then->inode)
		return false;
	*count = l->count;
	if (then->stable != 1 && *count > l->note.base)
		*count = (size_t)l->note.base;
	if (*count > l->note.first_if_grown)
		*count = (size_t)l->note.first_if_grown;
	return *count > 0 && is_sample_in_place(l, *count, now->size) &&
	    !has_owner_from(l, *count);
}

enum scan_result
cache_update(struct list *l, const struct fingerprint *now)
{
	const struct list_source source = l->source;
	struct list before;
	enum scan_result result;
	size_t count, had = l->count;

	if (has_grown(l, now, &count) && list_truncate(l, count)) {
		l->note.unverified = l->count;
		/*
		 * New records take the place of the truncated ones at once. If
		 * the session ends before the list is saved, a note that counts
		 * the truncated records would have wrong totals.
		 */
		if (count < had) {
			l->note.mailbox.stable = 0;
			save_list(l);
		}
		result = read_on(l, now, NULL);
		/*
		 * If an id needed the body of an old message that is not in its
		 * place, this list is no longer saved. Then read the whole
		 * mailbox.
		 */
		if (result != SCAN_DONE || l->source.state == source.state)
			return result;
	}
	before = *l;
	result = cache_make(l, &source, now, &before);
	list_free(&before);
	return result;
}

/*
 * Returns true if no message after the first marked one is unmarked. Stores the
 * index of the first marked message in *first.
 */
static bool
is_tail_marked(const struct list *l, const unsigned char *marks, size_t *first)
{
	size_t i = 0;

	while (i < l->count && !store_marked(marks, i))
		i++;
	*first = i;
	while (i < l->count && store_marked(marks, i))
		i++;
	return i == l->count;
}

/*
 * Makes a new list of the messages that are not marked, at their new offsets.
 * Returns false if the old list is damaged.
 */
static bool
copy_unmarked(const struct list *l, const unsigned char *marks,
    struct list *kept)
{
	size_t unverified = 0;
	uint64_t gone = 0;
	struct list_record r;

	*kept = *l;
	kept->index = index_new(l->source.state, kind_of(&l->source),
	    sizeof(struct list_record));
	kept->count = 0;
	for (size_t i = 0; i < l->count; i++) {
		struct list_message m;

		if (!list_get(l, i, &m) || !list_record(l, i, &r))
			return false;
		if (store_marked(marks, i)) {
			gone += (uint64_t)(m.end - m.found.at);
			kept->note.wire_size -= r.wire_size;
			kept->note.count_if_shrunk -= m.found.right_if_shrunk;
			continue;
		}
		r.at -= gone;
		list_put(kept, kept->count++, &r);
		unverified += i < l->note.unverified;
	}
	kept->note.numbered = kept->count;
	kept->note.unverified = unverified;
	kept->note.base = 0;
	kept->note.first_if_grown = LIST_NEVER;
	kept->note.end = l->note.end - (int64_t)gone;
	return true;
}

void
cache_remove(struct list *l, const unsigned char *marks)
{
	struct list kept;
	struct list_record r;
	struct fingerprint now;
	size_t first;
	bool is_good;

	for (size_t i = 0; i < l->count; i++)
		if (store_marked(marks, i) && list_record(l, i, &r))
			number_retire(l, &r);
	kept = *l;
	if (!is_tail_marked(l, marks, &first))
		is_good = copy_unmarked(l, marks, &kept);
	else if ((is_good = list_truncate(&kept, first)))
		/* Both lists have one index, which has no more records. */
		*l = kept;
	if (!is_good || fingerprint_put(&now, l->source.fd) == -1 ||
	    now.size != kept.note.end) {
		cache_distrust(l);
		return;
	}
	/*
	 * The removal may have made the Content-Length of another message
	 * right, so that this message now ends at another offset.
	 */
	if (kept.note.count_if_shrunk > 0 ||
	    kept.note.first_if_grown != LIST_NEVER ||
	    l->note.first_if_grown != LIST_NEVER)
		now = (struct fingerprint){ .stable = 0 };
	set_fingerprint(&kept, &now);
	save_list(&kept);
}

void
cache_distrust(struct list *l)
{
	discard_proof(l);
	save_list(l);
	l->source.state = -1;
}
