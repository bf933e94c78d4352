/* A path without symlinks, as far as they are root's: see resolve.c. */
#ifndef RESOLVE_H
#define RESOLVE_H

/*
 * Writes path, an absolute one, into resolved[PATH_MAX], with all symlinks on
 * the way to its last component replaced. Every directory that a name is looked
 * up in has to be root's and writable by nobody else. Returns NULL, or why the
 * path cannot be resolved; *resolved is not to be used then.
 */
const char *resolve_directory(const char *path, char *resolved);

#endif
