/*
 * Replaces the symlinks that lead to a mailbox's directory. On Debian
 * /var/spool/mail is a symlink to ../mail.
 *
 * Runs as root. It follows a symlink only if the symlink is in a directory that
 * belongs to root and that neither group nor others may write. Otherwise a
 * symlink could lead root, and the broker with the spool's group, into another
 * directory. The last directory, the spool's own, may belong to any user,
 * because no name is looked up in it.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "resolve.h"

#define LINKS_MOST 16 /* symlinks in a path; more count as a loop */

/* A walk along a path, from "/". */
struct walk {
	int at; /* the directory that it has reached */
	/* its path, without a slash at the end; "" is the root */
	char done[PATH_MAX];
	char rest[PATH_MAX]; /* the path from there to the end */
	int links;           /* followed so far */
};

/* Returns true if only root can change names in this directory. */
static bool
is_only_roots(int directory)
{
	struct stat st;

	return fstat(directory, &st) == 0 && st.st_uid == 0 &&
	    (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/*
 * Moves the first component of w->rest to name. Returns false if there is none,
 * or if it is longer than NAME_MAX.
 */
static bool
take_component(struct walk *w, char name[NAME_MAX + 1])
{
	const char *from = w->rest + strspn(w->rest, "/");
	size_t n = strcspn(from, "/");

	if (n == 0 || n > NAME_MAX)
		return false;
	memcpy(name, from, n);
	name[n] = '\0';
	memmove(w->rest, from + n, strlen(from + n) + 1);
	return true;
}

/*
 * Puts the symlink's target before w->rest. Returns NULL, or why the symlink
 * cannot be followed.
 */
static const char *
follow_symlink(struct walk *w, int link)
{
	char target[PATH_MAX], rest[PATH_MAX];
	ssize_t n = readlinkat(link, "", target, sizeof(target) - 1);

	if (n == -1)
		return strerror(errno);
	target[n] = '\0';
	if (++w->links > LINKS_MOST)
		return "the path has too many symlinks";
	if (snprintf(rest, sizeof(rest), "%s/%s", target, w->rest) >=
	    (int)sizeof(rest))
		return "the path is too long";
	strlcpy(w->rest, rest, sizeof(w->rest));
	if (target[0] != '/')
		return NULL;
	close(w->at);
	w->at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	w->done[0] = '\0';
	return NULL;
}

/*
 * Enters next, the directory that is `name` in w->at. Returns NULL, or that the
 * path is too long.
 */
static const char *
enter_directory(struct walk *w, const char *name, int next)
{
	close(w->at);
	w->at = next;
	if (strcmp(name, "..") == 0) {
		char *slash = strrchr(w->done, '/');

		if (slash != NULL)
			*slash = '\0';
		return NULL;
	}
	if (strlcat(w->done, "/", PATH_MAX) >= PATH_MAX ||
	    strlcat(w->done, name, PATH_MAX) >= PATH_MAX)
		return "the path is too long";
	return NULL;
}

/* Walks one component. Returns NULL, or why the path cannot be resolved. */
static const char *
walk_component(struct walk *w, const char *name)
{
	const char *reason;
	struct stat st;
	int next;

	if (!is_only_roots(w->at))
		return "a directory in the path is writable by others than "
		       "root";
	next = openat(w->at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (next == -1 || fstat(next, &st) == -1)
		return strerror(errno);
	if (S_ISDIR(st.st_mode))
		return enter_directory(w, name, next);
	reason =
	    S_ISLNK(st.st_mode) ? follow_symlink(w, next) : strerror(ENOTDIR);
	close(next);
	return reason;
}

const char *
resolve_directory(const char *path, char *resolved)
{
	struct walk w = { .at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC) };
	char name[NAME_MAX + 1];
	const char *last = strrchr(path, '/'), *reason = NULL;

	snprintf(w.rest, sizeof(w.rest), "%.*s", (int)(last - path), path);
	while (reason == NULL && take_component(&w, name))
		if (strcmp(name, ".") != 0)
			reason = walk_component(&w, name);
	if (w.at != -1)
		close(w.at);
	if (reason == NULL && w.rest[strspn(w.rest, "/")] != '\0')
		reason = strerror(ENAMETOOLONG);
	if (reason == NULL &&
	    snprintf(resolved, PATH_MAX, "%s%s", w.done, last) >= PATH_MAX)
		reason = "the path is too long";
	return reason;
}
