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
 * Takes the next element from *from and sets *content to its content. tag is
 * the element's tag, of one byte. Returns false, with *from unchanged, if the
 * element has another tag or is longer than *from. Does the same if its length
 * is not in DER's form, or has more than three bytes. Does not check whether
 * the content is DER.
 */
bool der_take(struct der *from, unsigned char tag, struct der *content);

#endif
