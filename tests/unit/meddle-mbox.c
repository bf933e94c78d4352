/*
 * Changes an mbox at random in and between sessions, as other programs do.
 * Compares each session with a model that splits the file itself, and with a
 * session without an index. Runs as any user.
 *
 * 	meddle-mbox [SESSIONS [SEED]]
 *
 * The other programs deliver whole and half messages, and remove, swap, copy
 * and replace messages. They rewrite flags and bodies, with and without a
 * change of length. The test checks that
 *
 * 	- LIST, STAT and UIDL are those of the file at login;
 * 	- RETR sends the message that UIDL names, and ends with its dot if no
 * 	  program changes the mailbox meanwhile;
 * 	- DELE removes that message and no other byte.
 *
 * Half of the mailboxes are treated as large ones. In a large mailbox, LIST may
 * be out of date until a session notices the change. In the next session LIST
 * must be right.
 *
 * An id with a suffix always names the same header and body. An id without a
 * suffix names a header. If UIDL lists such an id while two messages have that
 * header, the id also names a body from then on. A message keeps its id while
 * it is in the mailbox, unless other messages have the same header.
 */
#include "config.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mbox-cache.h"
#include "tests/unit/check.h"
#include "tests/unit/drop.h"
#include "wire.h"

#define SESSIONS 3000
#define ROUNDS 30 /* sessions on one mailbox */
#define MOST_MESSAGES 40
#define TEXT_SIZE 2000 /* most bytes of one message */
#define FILE_SIZE ((size_t)400000)
#define NAMES 4000 /* most ids of one mailbox */

/* A message of the model: bytes [at, end) of the file. */
struct message {
	size_t at, text, end; /* offset "text" is after the "From " line */
	size_t stored; /* number of bytes from offset "text" on that are sent */
	uint64_t wire_size; /* the size in LIST */
	/* Hash of the header without the fields that mail readers change. */
	uint64_t header;
	/* Hash of the same fields and of the body without final line ends. */
	uint64_t whole;
	bool weak; /* it has neither Message-ID nor Received */
};

/* The file at one moment. */
struct picture {
	char bytes[FILE_SIZE + 1];
	size_t size;
	struct message messages[MOST_MESSAGES * 2];
	size_t count;
};

/* What an id has named so far. */
struct name {
	char id[UIDL_SIZE];
	uint64_t header, whole;
	bool is_firm; /* the id also names a body */
};

/* What a session knows about one message. */
struct deed {
	bool is_known, marked, is_firm;
	char id[UIDL_SIZE]; /* empty if UIDL was not sent */
	uint64_t header, whole;
};

/*
 * The variable "served" is the descriptor of the file that the session has
 * opened. The path of the spool may lead to another file now.
 */
static int top, served;
static struct picture before_removal;
static long bad, sessions, ahead;
static unsigned long seed;
static uint64_t state;
/* If the mailbox has grown, a session reads only the new end. */
static bool large;
static bool quoted;  /* the format is mboxo */
static bool crlf;    /* all messages are delivered with CRLF */
static bool meddled; /* a program changed the mailbox in this session */
/*
 * The next list must be right, because the last session has noticed that its
 * list was wrong, and no program has changed the mailbox since.
 */
static bool must_be_right;
static char story[20000]; /* all changes of this mailbox so far */
static struct name names[NAMES];
static size_t name_count;
static struct {
	uint64_t whole;
	size_t n;
	char p[TEXT_SIZE * 2];
} texts[NAMES]; /* the texts of the messages that sessions have listed */
static size_t text_count;
static char rest[TEXT_SIZE]; /* the rest of a half delivered message */
static size_t half, rest_size;
/* The number in the last message that was delivered to this mailbox. */
static int serial;

/*
 * The linker replaces clock_gettime by this function (--wrap). If "ahead" is an
 * hour, the clock is an hour fast, and a session's fingerprints are stable.
 */
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

/* Returns a random number that is smaller than n. */
static unsigned
any(unsigned n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)(state >> 20) % n;
}

#define TELL(...)                                                              \
	snprintf(story + strlen(story), sizeof(story) - strlen(story),         \
	    __VA_ARGS__)

static void
complain(const char *what)
{
	if (bad++ < 5)
		fprintf(stderr, "%s (seed %lu, %s%s):%s\n", what, seed,
		    large ? "large" : "small", quoted ? ", quoted" : "", story);
}

static uint64_t
mix(uint64_t hash, char c)
{
	return (hash ^ (unsigned char)c) * 0x100000001b3;
}

/* Returns the size of the line end at p, or 0 if there is none. */
static size_t
line_end(const char *p, const char *end)
{
	if (p < end && *p == '\n')
		return 1;
	return end - p >= 2 && p[0] == '\r' && p[1] == '\n' ? 2 : 0;
}

static bool
has_prefix(const char *p, const char *end, const char *prefix)
{
	size_t n = strlen(prefix);

	return (size_t)(end - p) >= n && memcmp(p, prefix, n) == 0;
}

static const char *
next_line(const char *p, const char *end)
{
	const char *lf = memchr(p, '\n', (size_t)(end - p));

	return lf != NULL ? lf + 1 : end;
}

/*
 * Returns true if the line at p is a "From " line that this test makes as a
 * separator. The other lines of this test that begin with "From " have no date,
 * and no header field follows them.
 */
