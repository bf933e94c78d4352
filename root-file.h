/* A configuration file of root's, line by line: see root-file.c. */
#ifndef ROOT_FILE_H
#define ROOT_FILE_H

#include <stdbool.h>

/* The file in memory. */
struct root_file {
	const char *problem; /* why it cannot be used; NULL: it can be used */
	/*
	 * number of the line that has the problem, or that was read last if
	 * there is no problem; 0: the problem is of the whole file
	 */
	unsigned line;
	char *text;       /* allocated */
	char *next, *end; /* the lines that are not read yet */
	char too_large[40];
};

/*
 * Reads a file, which must be root's and writable only by root, into memory. It
 * may have at most this many KiB. If optional is true, an absent file counts as
 * a file without lines. In this case the path must be absolute and shorter than
 * PATH_MAX. Returns true; root_file_free then frees the memory. Returns false
 * with f->problem.
 */
bool root_file_read(struct root_file *f, const char *path, unsigned kib,
    bool optional);

struct stat;

/*
 * For a file that a library reads. Stores its status in *st: zeros if it is
 * absent. If it may still be written, first waits a tenth of a second at most.
 * The file has not changed while it was read if a second call stores the same
 * size, mtime and inode.
 */
void root_file_settle(const char *path, struct stat *st);

/*
 * Finds the next line that is neither empty nor a comment ("#"). Returns true,
 * and stores the line in *line, without blanks and tabs at its beginning and
 * end, and with a NUL in place of its line feed; it is valid as long as *f. If
 * the line is malformed, returns true with *line = NULL, and sets f->problem.
 * Returns false at the end of the file.
 */
bool root_file_line(struct root_file *f, char **line);

/*
 * Finds the next word of a line, from *rest on, and moves *rest to the word
 * after it. Puts a NUL at the end of the word. Returns NULL if there is none.
 */
char *root_file_word(char **rest);

/*
 * Copies a file of which no line was read yet, because reading changes the
 * text. Returns true; root_file_free then frees the copy. Returns false with
 * copy->problem if there is no memory.
 */
bool root_file_copy(struct root_file *copy, const struct root_file *f);

/* Frees the memory of the file. */
void root_file_free(struct root_file *f);

#endif
