/* The names in a Maildir at one moment: see listing.c. */
#ifndef LISTING_H
#define LISTING_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "maildrop.h"
#include "stamp.h"

/* new and cur, in this order: a file that goes from the first to the second meanwhile is not missed. */
#define LISTING_DIRECTORIES 2

/* One file. */
struct entry {
	uint64_t time; /* of delivery, with which the name begins */
	ino_t inode;
	size_t name;   /* where it begins in the listing's names */
	size_t unique; /* octets of it before the colon */
	int directory;
	unsigned missed; /* passes in a row that did not see it: see listing_insist */
};

/* The names in new and cur, in the order of the messages. All zero: not made yet. */
struct listing {
	char *names;
	size_t used, room;
	struct entry *list;
	size_t count, list_room;
	size_t skipped; /* what could be taken for a message and is none */
	size_t longest; /* octets of a name */
	struct stamp seen[LISTING_DIRECTORIES];
};

/* A unique name, n octets: what stands before the colon, and the time of delivery, with which it begins. */
struct unique {
	uint64_t time;
	const char *name;
	size_t n;
};

/*
 * Reads all names once, as one pass; dirs: new and cur, -1 for one that is
 * absent, hence empty. A pass may lack a file that another program renames
 * meanwhile, or have it twice. Returns DROP_OK, or DROP_FAILED after logging why.
 */
enum drop_error listing_read(struct listing *l, const int dirs[LISTING_DIRECTORIES]);

/* Returns true if nothing can have changed while the names were read, so that the pass is the truth. */
bool listing_is_proven(const struct listing *l);

/* Adds a name to a listing of what is known from elsewhere; listing_insist puts it in order. */
void listing_add(struct listing *l, const char *name, ino_t inode, int directory);

/*
 * Reads the names again after a pass that is not proven, until no file is
 * missing that an earlier pass or *known has. Changes *known.
 */
enum drop_error listing_insist(struct listing *l, const int dirs[LISTING_DIRECTORIES], struct listing *known);

/* How many passes in a row must lack a file before it is taken for gone. */
#define LISTING_MISSES 12

/* Whether nothing can have changed since new and cur were like this. */
bool listing_is_current(const int dirs[LISTING_DIRECTORIES], const struct stamp seen[LISTING_DIRECTORIES]);

void listing_free(struct listing *l);

/* The name of an entry, valid until the listing is made again. */
const char *listing_name(const struct listing *l, const struct entry *e);

/* Its unique name, valid as long. */
struct unique listing_unique(const struct listing *l, const struct entry *e);

/* The order of the messages: by the time of delivery, then by the name. Less than, equal to or greater than 0. */
int unique_compare(const struct unique *x, const struct unique *y);

/* The first entry with this unique name, or the one that would stand behind it: the end of the listing, maybe. */
const struct entry *listing_find(const struct listing *l, const struct unique *u);

/* Whether e is an entry, with this unique name. */
bool listing_has(const struct listing *l, const struct entry *e, const struct unique *u);

#endif
