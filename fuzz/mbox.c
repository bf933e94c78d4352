/*
 * Fuzz target: mbox.c over any file.
 *
 * Input: the first byte selects the messages to remove. The second byte selects
 * what another program does meanwhile. The rest is the mailbox. The target
 * checks that
 *
 * 	- an independent reading of the file finds the same messages, and every
 * 	  byte after the first boundary is in one message;
 * 	- RETR sends as many bytes as LIST reports;
 * 	- ids are unique and have the form of DESIGN §4.7;
 * 	- a second session reports the same;
 * 	- a removal keeps exactly the bytes of the other messages, and removes
 * 	  only marked messages.
 */
#include "config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "mbox-from.h"
#include "fuzz/box.h"
#include "fuzz/tidy.h"

#define MOST 1024 /* most messages of a mailbox that is checked */
#define ARRIVED "From new\nSubject: new\n\n\n"
#define FEW 16 /* most messages that are all compared with each other */
#define SHARED_MOST 100 /* most messages with the same header */

static int spool;

static void
write_spool(const uint8_t *data, size_t n)
{
	if (spool == 0) {
		int fd = openat(fuzz_directory(), "spool",
		    O_RDWR | O_CREAT | O_CLOEXEC, 0600);

		HOLDS((spool = fcntl(fd, F_DUPFD_CLOEXEC, 0)) != -1);
	}
	HOLDS(ftruncate(spool, 0) == 0 &&
	    pwrite(spool, data, n, 0) == (ssize_t)n);
}

static void
check_spool(const uint8_t *want, size_t n)
{
	uint8_t *there = malloc(n + 1);

	HOLDS(there != NULL && pread(spool, there, n + 1, 0) == (ssize_t)n);
	HOLDS(memcmp(there, want, n) == 0);
}

/* Returns the size of the empty line that ends at this offset, or 0. */
static size_t
empty_before(const uint8_t *p, size_t at)
{
	if (at == 0 || p[at - 1] != '\n')
		return 0;
	if (at == 1 || p[at - 2] == '\n')
		return 1;
	return p[at - 2] == '\r' && (at == 2 || p[at - 3] == '\n') ? 2 : 0;
}

/* Returns the size of the empty line that begins at this offset, or 0. */
static size_t
empty_after(const uint8_t *p, size_t n, size_t at)
{
	if (at < n && p[at] == '\n')
		return 1;
	return at + 1 < n && p[at] == '\r' && p[at + 1] == '\n' ? 2 : 0;
}

static bool
separates(const uint8_t *p, size_t n, size_t at)
{
	return empty_before(p, at) > 0 &&
	    from_separates((const char *)p + at, n - at);
}

/*
 * Returns the number in the bytes [p, end), the value of a Content-Length
 * field. Returns -1 if the value is not a number.
 */
static long long
length_in(const uint8_t *p, const uint8_t *end)
{
	long long value = 0;
	bool any = false;

	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	for (; p < end && *p >= '0' && *p <= '9'; p++, any = true)
		if (value < INT64_MAX / 20)
			value = 10 * value + (*p - '0');
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	p += end - p == 2 && *p == '\r';
	return any && end - p == 1 && *p == '\n' ? value : -1;
}

/*
 * Returns the offset at which the body of the message at p[from] ends according
 * to its Content-Length. Returns 0 if no Content-Length is right.
 */
static size_t
trusted_end(const uint8_t *p, size_t n, size_t from)
{
	static const char name[] = "Content-Length:";
	const size_t size = sizeof(name) - 1;
	long long length = -2; /* -2: no field yet; -1: an invalid field */
	bool is_length = false;

	for (size_t i = from, next; i < n; i = next) {
		const uint8_t *lf = memchr(p + i, '\n', n - i);

		next = lf != NULL ? (size_t)(lf + 1 - p) : n;
		if (i == from)
			continue;
		if (empty_after(p, n, i) > 0) {
			size_t to = next + (size_t)length;

			if (length < 0 ||
			    (unsigned long long)length >= n - next ||
			    p[to - 1] != '\n')
				return 0;
			i = to + empty_after(p, n, to);
			return i > to && (i == n || separates(p, n, i)) ? to :
									  0;
		}
		if (p[i] == ' ' || p[i] == '\t') {
			length = is_length ? -1 : length;
			continue;
		}
		is_length = next - i >= size &&
		    strncasecmp((const char *)p + i, name, size) == 0;
		if (is_length) {
			long long now = length_in(p + i + size, p + next);

			length = length == -2 || length == now ? now : -1;
		}
	}
	return 0;
}

