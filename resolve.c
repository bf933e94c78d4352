/*
 * Replaces the symlinks that lead to the mailbox's directory: /var/spool/mail is one to ../mail on Debian.
 *
 * Runs as root, which follows a symlink only out of a directory that is root's
 * and that neither group nor others may write; otherwise they could lead root,
 * and the broker with the spool's group, into another directory. The last
 * directory, the spool's own, may be anybody's: no name is looked up in it.
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

#define LINKS 16 /* at most; more are a loop */

/* A walk from the root. */
struct walk {
	int at;              /* the directory that it has reached */
	char done[PATH_MAX]; /* its path, without a slash at the end; "" is the root */
	char rest[PATH_MAX]; /* what is still to be walked */
	int links;           /* followed so far */
};

/* Returns true if names in this directory are root's alone to change. */
static bool
is_roots(int directory)
{
	struct stat st;

	return fstat(directory, &st) == 0 && st.st_uid == 0 && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* Takes the first component of w->rest into name. Returns false if there is none. */
static bool
next_name(struct walk *w, char name[NAME_MAX + 1])
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

/* Puts the symlink's target in front of w->rest. Returns NULL, or why it cannot be followed. */
static const char *
follow(struct walk *w, int link)
{
	char target[PATH_MAX], rest[PATH_MAX];
	ssize_t n = readlinkat(link, "", target, sizeof(target) - 1);

	if (n == -1)
		return strerror(errno);
	target[n] = '\0';
	if (++w->links > LINKS)
		return "too many symlinks lead there";
	if (snprintf(rest, sizeof(rest), "%s/%s", target, w->rest) >= (int)sizeof(rest))
		return "the path is too long";
	strlcpy(w->rest, rest, sizeof(w->rest));
	if (target[0] != '/')
		return NULL;
	close(w->at);
	w->at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	w->done[0] = '\0';
	return NULL;
}

/* Goes into the directory that is open as next. Returns NULL, or why it cannot. */
static const char *
enter(struct walk *w, const char *name, int next)
{
	close(w->at);
	w->at = next;
	if (strcmp(name, "..") == 0) {
		char *slash = strrchr(w->done, '/');

		if (slash != NULL)
			*slash = '\0';
		return NULL;
	}
	if (strlcat(w->done, "/", PATH_MAX) >= PATH_MAX || strlcat(w->done, name, PATH_MAX) >= PATH_MAX)
		return "the path is too long";
	return NULL;
}

/* Walks one component. Returns NULL, or why it cannot. */
static const char *
step(struct walk *w, const char *name)
{
	const char *reason;
	struct stat st;
	int next;

	if (!is_roots(w->at))
		return "others than root can write a directory on the way";
	next = openat(w->at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (next == -1 || fstat(next, &st) == -1)
		return strerror(errno);
	if (S_ISDIR(st.st_mode))
		return enter(w, name, next);
	reason = S_ISLNK(st.st_mode) ? follow(w, next) : strerror(ENOTDIR);
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
	while (reason == NULL && next_name(&w, name))
		if (strcmp(name, ".") != 0)
			reason = step(&w, name);
	if (w.at != -1)
		close(w.at);
	if (reason == NULL && w.rest[strspn(w.rest, "/")] != '\0')
		reason = strerror(ENAMETOOLONG);
	if (reason == NULL && snprintf(resolved, PATH_MAX, "%s%s", w.done, last) >= PATH_MAX)
		reason = "the path is too long";
	return reason;
}
