/*
 * Replaces log.c by functions that write nothing.
 *
 * Runs in unit tests. With log.c, thousands of simulated crashes would each
 * write a line to the machine's syslog.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

void
log_closed(void)
{
}

void
log_event(int priority, const char *event, const char *format, ...)
{
	(void)priority, (void)event, (void)format;
}

void
log_failed(const char *format, ...)
{
	(void)format;
}

void
log_failed_at(int priority, const char *why, const char *format, ...)
{
	(void)priority, (void)why, (void)format;
}

void
log_mailbox(const char *path)
{
	(void)path;
}

const char *
log_safe(struct log_text *t, const char *text)
{
	strlcpy(t->text, text, sizeof(t->text));
	return t->text;
}

const char *
log_words(struct log_text *t, const char *text)
{
	return log_safe(t, text);
}

void
log_forbidden(int call, const char *name)
{
	(void)call, (void)name;
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
