/*
 * Tests root-file.c and options-file.c with files that have every kind of
 * mistake, and with things that are no files.
 *
 * Runs as any user: that user's files seem to belong to root (owner.c). The
 * linker replaces pread by the function below (--wrap).
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "options-file.h"
#include "root-file.h"
#include "tests/unit/check.h"
#include "tests/unit/owner.h"

#define MOST (OPTIONS_FILE_KIB << 10) /* bytes of the largest file */

static char path[] = "/tmp/kpopd-options.XXXXXX";
static struct root_file file;
/* Called once, after the first bytes of the file were read. */
static void (*meanwhile)(void);

ssize_t __wrap_pread(int, void *, size_t, off_t);
ssize_t __real_pread(int, void *, size_t, off_t);
ssize_t
__wrap_pread(int fd, void *to, size_t n, off_t at)
{
	void (*change)(void) = meanwhile;
	ssize_t got = __real_pread(fd, to, n > 4 ? 4 : n, at);

	meanwhile = NULL;
	if (change != NULL)
		change();
	return got;
}

/* Writes the file, with a time that is long ago: the writer has finished. */
static void
put(const void *text, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	struct timespec times[2];

	CHECK(fd != -1 && write(fd, text, n) == (ssize_t)n);
	clock_gettime(CLOCK_REALTIME, &times[0]);
	times[0].tv_sec -= 10;
	times[1] = times[0];
	CHECK(futimens(fd, times) == 0 && close(fd) == 0);
}

/* Reads the file, which may be absent if optional is true. */
static bool
reads(bool optional)
{
	root_file_free(&file);
	return root_file_read(&file, path, OPTIONS_FILE_KIB, optional);
}

/* Returns true if the file is refused, in this line and for this reason. */
static bool
is_refused(unsigned line, const char *reason)
{
	const char *word, *argument;

	if (reads(true))
		while (options_file_next(&file, &word, &argument) &&
		    word != NULL)
			;
	return file.problem != NULL && file.line == line &&
	    strncmp(file.problem, reason, strlen(reason)) == 0;
}

/* Returns true if the next line has this word and argument. */
static bool
is_next(unsigned line, const char *word, const char *argument)
{
	const char *w, *a;

	return options_file_next(&file, &w, &a) && file.line == line &&
	    w != NULL && strcmp(w, word) == 0 &&
	    (argument == NULL ? a == NULL :
				a != NULL && strcmp(a, argument) == 0);
}

/* Returns true if no line is left, and none has a mistake. */
static bool
is_end(void)
{
	const char *word, *argument;

	return !options_file_next(&file, &word, &argument) &&
	    file.problem == NULL;
}

#define PUT(text) put(text, sizeof(text) - 1)

static void
lines(void)
{
	PUT("\n# c\n\t # c\n  a-1  b  # c \t\n \t\nB\n\tc\t\"\\ %u\xff\n d "
	    "\n#");
	CHECK(is_refused(9, "the last line has no line feed"));
	PUT("\n# c\n\t # c\n  a-1  b  # c \t\n \t\nB\n\tc\t\"\\ %u\xff\n d "
	    "\n#\n");
	CHECK(reads(false));
	CHECK(is_next(4, "a-1", "b  # c") && is_next(6, "B", NULL));
	CHECK(is_next(7, "c", "\"\\ %u\xff") && is_next(8, "d", NULL));
	CHECK(is_end());
	PUT("\n");
	CHECK(reads(false) && is_end());
	PUT("#");
	CHECK(is_refused(1, "the last line has no line feed"));
}