/*
 * Stores in at[] the offset of each message, and the end of the file. A message
 * begins at the first "From ", and at each separator of mbox-from.c that no
 * Content-Length covers. Returns the number of messages, or -1 if the file is
 * not a mailbox.
 */
static int
find_boundaries(const uint8_t *p, size_t n, size_t *at)
{
	size_t until = 0;
	int count = 0;

	for (size_t i = 0; i + 5 <= n && count < MOST; i++) {
		if (memcmp(p + i, "From ", 5) != 0 || i < until)
			continue;
		if (count == 0 ? i != 0 && empty_before(p, i) == 0 :
				 !separates(p, n, i))
			continue;
		at[count++] = i;
		until = trusted_end(p, n, i);
	}
	at[count] = n;
	/* Only empty lines may be before the first message. */
	for (size_t i = 0; i < at[0]; i++)
		if (p[i] != '\n' &&
		    !(p[i] == '\r' && i + 1 < at[0] && p[i + 1] == '\n'))
			return -1;
	return count;
}

/*
 * Returns true if the message in [p, end) may be the internal message of other
 * programs. kpopd may check more than this.
 */
static bool
may_be_internal(const uint8_t *p, const uint8_t *end)
{
	static const char from[] = "From MAILER-DAEMON ",
			  dovecot[] = "From MAILER_DAEMON ";
	static const char subject[] =
	    "DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA";
	size_t n = (size_t)(end - p);

	return n >= sizeof(from) &&
	    (strncasecmp((const char *)p, from, sizeof(from) - 1) == 0 ||
		strncasecmp((const char *)p, dovecot, sizeof(dovecot) - 1) ==
		    0) &&
	    memmem(p, n, subject, sizeof(subject) - 1) != NULL;
}

/*
 * Returns the offset of the body of a message. The bytes [begin, to) are the
 * message without its "From " line. Returns the argument "to" if there is no
 * body.
 */
static size_t
body_of(const uint8_t *p, size_t begin, size_t to)
{
	for (size_t i = begin; i < to; i++) {
		size_t empty =
		    i == begin || p[i - 1] == '\n' ? empty_after(p, to, i) : 0;

		if (empty > 0)
			return i + empty;
	}
	return to;
}

/*
 * Checks that the message that was shown consists of the bytes [from, to). The
 * "From " line and an empty last line of the body must be missing.
 */
static void
check_bytes(const uint8_t *p, size_t from, size_t to, const struct shown *s)
{
	const uint8_t *lf = memchr(p + from, '\n', to - from);
	size_t begin = lf != NULL ? (size_t)(lf + 1 - p) : to, end = to;

	if (body_of(p, begin, to) < to)
		end -= empty_before(p, to);
	HOLDS((size_t)s->span.at == begin || s->size == 0);
	HOLDS(s->size == end - begin &&
	    memcmp(s->text, p + begin, s->size) == 0);
}

/*
 * Returns true if more than SHARED_MOST messages have the same header and body.
 * The ordinals in the ids show the number of such messages.
 */
static bool
too_many_equal(struct maildrop *drop)
{
	char id[UIDL_SIZE];

	for (size_t i = 1; i <= drop->count; i++) {
		maildrop_uidl(drop, i, id);
		if (id[UIDL_HASH_TEXT] == '.' &&
		    atoi(id + UIDL_HASH_TEXT + 1) > SHARED_MOST)
			return true;
	}
	return false;
}

/* Checks that another session reports the same. */
static void
check_second(const struct shown *first, size_t count)
{
	struct maildrop drop;
	char id[UIDL_SIZE];

	HOLDS(box_open(&drop, "mbox:%h/spool") == DROP_OK &&
	    drop.count == count);
	for (size_t i = 0; i < count; i++) {
		maildrop_uidl(&drop, i + 1, id);
		HOLDS(strcmp(id, first[i].id) == 0 &&
		    maildrop_wire_size(&drop, i + 1) == first[i].wire_size);
	}
}

/*
 * Removes some messages, and checks that exactly their bytes are removed. The
 * array at[] contains the offset of the first message shown, and the boundaries
 * after this message.
 */
