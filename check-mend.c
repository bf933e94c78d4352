/*
 * Makes the remedies for files of a user.
 *
 * Runs as the user in a child of kpopd-check. The user sees that kpopd-check
 * runs, and can put a link to another file in the place of the file before root
 * runs the remedy. So root itself changes only what the user cannot replace.
 * The rest is done with the user's rights, or not proposed.
 */
#include "config.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check-mend.h"
#include "check-quote.h"
#include "path.h"

/* Returns true if the user can put another file in the place of a name. */
static bool
can_replace(const char *path)
{
	char above[PATH_MAX];
	struct stat directory, st;

	path_split(path, above);
	if (lstat(above, &directory) == -1 || directory.st_uid == geteuid())
		return true;
	if (access(above, W_OK) == -1)
		return false;
	return (directory.st_mode & S_ISVTX) == 0 || lstat(path, &st) == -1 ||
	    st.st_uid == geteuid();
}

/* Returns true if the user can replace one of the path's components. */
static bool
can_replace_part(const char *path)
{
	char begin[PATH_MAX];

	for (size_t n = 1; path[n] != '\0';) {
		n += strcspn(path + n, "/");
		memcpy(begin, path, n);
		begin[n] = '\0';
		if (can_replace(begin))
			return true;
		n += strspn(path + n, "/");
	}
	return false;
}

bool
check_is_replaceable(const char *path)
{
	char real[PATH_MAX];

	return realpath(path, real) == NULL || can_replace_part(path) ||
	    can_replace_part(real);
}

const char *
mend_mode(struct check *c, const char *path, const struct stat *st,
    const char *mode)
{
	struct check_word file, user;

	check_quote(&file, path);
	check_quote(&user, c->account.name);
	if (!check_is_replaceable(path))
		return check_remedy(c, "chmod %s %s", mode, file.text);
	if (st->st_uid != geteuid())
		return NULL;
	return check_remedy(c, "runuser -u %s -- chmod %s %s", user.text, mode,
	    file.text);
}

const char *
check_owner(const struct check *c, const char *path)
{
	static struct check_word w;
	size_t n = strlen(c->account.home);

	if (strncmp(path, c->account.home, n) != 0 ||
	    (path[n] != '/' && path[n] != '\0'))
		return "root";
	return check_quote(&w, c->account.name);
}

const char *
mend_owner(struct check *c, const char *path, const char *owner)
{
	char real[PATH_MAX];
	struct check_word w;
	struct stat st;

	if (lstat(path, &st) == -1 || S_ISLNK(st.st_mode))
		return NULL;
	check_quote(&w, path);
	if (!check_is_replaceable(path))
		return check_remedy(c, "chown -h %s %s", owner, w.text);
	/* A shell that is in a directory stays there. */
	if (S_ISDIR(st.st_mode) && realpath(path, real) != NULL &&
	    strcmp(real, path) == 0)
		return check_remedy(c,
		    "(cd %s && [ \"$(pwd -P)\" = %s ] && chown %s .)", w.text,
		    w.text, owner);
	return NULL;
}

const char *
mend_aside(struct check *c, const char *path)
{
	struct check_word file, user;

	/* Without -T a symlink PATH.old would lead the file elsewhere. */
	check_quote(&file, path);
	if (!check_is_replaceable(path))
		return check_remedy(c, "mv -bT %s %s.old", file.text,
		    file.text);
	return check_remedy(c, "runuser -u %s -- mv -bT %s %s.old",
	    check_quote(&user, c->account.name), file.text, file.text);
}
