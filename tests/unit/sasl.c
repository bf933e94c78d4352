/*
 * Unit tests of sasl_ap_req. The function must find the AP-REQ in a first token
 * of Kerberos. It must refuse every token that GSSAPI could parse in another
 * way than this function.
 *
 * Runs as any user.
 */
#include "config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sasl.h"
#include "tests/unit/check.h"

#define HEAD "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x01\x00"
#define HEAD_SIZE 13

static unsigned char token[70000];

/*
 * Makes a token with an AP-REQ of n bytes. If the argument "bytes" is 0, the
 * token's length field has the short form. If not, it has the long form, with
 * this number of bytes after the first byte. Returns the token's size.
 */
static size_t
make_token(size_t bytes, size_t n)
{
	size_t at = 0, size = HEAD_SIZE + n;

	token[at++] = 0x60;
	token[at++] = (unsigned char)(bytes == 0 ? size : 0x80 | bytes);
	for (size_t i = bytes; i > 0; i--)
		token[at++] =
		    (unsigned char)(i > sizeof(size) ? 0 : size >> 8 * (i - 1));
	memcpy(token + at, HEAD, HEAD_SIZE);
	memset(token + at + HEAD_SIZE, 'a', n);
	return at + size;
}

/*
 * Returns the size of the AP-REQ in the first n bytes of the token. Returns 0
 * if there is no AP-REQ. Uses a copy of exactly n bytes, so that a sanitizer
 * detects a read after the end.
 */
static size_t
found(size_t n)
{
	unsigned char *copy = malloc(n + 1);
	const void *ap_req;
	size_t size;

	CHECK(copy != NULL);
	memcpy(copy + 1, token, n);
	if (sasl_ap_req(copy + 1, n, &ap_req, &size) == -1)
		size = 0;
	else
		CHECK((const unsigned char *)ap_req + size == copy + 1 + n &&
		    memchr(ap_req, 'a', size) == ap_req);
	free(copy);
	return size;
}

int
main(void)
{
	static const size_t sizes[] = { 1, 100, 114, 115, 116, 242, 243, 1000,
		65522, 65523, 69000 };
	size_t n;

	/* Only the shortest form of the length is accepted. */
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		size_t all = HEAD_SIZE + sizes[i];

		for (size_t bytes = 0; bytes <= 9; bytes++) {
			size_t least = all < 128 ? 0 :
			    all < 256            ? 1 :
			    all < 65536          ? 2 :
						   3;

			n = make_token(bytes, sizes[i]);
			CHECK(found(n) == (bytes == least ? sizes[i] : 0));
		}
	}
	n = make_token(2, 1000);
	/* The token is truncated or is followed by other bytes. */
	for (size_t size = 0; size < n; size++)
		CHECK(found(size) == 0);
	CHECK(found(n + 1) == 0 && found(n) == 1000);
	/* The token is refused if any bit of its head is changed. */
	for (size_t at = 0; at < 4 + HEAD_SIZE; at++)
		for (int bit = 0; bit < 8; bit++) {
			token[at] ^= (unsigned char)(1 << bit);
			CHECK(found(n) == 0);
			token[at] ^= (unsigned char)(1 << bit);
		}
	/* The AP-REQ is empty. */
	n = make_token(0, 0);
	CHECK(found(n) == 0);
	return 0;
}
