/*
 * Finds the messages in an mbox file, reading it once from front to back.
 *
 * Runs as the owner of the mailbox. Nothing in the file is trusted: lines may
 * be of any length, NULs are ordinary octets.
 *
 * A message begins at "From " at the beginning of the file or behind an empty
 * line, and reaches to the next one: the messages partition the file. Of this,
 * the "From " line and an empty last line are the mailbox's, the rest is what
 * POP3 shows. Line ends may be LF or CRLF, also mixed. Content-Length is not
 * believed. The internal message that UW-IMAP and its relatives keep at the
 * front is not told of.
 *
 * A message's unique id is made of its header alone, without the fields that
 * mail readers rewrite, so that it survives the loss of all our state and a
 * move to another host. It is an XXH3 of 128 bits, since a cryptographic hash
 * would take longer than all the rest. Who knows how may send two messages
 * with one id; they are treated like any others with equal headers: told apart
 * by their order, and neither removed in place of another (mbox.c).
 *
 * Headers are read by lines, bodies by words of 64 octets (lines.c).
 */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lines.h"
#include "scan.h"

#define PIECE ((size_t)256 << 10) /* read at a time: larger is no faster */
#define HEADER_PIECE ((size_t)16 << 10) /* where only a header is wanted */
#define LINE_HEAD 64 /* of a line's beginning, always seen in one piece */

/* A walk through a file. */
struct scan {
	int fd;
	scan_found *found;
	void *self;
	off_t at;         /* of the next octet in the file */
	enum { PREAMBLE, FROM_LINE, HEADER, BODY } in;
	bool header_only; /* stop where a header ends */
	bool stopped;
	bool skip;        /* this header field is not part of the id */
	bool held_cr;     /* a CR that ended a piece is not hashed yet */
	bool has_imap, has_subject, has_received; /* marks of the internal message */
	struct lines lines;
	struct scan_message now;
	off_t text;       /* where its header begins */
	uint64_t bare;    /* its LFs without a CR */
	XXH3_state_t hash;
};

/* The octets that the text up to here has in POP3, whether its last line is ended or not. */
static uint64_t
octets(const struct scan *s)
{
	return (uint64_t)(s->at - s->text) + s->bare + (lines_at_begin(&s->lines) ? 0 : 2);
}

/* The message that ends here is complete. */
static void
finish(struct scan *s)
{
	XXH128_canonical_t digest;

	if (s->in == PREAMBLE)
		return;
	if (s->in == FROM_LINE)
		s->now.octets = s->now.header = 0;
	else {
		s->now.octets = octets(s) - (lines_behind_empty(&s->lines) ? 2 : 0);
		if (s->in == HEADER)
			s->now.header = s->now.octets;
	}
	XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(&s->hash));
	memcpy(s->now.id, digest.digest, UIDL_HASH);
	/* What came by mail is mail, or a sender could hide what he sends. */
	if (s->now.at == 0 && s->has_imap && s->has_subject && !s->has_received)
		return;
	s->found(s->self, &s->now);
}

static void
start(struct scan *s)
{
	s->in = FROM_LINE;
	s->skip = s->held_cr = false;
	s->has_imap = s->has_subject = s->has_received = false;
	s->now.at = s->at;
	s->bare = 0;
	XXH3_128bits_reset(&s->hash);
}

static bool
has_prefix(const char *p, size_t n, const char *prefix)
{
	size_t k = strlen(prefix);

	return n >= k && strncasecmp(p, prefix, k) == 0;
}

/* Fields that mail readers add, change or take away. */
static bool
is_rewritten(const char *p, size_t n)
{
	static const char *const fields[] = { "Status:", "X-Status:", "X-UID:",
		"X-UIDL:", "X-IMAP:", "X-IMAPbase:", "X-Keywords:",
		"Content-Length:", "Lines:", "X-Mozilla-Status:",
		"X-Mozilla-Status2:", "X-Mozilla-Keys:", "X-Evolution:" };

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if ((*p | 0x20) == (*fields[i] | 0x20) && has_prefix(p, n, fields[i]))
			return true;
	return false;
}

/* A piece of the header into the hash, with line ends as LF. */
static void
hash_piece(struct scan *s, const char *p, size_t n)
{
	bool ends = p[n - 1] == '\n';

	if (s->held_cr && !(ends && n == 1))
		XXH3_128bits_update(&s->hash, "\r", 1);
	s->held_cr = n > ends && p[n - ends - 1] == '\r';
	if (!s->held_cr) {
		XXH3_128bits_update(&s->hash, p, n);
		return;
	}
	XXH3_128bits_update(&s->hash, p, n - ends - 1);
	if (ends) {
		XXH3_128bits_update(&s->hash, "\n", 1);
		s->held_cr = false;
	}
}

/* What the message at the front of the file may be. */
static void
look_for_marks(struct scan *s, const char *p, size_t n)
{
	s->has_imap |= has_prefix(p, n, "X-IMAP");
	s->has_received |= has_prefix(p, n, "Received:");
	s->has_subject |= has_prefix(p, n,
	    "Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA");
}

/*
 * One line, or a part of a line longer than the buffer, before a body. A part
 * that begins a line has at least LINE_HEAD octets or the whole line. Returns
 * whether it belongs to an mbox.
 */
