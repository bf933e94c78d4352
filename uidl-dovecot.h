/* The lines of Dovecot's dovecot-uidlist: see uidl-dovecot.c. */
#ifndef UIDL_DOVECOT_H
#define UIDL_DOVECOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first line. */
struct dovecot_head {
	int version; /* 1 or 3 */
	uint32_t validity;
};

/* Bytes of a line; not a string. */
struct dovecot_bytes {
	const char *at; /* NULL: the line does not have them */
	size_t n;
};

/* The line of a message. */
struct dovecot_line {
	uint32_t uid;
	struct dovecot_bytes name; /* the unique name of the file */
	struct dovecot_bytes uidl; /* P: the id in place of the format's */
	struct dovecot_bytes guid; /* G */
};

/*
 * Reads the first line, of n bytes without its line end. Returns false if this
 * is not a dovecot-uidlist, or one without a uidvalidity.
 */
bool dovecot_read_head(struct dovecot_head *h, const char *p, size_t n);

/*
 * Reads the line of a message, of n bytes without its line end. *l keeps
 * pointers to the line. Returns false if it does not have the form.
 */
bool dovecot_read_line(struct dovecot_line *l, const struct dovecot_head *h,
    const char *p, size_t n);

#endif
