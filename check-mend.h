/* Remedies for files that a user can replace: see check-mend.c. */
#ifndef CHECK_MEND_H
#define CHECK_MEND_H

#include <sys/stat.h>

#include <stdbool.h>

#include "check.h"

/*
 * As the user: returns true if the user can put another file in the place of
 * the one at this absolute path.
 */
bool check_is_replaceable(const char *path);

/*
 * Returns who should own a directory on the way to a file of the user, as a
 * word of the shell: the user in the home directory, root elsewhere.
 */
const char *check_owner(const struct check *c, const char *path);

/*
 * As the user: make the remedy that changes the mode or the owner of a file, or
 * moves it to PATH.old. st is the file's status, mode is for chmod(1), owner is
 * a word of the shell. Return NULL if no such command is safe.
 */
const char *mend_mode(struct check *c, const char *path, const struct stat *st,
    const char *mode);
const char *mend_owner(struct check *c, const char *path, const char *owner);
const char *mend_aside(struct check *c, const char *path);

#endif