static bool
is_from(const char *p, const char *end)
{
	const char *next = next_line(p, end), *last = next;

	if (!has_prefix(p, end, "From "))
		return false;
	while (last > p && (last[-1] == '\n' || last[-1] == '\r'))
		last--;
	if (last - p > 10 && memcmp(last - 5, " 2026", 5) == 0)
		return true;
	return has_prefix(next, end, "Subject:") ||
	    has_prefix(next, end, "Message-ID:") ||
	    has_prefix(next, end, "Received:");
}

/* Returns true if a body with a Content-Length may end at p. */
static bool
is_body_end(const char *body, const char *p, const char *end)
{
	size_t empty = p < end ? line_end(p, end) : 0;

	return p <= end && p[-1] == '\n' && p >= body && empty > 0 &&
	    (p + empty == end || is_from(p + empty, end));
}

/*
 * Returns the first place at which the body may end. If the Content-Length is
 * right, the place is the end of that many bytes. If not, the place is the
 * start of the body.
 */
static const char *
least_end(const char *header, const char *body, const char *end)
{
	size_t length = 0;
	int fields = 0;

	for (const char *p = header; p < body; p = next_line(p, end))
		if (has_prefix(p, end, "Content-Length:")) {
			char *after;

			length =
			    strtoul(p + strlen("Content-Length:"), &after, 10);
			fields += after[-1] != ':' && line_end(after, end) > 0 ?
			    1 :
			    2;
		}
	if (quoted || fields != 1 || length > (size_t)(end - body) ||
	    !is_body_end(body, body + length, end))
		return body;
	return body + length;
}

/* Returns the end of the message that begins at p. */
static const char *
find_end(const char *p, const char *end)
{
	const char *header = next_line(p, end), *body = header, *least;

	while (body < end && line_end(body, end) == 0)
		body = next_line(body, end);
	if (body == end)
		return end;
	body = next_line(body, end);
	least = least_end(header, body, end);
	/*
	 * The empty line after an empty header counts as the empty line before
	 * a "From " line.
	 */
	for (p = body; p < end; p = next_line(p, end)) {
		bool is_after_empty = p[-1] == '\n' &&
		    (p[-2] == '\n' || (p[-2] == '\r' && p[-3] == '\n'));

		if (p >= least && is_after_empty && is_from(p, end))
			return p;
	}
	return end;
}

static bool
is_rewritten(const char *p, const char *end)
{
	return has_prefix(p, end, "Status:") ||
	    has_prefix(p, end, "X-Status:") ||
	    has_prefix(p, end, "X-Keywords:") ||
	    has_prefix(p, end, "X-Label:") ||
	    has_prefix(p, end, "Content-Length:");
}

/* Hashes the header and the body of a message, and computes its sizes. */
static void
hash_message(struct message *m, const char *bytes)
{
	const char *p = bytes + m->text, *end = bytes + m->end;
	uint64_t hash = 0xcbf29ce484222325, line_ends = 0;
	size_t empty = 0, body;
	bool is_skipped = false;

	m->weak = true;
	for (const char *next; p < end && line_end(p, end) == 0; p = next) {
		next = next_line(p, end);
		if (has_prefix(p, end, "Message-ID:") ||
		    has_prefix(p, end, "Received:"))
			m->weak = false;
		/* A line that begins with a blank continues a field. */
		if (*p != ' ')
			is_skipped = is_rewritten(p, end);
		for (p = is_skipped ? next : p; p < next; p++)
			/* A CR at the very end may be half of a line end. */
			if (line_end(p, end) != 2 &&
			    (*p != '\r' || p + 1 < end))
				hash = mix(hash, *p);
	}
	m->header = m->whole = hash;
	m->whole = mix(m->whole, '\0');
	if (p < end)
		p = next_line(p, end);
	body = (size_t)(p - bytes);
	for (; p < end; p++) {
		if (line_end(p, end) == 2)
			continue;
		if (*p == '\n') {
			line_ends++;
			continue;
		}
		for (; line_ends > 0; line_ends--)
			m->whole = mix(m->whole, '\n');
		m->whole = mix(m->whole, *p);
	}
	/* The empty line before the next message does not belong to this one.
	 * The empty line that ends the header does. */
	if (m->end > body && end[-1] == '\n') {
		if (end - 2 >= bytes + m->text - 1 && end[-2] == '\n')
			empty = 1;
		else if (end - 3 >= bytes + m->text - 1 && end[-2] == '\r' &&
		    end[-3] == '\n')
			empty = 2;
	}
	m->stored = m->end - m->text > empty ? m->end - m->text - empty : 0;
	m->wire_size = m->stored;
	for (size_t i = 0; i < m->stored; i++) {
		const char *c = bytes + m->text + i;

		m->wire_size += *c == '\n' && (i == 0 || c[-1] != '\r');
	}
	if (m->stored > 0 && bytes[m->text + m->stored - 1] != '\n')
		m->wire_size += 2;
}

/* Finds the messages of a picture. */
static void
split(struct picture *p)
{
	p->count = 0;
	for (size_t at = 0; at < p->size; p->count++) {
		struct message *m = &p->messages[p->count];

		CHECK(p->count < sizeof(p->messages) / sizeof(p->messages[0]));
		m->at = at;
		m->text =
		    (size_t)(next_line(p->bytes + at, p->bytes + p->size) -
			p->bytes);
		m->end = (size_t)(find_end(p->bytes + at, p->bytes + p->size) -
		    p->bytes);
		hash_message(m, p->bytes);
		at = m->end;
	}
}

