/* kpopd --import-uidl and --uidl-report: see import-run.c. */
#ifndef IMPORT_RUN_H
#define IMPORT_RUN_H

#include "options.h"

/*
 * Root: reads a list of another server's ids from descriptor 0. For
 * o->import_uidl gives these ids to the messages of this user's mailbox. For
 * o->uidl_report only prints what that would do for this user. Returns the exit
 * status: that of an enum import.
 */
int import_run(const struct options *o);

#endif
