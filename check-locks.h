/* Compares the locks of other mail programs with kpopd's: see check-locks.c. */
#ifndef CHECK_LOCKS_H
#define CHECK_LOCKS_H

#include <stdbool.h>

#include "check-program.h"

struct check;

/*
 * Returns the set of locks that a text names, in the words of any mail program:
 * a bit 1 << kind for each enum lock_kind.
 */
unsigned locks_read(const char *text);

/*
 * Compares the locks of a program with those that kpopd takes, and prints a
 * line. activity is what the program does with them: "delivers with", "reads
 * with". Two programs exclude each other if they have a lock in common.
 */
void locks_compare(struct check *c, const char *program, const char *activity,
    unsigned theirs, unsigned ours);

/*
 * Runs a program of another package. Returns true with what it prints.
 * Prints a line if the program is installed but fails.
 */
bool locks_ask(struct check *c, const char *const argv[],
    char text[PROGRAM_OUTPUT]);

/*
 * Copies the value of the line "NAME = VALUE" of a text; "" if there is none.
 * Returns value.
 */
const char *locks_find_setting(const char *text, const char *name,
    char value[256]);

/*
 * Returns true if the path is in this directory, however both are spelled. Only
 * the part of the path before its first "$" counts.
 */
bool locks_is_in_directory(const char *path, const char *directory);

#endif