/*
 * Stores the content of the open file fd in *p. If fd is -1, stores an empty
 * content.
 */
static void
draw_file(struct picture *p, int fd)
{
	ssize_t n = fd != -1 ? pread(fd, p->bytes, FILE_SIZE, 0) : 0;

	CHECK(n >= 0 && (size_t)n < FILE_SIZE);
	p->size = (size_t)n;
	p->bytes[n] = '\0';
	split(p);
}

static void
draw(struct picture *p)
{
	int fd = openat(top, "spool", O_RDONLY);

	draw_file(p, fd);
	if (fd != -1)
		CHECK(close(fd) == 0);
}

/* Returns the number of messages in a picture with this header. */
static size_t
count_header(const struct picture *p, uint64_t header)
{
	size_t n = 0;

	for (size_t i = 0; i < p->count; i++)
		n += p->messages[i].header == header;
	return n;
}

static size_t
count_whole(const struct picture *p, uint64_t whole)
{
	size_t n = 0;

	for (size_t i = 0; i < p->count; i++)
		n += p->messages[i].whole == whole;
	return n;
}

/*
 * Gives the spool a new mtime. Without that, two changes within one tick of the
 * kernel's clock would have the same mtime.
 */
static void
give_time(void)
{
	static long count;
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
		{ 1500000000 + count, 1 } };

	count++;
	CHECK(utimensat(top, "spool", times, 0) == 0);
}

/* Writes the whole spool, in place or as a new file. */
static void
write_all(const char *bytes, size_t n, bool is_new)
{
	int fd =
	    openat(top, is_new ? "new" : "spool", O_WRONLY | O_CREAT, 0600);

	CHECK(fd != -1 && write(fd, bytes, n) == (ssize_t)n &&
	    ftruncate(fd, (off_t)n) == 0 && close(fd) == 0);
	if (is_new)
		CHECK(renameat(top, "new", top, "spool") == 0);
	give_time();
}

static void
append(const char *bytes, size_t n)
{
	int fd = openat(top, "spool", O_WRONLY | O_APPEND | O_CREAT, 0600);

	CHECK(fd != -1 && write(fd, bytes, n) == (ssize_t)n && close(fd) == 0);
	give_time();
}

/* A text to which PUT appends. */
struct text_buffer {
	char p[TEXT_SIZE];
	size_t n;
};

#define PUT(t, ...)                                                            \
	((t)->n += (size_t)snprintf((t)->p + (t)->n, TEXT_SIZE - (t)->n,       \
	     __VA_ARGS__))

static void
compose_body(struct text_buffer *t, int token, bool is_exempt)
{
	static const char *const lines[] = { "line\n", "line\n",
		"another line\n", "\n", ".\n", ">From x\n",
		"\nFrom here on it is prose\nand so on\n", "\n\n" };

	/* Some messages have no body. */
	if (any(8) == 0)
		return;
	PUT(t, "token %06d\n", token);
	for (unsigned k = any(6); k > 0; k--)
		PUT(t, "%s", lines[any(sizeof(lines) / sizeof(lines[0]))]);
	/* This line belongs to the body only if the Content-Length is right. */
	if (is_exempt && any(2) == 0)
		PUT(t,
		    "\nFrom c%d@d Mon Nov 23 05:00:00 2026\nSubject: planted "
		    "%d\n\nx\n",
		    token, token);
}

static void
add_carriage_returns(struct text_buffer *t)
{
	char copy[TEXT_SIZE];
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++) {
		if (t->p[i] == '\n')
			copy[n++] = '\r';
		copy[n++] = t->p[i];
	}
	memcpy(t->p, copy, n);
	t->n = n;
}

/*
 * Composes a new message. Its header or its body may be equal to another
 * message's.
 */
static void
compose(struct text_buffer *t, bool with_cr)
{
	struct text_buffer body = { .n = 0 };
	const int number = ++serial,
		  header = any(3) == 0 ? (int)any(4) : number;
	const unsigned kind = (unsigned)(seed / 4 % 3), length = any(6);

	compose_body(&body, any(4) == 0 ? (int)any(3) : number,
	    length == 1 && !quoted);
	if (with_cr)
		add_carriage_returns(&body);
	t->n = 0;
	PUT(t, "From a%d@b Mon Nov 23 05:00:00 2026\n", number);
	if (kind == 0 || (kind == 1 && header % 2 == 0))
		PUT(t, "%s: <%06d@h>\n",
		    header % 3 == 0 ? "Received" : "Message-ID", header);
	PUT(t, "Subject: %06d\n", header);
	if (any(2) == 0)
		PUT(t, "X-Keywords:          \n");
	if (any(3) == 0)
		PUT(t, "Status: O\n");
	if (length == 1)
		PUT(t, "Content-Length: %zu\n", body.n);
	else if (length == 2)
		PUT(t, "Content-Length: %zu\n", body.n + any(20));
	else if (length == 3)
		PUT(t, "Content-Length: %zu\n", body.n + 100 + any(300));
	PUT(t, "\n");
	if (with_cr)
		add_carriage_returns(t);
	memcpy(t->p + t->n, body.p, body.n);
	t->n += body.n;
	/* Many programs write only one empty line after a header without a
	 * body. */
	if (body.n == 0 && any(2) == 0)
		return;
	memcpy(t->p + t->n, "\r\n", 2);
	if (!with_cr)
		t->p[t->n] = '\n';
	t->n += with_cr ? 2 : 1;
}

