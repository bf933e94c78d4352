/* The messages in an mbox file: see scan.c. */
#ifndef SCAN_H
#define SCAN_H

#include <sys/types.h>

#include <stdint.h>

#include "uidl.h"

#define SCAN_FROM "From "
#define SCAN_FROM_SIZE (sizeof(SCAN_FROM) - 1)

struct scan_message {
	off_t at;        /* of its "From " */
	uint64_t octets; /* as POP3 counts */
	uint64_t header; /* of these, before the empty line behind the header */
	unsigned char id[UIDL_HASH];
};

typedef void scan_found(void *self, const struct scan_message *one);

enum scan_result {
	SCAN_DONE,
	SCAN_FOREIGN, /* it does not begin with a "From " line */
	SCAN_FAILED,  /* read's errno */
};

/*
 * Reads [from, to) of fd, or to its end when that comes first; from is where
 * a message begins, or 0. Tells found of each message in order. *end is where
 * the last one ends.
 */
enum scan_result scan_messages(int fd, off_t from, off_t to, scan_found *found,
    void *self, off_t *end);

/* The id of the message that begins at from and ends before to; its body is not read. Returns 0, or -1: there is none. */
int scan_id(int fd, off_t from, off_t to, unsigned char id[UIDL_HASH]);

#endif
