/*
 * Finds the messages in an mbox file, in one pass from its beginning to its
 * end.
 *
 * Runs as the owner of the mailbox. Nothing in the file is trusted: lines may
 * be of any length, NULs are ordinary bytes, and another program may write to
 * the file at any time.
 *
 * Where messages begin and end
 *
 *	The first message begins at the first line that is not empty. This line
 *	must begin with "From ". A further message begins at each line that
 *	follows an empty line and separates messages by the rules of
 *	mbox-from.c. Each message ends where the next one begins, and the last
 *	one at the file's end. So the messages partition the file.
 *
 *	A trusted Content-Length is an exception: no message begins within the
 *	body that it specifies, because programs that write this field need not
 *	quote text. The field is trusted if that body ends with an LF, an empty
 *	line follows it, and another message or the file's end follows the empty
 *	line. In a quoted mailbox (scan_messages) no such field is trusted.
 *
 * The part that POP3 shows
 *
 *	POP3 shows a message without its "From " line and without an empty last
 *	line, because these belong to the mailbox format. But the empty line
 *	that ends a header belongs to the message, even if it is the last line:
 *	programs write a message without a body as a header and one empty line.
 *	Line ends may be LF or CRLF, also mixed. The internal message that
 *	UW-IMAP and its relatives keep at the front is not reported.
 *
 * The id of a message
 *
 *	The id is the hash of the header alone, without the fields that mail
 *	readers rewrite. So the id needs no state: it survives the loss of the
 *	state directory and a move to another host. mbox-number.c distinguishes
 *	messages with the same header hash.
 *
 * Headers are read line by line, bodies in words of 64 bytes (mbox-lines.c).
 */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "file.h"
#include "mbox-boundary.h"
#include "mbox-fields.h"
#include "mbox-from.h"
#include "mbox-hash.h"
#include "mbox-header.h"
#include "mbox-lines.h"
#include "mbox-scan.h"

#define PIECE ((size_t)256 << 10)       /* bytes read at a time */
#define HEADER_PIECE ((size_t)16 << 10) /* if only a header is read */

/* A pass through a file, or through one message of it. */
struct scan {
	int fd;
	scan_found *found;
	void *self;
	off_t at; /* offset of the next byte */
	off_t to; /* where the pass ends, unless the file ends earlier */
	enum { PREAMBLE, FROM_LINE, HEADER, BODY } in;
	bool header_only; /* stop where a header ends */
	bool body_only;   /* one message, whose body is hashed */
	bool quoted;      /* no Content-Length is trusted */
	bool at_end;      /* the buffer has the last bytes of the file */
	bool stopped;
	bool failed; /* a read failed */
	struct lines lines;
	/* The current message: */
	struct scan_message now;
	struct header header;
	struct hash_body body_hash; /* if now.weak */
	off_t text;                 /* offset of the header */
	off_t body_at;              /* offset of the body */
	bool is_undecided;          /* Content-Length not yet checked */
	off_t until;                /* no message begins before this offset */
	uint64_t bare; /* LFs without a CR, after the "From " line */
};

/*
 * Returns the wire size of the message up to s->at. If s->at is within a line,
 * also counts a line end for this line.
 */
static uint64_t
wire_size_so_far(const struct scan *s)
{
	return (uint64_t)(s->at - s->text) + s->bare +
	    (lines_at_begin(&s->lines) ? 0 : 2);
}

/*
 * Returns the wire size of the empty line before s->at that separates the
 * message from the next one, or 0 if there is none.
 */
static uint64_t
wire_size_of_separator(const struct scan *s)
{
	if (s->in != BODY || s->at == s->body_at)
		return 0;
	return lines_after_empty(&s->lines) ? 2 : 0;
}

static void
begin_message(struct scan *s)
{
	s->in = FROM_LINE;
	s->now = (struct scan_message){ .at = s->at };
	header_begin(&s->header, s->at == 0);
	s->is_undecided = false;
	s->bare = 0;
}

/* Ends the header, and decides how the body is read. */
static void
end_header(struct scan *s)
{
	s->is_undecided = !s->header_only && !s->body_only && !s->quoted &&
	    s->header.fields.length >= 0;
	s->until = s->body_only ? s->to : 0;
	s->now.weak =
	    !s->header_only && (s->body_only || header_is_weak(&s->header));
	if (s->now.weak)
		hash_body_begin(&s->body_hash);
}

/*
 * Ends the current message, if there is one, and reports it unless it is
 * internal.
 */
