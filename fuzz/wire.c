/*
 * Fuzz target: wire.c with any message in pieces of any size.
 *
 * Input: two bytes that select the pieces, one byte for the number of lines of
 * TOP, then the message. The target checks that the pieces do not change the
 * result, and that RETR sends the number of bytes in LIST. Without the
 * dot-stuffing, the result must be the message with CRLF line ends. No line of
 * the result may be a single dot. TOP must send the beginning of what RETR
 * sends: the header and the requested number of lines.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "wire.h"

/*
 * Converts the message in pieces of n bytes. If n is 0, the pieces are random.
 * Writes the result to out[], and returns its size.
 */
static size_t
convert(struct wire *w, const char *text, size_t size, size_t n,
    uint32_t random, char *out)
{
	size_t m = 0;

	while (size > 0 && !w->done) {
		size_t piece = n > 0 ? n : 1 + fuzz_random(&random) % 17, put;

		if (piece > size)
			piece = size;
		put = wire_put(w, text, piece, out == NULL ? NULL : out + m);
		HOLDS(put <= 2 * piece);
		m += put;
		text += piece;
		size -= piece;
	}
	return m + wire_end(w, out == NULL ? NULL : out + m);
}

/*
 * Writes the message to out[] with CRLF line ends. The last line also gets a
 * line end. Returns the number of bytes written.
 */
static size_t
with_crlf(const char *text, size_t size, char *out)
{
	size_t m = 0;

	for (size_t i = 0; i < size; i++) {
		if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r'))
			out[m++] = '\r';
		out[m++] = text[i];
	}
	if (size > 0 && text[size - 1] != '\n') {
		out[m++] = '\r';
		out[m++] = '\n';
	}
	return m;
}

/*
 * Removes the dot-stuffing in place, as a client does. Returns the number of
 * bytes that are left.
 */
static size_t
unstuffed(char *text, size_t size)
{
	bool begins = true, cr = false;
	size_t m = 0;

	for (size_t i = 0; i < size; i++) {
		/* A line with a single dot would be the end of the message. */
		if (begins && text[i] == '.')
			HOLDS(i + 1 < size && text[++i] == '.');
		HOLDS(text[i] != '\n' || cr);
		begins = text[i] == '\n';
		cr = text[i] == '\r';
		text[m++] = text[i];
	}
	return m;
}

/*
 * Returns the offset at which TOP with the given number of lines ends in the n
 * bytes of RETR.
 */
static size_t
top_end(const char *text, size_t n, size_t lines)
{
	bool in_body = false;
	size_t at = 0;

	while (at < n && !(in_body && lines == 0)) {
		const char *lf = memchr(text + at, '\n', n - at);
		size_t length = (size_t)(lf + 1 - (text + at));

		HOLDS(lf != NULL);
		if (in_body)
			lines--;
		else
			in_body = length == 2;
		at += length;
	}
	return at;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t pieces = (uint32_t)input_below(&in, 65536);
	size_t lines = input_byte(&in) % 8, n = in.left, whole, m, top;
	const char *text = (const char *)in.at;
	char *out = malloc(6 * n + 6), *other = malloc(3 * n + 6),
	     *plain = other;
	struct wire w;

	HOLDS(out != NULL && other != NULL);
	wire_init(&w, WIRE_ALL);
	whole = convert(&w, text, n, n > 0 ? n : 1, 0, out);
	HOLDS(whole <= 2 * n + 2);
	for (size_t piece = 0; piece < 2; piece++) {
		struct wire again;

		wire_init(&again, WIRE_ALL);
		HOLDS(convert(&again, text, n, piece, pieces, other) == whole);
		HOLDS(memcmp(out, other, whole) == 0 &&
		    again.wire_size == w.wire_size);
		wire_init(&again, WIRE_ALL);
		HOLDS(convert(&again, text, n, piece, pieces, NULL) == whole &&
		    again.wire_size == w.wire_size);
	}
	wire_init(&w, lines);
	top = convert(&w, text, n, 0, pieces, other);
	HOLDS(top == top_end(out, whole, lines) &&
	    memcmp(out, other, top) == 0);
	wire_init(&w, WIRE_ALL);
	convert(&w, text, n, 7, 0, NULL);
	m = unstuffed(out, whole);
	HOLDS(m == w.wire_size && m == with_crlf(text, n, plain) &&
	    memcmp(out, plain, m) == 0);
	free(out);
	free(other);
	return 0;
}
