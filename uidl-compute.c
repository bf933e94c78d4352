/*
 * Finds the ids that another server gave the messages, by what that server has
 * left in the mailbox. The code of the mailbox's format finds what is not in
 * the messages (store.h).
 *
 * Runs in the session, as the owner of the mailbox. Headers are chosen by
 * senders. They have any size, but only HEADER_MOST bytes of each are read. If
 * several messages have the same id, only the first one gets it.
 *
 * IMAP servers keep the uids of an mbox in its messages. The first header, of
 * the internal message or of message 1, has X-IMAPbase or X-IMAP: the
 * uidvalidity, and the last uid that was given. Each message has its uid in
 * X-UID. Dovecot and c-client write X-UID at the end of the session that has
 * first seen the message. A message without a valid X-UID is therefore new, or
 * a program has removed or replaced the field. It gets no computed id: the next
 * uid may be the id of a message that is gone.
 */
#include "config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "log.h"
#include "store.h"
#include "uidl-compute.h"
#include "uidl-map.h"
#include "uidl-scheme.h"
#include "uidl-trace.h"

#define PIECE ((size_t)64 << 10)         /* bytes read at a time */
#define HEADER_MOST ((uint64_t)16 << 20) /* bytes read of a header */
#define TRIES 3 /* readings of a message that another program changes */

/* What a message's header has of an IMAP server. */
struct number {
	uint32_t uid; /* 0: unknown */
	char md5[TRACE_HASH_TEXT];
};

struct computation {
	const struct store_ops *store;
	void *box;
	size_t count;
	const struct uidl_scheme *scheme;
	struct uidl_map *map;
	char *piece; /* of PIECE bytes */
};

/* Adds the id of message i to the map. This is a store_put_id. */
static void
add_id(void *to, size_t i, const char *id)
{
	struct computation *c = to;
	char own[UIDL_SIZE];

	c->store->uidl(c->box, i, own);
	/* Another message may have the id already. */
	(void)uidl_map_add(c->map, own, id);
}

/*
 * Reads a header at the beginning of the span, which it advances. Returns 0, or
 * -1 with errno.
 */
static int
read_span(const struct computation *c, struct span *s, struct trace *h)
{
	size_t held = 0;

	if (s->bytes > HEADER_MOST)
		s->bytes = HEADER_MOST;
	while (s->bytes > 0 && !h->is_complete) {
		size_t n = PIECE - held, used;

		if (n > s->bytes)
			n = (size_t)s->bytes;
		if (file_read(s->fd, c->piece + held, n, s->at) == -1)
			return -1;
		s->at += (off_t)n;
		s->bytes -= n;
		held += n;
		used = trace_read(h, c->piece, held, s->bytes == 0);
		/* A line that is longer than the piece is read in parts. */
		if (used == 0 && held == PIECE)
			used = trace_read(h, c->piece, held, true);
		held -= used;
		memmove(c->piece, c->piece + used, held);
	}
	return 0;
}

/*
 * Reads the header of message i. *h is what trace_begin and trace_accept have
 * made of it. If the disk cannot read the message, the header is empty, unless
 * all ids depend on it. Returns DROP_OK, DROP_CHANGED, or an error with errno.
 */
static enum drop_error
read_message_header(const struct computation *c, size_t i, struct trace *h)
{
	const struct store_ops *store = c->store;
	const struct trace begun = *h;
	enum drop_error error = DROP_CHANGED;

	for (int tries = 0; tries < TRIES && error == DROP_CHANGED; tries++) {
		struct span s = { .fd = -1 };

		*h = begun;
		error = store->fetch(c->box, i, &s);
		if (error == DROP_OK && read_span(c, &s, h) == -1)
			error = errno == ENODATA ? DROP_CHANGED : DROP_FAILED;
		else if (error == DROP_OK && store->is_unchanged != NULL &&
		    !store->is_unchanged(c->box, i))
			error = DROP_CHANGED;
	}
	if (error != DROP_FAILED || errno != EIO || begun.at_front)
		return error;
	*h = begun;
	return DROP_OK;
}

/* Logs that the header of message i cannot be read. Returns the error. */
static enum drop_error
refuse_message(size_t i, enum drop_error error)
{
	log_failed_at(error == DROP_CHANGED ? LOG_WARNING : LOG_ERR,
	    error == DROP_CHANGED ? "another program changed the mailbox" :
				    NULL,
	    "reading message %zu for its unique id", i + 1);
	return error;
}