/*
 * Changes that other programs make. Each of these functions may use message i
 * of the picture.
 */

static void
deliver(struct picture *p, size_t i)
{
	struct text_buffer t;

	(void)p;
	(void)i;
	compose(&t, crlf || any(8) == 0);
	TELL(" +");
	append(t.p, t.n);
}

/*
 * Delivers a message whose Content-Length covers one more message. deliver_rest
 * may deliver the covered message later.
 */
static void
deliver_swallowing(struct picture *p, size_t i)
{
	struct text_buffer first = { .n = 0 }, second;
	const int number = 500000 + ++serial;

	(void)p;
	(void)i;
	compose(&second, false);
	PUT(&first,
	    "From s@b Mon Nov 23 05:00:00 2026\nMessage-ID: <%d@h>\nSubject: "
	    "swallows\nContent-Length: %zu\n\n"
	    "token %06d\n\n",
	    number, strlen("token 000000\n\n") + second.n - 1, number);
	TELL(" +swallowing");
	append(first.p, first.n);
	memcpy(rest, second.p, second.n);
	rest_size = second.n;
	half = p->size + first.n;
}

static void
deliver_half(struct picture *p, size_t i)
{
	struct text_buffer t;
	size_t n;

	(void)i;
	compose(&t, crlf);
	/* A file that begins with less than "From " is not an mbox. */
	n = (p->size == 0 ? 5 : 1) + any((unsigned)t.n - 6);
	TELL(" +half(%zu)", n);
	append(t.p, n);
	memcpy(rest, t.p + n, t.n - n);
	rest_size = t.n - n;
	half = p->size + n;
}

/* Delivers the rest of a half delivered message, if it is still the last. */
static void
deliver_rest(struct picture *p, size_t i)
{
	(void)i;
	if (rest_size == 0 || p->size != half)
		return;
	TELL(" +rest");
	append(rest, rest_size);
	rest_size = 0;
}

/*
 * Replaces message i by the n bytes of the argument "text". If n is 0, removes
 * the message.
 */
static void
put_instead(struct picture *p, size_t i, const char *text, size_t n)
{
	static char bytes[FILE_SIZE + TEXT_SIZE];
	const struct message *m = &p->messages[i];

	memcpy(bytes, p->bytes, m->at);
	if (n > 0)
		memcpy(bytes + m->at, text, n);
	memcpy(bytes + m->at + n, p->bytes + m->end, p->size - m->end);
	write_all(bytes, p->size - (m->end - m->at) + n, any(6) == 0);
}

static void
take_away(struct picture *p, size_t i)
{
	TELL(" -%zu", i + 1);
	put_instead(p, i, NULL, 0);
}

/*
 * Replaces the first occurrence of a text in the header of message i. Returns
 * false if the header does not contain the text.
 */
static bool
exchange(struct picture *p, size_t i, const char *from, const char *to)
{
	const struct message *m = &p->messages[i];
	char copy[FILE_SIZE];
	const char *begin = p->bytes + m->at, *end = p->bytes + m->end;
	const char *found = memmem(begin, m->end - m->at, from, strlen(from)),
		   *empty;
	size_t before, n = m->end - m->at;

	empty = memmem(begin, n, "\n\n", 2);
	if (found == NULL || (empty != NULL && found > empty) ||
	    memchr(begin, '\r', n) != NULL)
		return false;
	before = (size_t)(found - begin);
	memcpy(copy, begin, before);
	memcpy(copy + before, to, strlen(to));
	found += strlen(from);
	memcpy(copy + before + strlen(to), found, (size_t)(end - found));
	TELL(" flags %zu (%zu > %zu)", i + 1, strlen(from), strlen(to));
	put_instead(p, i, copy, n - strlen(from) + strlen(to));
	return true;
}

/*
 * Turns padding into a flag, or a flag into padding, as Dovecot does. The
 * number of lines changes, but the size does not.
 */
static void
change_padding(struct picture *p, size_t i)
{
	if (!exchange(p, i, "X-Keywords:          \n",
		"X-Status: F\nStatus: O\n"))
		exchange(p, i, "X-Status: F\nStatus: O\n",
		    "X-Keywords:          \n");
}

static void
change_status(struct picture *p, size_t i)
{
	if (!exchange(p, i, "\nStatus: O\n",
		any(2) ? "\nStatus: RO\n" : "\n") &&
	    !exchange(p, i, "\nStatus: RO\n", any(2) ? "\nStatus: O\n" : "\n"))
		exchange(p, i, "\nSubject:", "\nStatus: O\nSubject:");
}

/* Adds, changes or removes a label, as mutt does. */
static void
change_label(struct picture *p, size_t i)
{
	if (!exchange(p, i, "\nX-Label: one\n",
		any(2) ? "\nX-Label: another\n" : "\n") &&
	    !exchange(p, i, "\nX-Label: another\n",
		any(2) ? "\nX-Label: one\n" : "\n"))
		exchange(p, i, "\nSubject:", "\nX-Label: one\nSubject:");
}

/* Moves a flag from one message to another. */
static void
pass_status(struct picture *p, size_t i)
{
	size_t j = any((unsigned)p->count);

	if (!exchange(p, i, "\nStatus: O\n", "\n"))
		return;
	draw(p);
	if (j < p->count)
		exchange(p, j, "\nSubject:", "\nStatus: O\nSubject:");
}

/*
 * Changes a body without changing its size. Sometimes its number of lines
 * changes.
 */
