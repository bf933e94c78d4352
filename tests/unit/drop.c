/*
 * Opens sessions on a maildrop, and checks messages and ids. The unit tests of
 * the formats use this file.
 *
 * Runs in unit tests, as any user.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lock.h"
#include "tests/unit/check.h"
#include "tests/unit/drop.h"
#include "wire.h"

static char directory[] = "/tmp/kpopd-drop.XXXXXX";
static int top;

int
drop_directory(void)
{
	CHECK(mkdtemp(directory) != NULL);
	CHECK((top = open(directory, O_RDONLY | O_DIRECTORY)) != -1);
	return top;
}

static enum drop_error
begin_session(struct maildrop *drop, const char *where, bool read_only)
{
	static struct lock_plan locks;
	static struct mailboxes boxes;
	int state;

	CHECK(lock_plan_read(&locks, "fcntl") == 0);
	CHECK(mailboxes_read(&boxes, where) == 0);
	boxes.read_only = read_only;
	CHECK(mkdirat(top, "state", 0700) == 0 || errno == EEXIST);
	CHECK((state = openat(top, "state", O_RDONLY | O_DIRECTORY)) != -1);
	return maildrop_open(drop, &boxes,
	    mailboxes_path(&boxes, "user", directory), state, &locks);
}

enum drop_error
drop_begin(struct maildrop *drop, const char *where)
{
	return begin_session(drop, where, false);
}

enum drop_error
drop_begin_read_only(struct maildrop *drop, const char *where)
{
	return begin_session(drop, where, true);
}

void
drop_check_message(struct maildrop *drop, size_t n, const struct text *want)
{
	char stored[512], sent[1100];
	struct span s;
	struct wire w;
	size_t m = 0;
	ssize_t got;

	CHECK(maildrop_begin(drop, n, &s) == DROP_OK);
	wire_init(&w, WIRE_ALL);
	while ((got = maildrop_read(&s, stored, 3)) > 0)
		m += wire_put(&w, stored, (size_t)got, sent + m);
	CHECK(got == 0 && maildrop_end(drop, n, &s, want->n));
	m += wire_end(&w, sent + m);
	CHECK(w.wire_size == maildrop_wire_size(drop, n) &&
	    w.wire_size == want->n);
	for (size_t i = 0, k = 0; i < m; i++, k++) {
		if (sent[i] == '.' && (i == 0 || sent[i - 1] == '\n'))
			i++;
		CHECK(sent[i] == want->p[k]);
	}
}

void
drop_check_ids(struct maildrop *drop)
{
	char ids[MOST][UIDL_SIZE];

	CHECK(drop->count <= MOST);
	for (size_t n = 1; n <= drop->count; n++) {
		maildrop_uidl(drop, n, ids[n - 1]);
		CHECK(strlen(ids[n - 1]) >= 1 && strlen(ids[n - 1]) <= 70);
		for (const char *p = ids[n - 1]; *p != '\0'; p++)
			CHECK(*p >= 0x21 && *p <= 0x7e);
		for (size_t k = 0; k + 1 < n; k++)
			CHECK(strcmp(ids[k], ids[n - 1]) != 0);
	}
}

int
drop_clean_up(void)
{
	char command[100];

	snprintf(command, sizeof(command), "rm -r %s", directory);
	return system(command);
}
