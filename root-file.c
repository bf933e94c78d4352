/*
 * Reads a configuration file of root's into memory, and finds its lines.
 *
 * Runs as root: in main and in the listener at SIGHUP, before the process reads
 * anything from the client, and in the monitor. A user who can change such a
 * file can let anybody in. So the file is refused unless it belongs to root and
 * no other user may write it.
 *
 * A file that an editor is writing must not count as one with fewer lines: the
 * line "tls require" could be missing. So an empty file is refused, one whose
 * last line does not end, and one that changes while it is read. The reading of
 * a file that has just changed takes a tenth of a second, because a script may
 * write it line by line. Some editors rename the old file before they write the
 * new one, so an absent file is looked for again if its directory has just
 * changed.
 */
#include "config.h"

#include <sys/stat.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "file.h"
#include "fingerprint.h"
#include "path.h"
#include "root-file.h"
#include "volume.h"

/*
 * An absent file is looked for at most LOOKS times more, each time after
 * LOOK_US. The check of a file that has just changed waits for at most LOOKS
 * such pauses. "Just changed" means less than LOOKS_NS ago for the file, and
 * less than NEW_NS ago for its directory. If other hosts may change the file,
 * it means less than APART_S before or after now.
 */
#define LOOKS 20
#define LOOK_US 5000
#define LOOKS_NS (INT64_C(1000) * LOOK_US * LOOKS)
#define NEW_NS INT64_C(1000000000)
/* The clocks of two hosts differ by less than this, as in fingerprint.c. */
#define APART_S (11 * 60)
#define CHANGED "it changed while it was read"

static bool
refuse_file(struct root_file *f, unsigned line, const char *problem)
{
	f->line = line;
	f->problem = problem;
	return false;
}

/* Returns true if the time is less than this ago. A future time is not. */
static bool
is_within(const struct timespec *t, int64_t ns)
{
	struct timespec now;
	int64_t age;

	clock_gettime(CLOCK_REALTIME, &now);
	age = fingerprint_ns(&now) - fingerprint_ns(t);
	return age >= 0 && age < ns;
}

/*
 * Returns true if an open file, which was last changed at this time, may have
 * changed within LOOKS_NS. On a shared file system the clock of another host
 * may have given the time.
 */
static bool
may_be_new(int fd, struct timespec changed)
{
	if (!volume_is_shared(fd))
		return is_within(&changed, LOOKS_NS);
	changed.tv_sec -= APART_S;
	return is_within(&changed, INT64_C(2000000000) * APART_S);
}

/*
 * Reads the text of an open file, and checks that it has not changed meanwhile.
 * Does not compare the ctime: every user may be able to link the file, and a
 * new link changes the ctime.
 */
static bool
read_text(struct root_file *f, int fd, const struct stat *before)
{
	struct stat after;

	/*
	 * Reads only then, because another write in the same tick of the
	 * kernel's clock would not change the mtime.
	 */
	for (int i = 0; i < LOOKS && may_be_new(fd, before->st_mtim); i++)
		usleep(LOOK_US);
	if (file_read(fd, f->text, (size_t)before->st_size, 0) == -1)
		return refuse_file(f, 0,
		    errno == ENODATA ? CHANGED : strerror(errno));
	if (volume_ask(fd) == -1 || fstat(fd, &after) == -1 ||
	    after.st_size != before->st_size ||
	    fingerprint_ns(&after.st_mtim) != fingerprint_ns(&before->st_mtim))
		return refuse_file(f, 0, CHANGED);
	return true;
}

/*
 * Checks that an open file may be used and has at most this many KiB, and
 * stores its status.
 */
static bool
check_file(struct root_file *f, int fd, struct stat *st, unsigned kib)
{
	if (fstat(fd, st) == -1)
		return refuse_file(f, 0, strerror(errno));
	if (!S_ISREG(st->st_mode))
		return refuse_file(f, 0, "it is not a regular file");
	if (st->st_uid != 0)
		return refuse_file(f, 0, "it does not belong to root");
	if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return refuse_file(f, 0,
		    "others than root may write it (see chmod 644)");
	if (st->st_size == 0)
		return refuse_file(f, 0,
		    "it is empty; remove it, or write a comment into it");
	if (st->st_size > (off_t)kib << 10) {
		snprintf(f->too_large, sizeof(f->too_large),
		    "it has more than %u KiB", kib);
		return refuse_file(f, 0, f->too_large);
	}
	return true;
}

/*
 * Returns true if a name in the directory of an absolute path changed less than
 * 1 s ago.
 */
