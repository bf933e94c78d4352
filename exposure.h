/* Warnings about the modes of secret files: see exposure.c. */
#ifndef EXPOSURE_H
#define EXPOSURE_H

#include <sys/types.h>

#include <stdbool.h>

#define EXPOSURE_REASON 64 /* bytes of a reason with its NUL */

struct stat;

/*
 * Finds out whether others than root can read or change a file with a secret
 * key, by its owner and mode. Returns true with reason filled, or false. A
 * group of the system may read the file; least_user is the smallest uid of
 * users, above the gids of the system.
 */
bool exposure_find(const struct stat *st, uid_t least_user,
    char reason[EXPOSURE_REASON]);

/* What a warning depends on besides the file. */
struct exposure_place {
	const char *state; /* the state directory */
	/* the smallest uid of users, above the gids of the system */
	uid_t least_user;
	/*
	 * at the start of a listener: always warn; otherwise once an hour, and
	 * after each change of the file
	 */
	bool is_start;
};

/*
 * Root: logs a warning if others than root can read or change the file at path,
 * which contains a secret key. Logs nothing if the file is absent, or if
 * besides root only a group of the system can read it. STATE/exposed.NAME has
 * the time of the last warning.
 */
void exposure_warn(const struct exposure_place *place, const char *name,
    const char *path);

#endif
