/*
 * Reads the header fields of one message; pure computation.
 *
 * Runs as the owner of the mailbox, on bytes from any sender.
 *
 * The fields decide four questions:
 *
 *	- Which fields are part of the unique id?
 *	- Does the header identify the message (Message-ID, Received)?
 *	- How long is the body (Content-Length)?
 *	- Is this the internal message that UW-IMAP, Dovecot and their relatives
 *	  keep at the front of a mailbox?
 */
#include "config.h"

#include <string.h>
#include <strings.h>

#include "mbox-fields.h"
#include "mbox-from.h"

void
fields_begin(struct fields *f, bool at_front)
{
	*f =
	    (struct fields){ .at_front = at_front, .length = FIELDS_NO_LENGTH };
}

/*
 * Returns true if the n bytes at p begin with prefix. Ignores the case of
 * letters.
 */
static bool
has_prefix(const char *p, size_t n, const char *prefix)
{
	size_t k = strlen(prefix);

	return n >= k && strncasecmp(p, prefix, k) == 0;
}

/*
 * Returns true if p begins a header field that mail readers add, change or
 * remove. DESIGN §4.7 has a table of these programs. Adding a field here
 * changes the ids of all messages that have this field.
 */
static bool
is_rewritten_field(const char *p, size_t n)
{
	static const char *const fields[] = {
		"Status:", "Content-Length:", "Lines:"
	};
	/*
	 * The names without "X-". All fields of VM, a mail reader, begin with
	 * the last entry.
	 */
	static const char *const extensions[] = { "Status:", "UID:", "UIDL:",
		"IMAP:", "IMAPbase:", "Keywords:", "Label:", "Mozilla-Status:",
		"Mozilla-Status2:", "Mozilla-Keys:", "Evolution:",
		"RMAIL-Attributes:", "RMAIL-Keywords:", "Gnus-Newsgroup:",
		"Gnus-Article-Number:", "VM-" };
	const bool is_extension = n > 2 && (*p | 0x20) == 'x' && p[1] == '-';
	const char *const *names = is_extension ? extensions : fields;
	size_t count = is_extension ?
	    sizeof(extensions) / sizeof(extensions[0]) :
	    sizeof(fields) / sizeof(fields[0]);

	p += is_extension ? 2 : 0;
	n -= is_extension ? 2 : 0;
	for (size_t i = 0; i < count; i++)
		if ((*p | 0x20) == (*names[i] | 0x20) &&
		    has_prefix(p, n, names[i]))
			return true;
	return false;
}

/*
 * Returns a pointer to the first byte in [p, end) that is not a blank, or end.
 */
static const char *
after_blanks(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	return p;
}

/* Returns true if p points to the line end. */
static bool
is_end_of_line(const char *p, const char *end)
{
	return p < end &&
	    (*p == '\n' || (*p == '\r' && end - p == 2 && p[1] == '\n'));
}

/*
 * Reads the number at *p and moves *p past the number. Returns -1 if no number
 * is at *p, or if the number does not fit into an off_t.
 */
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
read_length(struct fields *f, const char *p, const char *end)
{
	off_t length;

	p = after_blanks(p, end);
	length = read_number(&p, end);
	if (length == -1 || !is_end_of_line(after_blanks(p, end), end) ||
	    (f->length != FIELDS_NO_LENGTH && f->length != length))
		length = FIELDS_BAD_LENGTH;
	f->length = length;
	f->current = FIELDS_LENGTH;
}

/*
 * Returns true if a From field is the one of the internal message. p points to
 * the text after the colon.
 */
static bool
is_internal_name(const char *p, const char *end)
{
	static const char name[] = "Mail System Internal Data";
	static const char address[] = "<MAILER-DAEMON@";

	p = after_blanks(p, end);
	p += p < end && *p == '"';
	if (!has_prefix(p, (size_t)(end - p), name))
		return false;
	p += sizeof(name) - 1;
	p += p < end && *p == '"';
	p = after_blanks(p, end);
	return has_prefix(p, (size_t)(end - p), address);
}

/*
 * Returns true if an X-IMAP or X-IMAPbase field begins with two numbers. p
 * points to the text after the colon. Keywords may follow the numbers.
 */
static bool
is_imap_base(const char *p, const char *end)
{
	for (int i = 0; i < 2; i++) {
		const char *begin = p;

		p = after_blanks(p, end);
		if (p == begin || read_number(&p, end) == -1)
			return false;
	}
	return is_end_of_line(p, end) || (p < end && *p == ' ');
}

/*
 * Records whether a From, Subject, X-IMAP or X-IMAPbase field is as in the
 * internal message. Ignores other fields.
 */
static void
read_internal_field(struct fields *f, const char *p, size_t n)
{
	static const char subject[] = "Subject: DON'T DELETE THIS MESSAGE"
				      " -- FOLDER INTERNAL DATA";
	const char *end = p + n;

	if (has_prefix(p, n, "Subject:")) {
		f->has_subject = has_prefix(p, n, subject) &&
		    is_end_of_line(p + sizeof(subject) - 1, end);
		f->is_mail |= !f->has_subject;
		f->current = FIELDS_SUBJECT;
	} else if (has_prefix(p, n, "From:")) {
		f->has_name = is_internal_name(p + strlen("From:"), end);
		f->is_mail |= !f->has_name;
	} else if (has_prefix(p, n, "X-IMAP:"))
		f->has_imap |= is_imap_base(p + strlen("X-IMAP:"), end);
	else if (has_prefix(p, n, "X-IMAPbase:"))
		f->has_imap |= is_imap_base(p + strlen("X-IMAPbase:"), end);
}

void
fields_read_from_line(struct fields *f, const char *p, size_t n)
{
	/* c-client writes the first sender, Dovecot the second. */
	f->has_sender = f->at_front &&
	    (has_prefix(p, n, FROM_WORD "MAILER-DAEMON ") ||
		has_prefix(p, n, FROM_WORD "MAILER_DAEMON "));
}

void
fields_read(struct fields *f, const char *p, size_t n)
{
	f->is_rewritten = is_rewritten_field(p, n);
	f->current = FIELDS_OTHER;
	if (f->is_rewritten && has_prefix(p, n, "Content-Length:"))
		/*
		 * Read only the first FIELDS_LOOK bytes. A longer line may come
		 * in parts, and the result must not depend on the sizes of the
		 * parts.
		 */
		read_length(f, p + strlen("Content-Length:"),
		    p + (n < FIELDS_LOOK ? n : FIELDS_LOOK));
	else if ((*p | 0x20) == 'm')
		f->has_id |= has_prefix(p, n, "Message-ID:");
	else if ((*p | 0x20) == 'r')
		f->has_received |= has_prefix(p, n, "Received:");
	if (f->at_front)
		read_internal_field(f, p, n);
}

void
fields_continue(struct fields *f)
{
	if (f->current == FIELDS_LENGTH)
		f->length = FIELDS_BAD_LENGTH;
	f->is_mail |= f->current == FIELDS_SUBJECT;
}

/*
 * A message that came by mail has a Received field and is never internal.
 * Otherwise a sender could hide a message by giving it the fields of the
 * internal message.
 */
bool
fields_are_internal(const struct fields *f)
{
	return f->at_front && f->has_sender && f->has_name && f->has_subject &&
	    f->has_imap && !f->has_received && !f->is_mail;
}
