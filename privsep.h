/* Drops root's rights: see privsep.c. */
#ifndef PRIVSEP_H
#define PRIVSEP_H

#include <sys/types.h>

#include "account.h"

/*
 * Root: opens the directory at path, and makes it with this mode for this owner
 * if it is absent. Unless `at` is AT_FDCWD, it is the open directory that
 * contains the directory, and must be writable by root only; of the path, only
 * the last component is then used, and the rest is for the log. Sets owner and
 * mode of an existing directory that still belongs to root or lacks a search
 * permission of this mode. Does the same if an owner other than root has made
 * the directory writable by others. Any other existing directory must belong to
 * the owner and must not be writable by others; otherwise ends the process.
 * Returns a descriptor (read-only, close-on-exec), or -1 if the directory could
 * not be made (logged).
 */
int privsep_make_directory(int at, const char *path, mode_t mode, uid_t uid,
    gid_t gid);

/*
 * Root: does the same with the directory STATE/NAME of root, and first with
 * STATE.
 */
int privsep_open_state(const char *state, const char *name, mode_t mode);

/*
 * Root: makes STATE/NAME, the root directory of a jail, which belongs to root.
 * Fatal on failure.
 */
void privsep_make_jail(const char *state, const char *name);

/*
 * Root: changes the root directory to STATE/NAME and becomes the user for good,
 * with limits on memory, files and descriptors. The process cannot make
 * processes any more. Fatal on failure.
 */
void privsep_jail(const char *state, const char *name, const struct account *a);

/* The descriptors that privsep_jail_keeper permits. */
#define PRIVSEP_KEEPER_FILES 1024

/*
 * Root: does the same as privsep_jail, but the process can have
 * PRIVSEP_KEEPER_FILES descriptors and make processes. The new processes must
 * call privsep_limit_jailed.
 */
void privsep_jail_keeper(const char *state, const char *name,
    const struct account *a);

/*
 * Sets the limits that privsep_jail sets and privsep_jail_keeper does not.
 * Fatal on failure.
 */
void privsep_limit_jailed(void);

/*
 * Root: becomes the user for good, with no group but the user's and no
 * capability, and cannot make processes any more. Fatal on failure.
 */
void privsep_become(const struct account *a);

/*
 * Root: becomes the user for good, with the spool's group as effective and
 * saved group, for a broker. The real group and the only supplementary group
 * are the user's. The process has no capability. Fatal on failure.
 */
void privsep_become_broker(const struct account *a, gid_t group);

/*
 * Child of a broker: becomes the user without the spool's group, as
 * privsep_become does. Fatal on failure.
 */
void privsep_leave_broker(const struct account *a);

#endif
