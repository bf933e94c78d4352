/*
 * Finishes a removal from its journal: after the journal was made, or after a
 * crash.
 *
 * Runs as the owner of the mailbox: in the session, which has just made the
 * journal, and in the recovery that a login, the broker or kpopd --recover
 * runs. The head of mbox-journal.c explains the steps, the states and the proof
 * that a journal is of this mailbox. Nothing is written to a mailbox before
 * that proof.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "log.h"
#include "mbox-redo.h"

#define STEPS 16 /* enough unless a locked mailbox grows */

/* What steps that have not failed have done, as bits. */
enum {
	STEP_DONE = 0,  /* another step follows */
	STEP_ASIDE = 1, /* a journal was set aside */
	STEP_ENDED = 2, /* the journal was unlinked */
};

/*
 * Sets aside a journal that cannot be used: renames it to rescue.*, so that a
 * person can look at it. Returns STEP_ASIDE, or -1 (logged).
 */
static int
set_journal_aside(int state, const char *name, const char *why)
{
	char rescue[64];

	/*
	 * The new name contains the old name. Otherwise, of two journals that
	 * are set aside in the same second, the second would replace the first.
	 */
	snprintf(rescue, sizeof(rescue), "rescue.%lld.%ld.%s",
	    (long long)time(NULL), (long)getpid(), name);
	if (renameat(state, name, state, rescue) == -1)
		return journal_failed("setting the journal aside");
	log_event(LOG_ERR, "rescue", "file=%s reason=\"%s\"", rescue, why);
	return journal_sync_state(state) == 0 ? STEP_ASIDE : -1;
}

/*
 * Does steps 5 and 6 for a mailbox that has not grown. The directory is not
 * synced after the unlink. If j.cut exists again after a power failure, the
 * recovery finds no marker in the mailbox and unlinks j.cut. Returns
 * STEP_ENDED, or -1 (logged).
 */
static int
truncate_after_d(const struct journal_box *b, const struct journal_head *h)
{
	if (ftruncate(b->fd, journal_new_size(h)) == -1)
		return journal_failed("truncating the mailbox");
	if (journal_sync_mailbox(b->fd) == -1)
		return -1;
	if (unlinkat(b->state, JOURNAL_WRITTEN, 0) == -1)
		return journal_failed(
		    "unlinking the journal in the state directory");
	return STEP_ENDED;
}

/* Does steps 3 and 4. */
static int
write_d(const struct journal_box *b, const struct journal *j)
{
	const struct journal_head *h = &j->head;

	if (journal_copy(j->fd, JOURNAL_D, b->fd, (off_t)h->from,
		(off_t)h->kept) == -1 ||
	    file_write(b->fd, h->marker, (size_t)h->marker_size,
		journal_new_size(h)) == -1)
		return journal_failed("writing the mailbox");
	if (journal_sync_mailbox(b->fd) == -1)
		return -1;
	if (renameat(b->state, JOURNAL_DECIDED, b->state, JOURNAL_WRITTEN) ==
	    -1)
		return journal_failed(
		    "renaming the journal in the state directory");
	return journal_sync_state(b->state);
}

/*
 * Replaces the journal by a new journal that also contains the mail that has
 * arrived after S. size is the present size of the mailbox. The new D consists
 * of the old D, which is in the journal jfd, and the mailbox from S on. If jfd
 * is -1, the new D consists only of the mailbox from S on. Updates h->from,
 * h->kept and h->size. Returns 0, or -1 (logged).
 */
static int
extend_journal(const struct journal_box *b, int jfd, struct journal_head *h,
    off_t size)
{
	off_t more = size - (off_t)h->size;
	int jnew;

	if (journal_sync_deliveries(b->fd) == -1 ||
	    (jnew = journal_create(b->state)) == -1)
		return -1;
	if (jfd == -1) {
		h->from += h->kept;
		h->kept = 0;
	}
	if ((jfd != -1 &&
		journal_copy(jfd, JOURNAL_D, jnew, JOURNAL_D, (off_t)h->kept) ==
		    -1) ||
	    journal_copy(b->fd, (off_t)h->size, jnew,
		JOURNAL_D + (off_t)h->kept, more) == -1) {
		journal_failed("writing the journal in the state directory");
		unlinkat(b->state, JOURNAL_TEMPORARY, 0);
		close(jnew);
		return -1;
	}
	h->kept += more;
	h->size = size;
	if (journal_decide(b, jnew, h) == -1 ||
	    journal_sync_state(b->state) == -1) {
		close(jnew);
		return -1;
	}
	close(jnew);
	log_event(LOG_NOTICE, "recovery", "new_mail=%lld", (long long)more);
	return 0;
}

/*
 * Decides what happens to a journal that does not fit the mailbox. If the
 * mailbox's directory differs from the directory in the witness, the file
 * system of the spool may not be mounted. In this case keeps the journal. If
 * the directory is the same, or one of the two is unknown, sets the journal
 * aside. Returns as finish_decided does.
 */
