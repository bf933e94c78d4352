/*
 * Reads a list of the ids that another server gave to the messages of a
 * mailbox.
 *
 * Runs as the owner of the mailbox, in kpopd --import-uidl and --uidl-report.
 * The list may be any file, and the other server has chosen the ids. kpopc
 * --uidl-map writes such lists:
 *
 *	kpopd uidl list 1
 *	HEADER BODY OLD
 *	...
 *	end COUNT
 *
 * HEADER is the hash of a message's header in 22 characters (uidl_write), BODY
 * that of its body in 16 hexadecimal digits, or "-". OLD is the id. The lines
 * are in the order of the server. COUNT is their number; without the last line
 * the list is not whole. A line may end with CRLF, because no id
 * contains a CR.
 *
 * RFC 1939 §7 permits a server to give equal messages one id. The lines with an
 * id that an earlier line has are counted and left out.
 */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "import-list.h"
#include "log.h"

#define HEX 16 /* digits of the hash of a body */
/* The most bytes of a line without its LF. */
#define LINE_MOST (UIDL_HASH_TEXT + 1 + HEX + 1 + UIDL_SIZE - 1 + 1)
/* The most bytes of a list. */
#define LIST_MOST ((uint64_t)512 << 20)

/* The bytes of the list that are not used yet. */
struct reader {
	int fd;
	char buffer[65536];
	size_t at, end;
	uint64_t bytes; /* read so far */
};

/* Notes a mistake. Returns -1. */
static int
refuse_list(struct import_list *l, uint32_t number, const char *why)
{
	l->wrong = number;
	l->why = why;
	return -1;
}

/*
 * Reads more bytes behind those that are not used yet. Returns their number, or
 * 0 at the end, or -1 with errno.
 */
static ssize_t
read_more(struct reader *r)
{
	ssize_t n;

	memmove(r->buffer, r->buffer + r->at, r->end - r->at);
	r->end -= r->at;
	r->at = 0;
	do
		n = read(r->fd, r->buffer + r->end, sizeof(r->buffer) - r->end);
	while (n == -1 && errno == EINTR);
	if (n > 0) {
		r->end += (size_t)n;
		r->bytes += (uint64_t)n;
	}
	return n;
}

/*
 * Finds the next line. Stores its bytes in *line and *n, without the line end.
 * Returns 1, or 0 at the end of the list, or -1 after a mistake.
 */
static int
next_listed(struct reader *r, struct import_list *l, uint32_t number,
    const char **line, size_t *n)
{
	const char *lf;
	ssize_t got = 1;

	while ((lf = memchr(r->buffer + r->at, '\n', r->end - r->at)) == NULL &&
	    r->end - r->at <= LINE_MOST && (got = read_more(r)) > 0)
		;
	if (got == -1)
		return refuse_list(l, 0, "it cannot be read");
	if (r->bytes > LIST_MOST)
		return refuse_list(l, 0, "it is larger than 512 MiB");
	*line = r->buffer + r->at;
	*n = lf != NULL ? (size_t)(lf - *line) : r->end - r->at;
	if (*n > LINE_MOST)
		return refuse_list(l, number, "it is too long");
	if (lf == NULL && *n > 0)
		return refuse_list(l, number,
		    "it does not end, so the list may be incomplete");
	if (lf == NULL)
		return 0;
	r->at += *n + 1;
	if (*n > 0 && (*line)[*n - 1] == '\r')
		--*n;
	return 1;
}

/* Takes a word from the line. Returns its length. */
static size_t
take_list_word(const char **p, size_t *left, const char **word)
{
	const char *blank = memchr(*p, ' ', *left);
	size_t n = blank != NULL ? (size_t)(blank - *p) : *left;

	*word = *p;
	*p += n + (blank != NULL);
	*left -= n + (blank != NULL);
	return n;
}

/* Reads the hash of a body, or "-". Returns false if the word is neither. */
static bool
read_body_hash(const char *word, size_t n, uint64_t *body)
{
	static const char digits[] = "0123456789abcdef";

	*body = 0;
	if (n == 1 && *word == '-')
		return true;
	for (size_t i = 0; i < n; i++) {
		const char *digit = memchr(digits, word[i], HEX);

		if (digit == NULL)
			return false;
		*body = *body << 4 | (uint64_t)(digit - digits);
	}
	return n == HEX && *body != 0;
}

