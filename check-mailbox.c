/*
 * Checks the mailbox of a user.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include "check.h"

void
check_mailbox(struct check *c)
{
	(void)c;
}
