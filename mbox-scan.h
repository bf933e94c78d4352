/* Finds the messages in an mbox file: see mbox-scan.c. */
#ifndef MBOX_SCAN_H
#define MBOX_SCAN_H

#include <sys/types.h>

#include <stdbool.h>
#include <stdint.h>

#include "uidl.h"

/* One message. */
struct scan_message {
	off_t at;           /* offset of its "From " line in the file */
	uint64_t wire_size; /* of the whole message */
	uint64_t header;    /* wire size of the header without its empty line */
	uint64_t body;      /* the body's hash, or 0 if it is not computed */
	bool weak; /* has neither Message-ID nor Received: body is computed */
	/*
	 * The Content-Length is not trusted, but may become right when the file
	 * grows, or when messages after this one are removed.
	 */
	bool right_if_grown, right_if_shrunk;
	unsigned char id[UIDL_HASH]; /* the header's hash */
};

typedef void scan_found(void *self, const struct scan_message *m);

enum scan_result {
	SCAN_DONE,
	SCAN_FOREIGN, /* not an mbox: does not begin with a "From " line */
	SCAN_FAILED,  /* with read's errno */
};

/*
 * Reads the bytes [from, to) of fd, or fewer if the file ends earlier. `from`
 * is 0 or the offset of a message. Calls the function `found` for each message,
 * in order. Stores in *end the offset where the last message ends. If quoted is
 * true, programs quote all text that begins with "From ", so no Content-Length
 * is trusted.
 */
enum scan_result scan_messages(int fd, off_t from, off_t to, bool quoted,
    scan_found *found, void *self, off_t *end);

/*
 * Reads the header of the message in [from, to) and computes its hash. Returns
 * 0, or -1 if no message begins at the offset `from` or the file cannot be
 * read.
 */
int scan_id(int fd, off_t from, off_t to, unsigned char id[UIDL_HASH]);

/*
 * Returns false if the message in [from, to) is only a header, with or without
 * the empty line that ends it. Returns true if the message has a body. Also
 * returns true if no message begins at the offset `from`, or if the file cannot
 * be read.
 */
bool scan_has_body(int fd, off_t from, off_t to);

/*
 * Computes the hash of the body of the message in [from, to). The hash is that
 * of mbox-hash.c and never 0. Returns 0, or -1 if no message begins at the
 * offset `from` or the message cannot be read to its end.
 */
int scan_body(int fd, off_t from, off_t to, uint64_t *hash);

#endif
