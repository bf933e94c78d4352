/* Maildrops on files in memory, and checks of each message (box.c). */
#ifndef BOX_H
#define BOX_H

#include "fuzz/fuzz.h"
#include "maildrop.h"

/* Call all functions between tidy_begin and tidy_end. */

/* One message as kpopd reports it. */
struct shown {
	uint64_t wire_size;
	struct span span; /* the span as it is before the first read */
	char id[UIDL_SIZE];
	ino_t inode;
	char *text; /* the stored bytes of the message */
	size_t size;
};

/*
 * Opens the maildrop that "where" describes in the syntax of -m. The home
 * directory is fuzz_directory(). Returns the result of maildrop_open.
 */
enum drop_error box_open(struct maildrop *drop, const char *where);

/*
 * Removes the index of earlier inputs. The clock may have been ahead when the
 * index was written, so the fingerprints in the index cannot be trusted.
 */
void box_discard_index(void);

/*
 * Checks all messages, and returns them. Each message must be readable, RETR
 * must send the size in LIST, and the ids must be valid (RFC 1939 §7) and
 * different.
 */
struct shown *box_show(struct maildrop *drop);

/*
 * Marks some messages at random. Stores the marks as bits, beginning with the
 * lowest bit of marks[0].
 */
void box_mark(struct maildrop *drop, uint32_t random, unsigned char *marks);

/*
 * The number of seconds that kpopd's clocks run ahead. If it is not 0, the
 * fingerprints of new files are stable.
 */
extern int box_ahead;

#endif
