/* The lines of the file of options: see options-file.c. */
#ifndef OPTIONS_FILE_H
#define OPTIONS_FILE_H

#include <stdbool.h>

#define OPTIONS_FILE_MOST 65536 /* bytes of the file */

/* The file in memory. */
struct options_file {
	const char *problem; /* why it cannot be used; NULL: it can be used */
	/*
	 * number of the line that has the problem, or that was read last if
	 * there is no problem; 0: the problem is of the whole file
	 */
	unsigned line;
	char *next, *end; /* the lines that are not read yet */
	char text[OPTIONS_FILE_MOST];
};

/*
 * Reads a file, which must be root's and writable only by root, into memory. If
 * optional is true, an absent file counts as a file without words. In this case
 * the path must be absolute and shorter than PATH_MAX. Returns true, or false
 * with f->problem.
 */
bool options_file_read(struct options_file *f, const char *path, bool optional);

/*
 * Looks for the next line that has a word. Returns true, and stores the word
 * and its argument (NULL: none), which are valid as long as *f. If the line is
 * malformed, returns true with NULL as the word, and sets f->problem. Returns
 * false at the end of the file.
 */
bool options_file_next(struct options_file *f, const char **word,
    const char **argument);

#endif
