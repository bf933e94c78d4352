/*
 * Names the journals of removals, and finds them.
 *
 * Runs as the owner of the mailbox: in the session, in the recovery after a
 * crash, and in a child of kpopd-check.
 *
 * The names are j.tmp, j and j.cut (mbox-journal.c). On a shared file system a
 * call of a host that has lost its locks may arrive late. Another host may
 * already have begun a removal or a recovery. So each removal and each recovery
 * there has names of its own, for example j.cut.0123456789abcdef. A recovery
 * first renames the journal to its own name. A late rename or unlink then finds
 * no file.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mbox-journal-names.h"
#include "volume.h"

#define DIGITS 16 /* hexadecimal digits of the number in a name */

static const struct {
	const char *prefix;
	enum journal_state what;
} kinds[] = {
	{ "j.tmp", JOURNAL_TEMPORARY },
	{ "j.cut", JOURNAL_WRITTEN },
	{ "j", JOURNAL_DECIDED },
};

struct journal_box
journal_box_make(int state, int fd, int dir)
{
	struct journal_box b = { state, fd, dir, "j.tmp", "j", "j.cut" };
	char number[1 + DIGITS + 1];
	uint64_t random;

	if (!volume_is_shared(state))
		return b;
	arc4random_buf(&random, sizeof(random));
	snprintf(number, sizeof(number), ".%016" PRIx64, random);
	strlcat(b.temporary, number, JOURNAL_NAME);
	strlcat(b.decided, number, JOURNAL_NAME);
	strlcat(b.written, number, JOURNAL_NAME);
	return b;
}

/* Returns the state of the journal with this name; 0: it is not a journal. */
static unsigned
state_of_name(const char *name)
{
	/* Each login reads the names of the directory. */
	if (name[0] != 'j')
		return 0;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t n = strlen(kinds[i].prefix);

		if (strncmp(name, kinds[i].prefix, n) != 0)
			continue;
		if (name[n] == '\0' ||
		    (name[n] == '.' &&
			strspn(name + n + 1, "0123456789abcdef") == DIGITS &&
			name[n + 1 + DIGITS] == '\0'))
			return kinds[i].what;
	}
	return 0;
}

/* What journal_each calls, and for which journals. */
struct each {
	unsigned wanted;
	int (*visit)(void *self, enum journal_state what, const char *name);
	void *self;
};

static int
visit_name(void *self, const char *name)
{
	const struct each *e = self;
	unsigned what = state_of_name(name) & e->wanted;

	return what != 0 ? e->visit(e->self, (enum journal_state)what, name) :
			   0;
}

/*
 * A listing is needed, because on a shared file system the kernel and the
 * client may remember that a name is absent.
 */
int
journal_each(int state, unsigned wanted,
    int (*visit)(void *self, enum journal_state what, const char *name),
    void *self)
{
	struct each e = { wanted, visit, self };

	return volume_each_name(state, visit_name, &e);
}

/* The journal that was found, and the box to which it must belong, or NULL. */
struct find {
	const struct journal_box *own;
	int what;
	char *name;
};

static int
note_journal(void *self, enum journal_state what, const char *name)
{
	struct find *f = self;

	if (f->own != NULL && strcmp(name, f->own->decided) != 0 &&
	    strcmp(name, f->own->written) != 0)
		return 0;
	if (f->what == 0 || (int)what < f->what) {
		f->what = (int)what;
		strlcpy(f->name, name, JOURNAL_NAME);
	}
	return 0;
}

int
journal_find(int state, unsigned wanted, char name[JOURNAL_NAME])
{
	struct find f = { NULL, 0, name };

	return journal_each(state, wanted, note_journal, &f) == -1 ? -1 :
								     f.what;
}

int
journal_find_own(const struct journal_box *b)
{
	char name[JOURNAL_NAME];
	struct find f = { b, 0, name };

	return journal_each(b->state, JOURNAL_DECIDED | JOURNAL_WRITTEN,
		   note_journal, &f) == -1 ?
	    -1 :
	    f.what;
}