static void
change_body(struct picture *p, size_t i)
{
	const struct message *m = &p->messages[i];
	char *found = memmem(p->bytes + m->text, m->end - m->text, "line\n", 5);

	if (found == NULL)
		return;
	TELL(" body %zu", i + 1);
	memcpy(found, any(2) == 0 ? "LINE" : any(2) ? "lin\n" : "xx\ny", 4);
	write_all(p->bytes, p->size, any(6) == 0);
}

static void
write_in_order(const struct picture *p, const size_t *order, size_t count)
{
	static char bytes[2 * FILE_SIZE];
	size_t n = 0;

	for (size_t k = 0; k < count; k++) {
		const struct message *m = &p->messages[order[k]];

		memcpy(bytes + n, p->bytes + m->at, m->end - m->at);
		n += m->end - m->at;
	}
	write_all(bytes, n, any(4) == 0);
}

static void
swap(struct picture *p, size_t i)
{
	size_t order[MOST_MESSAGES * 2], j = any((unsigned)p->count);

	TELL(" swap %zu %zu", i + 1, j + 1);
	for (size_t k = 0; k < p->count; k++)
		order[k] = k == i ? j : k == j ? i : k;
	write_in_order(p, order, p->count);
}

static void
move_to_end(struct picture *p, size_t i)
{
	size_t order[MOST_MESSAGES * 2];

	TELL(" %zu to the end", i + 1);
	for (size_t k = 0; k < p->count; k++)
		order[k] = k + 1 == p->count ? i : k < i ? k : k + 1;
	write_in_order(p, order, p->count);
}

static void
copy(struct picture *p, size_t i)
{
	size_t order[MOST_MESSAGES * 2], j = any((unsigned)p->count + 1);

	TELL(" copy %zu to %zu", i + 1, j + 1);
	for (size_t k = 0; k <= p->count; k++)
		order[k] = k < j ? k : k == j ? i : k - 1;
	write_in_order(p, order, p->count + 1);
}

static int
compare_sizes(const void *a, const void *b, void *self)
{
	const size_t *x = a, *y = b;
	const struct picture *p = self;
	size_t m = p->messages[*x].end - p->messages[*x].at,
	       n = p->messages[*y].end - p->messages[*y].at;

	return m != n ? (m > n) - (m < n) : (*x > *y) - (*x < *y);
}

static void
sort(struct picture *p, size_t i)
{
	size_t order[MOST_MESSAGES * 2];

	(void)i;
	TELL(" sort");
	for (size_t k = 0; k < p->count; k++)
		order[k] = k;
	qsort_r(order, p->count, sizeof(order[0]), compare_sizes, p);
	write_in_order(p, order, p->count);
}

static void
replace(struct picture *p, size_t i)
{
	(void)i;
	TELL(" replace");
	write_all(p->bytes, p->size, true);
}

/* Replaces a message by a new one. */
static void
exchange_message(struct picture *p, size_t i)
{
	struct text_buffer t;

	compose(&t, crlf);
	TELL(" other %zu", i + 1);
	put_instead(p, i, t.p, t.n);
}

/* Makes one random change to the mailbox. */
static void
meddle(void)
{
	static void (*const deeds[])(struct picture *, size_t) = { deliver,
		deliver, deliver, deliver, deliver_half, deliver_swallowing,
		deliver_rest, deliver_rest, take_away, take_away,
		change_padding, change_padding, change_status, change_label,
		pass_status, change_body, swap, move_to_end, copy, sort,
		replace, exchange_message };
	static struct picture p;
	unsigned which = any(sizeof(deeds) / sizeof(deeds[0]));

	meddled = true;
	/* The next list may be wrong because of this change. */
	must_be_right = false;
	draw(&p);
	if (p.count > MOST_MESSAGES - 5)
		take_away(&p, any((unsigned)p.count));
	else if (p.count > 0 || which < 6)
		deeds[which](&p, p.count > 0 ? any((unsigned)p.count) : 0);
}

/* Opens a session. The argument "from" is its state directory. */
static void
begin(struct maildrop *drop, const char *from)
{
	CHECK(renameat(top, from, top, "state") == 0);
	CHECK(drop_begin(drop, quoted ? "mboxo:%h/spool" : "mbox:%h/spool") ==
	    DROP_OK);
	CHECK(renameat(top, "state", top, from) == 0);
}

static struct name *
find_name(const char *id)
{
	for (size_t i = 0; i < name_count; i++)
		if (strcmp(names[i].id, id) == 0)
			return &names[i];
	return NULL;
}

/*
 * Records that an id names a message. If the id has named a message before,
 * checks that it was the same message. If is_firm is true, the id also names
 * the body.
 */
static void
name(const char *id, uint64_t header, uint64_t whole, bool is_firm)
{
	struct name *n = find_name(id);

	is_firm |= strlen(id) > UIDL_HASH_TEXT;
	if (n == NULL) {
		CHECK(name_count < NAMES);
		n = &names[name_count++];
		*n = (struct name){ .header = header, .whole = whole };
		strcpy(n->id, id);
	}
	if (n->header != header || (n->is_firm && n->whole != whole)) {
		TELL(" %s", id);
		complain("an id names another message than before");
	}
	n->whole = whole;
	n->is_firm |= is_firm;
}

