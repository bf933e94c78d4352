/* Paths in the lines of kpopd --check: see check-path.c. */
#ifndef CHECK_PATH_H
#define CHECK_PATH_H

#include <stdbool.h>

#include "check.h"

/* Bytes of a word of the shell with its NUL. A remedy has room for two. */
#define CHECK_WORD 200

/* A word of the shell. */
struct check_word {
	char text[CHECK_WORD];
};

/*
 * Quotes a text, so that a shell takes it for one word, whatever bytes it has.
 * Returns w->text, which is "PATH" if the word is too long.
 */
const char *check_quote(struct check_word *w, const char *text);

/*
 * Checks the directories that lead to an absolute path: only root may be able
 * to change a name in them. Prints a warning for each other one. Returns false
 * if one of them cannot be searched, with errno, and prints nothing about it.
 */
bool check_parents(struct check *c, const char *path);

#endif
