/*
 * Opens the directories of a Maildir, and makes them if -m asks for that.
 *
 * Runs in the session, as the owner of the mailbox. The user can put a symlink
 * or another user's directory in place of new or cur. So both must be
 * directories that belong to the user. The Maildir itself may be a symlink.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "maildir-directories.h"
#include "volume.h"

static const char *const directory_names[NAMES_DIRECTORIES] = { "new", "cur" };

/*
 * Logs why a directory cannot be used. `part` is the name of the directory in
 * the Maildir, or "" for the Maildir itself. Returns DROP_DENIED.
 */
static enum drop_error
deny_directory(const struct store_place *place, const char *part,
    const char *why)
{
	struct log_text shown;

	log_failed_at(LOG_ERR, why, "opening the Maildir %s%s%s",
	    log_safe(&shown, place->path), part[0] != '\0' ? "/" : "", part);
	return DROP_DENIED;
}

/* Logs errno's text as deny_directory does. Returns the error for errno. */
static enum drop_error
deny_directory_by_errno(const struct store_place *place, const char *part)
{
	int error = errno;

	deny_directory(place, part, strerror(error));
	return store_error(error);
}

/*
 * Opens new or cur. If the directory is absent, returns DROP_OK with *fd = -1.
 */
static enum drop_error
open_part(const struct store_place *place, int top, const char *name, int *fd)
{
	struct stat st;

	*fd =
	    openat(top, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*fd == -1)
		return errno == ENOENT ? DROP_OK :
					 deny_directory_by_errno(place, name);
	if (fstat(*fd, &st) == -1)
		return deny_directory_by_errno(place, name);
	return st.st_uid == geteuid() ?
	    DROP_OK :
	    deny_directory(place, name, "it has another owner");
}

/* Makes the absent directories of the Maildir. */
static enum drop_error
make_directories(const struct store_place *place)
{
	static const char *const parts[] = { "", "/tmp", "/new", "/cur" };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		char name[NAME_MAX + 8];

		snprintf(name, sizeof(name), "%s%s", place->name, parts[i]);
		if (mkdirat(place->dir, name, 0700) == -1 && errno != EEXIST) {
			struct log_text shown;

			log_failed("making the Maildir %s",
			    log_safe(&shown, place->path));
			return DROP_FAILED;
		}
	}
	return DROP_OK;
}

/* Stores the identity of an open directory. Returns 0, or -1 with errno. */
static int
identify_one(int fd, struct identity *identity)
{
	struct stat st;

	if (fstat(fd, &st) == -1)
		return -1;
	*identity = (struct identity){ volume_device(fd, &st), st.st_ino };
	return 0;
}

/* Returns true if the open directory has another identity than *then. */
static bool
is_another(int fd, const struct identity *then)
{
	struct identity now;

	return identify_one(fd, &now) == 0 &&
	    (now.device != then->device || now.inode != then->inode);
}

bool
directories_have_vanished(const struct note *note,
    const struct store_place *place)
{
	char name[NAME_MAX + 8];
	struct stat st;
	bool answer;
	int top;

	if (note->top.inode == 0)
		return false;
	for (int i = 0; i < NAMES_DIRECTORIES; i++) {
		snprintf(name, sizeof(name), "%s/%s", place->name,
		    directory_names[i]);
		if (fstatat(place->dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
		    errno != ENOENT)
			return false;
	}
	top = openat(place->dir, place->name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (top == -1)
		return errno == ENOENT &&
		    is_another(place->dir, &note->directory);
	answer = is_another(place->dir, &note->directory) ||
	    is_another(top, &note->top);
	close(top);
	return answer;
}

/*
 * Stores in *m the identities of the Maildir and of the directory that contains
 * it. Returns 0, or -1 with errno.
 */
static int
identify(struct maildir *m, int directory, int top)
{
	if (identify_one(directory, &m->directory) == -1)
		return -1;
	return identify_one(top, &m->top);
}

enum drop_error
directories_open(struct maildir *m, const struct store_place *place)
{
	enum drop_error error =
	    place->create ? make_directories(place) : DROP_OK;
	struct stat st;
	int top;

	if (error != DROP_OK)
		return error;
	top = openat(place->dir, place->name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (top == -1)
		return errno == ENOENT ? DROP_OK :
					 deny_directory_by_errno(place, "");
	if (fstat(top, &st) == -1 || identify(m, place->dir, top) == -1)
		return deny_directory_by_errno(place, "");
	if (st.st_uid != geteuid())
		return deny_directory(place, "", "it has another owner");
	for (int i = 0; error == DROP_OK && i < NAMES_DIRECTORIES; i++)
		error = open_part(place, top, directory_names[i], &m->dirs[i]);
	m->base = top;
	return error;
}