static int
reject_journal(const struct journal_box *b, const char *name,
    const struct journal *j)
{
	struct stat st;

	if (j->witness.directory != 0 && b->dir != -1) {
		if (fstat(b->dir, &st) == -1)
			return journal_failed(
			    "fstat of the mailbox's directory");
		if ((uint64_t)st.st_ino != j->witness.directory) {
			log_failed_at(LOG_ERR,
			    "the journal is not of this mailbox, and the "
			    "mailbox is in another directory: is the file "
			    "system mounted?",
			    "finishing a removal");
			return -1;
		}
	}
	return set_journal_aside(b->state, name,
	    "another program rewrote the mailbox");
}

/*
 * Sets a journal aside if result, the result of journal_open, is
 * JOURNAL_DAMAGED. Returns as finish_decided does.
 */
static int
set_damaged_aside(const struct journal_box *b, const char *name, int result)
{
	if (result != JOURNAL_DAMAGED)
		return -1;
	return set_journal_aside(b->state, name, "damaged journal");
}

/*
 * Continues the removal in the state "j", in which the mailbox has not been
 * truncated. Returns STEP_DONE if the state is now "j.cut", or if new mail was
 * added to the journal. Returns STEP_ASIDE, or -1 (logged).
 */
static int
finish_decided(const struct journal_box *b)
{
	struct journal j;
	struct stat st;
	int result = journal_open(b->state, JOURNAL_DECIDED, &j);

	if (result != 0) {
		result = set_damaged_aside(b, JOURNAL_DECIDED, result);
	} else if (fstat(b->fd, &st) == -1) {
		result = journal_failed("fstat of the mailbox");
	} else
		switch (journal_match_decided(b, &j, &st)) {
		case MATCH_HERE:
			if (st.st_size > j.head.size)
				result = extend_journal(b, j.fd, &j.head,
				    st.st_size);
			else
				result = write_d(b, &j);
			break;
		case MATCH_NONE:
			result = reject_journal(b, JOURNAL_DECIDED, &j);
			break;
		default:
			result = -1;
		}
	close(j.fd);
	return result;
}

/*
 * Ends the state "j.cut" of a mailbox that has been truncated. The mailbox is
 * synced first, because the process that truncated it may have been killed
 * before its fsync, or its fsync may have failed. After a failed fsync of data
 * a second one would prove nothing. But here only the size has to reach the
 * disk: if ext4, XFS or Btrfs cannot write metadata, each later fsync fails,
 * too. Returns STEP_ENDED or -1 (logged).
 */
static int
unlink_written(const struct journal_box *b)
{
	if (journal_sync_mailbox(b->fd) == -1)
		return -1;
	if (unlinkat(b->state, JOURNAL_WRITTEN, 0) == 0)
		return STEP_ENDED;
	return journal_failed("unlinking the journal in the state directory");
}

/*
 * Continues the removal in the state "j.cut", in which D is in its place and
 * the mailbox may have been truncated. Returns as finish_decided does.
 */
static int
finish_written(const struct journal_box *b)
{
	struct journal j;
	struct stat st;
	int result = journal_open(b->state, JOURNAL_WRITTEN, &j);

	close(j.fd);
	if (result != 0)
		return set_damaged_aside(b, JOURNAL_WRITTEN, result);
	if (fstat(b->fd, &st) == -1)
		return journal_failed("fstat of the mailbox");
	switch (journal_match_written(b, &j.head, &st)) {
	case MATCH_HERE:
		/*
		 * If a new journal j is made here, j.cut exists beside it until
		 * step 4 replaces j.cut. redo_finish looks for j first.
		 */
		if (st.st_size > j.head.size)
			return extend_journal(b, -1, &j.head, st.st_size);
		return truncate_after_d(b, &j.head);
	case MATCH_DONE:
		return unlink_written(b);
	case MATCH_NONE:
		return reject_journal(b, JOURNAL_WRITTEN, &j);
	default:
		return -1;
	}
}

/* Logs that another host has removed the journal. Returns -1. */
static int
report_lost_journal(void)
{
	log_failed_at(LOG_ERR,
	    "the journal has vanished: did this host lose its locks?",
	    "removing messages");
	return -1;
}

/*
 * A few steps suffice, because only a program that ignores locks can make a
 * locked mailbox grow. A journal may vanish although no step here has ended it:
 * on a shared file system a call of a host that has lost its locks may arrive
 * late. The messages are then still there.
 */
int
redo_finish(const struct journal_box *b)
{
	int done = 0;

	for (int steps = 0; steps < STEPS; steps++) {
		int step;

		if (journal_may_exist(b->state, JOURNAL_DECIDED))
			step = finish_decided(b);
		else if (journal_may_exist(b->state, JOURNAL_WRITTEN))
			step = finish_written(b);
		else
			return done == STEP_DONE ? report_lost_journal() :
						   done & STEP_ASIDE;
		if (step == -1)
			return -1;
		done |= step;
	}
	log_failed_at(LOG_ERR,
	    "the mailbox grows while it is locked: which program ignores the "
	    "locks?",
	    "removing messages");
	return -1;
}

