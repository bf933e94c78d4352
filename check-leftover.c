/*
 * Checks journals and other files that an interrupted removal has left.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include "check.h"

void
check_leftover(struct check *c)
{
	(void)c;
}
