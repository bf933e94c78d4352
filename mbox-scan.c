/*
 * Finds the messages in an mbox file, reading it once from front to back.
 *
 * Runs as the owner of the mailbox. Nothing in the file is trusted: lines may
 * be of any length, NULs are ordinary bytes.
 *
 * A message begins at "From " at the beginning of the file, or at a line after
 * an empty one that separates messages (mbox-from.c), and reaches to the next one:
 * the messages partition the file. Of this, the "From " line and an empty last
 * line are the mailbox's, the rest is what POP3 shows. The empty line that ends
 * the header is the message's even if it is the last line, because programs
 * write a message without a body so. Line ends may be LF or CRLF, also mixed.
 * The internal message that UW-IMAP and its relatives keep at the front is not
 * told of.
 *
 * A Content-Length is trusted if the body's end is where the field has it: an
 * empty line, and after it another message or the file's end. Then no message
 * begins before that end, because programs that write the field need not quote
 * the text.
 *
 * A message's unique id is made of its header alone, without the fields that
 * mail readers rewrite, so that it survives the loss of all our state and a
 * move to another host. It is an XXH3 of 128 bits, since a cryptographic hash
 * would take longer than all the rest. Who knows how may send two messages
 * with one id; they are treated like any others with equal headers: told apart
 * by their order, and neither removed in place of another (mbox.c).
 *
 * Headers are read by lines, bodies by words of 64 bytes (mbox-lines.c).
 */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "mbox-lines.h"
#include "mbox-scan.h"

#define PIECE ((size_t)256 << 10) /* read at a time: larger is no faster */
#define HEADER_PIECE ((size_t)16 << 10) /* where only a header is wanted */
#define LINE_HEAD 64 /* of a line's beginning, always seen in one piece */
#define NEAR 3 /* bytes that can be an empty line and the LF before it */
#define END_LOOK (2 + FROM_LOOK) /* bytes at a body's end: an empty line, and what may separate */
#define BODY_SEED 0x6b706f70642d6d62 /* any constant; the index keeps what is hashed with it */

#define LENGTH_NONE ((off_t)-1) /* the header has no Content-Length */
#define LENGTH_BAD ((off_t)-2)  /* it has one that is not a number, or two that differ */

/* A walk through a file. */
struct scan {
	int fd;
	scan_found *found;
	void *self;
	off_t at;         /* of the next byte in the file */
	enum { PREAMBLE, FROM_LINE, HEADER, BODY } in;
	off_t to;         /* where it ends, unless the file ends before */
	bool header_only; /* stop where a header ends */
	bool body_only;   /* one message, its body hashed */
	bool quoted;      /* no Content-Length is trusted */
	bool last;        /* there is nothing after this piece */
	bool stopped;
	bool failed;      /* a read has */
	bool skip;        /* this header field is not part of the id */
	enum { OTHER, LENGTH, SUBJECT } field; /* which this one is */
	bool held_cr;     /* a CR that ended a piece is not hashed yet */
	uint64_t held_lf; /* line ends of the body that are not hashed yet; before that CR */
	bool has_id, has_received;
	bool has_sender, has_name, has_imap, has_subject; /* marks of the internal message */
	bool is_mail;     /* another field says that it is none */
	struct lines lines;
	struct scan_message now;
	off_t text;       /* where its header begins */
	off_t body_at;    /* where its body begins */
	off_t length;     /* of its body, as Content-Length has it */
	bool undecided;   /* whether that is trusted */
	off_t until;      /* no message begins before this offset */
	uint64_t bare;    /* its LFs without a CR */
	XXH3_state_t hash;
	XXH3_state_t body;
};

/* The bytes that the text up to here has in POP3, whether its last line is ended or not. */
static uint64_t
wire_size_so_far(const struct scan *s)
{
	return (uint64_t)(s->at - s->text) + s->bare + (lines_at_begin(&s->lines) ? 0 : 2);
}

