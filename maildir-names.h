/* The names of the files in a Maildir: see maildir-names.c. */
#ifndef MAILDIR_NAMES_H
#define MAILDIR_NAMES_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "maildrop.h"
#include "fingerprint.h"

/*
 * new and cur, which are read in this order. Mail readers move files from new
 * to cur. A pass finds a file that is moved so meanwhile and not renamed again.
 */
#define NAMES_DIRECTORIES 2

/* One file. */
struct entry {
	uint64_t time; /* time of delivery, with which the name begins */
	ino_t inode;   /* as readdir reports it */
	size_t name;   /* offset of the name in names[] of struct names */
	size_t unique; /* bytes of the name before the colon */
	int directory; /* 0: new, 1: cur */
	/* passes in a row without this file: see names_insist */
	unsigned missed;
};

/*
 * The names in new and cur, in the order of the messages. All zero: not read
 * yet.
 */
struct names {
	char *names;
	size_t used, room;
	struct entry *list;
	size_t count, list_room;
	size_t skipped; /* files that are not hidden, and are not messages */
	size_t longest; /* bytes of the longest name */
	/* fingerprints of new and cur, taken before the pass */
	struct fingerprint seen[NAMES_DIRECTORIES];
};

/*
 * A unique name: the n bytes before the colon, and the time of delivery, with
 * which they begin.
 */
struct unique {
	uint64_t time;
	const char *name;
	size_t n;
};

/*
 * Makes one pass: reads all names in new and cur. dirs contains their
 * descriptors; -1 means that the directory is absent. If another program
 * renames or moves a file during the pass, the result may contain the file
 * twice. The result may also lack the file, unless the file was only moved from
 * new to cur. Returns DROP_OK or DROP_FAILED (logged).
 */
enum drop_error names_read(struct names *l, const int dirs[NAMES_DIRECTORIES]);

/*
 * Returns true if no change can have happened during the pass, so that the pass
 * lacks no file.
 */
bool names_is_proven(const struct names *l);

/*
 * Adds a name that is known from an earlier list; names_insist sorts the names
 * afterwards.
 */
void names_add(struct names *l, const char *name, ino_t inode, int directory);

/*
 * Makes more passes if the first one is not proven. Stops when a pass is
 * proven. Also stops, after a few passes at least, when each file of *known and
 * of the earlier passes either is found or counts as removed. Also stops after
 * a bounded time, and adds the files that are still missing to l. Changes
 * *known. Returns as names_read does.
 */
enum drop_error names_insist(struct names *l, const int dirs[NAMES_DIRECTORIES],
    struct names *known);

/*
 * A file counts as removed after this many passes in a row without it. Fewer
 * passes are enough if new and cur have not changed for some time. Fewer are
 * also enough in a search for which the session has no passes left
 * (maildir-files.c).
 */
#define NAMES_MISSES 12

/*
 * Returns true if new and cur have certainly not changed since the fingerprints
 * in `seen` were taken.
 */
bool names_is_current(const int dirs[NAMES_DIRECTORIES],
    const struct fingerprint seen[NAMES_DIRECTORIES]);

/* Frees the memory of *l. */
void names_free(struct names *l);

/* Returns the name of an entry, valid until the names are read again. */
const char *names_name(const struct names *l, const struct entry *e);

/* Returns the unique name of an entry, valid until the names are read again. */
struct unique names_unique(const struct names *l, const struct entry *e);

/*
 * Returns the unique name of n bytes, at most NAME_MAX, in front of a colon or
 * without one. It keeps the pointer.
 */
struct unique unique_of(const char *name, size_t n);

/*
 * Compares two unique names in the order of the messages: by time of delivery,
 * then by name. Returns a number less than, equal to or greater than 0.
 */
int unique_compare(const struct unique *x, const struct unique *y);

/*
 * Returns the first entry with this unique name. If no entry has this name,
 * returns the first entry with a later name. If no entry has a later name
 * either, returns the end of the list.
 */
const struct entry *names_find(const struct names *l, const struct unique *u);

/* Returns true if e is not the end of the list and has this unique name. */
bool names_has(const struct names *l, const struct entry *e,
    const struct unique *u);

#endif
