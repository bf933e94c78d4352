/*
 * Decides where a message may end in an mbox file.
 *
 * Runs as the owner of the mailbox. Reads a few bytes on both sides of an
 * offset. The offset may come from a forged list, and nothing in the file is
 * trusted.
 */
#include "config.h"

#include <string.h>

#include "file.h"
#include "mbox-boundary.h"

#define BEFORE 3 /* bytes that can be an empty line and the LF before it */

/*
 * If the last line in the n bytes at text is empty, returns its size, otherwise
 * 0. If n < BEFORE, the file begins at text.
 */
static size_t
empty_line_before(const char *text, size_t n)
{
	if (n == 0 || text[n - 1] != '\n')
		return 0;
	if (n == 1 || text[n - 2] == '\n')
		return 1;
	return text[n - 2] == '\r' && (n == 2 || text[n - 3] == '\n') ? 2 : 0;
}

/*
 * If the n bytes at p begin with an empty line, returns its size, otherwise 0.
 */
static size_t
empty_line_at(const char *p, size_t n)
{
	if (n >= 1 && *p == '\n')
		return 1;
	return n >= 2 && p[0] == '\r' && p[1] == '\n' ? 2 : 0;
}

/*
 * An empty line must follow the body, because neither mutt nor Dovecot trusts a
 * length that includes the empty line.
 */
bool
boundary_ends_body(const char *p, size_t n)
{
	size_t empty = empty_line_at(p, n);

	return p[-1] == '\n' && empty > 0 &&
	    (n == empty || from_separates(p + empty, n - empty));
}

/* Returns true if all bytes of fd before this offset are empty lines. */
static bool
has_only_empty_lines(int fd, off_t before)
{
	char text[512];
	bool cr = false;

	for (off_t i = 0; i < before;) {
		size_t n = sizeof(text);

		if (before - i < (off_t)n)
			n = (size_t)(before - i);
		if (file_read(fd, text, n, i) == -1)
			return false;
		for (size_t k = 0; k < n; k++) {
			if (text[k] != '\n' && (cr || text[k] != '\r'))
				return false;
			cr = text[k] == '\r';
		}
		i += (off_t)n;
	}
	return !cr;
}

bool
boundary_is_at(int fd, off_t at, off_t size, off_t *empty)
{
	char text[BEFORE + FROM_LOOK];
	size_t before = at < BEFORE ? (size_t)at : BEFORE;
	size_t look = size - at < FROM_LOOK ? (size_t)(size - at) : FROM_LOOK;

	*empty = 0;
	if (at > size ||
	    file_read(fd, text, before + look, at - (off_t)before) == -1)
		return false;
	*empty = (off_t)empty_line_before(text, before);
	if (at == size)
		return true;
	if (!from_begins(text + before, look))
		return false;
	/* For the first message of a file, the word "From " suffices. */
	return (*empty > 0 && from_separates(text + before, look)) ||
	    has_only_empty_lines(fd, at);
}
