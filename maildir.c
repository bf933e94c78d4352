/*
 * Serves the messages of a Maildir. Each message is a file in new or cur.
 *
 * Runs in the session, as the owner of the mailbox. Nothing is locked: other
 * programs deliver to new, move files to cur and rename them there at any time
 * (https://cr.yp.to/proto/maildir.html). This process never renames a message
 * and never writes to a message. It does not read tmp.
 *
 *	maildir-directories.c   opens and makes the directories
 *	maildir-names.c         lists the names in them
 *	maildir-files.c         finds, opens and counts the files
 *	maildir-records.c       makes the list of the messages, with an index
 *	maildir-remove.c        removes messages, and updates the quota
 *
 * Files whose names begin with a dot are not messages. A file is skipped if it
 * is not regular, has a control character in its name, or does not permit the
 * user to read it. The log has the number of skipped files. A file that the
 * disk cannot read is not skipped.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "log.h"
#include "maildir-directories.h"
#include "maildir-files.h"
#include "maildir-records.h"
#include "maildir-remove.h"
#include "maildir-uidlist.h"
#include "volume.h"

/*
 * The number of passes over the names that a session may make to search for
 * messages. After these passes, each search gets only one pass.
 */
#define PASSES_LEFT 500

/*
 * Loads the list of the last login into *old (NULL: there is none), and opens
 * the directories.
 */
static enum drop_error
enter_maildir(struct maildir *m, const struct store_place *place,
    struct index **old)
{
	m->state = place->state;
	m->base = m->dirs[0] = m->dirs[1] = m->fd = -1;
	m->passes_left = PASSES_LEFT;
	*old = records_load(m);
	if (*old != NULL && directories_have_vanished(&m->note, place)) {
		struct log_text shown;

		log_failed_at(LOG_ERR,
		    "it is absent, and its directory is not the one of the "
		    "last login: "
		    "is the file system mounted?",
		    "opening the Maildir %s", log_safe(&shown, place->path));
		return DROP_FAILED;
	}
	return directories_open(m, place);
}

static enum drop_error
maildir_open(const struct store_place *place, void **box)
{
	struct maildir *m = calloc(1, sizeof(*m));
	enum drop_error error;
	struct index *old;

	if (m == NULL)
		fatal("calloc");
	*box = m;
	if ((error = enter_maildir(m, place, &old)) != DROP_OK)
		return error;
	if (old != NULL && records_are_current(m, old)) {
		m->list = old;
		m->count = index_count(old);
		return DROP_OK;
	}
	error = records_update(m, old);
	if (m->list != old)
		index_free(old);
	return error;
}

static enum drop_error
maildir_look(const struct store_place *place)
{
	struct maildir m = { .count = 0 };
	struct index *old;

	return enter_maildir(&m, place, &old);
}

static size_t
maildir_count(const void *box)
{
	return ((const struct maildir *)box)->count;
}

static uint64_t
maildir_total(const void *box)
{
	return ((const struct maildir *)box)->note.wire_size;
}

static uint64_t
maildir_wire_size(void *box, size_t i)
{
	struct record r;

	records_get(box, i, &r);
	return r.wire_size;
}

static void
maildir_uidl(void *box, size_t i, char id[UIDL_SIZE])
{
	char name[NAME_MAX + 24];
	XXH128_canonical_t digest;
	struct record r;
	size_t n;

	records_get(box, i, &r);
	if (r.ordinal == 0 && uidl_is_valid(r.name, r.unique)) {
		memcpy(id, r.name, r.unique);
		id[r.unique] = '\0';
		return;
	}
	n = r.unique;
	memcpy(name, r.name, n);
	if (r.ordinal != 0)
		n += (size_t)snprintf(name + n, sizeof(name) - n, ":%ju",
		    (uintmax_t)r.ordinal + 1);
	XXH128_canonicalFromHash(&digest, XXH3_128bits(name, n));
	/*
	 * Unique names contain no colon. So this id differs from every id that
	 * is a unique name.
	 */
	id[0] = ':';
	uidl_write(digest.digest, id + 1);
}

/*
 * If the content of the open message i may have changed, counts the message
 * again and corrects the index. So the client gets the right size of the
 * present content. Returns 0, or -1 with errno.
 */
static int
recount(struct maildir *m, size_t i, struct record *r, struct location *where)
{
	const uint64_t wire_size = r->wire_size;

	if (files_is_as_counted(r, &where->st, where->directory, where->name))
		return 0;
	if (files_count(m->fd, r, &where->st) == -1)
		return -1;
	m->note.wire_size += r->wire_size - wire_size;
	records_correct(m, i, r);
	return 0;
}

static enum drop_error
maildir_fetch(void *box, size_t i, struct span *s)
{
	struct maildir *m = box;
	struct record r = { 0 };
	struct location where;

	records_get(m, i, &r);
	if (m->fd != -1)
		close(m->fd);
	m->fd = files_open(m, &r, &where);
	if (m->fd == -1 && errno == ENOENT) {
		records_distrust(m, i, &r);
		return DROP_CHANGED;
	}
	if (m->fd == -1 || recount(m, i, &r, &where) == -1)
		return DROP_FAILED;
	m->fetched = where.st;
	*s = (struct span){
		.fd = m->fd, .bytes = (uint64_t)r.size, .wire_size = r.wire_size
	};
	return DROP_OK;
}

/*
 * Returns true if the message fetched last has not changed since it was
 * fetched. A rename alters only the ctime and does not count as a change.
 */
static bool
maildir_is_unchanged(void *box, size_t i)
{
	const struct maildir *m = box;
	struct stat st;

	(void)i;
	/* A message that was removed meanwhile has not changed. */
	if (volume_ask(m->fd) == -1 && errno != ESTALE)
		return false;
	return fstat(m->fd, &st) == 0 && st.st_size == m->fetched.st_size &&
	    fingerprint_ns(&st.st_mtim) == fingerprint_ns(&m->fetched.st_mtim);
}

/*
 * The content of the file differs from the content that was counted, although
 * size and mtime are the same. If the file did not change while it was sent,
 * the sent bytes are the message. The message is counted again at the next
 * fetch and at the next login.
 */
static bool
maildir_accept_other_size(void *box, size_t i)
{
	struct maildir *m = box;
	struct record r = { 0 };

	records_get(m, i, &r);
	r.stable = 0;
	records_distrust(m, i, &r);
	return maildir_is_unchanged(m, i);
}

const struct store_ops maildir_store = {
	.name = "maildir",
	.mailbox_access = STORE_OWN,
	.create_access = STORE_OWN,
	.open = maildir_open,
	.look = maildir_look,
	.count = maildir_count,
	.total = maildir_total,
	.wire_size = maildir_wire_size,
	.uidl = maildir_uidl,
	.id_sources = UIDLIST_SOURCES,
	.old_ids = uidlist_ids,
	.fetch = maildir_fetch,
	.is_unchanged = maildir_is_unchanged,
	.accept_other_size = maildir_accept_other_size,
	.remove = maildir_remove,
};
