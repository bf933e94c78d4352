/*
 * Fuzz target: recovery from forged journals, and removals that are interrupted
 * anywhere (mbox-journal.c, mbox-redo.c).
 *
 * Input: one byte selects one of two kinds.
 *
 *	forged        Any mailbox and journals with any contents. Some checksums
 *	              and hashes are made right. The mailbox may lose bytes only
 *	              if a journal is sound and made for this mailbox. After
 *	              recovery the mailbox must be as the target predicts. To
 *	              predict it, the target reads the files without kpopd's
 *	              code. A journal that recovery does not obey must become
 *	              rescue.*.
 *	interrupted   A genuine removal ends or fails at some call, perhaps in
 *	              the middle of a write. Recoveries end or fail in the same
 *	              way, and mail arrives between two of them. In the end all
 *	              marked messages are removed or none, and the mailbox
 *	              contains every kept and every new byte once.
 */
#include "config.h"

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "fuzz/tidy.h"
#include "mbox-ranges.h"
#include "mbox-redo.h"

#define HEAD 4096
#define WINDOW 65536
#define MOST 5000 /* most bytes of a forged journal's data, and of a mailbox */

static int state = -1, spool = -1;
static struct journal_box where;

/*
 * While "armed" is true, calls are counted from 1 on. The call number stop_at
 * ends the removal or the recovery. The call number fail_at fails.
 */
static bool armed;
static unsigned calls, stop_at, fail_at;
static int fail_with;
static jmp_buf stopped;

/* Counts a call. Returns true if it must fail. */
static bool
turn(void)
{
	if (!armed)
		return false;
	calls++;
	if (calls != fail_at)
		return false;
	errno = fail_with;
	return true;
}

/* Ends the removal or the recovery if it must stop at this call. */
static void
stop_here(void)
{
	if (armed && calls == stop_at)
		longjmp(stopped, 1);
}

#define WRAP(type, name, parameters, arguments)                                \
	type __real_##name parameters;                                         \
	type __wrap_##name parameters;                                         \
	type __wrap_##name parameters                                          \
	{                                                                      \
		if (turn())                                                    \
			return -1;                                             \
		stop_here();                                                   \
		return __real_##name arguments;                                \
	}
WRAP(int, fsync, (int fd), (fd))
WRAP(int, fdatasync, (int fd), (fd))
WRAP(int, ftruncate, (int fd, off_t n), (fd, n))
WRAP(int, renameat, (int a, const char *b, int c, const char *d), (a, b, c, d))
WRAP(int, unlinkat, (int a, const char *b, int c), (a, b, c))

/* A write that is stopped has written only a part of its bytes. */
ssize_t __real_pwrite(int, const void *, size_t, off_t);
ssize_t __wrap_pwrite(int, const void *, size_t, off_t);
ssize_t
__wrap_pwrite(int fd, const void *p, size_t n, off_t at)
{
	if (turn())
		return -1;
	if (armed && calls == stop_at)
		__real_pwrite(fd, p, n / 2, at);
	stop_here();
	return __real_pwrite(fd, p, n, at);
}

