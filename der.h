/* Reads what was written in DER: see der.c. */
#ifndef DER_H
#define DER_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes that are still to be read. */
struct der {
	const unsigned char *at;
	size_t left;
};

/* Takes one element with this tag, of one byte, from *from; *content is what is in it. Returns false if there is none, or not in DER. */
bool der_take(struct der *from, unsigned char tag, struct der *content);

#endif
