/* Warnings about the modes of secret files: see exposure.c. */
#ifndef EXPOSURE_H
#define EXPOSURE_H

#include <sys/types.h>

#include <stdbool.h>

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