/* Hashes the line ends that were held back, because text follows them. */
static void
hash_line_ends(struct scan *s)
{
	static const char lf[] = "\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n";

	while (s->held_lf > 0) {
		size_t n = s->held_lf < sizeof(lf) - 1 ? (size_t)s->held_lf : sizeof(lf) - 1;

		XXH3_64bits_update(&s->body, lf, n);
		s->held_lf -= n;
	}
}

/* Hashes a part of a line of the body, without its LF. A CR at its end is held back, because an LF may follow. */
static void
hash_text(struct scan *s, const char *p, size_t n)
{
	bool cr = n > 0 && p[n - 1] == '\r';

	if (n == 0)
		return;
	if (s->held_cr || n > 1 || !cr)
		hash_line_ends(s);
	if (s->held_cr)
		XXH3_64bits_update(&s->body, "\r", 1);
	XXH3_64bits_update(&s->body, p, n - cr);
	s->held_cr = cr;
}

/* Hashes a part of the body without a CR in it or before it: all but the line ends at its end at once. */
static void
hash_without_cr(struct scan *s, const char *p, size_t n)
{
	size_t lf = 0;

	while (lf < n && p[n - lf - 1] == '\n')
		lf++;
	if (lf < n) {
		hash_line_ends(s);
		XXH3_64bits_update(&s->body, p, n - lf);
	}
	s->held_lf += lf;
}