/* Makes an empty state directory and an empty mailbox. */
static void
begin(void)
{
	int fd;

	armed = false;
	if (state == -1) {
		HOLDS(mkdirat(fuzz_directory(), "state", 0700) == 0);
		fd = openat(fuzz_directory(), "state",
		    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		HOLDS((state = fcntl(fd, F_DUPFD_CLOEXEC, 0)) != -1);
		fd = openat(fuzz_directory(), "spool",
		    O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		HOLDS((spool = fcntl(fd, F_DUPFD_CLOEXEC, 0)) != -1);
	}
	where = journal_box_make(state, spool, -1);
	HOLDS(ftruncate(spool, 0) == 0);
}

/* The bytes of a file, if the file exists. */
struct text {
	uint8_t *p;
	size_t n;
	bool there;
};

static struct text
text_new(size_t room)
{
	struct text t = { .p = malloc(room + 1), .there = true };

	HOLDS(t.p != NULL);
	return t;
}

static void
append(struct text *t, const void *p, size_t n)
{
	if (n > 0)
		memcpy(t->p + t->n, p, n);
	t->n += n;
}

static struct text
text_read(int at, const char *name)
{
	int fd = openat(at, name, O_RDONLY | O_CLOEXEC);
	struct stat st;
	struct text t;

	HOLDS(fd != -1 && fstat(fd, &st) == 0);
	t = text_new((size_t)st.st_size);
	t.n = (size_t)st.st_size;
	HOLDS(pread(fd, t.p, t.n, 0) == st.st_size);
	return t;
}

static void
text_write(int at, const char *name, const struct text *t)
{
	int fd =
	    openat(at, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	HOLDS(fd != -1 && pwrite(fd, t->p, t->n, 0) == (ssize_t)t->n);
}

static bool
same(const struct text *a, const struct text *b)
{
	return a->n == b->n && memcmp(a->p, b->p, a->n) == 0;
}

/*
 * The head of a journal. It is defined here again, so that the target reads
 * journals independently of kpopd.
 */
struct head {
	char magic[8];
	uint64_t inode;
	int64_t from, kept, size;
	uint8_t marker[16];
	uint64_t marker_size;
	uint8_t before[32], after[32], tail[32], sum[32];
};

/* The witness, at offset 512 of a journal of version 2. */
struct witness {
	uint64_t directory;
	uint32_t front_size, back_size;
	char front[1024], back[2048];
	uint8_t sum[32];
};

static void
hash(const void *p, size_t n, uint8_t digest[32])
{
	SHA2_CTX c;

	SHA256Init(&c);
	SHA256Update(&c, p, n);
	SHA256Final(digest, &c);
}

/*
 * Hashes the last 64 KiB of the bytes [from, to) at p. Hashes all of these
 * bytes if there are fewer.
 */
static void
hash_end(const uint8_t *p, size_t from, size_t to, uint8_t digest[32])
{
	if (to - from > WINDOW)
		from = to - WINDOW;
	hash(p + from, to - from, digest);
}

/*
 * Returns true if the file is a complete journal. Sets *w to zeros if the
 * journal is of version 1.
 */
static bool
is_sound(const struct text *journal, struct head *h, struct witness *w)
{
	uint8_t sum[32], tail[32];

	if (!journal->there || journal->n < HEAD)
		return false;
	memcpy(h, journal->p, sizeof(*h));
	memcpy(w, journal->p + 512, sizeof(*w));
	hash(h, offsetof(struct head, sum), sum);
	if (memcmp(sum, h->sum, 32) != 0 || h->from < 0 ||
	    h->kept != (int64_t)(journal->n - HEAD) || h->marker_size < 1 ||
	    h->marker_size > 16 ||
	    h->from > h->size - h->kept - (int64_t)h->marker_size)
		return false;
	hash_end(journal->p + HEAD, 0, (size_t)h->kept, tail);
	if (memcmp(tail, h->tail, 32) != 0)
		return false;
	if (memcmp(h->magic, "kpopd j1", 8) == 0) {
		memset(w, 0, sizeof(*w));
		return true;
	}
	hash(w, offsetof(struct witness, sum), sum);
	return memcmp(h->magic, "kpopd j2", 8) == 0 &&
	    memcmp(sum, w->sum, 32) == 0 && w->front_size <= 1024 &&
	    w->back_size <= 2048 && w->front_size <= h->size - h->from &&
	    w->back_size <= h->size - h->from;
}

static ino_t
inode(void)
{
	struct stat st;

	HOLDS(fstat(spool, &st) == 0);
	return st.st_ino;
}

/*
 * Returns true if the mailbox contains, at the given offset, either the old
 * byte or the byte that the removal writes at that offset.
 */
static bool
is_witnessed(const struct head *h, const struct text *j, const struct text *box,
    int64_t at, char old)
{
	int64_t end = h->from + h->kept;
	uint8_t there = box->p[at];

	if (there == (uint8_t)old)
		return true;
	if (at < end)
		return there == j->p[HEAD + at - h->from];
	return at < end + (int64_t)h->marker_size &&
	    there == h->marker[at - end];
}

/* Returns true if the journal j was made for this mailbox. */
static bool
is_for(const struct head *h, const struct witness *w, const struct text *j,
    const struct text *box)
{
	uint8_t before[32], after[32];

	if (h->size > (int64_t)box->n ||
	    (w->back_size == 0 && h->inode != (uint64_t)inode()))
		return false;
	for (int64_t i = 0; i < w->front_size; i++)
		if (!is_witnessed(h, j, box, h->from + i, w->front[i]))
			return false;
	for (int64_t i = 0; i < w->back_size; i++)
		if (!is_witnessed(h, j, box, h->size - w->back_size + i,
			w->back[i]))
			return false;
	hash_end(box->p, 0, (size_t)h->from, before);
	hash_end(box->p, (size_t)(h->from + h->kept + (int64_t)h->marker_size),
	    (size_t)h->size, after);
	return memcmp(before, h->before, 32) == 0 &&
	    memcmp(after, h->after, 32) == 0;
}

/*
 * How a mailbox relates to the journal j.cut. WHOLE is not truncated yet,
 * TRUNCATED is truncated, and OTHER is not the journal's mailbox.
 */
enum written { WHOLE, TRUNCATED, OTHER };

static enum written
compare_written(const struct head *h, const struct text *box)
{
	uint8_t before[32], tail[32];
	size_t end = (size_t)(h->from + h->kept);

	if (end > box->n)
		return OTHER;
	hash_end(box->p, 0, (size_t)h->from, before);
	hash_end(box->p, (size_t)h->from, end, tail);
	if (memcmp(before, h->before, 32) != 0 ||
	    memcmp(tail, h->tail, 32) != 0)
		return OTHER;
	if (h->size > (int64_t)box->n)
		return TRUNCATED;
	for (size_t i = 0; i < h->marker_size; i++)
		if (box->p[end + i] != h->marker[i] && box->p[end + i] != 0)
			return TRUNCATED;
	return WHOLE;
}

/* Returns a copy of the mailbox without the bytes [to, from). */
static struct text
without(const struct text *box, size_t to, size_t from)
{
	struct text t = text_new(box->n);

	append(&t, box->p, to);
	append(&t, box->p + from, box->n - from);
	return t;
}

/*
 * Returns the mailbox as it must be after a recovery with the journal j. Sets
 * *obeyed to true if recovery must obey j. If it does, j replaces j.cut.
 */
static struct text
after_j(const struct text *box, const struct text *j, bool *obeyed)
{
	struct witness w;
	struct text t;
	struct head h;

	*obeyed = is_sound(j, &h, &w) && is_for(&h, &w, j, box);
	if (!*obeyed)
		return *box;
	t = text_new(box->n);
	append(&t, box->p, (size_t)h.from);
	append(&t, j->p + HEAD, (size_t)h.kept);
	append(&t, box->p + h.size, box->n - (size_t)h.size);
	return t;
}

/*
 * Returns the mailbox as it must be after a recovery with the journal j.cut.
 * Sets *rescued if j.cut is damaged or was not made for this mailbox.
 */
static struct text
after_j_cut(const struct text *box, const struct text *jcut, bool *rescued)
{
	struct witness w;
	struct head h;
	enum written is =
	    is_sound(jcut, &h, &w) ? compare_written(&h, box) : OTHER;

	*rescued = jcut->there && is == OTHER;
	return is == WHOLE ?
	    without(box, (size_t)(h.from + h.kept), (size_t)h.size) :
	    *box;
}

enum {
	PADDED = 1,
	WIDE = 2,
	HASHED = 4,
	TAILED = 8,
	SUMMED = 16,
	OURS = 32,
	RAW = 64,
	IN_PLACE = 128
};

/*
 * Computes those checksums and hashes whose bits are set in the argument "how".
 */
static void
make_right(struct head *h, unsigned how, const struct text *box,
    const uint8_t *kept, size_t n)
{
	/*
	 * A removal with a negative h->from would begin before the start of the
	 * file.
	 */
	bool inside = h->from >= -MOST && h->kept >= 0 && h->kept <= MOST &&
	    h->size >= -MOST && h->size <= (int64_t)box->n &&
	    h->marker_size <= 16 &&
	    h->from <= h->size - h->kept - (int64_t)h->marker_size;
	int64_t after =
	    inside ? h->from + h->kept + (int64_t)h->marker_size : -1;

	if ((how & OURS) != 0)
		h->inode = inode();
	if ((how & HASHED) != 0 && after >= 0) {
		hash_end(box->p, 0, h->from > 0 ? (size_t)h->from : 0,
		    h->before);
		hash_end(box->p, (size_t)after, (size_t)h->size, h->after);
	}
	if ((how & TAILED) != 0)
		hash_end(kept, 0, n, h->tail);
	if ((how & SUMMED) != 0)
		hash(h, offsetof(struct head, sum), h->sum);
}

/* Takes the witness from the mailbox, as kpopd does. */
static void
take_witness(const struct head *h, const struct text *box, struct witness *w)
{
	int64_t n;

	memset(w, 0, sizeof(*w));
	if (h->from < 0 || h->size < h->from || h->size > (int64_t)box->n)
		return;
	n = h->size - h->from;
	w->front_size = n < 1024 ? (uint32_t)n : 1024;
	w->back_size = n < 2048 ? (uint32_t)n : 2048;
	memcpy(w->front, box->p + h->from, w->front_size);
	memcpy(w->back, box->p + h->size - w->back_size, w->back_size);
	hash(w, offsetof(struct witness, sum), w->sum);
}

/* Returns a journal that the input specifies. */
static struct text
forge(struct input *in, struct text *box)
{
	unsigned how = input_byte(in);
	struct text t;
	struct head h = { .marker = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
			      13, 14, 15 } };
	struct witness w;
	const uint8_t *p;
	uint8_t byte;
	size_t n;

	if ((how & RAW) != 0) {
		n = input_below(in, MOST);
		p = input_take(in, &n);
		t = text_new(n);
		append(&t, p, n);
		return t;
	}
	h.from = (int64_t)input_below(in, MOST);
	h.size = h.from + (int64_t)input_below(in, MOST);
	byte = (uint8_t)input_byte(in);
	h.marker_size = byte % 18;
	n = input_below(in, MOST);
	p = input_take(in, &n);
	h.kept = (int64_t)n;
	if ((how & WIDE) != 0) {
		size_t numbers =
		    offsetof(struct head, marker) - offsetof(struct head, from);
		const uint8_t *wide = input_take(in, &numbers);

		memcpy(&h.from, wide, numbers);
	}
	/*
	 * Give the mailbox the content that it has after step 3, so that a
	 * j.cut may match the mailbox.
	 */
	if ((how & IN_PLACE) != 0 && h.from >= 0 &&
	    (size_t)h.from + n + 16 <= box->n) {
		memcpy(box->p + h.from, p, n);
		memcpy(box->p + h.from + n, h.marker, 16);
	}
	/* Half of the journals are of version 2. */
	memcpy(h.magic, byte < 128 ? "kpopd j1" : "kpopd j2", 8);
	make_right(&h, how, box, p, n);
	take_witness(&h, box, &w);
	t = text_new(HEAD + n);
	append(&t, &h, sizeof(h));
	if ((how & PADDED) != 0) {
		memset(t.p + t.n, 0, HEAD - t.n);
		if (byte >= 128)
			memcpy(t.p + 512, &w, sizeof(w));
		t.n = HEAD;
	}
	append(&t, p, n);
	return t;
}

/* Returns true if a journal was kept as rescue.*. */
static bool
is_rescued(const struct text *journal)
{
	DIR *dir =
	    fdopendir(openat(state, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	const struct dirent *d;
	bool found = false;

	HOLDS(dir != NULL);
	while ((d = readdir(dir)) != NULL)
		if (strncmp(d->d_name, "rescue.", 7) == 0) {
			struct text t = text_read(state, d->d_name);

			found |= same(&t, journal);
		}
	closedir(dir);
	return found;
}

static void
empty_state(void)
{
	DIR *dir =
	    fdopendir(openat(state, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	const struct dirent *d;

	HOLDS(dir != NULL);
	while ((d = readdir(dir)) != NULL)
		if (d->d_name[0] != '.')
			unlinkat(state, d->d_name, 0);
	closedir(dir);
}

static void
forged(struct input in)
{
	unsigned which = input_byte(&in);
	size_t n = input_below(&in, MOST);
	const uint8_t *p = input_take(&in, &n);
	struct text box = text_new(n), j = { .there = false }, jcut = j, there,
		    want;
	bool obeyed, rescued = false;

	append(&box, p, n);
	if ((which & 1) != 0)
		j = forge(&in, &box);
	if ((which & 2) != 0)
		jcut = forge(&in, &box);
	HOLDS(pwrite(spool, box.p, box.n, 0) == (ssize_t)box.n);
	if (j.there)
		text_write(state, "j", &j);
	if (jcut.there)
		text_write(state, "j.cut", &jcut);
	if ((which & 4) != 0)
		text_write(state, "j.tmp", &box);
	want = after_j(&box, &j, &obeyed);
	if (!obeyed)
		want = after_j_cut(&want, &jcut, &rescued);
	HOLDS(redo_recover(&where) == ((j.there && !obeyed) || rescued) &&
	    !redo_is_pending(state));
	there = text_read(fuzz_directory(), "spool");
	HOLDS(same(&there, &want));
	HOLDS(!j.there || obeyed || is_rescued(&j));
	HOLDS(!rescued || is_rescued(&jcut));
}

/* The messages before an interrupted removal, and those after it. */
#define MESSAGES 8
static struct text whole, kept;

static void
make_message(struct text *t, unsigned i, size_t n)
{
	t->n += (size_t)sprintf((char *)t->p + t->n, "From %u\n", i);
	for (; n > 0; n--)
		t->p[t->n++] = (uint8_t)('a' + (i + n) % 26);
	append(t, "\n\n", 2);
}

/*
 * Makes a mailbox of up to eight messages. Stores the ranges to remove, and
 * returns their number.
 */
static size_t
make_mailbox(struct input *in, struct range *ranges)
{
	unsigned removed = input_byte(in),
		 count = 1 + input_byte(in) % MESSAGES;
	size_t times = input_byte(in) == 255 ? 400 : 1, n = 0;

	whole = text_new(MESSAGES * (times * 255 + 40) + 4 * 100);
	kept = text_new(MESSAGES * (times * 255 + 40) + 4 * 100);
	for (unsigned i = 0; i < count; i++) {
		size_t from = whole.n;

		make_message(&whole, i, times * (input_byte(in)));
		if ((removed >> i & 1) == 0)
			append(&kept, whole.p + from, whole.n - from);
		else
			ranges[n++] =
			    (struct range){ (off_t)from, (off_t)whole.n };
	}
	HOLDS(pwrite(spool, whole.p, whole.n, 0) == (ssize_t)whole.n);
	return n;
}

/* Delivers a message. */
static void
arrive(unsigned i)
{
	struct text t = text_new(100);
	struct stat st;

	make_message(&t, MESSAGES + i, i * 3);
	append(&whole, t.p, t.n);
	append(&kept, t.p, t.n);
	HOLDS(fstat(spool, &st) == 0 &&
	    pwrite(spool, t.p, t.n, st.st_size) == (ssize_t)t.n);
}

enum outcome { UNKNOWN, DONE, NOTHING };

/*
 * Removes the ranges, or recovers if ranges is NULL. The input selects a call
 * at which the function stops or which fails. Returns the outcome that is
 * certain after that.
 */
static enum outcome
act(struct input *in, const struct range *ranges, size_t n)
{
	static const int errors[] = { EIO, ENOSPC, EINTR, EROFS };
	volatile enum outcome result = UNKNOWN;

	calls = 0;
	stop_at = input_byte(in);
	fail_at = input_byte(in);
	fail_with = errors[input_byte(in) % 4];
	armed = true;
	if (setjmp(stopped) == 0) {
		if (ranges == NULL)
			redo_recover(&where);
		else {
			enum ranges_result removed =
			    ranges_remove(&where, ranges, n);

			result = removed == RANGES_KEPT ? NOTHING : DONE;
		}
	}
	armed = false;
	return result;
}

static void
interrupted(struct input in)
{
	struct range ranges[MESSAGES];
	size_t n = make_mailbox(&in, ranges);
	unsigned rounds = input_byte(&in) % 4;
	enum outcome end = act(&in, ranges, n);
	struct text there;

	for (unsigned i = 0; i < rounds; i++) {
		if ((input_byte(&in) & 1) != 0)
			arrive(i);
		act(&in, NULL, 0);
	}
	arrive(rounds);
	HOLDS(redo_recover(&where) == 0 && !redo_is_pending(state));
	there = text_read(fuzz_directory(), "spool");
	HOLDS((end != NOTHING && same(&there, &kept)) ||
	    (end != DONE && same(&there, &whole)));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };

	tidy_begin();
	begin();
	if ((input_byte(&in) & 1) == 0)
		forged(in);
	else
		interrupted(in);
	empty_state();
	tidy_end();
	return 0;
}
