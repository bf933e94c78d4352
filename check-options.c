/*
 * Checks the file of options, and the accounts that kpopd becomes.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include <string.h>

#include "account.h"
#include "check.h"

/* Checks an account that a process of kpopd becomes. */
static void
check_account(struct check *c, const char *user, const char *process)
{
	struct account a;
	const char *refusal = account_find(user, NULL, &a);

	if (refusal == NULL)
		check_ok(c, "account", user, "uid %u, gid %u, for the %s",
		    (unsigned)a.uid, (unsigned)a.gid, process);
	else
		check_fail(c, "account", user,
		    check_remedy(c,
			"useradd --system --home-dir /nonexistent "
			"--shell /usr/sbin/nologin %s",
			user),
		    "the %s cannot become this user: %s", process, refusal);
}

void
check_options(struct check *c)
{
	const char *why, *what;

	if (options_find_mistake(&why, &what))
		check_fail(c, "options", NULL, NULL, "%s%s", why, what);
	else
		check_ok(c, "options", c->o.config, "no mistake");
	check_account(c, c->o.user, "pre-auth process");
	if (c->o.tls.when != TLS_NO)
		check_account(c, c->o.tls.user, "process that does TLS");
}