static void
remove_some(struct maildrop *drop, const uint8_t *p, const size_t *at,
    size_t hidden, uint32_t random, const struct shown *shown)
{
	static unsigned char marks[MOST / 8 + 1];
	static size_t now[MOST + 1];
	uint8_t *want = malloc(at[drop->count] + 1);
	size_t n = at[0], removed, kept = 0, count = drop->count;
	struct maildrop after;

	HOLDS(want != NULL);
	memcpy(want, p, n);
	box_mark(drop, random, marks);
	for (size_t i = 0; i < count; i++) {
		if ((marks[i / 8] >> i % 8 & 1) != 0)
			continue;
		memcpy(want + n, p + at[i], at[i + 1] - at[i]);
		n += at[i + 1] - at[i];
		kept++;
	}
	HOLDS(maildrop_commit(drop, &removed) == DROP_OK &&
	    removed == count - kept);
	check_spool(want, n);
	HOLDS(box_open(&after, "mbox:%h/spool") == DROP_OK);
	/*
	 * If a message was removed, a Content-Length that ended in that message
	 * may be right now.
	 */
	if (after.count != kept &&
	    find_boundaries(want, n, now) < (int)(kept + hidden))
		return;
	/* The message that is now the first may look like the internal one. */
	HOLDS(after.count == kept ||
	    (after.count + 1 == kept && at[0] == 0 &&
		may_be_internal(want, want + n)));
	for (size_t i = 0, k = after.count - kept; i < count; i++)
		if ((marks[i / 8] >> i % 8 & 1) == 0 && k++ < after.count)
			HOLDS(maildrop_wire_size(&after, k) ==
			    shown[i].wire_size);
}

/*
 * A removal from a mailbox that another program has changed meanwhile. It
 * contains the messages from before the change, and notes which messages are
 * left.
 */
struct removal {
	const uint8_t *p;
	const size_t *at;
	const unsigned char *marks;
	size_t count, dropped;
	const char *arrived;
	bool is_left[FEW];
	char ids[FEW][UIDL_SIZE];
};

/*
 * Returns the body of message i. Returns NULL if the message has no body.
 * Stores in *n the size of the body without its final line ends, because kpopd
 * compares bodies without these line ends.
 */
static const uint8_t *
find_body(const struct removal *r, size_t i, size_t *n)
{
	const uint8_t *body =
	    memmem(r->p + r->at[i], r->at[i + 1] - r->at[i], "\n\n", 2);

	*n = body != NULL ? (size_t)(r->p + r->at[i + 1] - body) : 0;
	while (*n > 0 && body[*n - 1] == '\n')
		*n -= *n > 1 && body[*n - 2] == '\r' ? 2 : 1;
	return body;
}

/*
 * Returns true if messages i and j are equal. Their bodies must be equal, and
 * their headers must have the same id. The id ignores the fields that mail
 * readers change.
 */
static bool
are_equal(const struct removal *r, size_t i, size_t j)
{
	size_t n, m;
	const uint8_t *a = find_body(r, i, &n), *b = find_body(r, j, &m);

	return i == j ||
	    (strncmp(r->ids[i], r->ids[j], UIDL_HASH_TEXT) == 0 &&
		(a == NULL) == (b == NULL) && n == m &&
		(n == 0 || memcmp(a, b, n) == 0));
}

/*
 * Stores the ids that the messages have before the other program changes the
 * mailbox.
 */
static void
ask_ids(struct removal *r)
{
	struct maildrop before;

	box_discard_index();
	write_spool(r->p, r->at[r->count]);
	HOLDS(box_open(&before, "mbox:%h/spool") == DROP_OK &&
	    before.count == r->count);
	for (size_t i = 0; i < r->count; i++)
		maildrop_uidl(&before, i + 1, r->ids[i]);
}

/*
 * Looks at the messages that are equal to message i. Returns true if enough of
 * them are left, namely as many as were not marked.
 */
static bool
is_kept(const struct removal *r, size_t i)
{
	size_t wanted = 0, left = 0;

	for (size_t j = 0; j < r->count; j++)
		if (are_equal(r, i, j)) {
			wanted += j != r->dropped &&
			    (r->marks[j / 8] >> j % 8 & 1) == 0;
			left += r->is_left[j];
		}
	return left >= wanted;
}

/*
 * Returns true if the n bytes at the pointer "there", which are the rest of the
 * file, consist of old messages and then the new one. Also checks that all
 * messages that had to be kept are left.
 */
