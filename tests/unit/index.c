/*
 * Tests the index through maildrop.c, on an mbox and on a Maildir.
 *
 * Runs as any user. A session must use an index that matches the mailbox. A
 * damaged, truncated, foreign, stale, forged or unwritable index must lose no
 * message, change no byte and change no id.
 */
#include "config.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "index.h"
#include "mbox-cache.h"
#include "maildrop.h"
#include "fingerprint.h"
#include "tests/unit/check.h"
#include "tests/unit/drop.h"

#define MESSAGES 400 /* more than one block of the index can hold */
#define MOST_MESSAGES (MESSAGES + 40)

static int top;

/*
 * The linker replaces fdatasync by this function (--wrap). It counts the calls.
 */
static int syncs;
int __real_fdatasync(int);
int __wrap_fdatasync(int);
int
__wrap_fdatasync(int fd)
{
	syncs++;
	return __real_fdatasync(fd);
}

/* The linker replaces clock_gettime by this function (--wrap). */
static long ahead; /* seconds that the clock runs ahead */
int __real_clock_gettime(clockid_t, struct timespec *);
int __wrap_clock_gettime(clockid_t, struct timespec *);
int
__wrap_clock_gettime(clockid_t which, struct timespec *t)
{
	int result = __real_clock_gettime(which, t);

	if (which == CLOCK_REALTIME_COARSE)
		t->tv_sec += ahead;
	return result;
}

/*
 * The linker replaces pread by this function. Before the call whose number is
 * change_at, the function overwrites the index with the bytes of changed[].
 */
static int reads, change_at;
static char changed[1 << 20];
static size_t changed_size;
ssize_t __real_pread(int, void *, size_t, off_t);
ssize_t __wrap_pread(int, void *, size_t, off_t);
ssize_t
__wrap_pread(int fd, void *to, size_t size, off_t at)
{
	if (++reads == change_at) {
		int index = openat(top, "state/index", O_WRONLY);

		CHECK(pwrite(index, changed, changed_size, 0) ==
			(ssize_t)changed_size &&
		    close(index) == 0);
	}
	return __real_pread(fd, to, size, at);
}

/* What a session reports about a mailbox. */
struct picture {
	size_t count;
	uint64_t wire_size;
	uint64_t sizes[MOST_MESSAGES];
	char ids[MOST_MESSAGES][UIDL_SIZE];
};

/* Each format has a function that delivers message i. */

static void
add_to_mbox(int i)
{
	char text[200];
	/* Every fiftieth message has the same header as the message before. */
	int n = snprintf(text, sizeof(text), "From a\nSubject: %d\n\n%*s\n\n",
	    i - (i % 50 == 49), i % 90, "x");
	int fd = openat(top, "spool", O_WRONLY | O_CREAT | O_APPEND, 0600);

	CHECK(fd != -1 && write(fd, text, (size_t)n) == n && close(fd) == 0);
}

static void
add_to_maildir(int i)
{
	char name[100], text[200];
	int n = snprintf(text, sizeof(text), "Subject: %d\n\n%*s\n", i, i % 90,
		"x"),
	    fd;

	snprintf(name, sizeof(name), "Maildir/%s/%d.M%d.host%s",
	    i % 2 == 0 ? "new" : "cur", 1000 + i / 3, i,
	    i % 2 == 0 ? "" : ":2,S");
	CHECK((fd = openat(top, name, O_WRONLY | O_CREAT | O_EXCL, 0600)) !=
	    -1);
	CHECK(write(fd, text, (size_t)n) == n && close(fd) == 0);
}

static const struct format {
	const char *where;
	void (*add)(int i);
} formats[] = {
	{ "mbox:%h/spool", add_to_mbox },
	{ "maildir:%h/Maildir", add_to_maildir },
};

/* Waits until a file that has just changed can have a stable fingerprint. */
static void
wait_until_stable(void)
{
	CHECK(nanosleep(&(struct timespec){ .tv_nsec = 60000000 }, NULL) == 0);
}

