/*
 * Writes a hash as text, for a unique id and for the name of a state directory
 * (maildrop-state.c). Checks the form of unique ids.
 *
 * Runs in the session, in the recovery and in the broker, as the owner of the
 * mailbox; pure computation.
 */
#include "config.h"

#include <string.h>

#include "uidl.h"

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			     "abcdefghijklmnopqrstuvwxyz0123456789-_";

void
uidl_write(const unsigned char hash[UIDL_HASH], char id[UIDL_HASH_TEXT + 1])
{
	const unsigned char *h = hash;

	_Static_assert(UIDL_HASH % 3 == 1 &&
		UIDL_HASH_TEXT == UIDL_HASH / 3 * 4 + 2,
	    "no other size");
	for (; h + 3 <= hash + UIDL_HASH; h += 3) {
		uint32_t bits =
		    (uint32_t)h[0] << 16 | (uint32_t)h[1] << 8 | h[2];

		*id++ = digits[bits >> 18];
		*id++ = digits[bits >> 12 & 63];
		*id++ = digits[bits >> 6 & 63];
		*id++ = digits[bits & 63];
	}
	*id++ = digits[*h >> 2];
	*id++ = digits[*h << 4 & 63];
	*id = '\0';
}

bool
uidl_read(const char *text, unsigned char hash[UIDL_HASH])
{
	uint32_t bits = 0;
	int count = 0;

	for (const char *end = text + UIDL_HASH_TEXT; text < end; text++) {
		const char *digit = memchr(digits, *text, 64);

		if (digit == NULL)
			return false;
		bits = bits << 6 | (uint32_t)(digit - digits);
		count += 6;
		if (count < 8)
			continue;
		count -= 8;
		*hash++ = (unsigned char)(bits >> count);
	}
	/* The last character has bits that are not part of the hash. */
	return (bits & ((1u << count) - 1)) == 0;
}

bool
uidl_is_valid(const char *p, size_t n)
{
	if (n == 0 || n >= UIDL_SIZE)
		return false;
	while (n > 0 && p[n - 1] >= 0x21 && p[n - 1] <= 0x7e)
		n--;
	return n == 0;
}
