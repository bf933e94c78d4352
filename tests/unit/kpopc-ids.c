/*
 * Tests kpopc-ids.c: which lines of UIDL are accepted, which messages must be
 * read whole, and the list that is written.
 *
 * Runs as any user.
 */
#include "config.h"

#include <string.h>

#include "kpopc-map.h"
#include "tests/unit/check.h"

#define SEVENTY                                                                \
	"01234567890123456789012345678901234567890123456789012345678901234567" \
	"89"

static void
takes_lines_in_order(void)
{
	static const char *const wrong[] = { "", "2", "2 ", "1 a", "3 a",
		"02 a", "+2 a", " 2 a", "2a", "2  a", "2 a ", "2 a b", "2 \ta",
		"2 \x7f", "2 \xe4", "2 " SEVENTY "0" };
	struct ids ids = { .all = NULL };

	CHECK(ids_add(&ids, "1 " SEVENTY) == NULL);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK(ids_add(&ids, wrong[i]) != NULL);
	CHECK(ids_add(&ids, "2 !") == NULL && ids_add(&ids, "3 ~") == NULL);
	CHECK(ids.count == 3 && strcmp(ids.all[0].old, SEVENTY) == 0);
	CHECK(strcmp(ids.all[1].old, "!") == 0);
	ids_free(&ids);
}

/* Adds `count` messages with the ids "iN". */
static struct ids
make_ids(size_t count)
{
	struct ids ids = { .all = NULL };
	char line[64];

	for (size_t i = 1; i <= count; i++) {
		snprintf(line, sizeof(line), "%zu i%zu", i, i);
		CHECK(ids_add(&ids, line) == NULL);
	}
	CHECK(ids.count == count);
	return ids;
}

static void
counts_repeated_ids(void)
{
	struct ids ids = make_ids(5000);
	size_t first = 0, second = 0;

	CHECK(ids_count_repeated(&ids, &first, &second) == 0);
	CHECK(first == 0 && second == 0);
	strcpy(ids.all[4321].old, ids.all[77].old);
	CHECK(ids_count_repeated(&ids, &first, &second) == 1);
	CHECK(first == 78 && second == 4322);
	strcpy(ids.all[4322].old, ids.all[77].old);
	strcpy(ids.all[9].old, ids.all[8].old);
	CHECK(ids_count_repeated(&ids, &first, &second) == 3);
	CHECK(first < second);
	CHECK(strcmp(ids.all[first - 1].old, ids.all[second - 1].old) == 0);
	ids_free(&ids);
	CHECK(ids_count_repeated(&ids, &first, &second) == 0);
}

/* Stores hashes that were computed from these texts. */
static void
put(struct id *id, const char *header, const char *body)
{
	struct uidl_hash h;

	uidl_hash_begin(&h);
	uidl_hash_add(&h, header, strlen(header));
	uidl_hash_end(&h);
	ids_put_header(id, &h);
	if (body == NULL)
		return;
	uidl_hash_begin(&h);
	uidl_hash_add(&h, header, strlen(header));
	uidl_hash_add(&h, body, strlen(body));
	uidl_hash_end(&h);
	CHECK(ids_put_body(id, &h));
}

static void
marks_what_headers_do_not_identify(void)
{
	static const bool whole[] = { false, true, true, true, false, true };
	struct ids ids = make_ids(6);

	put(&ids.all[0], "Message-ID: <a>\n\n", NULL);
	put(&ids.all[1], "Message-ID: <b>\n\n", NULL);
	put(&ids.all[2], "Subject: weak\n\n", NULL);
	put(&ids.all[3], "Message-ID: <b>\r\nStatus: RO\r\n\r\n", NULL);
	put(&ids.all[4], "Received: x\n\n", NULL);
	put(&ids.all[5], "Message-ID: <b>\n\n", NULL);
	ids_mark_equal(&ids);
	for (size_t i = 0; i < ids.count; i++)
		CHECK(ids.all[i].needs_whole == whole[i]);
	ids_free(&ids);
}

static void
finds_a_header_that_has_changed(void)
{
	struct ids ids = make_ids(1);
	struct uidl_hash h;

	put(&ids.all[0], "Message-ID: <a>\n\n", "body\n");
	uidl_hash_begin(&h);
	uidl_hash_add(&h, "Message-ID: <b>\n\nbody\n", 22);
	uidl_hash_end(&h);
	CHECK(!ids_put_body(&ids.all[0], &h));
	ids_free(&ids);
}

static void
writes_the_list(void)
{
	static const char empty[] = "kpopd uidl list 1\nend 0\n";
	struct ids ids = { .all = NULL };
	char text[1000] = "", want[1000];
	FILE *f = fmemopen(text, sizeof(text), "w");

	CHECK(f != NULL);
	ids_write(&ids, f);
	CHECK(fclose(f) == 0 && strcmp(text, empty) == 0);

	ids = make_ids(2);
	put(&ids.all[0], "Message-ID: <a>\n\n", NULL);
	put(&ids.all[1], "Message-ID: <b>\n\n", "body\n");
	/* The digits of a body's hash are never fewer. */
	ids.all[1].body = 0xabc;
	CHECK((f = fmemopen(text, sizeof(text), "w")) != NULL);
	ids_write(&ids, f);
	CHECK(fclose(f) == 0);
	CHECK(strlen(ids.all[0].header) == UIDL_HASH_TEXT);
	CHECK(strcmp(ids.all[0].header, ids.all[1].header) != 0);
	snprintf(want, sizeof(want),
	    "kpopd uidl list 1\n%s - i1\n%s 0000000000000abc i2\nend 2\n",
	    ids.all[0].header, ids.all[1].header);
	CHECK(strcmp(text, want) == 0);
	ids_free(&ids);
}

int
main(void)
{
	takes_lines_in_order();
	counts_repeated_ids();
	marks_what_headers_do_not_identify();
	finds_a_header_that_has_changed();
	writes_the_list();
	return 0;
}
