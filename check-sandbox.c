/*
 * Checks whether the kernel offers the parts of the sandbox.
 *
 * Runs as root in kpopd-check. It knows only what is permitted where --check
 * runs: a filter of the unit (SystemCallFilter=) applies to the service alone.
 */
#include "config.h"

#include "check.h"
#include "sandbox.h"

void
check_sandbox(struct check *c)
{
	char found[SANDBOX_TEXT], remedy[SANDBOX_TEXT];

	if (sandbox_find_missing(found, remedy) == 0)
		check_ok(c, "sandbox", NULL,
		    "seccomp and Landlock are offered here");
	else if (c->o.sandbox.is_optional)
		check_warn(c, "sandbox", NULL, remedy,
		    "%s; kpopd serves without (-S optional)", found);
	else
		check_fail(c, "sandbox", NULL,
		    check_remedy(c,
			"%s. Or serve without: write sandbox optional into "
			"kpopd.conf",
			remedy),
		    "%s", found);
}