static bool
is_rest(struct removal *r, const uint8_t *there, size_t n)
{
	size_t kept = 0;

	while (kept < r->count && is_kept(r, kept))
		kept++;
	if (kept == r->count && n == strlen(r->arrived) &&
	    memcmp(there, r->arrived, n) == 0)
		return true;
	for (size_t j = 0; j < r->count; j++) {
		size_t size = r->at[j + 1] - r->at[j];

		if (r->is_left[j] || n < size ||
		    memcmp(there, r->p + r->at[j], size) != 0)
			continue;
		r->is_left[j] = true;
		if (is_rest(r, there + size, n - size))
			return true;
		r->is_left[j] = false;
	}
	return false;
}

/*
 * Lets another program remove a message and deliver one. Then removes some
 * messages. Checks that every removed message was marked.
 */
static void
remove_changed(struct maildrop *drop, const uint8_t *p, const size_t *at,
    uint32_t random, unsigned how)
{
	unsigned char marks[MOST / 8 + 1];
	size_t count = drop->count,
	       dropped = (how & 4) != 0 ? how / 16 % count : count, removed,
	       n = at[count];
	uint8_t *there = malloc(n + sizeof(ARRIVED));
	ssize_t got;
	struct maildrop after;
	static struct removal r;

	HOLDS(there != NULL);
	/*
	 * Do not deliver after half a line, because the new bytes would change
	 * that line and could make a boundary.
	 */
	if (n > 0 && p[n - 1] != '\n')
		how &= ~2U;
	memcpy(there, p, n);
	if (dropped < count) {
		memmove(there + at[dropped], there + at[dropped + 1],
		    n - at[dropped + 1]);
		n -= at[dropped + 1] - at[dropped];
	}
	if ((how & 2) != 0) {
		memcpy(there + n, ARRIVED, sizeof(ARRIVED) - 1);
		n += sizeof(ARRIVED) - 1;
	}
	write_spool(there, n);
	box_mark(drop, random, marks);
	maildrop_commit(drop, &removed);
	got = pread(spool, there, n, 0);
	HOLDS(got >= (ssize_t)at[0] && memcmp(there, p, at[0]) == 0);
	HOLDS(box_open(&after, "mbox:%h/spool") == DROP_OK);
	r = (struct removal){ .p = p,
		.at = at,
		.marks = marks,
		.count = count,
		.dropped = dropped,
		.arrived = (how & 2) != 0 ? ARRIVED : "" };
	ask_ids(&r);
	HOLDS(is_rest(&r, there + at[0], (size_t)got - at[0]));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static size_t at[MOST + 1];
	struct input in = { data, size };
	uint32_t random = input_byte(&in);
	unsigned how = input_byte(&in);
	struct maildrop drop;
	struct shown *shown;
	size_t hidden;
	int count = find_boundaries(in.at, in.left, at);

	tidy_begin();
	box_discard_index();
	write_spool(in.at, in.left);
	/*
	 * The input decides whether fingerprints are stable. If not, kpopd must
	 * compare each message with all equal ones. That takes too long if
	 * there are many.
	 */
	box_ahead =
	    (how & 7) == 1 || (count > FEW && count <= SHARED_MOST) ? 10 : 0;
	if (count == -1 || count == MOST) {
		HOLDS(box_open(&drop, "mbox:%h/spool") == DROP_DENIED ||
		    count == MOST);
		check_spool(in.at, in.left);
		tidy_end();
		return 0;
	}
	HOLDS(box_open(&drop, "mbox:%h/spool") == DROP_OK);
	hidden = (size_t)count - drop.count;
	HOLDS(hidden == 0 ||
	    (hidden == 1 && at[0] == 0 &&
		may_be_internal(in.at, in.at + at[1])));
	if ((how & 6) != 0 && drop.count > 0 && drop.count <= FEW)
		remove_changed(&drop, in.at, at + hidden, random, how);
	else if (!too_many_equal(&drop)) {
		shown = box_show(&drop);
		for (size_t i = 0; i < drop.count; i++)
			check_bytes(in.at, at[hidden + i], at[hidden + i + 1],
			    &shown[i]);
		check_spool(in.at, in.left);
		check_second(shown, drop.count);
		remove_some(&drop, in.at, at + hidden, hidden, random, shown);
	}
	tidy_end();
	return 0;
}
