/*
 * Functions that all fuzz targets use (fuzz.c).
 *
 * A target is an entry function, linked with the project's objects. For each
 * input, the target checks conditions. If one is false, the target calls
 * abort().
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Runs the target with one input. The callers are libFuzzer and replay.c (for
 * AFL++ and for the corpus). Returns 0.
 */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HOLDS(what)                                                            \
	do {                                                                   \
		if (!(what))                                                   \
			fuzz_fail(__FILE__, __LINE__, #what);                  \
	} while (0)

_Noreturn void fuzz_fail(const char *file, int line, const char *what);

/*
 * If the sessions of a target may end by fatal(), fatal() jumps to *fuzz_end.
 * If fuzz_end is NULL, no input may lead to fatal().
 */
extern jmp_buf *fuzz_end;

/*
 * The number of inputs with a successful login. Some targets would also pass if
 * kpopd refused every input. These targets count the successful logins, and
 * tests/tools/corpus checks the count.
 */
extern unsigned fuzz_let_in;

/* The part of an input that is not used yet. */
struct input {
	const uint8_t *at;
	size_t left;
};

/* Returns the next byte of the input. Returns 0 after the end. */
uint8_t input_byte(struct input *in);

/* Returns the next two bytes, big-endian, modulo limit. */
size_t input_below(struct input *in, size_t limit);

/* Returns the address of the next *n bytes. If fewer are left, reduces *n. */
const uint8_t *input_take(struct input *in, size_t *n);

/*
 * Returns a pseudo-random number below 2^24, and changes *state. The number
 * depends only on *state.
 */
uint32_t fuzz_random(uint32_t *state);

/*
 * Returns the descriptor of a directory for this process, in memory if
 * possible. The directory is removed at exit.
 */
int fuzz_directory(void);

/* Returns the path of that directory. */
const char *fuzz_directory_name(void);

#endif
