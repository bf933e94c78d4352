/*
 * Compares the locks of other mail programs with kpopd's, and asks these
 * programs for their settings.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include <sys/stat.h>

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "check-compare.h"
#include "check-program.h"
#include "check.h"
#include "lock.h"

#define SEPARATORS " ,\t\r\n"

/* The words by which programs name their locks. */
static const struct lock_word {
	const char *word;
	enum lock_kind kind;
} lock_words[] = {
	{ "fcntl", LOCK_FCNTL }, { "flock", LOCK_FLOCK },
	{ "dotlock", LOCK_DOTLOCK }, /* Postfix, Dovecot */
	{ "lockf", LOCK_FCNTL }, { "dotlock_try", LOCK_DOTLOCK }, /* Dovecot */
	{ "fcntl()", LOCK_FCNTL }, { "lockf()", LOCK_FCNTL },
	{ "flock()", LOCK_FLOCK },
	{ "dotlocking", LOCK_DOTLOCK }, /* procmail */
	{ "use_fcntl_lock", LOCK_FCNTL }, { "use_flock_lock", LOCK_FLOCK },
	{ "use_lockfile", LOCK_DOTLOCK }, /* Exim */
	{ "+USE_FCNTL", LOCK_FCNTL }, { "+USE_FLOCK", LOCK_FLOCK },
	{ "+USE_DOTLOCK", LOCK_DOTLOCK }, /* mutt */
};

unsigned
compare_bit(enum lock_kind kind)
{
	return 1U << kind;
}

unsigned
compare_read(const char *text)
{
	unsigned set = 0;

	for (; *text != '\0'; text += strcspn(text, SEPARATORS)) {
		size_t n;

		text += strspn(text, SEPARATORS);
		n = strcspn(text, SEPARATORS);
		for (size_t i = 0;
		     i < sizeof(lock_words) / sizeof(lock_words[0]); i++)
			if (strlen(lock_words[i].word) == n &&
			    strncmp(lock_words[i].word, text, n) == 0)
				set |= compare_bit(lock_words[i].kind);
	}
	return set;
}

/* Writes the names of a set of locks: "fcntl,dotlock". Returns text. */
static const char *
name_locks(unsigned set, char text[32])
{
	static const char *const names[LOCK_KINDS] = { "fcntl", "flock",
		"dotlock" };

	*text = '\0';
	for (int i = 0; i < LOCK_KINDS; i++) {
		if ((set & compare_bit((enum lock_kind)i)) == 0)
			continue;
		if (*text != '\0')
			strlcat(text, ",", 32);
		strlcat(text, names[i], 32);
	}
	return *text != '\0' ? text : "no lock";
}

unsigned
compare_wanted(const struct check *c)
{
	unsigned set = 0;

	for (int i = 0; i < c->o.locks.count; i++)
		set |= compare_bit(c->o.locks.kinds[i]);
	return set;
}

const char *
compare_advise(struct check *c, unsigned set)
{
	char text[32];

	return check_remedy(c,
	    "let kpopd take the locks %s, by -l or by locks in %s",
	    name_locks(set, text),
	    c->o.config != NULL ? c->o.config : CONFIG_FILE);
}

void
compare_locks(struct check *c, const char *program, const char *activity,
    unsigned theirs, unsigned ours)
{
	unsigned all = compare_wanted(c) | theirs;
	char here[32], there[32];

	name_locks(theirs, there);
	if ((theirs & ours) == 0)
		check_fail(c, "locks", program,
		    theirs == 0 || all == compare_wanted(c) ?
			NULL :
			compare_advise(c, all),
		    "it %s %s, and kpopd takes %s: neither waits for the "
		    "other, so mail can be lost",
		    activity, theirs != 0 ? there : "no lock",
		    name_locks(ours, here));
	else if ((theirs & ~compare_wanted(c)) != 0)
		check_warn(c, "locks", program, compare_advise(c, all),
		    "it %s %s, and kpopd takes only %s", activity, there,
		    name_locks(ours, here));
	else
		check_ok(c, "locks", program, "it %s %s, as kpopd does",
		    activity, there);
}

bool
compare_ask(struct check *c, const char *const argv[],
    char text[PROGRAM_OUTPUT])
{
	const char *problem;
	char path[PATH_MAX];

	if (!program_find(argv[0], path))
		return false;
	if ((problem = program_run(argv, text)) == NULL)
		return true;
	check_warn(c, "locks", argv[0],
	    check_remedy(c, "%s %s", argv[0], argv[1]),
	    "its locks are unknown: %s", problem);
	return false;
}

const char *
compare_find_setting(const char *text, const char *name, char value[256])
{
	size_t n = strlen(name);

	*value = '\0';
	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, n) != 0 ||
		    strncmp(line + n, " =", 2) != 0)
			continue;
		line += n + 2;
		line += strspn(line, " ");
		snprintf(value, 256, "%.*s", (int)strcspn(line, "\n"), line);
		break;
	}
	return value;
}

bool
compare_is_in_directory(const char *path, const char *directory)
{
	char prefix[PATH_MAX];
	struct stat a, b;

	snprintf(prefix, sizeof(prefix), "%.*s", (int)strcspn(path, "$"), path);
	if (*prefix != '/')
		return false;
	*(strrchr(prefix, '/') + 1) = '\0';
	return stat(prefix, &a) == 0 && stat(directory, &b) == 0 &&
	    a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}
