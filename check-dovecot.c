/*
 * Checks whether Dovecot can serve the same mailboxes beside kpopd: its locks,
 * their order, and its INBOX.
 *
 * Runs as root in kpopd-check. doveconf prints the configuration. Dovecot 2.3
 * has one setting for the place of mail, mail_location. 2.4 has one for each
 * part of it, and shows the locks only in the block of the format:
 *
 *	mbox {
 *	  write_locks = dotlock fcntl
 *	}
 */
#include "config.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "check-compare.h"
#include "check-dovecot.h"
#include "check.h"
#include "path.h"

/* The user that is shown if none is on the command line. */
#define SOME_USER "user"
#define SOME_HOME "/home/user"

/* Dovecot's configuration, as far as it matters here. */
struct dovecot {
	char driver[32]; /* the format; "": Dovecot looks for mailboxes */
	char inbox[512]; /* with variables; "": unknown */
	char read[256], write[256]; /* locks of an mbox, in their order */
	const char *setting;        /* the name of the one for the place */
};

/* What doveconf prints. */
static char output[PROGRAM_OUTPUT];

/* Reads mail_location of Dovecot 2.3: FORMAT:PATH[:KEY=VALUE]... */
static void
read_location(struct dovecot *d, const char *value)
{
	static const char key[] = ":INBOX=";
	size_t n = strcspn(value, ":");
	const char *inbox;

	if (value[n] == '\0')
		return;
	snprintf(d->driver, sizeof(d->driver), "%.*s", (int)n, value);
	value += n + 1;
	if ((inbox = strstr(value, key)) != NULL) {
		inbox += sizeof(key) - 1;
		snprintf(d->inbox, sizeof(d->inbox), "%.*s",
		    (int)strcspn(inbox, ":"), inbox);
		return;
	}
	snprintf(d->inbox, sizeof(d->inbox), "%.*s%s", (int)strcspn(value, ":"),
	    value, strcmp(d->driver, "mbox") == 0 ? "/inbox" : "");
}

/* Reads the settings of Dovecot 2.4 for the place of mail. */
static void
read_parts(struct dovecot *d)
{
	bool is_mbox = strcmp(d->driver, "mbox") == 0;
	char path[256], inbox[256];

	compare_find_setting(output, "mail_path", path);
	compare_find_setting(output, "mail_inbox_path", inbox);
	if (*inbox == '/' || *inbox == '~' || *inbox == '%')
		strlcpy(d->inbox, inbox, sizeof(d->inbox));
	else if (*path != '\0')
		snprintf(d->inbox, sizeof(d->inbox), "%s%s", path,
		    is_mbox ? "/inbox" : "");
	else if (strcmp(d->driver, "maildir") == 0)
		strlcpy(d->inbox, "%{home}/Maildir", sizeof(d->inbox));
	else if (is_mbox)
		strlcpy(d->inbox, "%{home}/mail/inbox", sizeof(d->inbox));
}

/* Asks Dovecot for its configuration. Returns false if there is none. */
static bool
read_dovecot(struct check *c, struct dovecot *d)
{
	static const char *const argv[] = { "doveconf", "mail_location",
		"mail_driver", "mail_path", "mail_inbox_path",
		"mbox_read_locks", "mbox_write_locks", "mbox", NULL };
	char value[256];

	*d = (struct dovecot){ .setting = "mail_location" };
	if (!compare_ask(c, argv, output))
		return false;
	if (strstr(output, "mail_driver =") != NULL) {
		d->setting = "mail_driver, mail_path and mail_inbox_path";
		strlcpy(d->driver,
		    compare_find_setting(output, "mail_driver", value),
		    sizeof(d->driver));
		read_parts(d);
		compare_find_setting(output, "  read_locks", d->read);
		compare_find_setting(output, "  write_locks", d->write);
	} else {
		read_location(d,
		    compare_find_setting(output, "mail_location", value));
		compare_find_setting(output, "mbox_read_locks", d->read);
		compare_find_setting(output, "mbox_write_locks", d->write);
	}
	return true;
}

/* Returns true if Dovecot serves IMAP or POP3, and so shows an INBOX. */
static bool
has_readers(void)
{
	static const char *const argv[] = { "doveconf", "protocols", NULL };

	return program_run(argv, output) == NULL &&
	    (strstr(output, "imap") != NULL || strstr(output, "pop3") != NULL);
}

/* The variables of Dovecot that can be replaced here. */
static const struct variable {
	const char *name;
	bool is_home;
} variables[] = {
	{ "%u", false },
	{ "%n", false },
	{ "%{user}", false },
	{ "%{user|username}", false },
	{ "%{user | username}", false },
	{ "%{username}", false },
	{ "%h", true },
	{ "%{home}", true },
};

