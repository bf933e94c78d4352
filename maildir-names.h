/* The names in a Maildir at one moment: see maildir-names.c. */
#ifndef NAMES_H
#define NAMES_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "maildrop.h"
#include "fingerprint.h"

/* new and cur, in this order: a file that goes from the first to the second meanwhile is not missed. */
#define NAMES_DIRECTORIES 2

/* One file. */
struct entry {
	uint64_t time; /* of delivery, with which the name begins */
	ino_t inode;
	size_t name;   /* where it begins in the listing's names */
	size_t unique; /* bytes of it before the colon */
	int directory;
	unsigned missed; /* passes in a row that did not see it: see names_insist */
};

/* The names in new and cur, in the order of the messages. All zero: not made yet. */
struct names {
	char *names;
	size_t used, room;
	struct entry *list;
	size_t count, list_room;
	size_t skipped; /* what could be taken for a message and is none */
	size_t longest; /* bytes of a name */
	struct fingerprint seen[NAMES_DIRECTORIES];
};

/* A unique name, n bytes: what stands before the colon, and the time of delivery, with which it begins. */
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
enum drop_error names_read(struct names *l, const int dirs[NAMES_DIRECTORIES]);

/* Returns true if nothing can have changed while the names were read, so that the pass is the truth. */
bool names_is_proven(const struct names *l);

/* Adds a name to a listing of what is known from elsewhere; names_insist puts it in order. */
void names_add(struct names *l, const char *name, ino_t inode, int directory);

/*
 * Reads the names again after a pass that is not proven, until no file is
 * missing that an earlier pass or *known has. Changes *known.
 */
enum drop_error names_insist(struct names *l, const int dirs[NAMES_DIRECTORIES], struct names *known);

/* How many passes in a row must lack a file before it is taken for gone. */
#define NAMES_MISSES 12

/* Whether nothing can have changed since new and cur were like this. */
bool names_is_current(const int dirs[NAMES_DIRECTORIES], const struct fingerprint seen[NAMES_DIRECTORIES]);

void names_free(struct names *l);

/* The name of an entry, valid until the listing is made again. */
const char *names_name(const struct names *l, const struct entry *e);

/* Its unique name, valid as long. */
struct unique names_unique(const struct names *l, const struct entry *e);

/* The order of the messages: by the time of delivery, then by the name. Less than, equal to or greater than 0. */
int unique_compare(const struct unique *x, const struct unique *y);

/* The first entry with this unique name, or the one that would stand behind it: the end of the listing, maybe. */
const struct entry *names_find(const struct names *l, const struct unique *u);

/* Whether e is an entry, with this unique name. */
bool names_has(const struct names *l, const struct entry *e, const struct unique *u);

#endif
