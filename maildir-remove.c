/*
 * Removes messages from a Maildir at QUIT.
 *
 * Runs in the session, as the owner of the mailbox. A removal unlinks the files
 * and syncs the directories. A crash during the removal leaves all unmarked and
 * perhaps some marked messages, so a recovery is not necessary. If the Maildir
 * has a quota, it is updated after the removal (maildir-quota.c).
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "maildir-files.h"
#include "maildir-quota.h"
#include "maildir-records.h"
#include "maildir-remove.h"

/* The state of a removal. */
struct removal {
	bool touched
	    [NAMES_DIRECTORIES]; /* [i]: a file was unlinked in dirs[i] */
	bool listed; /* unlink_others has read the names into m->now */
	struct quota quota;
};

/*
 * Removes the other names of a message that has just been unlinked. Some mail
 * readers link a file to a new name and then unlink the old name, and such a
 * program may have stopped between the two steps. Reads the names only once in
 * a removal. Otherwise they would be read again for each message if a backup
 * program has given each file a second link elsewhere.
 */
static void
unlink_others(struct maildir *m, const struct record *r,
    struct removal *removal)
{
	const struct unique u = record_unique(r);
	struct stat st;

	if (!removal->listed &&
	    records_read_names(m, &m->now, m->list) != DROP_OK)
		return;
	removal->listed = true;
	for (const struct entry *e = names_find(&m->now, &u);
	     names_has(&m->now, e, &u); e++)
		if (files_has(m, e->directory, names_name(&m->now, e), r,
			&st) &&
		    files_has_content(r, &st) &&
		    unlinkat(m->dirs[e->directory], names_name(&m->now, e),
			0) == 0)
			removal->touched[e->directory] = true;
}

/*
 * Removes a message. Returns 0, or -1 with errno. errno is ENOENT if the
 * message is gone, or has changed since it was listed or fetched. The ctime is
 * not compared, because the message must be removed even if another program has
 * given its file a new link or new flags.
 */
static int
unlink_message(struct maildir *m, size_t i, struct removal *removal)
{
	struct record r = { 0 };
	struct location where;

	records_get(m, i, &r);
	for (int tries = 0; tries < MAILDIR_TRIES; tries++) {
		if (files_locate(m, &r, &where) == -1)
			break;
		if (!files_has_content(&r, &where.st)) {
			errno = ENOENT;
			break;
		}
		if (unlinkat(where.dir, where.name, 0) == 0) {
			removal->touched[where.directory] = true;
			/*
			 * Do this before unlink_others, because unlink_others
			 * reads the names again and makes where.name invalid.
			 */
			quota_note(&removal->quota, where.name,
			    where.st.st_size);
			if (where.st.st_nlink > 1)
				unlink_others(m, &r, removal);
			return 0;
		}
		if (errno != ENOENT)
			return -1;
	}
	if (errno == ENOENT) {
		records_distrust(m, i, &r);
		errno = ENOENT;
	}
	return -1;
}

/*
 * Logs the first error of a removal: a message could not be unlinked, or a
 * directory could not be synced. Returns the result of the removal.
 */
static enum drop_error
report_failure(int error, size_t removed)
{
	log_failed_at(error == ENOENT ? LOG_WARNING : LOG_ERR,
	    error == ENOENT ? "another program changed the mailbox" :
			      strerror(error),
	    "removing messages");
	if (removed > 0 || error == ENOENT)
		return DROP_CHANGED;
	return error == EACCES || error == EPERM || error == EROFS ?
	    DROP_DENIED :
	    DROP_FAILED;
}

enum drop_error
maildir_remove(void *box, const unsigned char *marks, size_t *removed)
{
	struct maildir *m = box;
	struct removal removal = { .listed = false };
	int error = 0;

	for (size_t i = 0; i < m->count; i++) {
		if (!store_marked(marks, i))
			continue;
		if (unlink_message(m, i, &removal) == 0)
			++*removed;
		else if (error == 0)
			error = errno;
	}
	for (int i = 0; i < NAMES_DIRECTORIES; i++)
		if (removal.touched[i] && fsync(m->dirs[i]) == -1 && error == 0)
			error = errno;
	quota_update(&removal.quota, m->base);
	return error == 0 ? DROP_OK : report_failure(error, *removed);
}