static void
mistakes(void)
{
	const char *word, *argument;

	PUT("a\nb=c\n");
	CHECK(is_refused(2, "a line is NAME or NAME ARGUMENT"));
	PUT("\xef\xbb\xbf"
	    "a b\n");
	CHECK(is_refused(1, "a line is NAME or NAME ARGUMENT"));
	PUT("a b\r\nc d\r\n");
	CHECK(is_refused(1, "a carriage return"));
	PUT("a b\n#\r\0\nc d\r\n");
	CHECK(is_refused(3, "a carriage return"));
	PUT("a b\nc\0d\n");
	CHECK(is_refused(2, "a control character"));
	PUT("\0\n");
	CHECK(is_refused(1, "a control character"));
	PUT("a b\n\0\0\0");
	CHECK(is_refused(2, "the last line has no line feed"));
	PUT("a b\033[2J\n");
	CHECK(is_refused(1, "a control character"));
	PUT("a b\177\n");
	CHECK(is_refused(1, "a control character"));
	PUT("");
	CHECK(is_refused(0, "it is empty"));
	/* The lines after a mistake are read, too. */
	PUT("a b\nb=c\nc d\ne");
	CHECK(is_refused(2, "a line is NAME or NAME ARGUMENT"));
	CHECK(is_next(3, "c", "d"));
	CHECK(options_file_next(&file, &word, &argument) && word == NULL);
	CHECK(file.line == 4);
	CHECK(!options_file_next(&file, &word, &argument));
}

/* A line as long as the file may be is an argument as any other. */
static void
sizes(void)
{
	static char text[MOST + 1];

	memset(text, 'x', sizeof(text));
	memcpy(text, "a ", 2);
	text[MOST - 1] = '\n';
	put(text, MOST);
	CHECK(reads(true));
	text[MOST - 1] = '\0';
	CHECK(is_next(1, "a", text + 2) && is_end());
	put(text, sizeof(text));
	CHECK(is_refused(0, "it has more than 64 KiB"));
	CHECK(truncate(path, (off_t)1 << 30) == 0);
	CHECK(is_refused(0, "it has more than 64 KiB"));
	memset(text, '\n', sizeof(text));
	put(text, MOST);
	CHECK(reads(true) && is_end());
	CHECK(file.line == MOST);
}

static void
rights(void)
{
	PUT("a\n");
	owner_of_file = 1;
	CHECK(is_refused(0, "it does not belong to root"));
	owner_of_file = 0;
	CHECK(chmod(path, 0664) == 0 && is_refused(0, "others than root may"));
	CHECK(chmod(path, 0646) == 0 && is_refused(0, "others than root may"));
	CHECK(chmod(path, 0755) == 0 && reads(true));
	CHECK(is_next(1, "a", NULL) && is_end());
}

/* What is not a file, with the path of the file. */
static void
other_types(void)
{
	char target[sizeof(path) + 2];

	CHECK(unlink(path) == 0);
	CHECK(reads(true) && is_end());
	CHECK(!reads(false));
	CHECK(strcmp(file.problem, "No such file or directory") == 0);
	CHECK(mkfifo(path, 0600) == 0);
	CHECK(is_refused(0, "it is not a regular file"));
	CHECK(unlink(path) == 0 && mkdir(path, 0700) == 0);
	CHECK(is_refused(0, "it is not a regular file"));
	CHECK(rmdir(path) == 0 && symlink("/dev/zero", path) == 0);
	CHECK(is_refused(0, "it is not a regular file"));
	CHECK(unlink(path) == 0 && symlink(path, path) == 0);
	CHECK(is_refused(0, "Too many levels of symbolic links"));
	/* A path that cannot be followed is not an absent file, either. */
	CHECK(unlink(path) == 0);
	PUT("a\n");
	snprintf(target, sizeof(target), "%s/x", path);
	CHECK(!root_file_read(&file, target, OPTIONS_FILE_KIB, true) &&
	    strcmp(file.problem, "Not a directory") == 0);
	/* A link to nothing is not an absent file. */
	snprintf(target, sizeof(target), "%s.t", path);
	CHECK(unlink(path) == 0 && symlink(target, path) == 0);
	CHECK(is_refused(0, "No such file or directory"));
	PUT("a\n");
	CHECK(reads(true) && is_next(1, "a", NULL));
	owner_of_file = 1;
	CHECK(is_refused(0, "it does not belong to root"));
	owner_of_file = 0;
	owner_of_link = 1;
	CHECK(is_refused(0, "it does not belong to root"));
	owner_of_link = 0;
	CHECK(unlink(path) == 0 && unlink(target) == 0);
}

