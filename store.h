/*
 * What a mailbox format implements: mbox.c and maildir.c do, maildrop.c alone uses it.
 *
 * Messages are numbered from 0 here; maildrop.c converts. Nothing is freed
 * just to be tidy: the process serves one session and ends.
 */
#ifndef STORE_H
#define STORE_H

#include <errno.h>

#include "lock.h"
#include "maildrop.h"

/* Where one user's mail and its state are, and how it is locked. Its strings last as long as the process. */
struct store_place {
	const char *path;
	int dir;          /* the directory that the mailbox is in, opened with O_PATH */
	const char *name; /* the mailbox' there */
	bool create;      /* when it is absent */
	bool quoted;      /* no Content-Length is trusted in it */
	int state;        /* the user's state directory */
	const struct lock_plan *locks;
};

struct store_ops {
	/* Opens the mailbox at this place; *box is passed to the others. */
	enum drop_error (*open)(const struct store_place *place, void **box);
	/* Finishes what a crash left of a removal, as maildrop_recover; open does so, too. NULL: a crash leaves nothing to finish. */
	enum drop_error (*recover)(const struct store_place *place);
	/* Takes over what an earlier version left unfinished in a directory that all mailboxes shared. NULL, as above. */
	enum drop_error (*adopt)(const struct store_place *place, int shared);
	/*
	 * Takes over what is unfinished in the state directory of another path, if that path led to the same mailbox.
	 * NULL, as above.
	 */
	enum drop_error (*follow)(const struct store_place *place, int other);
	/* Whether there is something to finish, by the state directory. NULL, as above. */
	bool (*unfinished)(int state);
	size_t (*count)(const void *box);
	/* Of all messages. */
	uint64_t (*total)(const void *box);
	/* As maildrop_octets, maildrop_uidl, maildrop_fetch; fetch leaves the log to maildrop.c, and errno for FAILED. */
	uint64_t (*wire_size)(void *box, size_t i);
	void (*uidl)(void *box, size_t i, char id[UIDL_SIZE]);
	enum drop_error (*fetch)(void *box, size_t i, struct span *s);
	/* As maildrop_stands. NULL: always. */
	bool (*stands)(void *box, size_t i);
	/* As maildrop_recounted. NULL: never. */
	bool (*recounted)(void *box, size_t i);
	/* As maildrop_commit; bit i of marks (from the lowest of marks[0]) is message i. */
	enum drop_error (*remove)(void *box, const unsigned char *marks, size_t *removed);
};

/*
 * Returns what an errno of opening something means: DENIED if a person has to
 * mend it, otherwise FAILED: what is absent, stale or not answering may be on a
 * file system that is mounted later.
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

static inline bool
store_marked(const unsigned char *marks, size_t i)
{
	return (marks[i / 8] >> (i % 8) & 1) != 0;
}

extern const struct store_ops mbox_store;
extern const struct store_ops maildir_store;

/* In a Maildir of at most so many messages each login looks at all files. Only tests change it. */
extern size_t maildir_small;

#endif
