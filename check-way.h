/* What a path of a user looks like to that user: see check-way.c. */
#ifndef CHECK_WAY_H
#define CHECK_WAY_H

#include <sys/stat.h>

#include <limits.h>
#include <stdbool.h>

#include "check.h"

/* A text about a file. */
struct check_text {
	char text[PATH_MAX];
};

/* Writes "mode 0755, owner root" for the status of a file. Returns t->text. */
const char *check_describe(struct check_text *t, const struct stat *st);

/*
 * Returns true if members of the file's group other than the user can write the
 * file. The user's own group, with the user's name and no other member, does
 * not count.
 */
bool check_group_writes(const struct check *c, const struct stat *st);

/* Why a path cannot be reached. */
struct check_obstacle {
	char at[PATH_MAX]; /* the component that is the reason */
	int error;         /* errno at that component */
	char why[3 * PATH_MAX];
	char remedy[CHECK_COMMAND]; /* "" if there is none */
};

/*
 * As the user: looks for the component that keeps the user from reaching path,
 * which is absolute. Returns false if each component exists, and the user may
 * search each directory before the last component.
 */
bool check_find_obstacle(struct check *c, const char *path,
    struct check_obstacle *o);

/*
 * As the user: prints a line for each directory before the last component of
 * path that other users can change. They could replace `what`, for example
 * "the mailbox".
 */
void check_directories(struct check *c, const char *path, const char *what);

#endif