/* Checks the ids of a session. The session's list agrees with the model. */
static void
check_names(struct maildrop *drop, struct maildrop *fresh,
    const struct picture *model)
{
	static char ids[MOST_MESSAGES * 2][UIDL_SIZE];

	for (size_t n = 1; n <= model->count; n++) {
		const struct message *m = &model->messages[n - 1];
		char other[UIDL_SIZE], *id = ids[n - 1];

		maildrop_uidl(drop, n, id);
		maildrop_uidl(fresh, n, other);
		for (size_t k = 0; k + 1 < n; k++)
			if (strcmp(ids[k], id) == 0)
				complain("two messages have one id");
		if (strncmp(id, other, UIDL_HASH_TEXT) != 0)
			complain(
			    "UIDL has another header than without an index");
		/* The ordinal at the end of an id may differ, because a session
		 * without an index numbers equal messages anew. */
		if (m->weak &&
		    strncmp(id, other,
			UIDL_HASH_TEXT + strlen(".0123456789abcdef")) != 0)
			complain("UIDL of a body is another one than without "
				 "an index");
		name(id, m->header, m->whole,
		    count_header(model, m->header) > 1);
	}
}

/* Returns true if the sizes in the session's list are those of the model. */
static bool
is_list_right(struct maildrop *drop, const struct picture *model)
{
	uint64_t sum = 0;

	if (drop->count != model->count)
		return false;
	for (size_t n = 1; n <= model->count; n++) {
		if (maildrop_wire_size(drop, n) !=
		    model->messages[n - 1].wire_size)
			return false;
		sum += model->messages[n - 1].wire_size;
	}
	return sum == drop->wire_size;
}

/*
 * Reads the stored bytes of a message in the way RETR does. If "disturb" is
 * true, the function may change the mailbox during the reading. Returns false
 * if the client would not get the final dot.
 */
static bool
read_it(struct maildrop *drop, size_t n, struct span *s,
    char text[2 * TEXT_SIZE], size_t *size, bool disturb)
{
	static char sent[4 * TEXT_SIZE];
	size_t k = 0;
	ssize_t got = 0;
	struct wire w;

	wire_init(&w, WIRE_ALL);
	while (k + 64 < 2 * TEXT_SIZE &&
	    (got = maildrop_read(s, text + k, 61)) > 0) {
		wire_put(&w, text + k, (size_t)got, sent);
		k += (size_t)got;
		if (disturb && any(2) == 0) {
			meddle();
			disturb = false;
		}
	}
	wire_end(&w, sent);
	*size = k;
	if (got != 0)
		return false;
	return maildrop_end(drop, n, s, w.wire_size);
}

static bool
has_text(const struct picture *p, size_t i, const char *text, size_t n)
{
	return i < p->count && p->messages[i].stored == n &&
	    memcmp(p->bytes + p->messages[i].text, text, n) == 0;
}

/*
 * Finds the message that has the n bytes of "text" after its "From " line.
 * Prefers message i if several messages have these bytes.
 */
static const struct message *
find_text(const struct picture *p, size_t i, const char *text, size_t n)
{
	if (has_text(p, i, text, n))
		return &p->messages[i];
	for (i = 0; i < p->count; i++)
		if (has_text(p, i, text, n))
			return &p->messages[i];
	return NULL;
}

/*
 * Finds the message with the given text. The flags may differ, because they may
 * have changed while the message was sent.
 */
static const struct message *
find_but_for_flags(const struct picture *p, const char *text, size_t n)
{
	char copy[2 * TEXT_SIZE + 1] = "\n";
	struct message m = { .text = 1, .end = n + 1 };

	memcpy(copy + 1, text, n);
	hash_message(&m, copy);
	for (size_t i = 0; i < p->count; i++)
		if (p->messages[i].whole == m.whole)
			return &p->messages[i];
	return NULL;
}

/*
 * Returns true if the picture contains the message of d, and no other message
 * with the same header.
 */
static bool
is_there(const struct picture *p, const struct deed *d)
{
	return count_header(p, d->header) == 1 && count_whole(p, d->whole) == 1;
}

/*
 * Retrieves message n and checks the bytes that were sent. The argument d
 * contains what the session knows about the message. The argument "list" is the
 * model at login.
 */
static void
fetch(struct maildrop *drop, size_t n, struct deed *d,
    const struct picture *list)
{
	static struct picture before, after;
	static char text[2 * TEXT_SIZE];
	const bool disturb = any(10) == 0, was_meddled = meddled;
	const uint64_t listed = maildrop_wire_size(drop, n);
	const struct message *m;
	enum drop_error error;
	struct span s;
	size_t size;
	bool is_now;

	draw_file(&before, served);
	TELL(" RETR %zu", n);
	if ((error = maildrop_begin(drop, n, &s)) != DROP_OK) {
		if (!was_meddled && !large)
			complain("RETR is refused, although no program has "
				 "changed anything");
		else if (d->is_known && is_there(&before, d) &&
		    is_there(list, d))
			complain(
			    "RETR is refused, although the message is there");
		must_be_right = true;
		return;
	}
	if (!read_it(drop, n, &s, text, &size, disturb)) {
		if (!disturb)
			complain("RETR without its dot");
		return;
	}
	m = find_text(&before, n - 1, text, size);
	if (m == NULL && disturb) {
		draw_file(&after, served);
		m = find_text(&after, n - 1, text, size);
	}
	is_now = m != NULL;
	/*
	 * The end of a message may have moved since the login, because a
	 * Content-Length has become right or wrong. The bytes that are sent
	 * must then be those of the listed message.
	 */
	if (!is_now && memmem(before.bytes, before.size, text, size) != NULL)
		m = find_but_for_flags(list, text, size);
	if (m == NULL) {
		if (!disturb ||
		    (find_but_for_flags(&before, text, size) == NULL &&
			find_but_for_flags(&after, text, size) == NULL))
			complain("RETR sent bytes that are not a message");
		return;
	}
	if (d->is_known &&
	    (m->header != d->header || (d->is_firm && m->whole != d->whole)))
		complain("RETR sent another message than UIDL named");
	if (d->id[0] != '\0' && !d->is_known)
		name(d->id, m->header, m->whole, false);
	if (!disturb && is_now &&
	    (m->wire_size != listed || (size_t)(m - before.messages) != n - 1))
		must_be_right = true;
	d->is_known = true;
	d->header = m->header;
	d->whole = m->whole;
}

