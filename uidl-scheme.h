/* How another server made its unique ids: see uidl-scheme.c. */
#ifndef UIDL_SCHEME_H
#define UIDL_SCHEME_H

#include <stdbool.h>
#include <stdint.h>

#include "uidl.h"

/* From what a server makes its ids. */
enum scheme_source {
	SCHEME_NONE,    /* no other server */
	SCHEME_FORMAT,  /* a format with the IMAP uid and other variables */
	SCHEME_X_UIDL,  /* the field X-UIDL of the message */
	SCHEME_POPA3D,  /* popa3d's hash of some fields */
	SCHEME_SOLID,   /* solid-pop3d's hash of some fields, or of a name */
	SCHEME_COURIER, /* the file courierpop3dsizelist of a Maildir */
};

/* The formats of mailboxes that a server of the scheme can have had. */
enum { SCHEME_MBOX = 1, SCHEME_MAILDIR = 2, SCHEME_BOTH = 3 };

struct uidl_scheme {
	enum scheme_source source;
	unsigned mailboxes; /* SCHEME_MBOX ... */
	const char *text;   /* as the administrator has written it */
	const char *format; /* for SCHEME_FORMAT; otherwise NULL */
};

/* The values of the variables in a format. */
struct scheme_values {
	uint32_t uid, validity; /* %u and %v; 0: unknown */
	const char *md5;        /* %m; NULL: unknown */
	const char *name;       /* %f; NULL: unknown */
	const char *guid;       /* %g; NULL: unknown */
};

/*
 * Reads the name of a scheme, or "dovecot:FORMAT". Keeps a pointer to text.
 * Returns 0, or -1 if this is no scheme.
 */
int scheme_read(struct uidl_scheme *s, const char *text);

/* Returns true if one of these variables, as "uv", is in the format. */
bool scheme_uses(const struct uidl_scheme *s, const char *variables);

/*
 * Makes an id from the scheme's format. Returns false if a value is unknown, or
 * if the result cannot be a unique id.
 */
bool scheme_write(const struct uidl_scheme *s, const struct scheme_values *v,
    char id[UIDL_SIZE]);

#endif
