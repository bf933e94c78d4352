/* Reads DER: see der.c. */
#ifndef DER_H
#define DER_H

#include <stdbool.h>
#include <stddef.h>

/* The bytes that are still to be read. */
struct der {
	const unsigned char *at;
	size_t left;
};

/*
 * Takes the next element, whose tag must be this one, of one byte, from *from;
 * *content is its content. Returns false, with *from unchanged, if it has
 * another tag, is longer than *from or is not DER.
 */
bool der_take(struct der *from, unsigned char tag, struct der *content);

#endif