/*
 * Opens a session. Closes the descriptors of the last session, because a real
 * session closes them by ending.
 */
static void
begin(const struct format *f, struct maildrop *drop)
{
	closefrom(top + 1);
	CHECK(drop_begin(drop, f->where) == DROP_OK);
}

/* Opens a session and stores in *p what the session reports. */
static void
look(const struct format *f, struct picture *p)
{
	struct maildrop drop;

	begin(f, &drop);
	CHECK(drop.count <= MOST_MESSAGES);
	p->count = drop.count;
	p->wire_size = drop.wire_size;
	for (size_t n = 1; n <= drop.count; n++) {
		p->sizes[n - 1] = maildrop_wire_size(&drop, n);
		maildrop_uidl(&drop, n, p->ids[n - 1]);
	}
}

/* Returns true if both sessions report the same. */
static bool
is_same(const struct picture *a, const struct picture *b)
{
	if (a->count != b->count || a->wire_size != b->wire_size)
		return false;
	for (size_t i = 0; i < a->count; i++)
		if (a->sizes[i] != b->sizes[i] ||
		    strcmp(a->ids[i], b->ids[i]) != 0)
			return false;
	return true;
}

/* Opens the file of the index. Returns its descriptor, or -1. */
static int
open_index(void)
{
	return openat(top, "state/index", O_RDWR);
}

/*
 * Returns the inode of the index, or 0 if there is none. An index that is
 * written as a new file has another inode.
 */
static ino_t
which_index(void)
{
	struct stat st;

	return fstatat(top, "state/index", &st, AT_SYMLINK_NOFOLLOW) == 0 ?
	    st.st_ino :
	    0;
}

/* Opens a session that finds no index. */
static void
look_anew(const struct format *f, struct picture *p)
{
	unlinkat(top, "state/index", 0);
	look(f, p);
}

/*
 * Opens a session that reads the whole mailbox. For an mbox the index is kept,
 * because only the index has the ids of messages with the same header.
 */
static void
look_through(const struct format *f, struct picture *p)
{
	if (f == &formats[0])
		CHECK(utimensat(top, "spool", NULL, 0) == 0);
	else
		unlinkat(top, "state/index", 0);
	look(f, p);
}

/*
 * Checks that the next session uses the index and reports the same as a session
 * without an index.
 */
static void
is_trusted(const struct format *f, struct picture *p)
{
	struct picture again;
	ino_t which;

	wait_until_stable();
	look(f, p);
	which = which_index();
	CHECK(which != 0);
	look(f, &again);
	CHECK(is_same(p, &again) && which_index() == which);
	look_anew(f, &again);
	CHECK(is_same(p, &again));
}

/*
 * Checks that new messages are found and get the ids that a session without an
 * index gives them.
 */
static void
grows(const struct format *f, struct picture *p)
{
	struct picture grown, anew;

	for (int i = 0; i < 20; i++) {
		f->add(MESSAGES + i);
		if (i % 2 == 0)
			wait_until_stable();
		look(f, &grown);
		CHECK(grown.count == p->count + 1);
		*p = grown;
	}
	look_anew(f, &anew);
	CHECK(is_same(&grown, &anew));
}

/*
 * Changes one byte of the index at a time, at many offsets. Sessions must
 * report the same as before.
 */
static void
is_damaged(const struct format *f, const struct picture *p)
{
	struct picture found;
	struct stat st;
	int fd;

	wait_until_stable();
	look(f, &found);
	CHECK((fd = open_index()) != -1 && fstat(fd, &st) == 0 &&
	    close(fd) == 0);
	for (off_t at = 0; at < st.st_size; at += at < 480 ? 7 : 777) {
		unsigned char byte;

		look(f, &found);
		CHECK((fd = open_index()) != -1);
		CHECK(pread(fd, &byte, 1, at) == 1);
		byte ^= 0x41;
		CHECK(pwrite(fd, &byte, 1, at) == 1 && close(fd) == 0);
		look(f, &found);
		CHECK(is_same(p, &found));
	}
}

