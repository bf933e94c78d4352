/*
 * Fuzzes the file of options with any file: root_file_read and
 * options_file_next, then the functions that read the arguments.
 *
 * Input: the file, which seems to belong to root (tests/unit/owner.c). Checks
 * that the words and arguments, or the mistake, are those of its lines. Checks
 * that every other line is empty or a comment. fuzz.c checks what is logged
 * about a mistake.
 */
#include "config.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "options-file.h"
#include "root-file.h"
#include "options.h"

static char path[256];

/* The file's time is long ago, so that the reader does not wait. */
static void
write_file(const void *data, size_t size)
{
	const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	HOLDS(fd != -1 && write(fd, data, size) == (ssize_t)size);
	HOLDS(futimens(fd, times) == 0);
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
	HOLDS(options_read(&o, 3, argv, false));
}

static bool
is_blank_byte(uint8_t c)
{
	return c == ' ' || c == '\t';
}

/*
 * Returns the first byte of the n of a line that is no blank; NULL if there is
 * none, or it begins a comment.
 */
static const uint8_t *
find_word(const uint8_t *line, size_t n)
{
	while (n > 0 && is_blank_byte(*line))
		line++, n--;
	return n > 0 && *line != '#' ? line : NULL;
}

/*
 * Checks what the reader has made of a line, from its word to its end: a
 * mistake, or the word and the argument, with blanks after each.
 */
static void
check_line_read(const uint8_t *line, const uint8_t *end, bool is_word,
    const char *word, const char *argument)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz0123456789-";
	const uint8_t *after = line;
	bool is_good = true;

	for (const uint8_t *p = line; p < end; p++)
		if ((*p < 32 && *p != '\t') || *p == 127)
			is_good = false;
	while (after < end && memchr(letters, *after, sizeof(letters) - 1))
		after++;
	if (after == line || (after < end && !is_blank_byte(*after)))
		is_good = false;
	HOLDS(is_word == is_good);
	if (!is_word)
		return;
	HOLDS(strlen(word) == (size_t)(after - line));
	HOLDS(memcmp(word, line, strlen(word)) == 0);
	while (after < end && is_blank_byte(*after))
		after++;
	while (end > after && is_blank_byte(end[-1]))
		end--;
	HOLDS((argument == NULL) == (after == end));
	HOLDS(argument == NULL ||
	    (strlen(argument) == (size_t)(end - after) &&
		memcmp(argument, after, strlen(argument)) == 0));
}

/* Checks what the reader makes of the file, line by line. */
static void
check_lines(const uint8_t *data, size_t size)
{
	static struct root_file f;
	const char *word, *argument;
	const uint8_t *end = data + size, *lf, *line;
	unsigned n = 1;

	root_file_free(&f);
	HOLDS(root_file_read(&f, path, OPTIONS_FILE_KIB, false) ==
	    (size > 0 && size <= OPTIONS_FILE_KIB << 10));
	if (f.problem != NULL)
		return;
	for (; data < end; data = lf + 1, n++) {
		bool is_word;

		if ((lf = memchr(data, '\n', (size_t)(end - data))) == NULL) {
			HOLDS(options_file_next(&f, &word, &argument));
			HOLDS(word == NULL && f.problem != NULL && f.line == n);
			return;
		}
		if ((line = find_word(data, (size_t)(lf - data))) == NULL)
			continue;
		HOLDS(options_file_next(&f, &word, &argument));
		is_word = word != NULL;
		HOLDS(f.line == n && is_word == (f.problem == NULL));
		check_line_read(line, lf, is_word, word, argument);
		if (!is_word)
			return;
	}
	HOLDS(!options_file_next(&f, &word, &argument) && f.problem == NULL);
	fuzz_let_in++;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (path[0] == '\0')
		begin();
	write_file(data, size);
	check_lines(data, size);
	options_have_changed();
	return 0;
}
