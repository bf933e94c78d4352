/*
 * Splits a path into its directory and its last component.
 *
 * Runs in every process; pure computation. It does not look at symlinks.
 */
#include "config.h"

#include <string.h>

#include "path.h"

const char *
path_split(const char *path, char directory[PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t n = slash == path ? 1 : (size_t)(slash - path);

	memcpy(directory, path, n);
	directory[n] = '\0';
	return slash + 1;
}
