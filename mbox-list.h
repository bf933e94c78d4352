/* The list of the messages in an mbox: see mbox-list.c. */
#ifndef MBOX_LIST_H
#define MBOX_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "fingerprint.h"
#include "index.h"
#include "mbox-scan.h"

#define LIST_RETIRED 400
/* The greatest header size in a record. Longer headers get this size, too. */
#define LIST_HEADER_MOST ((1u << 28) - 1)
#define LIST_NEVER UINT64_MAX

/*
 * A removed message whose id was the hash of its header alone. id is a part of
 * the header's hash, body a part of the body's hash. All zero: no message.
 */
struct list_retired {
	uint32_t id, body;
};

/* The part of a list that the index keeps as its note, in this form. */
struct list_note {
	struct fingerprint mailbox;                 /* of the listed mailbox */
	uint64_t directory_device, directory_inode; /* of its directory */
	int64_t end;        /* offset where the last message ends */
	uint64_t wire_size; /* of all messages */
	uint64_t numbered;  /* messages [0, numbered) have unique ids */
	uint64_t base;      /* message count at the last stable fingerprint */
	/*
	 * Messages [0, unverified) were not read since the mailbox changed.
	 * Each of them is verified when it is used.
	 */
	uint64_t unverified;
	/* The first message whose right_if_grown is set, or LIST_NEVER. */
	uint64_t first_if_grown;
	uint64_t count_if_shrunk; /* messages with right_if_shrunk */
	uint64_t next_retired;
	struct list_retired retired[LIST_RETIRED]; /* a ring */
};

/*
 * The mailbox that is listed. The caller locks it while messages are added to
 * the list.
 */
struct list_source {
	int fd;
	int state;   /* state directory for the list; -1: it is not saved */
	int dir;     /* the directory that contains the mailbox; -1: unknown */
	bool quoted; /* no Content-Length is trusted */
};

struct list {
	struct list_source source;
	struct index *index;
	size_t count;
	struct list_note note;
};

/* The flags of a record. */
enum {
	LIST_WEAK = 1,      /* the header does not identify the message */
	LIST_IF_SHRUNK = 2, /* right_if_shrunk */
	LIST_SHARED = 4,    /* as is_header_shared below */
	LIST_SUFFIXED = 8,  /* as is_suffixed below */
};

/* A message in the index. */
struct list_record {
	uint64_t at;
	uint64_t wire_size;
	uint64_t body;        /* the body's hash; 0: not computed yet */
	uint32_t header : 28; /* bytes, at most LIST_HEADER_MOST */
	uint32_t flags : 4;
	uint32_t ordinal;
	unsigned char id[UIDL_HASH];
};

/* A message as the other files see it. */
struct list_message {
	struct scan_message found; /* body is 0 if it was not needed yet */
	off_t end;                 /* offset where it ends */
	/* Valid once mbox-number.c has numbered the message: */
	bool is_header_shared; /* other messages have, or had, this header */
	bool is_suffixed;      /* its id has the body's hash and the ordinal */
	uint32_t ordinal;      /* among equal messages */
};

/*
 * Copies record i. Returns false if the list is damaged. After a power failure
 * the disk may have the new header of the index, but the old version of the
 * last block. That version has zeros in the places of the new records.
 * Therefore the offset 0 is valid only in the first record.
 */
static inline bool
list_record(const struct list *l, size_t i, struct list_record *r)
{
	const void *p = index_get(l->index, i);

	if (p == NULL)
		return false;
	memcpy(r, p, sizeof(*r));
	return r->at > 0 || i == 0;
}

/* Replaces record i. */
void list_put(struct list *l, size_t i, const struct list_record *r);

/* Appends a message. This function is a scan_found; list is a struct list. */
void list_add(void *list, const struct scan_message *m);

/*
 * Stores message i in *m. Returns false if the list is damaged. The offsets of
 * *m are within the listed mailbox. The caller must compare everything else
 * with the mailbox, because the user can forge the index.
 */
bool list_get(const struct list *l, size_t i, struct list_message *m);

/* Returns the index of the message that begins at this offset, or SIZE_MAX. */
size_t list_at(const struct list *l, off_t at);

/*
 * Returns true if message i was read when the mailbox had the note's
 * fingerprint.
 */
bool list_is_verified(const struct list *l, size_t i);

/* Returns the wire size of the body, without the empty line before it. */
uint64_t list_body_wire_size(const struct list_message *m);

/*
 * Returns true if the mailbox, which has this size, contains a message with the
 * header, the offset and the end of *m. Reads the header, but not the body.
 */
bool list_is_in_place(const struct list *l, const struct list_message *m,
    off_t size);

/*
 * Removes messages from the end of the list until `count` messages are left.
 * Returns false if the list is damaged. Then the totals in the note of *l may
 * be wrong, and only the ids in the list may still be used.
 */
bool list_truncate(struct list *l, size_t count);

/* Frees the list's memory. The file of the index stays. */
void list_free(struct list *l);

#endif
