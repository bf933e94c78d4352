/* The words of the file of options: see options-file.c. */
#ifndef OPTIONS_FILE_H
#define OPTIONS_FILE_H

#include <stdbool.h>

struct root_file;

#define OPTIONS_FILE_KIB 64 /* the most that the file may have */

/*
 * Looks for the next line that has a word. Returns true, and stores the word
 * and its argument (NULL: none), which are valid as long as *f. If the line is
 * malformed, returns true with NULL as the word, and sets f->problem. Returns
 * false at the end of the file.
 */
bool options_file_next(struct root_file *f, const char **word,
    const char **argument);

#endif
