/* A list of records that outlives the session: see index.c. */
#ifndef INDEX_H
#define INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INDEX_NOTE 3584       /* bytes of the note (index_note) */
#define INDEX_RECORD_MOST 512 /* bytes of a record, at most */

struct index;

/*
 * Loads the list that an earlier session left in the state directory. kind has
 * 8 characters and names the format of the records and of the note. Returns
 * NULL if there is no list of this kind, or if the list is damaged.
 */
struct index *index_load(int state, const char *kind);

/*
 * Makes an empty list. record is the size of a record in bytes, at most
 * INDEX_RECORD_MOST.
 */
struct index *index_new(int state, const char *kind, size_t record);

/* Frees the memory of a list, which may be NULL. The saved file stays. */
void index_free(struct index *x);

/* Returns the number of records. */
size_t index_count(const struct index *x);

/* Returns the size of a record in bytes. */
size_t index_record_size(const struct index *x);

/*
 * Returns the INDEX_NOTE bytes that the caller of index_save saved with the
 * list.
 */
const void *index_note(const struct index *x);

/*
 * Returns record i, or NULL if it is damaged. The record is valid until the
 * next call for this list. The user can write to the file, so the caller must
 * check a record like any input from outside.
 */
const void *index_get(struct index *x, size_t i);

/* Replaces record i, or appends a record if i is the count. */
void index_put(struct index *x, size_t i, const void *record);

/*
 * Returns true if the records are only in memory, so that index_put changes no
 * file.
 */
bool index_is_in_memory(const struct index *x);

/*
 * Continues with a copy of the records in memory. The file stays as it is, and
 * index_put no longer changes it.
 */
void index_detach(struct index *x);

/* Keeps the first `count` records and discards the others. */
void index_truncate(struct index *x, size_t count);

/*
 * Saves the list for later sessions, with a note of n <= INDEX_NOTE bytes. A
 * list that cannot be saved lasts only as long as the process.
 */
void index_save(struct index *x, const void *note, size_t n);

/* Removes the list that earlier sessions left. */
void index_discard(int state);

#endif