/* Gives the index many other sizes, smaller and larger. */
static void
is_truncated(const struct format *f, const struct picture *p)
{
	struct picture found;
	struct stat st;
	int fd;

	look(f, &found);
	CHECK((fd = open_index()) != -1 && fstat(fd, &st) == 0 &&
	    close(fd) == 0);
	for (off_t size = 0; size <= st.st_size + 4096; size += 1000) {
		look(f, &found);
		CHECK((fd = open_index()) != -1 && ftruncate(fd, size) == 0 &&
		    close(fd) == 0);
		look(f, &found);
		CHECK(is_same(p, &found));
	}
}

/*
 * Replaces the index by a FIFO, a symlink, a directory or an index of another
 * kind. Checks that sessions report the same as before.
 */
static void
is_foreign(const struct format *f, const struct picture *p)
{
	struct picture found;
	struct index *other;

	unlinkat(top, "state/index", 0);
	CHECK(mkfifoat(top, "state/index", 0600) == 0);
	look(f, &found);
	CHECK(is_same(p, &found));
	unlinkat(top, "state/index", 0);
	CHECK(symlinkat("/dev/zero", top, "state/index") == 0);
	look(f, &found);
	CHECK(is_same(p, &found));
	unlinkat(top, "state/index", 0);
	CHECK(mkdirat(top, "state/index", 0700) == 0);
	look(f, &found);
	CHECK(is_same(p, &found));
	CHECK(unlinkat(top, "state/index", AT_REMOVEDIR) == 0);
	/* An index of another version. */
	other = index_new(openat(top, "state", O_RDONLY | O_DIRECTORY),
	    "mbox   0", 40);
	index_put(other, 0, "0123456789012345678901234567890123456789");
	index_save(other, "", 0);
	CHECK(which_index() != 0);
	look(f, &found);
	CHECK(is_same(p, &found));
}

/* Reads the file of the index, which is smaller than size. Returns its size. */
static size_t
read_index(char *to, size_t size)
{
	int fd = open_index();
	ssize_t n = fd != -1 ? pread(fd, to, size, 0) : -1;

	CHECK(n > 0 && (size_t)n < size && close(fd) == 0);
	return (size_t)n;
}

/*
 * Simulates a power failure. The header of the index is on the disk, but the
 * block that was written before the header is not.
 */
static void
loses_a_block(const struct format *f, struct picture *p)
{
	static char before[1 << 20], after[1 << 20];
	struct picture found, anew;
	size_t n;
	int fd;

	for (int i = 0; i < 3; i++) {
		struct maildrop drop;
		struct span s;

		wait_until_stable();
		look_anew(f, &found);
		n = read_index(before, sizeof(before));
		f->add(MESSAGES + 31 + i);
		wait_until_stable();
		look(f, p);
		CHECK(p->count == found.count + 1);
		CHECK(read_index(after, sizeof(after)) == n);
		CHECK((fd = open_index()) != -1 &&
		    pwrite(fd, before + 4096, n - 4096, 4096) ==
			(ssize_t)n - 4096 &&
		    close(fd) == 0);
		begin(f, &drop);
		/*
		 * RETR sends the last message and nothing else. With a wrong
		 * boundary it would also send messages before the last one.
		 */
		CHECK(drop.count == p->count &&
		    maildrop_begin(&drop, drop.count, &s) == DROP_OK);
		CHECK(s.wire_size == p->sizes[drop.count - 1] && s.bytes < 200);
		look(f, &found);
		CHECK(is_same(p, &found));
	}
	look_anew(f, &anew);
	CHECK(is_same(p, &anew));
}

/*
 * If new records replace old ones in the file, the header must not count the
 * new records before they are on the disk. Checks that the records are synced
 * before the header is written.
 */