/* Hashes a part of the body. */
static void
hash_body(struct scan *s, const char *p, size_t n)
{
	const char *end = p + n, *lf;

	if (!s->held_cr && memchr(p, '\r', n) == NULL) {
		hash_without_cr(s, p, n);
		return;
	}
	while (p < end && (lf = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		hash_text(s, p, (size_t)(lf - p));
		s->held_cr = false;
		s->held_lf++;
		p = lf + 1;
	}
	hash_text(s, p, (size_t)(end - p));
}

/* Returns the hash of the body that ends here; never 0. */
static uint64_t
body_hash(struct scan *s)
{
	uint64_t hash;

	if (s->held_cr)
		hash_text(s, "\r", 1);
	/* The CR that was held back is hashed, the last one is held now. */
	hash = XXH3_64bits_digest(&s->body);
	return hash != 0 ? hash : 1;
}

/* Begins the hash of a body. */
static void
begin_body_hash(struct scan *s)
{
	s->held_cr = false;
	s->held_lf = 0;
	XXH3_64bits_reset_withSeed(&s->body, BODY_SEED);
}

/* Ends the header. What identifies its message is known now. */
static void
end_header(struct scan *s)
{
	s->undecided = !s->header_only && !s->body_only && !s->quoted && s->length >= 0;
	s->until = s->body_only ? s->to : 0;
	s->now.weak = !s->header_only && (s->body_only || (!s->has_id && !s->has_received));
	if (s->now.weak)
		begin_body_hash(s);
}

/*
 * Returns true if this is the message in which other programs keep what they
 * know of the mailbox. What came by mail is not; otherwise a sender could hide
 * a message. If in doubt it is mail, because showing one too many loses nothing.
 */
static bool
is_internal(const struct scan *s)
{
	return s->now.at == 0 && s->has_sender && s->has_name && s->has_subject && s->has_imap &&
	    !s->has_received && !s->is_mail;
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

/* Returns the bytes of the empty line that separates the message that ends here from the next one; 0: there is none. */
static uint64_t
wire_size_after_text(const struct scan *s)
{
	return s->in == BODY && s->at > s->body_at && lines_behind_empty(&s->lines) ? 2 : 0;
}

/* The message that ends here is complete. */
static void
finish(struct scan *s)
{
	XXH128_canonical_t digest;

	if (s->in == PREAMBLE)
		return;
	/* A header that was cut off. A program that appends to the mailbox ends its line, which shall not change the id. */
	if (s->in == HEADER && !s->skip && lines_in_text(&s->lines))
		hash_piece(s, "\n", 1);
	if (s->in < BODY)
		end_header(s);
	if (s->in == FROM_LINE)
		s->now.wire_size = s->now.header = 0;
	else {
		s->now.wire_size = wire_size_so_far(s) - wire_size_after_text(s);
		if (s->in == HEADER)
			s->now.header = s->now.wire_size;
	}
	if (s->now.weak)
		s->now.body = body_hash(s);
	/* An undecided length is that of a body of which no byte has been seen. */
	s->now.open |= s->undecided && s->length > 0;
	s->now.reaches = s->length >= 0 && !s->quoted && s->in == BODY && s->length > s->at - s->body_at;
	XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(&s->hash));
	memcpy(s->now.id, digest.digest, UIDL_HASH);
	if (!is_internal(s))
		s->found(s->self, &s->now);
}

static void
start(struct scan *s)
{
	s->in = FROM_LINE;
	s->skip = s->held_cr = false;
	s->field = OTHER;
	s->has_id = s->has_received = s->is_mail = false;
	s->has_sender = s->has_name = s->has_imap = s->has_subject = false;
	s->now = (struct scan_message){ .at = s->at };
	s->length = LENGTH_NONE;
	s->undecided = false;
	s->bare = 0;
	XXH3_128bits_reset(&s->hash);
}

static bool
has_prefix(const char *p, size_t n, const char *prefix)
{
	size_t k = strlen(prefix);

	return n >= k && strncasecmp(p, prefix, k) == 0;
}

/*
 * Returns true if a header field begins here that mail readers add, change or
 * take away. DESIGN has a table of the programs that were seen to do it. Each
 * field more changes the ids of the messages that have it.
 */
static bool
is_rewritten(const char *p, size_t n)
{
	static const char *const fields[] = { "Status:", "Content-Length:", "Lines:" };
	/* What comes after "X-"; the last one is how all of VM's fields begin. */
	static const char *const extensions[] = { "Status:", "UID:", "UIDL:", "IMAP:", "IMAPbase:", "Keywords:", "Label:",
		"Mozilla-Status:", "Mozilla-Status2:", "Mozilla-Keys:", "Evolution:", "RMAIL-Attributes:",
		"RMAIL-Keywords:", "Gnus-Newsgroup:", "Gnus-Article-Number:", "VM-" };
	const bool is_extension = n > 2 && (*p | 0x20) == 'x' && p[1] == '-';
	const char *const *names = is_extension ? extensions : fields;
	size_t count = is_extension ? sizeof(extensions) / sizeof(extensions[0]) : sizeof(fields) / sizeof(fields[0]);

	p += is_extension ? 2 : 0;
	n -= is_extension ? 2 : 0;
	for (size_t i = 0; i < count; i++)
		if ((*p | 0x20) == (*names[i] | 0x20) && has_prefix(p, n, names[i]))
			return true;
	return false;
}

/* Skips blanks. */
static const char *
after_blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	return p;
}

/* Returns true if the line is over at p. */
static bool
is_line_end(const char *p, const char *end)
{
	return p < end && (*p == '\n' || (*p == '\r' && end - p == 2 && p[1] == '\n'));
}

/* Reads a number at *p, which moves past it. Returns -1 if there is none, or it is greater than any file. */
static off_t
read_number(const char **p, const char *end)
{
	off_t value = 0;
	const char *begin = *p;

	for (; *p < end && **p >= '0' && **p <= '9'; (*p)++)
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, **p - '0', &value))
			return -1;
	return *p > begin ? value : -1;
}

/* Reads a Content-Length field after its colon. */
static void
read_length(struct scan *s, const char *p, const char *end)
{
	off_t length;

	p = after_blanks(p, end);
	length = read_number(&p, end);
	if (length == -1 || !is_line_end(after_blanks(p, end), end) ||
	    (s->length != LENGTH_NONE && s->length != length))
		length = LENGTH_BAD;
	s->length = length;
	s->field = LENGTH;
}

