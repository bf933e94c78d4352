/*
 * Looks at line ends, 64 bytes at a time; pure computation.
 *
 * Runs as the owner of the mailbox. Each 64 bytes become words with a bit for
 * every LF, CR and, where it matters, F; shifted against each other they say where a CR
 * stands before an LF and where an F stands behind an empty line. What passes
 * over the edge of a word is kept in struct lines, so that it does not matter
 * where the bytes are cut.
 *
 * On x86-64 with AVX2, asked for when the program runs, a word costs
 * four instructions; elsewhere it is made of eight words of eight bytes.
 */
#include "config.h"

#include <endian.h>
#include <string.h>
#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "mbox-lines.h"

#define WORD 64 /* bytes looked at together */

/* Which of 64 bytes are a given one: bit 0 is the first byte. */
typedef uint64_t look(const char *, char);

/* The bytes of x that are c, as the lowest bits. */
static inline uint64_t
equal_bytes(uint64_t x, unsigned char c)
{
	const uint64_t ones = 0x0101010101010101, low = 0x7f7f7f7f7f7f7f7f;
	uint64_t zero;

	x ^= ones * c;
	zero = ~(((x & low) + low) | x | low) >> 7;
	return zero * 0x0102040810204080 >> 56;
}

static inline uint64_t
look_portably(const char *p, char c)
{
	uint64_t mask = 0, x;

	for (int i = 0; i < WORD; i += 8) {
		memcpy(&x, p + i, sizeof(x));
		mask |= equal_bytes(le64toh(x), (unsigned char)c) << i;
	}
	return mask;
}

static inline void
advance(struct lines *l, uint64_t lf, uint64_t cr, size_t n)
{
	if (n == WORD)
		*l = (struct lines){ .lf = lf, .cr = cr };
	else if (n > 0)
		*l = (struct lines){ .lf = l->lf >> n | lf << (WORD - n),
			.cr = l->cr >> n | cr << (WORD - n) };
}

/* The walk; each of its copies below has the look that it is given built in. */
static inline __attribute__((always_inline)) size_t
walk(struct lines *l, const char *p, size_t n, uint64_t *bare, bool to_from, look *mask_of)
{
	struct lines now = *l;
	char last[WORD] = { 0 };
	uint64_t count = 0;
	size_t at = 0;

	while (at < n) {
		size_t some = n - at < WORD ? n - at : WORD;
		const char *word = some == WORD ? p + at : memcpy(last, p + at, some);
		uint64_t lf = mask_of(word, '\n'), cr = mask_of(word, '\r'), from = 0;
		uint64_t before = lf << 1 | now.lf >> 63; /* behind an LF */
		uint64_t ends = lf & ~(cr << 1 | now.cr >> 63);

		if (to_from) {
			uint64_t empty = lf & (before | ((cr << 1 | now.cr >> 63) & (lf << 2 | now.lf >> 62)));

			from = empty << 1 | lines_behind_empty(&now);
			if (from != 0)
				from &= mask_of(word, 'F');
			if (from != 0)
				some = (size_t)__builtin_ctzll(from);
		}
		if (some < WORD)
			ends &= ((uint64_t)1 << some) - 1;
		count += (uint64_t)__builtin_popcountll(ends);
		advance(&now, lf, cr, some);
		at += some;
		if (from != 0)
			break;
	}
	*l = now;
	*bare += count;
	return at;
}

size_t
lines_until_from_portable(struct lines *l, const char *p, size_t n, uint64_t *bare)
{
	return walk(l, p, n, bare, true, look_portably);
}

#ifdef __x86_64__
#define FAST __attribute__((target("avx2,popcnt,bmi")))

static inline FAST uint64_t
look_fast(const char *p, char c)
{
	__m256i want = _mm256_set1_epi8(c);
	__m256i low = _mm256_loadu_si256((const __m256i_u *)p);
	__m256i high = _mm256_loadu_si256((const __m256i_u *)(p + WORD / 2));
	uint32_t a = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, want));
	uint32_t b = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(high, want));

	return (uint64_t)b << 32 | a;
}

static FAST size_t
walk_fast(struct lines *l, const char *p, size_t n, uint64_t *bare, bool to_from)
{
	return to_from ? walk(l, p, n, bare, true, look_fast) :
			 walk(l, p, n, bare, false, look_fast);
}

static bool
is_fast(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt") &&
	    __builtin_cpu_supports("bmi");
}
#else
#define walk_fast(l, p, n, bare, to_from) walk(l, p, n, bare, to_from, look_portably)
#define is_fast() false
#endif

size_t
lines_until_from(struct lines *l, const char *p, size_t n, uint64_t *bare)
{
	return is_fast() ? walk_fast(l, p, n, bare, true) :
			   lines_until_from_portable(l, p, n, bare);
}

uint64_t
lines_bare(struct lines *l, const char *p, size_t n)
{
	uint64_t bare = 0;

	if (is_fast())
		walk_fast(l, p, n, &bare, false);
	else
		walk(l, p, n, &bare, false, look_portably);
	return bare;
}
