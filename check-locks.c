/*
 * Checks the locks of a mailbox against those of other mail programs.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include "check.h"

void
check_locks(struct check *c)
{
	(void)c;
}