/* Finds the ids that are made from one header alone. */
static enum drop_error
compute_from_headers(struct computation *c)
{
	enum trace_hash whose =
	    c->scheme->source == SCHEME_SOLID ? TRACE_SOLID : TRACE_POPA3D;

	for (size_t i = 0; i < c->count; i++) {
		char hash[TRACE_HASH_TEXT];
		enum drop_error error;
		struct trace h;

		trace_begin(&h, whose, false);
		if ((error = read_message_header(c, i, &h)) != DROP_OK)
			return refuse_message(i, error);
		trace_end(&h, hash);
		if (c->scheme->source != SCHEME_X_UIDL)
			add_id(c, i, hash);
		else if (h.x_uidl[0] != '\0')
			add_id(c, i, h.x_uidl);
	}
	return DROP_OK;
}

/*
 * Reads the bytes before the first message, which may be the internal message
 * with X-IMAP. Leaves *front without a uidvalidity if they are not.
 */
static enum drop_error
read_prologue(const struct computation *c, struct trace *front)
{
	struct span s = { .fd = -1 };
	enum drop_error error;

	trace_begin(front, TRACE_DOVECOT, true);
	if (c->store->prologue == NULL)
		return DROP_OK;
	if ((error = c->store->fetch(c->box, 0, &s)) != DROP_OK)
		return refuse_message(0, error);
	c->store->prologue(c->box, &s);
	if (read_span(c, &s, front) == -1)
		return refuse_message(0, DROP_FAILED);
	return c->store->is_unchanged == NULL ||
		c->store->is_unchanged(c->box, 0) ?
	    DROP_OK :
	    refuse_message(0, DROP_CHANGED);
}

/*
 * Checks that the mailbox still has this uidvalidity. Otherwise the other
 * server runs, and has given messages new uids while they were read.
 */
static enum drop_error
check_validity(const struct computation *c, uint32_t validity)
{
	struct trace h;
	enum drop_error error = read_prologue(c, &h);

	if (error != DROP_OK || h.validity == validity)
		return error;
	trace_begin(&h, TRACE_DOVECOT, true);
	error = read_message_header(c, 0, &h);
	if (error == DROP_OK && h.validity != validity)
		error = DROP_CHANGED;
	return error == DROP_OK ? error : refuse_message(0, error);
}

/*
 * Reads the numbers of all messages. Stores in *front the header that has the
 * uidvalidity.
 */
static enum drop_error
read_all_numbers(const struct computation *c, struct trace *front,
    struct number *numbers)
{
	enum drop_error error = read_prologue(c, front);
	uint32_t before = 0;

	for (size_t i = 0; error == DROP_OK && i < c->count; i++) {
		struct trace h;

		trace_begin(&h, TRACE_DOVECOT, front->validity == 0 && i == 0);
		if (front->validity != 0)
			trace_accept(&h, before + 1, front->last);
		if ((error = read_message_header(c, i, &h)) != DROP_OK)
			return refuse_message(i, error);
		if (i == 0 && front->validity == 0)
			*front = h;
		trace_end(&h, numbers[i].md5);
		numbers[i].uid = h.uid;
		if (h.uid != 0)
			before = h.uid;
		if (front->validity == 0 && scheme_uses(c->scheme, "uv"))
			break;
	}
	return error == DROP_OK && front->validity != 0 ?
	    check_validity(c, front->validity) :
	    error;
}

/* Finds the ids of an mbox that are made by a format. */
static enum drop_error
compute_from_numbers(struct computation *c)
{
	struct number *numbers = calloc(c->count, sizeof(*numbers));
	enum drop_error error;
	struct trace front;
	char id[UIDL_SIZE];

	if (numbers == NULL)
		fatal("numbers of %zu messages", c->count);
	error = read_all_numbers(c, &front, numbers);
	for (size_t i = 0; error == DROP_OK && i < c->count; i++) {
		const struct scheme_values values = {
			.uid = numbers[i].uid,
			.validity = front.validity,
			.md5 = numbers[i].md5,
			.guid = numbers[i].md5,
		};

		if (scheme_write(c->scheme, &values, id))
			add_id(c, i, id);
	}
	free(numbers);
	return error;
}

enum drop_error
compute_ids(const struct store_ops *store, void *box, size_t count,
    const struct uidl_scheme *scheme, struct uidl_map *map)
{
	struct computation c = { store, box, count, scheme, map, NULL };
	enum drop_error error = DROP_OK;

	if ((store->id_sources >> scheme->source & 1) != 0)
		return store->old_ids(box, scheme, add_id, &c);
	if ((c.piece = malloc(PIECE)) == NULL)
		fatal("malloc");
	switch (scheme->source) {
	case SCHEME_FORMAT:
		error = compute_from_numbers(&c);
		break;
	case SCHEME_X_UIDL:
	case SCHEME_POPA3D:
	case SCHEME_SOLID:
		error = compute_from_headers(&c);
		break;
	case SCHEME_NONE:
	case SCHEME_COURIER:
		break;
	}
	free(c.piece);
	return error;
}
