/* Protocols that a connection does not serve: see foreign.c. */
#ifndef FOREIGN_H
#define FOREIGN_H

#define FOREIGN_BYTES 4 /* bytes that a client must have sent */

/*
 * Returns the name, for the log, of the protocol that begins with these
 * FOREIGN_BYTES bytes. Returns NULL if no such protocol is known.
 */
const char *foreign_protocol(const void *first);

#endif
