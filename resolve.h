/* Replaces root's symlinks in a path: see resolve.c. */
#ifndef RESOLVE_H
#define RESOLVE_H

/*
 * Root: writes path, which is absolute, to resolved[PATH_MAX]. Replaces all
 * symlinks before its last component. Each directory in which a name is looked
 * up must belong to root and be writable only by root. Returns NULL, or why the
 * path cannot be resolved; then resolved must not be used.
 */
const char *resolve_directory(const char *path, char *resolved);

#endif
