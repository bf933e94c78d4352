/*
 * Writes a hash as a unique id; pure computation.
 *
 * Runs as the owner of the mailbox. 128 bits of a SHA-256: two ids are equal
 * by nobody's accident.
 */
#include "config.h"

#include "uidl.h"

void
uidl_write(const unsigned char hash[UIDL_HASH], char id[UIDL_HASH_TEXT + 1])
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz0123456789-_";
	unsigned bits = 0, have = 0;
	size_t at = 0;

	for (size_t k = 0; k < UIDL_HASH; k++) {
		bits = bits << 8 | hash[k];
		for (have += 8; have >= 6; have -= 6)
			id[at++] = digits[bits >> (have - 6) & 63];
	}
	id[at++] = digits[bits << (6 - have) & 63];
	id[at] = '\0';
}
