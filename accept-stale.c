/*
 * Finds out whether the listener is out of date: its superserver has ended, or
 * its program or one of its libraries was replaced.
 *
 * Runs as root, in the listener. Reads only files of /proc/self.
 *
 * A listener that outlives its superserver keeps the port: the next superserver
 * cannot bind it, and gives the service up. A listener that outlives an upgrade
 * serves with the faults that the upgrade mends.
 */
#include "config.h"

#include <sys/stat.h>

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "accept-stale.h"
#include "process.h"

#define DELETED " (deleted)"

bool
stale_follow_parent(void)
{
	/*
	 * SIGTERM would not end a listener that waits for a name service. The
	 * listener must end at once, because the next superserver may try the
	 * port only once. Under systemd the parent is the first process, which
	 * does not end.
	 */
	return process_follow(getppid());
}

/*
 * Returns true if the text ends with the mark that the kernel appends to the
 * name of a removed file (proc_pid_maps(5)).
 */
static bool
is_marked(const char *text)
{
	size_t n = strlen(text), mark = sizeof(DELETED) - 1;

	return n >= mark && strcmp(text + n - mark, DELETED) == 0;
}

/*
 * Returns the number of mappings that are executed and whose file was removed.
 * To replace a file, a package renames a new file to the old file's name, which
 * removes the old file. Returns 0 without /proc.
 */
static int
count_removed(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char *line = NULL, rights[5];
	size_t size = 0;
	int n = 0;

	while (maps != NULL && getline(&line, &size, maps) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (sscanf(line, "%*s %4s", rights) == 1 && rights[2] == 'x' &&
		    strchr(line, '/') != NULL && is_marked(line))
			n++;
	}
	free(line);
	if (maps != NULL)
		fclose(maps);
	return n;
}

/*
 * Returns true if the path from which this program was started is now another
 * file. Returns false if no file is there, as for a moment during an
 * installation, because then the superserver could start nothing.
 */
static bool
is_other(const char *path)
{
	struct stat now, own;

	return stat(path, &now) == 0 && stat("/proc/self/exe", &own) == 0 &&
	    (now.st_dev != own.st_dev || now.st_ino != own.st_ino);
}

/*
 * Writes the path from which this program was started; "" without /proc. The
 * program may have been replaced since then.
 */
static void
find_own(char *path, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", path, size - 1);

	path[n == -1 ? 0 : n] = '\0';
	if (is_marked(path))
		path[strlen(path) - (sizeof(DELETED) - 1)] = '\0';
}

bool
stale_is_replaced(void)
{
	static char path[PATH_MAX];
	static int removed = -1; /* at the first call */

	/*
	 * On some file systems every file has the mark. So only files count
	 * that are removed after the first call, because otherwise a listener
	 * on such a file system would never serve.
	 */
	if (removed == -1) {
		removed = count_removed();
		find_own(path, sizeof(path));
		return false;
	}
	if (access(path, X_OK) == -1)
		return false;
	return is_other(path) || count_removed() > removed;
}