/* Returns true if a From field after its colon is the internal message's. */
static bool
is_internal_name(const char *p, const char *end)
{
	static const char name[] = "Mail System Internal Data", address[] = "<MAILER-DAEMON@";

	p = after_blanks(p, end);
	p += p < end && *p == '"';
	if (!has_prefix(p, (size_t)(end - p), name))
		return false;
	p += sizeof(name) - 1;
	p += p < end && *p == '"';
	p = after_blanks(p, end);
	return has_prefix(p, (size_t)(end - p), address);
}

/* Returns true if an X-IMAP or X-IMAPbase field after its colon has its two numbers; keywords may follow. */
static bool
is_imap_base(const char *p, const char *end)
{
	for (int i = 0; i < 2; i++) {
		const char *begin = p;

		p = after_blanks(p, end);
		if (p == begin || read_number(&p, end) == -1)
			return false;
	}
	return is_line_end(p, end) || (p < end && *p == ' ');
}

/* Looks for marks of the internal message in a field at the front of the file. */
static void
look_for_marks(struct scan *s, const char *p, size_t n)
{
	static const char subject[] = "Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA";
	const char *end = p + n;

	if (has_prefix(p, n, "Subject:")) {
		s->has_subject = has_prefix(p, n, subject) && is_line_end(p + sizeof(subject) - 1, end);
		s->is_mail |= !s->has_subject;
		s->field = SUBJECT;
	} else if (has_prefix(p, n, "From:")) {
		s->has_name = is_internal_name(p + strlen("From:"), end);
		s->is_mail |= !s->has_name;
	} else if (has_prefix(p, n, "X-IMAP:"))
		s->has_imap |= is_imap_base(p + strlen("X-IMAP:"), end);
	else if (has_prefix(p, n, "X-IMAPbase:"))
		s->has_imap |= is_imap_base(p + strlen("X-IMAPbase:"), end);
}

/* Looks at the beginning of a header field. */
static void
look_at_field(struct scan *s, const char *p, size_t n)
{
	s->skip = is_rewritten(p, n);
	s->field = OTHER;
	if (s->skip && has_prefix(p, n, "Content-Length:"))
		/* A longer line may come in parts, so it is bad wherever they end. */
		read_length(s, p + strlen("Content-Length:"), p + (n < LINE_HEAD ? n : LINE_HEAD));
	else if ((*p | 0x20) == 'm')
		s->has_id |= has_prefix(p, n, "Message-ID:");
	else if ((*p | 0x20) == 'r')
		s->has_received |= has_prefix(p, n, "Received:");
	if (s->now.at == 0)
		look_for_marks(s, p, n);
}

/* Looks at what continues a header field. */
static void
look_at_rest(struct scan *s)
{
	if (s->field == LENGTH)
		s->length = LENGTH_BAD;
	s->is_mail |= s->field == SUBJECT;
}

