/*
 * Tests which message of a mailbox gets which line of a list, with and without
 * the hashes of bodies, and what is counted.
 *
 * Runs as any user; no files. A wrong match would hide a message from clients,
 * so the table has each reason not to match.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import-match.h"
#include "tests/unit/check.h"

#define MOST 8
#define MANY 200000

/*
 * Messages and lines as texts. A letter is a header, in upper case a weak one.
 * A digit is a body, "-" a line without the hash of a body. "!" after a
 * message: it is kept; "?": it cannot be read. A line's id is its number in the
 * list, from 0. "=" after a line: the id is known.
 *
 * result: for each message the line it gets, or ".".
 */
static const struct match {
	const char *messages, *lines, *result;
	struct import_counts counts;
} matches[] = {
	/* by the header alone */
	{ "a1 b2", "b- a-", "10", { .matched = 2 } },
	{ "a1", "b-", ".", { .absent = 1 } },
	{ "", "b-", "", { .absent = 1 } },
	{ "a1", "", ".", { .matched = 0 } },
	/* by the body, too */
	{ "a1", "a1", "0", { .matched = 1 } },
	{ "a1", "a2", ".", { .absent = 1 } },
	{ "a1 a2", "a2 a1", "10", { .matched = 2 } },
	{ "a1 a2 a3", "a3 a1", "1.0", { .matched = 2 } },
	{ "a1 a2", "a2 a3", ".0", { .matched = 1, .absent = 1 } },
	/* a weak header needs the body */
	{ "A1", "A-", ".", { .absent = 1 } },
	{ "A1", "A1", "0", { .matched = 1 } },
	{ "A1", "A2", ".", { .absent = 1 } },
	/* a line without a body must be about one message only */
	{ "a1 a2", "a-", "..", { .absent = 1 } },
	{ "a1 a1", "a-", "0.", { .matched = 1 } },
	{ "a1", "a- a-", ".", { .absent = 2 } },
	{ "a1", "a- a1", "1", { .matched = 1, .absent = 1 } },
	{ "a1", "a- a2", ".", { .absent = 2 } },
	/* equal ones, in their order */
	{ "a1 b1 a1 a1", "a1 a1", "0.1.", { .matched = 2 } },
	{ "a1", "a1 a1 a1", "0", { .matched = 1, .absent = 2 } },
	/* an earlier import */
	{ "a1! b1", "a-= b-", ".1", { .matched = 1, .known = 1 } },
	{ "a1! b1", "a- b-", ".1", { .matched = 1, .different = 1 } },
	{ "a1! a1", "a1= a1", ".1", { .matched = 1, .known = 1 } },
	{ "a1! a2", "a2 a1", ".0", { .matched = 1, .different = 1 } },
	{ "a1 b1", "a-= b-", ".1", { .matched = 1, .known = 1 } },
	/* messages that cannot be read */
	{ "a1? b1", "a- b-", ".1", { .matched = 1, .absent = 1 } },
	{ "a1? a1", "a1", ".0", { .matched = 1 } },
};

static struct import_message messages[MANY];
static struct import_line lines[MANY];
static uint64_t bodies[MANY]; /* of the messages, by number */

/* Returns the flag after the two characters of a message or line, or 0. */
static char
read_pair(const char **p, unsigned char header[UIDL_HASH], char *body)
{
	char flag = 0;

	memset(header, **p, UIDL_HASH);
	*body = (*p)[1];
	*p += 2;
	if (**p != '\0' && **p != ' ')
		flag = *(*p)++;
	*p += **p == ' ';
	return flag;
}

/* Does what import.c does: reads the bodies that are needed. */
static void
run(struct import_list *l, size_t count, const struct uidl_map *kept,
    struct import_counts *c)
{
	import_find_needs(l, messages, count);
	for (size_t i = 0; i < count; i++) {
		CHECK(messages[i].n == i + 1);
		if (messages[i].needs_body)
			messages[i].body = bodies[i];
	}
	import_match(l, messages, count, kept, c);
}

static void
test_match(const struct match *t)
{
	struct import_list l = { .lines = lines, .ids = uidl_map_new() };
	struct uidl_map *kept = uidl_map_new();
	struct import_counts c;
	char number[8], id[UIDL_SIZE], result[MOST + 1] = "", body;
	size_t count = 0;

	for (const char *p = t->messages; *p != '\0'; count++) {
		struct import_message *m = &messages[count];
		char flag;

		*m = (struct import_message){ .n = (uint32_t)count + 1 };
		flag = read_pair(&p, m->header, &body);
		m->is_weak = m->header[0] < 'a';
		m->is_kept = flag == '!';
		m->is_unread = flag == '?';
		bodies[count] = (uint64_t)body;
		if (m->is_unread)
			memset(m->header, 0, UIDL_HASH);
		result[count] = '.';
	}
	for (const char *p = t->lines; *p != '\0'; l.count++) {
		struct import_line *line = &lines[l.count];

		line->number = (uint32_t)l.count + 2;
		snprintf(number, sizeof(number), "%u", line->number);
		snprintf(id, sizeof(id), "%zu", l.count);
		CHECK(uidl_map_add(l.ids, number, id));
		if (read_pair(&p, line->header, &body) == '=')
			CHECK(uidl_map_add(kept, number, id));
		line->body = body == '-' ? 0 : (uint64_t)body;
	}
	run(&l, count, kept, &c);
	for (size_t i = 0; i < count; i++) {
		if (messages[i].line == NULL)
			continue;
		import_list_id(&l, messages[i].line, id);
		result[messages[i].n - 1] = id[0];
	}
	if (strcmp(result, t->result) != 0)
		fprintf(stderr, "%s, %s: %s\n", t->messages, t->lines, result);
	CHECK(strcmp(result, t->result) == 0);
	CHECK(memcmp(&c, &t->counts, sizeof(c)) == 0);
	uidl_map_free(l.ids);
	uidl_map_free(kept);
}

/* Many messages with one header take no longer than others. */
static void
test_many(void)
{
	struct import_list l = { .lines = lines, .ids = uidl_map_new() };
	struct uidl_map *kept = uidl_map_new();
	struct import_counts c;
	char number[16];

	for (uint32_t i = 0; i < MANY; i++) {
		messages[i] = (struct import_message){ .n = i + 1 };
		bodies[i] = i / 2 + 1;
		lines[i] =
		    (struct import_line){ .number = i + 2, .body = MANY - i };
		snprintf(number, sizeof(number), "%u", i + 2);
		CHECK(uidl_map_add(l.ids, number, number));
	}
	l.count = MANY;
	run(&l, MANY, kept, &c);
	CHECK(c.matched == MANY / 2 && c.absent == MANY / 2);
	for (uint32_t i = 0; i < MANY; i++) {
		const struct import_message *m = &messages[i];

		/* The first of two equal ones gets the only line. */
		CHECK((m->line != NULL) == (m->n % 2 == 1));
		CHECK(m->line == NULL || m->line->body == bodies[m->n - 1]);
	}
	uidl_map_free(l.ids);
	uidl_map_free(kept);
}

int
main(void)
{
	for (size_t i = 0; i < sizeof(matches) / sizeof(matches[0]); i++)
		test_match(&matches[i]);
	test_many();
	return 0;
}
