/* The smallest uid of users: see login-defs.c. */
#ifndef LOGIN_DEFS_H
#define LOGIN_DEFS_H

#include <sys/types.h>

#define LOGIN_DEFS "/etc/login.defs" /* where a host has it */

/*
 * Returns UID_MIN of the file, which is usually LOGIN_DEFS. Returns 1000
 * if the file cannot be read, or if the value is absent or no uid of a user.
 * Reads at most 64 KiB.
 */
uid_t login_defs_uid_min(const char *path);

#endif
