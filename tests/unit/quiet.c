/* A log.h that says nothing: thousands of simulated crashes need not stand in the machine's syslog. */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>

#include "log.h"

void
log_event(int priority, const char *event, const char *format, ...)
{
	(void)priority, (void)event, (void)format;
}

void
log_forbidden(int call)
{
	(void)call;
}

bool
log_due(struct log_limit *limit, unsigned *more)
{
	(void)limit, (void)more;
	return false;
}

void
fatal(const char *format, ...)
{
	fprintf(stderr, "fatal: %s\n", format);
	abort();
}
