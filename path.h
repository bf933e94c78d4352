/* The parts of a path: see path.c. */
#ifndef PATH_H
#define PATH_H

#include <limits.h>

/*
 * Copies the directory of an absolute path, which is shorter than PATH_MAX
 * bytes. Returns the last component, which points into path. The directory of
 * "/name" is "/".
 */
const char *path_split(const char *path, char directory[PATH_MAX]);

#endif
