/* Reads the header fields of one message: see mbox-fields.c. */
#ifndef MBOX_FIELDS_H
#define MBOX_FIELDS_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>

#define FIELDS_LOOK 64 /* bytes of a line that fields_read needs */

#define FIELDS_NO_LENGTH ((off_t)-1)  /* the header has no Content-Length */
#define FIELDS_BAD_LENGTH ((off_t)-2) /* not a number, or two that differ */

struct fields {
	bool at_front;     /* the message begins at offset 0 of the file */
	bool is_rewritten; /* the current field is not a part of the id */
	off_t length;      /* of the body, as Content-Length specifies it */
	bool has_id, has_received;
	/* The rest belongs to mbox-fields.c. */
	enum { FIELDS_OTHER, FIELDS_LENGTH, FIELDS_SUBJECT } current;
	/* the message has these parts of an internal message */
	bool has_sender, has_name, has_imap, has_subject;
	bool is_mail; /* a field differs from the internal message's */
};

/* Begins a message. */
void fields_begin(struct fields *f, bool at_front);

/* Reads the "From " line, or at least its first FIELDS_LOOK bytes. */
void fields_read_from_line(struct fields *f, const char *p, size_t n);

/* Reads the first line of a field, or at least its first FIELDS_LOOK bytes. */
void fields_read(struct fields *f, const char *p, size_t n);

/*
 * Records that the field continues: in a folded line, or in the next part of a
 * long line.
 */
void fields_continue(struct fields *f);

/*
 * Returns true if this is the internal message, in which other programs keep
 * data about the mailbox. A doubtful message counts as mail. To show the
 * internal message does no harm, but a real message that is hidden is lost for
 * the client.
 */
bool fields_are_internal(const struct fields *f);

#endif
