/* The table of all options: see options-table.c. */
#ifndef OPTIONS_TABLE_H
#define OPTIONS_TABLE_H

#include <stddef.h>

#include "options.h"

#define TABLE_MOST 64 /* the most rows */

/* Where an option is allowed. */
enum {
	WITH_SERVER = 1,
	WITH_RECOVER = 2, /* --recover uses it, too */
	WITH_BOTH = 3,
	NOT_IN_FILE = 4,
	AT_ONCE = 8 /* read before all others; ends the process */
};

struct table_row {
	char letter;          /* '\0': only a long name */
	const char *name;     /* the long name, and the word of the file */
	const char *argument; /* NULL: takes none */
	int where;            /* WITH_... and so on */
	/* Reads the argument (NULL if it takes none). Returns 0 or -1. */
	int (*read)(struct options *o, const char *text);
	size_t field;      /* if read is NULL: the field that gets the text */
	const char *takes; /* for the message "-t takes ..., not ..." */
	const char *help;  /* lines of at most 71 bytes */
};

extern const struct table_row options_table[];
extern const size_t options_table_rows; /* the number of rows */

/* Returns the row with this long name, or NULL. */
const struct table_row *table_find(const char *name);

/* Sets all options but by_hand and check.user to their defaults. */
void table_set_defaults(struct options *o);

/* Prints the usage on standard error. */
void table_print_usage(void);

#endif
