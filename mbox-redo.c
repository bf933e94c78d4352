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
#include "volume.h"

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
	long long now = (long long)time(NULL);
	char rescue[64];

	/* A journal that was set aside must not be replaced by another one. */
	do
		snprintf(rescue, sizeof(rescue), "rescue.%lld.%ld.%s", now++,
		    (long)getpid(), name);
	while (faccessat(state, rescue, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
	if (renameat(state, name, state, rescue) == -1)
		return journal_failed("setting the journal aside");
	log_event(LOG_ERR, "rescue", "file=%s reason=\"%s\"", rescue, why);
	return journal_sync_state(state) == 0 ? STEP_ASIDE : -1;
}

/* Does step 6. Returns STEP_ENDED, or -1 (logged). */
static int
unlink_journal(const struct journal_box *b)
{
	if (unlinkat(b->state, b->written, 0) == 0)
		return STEP_ENDED;
	return journal_failed("unlinking the journal in the state directory");
}

/* Writes the marker after D. Returns 0, or -1 (logged). */
static int
write_marker(const struct journal_box *b, const struct journal_head *h)
{
	if (file_write(b->fd, h->marker, (size_t)h->marker_size,
		journal_new_size(h)) == 0)
		return 0;
	return journal_failed("writing the mailbox");
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
	/*
	 * Without a quorum, the client of GlusterFS does not end a truncation
	 * that fails: it keeps the file open, with its locks. A write fails
	 * without this harm.
	 */
	if (volume_is_shared(b->fd) && write_marker(b, h) == -1)
		return -1;
	if (ftruncate(b->fd, journal_new_size(h)) == -1)
		return journal_failed("truncating the mailbox");
	if (journal_sync_mailbox(b->fd) == -1)
		return -1;
	return unlink_journal(b);
}

/* Does steps 3 and 4. */
static int
write_d(const struct journal_box *b, const struct journal *j)
{
	const struct journal_head *h = &j->head;

	if (journal_copy(j->fd, JOURNAL_D, b->fd, (off_t)h->from,
		(off_t)h->kept) == -1)
		return journal_failed("writing the mailbox");
	if (write_marker(b, h) == -1)
		return -1;
	if (journal_sync_mailbox(b->fd) == -1)
		return -1;
	if (renameat(b->state, b->decided, b->state, b->written) == -1)
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
	    (jnew = journal_create(b)) == -1)
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
		journal_discard(b,
		    "writing the journal in the state directory");
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
	int result = journal_open(b->state, b->decided, &j);

	if (result != 0) {
		result = set_damaged_aside(b, b->decided, result);
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
			result = reject_journal(b, b->decided, &j);
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
	return unlink_journal(b);
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
	int result = journal_open(b->state, b->written, &j);

	close(j.fd);
	if (result != 0)
		return set_damaged_aside(b, b->written, result);
	if (fstat(b->fd, &st) == -1)
		return journal_failed("fstat of the mailbox");
	switch (journal_match_written(b, &j.head, &st)) {
	case MATCH_HERE:
		/*
		 * If a new journal j is made here, j.cut exists beside it until
		 * step 4 replaces j.cut. finish_own looks for j first.
		 */
		if (st.st_size > j.head.size)
			return extend_journal(b, -1, &j.head, st.st_size);
		return truncate_after_d(b, &j.head);
	case MATCH_DONE:
		return unlink_written(b);
	case MATCH_NONE:
		return reject_journal(b, b->written, &j);
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

/* Logs that the names of journals cannot be read. Returns -1. */
static int
fail_to_list(void)
{
	return journal_failed("listing the state directory");
}

/* Does what journal_find does, but logs an error. */
static int
find_journal(int state, unsigned wanted, char name[JOURNAL_NAME])
{
	int what = journal_find(state, wanted, name);

	return what != -1 ? what : fail_to_list();
}

/*
 * Does the remaining steps of the box's own journal, if there is one. Returns
 * what the steps have done, as bits, or -1 (logged). A few steps suffice,
 * because only a program that ignores locks can make a locked mailbox grow.
 */
static int
finish_own(const struct journal_box *b)
{
	int done = 0;

	for (int steps = 0; steps < STEPS; steps++) {
		int step, what = journal_find_own(b);

		if (what == -1)
			return fail_to_list();
		if (what == 0)
			return done;
		step = what == JOURNAL_DECIDED ? finish_decided(b) :
						 finish_written(b);
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
 * A journal may vanish although no step here has ended it: on a shared file
 * system a call of a host that has lost its locks may arrive late. The messages
 * are then still there.
 */
int
redo_finish(const struct journal_box *b)
{
	int done = finish_own(b);

	if (done == STEP_DONE)
		return report_lost_journal();
	return done == -1 ? -1 : done & STEP_ASIDE;
}

int
redo_accept_absence(int state)
{
	char name[JOURNAL_NAME];
	int found =
	    find_journal(state, JOURNAL_DECIDED | JOURNAL_WRITTEN, name);

	if (found == 0 || found == -1)
		return found;
	log_failed_at(LOG_ERR,
	    "there is no mailbox: is its file system mounted?",
	    "finishing a removal");
	return -1;
}

/*
 * Unlinks a journal that is not decided. If it is absent, a late call may have
 * renamed it; redo_recover looks for it afterwards. Returns 0, or 1 (logged).
 */
static int
unlink_temporary(void *self, enum journal_state what, const char *name)
{
	const struct journal_box *b = self;

	(void)what;
	if (unlinkat(b->state, name, 0) == 0 || errno == ENOENT)
		return 0;
	journal_failed("unlinking an old j.tmp");
	return 1;
}

static int
unlink_temporaries(const struct journal_box *b)
{
	struct journal_box copy = *b;
	int result =
	    journal_each(b->state, JOURNAL_TEMPORARY, unlink_temporary, &copy);

	if (result == -1)
		return fail_to_list();
	return result == 0 ? 0 : -1;
}

/*
 * Finds a journal in the state `what`, and gives it the box's own name, which
 * no journal has yet. Then syncs the directory. Returns 0, also if there is
 * none, or -1 (logged).
 */
static int
take_over(const struct journal_box *b, enum journal_state what)
{
	const char *own = what == JOURNAL_DECIDED ? b->decided : b->written;
	char name[JOURNAL_NAME];
	int found = find_journal(b->state, what, name);

	if (found == 0 || found == -1)
		return found;
	/* A late call may have renamed it meanwhile. */
	if (renameat(b->state, name, b->state, own) == -1 && errno != ENOENT)
		return journal_failed("taking over a journal");
	return journal_sync_state(b->state);
}

/*
 * Takes over another process's journal; j.cut, too, if a new j is beside it
 * (finish_written). Returns 0, or -1 (logged).
 */
static int
take_over_removal(const struct journal_box *b)
{
	int own = journal_find_own(b);

	if (own == -1)
		return fail_to_list();
	if (own == JOURNAL_DECIDED)
		return 0;
	if (own == 0 && take_over(b, JOURNAL_WRITTEN) == -1)
		return -1;
	return take_over(b, JOURNAL_DECIDED);
}

/*
 * Finishes the removals in the state directory, one after the other. There is
 * one, unless the user has made more. But a late call may give the journal
 * another name meanwhile. Returns as redo_recover does.
 */
static int
finish_all(const struct journal_box *b)
{
	char name[JOURNAL_NAME];
	int aside = 0;

	for (int n = 0; n < STEPS; n++) {
		int result, what;

		if (take_over_removal(b) == -1)
			return -1;
		result = redo_finish(b);
		if (result == -1 && journal_find_own(b) != 0)
			return -1;
		what = find_journal(b->state, JOURNAL_DECIDED | JOURNAL_WRITTEN,
		    name);
		if (what == -1 || (what == 0 && result == -1))
			return -1;
		if (result != -1)
			aside |= result;
		if (what == 0)
			return aside;
	}
	log_failed_at(LOG_ERR, "there are too many journals",
	    "finishing a removal");
	return -1;
}

int
redo_recover(const struct journal_box *b)
{
	char name[JOURNAL_NAME];
	int what;

	if (unlink_temporaries(b) == -1)
		return -1;
	what = find_journal(b->state, JOURNAL_DECIDED | JOURNAL_WRITTEN, name);
	if (what == 0 || what == -1)
		return what;
	log_event(LOG_NOTICE, "recovery", "state=%s",
	    what == JOURNAL_DECIDED ? "j" : "j.cut");
	if (b->fd == -1)
		return redo_accept_absence(b->state);
	/*
	 * The process that renamed the journal may have died before it synced
	 * the directory. The disk could then still have the old name, under
	 * which recovery discards the journal. So sync before writing to the
	 * mailbox, and before another rename.
	 */
	if (journal_sync_state(b->state) == -1)
		return -1;
	return finish_all(b);
}

bool
redo_is_pending(int state)
{
	char name[JOURNAL_NAME];

	return find_journal(state,
		   JOURNAL_TEMPORARY | JOURNAL_DECIDED | JOURNAL_WRITTEN,
		   name) != 0;
}

/*
 * Moves one journal between state directories, and gives it the name of the box
 * `to`. Returns 0, or 1 (logged).
 */
static int
move_journal(int from, const struct journal_box *to, enum journal_state what,
    const char *name)
{
	if (renameat(from, name, to->state,
		what == JOURNAL_DECIDED ? to->decided : to->written) == -1)
		journal_failed("taking over a journal");
	else if (journal_sync_state(to->state) == 0 &&
	    journal_sync_state(from) == 0)
		return 0;
	return 1;
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

/* Where journals are moved from and to, and the mailbox they must be of. */
struct move {
	int from;
	const struct journal_box *to;
	ino_t inode;
};

/*
 * Moves a journal if it was made for this inode or is damaged, unless the
 * mailbox's state directory has one in this state. Returns 0, or 1 (logged).
 */
static int
adopt_one(void *self, enum journal_state what, const char *name)
{
	const struct move *m = self;
	char there[JOURNAL_NAME];
	struct journal j;
	int result = journal_find(m->to->state, what, there);

	if (result != 0)
		return 0;
	result = read_journal(m->from, name, &j);
	if (result == -1)
		return 1;
	if (result == 0 && j.head.inode != (uint64_t)m->inode)
		return 0;
	return move_journal(m->from, m->to, what, name);
}

/* Calls `one` for each decided journal. Returns 0, or -1 (logged). */
static int
move_each(struct move *m,
    int (*one)(void *self, enum journal_state what, const char *name))
{
	int result =
	    journal_each(m->from, JOURNAL_DECIDED | JOURNAL_WRITTEN, one, m);

	if (result == -1)
		return fail_to_list();
	return result == 0 ? 0 : -1;
}

int
redo_adopt(int from, int state, ino_t inode)
{
	const struct journal_box to = journal_box_make(state, -1, -1);
	struct move m = { from, &to, inode };

	return move_each(&m, adopt_one);
}

/* Returns 1 if the journal with this name was made for this inode, else 0. */
static int
is_of_inode(void *self, enum journal_state what, const char *name)
{
	const struct move *m = self;
	struct journal j;

	(void)what;
	return read_journal(m->from, name, &j) == 0 &&
	    j.head.inode == (uint64_t)m->inode;
}

bool
redo_is_of(int from, ino_t inode)
{
	struct move m = { from, NULL, inode };

	return journal_each(from, JOURNAL_DECIDED | JOURNAL_WRITTEN,
		   is_of_inode, &m) == 1;
}

/* Compares the mailbox with the open journal j in the state `what`. */
static enum journal_match
match_journal(const struct journal_box *b, enum journal_state what,
    const struct journal *j, const struct stat *st)
{
	if (what == JOURNAL_WRITTEN)
		return journal_match_written(b, &j->head, st);
	return journal_match_decided(b, j, st);
}

/*
 * Moves a journal if it has the mailbox's inode and fits the mailbox, unless
 * the mailbox's state directory has one in this state. A copy of the mailbox
 * would also fit, but has another inode. Returns 0, or 1 (logged).
 */
static int
follow_one(void *self, enum journal_state what, const char *name)
{
	const struct move *m = self;
	const struct journal_box *b = m->to;
	enum journal_match match = MATCH_NONE;
	char there[JOURNAL_NAME];
	struct journal j;
	struct stat st;
	int result;

	if (journal_find(b->state, what, there) != 0)
		return 0;
	if (fstat(b->fd, &st) == -1) {
		journal_failed("fstat of the mailbox");
		return 1;
	}
	result = journal_open(m->from, name, &j);
	if (result == 0 && j.head.inode == (uint64_t)st.st_ino)
		match = match_journal(b, what, &j, &st);
	if (j.fd != -1)
		close(j.fd);
	if (result == -1 || match == MATCH_ERROR)
		return 1;
	return match != MATCH_NONE ? move_journal(m->from, b, what, name) : 0;
}

int
redo_follow(int from, const struct journal_box *b)
{
	struct move m = { from, b, 0 };

	return move_each(&m, follow_one);
}
