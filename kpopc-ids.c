/*
 * Keeps the ids of another server's messages, with the hashes that identify the
 * messages, and writes the list of them.
 *
 * Runs as the caller. The ids may come from an attacker, so they are checked
 * before they are kept, and their number is limited.
 *
 * The list is text with LF line ends, in the order of the server:
 *
 *	kpopd uidl list 1
 *	HEADER BODY OLD
 *	...
 *	end COUNT
 *
 * HEADER is the hash of the header (uidl-hash.c), 22 characters of base64url.
 * BODY is the hash of the body, 16 hexadecimal digits in lower case, or "-" if
 * it was not needed. OLD is the server's id. COUNT is the number of messages. A
 * list without the last line is not whole.
 */
#include "config.h"

#include <err.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "kpopc-map.h"
#include "kpopc.h"

#define ROOM 1024 /* messages for which the first allocation has room */

/*
 * Returns a pointer to what follows the number and the blank at the beginning
 * of the line, or NULL if the line begins with another number.
 */
static const char *
after_number(const char *line, size_t number)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "%zu ", number);

	return strncmp(line, text, (size_t)n) == 0 ? line + n : NULL;
}

const char *
ids_add(struct ids *ids, const char *line)
{
	const char *id = after_number(line, ids->count + 1);

	if (id == NULL)
		return "a line does not begin with the next message's number";
	if (!uidl_is_valid(id, strlen(id)))
		return "an id is not of 1 to 70 characters without blanks";
	if (ids->count == IDS_MOST)
		return "the mailbox has too many messages";
	if (ids->count == ids->room) {
		ids->room = ids->room == 0 ? ROOM : ids->room * 2;
		ids->all = reallocarray(ids->all, ids->room, sizeof(*ids->all));
		if (ids->all == NULL)
			err(EXIT_BROKEN, "%zu messages", ids->room);
	}
	ids->all[ids->count] = (struct id){ .body = 0 };
	strlcpy(ids->all[ids->count].old, id, UIDL_SIZE);
	ids->count++;
	return NULL;
}

/* Compares the ids of two messages, then their numbers, for qsort. */
static int
compare_old(const void *a, const void *b)
{
	const struct id *const *x = a, *const *y = b;
	int order = strcmp((*x)->old, (*y)->old);

	return order != 0 ? order : (*x > *y) - (*x < *y);
}

/* Compares the headers of two messages, for qsort. */
static int
compare_header(const void *a, const void *b)
{
	const struct id *const *x = a, *const *y = b;

	return strcmp((*x)->header, (*y)->header);
}

/* Returns pointers to all messages in this order. The caller frees them. */
static struct id **
sort_ids(const struct ids *ids, int (*compare)(const void *a, const void *b))
{
	struct id **sorted = calloc(ids->count + 1, sizeof(struct id *));

	if (sorted == NULL)
		err(EXIT_BROKEN, "%zu messages", ids->count);
	for (size_t i = 0; i < ids->count; i++)
		sorted[i] = &ids->all[i];
	qsort(sorted, ids->count, sizeof(struct id *), compare);
	return sorted;
}

size_t
ids_count_repeated(const struct ids *ids, size_t *first, size_t *second)
{
	struct id **sorted = sort_ids(ids, compare_old);
	size_t count = 0;

	for (size_t i = 1; i < ids->count; i++) {
		const struct id *x = sorted[i - 1], *y = sorted[i];

		if (strcmp(x->old, y->old) != 0 || count++ > 0)
			continue;
		*first = (size_t)(x - ids->all) + 1;
		*second = (size_t)(y - ids->all) + 1;
	}
	free(sorted);
	return count;
}

void
ids_put_header(struct id *id, const struct uidl_hash *h)
{
	uidl_write(h->header, id->header);
	id->needs_whole = h->is_weak;
}

bool
ids_put_body(struct id *id, const struct uidl_hash *h)
{
	char header[UIDL_HASH_TEXT + 1];

	uidl_write(h->header, header);
	id->body = h->body;
	return strcmp(header, id->header) == 0;
}

void
ids_mark_equal(struct ids *ids)
{
	struct id **sorted = sort_ids(ids, compare_header);

	for (size_t i = 1; i < ids->count; i++)
		if (compare_header(&sorted[i - 1], &sorted[i]) == 0)
			sorted[i - 1]->needs_whole = sorted[i]->needs_whole =
			    true;
	free(sorted);
}

void
ids_write(const struct ids *ids, FILE *f)
{
	fputs(UIDL_LIST_FIRST "\n", f);
	for (size_t i = 0; i < ids->count; i++) {
		const struct id *id = &ids->all[i];

		if (id->body != 0)
			fprintf(f, "%s %016" PRIx64 " %s\n", id->header,
			    id->body, id->old);
		else
			fprintf(f, "%s - %s\n", id->header, id->old);
	}
	fprintf(f, UIDL_LIST_END "%zu\n", ids->count);
}

void
ids_free(struct ids *ids)
{
	free(ids->all);
	*ids = (struct ids){ .all = NULL };
}
