/* A maildrop on files in memory, and what holds for each of its messages: see box.c. */
#ifndef BOX_H
#define BOX_H

#include "fuzz/fuzz.h"
#include "maildrop.h"

/* Between tidy_begin and tidy_end. */

/* One message as kpopd shows it. */
struct shown {
	uint64_t wire_size;
	struct span span;  /* before anything was read of it */
	char id[UIDL_SIZE];
	ino_t inode;
	char *text; /* its stored bytes */
	size_t size;
};

/* Opens the maildrop that -m describes, for the home directory fuzz_directory(). */
enum drop_error box_open(struct maildrop *drop, const char *where);

/* Forgets what earlier inputs left: with a clock that was ahead its stamps prove nothing. */
void box_forget(void);

/*
 * All messages, checked: each can be read, LIST's bytes are RETR's, the ids
 * are what RFC 1939 allows and differ.
 */
struct shown *box_show(struct maildrop *drop);

/* Marks some messages. The marks are bits from the lowest of marks[0] on. */
void box_mark(struct maildrop *drop, uint32_t random, unsigned char *marks);

/* The wall clock that kpopd sees goes ahead so many seconds: what was written a moment ago has settled then. */
extern int box_ahead;

#endif
