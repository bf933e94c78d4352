/*
 * Finds the component of a path that is in a user's way, and those that other
 * users can replace.
 *
 * Runs as the user in a child of kpopd-check. It only looks at names and opens
 * no file.
 */
#include "config.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check-mend.h"
#include "check-quote.h"
#include "check-way.h"

const char *
check_describe(struct check_text *t, const struct stat *st)
{
	const struct passwd *pw = getpwuid(st->st_uid);
	unsigned mode = (unsigned)st->st_mode & 07777;

	if (pw != NULL)
		snprintf(t->text, sizeof(t->text), "mode %04o, owner %s", mode,
		    pw->pw_name);
	else
		snprintf(t->text, sizeof(t->text), "mode %04o, owner uid %u",
		    mode, (unsigned)st->st_uid);
	return t->text;
}

/* Returns true if a group has the user's name, and no other member. */
static bool
is_private(const struct check *c, gid_t gid)
{
	const struct group *gr = getgrgid(gid);

	if (gr == NULL || gid != c->account.gid ||
	    strcmp(gr->gr_name, c->account.name) != 0)
		return false;
	for (char **member = gr->gr_mem; *member != NULL; member++)
		if (strcmp(*member, c->account.name) != 0)
			return false;
	return true;
}

bool
check_group_writes(const struct check *c, const struct stat *st)
{
	return (st->st_mode & S_IWGRP) != 0 && st->st_gid != 0 &&
	    !is_private(c, st->st_gid);
}

/*
 * Calls the function `each` for "/" and for each longer beginning of the path
 * that ends at a component, until the function returns true. Returns true if
 * the function has returned true. is_last is set for the whole path.
 */
static bool
walk_path(const char *path,
    bool (*each)(void *self, const char *begin, bool is_last), void *self)
{
	char begin[PATH_MAX];
	size_t n = 1;

	if (each(self, "/", false))
		return true;
	for (;;) {
		n += strspn(path + n, "/");
		n += strcspn(path + n, "/");
		if (n >= sizeof(begin))
			return false;
		memcpy(begin, path, n);
		begin[n] = '\0';
		if (each(self, begin, path[n + strspn(path + n, "/")] == '\0'))
			return true;
		if (path[n + strspn(path + n, "/")] == '\0')
			return false;
	}
}

/* The arguments of is_obstacle. */
struct search {
	struct check *c;
	struct check_obstacle *o;
};

/* Describes a directory that the user may not search. */
static void
describe_locked(struct check *c, const struct stat *st,
    struct check_obstacle *o)
{
	struct check_text t;
	const char *remedy = mend_mode(c, o->at, st,
	    st->st_uid == c->account.uid ? "u+rwx" : "o+x");

	snprintf(o->why, sizeof(o->why),
	    "%s (%s) may not be searched by this user", o->at,
	    check_describe(&t, st));
	strlcpy(o->remedy, remedy != NULL ? remedy : "", sizeof(o->remedy));
}

/* Describes a symlink that cannot be followed, with errno. */
static void
describe_link(struct check_obstacle *o)
{
	char target[PATH_MAX];
	ssize_t n;

	o->error = errno;
	n = readlink(o->at, target, sizeof(target) - 1);
	target[n > 0 ? n : 0] = '\0';
	snprintf(o->why, sizeof(o->why), "%s is a symlink to %s: %s", o->at,
	    target, strerror(o->error));
}

/*
 * Returns true if a directory of the path, which lstat(2) has found as *st, is
 * an obstacle. Follows a symlink.
 */
static bool
is_in_the_way(const struct search *s, struct stat *st)
{
	struct check_obstacle *o = s->o;

	if (S_ISLNK(st->st_mode) && stat(o->at, st) == -1) {
		describe_link(o);
		return true;
	}
	if (!S_ISDIR(st->st_mode)) {
		o->error = ENOTDIR;
		snprintf(o->why, sizeof(o->why), "%s is not a directory",
		    o->at);
		return true;
	}
	if (access(o->at, X_OK) == 0)
		return false;
	o->error = errno;
	describe_locked(s->c, st, o);
	return true;
}

/* Called for each component: returns true with *s->o filled if it is one. */
static bool
is_obstacle(void *self, const char *begin, bool is_last)
{
	struct search *s = self;
	struct check_obstacle *o = s->o;
	struct stat st;

	strlcpy(o->at, begin, sizeof(o->at));
	if (lstat(begin, &st) == 0)
		return !is_last && is_in_the_way(s, &st);
	o->error = errno;
	snprintf(o->why, sizeof(o->why), "%s: %s", begin, strerror(o->error));
	return true;
}

bool
check_find_obstacle(struct check *c, const char *path, struct check_obstacle *o)
{
	struct search s = { c, o };

	*o = (struct check_obstacle){ .error = 0 };
	return walk_path(path, is_obstacle, &s);
}

/* The arguments of report_directory. */
struct warning {
	struct check *c;
	const char *what;
};

/* Called for each component: prints a line if others can change it. */
static bool
report_directory(void *self, const char *begin, bool is_last)
{
	struct warning *w = self;
	const char *remedy;
	struct check_text t;
	struct stat st;
	bool others, group;

	if (is_last || stat(begin, &st) == -1)
		return true;
	others = (st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0;
	/* The group of a directory of root is root's choice, as mail is. */
	group = !others && st.st_uid == w->c->account.uid &&
	    (st.st_mode & S_ISVTX) == 0 && check_group_writes(w->c, &st);
	if (others || group)
		remedy = mend_mode(w->c, begin, &st, others ? "o-w" : "g-w");
	else
		remedy = mend_owner(w->c, begin, check_owner(w->c, begin));
	check_describe(&t, &st);
	if (others)
		check_fail(w->c, "directory", begin, remedy,
		    "every user can replace %s, because it has %s", w->what,
		    t.text);
	else if (group)
		check_fail(w->c, "directory", begin, remedy,
		    "members of the group %u can replace %s, because it has %s",
		    (unsigned)st.st_gid, w->what, t.text);
	else if (st.st_uid != 0 && st.st_uid != w->c->account.uid)
		check_warn(w->c, "directory", begin, remedy,
		    "its owner can replace %s: %s", w->what, t.text);
	return false;
}

void
check_directories(struct check *c, const char *path, const char *what)
{
	struct warning w = { c, what };

	walk_path(path, report_directory, &w);
}
