/*
 * Checks journals and other files that an interrupted removal has left.
 *
 * Runs as root in kpopd-check, which lists the uids and opens nothing below
 * STATE/users/UID. For each uid a child becomes that user, because the user may
 * have replaced any file there.
 */
#include "config.h"

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "check-quote.h"
#include "lock-session.h"
#include "mbox-journal-names.h"
#include "state.h"

#define RESCUE "rescue."
#define ENTRIES_MOST 10000 /* names that are examined for a uid */
#define LINES_MOST 10      /* lines about a uid, because a user may fill it */

/* The uid that is examined. */
static struct {
	struct check *c;
	uid_t uid;
	int directory;  /* STATE/users/UID, open; -1: none yet */
	unsigned lines; /* about this uid so far */
	char remedy[CHECK_COMMAND];
} left = { .directory = -1 };

/*
 * Reads the path of the mailbox whose state directory this is; kpopd has
 * written it there for administrators.
 */
static void
read_mailbox(int state, char path[PATH_MAX])
{
	int fd = openat(state, "mailbox",
	    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	ssize_t n = fd != -1 ? read(fd, path, PATH_MAX - 1) : -1;

	if (fd != -1)
		close(fd);
	path[n > 0 ? n : 0] = '\0';
	path[strcspn(path, "\n")] = '\0';
	if (path[0] == '\0')
		strlcpy(path, "an unknown mailbox", PATH_MAX);
}

/*
 * Stores the name of a journal in a state directory, if there is one. Returns
 * false if there certainly is none.
 */
static bool
may_have_journal(int state, char name[JOURNAL_NAME])
{
	int found =
	    journal_find(state, JOURNAL_DECIDED | JOURNAL_WRITTEN, name);

	if (found == -1)
		strlcpy(name, "j", JOURNAL_NAME);
	return found != 0;
}

/* Prints the journal in a state directory, if there is one. */
static void
report_journal(const char *state_name, int state)
{
	struct check *c = left.c;
	char path[PATH_MAX], mailbox[PATH_MAX], name[JOURNAL_NAME];
	bool is_held;

	if (!may_have_journal(state, name))
		return;
	is_held = lock_session_is_held(state);
	/* A session that ended just now has removed its journal before. */
	if (!is_held && !may_have_journal(state, name))
		return;
	left.lines++;
	read_mailbox(state, mailbox);
	snprintf(path, sizeof(path), "%s/users/%u/%s%s%s", c->o.state,
	    (unsigned)left.uid, state_name, *state_name != '\0' ? "/" : "",
	    name);
	if (is_held)
		check_ok(c, "journal", path,
		    "a session is removing messages from %s", mailbox);
	else
		check_warn(c, "journal", path, left.remedy,
		    "a removal from %s was interrupted and is not finished",
		    mailbox);
}

/* Prints the journals of a state directory that were set aside. */
static void
report_rescues(const char *state_name, int state)
{
	struct check *c = left.c;
	int copy = openat(state, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *all = copy != -1 ? fdopendir(copy) : NULL;
	char path[PATH_MAX], mailbox[PATH_MAX], name[NAME_MAX + 1] = "";
	const struct dirent *entry;
	struct check_word w;
	int count = 0;

	for (int i = 0; all != NULL && i < ENTRIES_MOST; i++) {
		if ((entry = readdir(all)) == NULL)
			break;
		if (strncmp(entry->d_name, RESCUE, strlen(RESCUE)) == 0 &&
		    count++ == 0)
			strlcpy(name, entry->d_name, sizeof(name));
	}
	if (all != NULL)
		closedir(all);
	if (count == 0)
		return;
	left.lines++;
	read_mailbox(state, mailbox);
	snprintf(path, sizeof(path), "%s/users/%u/%s/%s", c->o.state,
	    (unsigned)left.uid, state_name, name);
	check_warn(c, "rescue", path,
	    check_remedy(c,
		"tail -c +4097 %s | less prints the messages that it has; then "
		"see RECOVERY in kpopd(8)",
		check_quote(&w, path)),
	    "%d journals that did not fit %s were set aside", count, mailbox);
}

/* Prints what is left in the state directory of this name. */
static void
report_state(const char *name)
{
	int state = openat(left.directory, name,
	    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (state == -1)
		return;
	report_journal(name, state);
	report_rescues(name, state);
	close(state);
}

/*
 * Child, as the user: prints what is left in STATE/users/UID. An earlier
 * version has left journals in this directory itself.
 */
static void
look_for_leftovers(struct check *c)
{
	DIR *all = fdopendir(left.directory);
	const struct dirent *entry;

	char path[PATH_MAX];

	if (all == NULL)
		return;
	rewinddir(all);
	report_journal("", left.directory);
	for (int i = 0; i < ENTRIES_MOST && left.lines < LINES_MOST; i++) {
		if ((entry = readdir(all)) == NULL)
			return;
		if (entry->d_name[0] != '.')
			report_state(entry->d_name);
	}
	snprintf(path, sizeof(path), "%s/users/%u", c->o.state,
	    (unsigned)left.uid);
	check_warn(c, "journal", path, NULL,
	    "there may be more; check again when these are finished");
}

/*
 * Called for each mailbox in the state directory: examines each uid once. Takes
 * the gid from the directory, because the account database may no longer have
 * this user.
 */
static void
check_uid(void *self, const struct state_mailbox *m)
{
	struct check *c = self;
	struct account user = { .uid = m->uid }, before = c->account;
	struct stat st;

	if (left.directory != -1 && left.uid == m->uid)
		return;
	if (left.directory != -1)
		close(left.directory);
	left.uid = m->uid;
	left.directory = fcntl(m->directory, F_DUPFD_CLOEXEC, 3);
	if (left.directory == -1 || fstat(left.directory, &st) == -1)
		return;
	user.gid = st.st_gid;
	snprintf(user.name, sizeof(user.name), "uid %u", (unsigned)m->uid);
	c->account = user;
	check_as_user(c, look_for_leftovers);
	c->account = before;
}

/* Makes the remedy for a journal: kpopd --recover with the same options. */
static void
make_remedy(const struct check *c)
{
	struct check_word config, state;
	const char *f = c->o.config;

	snprintf(left.remedy, sizeof(left.remedy), "kpopd --recover%s%s%s%s",
	    f != NULL ? " -f " : "", f != NULL ? check_quote(&config, f) : "",
	    strcmp(c->o.state, STATE_DIRECTORY) != 0 ? " -d " : "",
	    strcmp(c->o.state, STATE_DIRECTORY) != 0 ?
		check_quote(&state, c->o.state) :
		"");
}

/* Prints the state of users who had a uid that another user has now. */
static void
report_former(struct check *c)
{
	char path[PATH_MAX];
	const struct dirent *entry;
	struct check_word w;
	DIR *all;

	snprintf(path, sizeof(path), "%s/users", c->o.state);
	if ((all = opendir(path)) == NULL)
		return;
	while ((entry = readdir(all)) != NULL) {
		if (strstr(entry->d_name, ".former.") == NULL ||
		    strstr(entry->d_name, ".mailboxes") != NULL)
			continue;
		snprintf(path, sizeof(path), "%s/users/%s", c->o.state,
		    entry->d_name);
		check_quote(&w, path);
		check_warn(c, "former", path,
		    check_remedy(c,
			"find %s -name 'j*' -o -name 'rescue.*' lists removals "
			"that are not finished; if there are none: rm -r %s*",
			w.text, w.text),
		    "the state of a user who had this uid before");
	}
	closedir(all);
}

void
check_leftover(struct check *c)
{
	if (c->state_is_dead)
		return;
	left.c = c;
	make_remedy(c);
	if (state_each(c->o.state, check_uid, c) == -1 && errno != ENOTDIR)
		check_fail(c, "journal", c->o.state, NULL,
		    "its journals cannot be listed: %s", strerror(errno));
	report_former(c);
	if (left.directory != -1)
		close(left.directory);
	left.directory = -1;
}
