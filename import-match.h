/* Finds the messages of a mailbox in a list: see import-match.c. */
#ifndef IMPORT_MATCH_H
#define IMPORT_MATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "import-list.h"

/* A message of the mailbox. */
struct import_message {
	unsigned char header[UIDL_HASH]; /* as in struct uidl_hash */
	uint64_t body;                   /* as there; 0: not read (yet) */
	uint32_t n;                      /* its number in the mailbox */
	bool is_weak;                    /* as in struct uidl_hash */
	bool is_unread; /* it could not be read, so it is in no line */
	bool is_kept;   /* it has an id from an earlier import */
	bool needs_body;
	/* After import_match: the message has this line; or NULL. */
	const struct import_line *line;
	bool is_listed; /* a line has its header */
};

/* What became of the lines of the list. */
struct import_counts {
	size_t matched;   /* a message gets the id */
	size_t known;     /* a message has the id from an earlier import */
	size_t different; /* the message has another id from an earlier one */
	size_t absent;    /* no message */
};

/*
 * Sorts the list by header. Decides for which of the messages import_match
 * needs the hash of the body (needs_body). is_unread and is_kept are set. The
 * messages are in the order of the mailbox before the call and after it.
 */
void import_find_needs(struct import_list *l, struct import_message *m,
    size_t count);

/*
 * Gives lines to messages, and counts the lines in *c. `kept` is the map with
 * the ids of the messages with is_kept. Changes the order of the messages.
 */
void import_match(struct import_list *l, struct import_message *m, size_t count,
    const struct uidl_map *kept, struct import_counts *c);

#endif
