/* Unique ids, and names of state directories, made of a hash: see uidl.c. */
#ifndef UIDL_H
#define UIDL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* RFC 1939 §7: at most 70 characters of 0x21 … 0x7e; and a NUL */
#define UIDL_SIZE 71
#define UIDL_HASH 16      /* bytes of the hash */
#define UIDL_HASH_TEXT 22 /* characters of the hash as text */

/*
 * The first line, and the beginning of the last line, of a list of another
 * server's ids, which kpopc-ids.c writes and import-list.c reads.
 */
#define UIDL_LIST_FIRST "kpopd uidl list 1"
#define UIDL_LIST_END "end "

/* Writes a hash as base64url without padding (RFC 4648 §5), with a NUL. */
void uidl_write(const unsigned char hash[UIDL_HASH],
    char id[UIDL_HASH_TEXT + 1]);

/*
 * Reads the UIDL_HASH_TEXT characters that uidl_write makes of a hash. Returns
 * false if the text is not what uidl_write makes of any hash.
 */
bool uidl_read(const char *text, unsigned char hash[UIDL_HASH]);

/*
 * Returns true if the n bytes at p can be a unique id: 1 to 70 characters of
 * 0x21 … 0x7e (RFC 1939 §7).
 */
bool uidl_is_valid(const char *p, size_t n);

#endif
