/*
 * Fuzz target: reads what another server has left in a mailbox: the header of a
 * message (uidl-trace.c), lines of dovecot-uidlist and courierpop3dsizelist,
 * and a format of ids (uidl-scheme.c).
 *
 * Input: one byte that chooses what is read, one for a size, and the text. What
 * is found must lie within the text and have the right form. The pieces in
 * which a header is read must not change what is found.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"
#include "uidl-courier.h"
#include "uidl-dovecot.h"
#include "uidl-scheme.h"
#include "uidl-trace.h"

#define LEAST_PIECE 40 /* more bytes than the longest field name */
#define MOST_UID 1000

/* Reads a header in pieces of this size. Returns its hash. */
static void
read_in_pieces(struct trace *t, enum trace_hash whose, bool at_front,
    const char *text, size_t n, size_t piece, char hash[TRACE_HASH_TEXT])
{
	size_t at = 0;

	trace_begin(t, whose, at_front);
	if (!at_front)
		trace_accept(t, 5, MOST_UID);
	while (at < n && !t->is_complete) {
		size_t size = n - at < piece ? n - at : piece;
		size_t used = trace_read(t, text + at, size, at + size == n);

		if (used == 0)
			used = trace_read(t, text + at, size, true);
		HOLDS(used > 0 && used <= size);
		at += used;
	}
	trace_end(t, hash);
}

/* A longer line is read in parts, so its value may be cut. */
static bool
has_long_line(const char *text, size_t n, size_t piece)
{
	size_t length = 0;

	for (size_t i = 0; i < n; i++) {
		length = text[i] == '\n' ? 0 : length + 1;
		if (length >= piece)
			return true;
	}
	return false;
}

static void
read_trace(const char *text, size_t n, uint8_t choice, size_t piece)
{
	const enum trace_hash whose = (enum trace_hash)(choice / 2 % 3);
	const bool at_front = (choice & 1) != 0;
	char hash[TRACE_HASH_TEXT], other[TRACE_HASH_TEXT];
	struct trace t, u;

	read_in_pieces(&t, whose, at_front, text, n, n + 1, hash);
	HOLDS(strlen(hash) == (whose == TRACE_POPA3D ? 16 : 32));
	HOLDS(t.x_uidl[0] == '\0' || uidl_is_valid(t.x_uidl, strlen(t.x_uidl)));
	HOLDS(t.validity != 0 || !at_front || t.uid == 0);
	HOLDS(at_front || t.validity == 0);
	if (at_front)
		HOLDS(t.uid <= t.last && t.last <= TRACE_UID_MOST);
	else
		HOLDS(t.uid == 0 || (t.uid >= 5 && t.uid <= MOST_UID));
	fuzz_let_in += t.uid != 0;
	if (has_long_line(text, n, piece))
		return;
	read_in_pieces(&u, whose, at_front, text, n, piece, other);
	HOLDS(strcmp(hash, other) == 0 && strcmp(t.x_uidl, u.x_uidl) == 0);
	HOLDS(t.uid == u.uid && t.validity == u.validity && t.last == u.last);
}

/* Returns true if the bytes are absent or within the text. */
static bool
is_within(const struct dovecot_bytes *b, const char *text, size_t n)
{
	return b->at == NULL ||
	    (b->at >= text && b->n <= n && b->at + b->n <= text + n);
}

static void
read_dovecot(const char *text, size_t n, uint8_t choice)
{
	struct dovecot_head h = { .version = 0 };
	struct dovecot_line l;

	if (dovecot_read_head(&h, text, n))
		HOLDS((h.version == 1 || h.version == 3) && h.validity != 0);
	h.version = (choice & 1) != 0 ? 1 : 3;
	if (!dovecot_read_line(&l, &h, text, n))
		return;
	fuzz_let_in++;
	HOLDS(l.uid != 0 && l.name.n > 0 &&
	    memchr(l.name.at, ':', l.name.n) == NULL);
	HOLDS(is_within(&l.name, text, n) && is_within(&l.uidl, text, n) &&
	    is_within(&l.guid, text, n));
}

static void
read_courier(const char *text, size_t n)
{
	size_t name = courier_name(text, n);
	char id[UIDL_SIZE];

	courier_is_head(text, n);
	HOLDS(name <= n && memchr(text, ':', name) == NULL);
	if (!courier_id(text, n, id))
		return;
	fuzz_let_in++;
	HOLDS(name > 0 && uidl_is_valid(id, strlen(id)));
}

static void
read_format(const char *text, size_t n)
{
	const struct scheme_values values = { 4000000000, UINT32_MAX,
		"001bd5d7aebfd91beecc39d24f2abc9e", "1.M1P1.host", "guid" };
	char scheme[300], id[UIDL_SIZE];
	struct uidl_scheme s;

	if (n >= sizeof(scheme))
		return;
	memcpy(scheme, text, n);
	scheme[n] = '\0';
	if (scheme_read(&s, scheme) == -1 || s.format == NULL)
		return;
	fuzz_let_in++;
	HOLDS(scheme_uses(&s, "umfg"));
	HOLDS(!scheme_write(&s, &values, id) || uidl_is_valid(id, strlen(id)));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t choice = input_byte(&in);
	size_t piece = LEAST_PIECE + input_byte(&in), n = in.left;
	/* A copy of exactly this size, so that ASan sees each byte too many. */
	char *text = malloc(n + (n == 0));

	HOLDS(text != NULL);
	if (n > 0)
		memcpy(text, input_take(&in, &n), n);
	switch (choice % 4) {
	case 0:
		read_trace(text, n, choice / 4, piece);
		break;
	case 1:
		read_dovecot(text, n, choice / 4);
		break;
	case 2:
		read_courier(text, n);
		break;
	default:
		read_format(text, n);
	}
	free(text);
	return 0;
}
