/* The list of the messages in a Maildir: see maildir-records.c. */
#ifndef MAILDIR_RECORDS_H
#define MAILDIR_RECORDS_H

#include "maildir.h"

/*
 * Loads the list of an earlier session, and its note into m->note. The list may
 * be out of date. Returns NULL if there is none.
 */
struct index *records_load(struct maildir *m);

/* Returns true if the loaded list describes the Maildir as it is now. */
bool records_are_current(const struct maildir *m, struct index *list);

/*
 * Makes m->list: reads the names, and opens the files that have no record in
 * the earlier list. `old` is the earlier list, or NULL. Afterwards m->list may
 * be the earlier list itself. Returns DROP_OK or DROP_FAILED (logged).
 */
enum drop_error records_update(struct maildir *m, struct index *old);

/*
 * Copies the record of message i. If the index is damaged, makes the list
 * again. Ends the process if the new list may have other messages.
 */
void records_get(struct maildir *m, size_t i, struct record *r);

/*
 * If the record of message i differs from r, replaces it and marks the
 * fingerprints in the index as not stable.
 */
void records_correct(struct maildir *m, size_t i, const struct record *r);

/*
 * Marks the record of message i so that the next login computes its size again.
 */
void records_distrust(struct maildir *m, size_t i, struct record *r);

/*
 * Reads the names of new and cur into l. `list` is the earlier list, or NULL.
 * If a file of the earlier list is missing, searches for the file before
 * leaving it out. Returns DROP_OK or DROP_FAILED (logged).
 */
enum drop_error records_read_names(struct maildir *m, struct names *l,
    struct index *list);

#endif