/*
 * Reads a line into *line, and stores its id as a string. Returns NULL, or what
 * is wrong.
 */
static const char *
read_listed(const char *p, size_t n, struct import_line *line,
    char id[UIDL_SIZE])
{
	const char *word;
	size_t size = take_list_word(&p, &n, &word);

	if (size != UIDL_HASH_TEXT || !uidl_read(word, line->header))
		return "its first word is not the hash of a header";
	size = take_list_word(&p, &n, &word);
	if (!read_body_hash(word, size, &line->body))
		return "its second word is neither the hash of a body nor -";
	if (!uidl_is_valid(p, n))
		return "its third word is not an id of 1 to 70 characters";
	memcpy(id, p, n);
	id[n] = '\0';
	return NULL;
}

/* Makes space for more lines. */
static void
reserve_lines(struct import_list *l, size_t *room)
{
	*room = *room == 0 ? 1024 : *room * 2;
	l->lines = reallocarray(l->lines, *room, sizeof(*l->lines));
	if (l->lines == NULL)
		fatal("a list of %zu ids", *room);
}

/*
 * Appends a line, unless an earlier line has its id. Returns false if the list
 * has too many ids.
 */
static bool
append_line(struct import_list *l, const struct import_line *line,
    const char *id, size_t *room)
{
	char number[16];

	if (uidl_map_has_old(l->ids, id)) {
		l->repeated++;
		return true;
	}
	snprintf(number, sizeof(number), "%u", (unsigned)line->number);
	if (!uidl_map_add(l->ids, number, id))
		return false;
	l->lines[l->count++] = *line;
	if (l->count == *room)
		reserve_lines(l, room);
	return true;
}

/*
 * Checks the line that follows `count` others, after the first line, and is the
 * last one. Returns 0 or -1.
 */
static int
read_end(struct reader *r, struct import_list *l, uint32_t count,
    const char *text, size_t n)
{
	static char why[64];
	char end[32];

	snprintf(end, sizeof(end), UIDL_LIST_END "%u", (unsigned)count);
	if (n != strlen(end) || memcmp(text, end, n) != 0) {
		snprintf(why, sizeof(why), "it must be: %s", end);
		return refuse_list(l, count + 2, why);
	}
	switch (next_listed(r, l, count + 3, &text, &n)) {
	case 0:
		return 0;
	case 1:
		return refuse_list(l, count + 3, "it comes after the end");
	default:
		return -1;
	}
}

/* Reads the lines after the first. Returns 0 or -1. */
static int
read_lines(struct reader *r, struct import_list *l)
{
	size_t room = 0, n;
	const char *text, *why;
	int result;

	reserve_lines(l, &room);
	for (uint32_t number = 2;; number++) {
		struct import_line line = { .number = number };
		char id[UIDL_SIZE];

		if ((result = next_listed(r, l, number, &text, &n)) == -1)
			return -1;
		/* The hash of a header may begin with "end". */
		if (result == 0 || (n == 3 && memcmp(text, "end", 3) == 0) ||
		    (n > 3 && memcmp(text, "end ", 4) == 0))
			return read_end(r, l, number - 2, text,
			    result == 0 ? 0 : n);
		if ((why = read_listed(text, n, &line, id)) != NULL)
			return refuse_list(l, number, why);
		if (!append_line(l, &line, id, &room))
			return refuse_list(l, number, "there are too many ids");
	}
}

int
import_list_read(int fd, struct import_list *l)
{
	static struct reader r;
	const char *text;
	size_t n = 0;
	int result;

	r = (struct reader){ .fd = fd };
	*l = (struct import_list){ .ids = uidl_map_new() };
	if ((result = next_listed(&r, l, 1, &text, &n)) == -1)
		return -1;
	if (result == 0 || n != strlen(UIDL_LIST_FIRST) ||
	    memcmp(text, UIDL_LIST_FIRST, n) != 0)
		return refuse_list(l, 1, "it is not: " UIDL_LIST_FIRST);
	return read_lines(&r, l);
}

void
import_list_id(const struct import_list *l, const struct import_line *line,
    char id[UIDL_SIZE])
{
	snprintf(id, UIDL_SIZE, "%u", (unsigned)line->number);
	uidl_map_apply(l->ids, id);
}
