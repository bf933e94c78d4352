/*
 * Fuzz target: reads an index that is damaged or forged.
 *
 * Input: one byte that selects the kind of change. Then come either the bytes
 * of an index, or offsets and bytes to change in a genuine index.
 *
 * With a damaged index the session must report the same as without an index,
 * byte for byte. A forged index has valid hashes, because the user can compute
 * the hashes. With a forged index, the session may report any messages of the
 * mailbox, or end. But the session must not read outside the mailbox, and it
 * must remove only whole messages.
 */
#include "config.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "fuzz/box.h"
#include "fuzz/tidy.h"
#include "index.h"

#define MESSAGES 120 /* more than one block of the index can hold */
#define WHERE "mbox:%h/spool"
#define BLOCK 4096
#define BLOCKS 3
#define HASH sizeof(uint64_t)
#define HEADER                                                                 \
	(4 * sizeof(uint64_t) +                                                \
	    INDEX_NOTE) /* size of the header without its hash */
#define LARGEST 65536   /* the mailbox is smaller */

/* What a session without an index reports about the messages. */
static char ids[MESSAGES][UIDL_SIZE];
static uint64_t wire_size[MESSAGES];

/*
 * Opens a session. If "first" is true, stores what the session reports. If not,
 * compares what it reports with what was stored.
 */
static void
look(struct maildrop *drop, bool first)
{
	char id[UIDL_SIZE];

	HOLDS(box_open(drop, WHERE) == DROP_OK && drop->count == MESSAGES);
	for (size_t i = 0; i < MESSAGES; i++) {
		maildrop_uidl(drop, i + 1, id);
		if (first) {
			memcpy(ids[i], id, UIDL_SIZE);
			wire_size[i] = maildrop_wire_size(drop, i + 1);
		}
		HOLDS(strcmp(ids[i], id) == 0 &&
		    maildrop_wire_size(drop, i + 1) == wire_size[i]);
	}
}

/* Makes the mailbox, and reads it without an index. */
static void
make_mailbox(void)
{
	int fd = openat(fuzz_directory(), "spool",
	    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct maildrop drop;

	HOLDS(fd != -1);
	for (int i = 0; i < MESSAGES; i++)
		/* Every three messages have the same header. */
		HOLDS(dprintf(fd, "From a\nSubject: %d\n\n%*s\n\n", i / 3, i,
			  "x") > 0);
	HOLDS(close(fd) == 0);
	box_discard_index();
	look(&drop, true);
}

/* Opens a session with the present index, and compares all messages. */
static void
check(void)
{
	struct maildrop drop;

	look(&drop, false);
	free(box_show(&drop));
}

/* Replaces the index by the bytes that are left in the input. */
static void
replace_index(const struct input *in)
{
	int fd = openat(fuzz_directory(), "state/index",
	    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	HOLDS(fd != -1 && write(fd, in->at, in->left) == (ssize_t)in->left);
}

/* Changes bytes of a genuine index and does not change its hashes. */
static void
damage_index(struct input *in)
{
	int fd = openat(fuzz_directory(), "state/index", O_RDWR | O_CLOEXEC);

	HOLDS(fd != -1);
	while (in->left >= 3) {
		off_t at = (off_t)input_below(in, 3 * 4096);
		uint8_t change = input_byte(in), old = 0;

		HOLDS(pread(fd, &old, 1, at) != -1);
		old ^= change;
		HOLDS(pwrite(fd, &old, 1, at) == 1);
	}
}

/* Changes bytes of a genuine index and computes its hashes again. */
static void
forge_index(struct input *in)
{
	static unsigned char all[BLOCKS * BLOCK];
	int fd = openat(fuzz_directory(), "state/index", O_RDWR | O_CLOEXEC);
	uint64_t hash;

	HOLDS(fd != -1 &&
	    pread(fd, all, sizeof(all), 0) == (ssize_t)sizeof(all));
	while (in->left >= 3) {
		size_t at = input_below(in, sizeof(all));

		all[at] ^= input_byte(in);
	}
	hash = XXH3_64bits(all, HEADER);
	memcpy(all + HEADER, &hash, HASH);
	for (size_t b = 1; b < BLOCKS; b++) {
		hash =
		    XXH3_64bits_withSeed(all + b * BLOCK, BLOCK - HASH, b - 1);
		memcpy(all + (b + 1) * BLOCK - HASH, &hash, HASH);
	}
	HOLDS(pwrite(fd, all, sizeof(all), 0) == (ssize_t)sizeof(all));
}

/* Reads the mailbox. Returns its size. */
static size_t
read_mailbox(char *to)
{
	int fd = openat(fuzz_directory(), "spool", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd != -1 ? read(fd, to, LARGEST) : -1;

	HOLDS(n >= 0 && n < LARGEST && close(fd) == 0);
	return (size_t)n;
}

/*
 * Checks that the mailbox consists of whole messages of the earlier mailbox, in
 * the same order. No two messages are equal.
 */
static void
check_rest(const char *was, size_t n, const char *is, size_t left)
{
	size_t at = 0;

	for (size_t from = 0, to; from < n; from = to) {
		const char *next =
		    memmem(was + from + 1, n - from - 1, "\n\nFrom ", 7);

		to = next != NULL ? (size_t)(next + 2 - was) : n;
		if (left - at >= to - from &&
		    memcmp(is + at, was + from, to - from) == 0)
			at += to - from;
	}
	HOLDS(at == left);
}

/* Opens a session with a forged index. Reads some messages and removes some. */
static void
use_forged(uint32_t random)
{
	static char was[LARGEST], is[LARGEST];
	size_t n = read_mailbox(was), removed;
	struct maildrop drop;
	struct span s;
	char byte;
	jmp_buf end;

	fuzz_end = &end;
	if (setjmp(end) == 0 && box_open(&drop, WHERE) == DROP_OK) {
		for (size_t i = 1; i <= drop.count && i <= 2 * MESSAGES; i++) {
			if (fuzz_random(&random) % 4 != 0)
				continue;
			if (maildrop_begin(&drop, i, &s) == DROP_OK) {
				HOLDS(s.at >= 0 && (uint64_t)s.at <= n &&
				    s.bytes <= n - (size_t)s.at);
				HOLDS(s.bytes == 0 ||
				    maildrop_read(&s, &byte, 1) == 1);
			}
			if (fuzz_random(&random) % 8 == 0)
				maildrop_mark(&drop, i);
		}
		maildrop_commit(&drop, &removed);
	}
	fuzz_end = NULL;
	check_rest(was, n, is, read_mailbox(is));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	unsigned how = input_byte(&in);
	struct maildrop drop;

	tidy_begin();
	/* Because of this value, the fingerprints of new files are stable. */
	box_ahead = 10;
	make_mailbox();
	look(&drop, false);
	if (how % 4 == 3) {
		uint32_t random = (uint32_t)input_below(&in, 65536);

		forge_index(&in);
		use_forged(random);
	} else {
		if (how % 2 == 0)
			replace_index(&in);
		else
			damage_index(&in);
		check();
		check();
	}
	tidy_end();
	return 0;
}