/*
 * One line, or a part of a line longer than the buffer, before a body. A part
 * that begins a line has at least LINE_HEAD bytes or the whole line. Returns
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
	if (s->in == FROM_LINE && from)
		/* The second is Dovecot's. */
		s->has_sender = has_prefix(p, n, SCAN_FROM "MAILER-DAEMON ") || has_prefix(p, n, SCAN_FROM "MAILER_DAEMON ");
	if (s->in == HEADER && blank) {
		s->now.header = wire_size_so_far(s);
		end_header(s);
		s->body_at = s->at + (off_t)n;
		s->in = BODY;
		s->stopped = s->header_only;
	}
	if (s->in == HEADER) {
		if (begins && *p != ' ' && *p != '\t')
			look_at_field(s, p, n);
		else
			look_at_rest(s);
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

/* Returns the size of the empty line that [text, text + n) ends with, 0 if there is none. What is before text is not a line's end. */
static size_t
empty_before(const char *text, size_t n)
{
	if (n == 0 || text[n - 1] != '\n')
		return 0;
	if (n == 1 || text[n - 2] == '\n')
		return 1;
	return text[n - 2] == '\r' && (n == 2 || text[n - 3] == '\n') ? 2 : 0;
}

/* Returns the size of the empty line that the n bytes at p begin with, 0 if there is none. */
static size_t
empty_at(const char *p, size_t n)
{
	if (n >= 1 && *p == '\n')
		return 1;
	return n >= 2 && p[0] == '\r' && p[1] == '\n' ? 2 : 0;
}

/*
 * Returns true if a body ends at p, where one byte is before and n after it, up
 * to the file's end or END_LOOK. A length that includes the empty line is not
 * trusted, because neither mutt nor Dovecot trusts it.
 */
static bool
is_body_end(const char *p, size_t n)
{
	size_t empty = empty_at(p, n);

	return p[-1] == '\n' && empty > 0 &&
	    (n == empty || from_separates(p + empty, n - empty));
}

/* Reads all n bytes at this offset. Returns 0, or -1: errno is 0 if the file ends before. */
static int
read_all(int fd, char *to, size_t n, off_t at)
{
	ssize_t got;

	do
		got = pread(fd, to, n, at);
	while (got == -1 && errno == EINTR);
	if (got == (ssize_t)n)
		return 0;
	if (got >= 0)
		errno = 0;
	return -1;
}

/* As is_body_end for the body that begins at s->at and has s->length bytes, of which those up to end are at p. */
static bool
ends_well(struct scan *s, const char *p, const char *end)
{
	char text[1 + END_LOOK];
	off_t at = s->at + s->length;
	size_t look = s->to - at < (off_t)END_LOOK ? (size_t)(s->to - at) : END_LOOK;

	if (s->length > 0 && s->length <= end - p - (off_t)look)
		return is_body_end(p + s->length, look);
	if (read_all(s->fd, text, 1 + look, at - 1) == 0)
		return is_body_end(text + 1, look);
	s->failed = errno != 0;
	return false;
}

/* Decides whether the Content-Length of the body that begins at p is trusted. */
static void
decide_length(struct scan *s, const char *p, const char *end)
{
	s->undecided = false;
	if (s->length > s->to - s->at)
		s->now.open = true;
	else if (ends_well(s, p, end))
		s->until = s->at + s->length;
	else
		s->now.open = s->to - s->at - s->length < (off_t)END_LOOK;
}

/* Goes past n bytes of the body. */
static const char *
pass(struct scan *s, const char *p, size_t n)
{
	if (s->now.weak)
		hash_body(s, p, n);
	s->at += (off_t)n;
	return p + n;
}

/*
 * Passes a body in [p, end) up to the next message. Returns where it stopped:
 * there, before bytes that say too little of it, or at end.
 */
static const char *
body(struct scan *s, const char *p, const char *end)
{
	if (s->undecided)
		decide_length(s, p, end);
	while (p < end) {
		size_t n = (size_t)(end - p);

		if (s->at < s->until) {
			if (s->until - s->at < (off_t)n)
				n = (size_t)(s->until - s->at);
			s->bare += lines_bare(&s->lines, p, n);
			p = pass(s, p, n);
			continue;
		}
		n = lines_until_from(&s->lines, p, n, &s->bare);
		p = pass(s, p, n);
		if (p == end || (!s->last && end - p < FROM_LOOK))
			return p;
		if (from_separates(p, (size_t)(end - p))) {
			finish(s);
			start(s);
			return p;
		}
		lines_pass(&s->lines);
		p = pass(s, p, 1);
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

/* Returns true if what remains of a piece has to be seen together with what follows it. */
static bool
is_kept(const struct scan *s, size_t left)
{
	return s->in == BODY || (lines_at_begin(&s->lines) && left < LINE_HEAD);
}

/* Walks from s->at up to s->to. */
static enum scan_result
walk(struct scan *s)
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
		s->last = n == 0;
		if (!pieces(s, buffer, buffer + kept + n, &rest))
			return SCAN_FOREIGN;
		if (s->failed)
			return SCAN_FAILED;
		left = (size_t)(buffer + kept + n - rest);
		kept = 0;
		if (n > 0 && is_kept(s, left)) {
			memmove(buffer, rest, left);
			kept = left;
		} else if (left > 0 && !s->stopped && !piece(s, rest, left))
			return SCAN_FOREIGN;
		if (n == 0)
			break;
	}
	finish(s);
	return SCAN_DONE;
}

enum scan_result
scan_messages(int fd, off_t from, off_t to, bool quoted, scan_found *found, void *self, off_t *end)
{
	struct scan s = { .fd = fd, .found = found, .self = self, .at = from, .to = to,
		.quoted = quoted, .lines = LINES_BEGIN };
	enum scan_result result = walk(&s);

	*end = s.at;
	return result;
}

/* One message that is found at most once. */
struct one {
	struct scan_message message;
	bool found;
};

static void
keep_one(void *self, const struct scan_message *message)
{
	struct one *one = self;

	one->message = *message;
	one->found = true;
}

/* Walks through the one message that s describes, which begins at s->at. Returns 0 or -1. */
static int
walk_one(struct scan *s, struct one *one)
{
	char first[SCAN_FROM_SIZE];

	s->found = keep_one;
	s->self = one;
	s->lines = LINES_BEGIN;
	if (read_all(s->fd, first, sizeof(first), s->at) == -1 ||
	    memcmp(first, SCAN_FROM, SCAN_FROM_SIZE) != 0)
		return -1;
	return walk(s) == SCAN_DONE && one->found ? 0 : -1;
}

int
scan_id(int fd, off_t from, off_t to, unsigned char id[UIDL_HASH])
{
	struct one one = { .found = false };
	struct scan s = { .fd = fd, .at = from, .to = to, .header_only = true };

	if (walk_one(&s, &one) == -1)
		return -1;
	memcpy(id, one.message.id, UIDL_HASH);
	return 0;
}

bool
scan_has_body(int fd, off_t from, off_t to)
{
	struct one one = { .found = false };
	struct scan s = { .fd = fd, .at = from, .to = to, .header_only = true };

	return walk_one(&s, &one) == -1 || (s.in == BODY && s.body_at < to);
}

int
scan_body(int fd, off_t from, off_t to, uint64_t *hash)
{
	struct one one = { .found = false };
	struct scan s = { .fd = fd, .at = from, .to = to, .body_only = true };

	if (walk_one(&s, &one) == -1 || s.at != to)
		return -1;
	*hash = one.message.body;
	return 0;
}

/* Returns true if nothing but empty lines is before this offset. */
static bool
is_front(int fd, off_t at)
{
	char text[512];
	bool cr = false;

	for (off_t i = 0; i < at;) {
		size_t n = at - i < (off_t)sizeof(text) ? (size_t)(at - i) : sizeof(text);

		if (read_all(fd, text, n, i) == -1)
			return false;
		for (size_t k = 0; k < n; k++) {
			if (text[k] != '\n' && (cr || text[k] != '\r'))
				return false;
			cr = text[k] == '\r';
		}
		i += (off_t)n;
	}
	return !cr;
}

bool
scan_is_border(int fd, off_t at, off_t size, off_t *empty)
{
	char text[NEAR + FROM_LOOK];
	size_t before = at < NEAR ? (size_t)at : NEAR;
	size_t look = size - at < FROM_LOOK ? (size_t)(size - at) : FROM_LOOK;

	*empty = 0;
	if (at > size || read_all(fd, text, before + look, at - (off_t)before) == -1)
		return false;
	*empty = (off_t)empty_before(text, before);
	if (at == size)
		return true;
	if (look < SCAN_FROM_SIZE || memcmp(text + before, SCAN_FROM, SCAN_FROM_SIZE) != 0)
		return false;
	/* The first one is not asked for more than the word. */
	return (*empty > 0 && from_separates(text + before, look)) || is_front(fd, at);
}
