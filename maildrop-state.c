/*
 * Finds a mailbox's directory and its state directory, and ensures that the
 * mailbox has only one session.
 *
 * Runs in the session, in the recovery, in the broker and in --check, as the
 * owner of the mailbox. STATE/users/UID and all below it belong to the user. So
 * a file that the user forges there must not permit more than the user may do
 * anyway.
 */
#include "config.h"

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lock-session.h"
#include "log.h"
#include "maildrop-state.h"
#include "path.h"
#include "store.h"
#include "volume.h"

/* Bytes of the name of a state directory with its NUL. */
#define OWN_NAME (STORE_NAME + 1 + UIDL_HASH_TEXT + 1)

enum drop_error
maildrop_state_place(struct store_place *place, const char *path)
{
	char directory[PATH_MAX];
	struct log_text shown;
	struct stat st;

	log_mailbox(path);
	place->path = path;
	place->name = path_split(path, directory);
	place->dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (place->dir == -1 || fstat(place->dir, &st) == -1) {
		int error = errno;

		log_failed("opening the mailbox directory %s",
		    log_safe(&shown, directory));
		return store_error(error);
	}
	if ((st.st_uid != 0 && st.st_uid != geteuid()) ||
	    ((st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0)) {
		log_failed_at(LOG_ERR,
		    "it belongs to neither root nor the user, or other users "
		    "can rename files in it",
		    "opening the mailbox directory %s",
		    log_safe(&shown, directory));
		return DROP_DENIED;
	}
	return DROP_OK;
}

/*
 * Asks the kernel for the path of an open directory. The current directory of
 * the process becomes "/". Returns 0, or -1 with errno.
 */
static int
get_path(int dir, char path[PATH_MAX])
{
	int result =
		fchdir(dir) == 0 && getcwd(path, PATH_MAX) != NULL ? 0 : -1,
	    error = errno;

	/*
	 * Leave the directory; otherwise nobody could unmount the mailbox's
	 * file system.
	 */
	if (chdir("/") == -1)
		fatal("chdir");
	errno = error;
	return result;
}

/*
 * Writes the name of the mailbox's state directory, FORMAT-ID, to name. The id
 * is a hash of the mailbox's name and of the path of its directory, without
 * symlinks. So two services that spell the path differently find each other's
 * journals and locks.
 */
static void
name_own_state(const struct mailboxes *b, const struct store_place *place,
    const char *path, char name[OWN_NAME])
{
	XXH128_canonical_t id;
	XXH3_state_t hash;

	XXH3_128bits_reset(&hash);
	XXH3_128bits_update(&hash, path, strlen(path) + 1);
	XXH3_128bits_update(&hash, place->name, strlen(place->name));
	XXH128_canonicalFromHash(&id, XXH3_128bits_digest(&hash));
	uidl_write(id.digest, stpcpy(stpcpy(name, b->format), "-"));
}

/*
 * Opens the state directory of the mailbox in the directory `user`, and makes
 * it if it is absent. A new directory is synced to the disk before a file is
 * written to it. Returns 0, or -1 with errno.
 */
static int
open_own_state(const struct mailboxes *b, const struct store_place *place,
    const char *path, int user, int *state)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	char name[OWN_NAME];
	int fd;

	name_own_state(b, place, path, name);
	*state = openat(user, name, flags);
	if (*state == -1 && errno == ENOENT) {
		if (mkdirat(user, name, 0700) == -1 && errno != EEXIST)
			return -1;
		*state = openat(user, name, flags);
	}
	if (*state == -1)
		return -1;
	if (faccessat(*state, "mailbox", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	/*
	 * The file "mailbox" proves that the directory was synced: it is made
	 * only after the fsync. The process that made the directory may have
	 * been killed before its fsync.
	 */
	if (fsync(user) == -1)
		return -1;
	/* For an administrator: the file contains the path of the mailbox. */
	fd = openat(*state, "mailbox", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
	    0600);
	if (fd != -1) {
		dprintf(fd, "%s/%s\n", path, place->name);
		close(fd);
	}
	return 0;
}

enum drop_error
maildrop_state_open(const struct mailboxes *b, const char *path, int user,
    int *state)
{
	struct store_place place = { .state = -1 };
	enum drop_error error = maildrop_state_place(&place, path);
	struct log_text shown;
	char directory[PATH_MAX];

	if (error != DROP_OK)
		return error;
	if (get_path(place.dir, directory) == -1) {
		log_failed("searching the mailbox directory");
		error = DROP_FAILED;
	} else if (open_own_state(b, &place, directory, user, &place.state) ==
	    -1) {
		log_failed("opening the state directory of the mailbox %s",
		    log_safe(&shown, path));
		error = DROP_FAILED;
	}
	close(place.dir);
	*state = place.state;
	return error;
}

int
maildrop_state_find(const struct mailboxes *b, const char *path, int user)
{
	struct store_place place = { .state = -1 };
	char directory[PATH_MAX], name[OWN_NAME];
	int state = -1;

	if (maildrop_state_place(&place, path) == DROP_OK &&
	    get_path(place.dir, directory) == 0) {
		name_own_state(b, &place, directory, name);
		state = openat(user, name,
		    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
	if (place.dir != -1)
		close(place.dir);
	return state;
}

/*
 * Returns true if a removal of any format is unfinished in this state
 * directory.
 */
static bool
is_any_unfinished(int state)
{
	const struct store_ops *store;

	for (size_t i = 0; (store = mailboxes_store(i)) != NULL; i++)
		if (store->unfinished != NULL && store->unfinished(state))
			return true;
	return false;
}

/*
 * Takes over the state that an earlier version has left in the directory
 * `user`, which all mailboxes of the user share. Removes the earlier version's
 * session lock last. So if that file is absent, nothing is left to take over.
 */
static enum drop_error
adopt_shared_state(const struct mailboxes *b, const struct store_place *place,
    int user)
{
	static const char *const remains[] = { "index", "index.tmp", "yield",
		"j.tmp" };
	struct lock_session lock;
	enum drop_error error = DROP_OK;

	if (faccessat(user, "session", F_OK, AT_SYMLINK_NOFOLLOW) == -1 &&
	    errno == ENOENT)
		return DROP_OK;
	/* A session of the earlier version may still run. */
	if (lock_session(user, NULL, &lock) == -1) {
		bool is_busy = errno == EAGAIN;

		log_failed_at(LOG_ERR,
		    is_busy ? "a session of that version still runs" : NULL,
		    "taking over the state of an earlier version");
		return is_busy ? DROP_BUSY : DROP_FAILED;
	}
	for (size_t i = 0; i < sizeof(remains) / sizeof(remains[0]); i++)
		unlinkat(user, remains[i], 0);
	if (b->store->adopt != NULL)
		error = b->store->adopt(place, user);
	/*
	 * A journal that is left belongs to another mailbox, perhaps of another
	 * format. A login to that mailbox takes the journal over.
	 */
	if (error == DROP_OK && !is_any_unfinished(user))
		unlinkat(user, "session", 0);
	lock_session_release(&lock);
	return error;
}

/* Logs errno. Returns DROP_FAILED. */
static enum drop_error
fail_to_follow(void)
{
	log_failed(
	    "looking for removals in other state directories of the user");
	return DROP_FAILED;
}

/*
 * Takes over removals from the state directory of this name, unless it is the
 * mailbox's own state directory.
 */
static enum drop_error
follow_other(const struct mailboxes *b, const struct store_place *place,
    int user, const char *name)
{
	struct stat own, st;
	enum drop_error error = DROP_OK;
	int other =
	    openat(user, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (other == -1)
		return errno == ENOTDIR || errno == ENOENT || errno == ELOOP ?
		    DROP_OK :
		    fail_to_follow();
	if (fstat(place->state, &own) == -1 || fstat(other, &st) == -1)
		error = fail_to_follow();
	else if (own.st_ino != st.st_ino || own.st_dev != st.st_dev)
		error = b->store->follow(place, other);
	close(other);
	return error;
}

/*
 * Takes over unfinished removals that began when this mailbox had another path,
 * because its directory was moved or mounted elsewhere. Otherwise the mailbox
 * would be read and changed while a removal in it is half done.
 */
static enum drop_error
follow_all(const struct mailboxes *b, const struct store_place *place, int user)
{
	size_t n = strlen(b->format);
	enum drop_error error = DROP_OK;
	const struct dirent *entry;
	DIR *all = volume_open_names(user);

	if (all == NULL)
		return fail_to_follow();
	while (error == DROP_OK && (errno = 0, (entry = readdir(all)) != NULL))
		if (strncmp(entry->d_name, b->format, n) == 0 &&
		    entry->d_name[n] == '-')
			error = follow_other(b, place, user, entry->d_name);
	/* If nothing has failed, errno is that of readdir; 0: the end. */
	if (error == DROP_OK && errno != 0)
		error = fail_to_follow();
	closedir(all);
	return error;
}

/*
 * Takes the lock that is the same for all paths to one mailbox. The lock
 * depends only on the file system and inode of the mailbox's directory, and on
 * the mailbox's name in this directory. All hosts compute the same lock.
 */
static enum drop_error
lock_identity(const struct store_place *place, int user,
    struct lock_session *lock)
{
	struct log_text shown;
	XXH3_state_t hash;
	uint64_t device;
	struct stat st;

	if (fstat(place->dir, &st) == -1)
		fatal("fstat of the mailbox directory");
	device = volume_device(place->dir, &st);
	XXH3_64bits_reset(&hash);
	XXH3_64bits_update(&hash, &device, sizeof(device));
	XXH3_64bits_update(&hash, &st.st_ino, sizeof(st.st_ino));
	XXH3_64bits_update(&hash, place->name, strlen(place->name));
	if (lock_session_identity(user, XXH3_64bits_digest(&hash), lock) == 0)
		return DROP_OK;
	if (errno == EAGAIN)
		return DROP_BUSY;
	log_failed("locking the mailbox %s under all its paths",
	    log_safe(&shown, place->path));
	return DROP_FAILED;
}

enum drop_error
maildrop_state_claim(const struct mailboxes *b, const char *path, int user,
    int state, struct lock_session *lock)
{
	struct store_place place = { .state = state };
	enum drop_error error;

	if ((error = maildrop_state_place(&place, path)) != DROP_OK)
		return error;
	if ((error = lock_identity(&place, user, lock)) == DROP_OK)
		error = adopt_shared_state(b, &place, user);
	if (error == DROP_OK && b->store->follow != NULL)
		error = follow_all(b, &place, user);
	close(place.dir);
	return error;
}