static void
end_message(struct scan *s)
{
	off_t length = s->header.fields.length;

	if (s->in == PREAMBLE)
		return;
	/* If the file ends within a header, end the header's last line. */
	if (s->in == HEADER && lines_in_text(&s->lines))
		header_end_line(&s->header);
	if (s->in < BODY)
		end_header(s);
	if (s->in == FROM_LINE)
		s->now.wire_size = s->now.header = 0;
	else {
		s->now.wire_size =
		    wire_size_so_far(s) - wire_size_of_separator(s);
		if (s->in == HEADER)
			s->now.header = s->now.wire_size;
	}
	if (s->now.weak)
		s->now.body = hash_body_end(&s->body_hash);
	/*
	 * If the Content-Length has not been checked yet, the file has no byte
	 * of the body.
	 */
	s->now.right_if_grown |= s->is_undecided && length > 0;
	s->now.right_if_shrunk = length >= 0 && !s->quoted && s->in == BODY &&
	    length > s->at - s->body_at;
	header_end(&s->header, s->now.id);
	if (!fields_are_internal(&s->header.fields))
		s->found(s->self, &s->now);
}

/*
 * Takes a line that is not in a body. If the buffer ends within a line, takes a
 * part of the line. The first part of a line has at least FIELDS_LOOK bytes,
 * unless the file ends earlier. Returns false if the file is not an mbox.
 */
