/* The names of the journals of removals: see mbox-journal-names.c. */
#ifndef MBOX_JOURNAL_NAMES_H
#define MBOX_JOURNAL_NAMES_H

#define JOURNAL_NAME 24 /* bytes of a name, with the NUL */

/*
 * The file name of a journal shows the state of the removal, one of these bits.
 * For P and D see mbox-journal.c.
 */
enum journal_state {
	JOURNAL_TEMPORARY = 1, /* j.tmp: not decided */
	JOURNAL_DECIDED = 2,   /* j: decided; mailbox not truncated */
	JOURNAL_WRITTEN = 4,   /* j.cut: D is at P; mailbox truncated or not */
};

/*
 * A mailbox and the directory of its journal. The mailbox is locked for
 * writing, except in redo_follow.
 */
struct journal_box {
	int state; /* the state directory of this mailbox alone */
	int fd;    /* the mailbox; -1: absent */
	int dir;   /* the directory that contains the mailbox; -1: unknown */
	char temporary[JOURNAL_NAME]; /* names of the journal in its states */
	char decided[JOURNAL_NAME];
	char written[JOURNAL_NAME];
};

/*
 * Returns a box with these descriptors and names. On a shared file system the
 * names end with a random number.
 */
struct journal_box journal_box_make(int state, int fd, int dir);

/*
 * Looks for any journal in the states `wanted`, which are bits. Stores the name
 * of one with the lowest bit. Returns its state, 0 if there certainly is none,
 * or -1 with errno.
 */
int journal_find(int state, unsigned wanted, char name[JOURNAL_NAME]);

/*
 * Looks for the box's own journal. Returns JOURNAL_DECIDED or, if there is none
 * of that name, JOURNAL_WRITTEN. Returns 0 if there certainly is none, or -1
 * with errno.
 */
int journal_find_own(const struct journal_box *b);

/*
 * Calls visit for each journal in the states `wanted`, until it returns a value
 * that is not 0. Returns that value, 0 at the end, or -1 with errno if the
 * directory cannot be read. visit may rename or unlink the journal.
 */
int journal_each(int state, unsigned wanted,
    int (*visit)(void *self, enum journal_state what, const char *name),
    void *self);

#endif