static void
replaces_in_order(const struct format *f)
{
	struct maildrop drop;
	struct picture found;
	size_t removed;
	int before;

	/*
	 * After the removal below, the list of a Maildir or of a small mbox is
	 * written as a new file. A new file has no old records, so the order
	 * does not matter.
	 */
	if (f != &formats[0] || cache_small > 0)
		return;
	wait_until_stable();
	look_anew(f, &found);
	f->add(MESSAGES + 36);
	wait_until_stable();
	before = syncs;
	look(f, &found);
	CHECK(syncs == before);
	begin(f, &drop);
	maildrop_mark(&drop, drop.count);
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 1);
	f->add(MESSAGES + 37);
	wait_until_stable();
	before = syncs;
	look(f, &found);
	CHECK(syncs == before + 1);
}

/*
 * Checks that sessions report the same if the index cannot be written. Such
 * sessions are only slower.
 */
static void
is_unwritable(const struct format *f, const struct picture *p)
{
	const struct rlimit none = { 4000, RLIM_INFINITY },
			    all = { RLIM_INFINITY, RLIM_INFINITY };
	struct picture found;

	signal(SIGXFSZ, SIG_IGN);
	unlinkat(top, "state/index", 0);
	CHECK(setrlimit(RLIMIT_FSIZE, &none) == 0);
	for (int i = 0; i < 2; i++) {
		look(f, &found);
		CHECK(is_same(p, &found) && which_index() == 0);
	}
	CHECK(setrlimit(RLIMIT_FSIZE, &all) == 0);
	look(f, &found);
	CHECK(is_same(p, &found) && which_index() != 0);
	/* Now there is an index, and it cannot be overwritten. */
	f->add(MESSAGES + 30);
	CHECK(setrlimit(RLIMIT_FSIZE, &none) == 0);
	look(f, &found);
	CHECK(found.count == p->count + 1);
	CHECK(setrlimit(RLIMIT_FSIZE, &all) == 0);
}

/*
 * Replaces the index by a changed copy with valid hashes. The argument i
 * selects the change.
 */
static void
forge(const char *kind, int i)
{
	int state = openat(top, "state", O_RDONLY | O_DIRECTORY);
	unsigned char record[INDEX_RECORD_MOST], note[INDEX_NOTE];
	struct index *forged, *real;
	size_t size;

	CHECK((real = index_load(state, kind)) != NULL);
	size = index_record_size(real);
	memcpy(note, index_note(real), sizeof(note));
	forged = index_new(state, kind, size);
	for (size_t k = 0; k < index_count(real); k++) {
		memcpy(record, index_get(real, k), size);
		if (k == (size_t)i && i % 3 == 0)
			memset(record + i % 32, i % 2 == 0 ? 0xff : 0, 8);
		if (k == (size_t)i && i % 3 == 1)
			record[i % 40] ^= 0x11;
		index_put(forged, k, record);
	}
	if (i % 3 == 2)
		memset(note + i % 250, 0xee, 8);
	index_save(forged, note, sizeof(note));
	index_free(forged);
	index_free(real);
	close(state);
}

/* Replaces the index by a copy with other ids. */
static void
forge_ids(void)
{
	int state = openat(top, "state", O_RDONLY | O_DIRECTORY);
	struct index *real = index_load(state, "mbox   4"), *forged;
	unsigned char record[INDEX_RECORD_MOST];
	size_t size;

	CHECK(real != NULL);
	size = index_record_size(real);
	forged = index_new(state, "mbox   4", size);
	for (size_t k = 0; k < index_count(real); k++) {
		memcpy(record, index_get(real, k), size);
		for (size_t i = size - UIDL_HASH; i < size; i++)
			record[i] ^= 0x55;
		index_put(forged, k, record);
	}
	index_save(forged, index_note(real), INDEX_NOTE);
	index_free(forged);
	index_free(real);
	close(state);
}

/*
 * Checks that a session with a forged index reports and sends no byte from
 * outside the mailbox. The session either continues or ends by fatal().
 */
