/*
 * Gives access to the messages of one mailbox, and keeps the deletion marks.
 * The code of the mailbox's format (store.h) reads and removes the messages.
 *
 * Runs in the session, the recovery, the broker and --check, as the owner of
 * the mailbox. This file depends on no protocol and no mailbox format. Clients
 * number messages from 1, formats number them from 0.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "maildrop.h"
#include "maildrop-state.h"
#include "path.h"
#include "sandbox.h"
#include "store.h"
#include "uidl-compute.h"
#include "uidl-map.h"

enum drop_error
maildrop_open(struct maildrop *m, const struct mailboxes *b, const char *path,
    int state, const struct lock_plan *locks)
{
	struct store_place place = { .create = b->create && !b->read_only,
		.quoted = b->quoted,
		.read_only = b->read_only,
		.state = state,
		.locks = locks };
	enum drop_error error;

	/* Copy the path, because the format keeps pointers to it. */
	if ((path = strdup(path)) == NULL)
		fatal("strdup");
	*m = (struct maildrop){
		.store = b->store, .state = state, .read_only = b->read_only
	};
	/* NOLINTBEGIN(clang-analyzer-unix.Malloc): the path is kept */
	if ((error = maildrop_state_place(&place, path)) != DROP_OK ||
	    (error = m->store->open(&place, &m->box)) != DROP_OK)
		return error;
	/* NOLINTEND(clang-analyzer-unix.Malloc) */
	m->count = m->store->count(m->box);
	if ((m->marks = calloc(m->count / 8 + 1, 1)) == NULL)
		fatal("marks for %zu messages", m->count);
	m->wire_size = m->store->total(m->box);
	return DROP_OK;
}

enum drop_error
maildrop_look(const struct mailboxes *b, const char *path, int state)
{
	struct store_place place = { .quoted = b->quoted, .state = state };
	enum drop_error error = maildrop_state_place(&place, path);

	return error == DROP_OK ? b->store->look(&place) : error;
}

enum drop_error
maildrop_recover(const struct mailboxes *b, const char *path, int state,
    const struct lock_plan *locks)
{
	struct store_place place = {
		.quoted = b->quoted, .state = state, .locks = locks
	};
	enum drop_error error;

	if (b->store->recover == NULL)
		return DROP_OK;
	error = maildrop_state_place(&place, path);
	return error == DROP_OK ? b->store->recover(&place) : error;
}

/*
 * Opens a directory to which the sandbox of a session will permit this access,
 * or, if read_only is true, the part of it that changes nothing. If access is
 * STORE_NO_ACCESS, does nothing.
 */
static void
open_reach(struct sandbox_path *reach, const char *path,
    enum store_access access, bool read_only)
{
	if (access == STORE_NO_ACCESS)
		return;
	reach->fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (access == STORE_WRITE)
		reach->how = read_only ? SANDBOX_READ : SANDBOX_WRITE;
	else
		reach->how = read_only ? SANDBOX_LIST : SANDBOX_OWN;
}

void
maildrop_reach_directory(const char *path, struct sandbox_path *directory)
{
	char name[PATH_MAX];

	path_split(path, name);
	open_reach(directory, name, STORE_OWN, false);
}

void
maildrop_reach(const struct mailboxes *b, const char *path,
    struct sandbox_path *mailbox, struct sandbox_path *directory)
{
	const struct store_ops *store = b->store;
	char name[PATH_MAX];

	path_split(path, name);
	open_reach(mailbox, path, store->mailbox_access, b->read_only);
	open_reach(directory, name,
	    b->create && !b->read_only ? store->create_access :
					 store->directory_access,
	    b->read_only);
}

bool
maildrop_unfinished(const struct mailboxes *b, int state)
{
	return b->store->unfinished != NULL && b->store->unfinished(state);
}

bool
maildrop_marked(const struct maildrop *m, size_t n)
{
	return store_marked(m->marks, n - 1);
}

void
maildrop_mark(struct maildrop *m, size_t n)
{
	m->marks[(n - 1) / 8] |= (unsigned char)(1 << (n - 1) % 8);
	m->marked++;
	m->marked_wire_size += maildrop_wire_size(m, n);
}

void
maildrop_reset(struct maildrop *m)
{
	memset(m->marks, 0, m->count / 8 + 1);
	m->marked = 0;
	m->marked_wire_size = 0;
}

uint64_t
maildrop_wire_size(const struct maildrop *m, size_t n)
{
	return m->store->wire_size(m->box, n - 1);
}

void
maildrop_compute_ids(struct maildrop *m, const struct uidl_scheme *scheme)
{
	if (scheme->source != SCHEME_NONE)
		m->scheme = scheme;
}

/*
 * Makes the map of a mailbox that has none, by the scheme. It is made once,
 * even if it has no line. Otherwise a message could get an id after clients
 * have seen another one.
 */
