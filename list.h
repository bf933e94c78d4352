/* The list of the messages in an mbox: see list.c. */
#ifndef LIST_H
#define LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "index.h"
#include "scan.h"
#include "stamp.h"

/* What is kept with the list. */
struct list_note {
	struct stamp stamp;
	int64_t end;       /* of the last message */
	uint64_t octets;   /* of all messages */
	uint64_t numbered; /* messages that are known as the first, second … with their id */
	/* The part that was there when the stamp was settled last. */
	uint64_t base_count, base_octets;
	int64_t base_end;
};

struct list {
	int state;   /* the state directory; -1: this list is not kept */
	bool quoted; /* as scan_messages has it */
	struct index *index;
	size_t count;
	struct list_note note;
};

/* One message. */
struct list_message {
	struct scan_message found;
	off_t end;
	uint32_t ordinal; /* among those with equal ids; valid once list_number has been called */
};

/* Messages by their ids. */
struct list_ids;

/* The list that an earlier session kept in this state directory. Returns whether there is one. */
bool list_load(struct list *l, int state, bool quoted);

/* Whether it is surely the list of the mailbox that has this stamp now. */
bool list_is_current(const struct list *l, const struct stamp *now);

/*
 * Brings the list up to date with the locked mailbox fd, which has this stamp:
 * only what was appended is read if the rest is as it was, else everything.
 */
enum scan_result list_update(struct list *l, int fd, const struct stamp *now);

/* The list of the locked mailbox fd, which has this stamp, all of it read; state: -1, it is not kept. */
enum scan_result list_make(struct list *l, int state, int fd, const struct stamp *now, bool quoted);

/*
 * Message i of a mailbox of this size. Returns false when the list is damaged.
 * Its place is inside the mailbox, what else it says is for the mailbox to prove.
 */
bool list_get(const struct list *l, size_t i, struct list_message *m);

/* Tells messages with equal ids apart. */
void list_number(struct list *l);

/* The list without the marked messages, which have been removed from fd: it is kept, with fd's stamp. */
void list_without(struct list *l, const unsigned char *marks, int fd);

/* All messages by their ids. Never fails. */
struct list_ids *list_ids(struct list *l);

/* The first message with this id, or SIZE_MAX. */
size_t list_first(const struct list_ids *ids, const unsigned char id[UIDL_HASH]);

/* The next message with the same id as i, or SIZE_MAX. */
size_t list_next(const struct list_ids *ids, size_t i);

void list_ids_free(struct list_ids *ids);

#endif