static void
is_forged(const struct format *f)
{
	struct picture p, found;
	struct maildrop drop;

	wait_until_stable();
	look_anew(f, &p);
	for (int i = 0; i < 300; i++) {
		pid_t pid;
		int status;

		look_anew(f, &found);
		forge(f == &formats[0] ? "mbox   4" : "maildir3", i);
		if ((pid = fork()) == 0) {
			struct span s;
			char byte, id[UIDL_SIZE];

			begin(f, &drop);
			for (size_t k = 1; k <= drop.count; k++) {
				maildrop_uidl(&drop, k, id);
				if (maildrop_begin(&drop, k, &s) == DROP_OK &&
				    s.bytes > 0)
					CHECK(maildrop_read(&s, &byte, 1) == 1);
			}
			_exit(0);
		}
		CHECK(pid != -1 && waitpid(pid, &status, 0) == pid);
		/* The fatal() of quiet.c aborts. */
		CHECK(WIFEXITED(status) ? WEXITSTATUS(status) == 0 :
					  WTERMSIG(status) == SIGABRT);
	}
	look_anew(f, &found);
	CHECK(is_same(&p, &found));
}

/*
 * Checks that a list with the right fingerprint and a wrong boundary is
 * detected. The session must make a new list and find the message at its real
 * offset.
 */
static void
is_discarded(const struct format *f)
{
	struct picture p, found;
	struct maildrop drop;
	struct span s;

	if (f != &formats[0])
		return;
	wait_until_stable();
	look_anew(f, &p);
	forge("mbox   4", 40);
	begin(f, &drop);
	for (int again = 0; again < 2; again++) {
		CHECK(maildrop_begin(&drop, 41, &s) == DROP_OK &&
		    s.wire_size == p.sizes[40]);
		begin(f, &drop);
	}
	look(f, &found);
	CHECK(is_same(&p, &found));
}

/*
 * Checks that the list after a removal is the same as a list that is made from
 * the whole mailbox.
 */
static void
shrinks(const struct format *f)
{
	struct picture p, kept, anew;
	int step[] = { 7, 2, 3 };

	wait_until_stable();
	look_anew(f, &p);
	for (int i = 0; i < 3; i++) {
		struct maildrop drop;
		size_t removed;

		wait_until_stable();
		begin(f, &drop);
		for (size_t n = 1; n <= drop.count; n++)
			if (i == 2 ? n > drop.count / 2 :
				     n % (size_t)step[i] == 1)
				maildrop_mark(&drop, n);
		CHECK(maildrop_commit(&drop, &removed) == DROP_OK &&
		    removed == drop.marked);
		look(f, &kept);
		look_through(f, &anew);
		CHECK(kept.count == drop.count - removed &&
		    is_same(&kept, &anew));
	}
}

/*
 * Checks that a fingerprint that is not stable never matches. A fingerprint of
 * fingerprint_put must be stable at once.
 */
static void
fingerprints_become_stable(void)
{
	struct fingerprint a, b;
	int fd = openat(top, "file", O_RDWR | O_CREAT, 0600);

	CHECK(fd != -1 && write(fd, "x", 1) == 1);
	CHECK(fingerprint_take(&a, fd) == 0 && a.stable == 0);
	CHECK(fingerprint_take(&b, fd) == 0 && fingerprint_same(&a, &b) &&
	    !fingerprint_matches(&a, &b));
	wait_until_stable();
	CHECK(fingerprint_take(&a, fd) == 0 && a.stable == 1);
	CHECK(fingerprint_take(&b, fd) == 0 && fingerprint_matches(&a, &b));
	for (int i = 0; i < 200; i++) {
		CHECK(pwrite(fd, "y", 1, 0) == 1);
		CHECK(fingerprint_put(&a, fd) == 0 && a.stable == 1);
		CHECK(pwrite(fd, "z", 1, 0) == 1);
		CHECK(fingerprint_look(&b, fd) == 0 &&
		    !fingerprint_matches(&a, &b));
	}
	close(fd);
}

/*
 * Checks that a mailbox is read again if it was replaced or rewritten with the
 * same size and mtime.
 */
