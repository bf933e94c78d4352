/*
 * The functions of a mailbox format, which one file for each format defines.
 *
 * Only maildrop*.c call these functions. Messages are numbered from 0 here, and
 * from 1 in maildrop.h. The memory of an open mailbox is never freed, because
 * the process ends with the session.
 */
#ifndef STORE_H
#define STORE_H

#include <errno.h>

#include "lock.h"
#include "maildrop.h"
#include "uidl-scheme.h"

/*
 * Where the mailbox and the state of one user are, and how the mailbox is
 * locked. The strings last as long as the process.
 */
struct store_place {
	const char *path;
	/* the directory that contains the mailbox, opened with O_PATH */
	int dir;
	const char *name; /* the mailbox's name in dir */
	bool create;      /* make the mailbox if it is absent */
	bool quoted;      /* trust no Content-Length in the mailbox */
	bool read_only;   /* change nothing in the mailbox */
	int state;        /* the mailbox's state directory */
	const struct lock_plan *locks;
};

/* The rights of a confined session below a directory. */
enum store_access {
	STORE_NO_ACCESS = 0,
	STORE_WRITE, /* read and change the files that exist */
	STORE_OWN,   /* read, change, make, rename and remove */
};

/*
 * Takes the id that another server gave message i. `to` is the caller's.
 */
typedef void store_put_id(void *to, size_t i, const char *id);

#define STORE_NAME 15 /* most bytes of a format's name */

struct store_ops {
	/* of the format; the name of a state directory begins with it */
	const char *name;
	/*
	 * The session's rights to the mailbox, if it is a directory, and to the
	 * directory that contains it. A format has no right that it does not
	 * specify.
	 */
	enum store_access mailbox_access, directory_access;
	/* replaces directory_access if absent mailboxes are made */
	enum store_access create_access;
	/*
	 * True if other programs lock a mailbox of this format. Then the
	 * session takes the locks of the plan, and has a broker.
	 */
	bool is_locked;

	/*
	 * Opens the mailbox. Stores in *box the value to pass as box to the
	 * functions below.
	 */
	enum drop_error (*open)(const struct store_place *place, void **box);
	/*
	 * Finds the obstacles that `open` would find, but takes no lock and
	 * changes nothing, as maildrop_look. An MDA may deliver meanwhile.
	 */
	enum drop_error (*look)(const struct store_place *place);
	/*
	 * Finishes an interrupted removal, as maildrop_recover; `open` does
	 * that, too. NULL: a crash leaves nothing to finish.
	 */
	enum drop_error (*recover)(const struct store_place *place);
	/*
	 * Takes over unfinished removals from the directory `shared`, which all
	 * mailboxes of a user shared in an earlier version. NULL: as for
	 * recover.
	 */
	enum drop_error (*adopt)(const struct store_place *place, int shared);
	/*
	 * Takes over unfinished removals from `other`, the state directory of
	 * another path, if that path led to the same mailbox. NULL: as for
	 * recover.
	 */
	enum drop_error (*follow)(const struct store_place *place, int other);
	/*
	 * Returns true if a removal is unfinished in this state directory.
	 * NULL: as for recover.
	 */
	bool (*unfinished)(int state);
	/* Returns the number of messages. */
	size_t (*count)(const void *box);
	/* Returns the wire size of all messages. */
	uint64_t (*total)(const void *box);
	/* Returns the wire size of message i, as maildrop_wire_size. */
	uint64_t (*wire_size)(void *box, size_t i);
	/* Stores the unique id of message i, as maildrop_uidl. */
	void (*uidl)(void *box, size_t i, char id[UIDL_SIZE]);
	/*
	 * The sources of ids (1u << enum scheme_source) that old_ids reads.
	 * uidl-compute.c finds the others in the messages.
	 */
	unsigned id_sources;
	/*
	 * Finds the ids that another server gave the messages, by what it has
	 * left in the mailbox. Calls put for each message that has such an id.
	 * Returns DROP_OK, or DROP_DENIED or DROP_FAILED (logged).
	 */
	enum drop_error (*old_ids)(void *box, const struct uidl_scheme *scheme,
	    store_put_id *put, void *to);
	/*
	 * Finds the bytes of the mailbox that are before its first message. If
	 * there are none, s->bytes is 0. Call it after fetch of message 0.
	 * NULL: there are never any.
	 */
	void (*prologue)(void *box, struct span *s);
	/*
	 * Finds the bytes of message i, as maildrop_begin, but logs nothing.
	 * Sets errno if it returns DROP_FAILED.
	 */
	enum drop_error (*fetch)(void *box, size_t i, struct span *s);
	/*
	 * Returns true if message i, which must be the message fetched last,
	 * has not changed since it was fetched. If it has changed, the bytes
	 * that were read may belong to another message. NULL: no message ever
	 * changes.
	 */
	bool (*is_unchanged)(void *box, size_t i);
	/*
	 * Called if message i was read to its end, but its wire size differs
	 * from the one in its span. Makes a later login count the size again.
	 * Returns true if the bytes that were read are nevertheless those of
	 * the message. NULL means the same as a function that returns false.
	 */
	bool (*accept_other_size)(void *box, size_t i);
	/*
	 * Removes the marked messages, as maildrop_commit. Bit i of marks is
	 * message i; bit 0 is the lowest bit of marks[0].
	 */
	enum drop_error (*remove)(void *box, const unsigned char *marks,
	    size_t *removed);
};

/*
 * Returns the error for an errno of opening a file: DROP_DENIED if only a
 * person can remove the cause, otherwise DROP_FAILED. For an absent, stale or
 * unreachable file it is DROP_FAILED, because its file system may be mounted
 * later.
 */
static inline enum drop_error
store_error(int error)
{
	switch (error) {
	case EACCES:
	case EPERM:
	case EROFS:
	case ELOOP:
	case ENOTDIR:
	case EISDIR:
	case ENXIO:
	case ENAMETOOLONG:
		return DROP_DENIED;
	default:
		return DROP_FAILED;
	}
}

/* Returns true if message i is marked. */
static inline bool
store_marked(const unsigned char *marks, size_t i)
{
	return (marks[i / 8] >> (i % 8) & 1) != 0;
}

extern const struct store_ops mbox_store;
extern const struct store_ops maildir_store;

#endif
