/*
 * kpopd leaves some memory and files to be freed at the end of its process.
 * This file frees that memory and closes these files, because a fuzz target
 * runs kpopd's code a million times in one process.
 *
 * The linker replaces the calls in kpopd's objects by the __wrap_ functions
 * (--wrap). It does not replace calls within libraries.
 */
#include "config.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "fuzz/tidy.h"

#define MOST 4096

static void *memory[MOST];
static int files[MOST];
static size_t memories, file_count;
static bool recording;

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
char *__real_strdup(const char *);
void __real_free(void *);
int __real_openat(int, const char *, int, ...);
void *__wrap_malloc(size_t);
void *__wrap_calloc(size_t, size_t);
void *__wrap_realloc(void *, size_t);
void *__wrap_reallocarray(void *, size_t, size_t);
char *__wrap_strdup(const char *);
void __wrap_free(void *);
int __wrap_openat(int, const char *, int, ...);
int __wrap_open(const char *, int, ...);

static void *
keep(void *p)
{
	HOLDS(memories < MOST);
	if (recording)
		memory[memories++] = p;
	return p;
}

static void
discard(const void *p)
{
	for (size_t i = memories; p != NULL && i-- > 0;)
		if (memory[i] == p) {
			memory[i] = memory[--memories];
			return;
		}
}

void *
__wrap_malloc(size_t n)
{
	return keep(__real_malloc(n));
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return keep(__real_calloc(n, size));
}

void *
__wrap_realloc(void *p, size_t n)
{
	discard(p);
	return keep(__real_realloc(p, n));
}

void *
__wrap_reallocarray(void *p, size_t n, size_t size)
{
	HOLDS(n < (1 << 28) && size < 65536);
	return __wrap_realloc(p, n * size);
}

char *
__wrap_strdup(const char *text)
{
	return keep(__real_strdup(text));
}

void
__wrap_free(void *p)
{
	discard(p);
	__real_free(p);
}

int
__wrap_openat(int at, const char *path, int flags, ...)
{
	unsigned mode = 0;
	va_list ap;
	int fd;

	va_start(ap, flags);
	if ((flags & O_CREAT) != 0)
		mode = va_arg(ap, unsigned);
	va_end(ap);
	fd = __real_openat(at, path, flags, mode);
	HOLDS(file_count < MOST);
	if (fd != -1 && recording)
		files[file_count++] = fd;
	return fd;
}

int
__wrap_open(const char *path, int flags, ...)
{
	unsigned mode = 0;
	va_list ap;

	va_start(ap, flags);
	if ((flags & O_CREAT) != 0)
		mode = va_arg(ap, unsigned);
	va_end(ap);
	return __wrap_openat(AT_FDCWD, path, flags, mode);
}

void
tidy_begin(void)
{
	recording = true;
}

void
tidy_end(void)
{
	recording = false;
	while (memories > 0)
		__real_free(memory[--memories]);
	/* Some of these files are already closed. */
	while (file_count > 0)
		close(files[--file_count]);
}
