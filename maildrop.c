/*
 * Holds the list of messages and the deletion marks over one of the stores.
 *
 * Runs as the owner of the mailbox. Knows no protocol and no mailbox format:
 * the numbers that clients use end here, the formats begin behind store.h.
 */
#include "config.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "journal.h"
#include "lock.h"
#include "log.h"
#include "maildrop.h"
#include "store.h"

static const char mbox_prefix[] = "mbox:";

/* Where the path begins in a description that we understand, else NULL. */
static const char *
path_in(const char *where)
{
	if (strncmp(where, mbox_prefix, sizeof(mbox_prefix) - 1) != 0)
		return NULL;
	return where + sizeof(mbox_prefix) - 1;
}

/* Writes template with %u, %h and a leading ~ replaced into path[PATH_MAX]. Returns 0 or -1. */
static int
expand(const char *template, const char *user, const char *home, char *path)
{
	size_t at = 0, n;

	for (const char *p = template; *p != '\0'; p++) {
		const char *piece = p;

		n = 1;
		if (p[0] == '~' && p == template) {
			piece = home;
			n = strlen(home);
		} else if (p[0] == '%') {
			p++;
			if (*p != 'u' && *p != 'h')
				return -1;
			piece = *p == 'u' ? user : home;
			n = strlen(piece);
		}
		if (at + n >= PATH_MAX)
			return -1;
		memcpy(path + at, piece, n);
		at += n;
	}
	path[at] = '\0';
	return path[0] == '/' ? 0 : -1;
}

bool
maildrop_valid(const char *where)
{
	char path[PATH_MAX];
	const char *template = path_in(where);

	return template != NULL && expand(template, "u", "/h", path) == 0;
}

const char *
maildrop_path(const char *where, const char *user, const char *home)
{
	static char path[PATH_MAX];

	return expand(path_in(where), user, home, path) == 0 ? path : NULL;
}

bool
maildrop_in_home(const char *where)
{
	const char *template = path_in(where);

	return template[0] == '~' || strstr(template, "%h") != NULL;
}

/* The lock that makes this the user's only session. */
static enum drop_error
lock_user(int state)
{
	if (lock_session(state) != -1)
		return DROP_OK;
	if (errno == EAGAIN)
		return DROP_BUSY;
	log_event(LOG_ERR, "failed", "what=\"the session's lock\" "
	    "error=\"%s\"", strerror(errno));
	return DROP_FAILED;
}

enum drop_error
maildrop_open(struct maildrop *m, const char *path, int state,
    const struct lock_plan *locks)
{
	const struct store_place place = { path, state, locks };
	enum drop_error error;

	*m = (struct maildrop){ .store = &mbox_store };
	if ((error = lock_user(state)) != DROP_OK ||
	    (error = m->store->open(&place, &m->box)) != DROP_OK)
		return error;
	m->count = m->store->count(m->box);
	if ((m->marks = calloc(m->count / 8 + 1, 1)) == NULL)
		fatal("marks for %zu messages", m->count);
	for (size_t n = 1; n <= m->count; n++)
		m->octets += maildrop_octets(m, n);
	return DROP_OK;
}

enum drop_error
maildrop_recover(const char *path, int state, const struct lock_plan *locks)
{
	const struct store_place place = { path, state, locks };
	enum drop_error error = lock_user(state);

	return error == DROP_OK ? mbox_store.recover(&place) : error;
}

bool
maildrop_unfinished(int state)
{
	return journal_pending(state);
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
	m->marked_octets += maildrop_octets(m, n);
}

void
maildrop_reset(struct maildrop *m)
{
	memset(m->marks, 0, m->count / 8 + 1);
	m->marked = 0;
	m->marked_octets = 0;
}

uint64_t
maildrop_octets(const struct maildrop *m, size_t n)
{
	return m->store->octets(m->box, n - 1);
}

void
maildrop_uidl(struct maildrop *m, size_t n, char id[MAILDROP_UIDL])
{
	m->store->uidl(m->box, n - 1, id);
}

enum drop_error
maildrop_fetch(struct maildrop *m, size_t n, struct span *s)
{
	return m->store->fetch(m->box, n - 1, s);
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
	if (n <= 0)
		return -1;
	s->at += n;
	s->bytes -= (uint64_t)n;
	return n;
}

enum drop_error
maildrop_commit(struct maildrop *m, size_t *removed)
{
	*removed = 0;
	if (m->marked == 0)
		return DROP_OK;
	return m->store->remove(m->box, m->marks, removed);
}
