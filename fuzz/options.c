/*
 * Fuzzes the file of options with any file: options_file_read and
 * options_file_next, then the functions that read the arguments.
 *
 * Input: the file. Checks that the words and arguments are those of its lines,
 * and that every other line is empty or a comment; fuzz.c checks what is logged
 * about a mistake.
 */
#include "config.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "options-file.h"
#include "options.h"

static char path[256];

/* The file is root's, whoever runs this program. */
int __wrap_fstat(int, struct stat *);
int __real_fstat(int, struct stat *);
int
__wrap_fstat(int fd, struct stat *st)
{
	int result = __real_fstat(fd, st);

	st->st_uid = 0;
	return result;
}

int __wrap_lstat(const char *, struct stat *);
int __real_lstat(const char *, struct stat *);
int
__wrap_lstat(const char *name, struct stat *st)
{
	int result = __real_lstat(name, st);

	st->st_uid = 0;
	return result;
}

static void
write_file(const void *data, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	HOLDS(fd != -1 && write(fd, data, size) == (ssize_t)size);
	close(fd);
}

/* Makes the file, and reads it as kpopd does at its start. */
static void
begin(void)
{
	static char name[] = "kpopd", f[] = "-f";
	static struct options o;
	char *argv[] = { name, f, path, NULL };

	umask(022);
	fuzz_directory();
	snprintf(path, sizeof(path), "%s/f", fuzz_directory_name());
	write_file("#\n", 2);
	options_read(&o, 3, argv, false);
}

/*
 * Returns true if the text may be that of a file: whole lines of printable
 * characters, blanks and bytes above 127.
 */
static bool
is_text(const uint8_t *data, size_t size)
{
	if (size == 0 || size > OPTIONS_FILE_MOST || data[size - 1] != '\n')
		return false;
	for (size_t i = 0; i < size; i++)
		if (data[i] == 127 ||
		    (data[i] < 32 && data[i] != '\n' && data[i] != '\t'))
			return false;
	return true;
}

/* Returns true if the line, without its end, has nothing or a comment. */
static bool
is_without_word(const char *line, size_t n)
{
	while (n > 0 && (*line == ' ' || *line == '\t'))
		line++, n--;
	return n == 0 || *line == '#';
}

/*
 * Checks that the line is these two, with blanks around them and between, by
 * putting it together again.
 */
static void
check_word(const char *line, size_t n, const char *word, const char *argument)
{
	const char *end = line + n;
	size_t size = strlen(word);

	line += strspn(line, " \t");
	HOLDS(size > 0 && size <= (size_t)(end - line));
	HOLDS(memcmp(line, word, size) == 0);
	line += size;
	line += strspn(line, " \t");
	if (argument != NULL) {
		size = strlen(argument);
		HOLDS(size > 0 && strchr(" \t", argument[size - 1]) == NULL);
		HOLDS(strchr(" \t", line[-1]) != NULL);
		HOLDS(memcmp(line, argument, size) == 0);
		line += size;
		line += strspn(line, " \t");
	}
	HOLDS(line == end);
}

/* Checks what the reader makes of the text, line by line. */
static void
check_lines(const char *text)
{
	static struct options_file f;
	const char *word = NULL, *argument = NULL;
	unsigned line = 0;
	bool is_word;

	HOLDS(options_file_read(&f, path, false));
	do {
		is_word = options_file_next(&f, &word, &argument);
		while (*text != '\0' && line + 1 < f.line) {
			size_t n = strcspn(text, "\n");

			HOLDS(is_without_word(text, n));
			text += n + 1;
			line++;
		}
		if (!is_word)
			continue;
		check_word(text, strcspn(text, "\n"), word, argument);
		text += strcspn(text, "\n") + 1;
		line++;
	} while (is_word);
	if (f.problem == NULL && word != NULL)
		fuzz_let_in++;
	HOLDS(f.problem != NULL || f.line == line + (*text != '\0'));
	HOLDS((f.problem == NULL) ==
	    (*text == '\0' || is_without_word(text, strcspn(text, "\n"))));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char text[OPTIONS_FILE_MOST + 1];
	static struct options_file f;

	if (path[0] == '\0')
		begin();
	write_file(data, size);
	if (is_text(data, size)) {
		memcpy(text, data, size);
		text[size] = '\0';
		check_lines(text);
	} else
		HOLDS(!options_file_read(&f, path, false));
	options_have_changed();
	return 0;
}
