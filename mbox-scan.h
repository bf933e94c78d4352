/* The messages in an mbox file: see mbox-scan.c. */
#ifndef MBOX_SCAN_H
#define MBOX_SCAN_H

#include <sys/types.h>

#include <stdbool.h>
#include <stdint.h>

#include "mbox-from.h"
#include "uidl.h"

#define SCAN_FROM FROM_WORD
#define SCAN_FROM_SIZE FROM_SIZE

struct scan_message {
	off_t at;        /* of its "From " */
	uint64_t wire_size; /* as POP3 counts */
	uint64_t header; /* of these, before the empty line behind the header */
	uint64_t body;   /* hash of the body as scan_body computes it; 0 unless weak */
	bool weak;       /* the header does not identify it: no Message-ID, no Received */
	bool open;       /* its Content-Length, not trusted now, may become right when the file grows */
	bool reaches;    /* the same, when messages after it are removed, because it ends after the message */
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
 * the last one ends. quoted: all text that begins with "From " is quoted, so
 * that no Content-Length is trusted.
 */
enum scan_result scan_messages(int fd, off_t from, off_t to, bool quoted, scan_found *found,
    void *self, off_t *end);

/* The id of the message that begins at from and ends before to; its body is not read. Returns 0, or -1: there is none. */
int scan_id(int fd, off_t from, off_t to, unsigned char id[UIDL_HASH]);

/* Returns false if the message in [from, to) ends with its header, or with the empty line that ends it. True: it has a body, or cannot be read. */
bool scan_has_body(int fd, off_t from, off_t to);

/*
 * Computes the hash of the body of the message in [from, to): with LF for CRLF
 * and without the line ends at its very end, so that it does not depend on the
 * empty line that separates messages. The hash is never 0. Returns 0, or -1 if
 * there is no message or not all of it can be read.
 */
int scan_body(int fd, off_t from, off_t to, uint64_t *hash);

/*
 * Returns true if a message may end at this offset of a file of this size: at
 * its end, or before a line that separates messages after an empty line.
 * Stores in *empty the size of the empty line before it, 0 if there is none.
 */
bool scan_is_border(int fd, off_t at, off_t size, off_t *empty);

#endif
