/* Finds line ends, 64 bytes at a time: see mbox-lines.c. */
#ifndef MBOX_LINES_H
#define MBOX_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The last 64 bytes that were passed, with one bit for each. A bit of lf is 1
 * if its byte is an LF; a bit of cr is 1 if its byte is a CR. Bit 63 is the
 * last byte, bit 62 the byte before it.
 */
struct lines {
	uint64_t lf, cr;
};

/* The state before the first byte. It is the same as after an empty line. */
#define LINES_BEGIN ((struct lines){ .lf = (uint64_t)3 << 62 })

/* Returns true if the next byte begins a line. */
static inline bool
lines_at_begin(const struct lines *l)
{
	return l->lf >> 63 != 0;
}

/* Returns true if an empty line (LF or CRLF) has just ended. */
static inline bool
lines_after_empty(const struct lines *l)
{
	return lines_at_begin(l) &&
	    ((l->lf >> 62 & 1) != 0 ||
		((l->cr >> 62 & 1) != 0 && (l->lf >> 61 & 1) != 0));
}

/*
 * Returns true if the current line has bytes and has not ended. A CR alone does
 * not count, because it may be the first half of an empty line.
 */
static inline bool
lines_in_text(const struct lines *l)
{
	return !lines_at_begin(l) &&
	    !((l->cr >> 63) != 0 && (l->lf >> 62 & 1) != 0);
}

/* Passes over one byte that is neither LF nor CR. */
static inline void
lines_pass(struct lines *l)
{
	l->lf >>= 1;
	l->cr >>= 1;
}

/*
 * Passes over [p, p + n), up to the next 'F' that begins a line after an empty
 * line. Returns the number of bytes passed: the offset of that F, or n. Adds to
 * *bare the number of passed LFs that have no CR before them.
 */
size_t lines_until_from(struct lines *l, const char *p, size_t n,
    uint64_t *bare);

/*
 * Does what lines_until_from does, without the instructions that only some
 * machines have. It is public for the tests, which compare both.
 */
size_t lines_until_from_portable(struct lines *l, const char *p, size_t n,
    uint64_t *bare);

/*
 * Passes over all of [p, p + n). Returns the number of LFs in it that have no
 * CR before them.
 */
uint64_t lines_bare(struct lines *l, const char *p, size_t n);

#endif
