/*
 * Checks the file of options, and the accounts that kpopd becomes.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include <sys/stat.h>

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

#include "account.h"
#include "check-config.h"
#include "check-quote.h"
#include "check.h"

#define SECONDS 15 /* for the account database */
#define NOBODY 65534
/* The uids among which useradd --system chooses. */
#define SYSTEM_LEAST 100
#define SYSTEM_MOST 999

/* Reports the file that is in force. */
static void
check_options_file(struct check *c, const char *path)
{
	char real[PATH_MAX];
	struct stat st;

	if (lstat(path, &st) == 0)
		check_ok(c, "options", path, "has no mistake");
	else
		check_ok(c, "options", path,
		    "does not exist; the command line and the defaults are in "
		    "force");
	check_path(c, "options", path, real);
}

/*
 * Returns the name of another account with this uid, or NULL. The database
 * gives only one name for a uid, so the local accounts are looked through, too.
 */
static const char *
find_other_account(const struct account *a)
{
	static char name[ACCOUNT_NAME];
	FILE *file = fopen("/etc/passwd", "re");
	const struct passwd *pw = getpwuid(a->uid);

	while ((pw == NULL || pw->pw_uid != a->uid ||
		   strcmp(pw->pw_name, a->name) == 0) &&
	    file != NULL && (pw = fgetpwent(file)) != NULL)
		;
	if (pw != NULL)
		strlcpy(name, pw->pw_name, sizeof(name));
	if (file != NULL)
		fclose(file);
	return pw != NULL && strcmp(name, a->name) != 0 ? name : NULL;
}

/* A process that becomes another user. */
struct role {
	char letter;       /* of the option that names the user */
	const char *usual; /* the user without this option */
	const char *process;
};

/* Makes the command that makes the account, if it does not exist. */
static const char *
make_account(struct check *c, const struct role *r, const char *user)
{
	struct check_word w;

	if (getpwnam(user) != NULL)
		return check_remedy(c, "give -%c %s", r->letter, user);
	return check_remedy(c,
	    "useradd --system --home-dir /nonexistent "
	    "--shell /usr/sbin/nologin %s",
	    check_quote(&w, user));
}

/*
 * Makes the command that gives the process a uid of its own. Only kpopd's usual
 * accounts are changed, because another may be a person's.
 */
static const char *
change_uid(struct check *c, const struct role *r, const char *user)
{
	uid_t uid = SYSTEM_MOST;

	if (strcmp(user, r->usual) != 0)
		return make_account(c, r, r->usual);
	while (uid > SYSTEM_LEAST &&
	    (getpwuid(uid) != NULL || getgrgid(uid) != NULL))
		uid--;
	return check_remedy(c, "usermod --uid %u %s", (unsigned)uid, user);
}

/* Reports an account that exists: it should be this process's alone. */
static void
check_account_uid(struct check *c, const struct role *r,
    const struct account *a)
{
	const char *other = find_other_account(a);
	unsigned uid = (unsigned)a->uid;

	if (other != NULL)
		check_warn(c, "account", a->name, change_uid(c, r, a->name),
		    "has the same uid %u as %s, whose processes can disturb "
		    "the %s",
		    uid, other, r->process);
	else if (a->uid == NOBODY)
		check_warn(c, "account", a->name, change_uid(c, r, a->name),
		    "has uid %u, which other programs use, too", uid);
	else if (a->uid >= c->o.least_user)
		check_warn(c, "account", a->name, change_uid(c, r, a->name),
		    "has uid %u; from %u on uids are those of people", uid,
		    (unsigned)c->o.least_user);
	else
		check_ok(c, "account", a->name, "uid %u, gid %u, for the %s",
		    uid, (unsigned)a->gid, r->process);
}

/* Checks the user that a process becomes. */
static void
check_account(struct check *c, const struct role *r, const char *user)
{
	struct account a;
	const char *refusal = account_find(user, NULL, &a);

	if (refusal == NULL)
		check_account_uid(c, r, &a);
	else
		check_fail(c, "account", user,
		    make_account(c, r,
			strcmp(refusal, "unknown user") == 0 ? user : r->usual),
		    "the %s cannot become this user: %s", r->process, refusal);
}

/* Child, because the account database may not answer. */
static void
check_accounts(struct check *c)
{
	static const struct role preauth = { 'u', "kpopd", "pre-auth process" };
	static const struct role tls = { 'U', "kpopd-tls",
		"process that does TLS" };
	const struct role *changed =
	    strcmp(c->o.user, preauth.usual) == 0 ? &tls : &preauth;

	check_account(c, &preauth, c->o.user);
	if (c->o.tls.when == TLS_NO)
		return;
	if (strcmp(c->o.user, c->o.tls.user) == 0)
		check_warn(c, "account", c->o.tls.user,
		    make_account(c, changed, changed->usual),
		    "is the user of -u and of -U; the %s and the %s could "
		    "disturb each other",
		    preauth.process, tls.process);
	else
		check_account(c, &tls, c->o.tls.user);
}

void
check_options(struct check *c)
{
	const char *why, *what, *from;
	unsigned line;

	if (options_find_mistake(&why, &what, &from, &line))
		check_fail(c, "options", from,
		    from != NULL ?
			check_mend_config(c, from, line, "kpopd.conf(5)") :
			"kpopd --help",
		    "%s%s", why, what);
	else
		check_options_file(c,
		    c->o.config != NULL ? c->o.config : CONFIG_FILE);
	c->accounts_are_dead = !check_in_child(c, SECONDS, check_accounts);
	if (c->accounts_are_dead)
		check_fail(c, "account", NULL, NULL,
		    "the account database did not answer within %d s", SECONDS);
}