/*
 * Replaces the variables of a path of Dovecot's. Returns false if it has others
 * or is too long.
 */
static bool
expand_variables(const char *text, const char *user, const char *home,
    char path[PATH_MAX])
{
	size_t had = 0, i, n;

	if (*text == '~') {
		had = strlcpy(path, home, PATH_MAX);
		text++;
	}
	while (*text != '\0' && had < PATH_MAX) {
		if (*text != '%') {
			path[had++] = *text++;
			continue;
		}
		for (i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
			if (strncmp(text, variables[i].name,
				n = strlen(variables[i].name)) == 0)
				break;
		if (i == sizeof(variables) / sizeof(variables[0]))
			return false;
		path[had] = '\0';
		had =
		    strlcat(path, variables[i].is_home ? home : user, PATH_MAX);
		text += n;
	}
	if (had >= PATH_MAX)
		return false;
	while (had > 1 && path[had - 1] == '/')
		had--;
	path[had] = '\0';
	return true;
}

/*
 * Returns true if both paths lead to one file. Below a home directory only the
 * spelling counts, because root must not follow a user's symlinks.
 */
static bool
is_same_place(struct check *c, const char *theirs, const char *ours)
{
	char directory[PATH_MAX];

	if (strcmp(theirs, ours) == 0)
		return true;
	if (c->spool_is_dead || !mailboxes_are_outside_home(&c->o.mailboxes) ||
	    strrchr(theirs, '/') == NULL ||
	    strcmp(strrchr(theirs, '/'), strrchr(ours, '/')) != 0)
		return false;
	path_split(ours, directory);
	return compare_is_in_directory(theirs, directory);
}

/* Compares Dovecot's INBOX with kpopd's mailbox. */
static void
check_inbox(struct check *c, const struct dovecot *d)
{
	const struct mailboxes *m = &c->o.mailboxes;
	bool is_known = c->account.name[0] != '\0';
	const char *user = is_known ? c->account.name : SOME_USER;
	const char *home = is_known ? c->account.home : SOME_HOME;
	const char *path = mailboxes_path(m, user, home);
	char theirs[PATH_MAX];

	if (path == NULL || *d->driver == '\0' || *d->inbox == '\0' ||
	    !expand_variables(d->inbox, user, home, theirs))
		return;
	if (strcmp(d->driver, m->format) == 0 && is_same_place(c, theirs, path))
		check_ok(c, "locks", "dovecot",
		    "its INBOX is kpopd's mailbox, %s", d->inbox);
	else
		check_warn(c, "locks", "dovecot",
		    check_remedy(c,
			"let %s of Dovecot and -m name the same mailbox",
			d->setting),
		    "its INBOX is %s:%s, and kpopd serves %s: users do not "
		    "find the same mail by both",
		    d->driver, d->inbox, m->text);
}

/* Returns true if the first lock that a text names is a dotlock. */
static bool
is_dotlock_first(const char *names)
{
	char first[32];

	names += strspn(names, " \t");
	snprintf(first, sizeof(first), "%.*s", (int)strcspn(names, " ,\t"),
	    names);
	return compare_read(first) == compare_read("dotlock");
}

/*
 * Compares the order of the locks with procmail's. Both programs wait for their
 * second lock while they hold the first one. If the orders differ, each can
 * wait for the other, until Dovecot removes procmail's dotlock.
 */
static void
check_order(struct check *c, const char *dovecot, const char *procmail)
{
	unsigned both = compare_read("fcntl,dotlock");

	if ((compare_read(dovecot) & both) != both ||
	    (compare_read(procmail) & both) != both)
		return;
	if (is_dotlock_first(dovecot) == is_dotlock_first(procmail))
		check_ok(c, "locks", "dovecot",
		    "it takes its locks in procmail's order: %s", dovecot);
	else
		check_warn(c, "locks", "dovecot",
		    check_remedy(c,
			"set mbox_write_locks = %s in Dovecot's configuration",
			is_dotlock_first(procmail) ? "dotlock fcntl" :
						     "fcntl dotlock"),
		    "it takes the locks %s in this order, and procmail in the "
		    "other: each can wait for the other for two minutes, in "
		    "which no program can read or deliver mail",
		    dovecot);
}

void
dovecot_check(struct check *c, unsigned ours, const char *procmail)
{
	struct dovecot d;

	if (!read_dovecot(c, &d))
		return;
	if (has_readers())
		check_inbox(c, &d);
	if (!mailboxes_are_locked(&c->o.mailboxes) ||
	    (*d.driver != '\0' && strcmp(d.driver, "mbox") != 0))
		return;
	compare_locks(c, "dovecot", "reads with", compare_read(d.read), ours);
	compare_locks(c, "dovecot", "writes with", compare_read(d.write), ours);
	check_order(c, d.write, procmail);
}