static bool
piece(struct scan *s, const char *p, size_t n)
{
	bool begins = lines_at_begin(&s->lines), ends = p[n - 1] == '\n';
	bool blank = begins && ends && (n == 1 || (n == 2 && *p == '\r'));
	bool from = begins && n >= SCAN_FROM_SIZE && memcmp(p, SCAN_FROM, SCAN_FROM_SIZE) == 0;

	if (s->in == PREAMBLE && !from && !blank)
		return false;
	if (s->in == PREAMBLE && from)
		start(s);
	if (s->in == HEADER && blank) {
		s->now.header = octets(s);
		s->in = BODY;
		s->stopped = s->header_only;
	}
	if (s->in == HEADER) {
		if (begins && *p != ' ' && *p != '\t') {
			s->skip = is_rewritten(p, n);
			if (s->now.at == 0)
				look_for_marks(s, p, n);
		}
		if (!s->skip)
			hash_piece(s, p, n);
	}
	if (s->in >= HEADER)
		s->bare += lines_bare(&s->lines, p, n);
	else
		lines_bare(&s->lines, p, n);
	s->at += (off_t)n;
	if (ends && s->in == FROM_LINE) {
		s->in = HEADER;
		s->text = s->at;
	}
	return true;
}

/* Passes a body in [p, end) up to the next message. Returns where it stopped: there, at its beginning cut short by end, or at end. */
static const char *
body(struct scan *s, const char *p, const char *end)
{
	while (p < end) {
		size_t n = lines_until_from(&s->lines, p, (size_t)(end - p), &s->bare);

		p += n;
		s->at += (off_t)n;
		if ((size_t)(end - p) < SCAN_FROM_SIZE)
			return p;
		if (memcmp(p, SCAN_FROM, SCAN_FROM_SIZE) == 0) {
			finish(s);
			start(s);
			return p;
		}
		lines_pass(&s->lines);
		s->at++;
		p++;
	}
	return p;
}

/* All that is whole in [p, end): lines, bodies. What remains goes to *rest. Returns whether it belongs to an mbox. */
static bool
pieces(struct scan *s, const char *p, const char *end, const char **rest)
{
	bool good = true;

	while (good && !s->stopped && p < end) {
		const char *lf;

		if (s->in == BODY) {
			p = body(s, p, end);
			if (s->in == BODY)
				break;
		}
		lf = memchr(p, '\n', (size_t)(end - p));
		if (lf == NULL)
			break;
		good = piece(s, p, (size_t)(lf + 1 - p));
		p = lf + 1;
	}
	*rest = p;
	return good;
}

/* The last octets of the file, which are less than a line's head, or a long line's part. Returns whether it belongs to an mbox. */
static bool
remainder_of(struct scan *s, const char *p, size_t n)
{
	if (s->in != BODY)
		return piece(s, p, n);
	s->bare += lines_bare(&s->lines, p, n);
	s->at += (off_t)n;
	return true;
}

/* Walks from s->at up to to. */
static enum scan_result
walk(struct scan *s, off_t to)
{
	static char buffer[PIECE];
	size_t kept = 0, most = s->header_only ? HEADER_PIECE : PIECE;
	off_t at = s->at;

	while (!s->stopped) {
		const char *rest;
		size_t left, want = most - kept;
		ssize_t n;

		if ((off_t)want > to - at)
			want = (size_t)(to - at);
		n = pread(s->fd, buffer + kept, want, at);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return SCAN_FAILED;
		at += n;
		if (!pieces(s, buffer, buffer + kept + n, &rest))
			return SCAN_FOREIGN;
		left = (size_t)(buffer + kept + n - rest);
		kept = 0;
		if (n > 0 && lines_at_begin(&s->lines) && left < LINE_HEAD) {
			memmove(buffer, rest, left);
			kept = left;
		} else if (left > 0 && !s->stopped && !remainder_of(s, rest, left))
			return SCAN_FOREIGN;
		if (n == 0)
			break;
	}
	finish(s);
	return SCAN_DONE;
}

enum scan_result
scan_messages(int fd, off_t from, off_t to, scan_found *found, void *self, off_t *end)
{
	struct scan s = { .fd = fd, .found = found, .self = self, .at = from,
		.lines = LINES_BEGIN };
	enum scan_result result = walk(&s, to);

	*end = s.at;
	return result;
}

/* An id that is told of at most once. */
struct one_id {
	unsigned char *id;
	bool told;
};

static void
keep_id(void *self, const struct scan_message *one)
{
	struct one_id *o = self;

	memcpy(o->id, one->id, UIDL_HASH);
	o->told = true;
}

int
scan_id(int fd, off_t from, off_t to, unsigned char id[UIDL_HASH])
{
	struct one_id one = { .id = id };
	struct scan s = { .fd = fd, .found = keep_id, .self = &one, .at = from,
		.header_only = true, .lines = LINES_BEGIN };
	char first[SCAN_FROM_SIZE];

	if (pread(fd, first, sizeof(first), from) != (ssize_t)sizeof(first) ||
	    memcmp(first, SCAN_FROM, SCAN_FROM_SIZE) != 0)
		return -1;
	return walk(&s, to) == SCAN_DONE && one.told ? 0 : -1;
}
