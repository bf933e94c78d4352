/*
 * Reads elements in DER (X.690 §10), and in no other encoding.
 *
 * Runs in the pre-auth process; pure computation, over the client's bytes.
 * libkrb5 parses the same bytes. DER has one form for each message, so both
 * parsers must find the same elements.
 */
#include "config.h"

#include "der.h"

/*
 * The most bytes of a length in the long form. Three bytes can express 16 MiB.
 */
#define LENGTH_MOST 3

bool
der_take(struct der *from, unsigned char tag, struct der *content)
{
	const unsigned char *p = from->at;
	size_t head = 2, n;

	if (from->left < head || p[0] != tag)
		return false;
	n = p[1];
	if (n >= 0x80) {
		size_t bytes = n - 0x80;

		if (bytes == 0 || bytes > LENGTH_MOST ||
		    bytes > from->left - head)
			return false;
		n = 0;
		for (size_t i = 0; i < bytes; i++)
			n = n << 8 | p[head++];
		/* DER allows only the shortest form. */
		if (n < 0x80 || n >> 8 * (bytes - 1) == 0)
			return false;
	}
	if (n > from->left - head)
		return false;
	*content = (struct der){ p + head, n };
	from->at += head + n;
	from->left -= head + n;
	return true;
}
