/*
 * Checks how inetd, xinetd or systemd starts kpopd.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include "check.h"

void
check_service(struct check *c)
{
	(void)c;
}
