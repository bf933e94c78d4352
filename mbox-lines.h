/* Line ends in bytes, 64 at a time: see mbox-lines.c. */
#ifndef MBOX_LINES_H
#define MBOX_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The last 64 bytes seen, the last of all in bit 63: which were LF, which CR. */
struct lines {
	uint64_t lf, cr;
};

/* Before the first byte: a line begins, and an empty one might have ended (LF LF). */
#define LINES_BEGIN ((struct lines){ .lf = (uint64_t)3 << 62 })

/* Whether a line begins with the next byte. */
static inline bool
lines_at_begin(const struct lines *l)
{
	return l->lf >> 63 != 0;
}

/* Whether an empty line (LF or CRLF) has just ended. */
static inline bool
lines_behind_empty(const struct lines *l)
{
	return lines_at_begin(l) && ((l->lf >> 62 & 1) != 0 || ((l->cr >> 62 & 1) != 0 && (l->lf >> 61 & 1) != 0));
}

/* Returns true if a line has begun with more than a CR, which could be half of an empty line's end, and is not ended. */
static inline bool
lines_in_text(const struct lines *l)
{
	return !lines_at_begin(l) && !((l->cr >> 63) != 0 && (l->lf >> 62 & 1) != 0);
}

/* Passes one byte that is neither LF nor CR. */
static inline void
lines_pass(struct lines *l)
{
	l->lf >>= 1;
	l->cr >>= 1;
}

/*
 * Passes [p, p + n) up to the next 'F' that begins a line behind an empty
 * line. Returns how many bytes were passed: the place of that F, or n. *bare
 * grows by the LFs among them that no CR stands before.
 */
size_t lines_until_from(struct lines *l, const char *p, size_t n, uint64_t *bare);

/* As lines_until_from on any machine; the same byte by byte. For comparison. */
size_t lines_until_from_portable(struct lines *l, const char *p, size_t n, uint64_t *bare);

/* Passes all of [p, p + n) and returns how many LFs among them no CR stands before. */
uint64_t lines_bare(struct lines *l, const char *p, size_t n);

#endif
