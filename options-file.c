/*
 * Splits the lines of the file of options into words and arguments.
 *
 * Runs as root, before the process reads anything from the client: in main, and
 * in the listener at SIGHUP. options.c looks the words up in the table of
 * options-table.c.
 */
#include "config.h"

#include <ctype.h>
#include <stddef.h>

#include "options-file.h"
#include "root-file.h"

bool
options_file_next(struct root_file *f, const char **word, const char **argument)
{
	char *line, *end, *rest;

	*word = *argument = NULL;
	if (!root_file_line(f, &line))
		return false;
	if (line == NULL)
		return true;
	for (end = line; isalnum((unsigned char)*end) || *end == '-'; end++)
		;
	rest = line;
	root_file_word(&rest);
	/*
	 * -f may name a file that is not a file of options, so the line is not
	 * shown.
	 */
	if (end == line || *end != '\0') {
		f->problem = "a line is NAME or NAME ARGUMENT, "
			     "with a blank between them";
		return true;
	}
	*word = line;
	if (*rest != '\0')
		*argument = rest;
	return true;
}
