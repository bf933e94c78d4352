/*
 * Fuzz target: reads any file as a map of ids (uidl-map.c) and as a list of ids
 * (import-list.c).
 *
 * Input: the file. It must be accepted as a map or a list if and only if an
 * independent implementation of the form accepts it. With a map, own ids that
 * differ must give ids that differ. The mistake of a list must be in the first
 * wrong line.
 */
#include "config.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "import-list.h"
#include "uidl-map.h"

#define LINES 64 /* inputs have fewer lines */

/* A word of the input. */
struct word {
	const char *p;
	size_t n;
};

/* The words of a line of the input, and whether it ends with an LF. */
struct fuzz_line {
	struct word words[4];
	int count;
	bool ends;
};

static struct fuzz_line lines[LINES];
static size_t line_count;

/* Splits the input into lines and words. Returns false if it has too many. */
static bool
split(const char *p, size_t n)
{
	const char *end = p + n;

	for (line_count = 0; p < end; line_count++) {
		struct fuzz_line *l = &lines[line_count];

		if (line_count == LINES)
			return false;
		*l = (struct fuzz_line){ .words = { { p, 0 } }, .count = 1 };
		for (; p < end && *p != '\n'; p++) {
			struct word *w = &l->words[l->count - 1];

			if (*p != ' ')
				w->n++;
			else if (l->count < 4)
				l->words[l->count++] =
				    (struct word){ p + 1, 0 };
			else
				return false;
		}
		l->ends = p < end;
		p += l->ends;
	}
	return true;
}

static bool
is_word(const struct word *w, const char *text)
{
	return w->n == strlen(text) && memcmp(w->p, text, w->n) == 0;
}

static bool
same_word(const struct word *a, const struct word *b)
{
	return a->n == b->n && memcmp(a->p, b->p, a->n) == 0;
}

/* Returns true if the first line is "kpopd uidl KIND 1". */
static bool
has_first_line(const char *kind)
{
	const struct word *w = lines[0].words;

	return line_count > 0 && lines[0].count == 4 && lines[0].ends &&
	    is_word(&w[0], "kpopd") && is_word(&w[1], "uidl") &&
	    is_word(&w[2], kind) && is_word(&w[3], "1");
}

static bool
is_id(const struct word *w)
{
	bool is_printable = true;

	for (size_t i = 0; i < w->n; i++)
		is_printable &= w->p[i] > ' ' && w->p[i] < 127;
	return w->n >= 1 && w->n <= 70 && is_printable;
}

/* Returns true if the split input has the form of a map. */
static bool
is_map(void)
{
	if (!has_first_line("map"))
		return false;
	for (size_t i = 1; i < line_count; i++) {
		const struct word *w = lines[i].words;

		if (lines[i].count != 2 || !lines[i].ends || !is_id(&w[0]) ||
		    !is_id(&w[1]))
			return false;
		for (size_t k = 1; k < i; k++)
			if (same_word(&w[0], &lines[k].words[0]) ||
			    same_word(&w[1], &lines[k].words[1]))
				return false;
	}
	return true;
}

/*
 * Looks up every word of the input as an own id, and compares the results of
 * different ones.
 */
static void
check_map(const struct uidl_map *m)
{
	static char ids[2 * LINES][2][UIDL_SIZE];
	size_t count = 0;

	HOLDS(uidl_map_count(m) == line_count - 1);
	for (size_t i = 2; i < 2 * line_count; i++) {
		const struct word *w = &lines[i / 2].words[i % 2];
		char(*id)[UIDL_SIZE] = ids[count];

		memset(id, 0, sizeof(ids[0]));
		memcpy(id[0], w->p, w->n);
		memcpy(id[1], w->p, w->n);
		uidl_map_apply(m, id[1]);
		w = &lines[i / 2].words[1];
		if (i % 2 == 0)
			HOLDS(strlen(id[1]) == w->n &&
			    memcmp(id[1], w->p, w->n) == 0);
		for (size_t k = 0; k < count; k++)
			HOLDS((strcmp(ids[k][0], id[0]) == 0) ==
			    (strcmp(ids[k][1], id[1]) == 0));
		count++;
	}
}

/* Returns true if a line of a list is right. */
static bool
is_list_line(const struct fuzz_line *l)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz0123456789-_";
	const struct word *w = l->words;
	struct word id = w[2];
	bool is_zero = true;

	if (l->count != 3 || !l->ends || w[0].n != 22 ||
	    memchr("AQgw", w[0].p[21], 4) == NULL)
		return false;
	for (size_t i = 0; i < 22; i++)
		if (memchr(letters, w[0].p[i], 64) == NULL)
			return false;
	if (!is_word(&w[1], "-") && w[1].n != 16)
		return false;
	for (size_t i = 0; w[1].n == 16 && i < 16; i++) {
		if (memchr("0123456789abcdef", w[1].p[i], 16) == NULL)
			return false;
		is_zero &= w[1].p[i] == '0';
	}
	if (id.n > 0 && id.p[id.n - 1] == '\r')
		id.n--;
	return is_id(&id) && !(w[1].n == 16 && is_zero);
}

/* Returns true if the first word of the line is "end". */
static bool
begins_end(const struct fuzz_line *l)
{
	return l->ends &&
	    (is_word(&l->words[0], "end") ||
		(l->count == 1 && is_word(&l->words[0], "end\r")));
}

/* Returns true if this is the line after `count` lines. */
static bool
is_end(const struct fuzz_line *l, size_t count)
{
	struct word number = l->words[1];
	char text[24];

	snprintf(text, sizeof(text), "%zu", count);
	if (number.n > 0 && number.p[number.n - 1] == '\r')
		number.n--;
	return l->ends && l->count == 2 && is_word(&l->words[0], "end") &&
	    is_word(&number, text);
}

/* Compares what import_list_read has made of the input. */
static void
check_list(const struct import_list *l, int result)
{
	size_t wrong = 0;

	if (line_count > 0 && lines[0].ends && lines[0].count == 4 &&
	    lines[0].words[3].n == 2 && lines[0].words[3].p[1] == '\r')
		lines[0].words[3].n = 1;
	if (!has_first_line("list"))
		wrong = 1;
	for (size_t i = 1; wrong == 0; i++) {
		if (i == line_count || begins_end(&lines[i])) {
			wrong = i < line_count && is_end(&lines[i], i - 1) ?
			    (i + 1 < line_count ? i + 2 : 0) :
			    i + 1;
			break;
		}
		if (!is_list_line(&lines[i]))
			wrong = i + 1;
	}
	HOLDS(l->wrong == wrong && (result == -1) == (wrong != 0));
	HOLDS((l->why != NULL) == (wrong != 0));
	if (result == 0)
		HOLDS(l->count + l->repeated == line_count - 2 &&
		    uidl_map_count(l->ids) == l->count);
	fuzz_let_in += result == 0 && l->count > 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int dir = fuzz_directory();
	int fd =
	    openat(dir, "uidl", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct uidl_map *map;
	struct import_list list;
	int result;

	HOLDS(fd != -1 && write(fd, data, size) == (ssize_t)size);
	HOLDS(lseek(fd, 0, SEEK_SET) == 0);
	result = uidl_map_load(dir, &map);
	if (split((const char *)data, size)) {
		HOLDS((result == 0) == is_map());
		if (result == 0)
			check_map(map);
		fuzz_let_in += result == 0;
	}
	uidl_map_free(map);
	result = import_list_read(fd, &list);
	if (split((const char *)data, size))
		check_list(&list, result);
	uidl_map_free(list.ids);
	free(list.lines);
	close(fd);
	return 0;
}
