/*
 * Finds line ends and empty lines, 64 bytes at a time; pure computation.
 *
 * Runs as the owner of the mailbox, on bytes from any sender.
 *
 * Searching for one LF after another is slow if lines are short. So 64 bytes at
 * a time are turned into masks of 64 bits, with one bit for each byte. One mask
 * marks the LFs, one the CRs, and one, if it is needed, the Fs. If a mask is
 * shifted by one bit, the bit of each byte describes the byte before. So LF &
 * CR << 1 are the LFs that follow a CR, and F & LF << 1 are the Fs that begin a
 * line. struct lines keeps the bits of the preceding bytes, so the caller may
 * split the text anywhere.
 *
 * kpopd checks at run time whether the machine has AVX2. With AVX2 a mask takes
 * a few instructions. Without AVX2 a mask is computed from eight bytes at a
 * time. The C library is asked for AVX2, because it has already executed CPUID.
 * The compiler's own test would execute CPUID again at the start of each kpopd,
 * which takes 4 us each time on a virtual machine.
 */
#include "config.h"

#include <endian.h>
#include <string.h>
/* glibc has this header since 2.33. */
#if defined(__x86_64__) && __has_include(<sys/platform/x86.h>)
#include <sys/platform/x86.h>

#include <immintrin.h>
#define HAS_AVX2 true
#endif

#include "mbox-lines.h"

#define WORD 64 /* bytes for one mask */

/*
 * Returns a mask of the WORD bytes at p: a bit is 1 if its byte is c. Bit 0 is
 * the first byte.
 */
typedef uint64_t mask_function(const char *p, char c);

/* Returns a mask of the 8 bytes of x: a bit is 1 if its byte is c. */
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
mask_portably(const char *p, char c)
{
	uint64_t mask = 0, x;

	for (int i = 0; i < WORD; i += 8) {
		memcpy(&x, p + i, sizeof(x));
		mask |= equal_bytes(le64toh(x), (unsigned char)c) << i;
	}
	return mask;
}

/* Passes over n bytes, whose masks are the lowest n bits of lf and cr. */
static inline void
advance(struct lines *l, uint64_t lf, uint64_t cr, size_t n)
{
	if (n == WORD)
		*l = (struct lines){ .lf = lf, .cr = cr };
	else if (n > 0)
		*l = (struct lines){ .lf = l->lf >> n | lf << (WORD - n),
			.cr = l->cr >> n | cr << (WORD - n) };
}

/*
 * Passes over [p, p + n). If to_from is true, stops at the F at which
 * lines_until_from stops. The function is always inlined, so that each caller
 * gets a copy in which mask_of is inlined, too.
 */
static inline __attribute__((always_inline)) size_t
pass_words(struct lines *l, const char *p, size_t n, uint64_t *bare,
    bool to_from, mask_function *mask_of)
{
	struct lines now = *l;
	char last[WORD] = { 0 };
	uint64_t count = 0;
	size_t at = 0;

	while (at < n) {
		size_t some = n - at < WORD ? n - at : WORD;
		const char *word =
		    some == WORD ? p + at : memcpy(last, p + at, some);
		uint64_t lf = mask_of(word, '\n'), cr = mask_of(word, '\r'),
			 from = 0;
		uint64_t before = lf << 1 | now.lf >> 63; /* after an LF */
		uint64_t ends = lf & ~(cr << 1 | now.cr >> 63);

		if (to_from) {
			uint64_t empty = lf &
			    (before |
				((cr << 1 | now.cr >> 63) &
				    (lf << 2 | now.lf >> 62)));

			from = empty << 1 | lines_after_empty(&now);
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
lines_until_from_portable(struct lines *l, const char *p, size_t n,
    uint64_t *bare)
{
	return pass_words(l, p, n, bare, true, mask_portably);
}

#ifdef HAS_AVX2
#define FAST __attribute__((target("avx2,popcnt,bmi")))

static inline FAST uint64_t
mask_fast(const char *p, char c)
{
	__m256i want = _mm256_set1_epi8(c);
	__m256i low = _mm256_loadu_si256((const __m256i_u *)p);
	__m256i high = _mm256_loadu_si256((const __m256i_u *)(p + WORD / 2));
	uint32_t a =
	    (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(low, want));
	uint32_t b =
	    (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(high, want));

	return (uint64_t)b << 32 | a;
}

static FAST size_t
pass_words_fast(struct lines *l, const char *p, size_t n, uint64_t *bare,
    bool to_from)
{
	return to_from ? pass_words(l, p, n, bare, true, mask_fast) :
			 pass_words(l, p, n, bare, false, mask_fast);
}

/* 1: this machine has what pass_words_fast needs; -1: it has not; 0: unknown */
static int answer;

/* Sets answer. It is not inlined, so has_fast stays small. */
static __attribute__((noinline)) void
ask(void)
{
	answer = CPU_FEATURE_ACTIVE(AVX2) && CPU_FEATURE_ACTIVE(POPCNT) &&
		CPU_FEATURE_ACTIVE(BMI1) ?
	    1 :
	    -1;
}

/*
 * Returns true if this machine has what pass_words_fast needs. Asks only once,
 * because this function is called for each line.
 */
static inline bool
has_fast(void)
{
	if (answer == 0)
		ask();
	return answer > 0;
}
#else
#define pass_words_fast(l, p, n, bare, to_from)                                \
	pass_words(l, p, n, bare, to_from, mask_portably)
#define has_fast() false
#endif

size_t
lines_until_from(struct lines *l, const char *p, size_t n, uint64_t *bare)
{
	return has_fast() ? pass_words_fast(l, p, n, bare, true) :
			    lines_until_from_portable(l, p, n, bare);
}

uint64_t
lines_bare(struct lines *l, const char *p, size_t n)
{
	uint64_t bare = 0;

	if (has_fast())
		pass_words_fast(l, p, n, &bare, false);
	else
		pass_words(l, p, n, &bare, false, mask_portably);
	return bare;
}
