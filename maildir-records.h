/* The list of the messages in a Maildir: see maildir-records.c. */
#ifndef MAILDIR_RECORDS_H
#define MAILDIR_RECORDS_H

#include "maildir.h"

/*
 * Loads the list of an earlier session, and its note into m->note. The list may
 * not be current. Returns NULL if there is none.
 */
struct index *records_load(struct maildir *m);

/* Returns true if the loaded list describes the Maildir as it is. */
bool records_are_current(const struct maildir *m, struct index *list);

/*
 * Makes m->list: reads the names, and the files that are not in old (NULL: no
 * earlier list). m->list may be old afterwards. Returns DROP_OK or DROP_FAILED
 * (logged).
 */
enum drop_error records_update(struct maildir *m, struct index *old);

/*
 * Copies the record of message i. If the index is damaged makes the list again,
 * and ends the process if the messages have changed.
 */
void records_get(struct maildir *m, size_t i, struct record *r);

/*
 * Puts the record of message i into the list, and marks the fingerprints as not
 * stable unless the list has that record already.
 */
void records_correct(struct maildir *m, size_t i, const struct record *r);

/* Marks message i as not counted, so that the next login counts it. */
void records_distrust(struct maildir *m, size_t i, struct record *r);

/*
 * Reads the names into l. A file of the list (NULL: none) is only left out
 * after it was searched for. Returns DROP_OK or DROP_FAILED (logged).
 */
enum drop_error records_read_names(struct maildir *m, struct names *l,
    struct index *list);

#endif
