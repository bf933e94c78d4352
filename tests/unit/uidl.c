/*
 * Tests the map of the ids of another server, and the hashes by which messages
 * are recognized there.
 *
 * Runs as any user. Whatever the file of the map contains, no two messages have
 * one id. A file that does not have the form of a map gives no ids at all.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "mbox-scan.h"
#include "tests/unit/check.h"
#include "tests/unit/drop.h"
#include "uidl-hash.h"
#include "uidl-map.h"
#include "wire.h"

#define FIRST "kpopd uidl map 1\n"
#define SEVENTY                                                                \
	"01234567890123456789012345678901234567890123456789012345678901234567" \
	"89"
#define MANY 50000

static int top;

/* The linker replaces fsync and renameat (--wrap). */
static int syncs_left = -1; /* fsync fails after so many calls; -1: never */
static bool is_rename_failing;
static bool is_synced; /* a file was synced since the last rename */

int __real_fsync(int);
int __wrap_fsync(int);
int
__wrap_fsync(int fd)
{
	errno = EIO;
	if (syncs_left == 0)
		return -1;
	syncs_left -= syncs_left > 0;
	is_synced = true;
	return __real_fsync(fd);
}

int __real_renameat(int, const char *, int, const char *);
int __wrap_renameat(int, const char *, int, const char *);
int
__wrap_renameat(int from, const char *name, int to, const char *new)
{
	errno = ENOSPC;
	if (is_rename_failing)
		return -1;
	if (strcmp(new, "uidl") == 0)
		CHECK(is_synced);
	is_synced = false;
	return __real_renameat(from, name, to, new);
}

/* Removes the entry of the state directory, if it exists. */
static void
discard(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "state/%s", name);
	CHECK(unlinkat(top, path, 0) == 0 || errno == ENOENT);
}

static void
write_map(const char *p, size_t n)
{
	int fd;

	mkdirat(top, "state", 0700);
	discard("uidl");
	fd = openat(top, "state/uidl", O_WRONLY | O_CREAT | O_EXCL, 0600);
	CHECK(fd != -1 && file_write(fd, p, n, 0) == 0 && close(fd) == 0);
}

static int
open_state(void)
{
	int state;

	mkdirat(top, "state", 0700);
	state = openat(top, "state", O_RDONLY | O_DIRECTORY);
	CHECK(state != -1);
	return state;
}

/* Loads the map. Returns NULL, with errno, if that fails. */
static struct uidl_map *
load(void)
{
	struct uidl_map *m;
	int state = open_state();

	if (uidl_map_load(state, &m) == -1)
		CHECK(m == NULL && errno != 0);
	else if (m == NULL)
		errno = 0;
	close(state);
	return m;
}

static void
check_apply(const struct uidl_map *m, const char *own, const char *want)
{
	char id[UIDL_SIZE];

	strcpy(id, own);
	uidl_map_apply(m, id);
	CHECK(strcmp(id, want) == 0);
}

/* A map is found again as it was written. */
static void
test_round(void)
{
	struct uidl_map *m = uidl_map_new();
	int state = open_state();

	CHECK(uidl_map_add(m, "a", "1") && uidl_map_add(m, SEVENTY, "!") &&
	    uidl_map_add(m, "b", SEVENTY) && uidl_map_add(m, "same", "same"));
	CHECK(uidl_map_write(m, state) == 0);
	uidl_map_free(m);
	CHECK((m = load()) != NULL && uidl_map_count(m) == 4);
	check_apply(m, "a", "1");
	check_apply(m, SEVENTY, "!");
	check_apply(m, "b", SEVENTY);
	check_apply(m, "same", "same");
	check_apply(m, "c", "c");
	check_apply(m, "aa", "aa");
	CHECK(uidl_map_has_own(m, "a") && !uidl_map_has_own(m, "1"));
	CHECK(uidl_map_has_old(m, "1") && !uidl_map_has_old(m, "a"));
	/* What is there already, or cannot be an id, changes nothing. */
	CHECK(!uidl_map_add(m, "a", "2") && !uidl_map_add(m, "d", "1"));
	CHECK(!uidl_map_add(m, "", "3") && !uidl_map_add(m, "d", ""));
	CHECK(!uidl_map_add(m, "d e", "3") && !uidl_map_add(m, "d", "3\n"));
	CHECK(!uidl_map_add(m, "d", SEVENTY "0") && uidl_map_count(m) == 4);
	CHECK(!uidl_map_has_own(m, "d") && !uidl_map_has_old(m, "2"));
	CHECK(uidl_map_add(m, "d", "2") && uidl_map_count(m) == 5);
	uidl_map_free(m);
	/* An empty map is a map. */
	m = uidl_map_new();
	CHECK(uidl_map_write(m, state) == 0);
	uidl_map_free(m);
	CHECK((m = load()) != NULL && uidl_map_count(m) == 0);
	check_apply(m, "a", "a");
	uidl_map_free(m);
	close(state);
}

