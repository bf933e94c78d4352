/*
 * An open Maildir and the record of a message in its index, for maildir*.c
 * only.
 *
 * Other files use the format through store.h.
 */
#ifndef MAILDIR_H
#define MAILDIR_H

#include <sys/stat.h>

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fingerprint.h"
#include "index.h"
#include "maildir-names.h"
#include "store.h"

/*
 * A search for a message is repeated at most this many times. A repetition is
 * necessary if another program renames the message during the search.
 */
#define MAILDIR_TRIES 200

/*
 * A message in the index, as it is on disk. The struct has no padding before
 * the name, because records are compared byte by byte.
 */
struct record {
	uint64_t inode; /* as fstat reports it */
	/*
	 * The inode as readdir reports it. On some file systems it differs from
	 * the inode that fstat reports. 0 means that the file must be counted
	 * again (see maildir-files.c).
	 */
	uint64_t listed;
	int64_t size;
	int64_t mtime, ctime; /* ns since 1970 */
	uint64_t wire_size;
	uint64_t time; /* as in struct entry */
	/*
	 * distinguishes files with the same unique name; a file keeps its
	 * ordinal
	 */
	uint32_t ordinal;
	uint16_t length; /* bytes of the name */
	uint16_t unique; /* bytes of the name before the colon */
	uint8_t directory;
	uint8_t stable; /* as in struct fingerprint */
	char name[NAME_MAX + 1];
};

/* Identifies a directory. */
struct identity {
	uint64_t device, inode;
};

/* The note of the index, which proves that the list is current. */
struct note {
	struct fingerprint seen[NAMES_DIRECTORIES];
	uint64_t wire_size; /* of all messages */
	/*
	 * The directory that contained the Maildir, and the Maildir itself. top
	 * is all zero if new and cur were absent.
	 */
	struct identity directory, top;
};

struct maildir {
	int state;
	int base; /* the Maildir itself, opened with O_PATH; -1: absent */
	int dirs[NAMES_DIRECTORIES]; /* new and cur; -1: absent, hence empty */
	struct index *list;
	size_t count;
	struct note note;
	struct identity directory, top; /* as in struct note, at this login */
	/*
	 * The names from the last pass that searched for a file. The passes
	 * that make the list do not store their names here.
	 */
	struct names now;
	/*
	 * the number of passes over the names that this session may still make
	 * to search for messages
	 */
	int passes_left;
	/*
	 * put_distrusted has marked the fingerprints in the index as not
	 * stable
	 */
	bool is_distrusted;
	int fd;              /* file of the message fetched last; -1: none */
	struct stat fetched; /* status of fd at that time */
};

/* Returns the unique name of a record, valid as long as the record. */
static inline struct unique
record_unique(const struct record *r)
{
	return (struct unique){ r->time, r->name, r->unique };
}

/*
 * If a Maildir has at most this many messages, each login compares the status
 * of all its files. Only tests change this number.
 */
extern size_t maildir_small;

#endif
