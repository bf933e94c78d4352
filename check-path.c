/*
 * Quotes paths for the remedies of kpopd --check, and checks the directories
 * that lead to a file.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include <sys/stat.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check-path.h"
#include "path.h"

#define PLAIN                                                                  \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"       \
	"/._-+:@%,="

/* Appends the byte as it stands between $' and '. */
static void
append_byte(char *to, size_t room, unsigned char byte)
{
	size_t at = strlen(to);

	if (byte >= ' ' && byte <= '~' && byte != '\'' && byte != '\\')
		snprintf(to + at, room - at, "%c", byte);
	else
		snprintf(to + at, room - at, "\\%03o", byte);
}

const char *
check_quote(struct check_word *w, const char *text)
{
	/* Each byte of the longest word could be an escape. */
	char quoted[4 * CHECK_WORD + 8];
	bool is_plain = *text != '\0' && text[strspn(text, PLAIN)] == '\0';

	/* A path must not look like an option. */
	snprintf(quoted, sizeof(quoted), "%s%s", is_plain ? "" : "$'",
	    *text == '-' ? "./" : "");
	if (is_plain)
		strlcat(quoted, text, sizeof(quoted));
	else {
		for (const char *p = text; *p != '\0' && p < text + CHECK_WORD;
		     p++)
			append_byte(quoted, sizeof(quoted), (unsigned char)*p);
		strlcat(quoted, "'", sizeof(quoted));
	}
	if (strlcpy(w->text, quoted, sizeof(w->text)) >= sizeof(w->text))
		strlcpy(w->text, "PATH", sizeof(w->text));
	return w->text;
}

/* Warns if others than root can change a name in the directory. */
static void
check_parent(struct check *c, const char *directory, const struct stat *st)
{
	struct check_word w;

	check_quote(&w, directory);
	if (st->st_uid != 0)
		check_warn(c, "directory", directory,
		    check_remedy(c, "chown root:root %s", w.text),
		    "belongs to uid %u, who can replace what is in it",
		    (unsigned)st->st_uid);
	/* In a sticky directory, as /tmp, root's names are safe. */
	else if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0 &&
	    (st->st_mode & S_ISVTX) == 0)
		check_warn(c, "directory", directory,
		    check_remedy(c, "chmod go-w %s", w.text),
		    "has mode %04o, so others than root can replace what is "
		    "in it",
		    (unsigned)(st->st_mode & 07777));
}

/* Does what check_parents does, for the directories that the path names. */
static bool
check_named_parents(struct check *c, const char *path)
{
	char directory[PATH_MAX];
	struct stat st;

	for (const char *slash = path; (slash = strchr(slash, '/')) != NULL;
	     slash++) {
		/* The directory of "/name" is "/". */
		size_t n = slash == path ? 1 : (size_t)(slash - path);

		snprintf(directory, sizeof(directory), "%.*s", (int)n, path);
		if (stat(directory, &st) == -1)
			return false;
		if (S_ISDIR(st.st_mode) && slash[1] != '/' && slash[1] != '\0')
			check_parent(c, directory, &st);
	}
	return true;
}

bool
check_parents(struct check *c, const char *path)
{
	char directory[PATH_MAX], real[PATH_MAX];

	path_split(path, directory);
	if (realpath(directory, real) == NULL)
		return false;
	/* If symlinks lead there, their own directories count, too. */
	if (strcmp(real, directory) != 0 && !check_named_parents(c, path))
		return false;
	strlcat(real, "/.", sizeof(real));
	return check_named_parents(c, real);
}
