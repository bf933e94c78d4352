/* Gives messages the ids of another server: see import.c. */
#ifndef IMPORT_H
#define IMPORT_H

#include "session.h"

/* How an import or a report ended: the exit status of its process. */
enum import {
	IMPORT_DONE = 0,
	IMPORT_FAILED = 1, /* logged; fatal() exits with 1, too */
	/* the list has a mistake, or nothing in common with the mailbox */
	IMPORT_WRONG = 3,
	IMPORT_BUSY = 4, /* another process has the mailbox */
};

/*
 * kpopd --import-uidl and --uidl-report, as the user: reads the list from
 * s->list, and matches it with the mailbox. For --import-uidl also writes the
 * map. channel: to the root process, which watches this process and prints its
 * messages of the kinds MESSAGE_REPORT and MESSAGE_MISTAKE.
 */
_Noreturn void import_by_hand(const struct session *s, int channel);

#endif
