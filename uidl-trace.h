/* What other servers find in a message's header: see uidl-trace.c. */
#ifndef UIDL_TRACE_H
#define UIDL_TRACE_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <md5.h>

#include "uidl.h"

#define TRACE_UID_MOST (UINT32_MAX - 1) /* the greatest IMAP uid */
#define TRACE_HASH 16                   /* bytes of a header's hash */
#define TRACE_HASH_TEXT (2 * TRACE_HASH + 1)

/* Whose hash of a header is computed. */
enum trace_hash { TRACE_POPA3D, TRACE_SOLID, TRACE_DOVECOT };

struct trace {
	/* The values that were found so far. */
	char x_uidl[UIDL_SIZE]; /* of X-UIDL; "": none that can be an id */
	uint32_t uid;           /* of X-UID; 0: none that is accepted */
	uint32_t validity;      /* of X-IMAPbase or X-IMAP; 0: none */
	uint32_t last;          /* the last uid that was given, from there */
	bool is_complete;       /* the empty line after the header was read */
	bool at_front;          /* as trace_begin got it */
	/* The rest belongs to uidl-trace.c. */
	uint32_t least, most;
	enum trace_hash whose;
	bool in_line, is_hashed, has_received;
	MD5_CTX md5;
};

/*
 * Begins a header, whose hash is computed as this server computes it. at_front:
 * the header is the first one of an mbox, so X-IMAPbase and X-IMAP are valid,
 * and X-UID only after one of them.
 */
void trace_begin(struct trace *h, enum trace_hash whose, bool at_front);

/*
 * Accepts, in a header that is not at the front, an X-UID of least to most.
 */
void trace_accept(struct trace *h, uint32_t least, uint32_t most);

/*
 * Reads the whole lines at p, up to the end of the header. If `all` is true,
 * also reads an incomplete last line, or a part of a line. Returns the number
 * of bytes that were read.
 */
size_t trace_read(struct trace *h, const char *p, size_t n, bool all);

/* Ends the header, and writes its hash as hexadecimal digits. */
void trace_end(struct trace *h, char hash[TRACE_HASH_TEXT]);

/* Writes the first n bytes of a hash as lower-case hexadecimal digits. */
void trace_write(const unsigned char *hash, size_t n, char *text);

#endif
