/*
 * Runs a fuzz target without libFuzzer, on files and on the files in
 * directories. Used for the corpus and for AFL++.
 *
 * 	TARGET [FILE | DIRECTORY ...]
 *
 * Without arguments, the program reads one input from standard input. So
 * afl-fuzz can run a target that was built with CC=afl-clang-fast, with or
 * without @@.
 */
#include "config.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/fuzz.h"

static unsigned count;

static void
die(const char *what)
{
	fprintf(stderr, "replay: %s: %s\n", what, strerror(errno));
	exit(1);
}

/*
 * Runs the target with one input. The memory of the input has exactly the size
 * of the input, so that ASan finds reads after the end.
 */
static void
run(FILE *file, const char *name)
{
	static uint8_t text[1 << 20];
	size_t n = fread(text, 1, sizeof(text), file);
	uint8_t *data = malloc(n > 0 ? n : 1);

	if (ferror(file) || data == NULL)
		die(name);
	memcpy(data, text, n);
	LLVMFuzzerTestOneInput(data, n);
	free(data);
	count++;
}

static void
run_file(const char *name)
{
	FILE *file = fopen(name, "re");

	if (file == NULL)
		die(name);
	/*
	 * Print the name first. If the target crashes, the last name printed is
	 * the name of the input that caused the crash.
	 */
	if (getenv("REPLAY_NAMES") != NULL)
		fprintf(stderr, "%s\n", name);
	run(file, name);
	fclose(file);
}

static void
run_path(const char *name)
{
	char path[PATH_MAX];
	const struct dirent *d;
	DIR *dir = opendir(name);

	if (dir == NULL) {
		run_file(name);
		return;
	}
	while ((d = readdir(dir)) != NULL) {
		if (d->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", name, d->d_name);
		run_file(path);
	}
	closedir(dir);
}

int
main(int argc, char **argv)
{
	if (argc == 1)
		run(stdin, "standard input");
	for (int i = 1; i < argc; i++)
		run_path(argv[i]);
	printf(fuzz_let_in > 0 ? "%u inputs, %u let in\n" : "%u inputs\n",
	    count, fuzz_let_in);
	return count > 0 ? 0 : 1;
}
