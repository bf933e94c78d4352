/*
 * Warns if others than root can read or change a file with a secret key.
 *
 * Runs as root, in the listener and in the pre-auth process. It looks at the
 * owner and the mode of the file and does not open it. Such a file is used all
 * the same: a login must not depend on a mode that an administrator may have
 * chosen.
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/time.h>

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "exposure.h"
#include "log.h"

#define AGAIN_SECONDS 3600
#define GROUP_USERS 100 /* the group "users" of most distributions */

/*
 * A group of the system may read the file, because root has made such a group
 * for it, for example ssl-cert. Its gid is below the uids and gids of users.
 */
bool
exposure_find(const struct stat *st, uid_t least_user,
    char reason[EXPOSURE_REASON])
{
	unsigned gid = (unsigned)st->st_gid;
	bool has_users = gid == GROUP_USERS || gid >= least_user;
	mode_t mode = st->st_mode;

	if (st->st_uid != 0)
		snprintf(reason, EXPOSURE_REASON, "uid %u owns it",
		    (unsigned)st->st_uid);
	else if ((mode & S_IWOTH) != 0)
		snprintf(reason, EXPOSURE_REASON, "every user can write it");
	else if ((mode & S_IROTH) != 0)
		snprintf(reason, EXPOSURE_REASON, "every user can read it");
	else if ((mode & S_IWGRP) != 0 && gid != 0)
		snprintf(reason, EXPOSURE_REASON, "group %u can write it", gid);
	else if ((mode & S_IRGRP) != 0 && gid != 0 && has_users)
		snprintf(reason, EXPOSURE_REASON, "group %u can read it", gid);
	else
		return false;
	return true;
}

/*
 * Returns true if there was no warning yet. Also returns true if the last
 * warning is an hour old, or older than the last change of the key's file. The
 * time of the last warning is the mtime of the file at path. A time in the
 * future comes from a clock that was wrong. A warning with such a time counts
 * as none. A change with such a time is ignored; otherwise each connection
 * would cause a warning.
 */
static bool
is_due(const char *path, const struct stat *key)
{
	struct stat last;
	time_t now = time(NULL);

	return lstat(path, &last) == -1 ||
	    (timespeccmp(&last.st_mtim, &key->st_ctim, <) &&
		key->st_ctime <= now) ||
	    last.st_mtime <= now - AGAIN_SECONDS || last.st_mtime > now;
}

/* Without this note, the warning comes with each connection. */
static void
note_warning(const char *path)
{
	int fd = open(path,
	    O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);

	if (fd == -1)
		return;
	futimens(fd, NULL);
	close(fd);
}

void
exposure_warn(const struct exposure_place *place, const char *name,
    const char *path)
{
	char note[PATH_MAX], reason[EXPOSURE_REASON];
	struct log_text t;
	struct stat st;

	if (stat(path, &st) == -1 ||
	    !exposure_find(&st, place->least_user, reason))
		return;
	snprintf(note, sizeof(note), "%s/exposed.%s", place->state, name);
	if (!place->is_start && !is_due(note, &st))
		return;
	note_warning(note);
	log_event(LOG_WARNING, "exposed",
	    "file=\"%s\" reason=\"%s; run chown root:root and chmod 600\"",
	    log_words(&t, path), reason);
}