static enum drop_error
make_map(struct maildrop *m)
{
	struct uidl_map *map = uidl_map_new();
	enum drop_error error =
	    compute_ids(m->store, m->box, m->count, m->scheme, map);
	struct log_text shown;

	if (error == DROP_OK && uidl_map_write(map, m->state) == -1) {
		error = store_error(errno);
		log_failed("writing the file uidl in the state directory");
	}
	if (error != DROP_OK) {
		uidl_map_free(map);
		return error == DROP_CHANGED ? DROP_FAILED : error;
	}
	log_event(LOG_NOTICE, "uidl", "scheme=%s computed=%zu own=%zu",
	    log_safe(&shown, m->scheme->text), uidl_map_count(map),
	    m->count - uidl_map_count(map));
	m->map = map;
	return DROP_OK;
}

enum drop_error
maildrop_load_ids(struct maildrop *m)
{
	if (m->is_map_read)
		return m->map_error;
	m->is_map_read = true;
	if (uidl_map_load(m->state, &m->map) == 0) {
		if (m->map == NULL && m->scheme != NULL && m->count > 0)
			m->map_error = make_map(m);
		return m->map_error;
	}
	m->map_error = errno == EBADMSG ? DROP_DENIED : store_error(errno);
	log_failed_at(LOG_ERR,
	    errno == EBADMSG ?
		"it is damaged: remove it, import the ids again" :
		NULL,
	    "reading the file uidl in the state directory");
	return m->map_error;
}

void
maildrop_own_id(const struct maildrop *m, size_t n, char id[UIDL_SIZE])
{
	m->store->uidl(m->box, n - 1, id);
}

void
maildrop_uidl(struct maildrop *m, size_t n, char id[UIDL_SIZE])
{
	maildrop_own_id(m, n, id);
	if (m->map != NULL)
		uidl_map_apply(m->map, id);
}

/*
 * Logs at most once a minute that message n cannot be read, by this errno, or
 * because it has changed (0).
 */
static void
log_unread(struct maildrop *m, size_t n, int error)
{
	unsigned more;

	if (log_due(&m->unread, &more))
		log_event(error == 0 ? LOG_WARNING : LOG_ERR, "failed",
		    "what=\"reading message %zu\" error=\"%s\" more=%u", n,
		    error == 0 ? "another program changed the mailbox" :
				 strerror(error),
		    more);
}

enum drop_error
maildrop_begin(struct maildrop *m, size_t n, struct span *s)
{
	enum drop_error error = m->store->fetch(m->box, n - 1, s);

	if (error != DROP_OK)
		log_unread(m, n, error == DROP_CHANGED ? 0 : errno);
	/*
	 * The format may have computed the size of the message again. A marked
	 * message is never fetched, so marked_wire_size need not change.
	 */
	m->wire_size = m->store->total(m->box);
	return error;
}

ssize_t
maildrop_read(struct span *s, void *to, size_t size)
{
	ssize_t n;

	if (s->bytes == 0)
		return 0;
	if (size > s->bytes)
		size = (size_t)s->bytes;
	do
		n = pread(s->fd, to, size, s->at);
	while (n == -1 && errno == EINTR);
	if (n == -1)
		s->error = errno;
	s->is_short = n == 0;
	if (n <= 0)
		return -1;
	s->at += n;
	s->bytes -= (uint64_t)n;
	return n;
}

/*
 * Accepts, if possible, that the bytes of message n have another wire size than
 * the one in *s. Returns true if the message was read to its end and did not
 * change meanwhile. In this case a later login counts the size again.
 */
static bool
accept_other_size(struct maildrop *m, size_t n, const struct span *s)
{
	const struct store_ops *store = m->store;

	return s->bytes == 0 && store->accept_other_size != NULL &&
	    store->accept_other_size(m->box, n - 1);
}

bool
maildrop_end(struct maildrop *m, size_t n, const struct span *s, uint64_t sent)
{
	const struct store_ops *store = m->store;

	if (s->error != 0)
		log_unread(m, n, s->error);
	if (s->error != 0 || s->is_short ||
	    (sent != s->wire_size && !accept_other_size(m, n, s)))
		return false;
	return store->is_unchanged == NULL ||
	    store->is_unchanged(m->box, n - 1);
}

enum drop_error
maildrop_commit(struct maildrop *m, size_t *removed)
{
	enum drop_error error;

	*removed = 0;
	if (m->marked == 0)
		return DROP_OK;
	/* DELE has refused to mark a message; check once more. */
	if (m->read_only)
		return DROP_DENIED;
	/*
	 * The removal may take away what the ids are computed from: the first
	 * message of an mbox has the uidvalidity. If no message remains, the
	 * ids do not matter, and a mailbox on a full disk can be emptied.
	 */
	if (m->scheme != NULL && (error = maildrop_load_ids(m)) != DROP_OK &&
	    error != DROP_DENIED && m->marked < m->count)
		return error;
	return m->store->remove(m->box, m->marks, removed);
}
