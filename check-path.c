/*
 * Follows the path of a secret file, and finds the directories in which others
 * than root can replace it.
 *
 * Runs as root in kpopd-check. It only looks at names, and opens none.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

#define LINKS_MOST 40 /* symlinks in a path, as many as Linux follows */

/* A walk along a path, from "/". */
struct path_walk {
	struct check *c;
	const char *kind;
	char *real;          /* of PATH_MAX bytes: the path so far */
	char rest[PATH_MAX]; /* the path from there to the end */
	int links;           /* followed so far */
};

/*
 * Prints a line if others than root can replace a name in the directory real.
 * In a sticky directory only the owner of a name can do so.
 */
static void
check_directory(struct path_walk *w, const struct stat *st)
{
	const char *path = *w->real != '\0' ? w->real : "/";
	mode_t others = S_IWOTH | (st->st_gid != 0 ? S_IWGRP : 0);

	if (st->st_uid != 0)
		check_fail(w->c, w->kind, path,
		    check_remedy(w->c, "chown root %s", path),
		    "uid %u owns this directory, and can replace what is in it",
		    (unsigned)st->st_uid);
	else if ((st->st_mode & others) != 0 && (st->st_mode & S_ISVTX) == 0)
		check_fail(w->c, w->kind, path,
		    check_remedy(w->c, "chmod go-w %s", path),
		    "others than root can replace what is in this directory "
		    "(mode %04o)",
		    (unsigned)(st->st_mode & 07777));
}

/* Puts the target of the symlink real before the rest of the path. */
static bool
follow_link(struct path_walk *w)
{
	char target[PATH_MAX], rest[PATH_MAX];
	ssize_t n = readlink(w->real, target, sizeof(target) - 1);

	if (n == -1)
		return false;
	target[n] = '\0';
	errno = ++w->links > LINKS_MOST ? ELOOP : ENAMETOOLONG;
	if (errno == ELOOP ||
	    snprintf(rest, sizeof(rest), "%s/%s", target, w->rest) >=
		(int)sizeof(rest))
		return false;
	strlcpy(w->rest, rest, sizeof(w->rest));
	if (target[0] == '/')
		w->real[0] = '\0';
	else
		*strrchr(w->real, '/') = '\0';
	return true;
}

/*
 * Moves the first component of the rest to the end of real. Returns false if
 * the path is too long.
 */
static bool
take_name(struct path_walk *w)
{
	const char *from = w->rest + strspn(w->rest, "/");
	size_t n = strcspn(from, "/"), length = strlen(w->real);

	errno = ENAMETOOLONG;
	if (length + n + 1 >= PATH_MAX)
		return false;
	if (n == 2 && strncmp(from, "..", n) == 0) {
		if (length > 0)
			*strrchr(w->real, '/') = '\0';
	} else if (n > 0 && !(n == 1 && *from == '.'))
		snprintf(w->real + length, PATH_MAX - length, "/%.*s", (int)n,
		    from);
	memmove(w->rest, from + n, strlen(from + n) + 1);
	return true;
}

/* Walks one component. Returns false with errno if the path ends there. */
static bool
step(struct path_walk *w)
{
	struct stat st;

	if (!take_name(w) || lstat(*w->real != '\0' ? w->real : "/", &st) == -1)
		return false;
	if (S_ISLNK(st.st_mode))
		return follow_link(w);
	if (S_ISDIR(st.st_mode))
		check_directory(w, &st);
	return true;
}

bool
check_path(struct check *c, const char *kind, const char *path,
    char real[PATH_MAX])
{
	struct path_walk w = { .c = c, .kind = kind, .real = real };

	real[0] = '\0';
	errno = ENAMETOOLONG;
	/* A path that is not absolute begins in "/", as inetd starts kpopd. */
	if (snprintf(w.rest, sizeof(w.rest), "/./%s", path) >=
	    (int)sizeof(w.rest))
		return false;
	while (w.rest[strspn(w.rest, "/")] != '\0')
		if (!step(&w))
			return false;
	return true;
}
