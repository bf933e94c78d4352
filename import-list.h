/* A list of the ids of another server: see import-list.c. */
#ifndef IMPORT_LIST_H
#define IMPORT_LIST_H

#include <stddef.h>
#include <stdint.h>

#include "uidl-map.h"

/* A line of the list: a message of the other server. */
struct import_line {
	unsigned char header[UIDL_HASH]; /* as in struct uidl_hash */
	uint64_t body;   /* as there; 0: it is not in the list */
	uint32_t number; /* of the line; the first is 1 */
};

struct import_list {
	struct import_line *lines;
	size_t count;
	/* The ids: the "own id" of this map is the number of a line. */
	struct uidl_map *ids;
	size_t repeated; /* lines that were left out: their id is in a line */
	/* The mistake that import_list_read has found; 0: the whole list. */
	uint32_t wrong;
	const char *why; /* letters, digits and ".,:_-" only */
};

/*
 * Reads a list from fd to its end into *l. Returns 0. If the list has a
 * mistake, or cannot be read, returns -1 with l->wrong and l->why.
 */
int import_list_read(int fd, struct import_list *l);

/* Stores the id of a line. */
void import_list_id(const struct import_list *l, const struct import_line *line,
    char id[UIDL_SIZE]);

#endif
