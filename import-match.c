/*
 * Finds the messages of a mailbox in a list of another server's ids.
 *
 * Runs as the owner of the mailbox, in kpopd --import-uidl and --uidl-report;
 * pure computation. Senders choose the messages, so a million of them may have
 * one header. Everything is done by sorting.
 *
 * A wrong match would be worse than none: a client would take a message for one
 * that it has fetched, and would never fetch it. Without a match it fetches a
 * message a second time. So a line gives its id only to a message that must be
 * the same one:
 *
 *	- The header is equal, and so is the body, if the line has its hash.
 *	- If the line has no hash of the body, the header must identify the
 *	  message. No other line may have this header, and all messages with
 *	  this header must have one body.
 *
 * If several lines and messages are equal, they match in the order of the
 * server and of the mailbox.
 *
 * A message that has an id from an earlier import keeps it, and is in no match,
 * because clients may have seen this id.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "import-match.h"

/* The messages [m, m_end) and the lines [l, l_end) with one header. */
struct group {
	struct import_message *m, *m_end;
	const struct import_line *l, *l_end;
};

/* Compares header, body and number. */
static int
compare_lines(const void *a, const void *b)
{
	const struct import_line *x = a, *y = b;
	int order = memcmp(x->header, y->header, UIDL_HASH);

	if (order != 0)
		return order;
	if (x->body != y->body)
		return x->body < y->body ? -1 : 1;
	return (x->number > y->number) - (x->number < y->number);
}

/* Compares header, body and number. */
static int
compare_messages(const void *a, const void *b)
{
	const struct import_message *x = a, *y = b;
	int order = memcmp(x->header, y->header, UIDL_HASH);

	if (order != 0)
		return order;
	if (x->body != y->body)
		return x->body < y->body ? -1 : 1;
	return (x->n > y->n) - (x->n < y->n);
}

static int
compare_numbers(const void *a, const void *b)
{
	const struct import_message *x = a, *y = b;

	return (x->n > y->n) - (x->n < y->n);
}

/*
 * Calls each for each header, with its messages and lines, one of which may be
 * none. Both arrays must be sorted.
 */
static void
for_each_group(struct import_list *l, struct import_message *m, size_t count,
    void (*each)(void *self, const struct group *g), void *self)
{
	struct import_message *m_end = m + count;
	const struct import_line *line = l->lines, *l_end = line + l->count;

	while (m < m_end || line < l_end) {
		struct group g = { m, m, line, line };
		const unsigned char *header;

		if (m == m_end)
			header = line->header;
		else if (line == l_end ||
		    memcmp(m->header, line->header, UIDL_HASH) < 0)
			header = m->header;
		else
			header = line->header;
		while (g.m_end < m_end &&
		    memcmp(g.m_end->header, header, UIDL_HASH) == 0)
			g.m_end++;
		while (g.l_end < l_end &&
		    memcmp(g.l_end->header, header, UIDL_HASH) == 0)
			g.l_end++;
		each(self, &g);
		m = g.m_end;
		line = g.l_end;
	}
}

/* Bodies decide if a line has one, or if several messages have the header. */
static void
set_needs(void *self, const struct group *g)
{
	bool needs =
	    g->l < g->l_end && (g->l_end[-1].body != 0 || g->m_end - g->m > 1);

	(void)self;
	for (struct import_message *m = g->m; m < g->m_end; m++) {
		m->is_listed = g->l < g->l_end;
		m->needs_body = needs && !m->is_unread;
	}
}

void
import_find_needs(struct import_list *l, struct import_message *m, size_t count)
{
	if (l->count > 0)
		qsort(l->lines, l->count, sizeof(*l->lines), compare_lines);
	if (count == 0)
		return;
	qsort(m, count, sizeof(*m), compare_messages);
	for_each_group(l, m, count, set_needs, NULL);
	qsort(m, count, sizeof(*m), compare_numbers);
}

/* The state of import_match. */
struct matching {
	const struct import_list *l;
	const struct uidl_map *kept;
	struct import_counts *c;
};

/* Returns true if an earlier import has given the id of the line. */
static bool
is_known(const struct matching *k, const struct import_line *line)
{
	char id[UIDL_SIZE];

	import_list_id(k->l, line, id);
	return uidl_map_has_old(k->kept, id);
}

/* Returns true if the message may get a line. */
static bool
is_free(const struct import_message *m)
{
	return !m->is_kept && !m->is_unread && m->line == NULL;
}

/*
 * Matches the only line of a group, if it has no body. Returns false if the
 * group is another one.
 */
static bool
match_by_header(const struct matching *k, const struct group *g)
{
	if (g->l_end - g->l != 1 || g->l->body != 0)
		return false;
	if (g->m == g->m_end || g->m->is_weak || is_known(k, g->l))
		return true;
	/* The messages are sorted by body, so two comparisons are enough. */
	if (g->m_end - g->m > 1 &&
	    (g->m->body == 0 || g->m->body != g->m_end[-1].body))
		return true;
	for (struct import_message *m = g->m; m < g->m_end; m++)
		if (is_free(m)) {
			m->line = g->l;
			return true;
		}
	return true;
}

/* Matches lines and messages with equal bodies, in their order. */
static void
match_by_body(const struct matching *k, const struct group *g)
{
	struct import_message *m = g->m;
	const struct import_line *line = g->l;

	while (m < g->m_end && line < g->l_end) {
		if (!is_free(m) || m->body < line->body)
			m++;
		else if (line->body == 0 || line->body < m->body ||
		    is_known(k, line))
			line++;
		else
			m++->line = line++;
	}
}

/*
 * Matches the group and counts its lines. A line that is in no match is
 * different if as many messages have other ids from an earlier import.
 */
static void
match_group(void *self, const struct group *g)
{
	struct matching *k = self;
	size_t lines = (size_t)(g->l_end - g->l), matched = 0, known = 0,
	       kept = 0, rest, different;

	if (lines == 0)
		return;
	if (!match_by_header(k, g))
		match_by_body(k, g);
	for (const struct import_message *m = g->m; m < g->m_end; m++) {
		matched += m->line != NULL;
		kept += m->is_kept;
	}
	for (const struct import_line *line = g->l; line < g->l_end; line++)
		known += is_known(k, line);
	rest = lines - matched - known;
	different = kept > known ? kept - known : 0;
	if (different > rest)
		different = rest;
	k->c->matched += matched;
	k->c->known += known;
	k->c->different += different;
	k->c->absent += rest - different;
}

void
import_match(struct import_list *l, struct import_message *m, size_t count,
    const struct uidl_map *kept, struct import_counts *c)
{
	struct matching k = { l, kept, c };

	*c = (struct import_counts){ .matched = 0 };
	if (count > 0)
		qsort(m, count, sizeof(*m), compare_messages);
	for_each_group(l, m, count, match_group, &k);
}
