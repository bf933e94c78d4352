/*
 * Removes ranges of bytes from a mailbox, so that a crash at any moment loses
 * no byte that is kept.
 *
 * Runs as the owner of the mailbox, which is locked for writing. Makes the
 * journal that decides the removal (steps 0 to 2 at the head of
 * mbox-journal.c). mbox-redo.c does the other steps. Until the removal is
 * decided, the mailbox is not changed.
 *
 * If no byte is kept, the file is truncated without a journal, unless other
 * hosts may change the file system: writing the marker makes the server report
 * mail of another host that no earlier call has reported. If only the end
 * of the file is removed and no journal can be made, for example because the
 * disk is full, the file is also truncated without a journal. A power failure
 * during this truncation may leave remains of removed messages at the end of
 * the file. It would be worse if a mailbox on a full disk could not be emptied.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <unistd.h>

#include "file.h"
#include "log.h"
#include "mbox-ranges.h"
#include "mbox-redo.h"
#include "volume.h"

/*
 * Returns true if the end of the mailbox may be truncated although no journal
 * could be made, with the error in errno. On a shared file system another host
 * may have unlinked the journal, because it has the mailbox now.
 */
static bool
needs_no_journal(const struct journal_box *b)
{
	return !volume_is_shared(b->fd) || errno == ENOSPC || errno == EDQUOT;
}

static enum ranges_result
truncate_without_journal(int fd, off_t size)
{
	char first;

	/* A write fails without the harm of a truncation (mbox-redo.c). */
	if (volume_is_shared(fd) &&
	    (file_read(fd, &first, 1, size) == -1 ||
		file_write(fd, &first, 1, size) == -1)) {
		journal_failed("writing the mailbox");
		return RANGES_KEPT;
	}
	if (ftruncate(fd, size) == -1) {
		journal_failed("truncating the mailbox");
		return RANGES_KEPT;
	}
	return journal_sync_mailbox(fd) == 0 ? RANGES_REMOVED : RANGES_DECIDED;
}

/*
 * Copies D, the kept bytes after the beginning of the first range, to the
 * journal jfd. Adds their number to h->kept. Returns 0, or -1 with errno.
 */
static int
copy_kept(int fd, int jfd, const struct range *ranges, size_t n,
    struct journal_head *h)
{
	for (size_t i = 0; i < n; i++) {
		off_t from = ranges[i].to;
		off_t to = i + 1 < n ? ranges[i + 1].from : (off_t)h->size;

		if (journal_copy(fd, from, jfd, JOURNAL_D + (off_t)h->kept,
			to - from) == -1)
			return -1;
		h->kept += to - from;
	}
	return 0;
}

/* Ends the process unless the ranges ascend and fit a file of this size. */
static void
check_ranges(const struct range *ranges, size_t n, off_t size)
{
	off_t at = 0;

	errno = EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (ranges[i].from < at || ranges[i].to <= ranges[i].from ||
		    ranges[i].to > size)
			fatal("ranges to remove");
		at = ranges[i].to;
	}
}

/*
 * Does steps 0 to 2. Returns RANGES_REMOVED if the removal is decided and the
 * disk has the decision. Returns RANGES_DECIDED if the disk may not have the
 * decision, or RANGES_KEPT with errno if nothing is decided.
 */
static enum ranges_result
decide_removal(const struct journal_box *b, const struct range *ranges,
    size_t n, off_t size)
{
	struct journal_head h = { .from = ranges[0].from, .size = size };
	int jfd;

	if (journal_sync_deliveries(b->fd) == -1 ||
	    (jfd = journal_create(b)) == -1)
		return RANGES_KEPT;
	if (copy_kept(b->fd, jfd, ranges, n, &h) == -1) {
		journal_discard(b,
		    "writing the journal in the state directory");
		file_close(jfd);
		return RANGES_KEPT;
	}
	if (journal_decide(b, jfd, &h) == -1) {
		file_close(jfd);
		return RANGES_KEPT;
	}
	/*
	 * Keep jfd open until the process ends. If it were closed, the unlink
	 * of the journal would wait until its space is freed, and the client
	 * would wait, too.
	 */
	if (journal_sync_state(b->state) == -1)
		return RANGES_DECIDED;
	return RANGES_REMOVED;
}

enum ranges_result
ranges_remove(const struct journal_box *b, const struct range *ranges, size_t n)
{
	enum ranges_result result;
	struct stat st;
	off_t removed = 0;

	if (n == 0)
		return RANGES_REMOVED;
	if (fstat(b->fd, &st) == -1) {
		journal_failed("fstat of the mailbox");
		return RANGES_KEPT;
	}
	check_ranges(ranges, n, st.st_size);
	for (size_t i = 0; i < n; i++)
		removed += ranges[i].to - ranges[i].from;
	if (removed == st.st_size && !volume_is_shared(b->fd))
		return truncate_without_journal(b->fd, 0);
	result = decide_removal(b, ranges, n, st.st_size);
	if (result == RANGES_KEPT && ranges[0].from + removed == st.st_size &&
	    needs_no_journal(b))
		return truncate_without_journal(b->fd, ranges[0].from);
	if (result != RANGES_REMOVED)
		return result;
	switch (redo_finish(b)) {
	case 0:
		return RANGES_REMOVED;
	case 1:
		return RANGES_KEPT;
	default:
		return RANGES_DECIDED;
	}
}
