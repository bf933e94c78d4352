/*
 * Hashes headers and bodies so that LF and CRLF give the same hash; pure
 * computation.
 *
 * Runs as the owner of the mailbox, on bytes from any sender.
 *
 * The hash of a body leaves out all line ends at the end of the body. So the
 * hash does not depend on the empty line that separates two messages. It also
 * stays the same if a program ends an unfinished last line before it appends
 * another message.
 *
 * The hashes are XXH3. A cryptographic hash would take more than half of the
 * time of a scan. A sender who knows XXH3 can make two messages with the same
 * hash. kpopd treats such messages as equal: they get different ids, and a
 * removal removes as many of them as are marked.
 */
#include "config.h"

#include <string.h>

#include "mbox-hash.h"

/*
 * The seed may be any constant, but must never change, because indexes and
 * unique ids contain hashes that were made with it.
 */
#define BODY_SEED 0x6b706f70642d6d62

void
hash_header_begin(struct hash_header *h)
{
	h->held_cr = false;
	XXH3_128bits_reset(&h->state);
}

void
hash_header_end(const struct hash_header *h, unsigned char id[UIDL_HASH])
{
	XXH128_canonical_t digest;

	XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(&h->state));
	memcpy(id, digest.digest, UIDL_HASH);
}

void
hash_body_begin(struct hash_body *h)
{
	h->held_cr = false;
	h->held_lf = 0;
	XXH3_64bits_reset_withSeed(&h->state, BODY_SEED);
}

/* Hashes the line ends that were held back, because text follows them. */
static void
hash_held_line_ends(struct hash_body *h)
{
	static const char lf[] = "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n";

	while (h->held_lf > 0) {
		size_t n = sizeof(lf) - 1;

		if (h->held_lf < n)
			n = (size_t)h->held_lf;
		XXH3_64bits_update(&h->state, lf, n);
		h->held_lf -= n;
	}
}

/*
 * Hashes a part of a line, without its LF. Holds back a CR at the end of the
 * part, because an LF may follow.
 */
static void
hash_text(struct hash_body *h, const char *p, size_t n)
{
	bool cr = n > 0 && p[n - 1] == '\r';

	if (n == 0)
		return;
	if (h->held_cr || n > 1 || !cr)
		hash_held_line_ends(h);
	if (h->held_cr)
		XXH3_64bits_update(&h->state, "\r", 1);
	XXH3_64bits_update(&h->state, p, n - cr);
	h->held_cr = cr;
}

/*
 * Hashes a part of the body in one piece. The part must contain no CR, and the
 * byte before it must not be a CR. Holds back the line ends at the end of the
 * part.
 */
static void
hash_without_cr(struct hash_body *h, const char *p, size_t n)
{
	size_t lf = 0;

	while (lf < n && p[n - lf - 1] == '\n')
		lf++;
	if (lf < n) {
		hash_held_line_ends(h);
		XXH3_64bits_update(&h->state, p, n - lf);
	}
	h->held_lf += lf;
}

void
hash_body_add(struct hash_body *h, const char *p, size_t n)
{
	const char *end = p + n, *lf;

	if (!h->held_cr && memchr(p, '\r', n) == NULL) {
		hash_without_cr(h, p, n);
		return;
	}
	while (p < end && (lf = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		hash_text(h, p, (size_t)(lf - p));
		h->held_cr = false;
		h->held_lf++;
		p = lf + 1;
	}
	hash_text(h, p, (size_t)(end - p));
}

uint64_t
hash_body_end(struct hash_body *h)
{
	uint64_t hash;

	/*
	 * Hash the held CR, because no LF follows it. hash_text does this only
	 * when it gets more text, so give it a second CR. It holds that CR
	 * back, and the second CR is never hashed.
	 */
	if (h->held_cr)
		hash_text(h, "\r", 1);
	hash = XXH3_64bits_digest(&h->state);
	return hash != 0 ? hash : 1;
}
