/*
 * Reads pieces of the input, makes a directory for files, and makes the checks
 * that apply to every fuzz target.
 *
 * The linker replaces syslog and fatal by the __wrap_ functions (--wrap). No
 * input may lead to fatal(). Log lines may contain only printable ASCII.
 */
#include "config.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "log.h"

void
fuzz_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
	abort();
}

jmp_buf *fuzz_end;
unsigned fuzz_let_in;

_Noreturn void __wrap_fatal(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

void
__wrap_fatal(const char *format, ...)
{
	va_list ap;

	if (fuzz_end != NULL)
		longjmp(*fuzz_end, 1);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fuzz_fail(" fatal()", 0, "must not be reached");
}

static void check_line(const char *, va_list)
    __attribute__((format(printf, 1, 0)));

static void
check_line(const char *format, va_list ap)
{
	char line[8192];
	int n = vsnprintf(line, sizeof(line), format, ap);

	HOLDS(n > 0 && n < (int)sizeof(line));
	for (int i = 0; i < n; i++)
		HOLDS(line[i] >= ' ' && line[i] <= '~');
}

void __wrap_syslog(int, const char *, ...)
    __attribute__((format(printf, 2, 3)));

void
__wrap_syslog(int priority, const char *format, ...)
{
	va_list ap;

	(void)priority;
	va_start(ap, format);
	check_line(format, ap);
	va_end(ap);
}

/* _FORTIFY_SOURCE renames syslog to this. */
void __wrap___syslog_chk(int, int, const char *, ...)
    __attribute__((format(printf, 3, 4)));

void
__wrap___syslog_chk(int priority, int flag, const char *format, ...)
{
	va_list ap;

	(void)priority, (void)flag;
	va_start(ap, format);
	check_line(format, ap);
	va_end(ap);
}

uint8_t
input_byte(struct input *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->at++;
}

size_t
input_below(struct input *in, size_t limit)
{
	size_t high = input_byte(in);

	return (high << 8 | input_byte(in)) % limit;
}

const uint8_t *
input_take(struct input *in, size_t *n)
{
	const uint8_t *at = in->at;

	if (*n > in->left)
		*n = in->left;
	in->at += *n;
	in->left -= *n;
	return at;
}

uint32_t
fuzz_random(uint32_t *state)
{
	*state = *state * 1664525 + 1013904223;
	return *state >> 8;
}

static char directory[PATH_MAX];

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st, (void)type, (void)where;
	return remove(path);
}

static void
remove_all(void)
{
	nftw(directory, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int
fuzz_directory(void)
{
	static int fd = -1;
	const char *top = getenv("TMPDIR");

	if (fd != -1)
		return fd;
	if (top == NULL)
		top = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
	snprintf(directory, sizeof(directory), "%s/kpopd-fuzz.XXXXXX", top);
	HOLDS(mkdtemp(directory) != NULL && atexit(remove_all) == 0);
	/* Copy the descriptor by fcntl, which tidy.c does not record. */
	HOLDS((fd = fcntl(open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		   F_DUPFD_CLOEXEC, 0)) != -1);
	return fd;
}

const char *
fuzz_directory_name(void)
{
	fuzz_directory();
	return directory;
}
