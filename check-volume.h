/* Checks a directory on a shared file system: see check-volume.c. */
#ifndef CHECK_VOLUME_H
#define CHECK_VOLUME_H

struct check;

/*
 * Prints a line, with this kind, if the directory is on a file system that
 * other hosts may change.
 */
void check_volume(struct check *c, const char *kind, const char *path);

/*
 * Prints a line if other hosts may change only one of these: the mailbox's
 * directory at path, and STATE/users.
 */
void check_volumes_agree(struct check *c, const char *path);

#endif