static bool
has_new_neighbour(const char *path)
{
	char directory[PATH_MAX];
	struct stat st;

	if (*path != '/' || strlen(path) >= sizeof(directory))
		return false;
	path_split(path, directory);
	return stat(directory, &st) == 0 && is_within(&st.st_mtim, NEW_NS);
}

/*
 * Does the same as lstat for an absolute path. If there is no such file, but a
 * name in its directory has just changed, waits for the file.
 */
static int
find_file(const char *path, struct stat *st)
{
	int result = lstat(path, st);

	for (int i = 0; i < LOOKS && result == -1 && errno == ENOENT &&
	     has_new_neighbour(path);
	     i++) {
		usleep(LOOK_US);
		result = lstat(path, st);
	}
	return result;
}

void
root_file_settle(const char *path, struct stat *st)
{
	for (int i = 0; i <= LOOKS; i++) {
		bool is_there = stat(path, st) == 0;

		if (!is_there)
			*st = (struct stat){ .st_size = 0 };
		if (is_there ? !is_within(&st->st_mtim, LOOKS_NS) :
			       !has_new_neighbour(path))
			return;
		usleep(LOOK_US);
	}
}

bool
root_file_read(struct root_file *f, const char *path, unsigned kib,
    bool optional)
{
	struct stat st;
	bool ok;
	int fd;

	*f = (struct root_file){ .text = NULL };
	/* A symbolic link that leads nowhere does not mean "no file". */
	if ((optional ? find_file : lstat)(path, &st) == -1)
		return (optional && errno == ENOENT) ||
		    refuse_file(f, 0, strerror(errno));
	if (st.st_uid != 0)
		return refuse_file(f, 0, "it does not belong to root");
	/* To open a FIFO must not wait for a writer. */
	fd = volume_open(AT_FDCWD, path,
	    O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd == -1)
		return refuse_file(f, 0, strerror(errno));
	ok = check_file(f, fd, &st, kib);
	if (ok && (f->text = malloc((size_t)st.st_size)) == NULL)
		ok = refuse_file(f, 0, strerror(errno));
	ok = ok && read_text(f, fd, &st);
	close(fd);
	if (ok) {
		f->next = f->text;
		f->end = f->text + st.st_size;
	} else
		root_file_free(f);
	return ok;
}

bool
root_file_copy(struct root_file *copy, const struct root_file *f)
{
	size_t size = (size_t)(f->end - f->text);

	*copy = (struct root_file){ .problem = f->problem, .line = f->line };
	if (f->text == NULL)
		return true;
	if ((copy->text = malloc(size)) == NULL)
		return refuse_file(copy, 0, strerror(errno));
	memcpy(copy->text, f->text, size);
	copy->next = copy->text;
	copy->end = copy->text + size;
	return true;
}

void
root_file_free(struct root_file *f)
{
	free(f->text);
	f->text = f->next = f->end = NULL;
}

static bool
is_space_or_tab(char c)
{
	return c == ' ' || c == '\t';
}

/*
 * Removes the blanks and tabs at the end of a line, which must not begin with
 * one. A NUL, at end, has replaced its line feed. Returns the line, or NULL
 * with f->problem if the line has a control character that is not a tab.
 */
static char *
check_line(struct root_file *f, char *line, char *end)
{
	for (const char *p = line; p < end; p++)
		if (iscntrl((unsigned char)*p) && *p != '\t') {
			refuse_file(f, f->line,
			    *p == '\r' ? "a carriage return" :
					 "a control character");
			return NULL;
		}
	while (is_space_or_tab(end[-1]))
		*--end = '\0';
	return line;
}

bool
root_file_line(struct root_file *f, char **line)
{
	*line = NULL;
	while (f->next < f->end) {
		char *begin = f->next;
		char *end = memchr(begin, '\n', (size_t)(f->end - begin));

		f->line++;
		if (end == NULL) {
			f->next = f->end;
			refuse_file(f, f->line,
			    "the last line has no line feed; "
			    "the file is incomplete");
			return true;
		}
		f->next = end + 1;
		*end = '\0';
		while (is_space_or_tab(*begin))
			begin++;
		if (begin != end && *begin != '#') {
			*line = check_line(f, begin, end);
			return true;
		}
	}
	return false;
}

char *
root_file_word(char **rest)
{
	char *word = *rest;

	while (**rest != '\0' && !is_space_or_tab(**rest))
		(*rest)++;
	while (is_space_or_tab(**rest))
		*(*rest)++ = '\0';
	return *word != '\0' ? word : NULL;
}
