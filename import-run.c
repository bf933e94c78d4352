/*
 * Starts and watches an import of ids, and prints its report: kpopd
 * --import-uidl and --uidl-report.
 *
 * Runs as root. It looks the user up and opens the state directory. Only a
 * child that has become the user (import.c) reads the list and the mailbox.
 */
#include "config.h"

#include <stdio.h>
#include <fcntl.h>
#include <unistd.h>

#include "account.h"
#include "by-hand.h"
#include "import.h"
#include "import-run.h"
#include "log.h"
#include "session-setup.h"
#include "state.h"

/* The import must have the session lock this long after it has the list. */
#define ENTER_MS 30000
/*
 * A Maildir of a million messages on a slow disk takes hours. A person waits,
 * and can end the import at any time.
 */
#define IMPORT_MS 86400000

/* Prints a line about the user's import. */
static void
print_import(const struct session *s, const struct session_message *m)
{
	struct log_text name;

	fflush(stdout);
	fprintf(m->kind == MESSAGE_MISTAKE ? stderr : stdout, "%s: %s\n",
	    log_safe(&name, s->user.name), m->text);
	fflush(stdout);
}

/* Prints why the import cannot begin. Returns the exit status. */
static int
refuse_import(const char *user, const char *why)
{
	struct log_text name;

	fprintf(stderr, "%s: %s\n", log_safe(&name, user), why);
	return IMPORT_FAILED;
}

/* What a fatal error does before the process ends. */
static void
print_failure(void)
{
	fprintf(stderr, "the import has failed, see syslog\n");
}

int
import_run(const struct options *o)
{
	const bool is_report = o->uidl_report != NULL;
	const char *user = is_report ? o->uidl_report : o->import_uidl;
	const struct by_hand work = { .role = ROLE_IMPORT,
		.run = import_by_hand,
		.has_list = true,
		.enter_ms = ENTER_MS,
		.work_ms = IMPORT_MS,
		.print = print_import };
	struct mailboxes boxes = o->mailboxes;
	const char *refusal;
	struct session s;
	int result;

	/* The child changes only the state, and makes no mailbox. */
	boxes.read_only = true;
	log_before_end(print_failure);
	setup_begin(&s, o);
	if (isatty(0))
		return refuse_import(user, "the list must be standard input");
	if ((refusal = account_find(user, &o->uids, &s.user)) != NULL)
		return refuse_import(user, refusal);
	s.mailboxes = &boxes;
	s.path = mailboxes_path(&boxes, s.user.name, s.user.home);
	if (s.path == NULL)
		return refuse_import(user, MAILBOXES_NO_PATH);
	state_require(o->state);
	s.directory = state_open(o->state, &s.user, o->mailboxes.text);
	if (s.directory == -1 || (s.list = fcntl(0, F_DUPFD_CLOEXEC, 3)) == -1)
		return refuse_import(user, "failed, see syslog");
	result = by_hand_run(&s, &work);
	if (result == -1 || result == IMPORT_FAILED)
		return refuse_import(user, "failed, see syslog");
	return result;
}