/* An own id that a line gives to another message is replaced. */
static void
test_taken(void)
{
	struct uidl_map *m = uidl_map_new();
	char first[UIDL_SIZE] = "x", second[UIDL_SIZE] = "x",
	     other[UIDL_SIZE] = "y";

	CHECK(uidl_map_add(m, "a", "x") && uidl_map_add(m, "b", "y"));
	uidl_map_apply(m, first);
	uidl_map_apply(m, other);
	CHECK(strcmp(first, "x") != 0 && strncmp(first, ":0:", 3) == 0 &&
	    strlen(first) == 3 + UIDL_HASH_TEXT);
	CHECK(strncmp(other, ":0:", 3) == 0 && strcmp(first, other) != 0);
	/* The list may contain the replacement as well. */
	CHECK(uidl_map_add(m, "c", first));
	uidl_map_apply(m, second);
	CHECK(strncmp(second, ":1:", 3) == 0 &&
	    strcmp(first + 3, second + 3) == 0);
	check_apply(m, "c", first);
	/* It is the same on each machine. */
	CHECK(strcmp(first, ":0:XHQBwOwi7u7q8GxkgLLNEQ") == 0);
	uidl_map_free(m);
}

static const struct text wrong[] = {
	TEXT(""),
	TEXT("k"),
	TEXT("kpopd uidl map 1"),
	TEXT("kpopd uidl map 2\na 1\n"),
	TEXT("kpopd uidl map 1\r\na 1\n"),
	TEXT(FIRST "a 1"),
	TEXT(FIRST "a 1\n\n"),
	TEXT(FIRST "\na 1\n"),
	TEXT(FIRST "a\n"),
	TEXT(FIRST "a \n"),
	TEXT(FIRST " 1\n"),
	TEXT(FIRST "a  1\n"),
	TEXT(FIRST "a 1 \n"),
	TEXT(FIRST "a 1 2\n"),
	TEXT(FIRST "a\t1\n"),
	TEXT(FIRST "a 1\r\n"),
	TEXT(FIRST "a 1\0\n"),
	TEXT(FIRST "a\0b 1\n"),
	TEXT(FIRST "a \x7f\n"),
	TEXT(FIRST "a \xe4\n"),
	TEXT(FIRST "a " SEVENTY "0\n"),
	TEXT(FIRST SEVENTY "0 1\n"),
	/* one own id, or one old id, twice */
	TEXT(FIRST "a 1\nb 2\na 3\n"),
	TEXT(FIRST "b 2\na 1\nc 2\n"),
	TEXT(FIRST "a 1\na 1\n"),
};

/* A file without the form of a map is an error, and not a map. */
static void
test_wrong(void)
{
	struct uidl_map *m;

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		write_map(wrong[i].p, wrong[i].n);
		CHECK(load() == NULL && errno == EBADMSG);
	}
	/* The order of the lines means nothing. */
	write_map(FIRST "z 1\na 2\nm 3\n", strlen(FIRST) + 12);
	CHECK((m = load()) != NULL && uidl_map_count(m) == 3);
	check_apply(m, "a", "2");
	uidl_map_free(m);
	discard("uidl");
	CHECK(load() == NULL && errno == 0);
}

