/*
 * Gives the messages of a mailbox the ids that they had on another server:
 * kpopd --import-uidl; or only reports which of them would get one: kpopd
 * --uidl-report.
 *
 * Runs as the user, in a child of import-run.c, as a session does: with the
 * session lock, confined to the mailbox and the state. The user may have put
 * anything in place of these files, so root opens none of them.
 *
 * The messages are read through maildrop.c, so every format is the same here.
 * The map is written last, as a whole. Whatever happens before, the earlier map
 * stays.
 */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "confine.h"
#include "import-list.h"
#include "import-match.h"
#include "import.h"
#include "lock-session.h"
#include "log.h"
#include "maildrop-state.h"
#include "maildrop.h"
#include "uidl-hash.h"

#define SHOWN 10 /* message numbers that a line of the report has */

/* The state of an import or a report. */
struct import_round {
	const struct session *s;
	int channel;
	int state; /* the mailbox's state directory */
	bool is_report;
	struct maildrop drop;
	struct import_list list;
	struct import_message *messages;
	struct uidl_map *map; /* the new one */
	struct import_counts lines;
};

/* Has the root process print a line. */
static void __attribute__((format(printf, 3, 4)))
say(const struct import_round *r, enum session_kind kind, const char *format,
    ...)
{
	char text[MESSAGE_TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	message_send_session(r->channel, kind, text);
}

/* Reads the list. Ends the process after a mistake. */
static void
read_list(struct import_round *r)
{
	struct import_list *l = &r->list;

	if (import_list_read(r->s->list, l) == -1 && l->wrong != 0)
		say(r, MESSAGE_MISTAKE, "line %u of the list: %s",
		    (unsigned)l->wrong, l->why);
	else if (l->why != NULL)
		say(r, MESSAGE_MISTAKE, "the list: %s", l->why);
	if (l->why != NULL)
		_exit(IMPORT_WRONG);
	close(r->s->list);
	message_send_session(r->channel, MESSAGE_LISTED, "");
}

/* Ends the process, because another process has the mailbox. */
_Noreturn static void
leave_busy(const struct import_round *r)
{
	say(r, MESSAGE_MISTAKE,
	    "the mailbox is in use, try again when its session has ended");
	_exit(IMPORT_BUSY);
}

/* Opens the mailbox as a session does. Ends the process if that fails. */
static void
enter(struct import_round *r, struct lock_plan *locks)
{
	const struct session *s = r->s;
	static struct lock_session lock;
	enum drop_error error;

	if (maildrop_state_open(s->mailboxes, s->path, s->directory,
		&r->state) != DROP_OK)
		_exit(IMPORT_FAILED);
	if (lock_session(r->state, NULL, &lock) == -1) {
		if (errno == EAGAIN)
			leave_busy(r);
		fatal("taking the session lock");
	}
	error = maildrop_state_claim(s->mailboxes, s->path, s->directory,
	    r->state, &lock);
	confine_session(s, r->state);
	if (error == DROP_OK) {
		message_send_session(r->channel, MESSAGE_LOCKED, "");
		locks->broker = s->locks_to_broker;
		locks->session = locks->held = lock.fd;
		error = maildrop_open(&r->drop, s->mailboxes, s->path, r->state,
		    locks);
	}
	if (error == DROP_BUSY)
		leave_busy(r);
	if (error != DROP_OK)
		_exit(IMPORT_FAILED);
}

/* Adds a line to the new map. */
static void
map_line(const struct import_round *r, const char *own, const char *id)
{
	if (!uidl_map_add(r->map, own, id))
		fatal("a map of more than %zu bytes", UIDL_MAP_MOST);
}

/*
 * Begins the new map with the lines of the earlier one whose message is still
 * there. Also keeps an id that replaces an own one, because the line that made
 * this necessary may be gone now.
 */
static void
keep_earlier(struct import_round *r)
{
	struct maildrop *d = &r->drop;

	r->map = uidl_map_new();
	if (maildrop_load_ids(d) != DROP_OK) {
		say(r, MESSAGE_MISTAKE,
		    "the earlier ids cannot be read: remove the file uidl in "
		    "the state directory of the mailbox, and try again");
		_exit(IMPORT_FAILED);
	}
	for (size_t i = 0; d->map != NULL && i < d->count; i++) {
		char own[UIDL_SIZE], id[UIDL_SIZE];

		maildrop_own_id(d, i + 1, own);
		maildrop_uidl(d, i + 1, id);
		if (strcmp(own, id) == 0 && !uidl_map_has_own(d->map, own))
			continue;
		map_line(r, own, id);
		r->messages[i].is_kept = true;
	}
}

/*
 * Reads the header of message n, or all of it if is_whole is true. Returns true
 * with the hashes in *h if all of this was read. Otherwise it was logged.
 */
static bool
hash_message(struct maildrop *d, size_t n, bool is_whole, struct uidl_hash *h)
{
	static char bytes[65536];
	struct span span;
	ssize_t got = 1;

	if (maildrop_begin(d, n, &span) != DROP_OK)
		return false;
	uidl_hash_begin(h);
	while (got > 0 && (is_whole || !uidl_hash_has_header(h))) {
		/* Most headers are shorter. */
		size_t most = is_whole ? sizeof(bytes) : 4096;

		if ((got = maildrop_read(&span, bytes, most)) > 0)
			uidl_hash_add(h, bytes, (size_t)got);
	}
	uidl_hash_end(h);
	return maildrop_end(d, n, &span, span.wire_size);
}

/* Reads the headers, then the bodies that are needed. */
static void
hash_messages(struct import_round *r)
{
	size_t count = r->drop.count;
	struct uidl_hash h;

	for (size_t i = 0; i < count; i++) {
		struct import_message *m = &r->messages[i];

		m->n = (uint32_t)i + 1;
		m->is_unread = !hash_message(&r->drop, i + 1, false, &h);
		if (m->is_unread)
			continue;
		memcpy(m->header, h.header, UIDL_HASH);
		m->is_weak = h.is_weak;
	}
	import_find_needs(&r->list, r->messages, count);
	for (size_t i = 0; i < count; i++) {
		struct import_message *m = &r->messages[i];

		if (!m->needs_body)
			continue;
		m->is_unread = !hash_message(&r->drop, m->n, true, &h) ||
		    memcmp(m->header, h.header, UIDL_HASH) != 0;
		m->body = m->is_unread ? 0 : h.body;
	}
}

/* Adds the new lines to the map. */
static void
map_lines(struct import_round *r)
{
	for (size_t i = 0; i < r->drop.count; i++) {
		const struct import_message *m = &r->messages[i];
		char own[UIDL_SIZE], id[UIDL_SIZE];

		if (m->line == NULL)
			continue;
		maildrop_own_id(&r->drop, m->n, own);
		import_list_id(&r->list, m->line, id);
		map_line(r, own, id);
	}
}

/* Why a message has no id of the list. */
enum lack { LACK_NOTHING, LACK_LINE, LACK_BODY, LACK_BYTES, LACKS };

static enum lack
find_lack(const struct import_message *m)
{
	if (m->is_kept || m->line != NULL)
		return LACK_NOTHING;
	if (m->is_unread)
		return LACK_BYTES;
	return m->is_listed ? LACK_BODY : LACK_LINE;
}

/*
 * Reports the messages with this lack: how many, and the numbers of the first
 * of them.
 */
static void
report_lack(const struct import_round *r, enum lack lack)
{
	static const char *const texts[LACKS] = {
		[LACK_NOTHING] = "with an id of the other server",
		[LACK_LINE] = "not in the list",
		[LACK_BODY] = "in the list with another body",
		[LACK_BYTES] = "not readable, see syslog",
	};
	char numbers[SHOWN * 12 + 16] = "";
	size_t n = 0, used = 0;

	for (size_t i = 0; i < r->drop.count; i++) {
		if (find_lack(&r->messages[i]) != lack || n++ > SHOWN)
			continue;
		used += (size_t)snprintf(numbers + used, sizeof(numbers) - used,
		    n == 1        ? ", number %u" :
			n > SHOWN ? ", ..." :
				    ", %u",
		    (unsigned)r->messages[i].n);
	}
	if (lack == LACK_NOTHING)
		numbers[0] = '\0';
	if (n > 0 || lack == LACK_NOTHING)
		say(r, MESSAGE_REPORT, "%s: %zu of %zu messages%s", texts[lack],
		    n, r->drop.count, numbers);
}

/* Reports a number of lines, if it is not 0. */
static void
report_lines(const struct import_round *r, size_t n, const char *what)
{
	if (n > 0)
		say(r, MESSAGE_REPORT, "%s: %zu of %zu lines", what, n,
		    r->list.count + r->list.repeated);
}

static int
compare_places(const void *a, const void *b)
{
	const struct import_message *x = a, *y = b;

	return (x->n > y->n) - (x->n < y->n);
}

/* Reports what would be, or is, the result of the import. */
static void
report(const struct import_round *r)
{
	if (r->drop.count > 0)
		qsort(r->messages, r->drop.count, sizeof(*r->messages),
		    compare_places);
	for (int lack = LACK_NOTHING; lack < LACKS; lack++)
		report_lack(r, (enum lack)lack);
	report_lines(r, r->lines.absent, "without a message");
	report_lines(r, r->lines.different,
	    "message has another id from an earlier import");
	report_lines(r, r->list.repeated, "with the id of an earlier line");
}

/*
 * Ends the process if the list has nothing in common with the mailbox: it is
 * another user's list, or the mail has not been copied yet.
 */
static void
refuse_stranger(const struct import_round *r)
{
	if (r->is_report || r->list.count == 0 ||
	    r->lines.matched + r->lines.known + r->lines.different > 0)
		return;
	say(r, MESSAGE_MISTAKE,
	    "no message is in the list, so nothing was changed");
	_exit(IMPORT_WRONG);
}

/* Writes the new map, and logs that. Ends the process if that fails. */
static void
write_map(const struct import_round *r)
{
	struct log_text user;

	if (r->is_report)
		return;
	if (uidl_map_write(r->map, r->state) == -1)
		fatal("writing the file uidl in the state directory");
	log_event(LOG_NOTICE, "import",
	    "user=%s messages=%zu ids=%zu lines=%zu",
	    log_safe(&user, r->s->user.name), r->drop.count,
	    uidl_map_count(r->map), r->list.count + r->list.repeated);
}

void
import_by_hand(const struct session *s, int channel)
{
	static struct import_round r;
	struct lock_plan locks = s->locks;

	r.s = s;
	r.channel = channel;
	r.is_report = s->o->uidl_report != NULL;
	read_list(&r);
	enter(&r, &locks);
	r.messages = calloc(r.drop.count + 1, sizeof(*r.messages));
	if (r.messages == NULL)
		fatal("%zu messages", r.drop.count);
	keep_earlier(&r);
	hash_messages(&r);
	import_match(&r.list, r.messages, r.drop.count, r.map, &r.lines);
	map_lines(&r);
	/*
	 * Report first: if the root process has been ended, this fails, and
	 * nothing is written.
	 */
	report(&r);
	refuse_stranger(&r);
	write_map(&r);
	_exit(IMPORT_DONE);
}
