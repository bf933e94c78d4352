/* Compares locks of other mail programs with kpopd's: see check-compare.c. */
#ifndef CHECK_COMPARE_H
#define CHECK_COMPARE_H

#include <stdbool.h>

#include "check-program.h"
#include "lock.h"

struct check;

/* Returns the bit of a kind in a set of locks. */
unsigned compare_bit(enum lock_kind kind);

/*
 * Returns the set of locks that a text names, in the words of any mail program.
 */
unsigned compare_read(const char *text);

/*
 * Compares the locks of a program with those that kpopd takes, and prints a
 * line. activity is what the program does with them: "delivers with", "reads
 * with". Two programs exclude each other if they have a lock in common.
 */
void compare_locks(struct check *c, const char *program, const char *activity,
    unsigned theirs, unsigned ours);

/* Returns the set of locks that -l names. */
unsigned compare_wanted(const struct check *c);

/*
 * Returns a sentence that has kpopd take these locks: a remedy, valid as that
 * of check_remedy.
 */
const char *compare_advise(struct check *c, unsigned set);

/*
 * Runs a program of another package. Returns true with what it prints. Prints a
 * line if the program is installed but fails.
 */
bool compare_ask(struct check *c, const char *const argv[],
    char text[PROGRAM_OUTPUT]);

/*
 * Copies the value of the line "NAME = VALUE" of a text; "" if there is none.
 * Returns value.
 */
const char *compare_find_setting(const char *text, const char *name,
    char value[256]);

/*
 * Returns true if the path is in this directory, however both are spelled. Only
 * the part of the path before its first "$" counts.
 */
bool compare_is_in_directory(const char *path, const char *directory);

#endif