/* Renames the file, and writes it anew after 30 ms. */
static void
rewrite_beside(void)
{
	char old[sizeof(path) + 2];

	snprintf(old, sizeof(old), "%s~", path);
	CHECK(rename(path, old) == 0);
	if (fork() == 0) {
		usleep(30000);
		_exit(rename(old, path) == 0 ? 0 : 1);
	}
}

/* A file that is written beside its old name is not absent. */
static void
absence(void)
{
	int status;

	PUT("a\n");
	rewrite_beside();
	CHECK(reads(true) && is_next(1, "a", NULL));
	CHECK(wait(&status) != -1 && status == 0);
}

/* A line is appended after 30 ms, as by a script that writes line by line. */
static void
append_later(void)
{
	if (fork() == 0) {
		int fd = open(path, O_WRONLY | O_APPEND);

		usleep(30000);
		_exit(write(fd, "b\n", 2) == 2 ? 0 : 1);
	}
}

/* A file whose last line comes a moment later is not whole. */
static void
growth(void)
{
	int status;

	PUT("a\n");
	CHECK(utimensat(AT_FDCWD, path, NULL, 0) == 0);
	append_later();
	CHECK(is_refused(0, "it changed while it was read"));
	CHECK(wait(&status) != -1 && status == 0);
	CHECK(reads(true));
	CHECK(is_next(1, "a", NULL) && is_next(2, "b", NULL) && is_end());
}

/*
 * Changes the file in place after 30 ms, without a change of its mtime and its
 * size. In truth such a change comes sooner: in the same tick of the clock from
 * which the kernel takes the mtime.
 */
static void
change_later(void)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT } };
	struct stat st;
	int fd = open(path, O_WRONLY);

	CHECK(fd != -1 && fstat(fd, &st) == 0);
	times[1] = st.st_mtim;
	if (fork() == 0) {
		usleep(30000);
		_exit(pwrite(fd, "b", 1, 0) == 1 && futimens(fd, times) == 0 ?
			0 :
			1);
	}
	close(fd);
}

/* A file that was written by two writes in one tick is read whole. */
static void
same_tick(void)
{
	int status;

	PUT("a\n");
	CHECK(utimensat(AT_FDCWD, path, NULL, 0) == 0);
	change_later();
	CHECK(reads(true) && is_next(1, "b", NULL));
	CHECK(wait(&status) != -1 && status == 0);
}

static void
link_file(void)
{
	char other[sizeof(path) + 2];

	snprintf(other, sizeof(other), "%s.l", path);
	CHECK(link(path, other) == 0);
}

/* A new link to the file does not count as a change of the file. */
static void
links(void)
{
	char other[sizeof(path) + 2];

	snprintf(other, sizeof(other), "%s.l", path);
	PUT("a\n");
	usleep(20000); /* the kernel's clock has ticked */
	meanwhile = link_file;
	CHECK(reads(true) && is_next(1, "a", NULL));
	CHECK(unlink(other) == 0);
}

static void
shorten(void)
{
	CHECK(truncate(path, 4) == 0);
}

static void
lengthen(void)
{
	CHECK(truncate(path, 20) == 0);
}

static void
rewrite(void)
{
	PUT("tls offer  \n");
}

/* A file that changes while it is read is not used, another one is whole. */
static void
changes(void)
{
	void (*const all[])(void) = { shorten, lengthen, rewrite };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		PUT("tls require\n");
		usleep(20000); /* the kernel's clock has ticked */
		meanwhile = all[i];
		CHECK(is_refused(0, "it changed while it was read"));
		CHECK(meanwhile == NULL);
	}
}

int
main(void)
{
	int fd = mkstemp(path);

	CHECK(fd != -1 && close(fd) == 0 && chmod(path, 0644) == 0);
	umask(022);
	lines();
	mistakes();
	sizes();
	rights();
	other_types();
	changes();
	growth();
	same_tick();
	links();
	absence();
	CHECK(unlink(path) == 0);
	return 0;
}
