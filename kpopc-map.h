/*
 * The parts of kpopc --uidl-map: see kpopc-map.c, kpopc-reader.c and
 * kpopc-ids.c.
 */
#ifndef KPOPC_MAP_H
#define KPOPC_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "uidl-hash.h"

/* kpopc-reader.c */

/*
 * Reads a server's answers from fd. Its functions end the process with
 * EXIT_BROKEN if the server closes the connection, is silent for too long, or
 * sends what is no answer.
 */
struct reader {
	int fd;
	long silence;     /* seconds for which the server may send nothing */
	char command[32]; /* whose answer is read, for messages */
	size_t at, end;   /* data[at] to data[end - 1] are not taken yet */
	char data[65536];
};

/*
 * Prints a problem with the answer to r->command, and ends the process with
 * EXIT_BROKEN. A text of the server in it must be printable.
 */
_Noreturn void reader_give_up(const struct reader *r, const char *problem);

/*
 * Reads the first line of an answer. Returns true if it begins with "+OK", and
 * false if it begins with "-ERR".
 */
bool reader_takes(struct reader *r);

/* Reads the first line of an answer, which must begin with "+OK". */
void reader_expect(struct reader *r);

/*
 * Reads a line of a list. Returns it without its end, valid until the next
 * call, or NULL if it is the dot that ends the list.
 */
const char *reader_next(struct reader *r);

/*
 * Reads a message up to the dot that ends it, and adds it to *h without the
 * dot-stuffing (RFC 1939 §3). Its header must have at most header_most bytes.
 */
void reader_message(struct reader *r, struct uidl_hash *h,
    uint64_t header_most);

/* kpopc-ids.c */

#define IDS_MOST 1000000 /* messages of a server, at most */

/* A message of the other server. */
struct id {
	char old[UIDL_SIZE];             /* the other server's id */
	char header[UIDL_HASH_TEXT + 1]; /* the header's hash, by uidl_write */
	uint64_t body;                   /* the body's hash; 0: unknown */
	bool needs_whole; /* the list must have the body's hash */
};

/* The messages of the other server, in its order. Zero: none. */
struct ids {
	struct id *all;
	size_t count, room;
};

/*
 * Adds the next message from a line of the answer to UIDL. Returns NULL, or the
 * problem if the line has not the form of RFC 1939 §7.
 */
const char *ids_add(struct ids *ids, const char *line);

/*
 * Returns how many messages have the id of an earlier message. If there are
 * any, stores the numbers of two messages with one id, from 1 on.
 */
size_t ids_count_repeated(const struct ids *ids, size_t *first, size_t *second);

/*
 * Stores the hash of the header of a message. Sets needs_whole if the header
 * does not identify the message.
 */
void ids_put_header(struct id *id, const struct uidl_hash *h);

/*
 * Stores the hash of the body of a message. Returns false if the header is not
 * the one that ids_put_header has stored.
 */
bool ids_put_body(struct id *id, const struct uidl_hash *h);

/* Sets needs_whole for each message whose header another message has, too. */
void ids_mark_equal(struct ids *ids);

/*
 * Writes the list: see kpopc-ids.c. The caller must check f for errors of
 * writing.
 */
void ids_write(const struct ids *ids, FILE *f);

/* Frees the messages. */
void ids_free(struct ids *ids);

#endif
