/* What speaks here that is no POP3 client: see foreign.c. */
#ifndef FOREIGN_H
#define FOREIGN_H

#define FOREIGN_BYTES 4

/* Returns the name of a protocol that begins with these FOREIGN_BYTES bytes, for the log, or NULL. */
const char *foreign_protocol(const void *first);

#endif
