/* A list of records that outlives the session: see index.c. */
#ifndef INDEX_H
#define INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INDEX_NOTE 3584 /* bytes of a note */
#define INDEX_RECORD_MOST 512

struct index;

/*
 * The list that an earlier session left in the state directory, if it is of
 * this kind (8 characters; it names what a record and the note are). NULL:
 * there is none that can be believed. Never fails otherwise.
 */
struct index *index_load(int state, const char *kind);

/* A new empty list of records of this many bytes, at most INDEX_RECORD_MOST. */
struct index *index_new(int state, const char *kind, size_t record);

void index_free(struct index *x);

/* The records there are. */
size_t index_count(const struct index *x);

/* The bytes of a record. */
size_t index_record_size(const struct index *x);

/* What was saved with the list: INDEX_NOTE bytes. */
const void *index_note(const struct index *x);

/*
 * Record i, valid until the list is changed; NULL when the disk damaged it.
 * What it says is to be checked like a stranger's word: the file is its
 * owner's.
 */
const void *index_get(struct index *x, size_t i);

/* Changes record i, or with i the count adds one. */
void index_put(struct index *x, size_t i, const void *record);

/* Forgets the records from count on. */
void index_truncate(struct index *x, size_t count);

/* Keeps the list, with a note of n <= INDEX_NOTE bytes, for later sessions. What cannot be kept lasts as long as the process. */
void index_save(struct index *x, const void *note, size_t n);

/* Removes what earlier sessions left. */
void index_forget(int state);

#endif