/*
 * Finds the messages that are in the picture "before" and were removed from the
 * picture "after". Begins with before->messages[i] and after->bytes[at].
 * Returns false if anything else has changed. For each message it tries both
 * that the message was removed and that it was kept, because the next message
 * may begin with the same bytes.
 */
static bool
find_gone(const struct picture *before, size_t i, const struct picture *after,
    size_t at, bool gone[])
{
	const struct message *m = &before->messages[i];
	size_t n;

	if (i == before->count)
		return at == after->size;
	n = m->end - m->at;
	gone[i] = false;
	if (after->size - at >= n &&
	    memcmp(after->bytes + at, before->bytes + m->at, n) == 0 &&
	    find_gone(before, i + 1, after, at + n, gone))
		return true;
	gone[i] = true;
	return find_gone(before, i + 1, after, at, gone);
}

/*
 * Finds a marked message that is not yet used and has the header of m. If the
 * id of a marked message names a body, m must have that body, too. Prefers a
 * message with the body of m. Returns the argument "listed" if there is no such
 * message.
 */
static size_t
find_marked(const struct deed *deeds, size_t listed, const struct message *m,
    const bool used[])
{
	size_t found = listed;

	for (size_t n = 0; n < listed; n++) {
		if (used[n] || !deeds[n].marked || m->header != deeds[n].header)
			continue;
		if (m->whole == deeds[n].whole)
			return n;
		if (!deeds[n].is_firm)
			found = n;
	}
	return found;
}

/* Returns true if there is a separate mark for each removed message. */
static bool
is_marked(const struct deed *deeds, size_t listed, const struct picture *before,
    const bool gone[])
{
	bool used[MOST_MESSAGES * 2] = { false },
				  is_found[MOST_MESSAGES * 2] = { false };

	/*
	 * Match first those messages whose body is known. Otherwise the marks
	 * of these messages could be used up by others.
	 */
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < before->count; i++) {
			const struct message *m = &before->messages[i];
			size_t n = find_marked(deeds, listed, m, used);
			bool is_known =
			    n < listed && deeds[n].whole == m->whole;

			if (!gone[i] || (pass == 0 && !is_known) ||
			    (pass == 1 && is_found[i]))
				continue;
			if (n == listed)
				return false;
			used[n] = is_found[i] = true;
		}
	return true;
}

/*
 * Returns true if m is a marked message, or if a marked message's text contains
 * the body of m. The flags may have changed. m may be only a part of a message.
 */
static bool
is_part(const struct deed *deeds, size_t listed, const struct picture *p,
    const struct message *m)
{
	const char *part = p->bytes + m->text, *end = part + m->stored;
	const bool used[MOST_MESSAGES * 2] = { false };

	if (find_marked(deeds, listed, m, used) < listed)
		return true;
	while (part < end && line_end(part, end) == 0)
		part = next_line(part, end);
	for (size_t n = 0; n < listed; n++)
		for (size_t k = 0; deeds[n].marked && k < text_count; k++)
			if (texts[k].whole == deeds[n].whole &&
			    memmem(texts[k].p, texts[k].n, part,
				(size_t)(end - part)) != NULL)
				return true;
	return false;
}

/*
 * Does the check of is_marked, but ignores each Content-Length. If a
 * Content-Length has become right or wrong, a message ends at another offset
 * than in the list.
 */
static bool
are_parts_marked(const struct deed *deeds, size_t listed,
    const struct picture *after)
{
	static struct picture parts;
	bool gone[MOST_MESSAGES * 2];
	const bool was_quoted = quoted;

	parts = before_removal;
	quoted = true;
	split(&parts);
	quoted = was_quoted;
	if (!find_gone(&parts, 0, after, 0, gone))
		return false;
	for (size_t i = 0; i < parts.count; i++)
		if (gone[i] &&
		    !is_part(deeds, listed, &parts, &parts.messages[i]))
			return false;
	return true;
}

/* Checks that QUIT removed the marked messages and nothing else. */
static void
check_removal(const struct maildrop *drop, struct deed *deeds,
    enum drop_error error, size_t removed)
{
	static struct picture after;
	bool gone[MOST_MESSAGES * 2];
	size_t count = 0;

