/* Maildrops on files in memory, and checks of each message: see box.c. */
#ifndef BOX_H
#define BOX_H

#include "fuzz/fuzz.h"
#include "maildrop.h"

/* All functions are called between tidy_begin and tidy_end. */

/* One message as kpopd reports it. */
struct shown {
	uint64_t wire_size;
	struct span span; /* before the first read */
	char id[UIDL_SIZE];
	ino_t inode;
	char *text; /* its stored bytes */
	size_t size;
};

/*
 * Opens the maildrop that where describes as -m does, for the home directory
 * fuzz_directory(). Returns as maildrop_open.
 */
enum drop_error box_open(struct maildrop *drop, const char *where);

/*
 * Removes the index of earlier inputs: with a clock that was ahead its
 * fingerprints prove nothing.
 */
void box_discard_index(void);

/*
 * Returns all messages, and checks them: each can be read, RETR has the size of
 * LIST, the ids are valid (RFC 1939 §7) and different.
 */
struct shown *box_show(struct maildrop *drop);

/*
 * Marks some messages at random, and stores the marks as bits from the lowest
 * of marks[0] on.
 */
void box_mark(struct maildrop *drop, uint32_t random, unsigned char *marks);

/*
 * The seconds by which the clocks of kpopd are ahead. If they are, fingerprints
 * of new files are stable.
 */
extern int box_ahead;

#endif
