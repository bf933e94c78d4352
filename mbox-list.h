/* The list of the messages in an mbox: see mbox-list.c. */
#ifndef MBOX_LIST_H
#define MBOX_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index.h"
#include "mbox-scan.h"
#include "fingerprint.h"

#define LIST_SPENT 400
#define LIST_HEADER_MOST ((1u << 28) - 1) /* bytes of a header that a list can have; it stands for all greater numbers */

/*
 * Mailboxes of at most this many bytes are read as a whole whenever they have
 * changed, because that costs less than a login. Only tests change it.
 */
extern off_t list_small;

/* A message that has gone, and had an id made of its header alone; both are parts of hashes. All zero: none. */
struct list_spent {
	uint32_t id, body;
};

/* What is kept with the list. */
struct list_note {
	struct fingerprint stamp;
	uint64_t directory_device, directory_inode; /* of the mailbox's directory; 0: unknown */
	int64_t end;       /* of the last message */
	uint64_t wire_size;   /* of all messages */
	uint64_t numbered; /* messages whose ids are known to differ from those before */
	uint64_t base;     /* messages that were there when the stamp was settled last */
	uint64_t assumed;  /* messages that were not read since the mailbox changed: each is proven where it is used */
	uint64_t open;     /* messages before the first one whose Content-Length may become right by growth */
	uint64_t reaching; /* messages whose Content-Length may become right by a removal */
	uint64_t next_spent;
	struct list_spent spent[LIST_SPENT]; /* a ring */
};

/* The mailbox that is listed, locked while it is read. */
struct list_source {
	int fd;
	int state;   /* where the list is kept; -1: it is not */
	int dir;     /* the directory that the mailbox is in; -1: unknown */
	bool quoted; /* as scan_messages has it */
};

struct list {
	struct list_source source;
	struct index *index;
	size_t count;
	struct list_note note;
};

/* One message. */
struct list_message {
	struct scan_message found; /* its body's hash is 0 unless it has been needed */
	off_t end;
	/* Valid once list_number has been called: */
	bool is_twin;     /* others have, or had, an equal header */
	bool is_suffixed; /* its id is that of its header, its body and the ordinal */
	uint32_t ordinal; /* among those with equal headers and bodies */
};

/* Messages by the hashes of their headers. */
struct list_ids;

/* Loads the list that an earlier session kept. Returns true if there is one. */
bool list_load(struct list *l, const struct list_source *s);

/* Returns true if the list is surely that of the mailbox that has this stamp now, but for what is assumed. */
bool list_is_current(const struct list *l, const struct fingerprint *now);

/* Returns true if message i was read when the mailbox had the list's stamp. */
bool list_is_sure(const struct list *l, size_t i);

/* Returns true if the mailbox was in another directory when the list was kept. */
bool list_is_elsewhere(const struct list *l);

/*
 * Brings the list up to date with its locked mailbox, which has this stamp: a
 * large one that has grown is read from the last message on, any other as a
 * whole.
 */
enum scan_result list_update(struct list *l, const struct fingerprint *now);

/*
 * Makes the list of a locked mailbox, which has this stamp, and reads all of
 * it. Ids that messages of the list before had are not given to others;
 * before: NULL, there is none.
 */
enum scan_result list_make(struct list *l, const struct list_source *s, const struct fingerprint *now,
    struct list *before);

/*
 * Finds message i. Returns false if the list is damaged. Its place is inside
 * the mailbox, all else is for the mailbox to prove.
 */
bool list_get(const struct list *l, size_t i, struct list_message *m);

/* Returns the message that begins at this offset, or SIZE_MAX. */
size_t list_at(const struct list *l, off_t at);

/*
 * Returns true if a message with the header of m stands where m was in the
 * mailbox, which has this size, and ends where m ended. Its body is not read.
 */
bool list_is_in_place(const struct list *l, const struct list_message *m, off_t size);

/*
 * Makes sure that all ids differ, and that those made of a header alone are
 * not given twice. is_unchanged: the mailbox is what was listed; otherwise
 * bodies that are not known yet stay unknown, and the list is not kept.
 */
void list_number(struct list *l, bool is_unchanged);

/* Writes the id of a message. */
void list_uidl(const struct list_message *m, char id[UIDL_SIZE]);

/* Keeps the list without the marked messages, which have just been removed from the mailbox. */
void list_without(struct list *l, const unsigned char *marks);

/* Lets the next session read all of the mailbox. Only the ids that were given are remembered. */
void list_distrust(struct list *l);

/* Makes the table of all messages. Never fails. */
struct list_ids *list_ids(struct list *l);

/*
 * Makes the table of all messages by header and body, as the list has their
 * bodies. Those of messages with equal headers are known once list_number has
 * been called. Never fails.
 */
struct list_ids *list_bodies(struct list *l);

/* Returns the first message with these hashes of its header and body, or SIZE_MAX. */
size_t list_first_body(const struct list_ids *bodies, const unsigned char id[UIDL_HASH], uint64_t body);

/* Lets the next message, if there is one, be the first one of its chain in place of i, which is the first one. */
void list_take(struct list_ids *ids, size_t i);

/* Returns the first message with this hash of its header, or SIZE_MAX. */
size_t list_first(const struct list_ids *ids, const unsigned char id[UIDL_HASH]);

/* Returns the next message with the same hash as i, or SIZE_MAX. */
size_t list_next(const struct list_ids *ids, size_t i);

void list_ids_free(struct list_ids *ids);

#endif