	draw(&after);
	if (find_gone(&before_removal, 0, &after, 0, gone) &&
	    is_marked(deeds, drop->count, &before_removal, gone)) {
		for (size_t i = 0; i < before_removal.count; i++)
			count += gone[i];
		if (count != removed)
			complain("another number of messages is gone than QUIT "
				 "claims");
	} else if (!are_parts_marked(deeds, drop->count, &after))
		complain("bytes are gone that belong to no deleted message");
	if (error == DROP_OK && removed != drop->marked)
		complain("+OK, and a deleted message is still there");
	if (error != DROP_OK && error != DROP_CHANGED)
		complain("QUIT failed");
	if (error != DROP_OK && !meddled && !large)
		complain("QUIT has not removed all, although no program has "
			 "changed anything");
	if (error != DROP_OK)
		must_be_right = true;
}

/*
 * Sends UIDL for each message, and records which header and body each id names.
 */
static void
ask_ids(struct maildrop *drop, struct deed *deeds)
{
	for (size_t n = 1; n <= drop->count; n++) {
		struct deed *d = &deeds[n - 1];
		const struct name *known;

		maildrop_uidl(drop, n, d->id);
		known = find_name(d->id);
		if (known == NULL || d->is_known)
			continue;
		d->is_known = true;
		d->is_firm = known->is_firm;
		d->header = known->header;
		d->whole = known->whole;
	}
}

/* Keeps the texts of all messages for is_part. */
static void
keep_texts(const struct picture *p)
{
	for (size_t i = 0; i < p->count; i++) {
		const struct message *m = &p->messages[i];
		size_t k = 0;

		while (k < text_count &&
		    (texts[k].whole != m->whole || texts[k].n != m->stored))
			k++;
		if (k < text_count || m->stored > sizeof(texts[0].p))
			continue;
		CHECK(text_count < NAMES);
		texts[k].whole = m->whole;
		texts[k].n = m->stored;
		memcpy(texts[k].p, p->bytes + m->text, m->stored);
		text_count++;
	}
}

/* Checks the list of a session. Returns false if the session must end. */
static bool
check_list(struct maildrop *drop, struct deed *deeds,
    const struct picture *model)
{
	struct maildrop fresh;
	const bool is_right = is_list_right(drop, model), is_asked = any(3) > 0;

	unlinkat(top, "fresh/index", 0);
	begin(&fresh, "fresh");
	if (!is_list_right(&fresh, model)) {
		TELL(" [%zu of %zu]", fresh.count, model->count);
		complain("LIST is wrong without an index");
		return false;
	}
	if (!is_right && (!large || must_be_right)) {
		complain("LIST is wrong");
		return false;
	}
	if (!large || must_be_right) {
		for (size_t n = 0; n < drop->count; n++) {
			const struct message *m = &model->messages[n];

			deeds[n] = (struct deed){ .is_known = true,
				.header = m->header,
				.whole = m->whole,
				.is_firm = m->weak ||
				    count_header(model, m->header) > 1 };
		}
		if (is_asked)
			check_names(drop, &fresh, model);
	}
	if (is_asked)
		ask_ids(drop, deeds);
	must_be_right = false;
	return true;
}

static void
session(void)
{
	static struct picture model;
	static struct deed deeds[MOST_MESSAGES * 2];
	struct maildrop drop;
	enum drop_error error;
	size_t removed;

	ahead = any(4) > 0 ? 3600 : 0;
	TELL(" |%s", ahead > 0 ? "" : " unstable");
	closefrom(top + 1);
	meddled = false;
	draw(&model);
	served = openat(top, "spool", O_RDONLY);
	begin(&drop, "kept");
	sessions++;
	keep_texts(&model);
	memset(deeds, 0, sizeof(deeds));
	if (!check_list(&drop, deeds, &model))
		return;
	for (size_t n = 1; n <= drop.count; n++) {
		if (any(20) == 0)
			meddle();
		if (any(60) == 0)
			ask_ids(&drop, deeds);
		if (any(3) == 0)
			fetch(&drop, n, &deeds[n - 1], &model);
		if (any(6) == 0 && deeds[n - 1].is_known) {
			TELL(" DELE %zu", n);
			maildrop_mark(&drop, n);
			deeds[n - 1].marked = true;
		}
	}
	for (unsigned k = any(3) == 0 ? 1 + any(3) : 0; k > 0; k--)
		meddle();
	draw(&before_removal);
	if (drop.marked == 0)
		return;
	TELL(" QUIT");
	error = maildrop_commit(&drop, &removed);
	check_removal(&drop, deeds, error, removed);
}

/* Makes an empty mailbox and forgets all earlier ones. */
static void
renew(void)
{
	unlinkat(top, "spool", 0);
	unlinkat(top, "kept/index", 0);
	name_count = text_count = 0;
	rest_size = 0;
	serial = 0;
	must_be_right = false;
	story[0] = '\0';
}

int
main(int argc, char **argv)
{
	const long wanted = argc > 1 ? atol(argv[1]) : SESSIONS;
	const off_t small = cache_small;

	top = drop_directory();
	CHECK(mkdirat(top, "kept", 0700) == 0 &&
	    mkdirat(top, "fresh", 0700) == 0);
	for (seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
	     sessions < wanted; seed++) {
		state = 88172645463325252ULL + seed * 2654435761ULL;
		large = seed % 2 == 0;
		quoted = seed % 8 >= 6;
		crlf = seed % 5 == 0;
		cache_small = large ? 0 : small;
		renew();
		for (int i = 0; i < ROUNDS; i++) {
			for (unsigned k = any(5); k > 0; k--)
				meddle();
			session();
		}
	}
	printf("sessions on an mbox that others change: %ld points, %ld bad\n",
	    sessions, bad);
	return drop_clean_up() != 0 || bad > 0;
}
