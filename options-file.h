/* The lines of the file of options: see options-file.c. */
#ifndef OPTIONS_FILE_H
#define OPTIONS_FILE_H

#include <stdbool.h>

#define OPTIONS_FILE_MOST 65536 /* bytes of the file */

/* The file in memory. */
struct options_file {
	const char *problem; /* why it cannot be used; NULL: no reason */
	/* the line of the problem, else of the last word; 0: the whole file */
	unsigned line;
	char *next, *end; /* the lines that are not read yet */
	char text[OPTIONS_FILE_MOST];
};

/*
 * Reads a file, which must be root's and writable only by root, into memory. If
 * it is optional, its path is absolute and shorter than PATH_MAX, and an absent
 * file counts as one without a word. Returns true, or false with f->problem.
 */
bool options_file_read(struct options_file *f, const char *path, bool optional);

/*
 * Returns true and the word and the argument (NULL: none) of the next line that
 * has a word; both are valid as long as f. For a line that has not the form of
 * one, returns true with a word of NULL, and f->problem. Returns false at the
 * end.
 */
bool options_file_next(struct options_file *f, const char **word,
    const char **argument);

#endif
