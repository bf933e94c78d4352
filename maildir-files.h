/* The files of the messages in a Maildir: see maildir-files.c. */
#ifndef MAILDIR_FILES_H
#define MAILDIR_FILES_H

#include "maildir.h"

/* Where the file of a message is now. */
struct location {
	int dir;
	const char *name; /* in dir; valid until the names are read again */
	int directory;    /* index of dir in dirs[] */
	struct stat st;
};

/*
 * The result of examining a file. FILES_UNREADABLE: the file is a message that
 * the disk cannot read. FILES_TROUBLE: another error has occurred.
 */
enum files_finding {
	FILES_FOUND,
	FILES_UNREADABLE,
	FILES_GONE,
	FILES_NOT_A_MESSAGE,
	FILES_TROUBLE
};

/*
 * Returns true if the file with this name is the file of the record, whatever
 * the file contains now. Stores the file's status in *st.
 */
bool files_has(const struct maildir *m, int directory, const char *name,
    const struct record *r, struct stat *st);

/*
 * Returns true if size and mtime prove that the file still contains the bytes
 * that were counted.
 */
bool files_has_content(const struct record *r, const struct stat *st);

/*
 * Returns true if the file, which has been found under this name, need not be
 * counted again. A new ctime together with a new name is accepted, because a
 * rename sets the ctime. If only the ctime is new, a program may have changed
 * the content and then set the mtime back.
 */
bool files_is_as_counted(const struct record *r, const struct stat *st,
    int directory, const char *name);

/*
 * Finds where a message is now, in new or cur, with any flags. Returns 0, or -1
 * with errno. errno is ENOENT if neither directory has the message.
 */
int files_locate(struct maildir *m, const struct record *r,
    struct location *where);

/*
 * Opens a message where it is now. Returns its descriptor, or -1 with errno.
 * errno is ENOENT if the message is gone.
 */
int files_open(struct maildir *m, const struct record *r,
    struct location *where);

/*
 * Counts the open file: stores its wire size and status in *r, and the result
 * of fstat in *st. Returns 0, or -1 with errno.
 */
int files_count(int fd, struct record *r, struct stat *st);

/*
 * Opens and counts the file of the entry e of l, and fills *r. Sets errno if
 * the result is FILES_TROUBLE or FILES_UNREADABLE.
 */
enum files_finding files_examine(struct maildir *m, const struct names *l,
    const struct entry *e, struct record *r);

#endif
