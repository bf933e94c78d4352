/* The parts of a path: see path.c. */
#ifndef PATH_H
#define PATH_H

#include <limits.h>

/*
 * Splits an absolute path of less than PATH_MAX bytes. Copies its directory,
 * and returns a pointer to its last component in path. The directory of "/name"
 * is "/".
 */
const char *path_split(const char *path, char directory[PATH_MAX]);

#endif
