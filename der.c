/*
 * Reads what was written in DER (X.690 section 10), and no other encoding.
 *
 * Pure computation, over the client's bytes. A message that two parsers read
 * could mean something else to each; of DER there is one form only.
 */
#include "config.h"

#include "der.h"

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

		/* The shortest form; three bytes are 16 MiB. */
		if (bytes == 0 || bytes > 3 || bytes > from->left - head)
			return false;
		n = 0;
		for (size_t i = 0; i < bytes; i++)
			n = n << 8 | p[head++];
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