static bool
take_line(struct scan *s, const char *p, size_t n)
{
	bool begins = lines_at_begin(&s->lines), ends = p[n - 1] == '\n';
	bool empty = begins && header_is_empty_line(p, n);
	bool from = begins && from_begins(p, n);

	if (s->in == PREAMBLE && !from && !empty)
		return false;
	if (s->in == PREAMBLE && from)
		begin_message(s);
	if (s->in == FROM_LINE && from)
		fields_read_from_line(&s->header.fields, p, n);
	if (s->in == HEADER && empty) {
		s->now.header = wire_size_so_far(s);
		end_header(s);
		s->body_at = s->at + (off_t)n;
		s->in = BODY;
		s->stopped = s->header_only;
	}
	if (s->in == HEADER)
		header_take(&s->header, p, n, begins);
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

/*
 * Returns true if the body that begins at p may end where its Content-Length
 * specifies. `end` is the end of the buffer. Bytes after the buffer are read
 * from the file.
 */
static bool
is_length_right(struct scan *s, const char *p, const char *end)
{
	char text[1 + BOUNDARY_LOOK];
	off_t length = s->header.fields.length, body_end = s->at + length;
	size_t look = BOUNDARY_LOOK;

	if (s->to - body_end < (off_t)look)
		look = (size_t)(s->to - body_end);
	if (length > 0 && length <= end - p - (off_t)look)
		return boundary_ends_body(p + length, look);
	if (file_read(s->fd, text, 1 + look, body_end - 1) == 0)
		return boundary_ends_body(text + 1, look);
	s->failed = errno != ENODATA;
	return false;
}

/* Decides whether the Content-Length of the body at p is trusted. */
static void
decide_length(struct scan *s, const char *p, const char *end)
{
	off_t length = s->header.fields.length, left = s->to - s->at;

	s->is_undecided = false;
	if (length > left)
		s->now.right_if_grown = true;
	else if (is_length_right(s, p, end))
		s->until = s->at + length;
	else
		s->now.right_if_grown = left - length < (off_t)BOUNDARY_LOOK;
}

/* Passes over n bytes of the body. Returns p + n. */
static const char *
pass_bytes(struct scan *s, const char *p, size_t n)
{
	if (s->now.weak)
		hash_body_add(&s->body_hash, p, n);
	s->at += (off_t)n;
	return p + n;
}

/*
 * Passes over the body from p up to the next message, or up to `end`. May stop
 * a few bytes before `end` if more bytes are needed to decide whether a message
 * begins there. Returns a pointer to the first byte that was not passed.
 */
static const char *
pass_body(struct scan *s, const char *p, const char *end)
{
	if (s->is_undecided)
		decide_length(s, p, end);
	while (p < end) {
		size_t n = (size_t)(end - p);

		if (s->at < s->until) {
			if (s->until - s->at < (off_t)n)
				n = (size_t)(s->until - s->at);
			s->bare += lines_bare(&s->lines, p, n);
			p = pass_bytes(s, p, n);
			continue;
		}
		n = lines_until_from(&s->lines, p, n, &s->bare);
		p = pass_bytes(s, p, n);
		if (p == end || (!s->at_end && end - p < FROM_LOOK))
			return p;
		if (from_separates(p, (size_t)(end - p))) {
			end_message(s);
			begin_message(s);
			return p;
		}
		lines_pass(&s->lines);
		p = pass_bytes(s, p, 1);
	}
	return p;
}

/*
 * Takes the whole lines and the bodies in [p, end). Stores in *rest a pointer
 * to the first byte that was not taken. Returns false if the file is not an
 * mbox.
 */
static bool
take_lines(struct scan *s, const char *p, const char *end, const char **rest)
{
	bool is_mbox = true;

	while (is_mbox && !s->stopped && p < end) {
		const char *lf;

		if (s->in == BODY) {
			p = pass_body(s, p, end);
			if (s->in == BODY)
				break;
		}
		lf = memchr(p, '\n', (size_t)(end - p));
		if (lf == NULL)
			break;
		is_mbox = take_line(s, p, (size_t)(lf + 1 - p));
		p = lf + 1;
	}
	*rest = p;
	return is_mbox;
}

/*
 * Returns true if the last `left` bytes of the buffer must be examined together
 * with the bytes that follow in the file.
 */
static bool
must_stay(const struct scan *s, size_t left)
{
	return s->in == BODY ||
	    (lines_at_begin(&s->lines) && left < FIELDS_LOOK);
}

/* Reads from s->at up to s->to. */
static enum scan_result
scan_file(struct scan *s)
{
	static char buffer[PIECE];
	size_t kept = 0, most = s->header_only ? HEADER_PIECE : PIECE;
	off_t at = s->at;

	while (!s->stopped) {
		const char *rest;
		size_t left, want = most - kept;
		ssize_t n;

		if ((off_t)want > s->to - at)
			want = (size_t)(s->to - at);
		n = pread(s->fd, buffer + kept, want, at);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return SCAN_FAILED;
		at += n;
		s->at_end = n == 0;
		if (!take_lines(s, buffer, buffer + kept + n, &rest))
			return SCAN_FOREIGN;
		if (s->failed)
			return SCAN_FAILED;
		left = (size_t)(buffer + kept + n - rest);
		kept = 0;
		if (n > 0 && must_stay(s, left)) {
			memmove(buffer, rest, left);
			kept = left;
		} else if (left > 0 && !s->stopped && !take_line(s, rest, left))
			return SCAN_FOREIGN;
		if (n == 0)
			break;
	}
	end_message(s);
	return SCAN_DONE;
}

enum scan_result
scan_messages(int fd, off_t from, off_t to, bool quoted, scan_found *found,
    void *self, off_t *end)
{
	struct scan s = { .fd = fd,
		.found = found,
		.self = self,
		.at = from,
		.to = to,
		.quoted = quoted,
		.lines = LINES_BEGIN };
	enum scan_result result = scan_file(&s);

	*end = s.at;
	return result;
}

/* The message that scan_one has found, if it has found one. */
struct only {
	struct scan_message message;
	bool found;
};

static void
keep_message(void *self, const struct scan_message *m)
{
	struct only *only = self;

	only->message = *m;
	only->found = true;
}

/* Reads the one message that begins at s->at. Returns 0 or -1. */
static int
scan_one(struct scan *s, struct only *only)
{
	char first[FROM_SIZE];

	s->found = keep_message;
	s->self = only;
	s->lines = LINES_BEGIN;
	if (file_read(s->fd, first, sizeof(first), s->at) == -1 ||
	    !from_begins(first, sizeof(first)))
		return -1;
	return scan_file(s) == SCAN_DONE && only->found ? 0 : -1;
}

int
scan_id(int fd, off_t from, off_t to, unsigned char id[UIDL_HASH])
{
	struct only only = { .found = false };
	struct scan s = { .fd = fd, .at = from, .to = to, .header_only = true };

	if (scan_one(&s, &only) == -1)
		return -1;
	memcpy(id, only.message.id, UIDL_HASH);
	return 0;
}

bool
scan_has_body(int fd, off_t from, off_t to)
{
	struct only only = { .found = false };
	struct scan s = { .fd = fd, .at = from, .to = to, .header_only = true };

	return scan_one(&s, &only) == -1 || (s.in == BODY && s.body_at < to);
}

int
scan_body(int fd, off_t from, off_t to, uint64_t *hash)
{
	struct only only = { .found = false };
	struct scan s = { .fd = fd, .at = from, .to = to, .body_only = true };

	if (scan_one(&s, &only) == -1 || s.at != to)
		return -1;
	*hash = only.message.body;
	return 0;
}
