/*
 * What the fuzz targets share: see fuzz.c.
 *
 * A target is one entry function over the project's own objects. It ends by
 * abort() when something does not hold that has to hold for any input.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The entry that libFuzzer, AFL++ (by replay.c) and the replay of the corpus call. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(what)                                                \
	do {                                                       \
		if (!(what))                                       \
			fuzz_fail(__FILE__, __LINE__, #what);      \
	} while (0)

_Noreturn void fuzz_fail(const char *file, int line, const char *what);

/* Where a session that has to end may end: NULL, and no input may lead to fatal(). */
extern jmp_buf *fuzz_end;

/* How many inputs were let in, counted by those targets that could refuse all and still hold: tests/tools/corpus looks. */
extern unsigned fuzz_let_in;

/* The part of an input that is not used yet. */
struct input {
	const uint8_t *at;
	size_t left;
};

/* The next byte; 0 behind the end. */
uint8_t input_byte(struct input *in);

/* The next two bytes, the most significant first, as a number below limit. */
size_t input_below(struct input *in, size_t limit);

/* The next n bytes, or as many as are left: their place; *n is how many. */
const uint8_t *input_take(struct input *in, size_t *n);

/* Some number that depends on *state alone and changes it: for cuts and subsets. */
uint32_t fuzz_random(uint32_t *state);

/* A directory of this process, in memory where it can be, opened. Taken away at its end. */
int fuzz_directory(void);

/* Its name. */
const char *fuzz_directory_name(void);

#endif
