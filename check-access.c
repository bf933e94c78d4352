/*
 * Checks the access file: its text, who may change it, and which of its lines
 * name a user.
 *
 * Runs as root in kpopd-check. A child looks the users of all lines up.
 */
#include "config.h"

#include <sys/stat.h>

#include <limits.h>
#include <string.h>

#include "access.h"
#include "account.h"
#include "check-access.h"
#include "check-config.h"
#include "check-quote.h"
#include "check.h"
#include "root-file.h"

#define SECONDS 15      /* for the account database */
#define UNKNOWN_MOST 20 /* lines without an account that are printed */

/* The access file, as it was when it was checked. */
static struct root_file file;

static void
count_line(void *self, const struct access_line *line)
{
	unsigned *count = self;

	(void)line;
	++*count;
}

/* What the calls of warn_of_stranger share. */
struct strangers {
	struct check *c;
	unsigned count; /* lines that were printed */
};

/* Prints a line of the file whose user is no account. */
static void
warn_of_stranger(void *self, const struct access_line *line)
{
	struct strangers *s = self;
	struct check_word w;
	struct account a;
	const char *refusal;

	if (strcmp(line->user, "*") == 0 || s->count == UNKNOWN_MOST ||
	    (refusal = account_find(line->user, NULL, &a)) == NULL)
		return;
	s->count++;
	check_warn(s->c, "access", access_path(s->c->o.access),
	    check_remedy(s->c, "getent passwd %s", check_quote(&w, line->user)),
	    "line %u has no effect; its user is not an account: %s",
	    line->number, refusal);
}

/* Child, because the account database may not answer. */
static void
check_line_users(struct check *c)
{
	struct strangers s = { .c = c };
	struct access_answer answer;

	access_each(&file, warn_of_stranger, &s, &answer);
}

void
check_access(struct check *c)
{
	const char *path = access_path(c->o.access);
	struct access_answer answer;
	char real[PATH_MAX];
	unsigned count = 0;
	struct stat st;

	access_load(&file, c->o.access);
	access_each(&file, count_line, &count, &answer);
	if (answer.right == ACCESS_MISTAKE && answer.line > 0)
		check_fail(c, "access", path,
		    check_mend_config(c, path, answer.line, "kpopd.access(5)"),
		    "no client may log in: line %u: %s", answer.line,
		    answer.why);
	else if (answer.right == ACCESS_MISTAKE)
		check_fail(c, "access", path,
		    check_mend_config(c, path, 0, "kpopd.access(5)"),
		    "no client may log in: %s", answer.why);
	else if (lstat(path, &st) == 0)
		check_ok(c, "access", path, "has no mistake; %u lines", count);
	else
		check_ok(c, "access", path,
		    "does not exist; the rules of Kerberos are in force");
	check_path(c, "access", path, real);
	if (!c->accounts_are_dead &&
	    !check_in_child(c, SECONDS, check_line_users))
		check_warn(c, "access", path, NULL,
		    "the account database did not answer within %d s", SECONDS);
}

/* Prints a line that names the user of the command line. */
static void
print_rule(void *self, const struct access_line *line)
{
	struct check *c = self;
	const char *account = c->account.name;

	if (strcmp(line->user, account) == 0 || strcmp(line->user, "*") == 0)
		check_ok(c, "access", line->principal,
		    "line %u: it may %slog in as %s%s%s", line->number,
		    line->right == ACCESS_DENIED ? "not " : "", account,
		    line->right == ACCESS_READ ? ", and remove nothing" : "",
		    line->has_conditions ? ", under conditions" : "");
}

void
check_access_user(struct check *c)
{
	struct access_answer answer;

	access_each(&file, print_rule, c, &answer);
}

void
check_access_of(const struct check *c, const char *principal,
    struct access_answer *answer)
{
	const struct access_login login = { .principal = principal,
		.user = c->account.name,
		.is_supposed = true };

	access_find(&file, &login, answer);
}