/*
 * Returns true if a removal has been decided, and stores the name of its
 * journal in *name.
 */
static bool
find_decided(int state, const char **name)
{
	*name = JOURNAL_DECIDED;
	if (journal_may_exist(state, JOURNAL_DECIDED))
		return true;
	*name = JOURNAL_WRITTEN;
	return journal_may_exist(state, JOURNAL_WRITTEN);
}

int
redo_accept_absence(int state)
{
	const char *name;

	if (!find_decided(state, &name))
		return 0;
	log_failed_at(LOG_ERR,
	    "there is no mailbox: is its file system mounted?",
	    "finishing a removal");
	return -1;
}

int
redo_recover(const struct journal_box *b)
{
	const char *name;
	bool begun = find_decided(b->state, &name);

	if (unlinkat(b->state, JOURNAL_TEMPORARY, 0) == -1 && errno != ENOENT)
		return journal_failed("unlinking an old j.tmp");
	if (!begun)
		return 0;
	log_event(LOG_NOTICE, "recovery", "state=%s", name);
	if (b->fd == -1)
		return redo_accept_absence(b->state);
	/* The process that renamed the journal may have died before it synced
	 * the directory. The disk could then still have the old name, under
	 * which recovery discards the journal. So sync before writing to the
	 * mailbox. */
	if (journal_sync_state(b->state) == -1)
		return -1;
	return redo_finish(b);
}

bool
redo_is_pending(int state)
{
	static const char *const names[] = { JOURNAL_DECIDED, JOURNAL_WRITTEN,
		JOURNAL_TEMPORARY, NULL };

	return journal_any_may_exist(state, names);
}

/* Moves one journal between state directories. Returns 0, or -1 (logged). */
static int
move_journal(int from, int state, const char *name)
{
	if (renameat(from, name, state, name) == -1)
		return journal_failed("taking over a journal");
	if (journal_sync_state(state) == -1)
		return -1;
	return journal_sync_state(from);
}

/*
 * Reads a journal in the directory `from`, and closes it. Returns as
 * journal_open does.
 */
static int
read_journal(int from, const char *name, struct journal *j)
{
	int result = journal_open(from, name, j);

	if (j->fd != -1)
		close(j->fd);
	return result;
}

/*
 * Moves the journal with this name if it was made for this inode or is damaged,
 * unless the directory `state` has one of this name. Returns 0, or -1 (logged).
 */
static int
adopt_one(int from, int state, ino_t inode, const char *name)
{
	struct journal j;
	int result;

	if (!journal_may_exist(from, name) || journal_may_exist(state, name))
		return 0;
	result = read_journal(from, name, &j);
	if (result == -1)
		return -1;
	if (result == 0 && j.head.inode != (uint64_t)inode)
		return 0;
	return move_journal(from, state, name);
}

int
redo_adopt(int from, int state, ino_t inode)
{
	if (adopt_one(from, state, inode, JOURNAL_DECIDED) == -1)
		return -1;
	return adopt_one(from, state, inode, JOURNAL_WRITTEN);
}

/* Returns true if the journal with this name was made for this inode. */
static bool
is_one_of(int from, const char *name, ino_t inode)
{
	struct journal j;

	return journal_may_exist(from, name) &&
	    read_journal(from, name, &j) == 0 &&
	    j.head.inode == (uint64_t)inode;
}

bool
redo_is_of(int from, ino_t inode)
{
	return is_one_of(from, JOURNAL_DECIDED, inode) ||
	    is_one_of(from, JOURNAL_WRITTEN, inode);
}

/*
 * Compares the mailbox with the open journal j. name shows the journal's state.
 */
static enum journal_match
match_journal(const struct journal_box *b, const char *name,
    const struct journal *j, const struct stat *st)
{
	if (strcmp(name, JOURNAL_WRITTEN) == 0)
		return journal_match_written(b, &j->head, st);
	return journal_match_decided(b, j, st);
}

/*
 * Moves the journal with this name if it has the mailbox's inode and fits the
 * mailbox, unless b->state has one of this name. A copy of the mailbox would
 * also fit, but has another inode. Returns 0, or -1 (logged).
 */
static int
follow_one(int from, const struct journal_box *b, const char *name)
{
	enum journal_match match = MATCH_NONE;
	struct journal j;
	struct stat st;
	int result;

	if (!journal_may_exist(from, name) || journal_may_exist(b->state, name))
		return 0;
	if (fstat(b->fd, &st) == -1)
		return journal_failed("fstat of the mailbox");
	result = journal_open(from, name, &j);
	if (result == 0 && j.head.inode == (uint64_t)st.st_ino)
		match = match_journal(b, name, &j, &st);
	if (j.fd != -1)
		close(j.fd);
	if (result == -1 || match == MATCH_ERROR)
		return -1;
	return match != MATCH_NONE ? move_journal(from, b->state, name) : 0;
}

int
redo_follow(int from, const struct journal_box *b)
{
	if (follow_one(from, b, JOURNAL_DECIDED) == -1)
		return -1;
	return follow_one(from, b, JOURNAL_WRITTEN);
}