static void
is_replaced(void)
{
	const struct format *f = &formats[0];
	struct picture p, found;
	struct timespec times[2];
	struct stat st;
	int fd;

	wait_until_stable();
	look_anew(f, &p);
	for (int i = 0; i < 2; i++) {
		CHECK((fd = openat(top, "spool", O_RDWR)) != -1 &&
		    fstat(fd, &st) == 0);
		times[0] = st.st_atim;
		times[1] = st.st_mtim;
		if (i == 0)
			CHECK(pwrite(fd, "From b\nSubject: other\n\ny\n", 25,
				  0) == 25);
		else {
			char all[64 * 1024];
			ssize_t n = read(fd, all, sizeof(all));
			char *subject =
			    memmem(all, sizeof(all), "Subject: ", 9);

			CHECK(n == st.st_size && close(fd) == 0 &&
			    subject != NULL);
			CHECK(unlinkat(top, "spool", 0) == 0);
			subject[9] ^= 1;
			CHECK((fd = openat(top, "spool", O_RDWR | O_CREAT,
				   0600)) != -1);
			CHECK(write(fd, all, (size_t)n) == n);
		}
		CHECK(futimens(fd, times) == 0 && close(fd) == 0);
		look(f, &found);
		CHECK(!is_same(&p, &found));
		p = found;
		look_anew(f, &found);
		CHECK(is_same(&p, &found));
	}
}

/* Overwrites the spool. */
static void
put_spool(const char *text)
{
	int fd = openat(top, "spool", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd != -1 &&
	    write(fd, text, strlen(text)) == (ssize_t)strlen(text) &&
	    close(fd) == 0);
}

#define EQUAL(body) "From a\nMessage-ID: <1@h>\n\n" body "\n\n"

/*
 * Checks that messages with the same header keep their ids. The id of the first
 * one must not go to a message with another body.
 */
static void
ids_are_kept(void)
{
	const struct format *f = &formats[0];
	struct picture p, found;

	/*
	 * A list without a stable fingerprint is not continued. The ids in that
	 * list are still used, because clients know them.
	 */
	put_spool(EQUAL("one") EQUAL("two"));
	look_anew(f, &p);
	put_spool(EQUAL("two"));
	look(f, &found);
	CHECK(found.count == 1 && strcmp(found.ids[0], p.ids[1]) == 0);
	/*
	 * The first message still owns its id after the others were removed. So
	 * a later message with that header must get another id.
	 */
	put_spool(EQUAL("one") EQUAL("two"));
	wait_until_stable();
	look_anew(f, &p);
	put_spool(EQUAL("one"));
	wait_until_stable();
	look(f, &found);
	CHECK(found.count == 1 && strcmp(found.ids[0], p.ids[0]) == 0);
	put_spool(EQUAL("three"));
	look(f, &found);
	CHECK(found.count == 1 && strcmp(found.ids[0], p.ids[0]) != 0);
}

/*
 * Another program may remove a message before the client sends UIDL, although
 * the id needs the message's body. Checks that no other message gets such an id
 * later.
 */
static void
late_ids_are_not_given_again(void)
{
	const struct format *f = &formats[0];
	static const char *const before[] = { EQUAL("one") EQUAL("two"),
		EQUAL("two") EQUAL("three") };
	static const char *const after[] = { EQUAL("two"), EQUAL("three") };
	char ids[2][2][UIDL_SIZE], id[UIDL_SIZE];

	for (int i = 0; i < 2; i++) {
		struct maildrop drop;

		put_spool(before[i]);
		wait_until_stable();
		unlinkat(top, "state/index", 0);
		begin(f, &drop);
		put_spool(after[i]);
		for (size_t n = 0; n < 2; n++)
			maildrop_uidl(&drop, n + 1, ids[i][n]);
		begin(f, &drop);
		maildrop_uidl(&drop, 1, id);
		CHECK(drop.count == 1 && strcmp(id, ids[i][0]) != 0);
	}
	CHECK(strcmp(ids[0][1], ids[1][1]) != 0);
}

/*
 * Checks that RETR is complete after the clock was set back. Another message
 * has the same header.
 */
