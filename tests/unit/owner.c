/*
 * Replaces fstat and lstat, so that files seem to belong to root or to another
 * user.
 *
 * Runs as any user, in the tests and in the fuzz target that read root's files.
 * The linker replaces the functions by these (--wrap).
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <string.h>

#include "tests/unit/owner.h"

uid_t owner_of_file, owner_of_link;
const char *owner_hidden_path;

int __wrap_fstat(int, struct stat *);
int __real_fstat(int, struct stat *);
int
__wrap_fstat(int fd, struct stat *st)
{
	int result = __real_fstat(fd, st);

	st->st_uid = owner_of_file;
	return result;
}

int __wrap_lstat(const char *, struct stat *);
int __real_lstat(const char *, struct stat *);
int
__wrap_lstat(const char *name, struct stat *st)
{
	int result = __real_lstat(name, st);

	st->st_uid = owner_of_link;
	if (owner_hidden_path == NULL || strcmp(name, owner_hidden_path) != 0)
		return result;
	errno = ENOENT;
	return -1;
}