/* What the user may put in place of the file is neither followed nor read. */
static void
test_replaced(void)
{
	int fd;

	write_map(FIRST, strlen(FIRST));
	CHECK(renameat(top, "state/uidl", top, "other") == 0);
	CHECK(symlinkat("../other", top, "state/uidl") == 0);
	CHECK(load() == NULL && errno == ELOOP);
	discard("uidl");
	CHECK(mkfifoat(top, "state/uidl", 0600) == 0);
	CHECK(load() == NULL && errno == EBADMSG);
	discard("uidl");
	CHECK(mkdirat(top, "state/uidl", 0700) == 0);
	CHECK(load() == NULL && errno == EBADMSG);
	CHECK(unlinkat(top, "state/uidl", AT_REMOVEDIR) == 0);
	/* A sparse file of a terabyte is not read into memory. */
	fd = openat(top, "state/uidl", O_WRONLY | O_CREAT, 0600);
	CHECK(fd != -1 && ftruncate(fd, (off_t)1 << 40) == 0 && close(fd) == 0);
	CHECK(load() == NULL && errno == EBADMSG);
	discard("uidl");
}

/* If the map cannot be written, the earlier one stays. */
static void
test_write_errors(void)
{
	struct uidl_map *m = uidl_map_new();
	struct stat st;
	int state = open_state(), fd;

	write_map(FIRST "a 1\n", strlen(FIRST) + 4);
	CHECK(uidl_map_add(m, "a", "2"));
	syncs_left = 0;
	CHECK(uidl_map_write(m, state) == -1 && errno == EIO);
	syncs_left = -1;
	is_rename_failing = true;
	CHECK(uidl_map_write(m, state) == -1 && errno == ENOSPC);
	is_rename_failing = false;
	CHECK(fstatat(state, "uidl.tmp", &st, 0) == -1);
	/* What a killed process has left does not matter, whatever it is. */
	CHECK(symlinkat("uidl", state, "uidl.tmp") == 0);
	uidl_map_free(m);
	CHECK((m = load()) != NULL);
	check_apply(m, "a", "1");
	CHECK(uidl_map_write(m, state) == 0);
	CHECK(fstatat(state, "uidl", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0600);
	/* The last sync is that of the directory. */
	syncs_left = 1;
	CHECK(uidl_map_write(m, state) == -1 && errno == EIO);
	syncs_left = -1;
	uidl_map_free(m);
	fd = openat(state, "uidl", O_RDONLY);
	CHECK(fd != -1 && close(fd) == 0 && close(state) == 0);
	discard("uidl");
}

/* Many lines, among them ids that are prefixes of others. */
static void
test_many(void)
{
	struct uidl_map *m = uidl_map_new();
	char own[UIDL_SIZE], old[UIDL_SIZE];
	int state = open_state();

	for (int i = 0; i < MANY; i++) {
		snprintf(own, sizeof(own), "%d", i);
		snprintf(old, sizeof(old), "o%d", MANY - i);
		CHECK(uidl_map_add(m, own, old));
	}
	CHECK(uidl_map_write(m, state) == 0 && close(state) == 0);
	uidl_map_free(m);
	CHECK((m = load()) != NULL && uidl_map_count(m) == MANY);
	for (int i = 0; i < MANY; i++) {
		snprintf(own, sizeof(own), "%d", i);
		snprintf(old, sizeof(old), "o%d", MANY - i);
		check_apply(m, own, old);
		snprintf(own, sizeof(own), "-%d", i);
		check_apply(m, own, own);
	}
	uidl_map_free(m);
	discard("uidl");
}

static const char *const heads[] = { "A: 1\n", "A: 2\nStatus: RO\n", "A: 3\n",
	"A: 4\n" };

static void
write_spool(void)
{
	int fd = openat(top, "spool", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd != -1);
	for (size_t i = 0; i < 4; i++)
		CHECK(dprintf(fd, "From a\n%s\nbody %zu\n\n", heads[i], i) > 0);
	CHECK(close(fd) == 0);
}

static void
write_files(void)
{
	mkdirat(top, "Maildir", 0700);
	mkdirat(top, "Maildir/new", 0700);
	mkdirat(top, "Maildir/cur", 0700);
	mkdirat(top, "Maildir/tmp", 0700);
	for (size_t i = 0; i < 4; i++) {
		char name[64];
		int fd;

		snprintf(name, sizeof(name), "Maildir/new/100%zu.M.host", i);
		fd = openat(top, name, O_WRONLY | O_CREAT, 0600);
		CHECK(fd != -1);
		CHECK(dprintf(fd, "%s\nbody %zu\n", heads[i], i) > 0 &&
		    close(fd) == 0);
	}
}

/* A session gives the ids of the map, or none if the map is damaged. */
static void
test_session(const char *where)
{
	struct maildrop drop;
	char own[4][UIDL_SIZE], id[UIDL_SIZE];
	struct uidl_map *m = uidl_map_new();
	int state = open_state();

	discard("uidl");
	discard("index");
	CHECK(drop_begin(&drop, where) == DROP_OK && drop.count == 4);
	CHECK(maildrop_load_ids(&drop) == DROP_OK && drop.map == NULL);
	for (size_t n = 1; n <= 4; n++) {
		maildrop_own_id(&drop, n, own[n - 1]);
		maildrop_uidl(&drop, n, id);
		CHECK(strcmp(own[n - 1], id) == 0);
	}
	/* Message 2 has had the id that is message 3's own. */
	CHECK(uidl_map_add(m, own[0], "old") &&
	    uidl_map_add(m, own[1], own[2]) && uidl_map_add(m, "gone", "gone"));
	CHECK(uidl_map_write(m, state) == 0);
	uidl_map_free(m);
	for (int without_index = 0; without_index < 2; without_index++) {
		CHECK(drop_begin(&drop, where) == DROP_OK);
		CHECK(maildrop_load_ids(&drop) == DROP_OK);
		drop_check_ids(&drop);
		maildrop_uidl(&drop, 1, id);
		CHECK(strcmp(id, "old") == 0);
		maildrop_uidl(&drop, 2, id);
		CHECK(strcmp(id, own[2]) == 0);
		maildrop_uidl(&drop, 3, id);
		CHECK(strncmp(id, ":0:", 3) == 0);
		maildrop_uidl(&drop, 4, id);
		CHECK(strcmp(id, own[3]) == 0);
		discard("index");
	}
	write_map(FIRST "a 1\nb 1\n", strlen(FIRST) + 8);
	CHECK(drop_begin(&drop, where) == DROP_OK);
	CHECK(maildrop_load_ids(&drop) == DROP_DENIED);
	/* The result does not change during a session. */
	discard("uidl");
	CHECK(maildrop_load_ids(&drop) == DROP_DENIED);
	CHECK(symlinkat("spool", top, "state/uidl") == 0);
	CHECK(drop_begin(&drop, where) == DROP_OK);
	CHECK(maildrop_load_ids(&drop) == DROP_DENIED);
	discard("uidl");
	close(state);
}

/* Messages without their "From " line. */
static const struct text messages[] = {
	TEXT("Subject: a\n\nbody\n"),
	TEXT("Subject: a\nMessage-ID: <1>\n\nbody\n\nmore\n"),
	TEXT("Received: x\n by y\n\nbody\n"),
	TEXT("message-id: 1\nStatus: RO\nX-UID: 5\nContent-Length: 3\n\nabc"),
	TEXT("A: b\nStatus: R\n O\nX-Keywords: a\n\tb\nB: c\n\n"),
	TEXT("A: b\n\n"),
	TEXT("A: b\n"),
	TEXT("A: b"),
	TEXT("A: b\nStatus: RO"),
	TEXT("A: b\n "),
	TEXT(" folded first\nA: b\n\nx\n"),
	TEXT("A: b\r\nB: c\rd\r\n\r\nbody\r\n\r\n"),
	TEXT("A: b\nB: c\r"),
	TEXT("A: b\n\r"),
	TEXT("nul \0 here: \xff\n\nbody \0\n"),
	TEXT("Long: " SEVENTY SEVENTY SEVENTY "\n\nbody\n"),
	TEXT("X-VM-v5-Data: " SEVENTY SEVENTY "\nA: b\n\nbody\n"),
	TEXT("Subject: " SEVENTY SEVENTY "\r\nStatus: RO\r\n\r\nbody\r\n"),
	TEXT("A: b\n\nMessage-ID: <not in the header>\n\n\n\n"),
	TEXT("\nbody only\n"),
};

/* Hashes a message in parts of at most this size. */
static void
hash_in_parts(struct uidl_hash *h, const struct text *t, size_t part)
{
	uidl_hash_begin(h);
	for (size_t i = 0; i < t->n; i += part)
		uidl_hash_add(h, t->p + i, t->n - i < part ? t->n - i : part);
	uidl_hash_end(h);
}

static void
keep_found(void *self, const struct scan_message *m)
{
	*(struct scan_message *)self = *m;
}

/* The hashes are those of an mbox with this message, in any parts. */
static void
test_hash(const struct text *t)
{
	struct scan_message found = { .at = -1 };
	struct uidl_hash h, other;
	uint64_t body;
	off_t end;
	int fd = openat(top, "one", O_RDWR | O_CREAT | O_TRUNC, 0600);

	CHECK(fd != -1 && write(fd, "From a\n", 7) == 7 &&
	    write(fd, t->p, t->n) == (ssize_t)t->n);
	CHECK(scan_messages(fd, 0, 7 + (off_t)t->n, true, keep_found, &found,
		  &end) == SCAN_DONE &&
	    found.at == 0);
	CHECK(scan_body(fd, 0, 7 + (off_t)t->n, &body) == 0);
	hash_in_parts(&h, t, t->n);
	CHECK(memcmp(h.header, found.id, UIDL_HASH) == 0);
	CHECK(h.is_weak == found.weak && h.body == body);
	for (size_t part = 1; part < t->n; part++) {
		hash_in_parts(&other, t, part);
		CHECK(memcmp(h.header, other.header, UIDL_HASH) == 0);
		CHECK(h.is_weak == other.is_weak && h.body == other.body);
	}
	close(fd);
}

/*
 * A message as POP3 sends it has the hashes of the stored one. If it ends with
 * a CR, POP3 adds a line end, of which that CR is not a part.
 */
static void
test_sent(const struct text *t)
{
	char sent[2048], bytes[2048];
	struct text copy = { bytes, 0 };
	struct uidl_hash h, other;
	struct wire w;
	size_t n;

	wire_init(&w, WIRE_ALL);
	n = wire_put(&w, t->p, t->n, sent);
	n += wire_end(&w, sent + n);
	for (size_t i = 0; i < n; i++) {
		if (sent[i] == '.' && (i == 0 || sent[i - 1] == '\n'))
			i++;
		bytes[copy.n++] = sent[i];
	}
	hash_in_parts(&h, t, t->n);
	hash_in_parts(&other, &copy, copy.n);
	CHECK(memcmp(h.header, other.header, UIDL_HASH) == 0);
	CHECK(h.is_weak == other.is_weak && h.body == other.body);
}

int
main(void)
{
	top = drop_directory();
	write_spool();
	write_files();
	test_round();
	test_taken();
	test_wrong();
	test_replaced();
	test_write_errors();
	test_many();
	test_session("mbox:%h/spool");
	test_session("maildir:%h/Maildir");
	for (size_t i = 0; i < sizeof(messages) / sizeof(messages[0]); i++) {
		test_hash(&messages[i]);
		if (messages[i].p[messages[i].n - 1] != '\r')
			test_sent(&messages[i]);
	}
	return drop_clean_up();
}