static void
clock_is_set_back(void)
{
	const struct format *f = &formats[0];
	struct maildrop drop;
	struct span s;
	char text[100];

	put_spool(EQUAL("one") EQUAL("two"));
	unlinkat(top, "state/index", 0);
	ahead = 3600;
	begin(f, &drop);
	ahead = -3600;
	begin(f, &drop);
	CHECK(maildrop_begin(&drop, 2, &s) == DROP_OK);
	while (s.bytes > 0)
		CHECK(maildrop_read(&s, text, sizeof(text)) > 0);
	CHECK(maildrop_end(&drop, 2, &s, s.wire_size));
	ahead = 0;
}

/*
 * The user writes to the index while a session reads it. The session must not
 * report or send a byte from outside the mailbox. The session either continues
 * or ends by fatal().
 */
static void
changes_while_read(void)
{
	const struct format *f = &formats[0];
	static char before[1 << 20];
	struct maildrop drop;
	size_t n;
	int fd;

	put_spool("");
	for (int i = 0; i < MESSAGES; i++) {
		char text[100];
		int size = snprintf(text, sizeof(text),
		    "From a\nMessage-ID: <%d@h>\n\nx\n\n", i);

		CHECK((fd = openat(top, "spool", O_WRONLY | O_APPEND)) != -1);
		CHECK(write(fd, text, (size_t)size) == size && close(fd) == 0);
	}
	wait_until_stable();
	for (int of_other = 1; of_other >= 0; of_other--) {
		/*
		 * Make two copies of the index of one list. The first copy has
		 * other ids. Both copies have the same note (mbox-cache.c).
		 */
		unlinkat(top, "state/index", 0);
		begin(f, &drop);
		if (of_other)
			forge_ids();
		n = read_index(of_other ? changed : before, sizeof(before));
		changed_size = n;
	}
	for (change_at = 1; change_at < 60; change_at++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			char id[UIDL_SIZE];

			CHECK((fd = open_index()) != -1 &&
			    pwrite(fd, before, n, 0) == (ssize_t)n);
			reads = 0;
			begin(f, &drop);
			for (size_t k = 1; k <= drop.count; k++)
				maildrop_uidl(&drop, k, id);
			_exit(0);
		}
		CHECK(pid != -1 && waitpid(pid, &status, 0) == pid);
		CHECK(WIFEXITED(status) ? WEXITSTATUS(status) == 0 :
					  WTERMSIG(status) == SIGABRT);
	}
	change_at = 0;
}

/* Runs all tests with both formats. */
static void
all_formats(void)
{
	static struct picture p;

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		const struct format *f = &formats[i];

		for (int k = 0; k < MESSAGES; k++)
			f->add(k);
		is_trusted(f, &p);
		CHECK(p.count == MESSAGES);
		grows(f, &p);
		is_damaged(f, &p);
		is_truncated(f, &p);
		is_foreign(f, &p);
		loses_a_block(f, &p);
		replaces_in_order(f);
		look_anew(f, &p);
		is_unwritable(f, &p);
		is_forged(f);
		is_discarded(f);
		shrinks(f);
	}
	is_replaced();
	ids_are_kept();
	late_ids_are_not_given_again();
	clock_is_set_back();
	changes_while_read();
}

int
main(void)
{
	top = drop_directory();
	CHECK(mkdirat(top, "state", 0700) == 0);
	fingerprints_become_stable();
	/* In the first pass all mailboxes count as large. */
	for (int large = 1; large >= 0; large--) {
		cache_small = large ? 0 : 4 << 20;
		CHECK(mkdirat(top, "Maildir", 0700) == 0 &&
		    mkdirat(top, "Maildir/new", 0700) == 0 &&
		    mkdirat(top, "Maildir/cur", 0700) == 0 &&
		    mkdirat(top, "Maildir/tmp", 0700) == 0);
		all_formats();
		CHECK(renameat(top, "Maildir", top,
			  large ? "Maildir.large" : "Maildir.small") == 0);
		CHECK(unlinkat(top, "spool", 0) == 0 &&
		    unlinkat(top, "state/index", 0) == 0);
	}
	return drop_clean_up();
}
