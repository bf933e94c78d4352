/*
 * Fuzz target: the index reader.
 *
 * Input: one octet for what is done, then either the octets of an index, or
 * places and octets that are changed in a genuine one. What holds: the session
 * shows what one without an index shows, octet for octet.
 */
#include "config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/box.h"
#include "fuzz/tidy.h"

#define MESSAGES 120 /* more than a block of the index holds */
#define WHERE "mbox:%h/spool"

/* What there is, in the words of a session that had no index. */
static char ids[MESSAGES][UIDL_SIZE];
static uint64_t octets[MESSAGES];

static void
look(struct maildrop *drop, bool first)
{
	char id[UIDL_SIZE];

	HOLDS(box_open(drop, WHERE) == DROP_OK && drop->count == MESSAGES);
	for (size_t i = 0; i < MESSAGES; i++) {
		maildrop_uidl(drop, i + 1, id);
		if (first) {
			memcpy(ids[i], id, UIDL_SIZE);
			octets[i] = maildrop_octets(drop, i + 1);
		}
		HOLDS(strcmp(ids[i], id) == 0 && maildrop_octets(drop, i + 1) == octets[i]);
	}
}

static void
make_mailbox(void)
{
	int fd = openat(fuzz_directory(), "spool", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct maildrop drop;

	HOLDS(fd != -1);
	for (int i = 0; i < MESSAGES; i++)
		/* Some with equal headers. */
		HOLDS(dprintf(fd, "From a\nSubject: %d\n\n%*s\n\n", i / 3, i, "x") > 0);
	HOLDS(close(fd) == 0);
	box_forget();
	look(&drop, true);
}

/* Another session on the index as it is now. */
static void
check(void)
{
	struct maildrop drop;

	look(&drop, false);
	free(box_show(&drop));
}

static void
replace_index(const struct input *in)
{
	int fd = openat(fuzz_directory(), "state/index", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	HOLDS(fd != -1 && write(fd, in->at, in->left) == (ssize_t)in->left);
}

/* Changes octets of a genuine one; what was written there stays out of its hash. */
static void
damage_index(struct input *in)
{
	int fd = openat(fuzz_directory(), "state/index", O_RDWR | O_CLOEXEC);

	HOLDS(fd != -1);
	while (in->left >= 3) {
		off_t at = (off_t)input_below(in, 3 * 4096);
		uint8_t change = input_octet(in), old = 0;

		HOLDS(pread(fd, &old, 1, at) != -1);
		old ^= change;
		HOLDS(pwrite(fd, &old, 1, at) == 1);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	unsigned how = input_octet(&in);
	struct maildrop drop;

	tidy_begin();
	/* What was written a moment ago has settled. */
	box_ahead = 10;
	make_mailbox();
	look(&drop, false);
	if (how % 2 == 0)
		replace_index(&in);
	else
		damage_index(&in);
	check();
	check();
	tidy_end();
	return 0;
}
