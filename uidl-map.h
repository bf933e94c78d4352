/* The ids that messages had on another server: see uidl-map.c. */
#ifndef UIDL_MAP_H
#define UIDL_MAP_H

#include <stdbool.h>
#include <stddef.h>

#include "uidl.h"

/* The most bytes of a map's file: more than a million of the longest lines. */
#define UIDL_MAP_MOST ((size_t)256 << 20)

struct uidl_map;

/* Makes a map without lines. Never returns NULL. */
struct uidl_map *uidl_map_new(void);

/* Frees m, which may be NULL. */
void uidl_map_free(struct uidl_map *m);

/*
 * As the user, with the session lock: reads the map of the mailbox with this
 * state directory. Stores it in *m and returns 0. If the mailbox has no map,
 * stores NULL. After an error stores NULL and returns -1 with errno. errno is
 * EBADMSG if the file does not have the form of a map.
 */
int uidl_map_load(int state, struct uidl_map **m);

/*
 * Adds a line: the message whose own id is `own` gets the id `old`. Returns
 * true. Returns false, without a change, if one of the two cannot be a unique
 * id, if uidl_map_has_own or uidl_map_has_old is true, or if the map is full
 * (UIDL_MAP_MOST).
 */
bool uidl_map_add(struct uidl_map *m, const char *own, const char *old);

/* Returns the number of lines. */
size_t uidl_map_count(const struct uidl_map *m);

/*
 * Returns true if a line is about the message with this own id, which has at
 * most 70 characters.
 */
bool uidl_map_has_own(const struct uidl_map *m, const char *own);

/* Returns true if a line gives this id, of at most 70 characters. */
bool uidl_map_has_old(const struct uidl_map *m, const char *old);

/*
 * Replaces a message's own id by the id that clients get. This is the id of
 * the message's line, or the own id if there is no line. If a line gives the
 * own id to another message, it is ":N:HASH": HASH is that of the own id, and N
 * is the first of 0, 1, 2 ... with which no line has this id. So if own ids
 * differ, the results differ, too.
 */
void uidl_map_apply(const struct uidl_map *m, char id[UIDL_SIZE]);

/*
 * As the user, with the session lock: replaces the mailbox's map on the disk.
 * Returns 0. After an error returns -1 with errno; the earlier map is then
 * still there, unless only the last sync of the directory has failed.
 */
int uidl_map_write(const struct uidl_map *m, int state);

#endif
