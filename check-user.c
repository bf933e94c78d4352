/*
 * Checks whether a user may log in, and by which rule.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include "check.h"

void
check_user(struct check *c)
{
	(void)c;
}
