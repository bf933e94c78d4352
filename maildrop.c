/*
 * Holds the list of messages and the deletion marks over one of the stores.
 *
 * Runs as the owner of the mailbox. Knows no protocol and no mailbox format:
 * the numbers that clients use end here, the formats begin behind store.h.
 */
#include "config.h"

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "lock.h"
#include "log.h"
#include "maildrop.h"
#include "sandbox.h"
#include "store.h"

/* The formats, as -m names them. */
static const struct {
	const char *prefix;
	const char *format;
	const struct store_ops *store;
	bool create, quoted;
} formats[] = {
	{ "mbox:", "mbox", &mbox_store, false, false },
	{ "mboxo:", "mbox", &mbox_store, false, true },
	{ "maildir:", "maildir", &maildir_store, false, false },
	{ "maildir+create:", "maildir", &maildir_store, true, false },
};

/* Writes template with %u, %h and a leading ~ replaced, without slashes at its end, into path[PATH_MAX]. Returns 0 or -1. */
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
	while (at > 0 && path[at - 1] == '/')
		at--;
	path[at] = '\0';
	return path[0] == '/' ? 0 : -1;
}

int
mailboxes_read(struct mailboxes *b, const char *text)
{
	char path[PATH_MAX];

	/* It becomes a line of a file (state.c). */
	for (const char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return -1;
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		size_t n = strlen(formats[i].prefix);

		if (strncmp(text, formats[i].prefix, n) != 0)
			continue;
		*b = (struct mailboxes){ .store = formats[i].store,
			.text = text, .format = formats[i].format, .template = text + n,
			.create = formats[i].create, .quoted = formats[i].quoted };
		return expand(b->template, "u", "/h", path);
	}
	return -1;
}

const char *
mailboxes_path(const struct mailboxes *b, const char *user, const char *home)
{
	static char path[PATH_MAX];

	return expand(b->template, user, home, path) == 0 ? path : NULL;
}

bool
mailboxes_are_locked(const struct mailboxes *b)
{
	return b->store == &mbox_store;
}

bool
mailboxes_are_roots(const struct mailboxes *b)
{
	return b->template[0] != '~' &&
	    strstr(b->template, "%h") == NULL;
}

/* Opens the directory that the mailbox is in; names what is in it. path has to last as long as *place. */
static enum drop_error
find_place(struct store_place *place, const char *path)
{
	char directory[PATH_MAX], *slash;
	struct stat st;

	strlcpy(directory, path, sizeof(directory));
	slash = strrchr(directory, '/');
	place->path = path;
	place->name = path + (slash + 1 - directory);
	slash[slash == directory] = '\0';
	place->dir = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (place->dir == -1 || fstat(place->dir, &st) == -1) {
		int error = errno;

		log_event(LOG_ERR, "failed", "what=\"opening the directory of the mailbox\" "
		    "error=\"%s\"", strerror(error));
		return store_error(error);
	}
	if ((st.st_uid != 0 && st.st_uid != geteuid()) ||
	    ((st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0)) {
		log_event(LOG_ERR, "failed", "what=\"opening the directory of the mailbox\" "
		    "error=\"it is neither root's nor the user's, or anybody can rename files in it\"");
		return DROP_DENIED;
	}
	return DROP_OK;
}

/* The path of an open directory, as the kernel has it. Returns 0, or -1 with errno. */
static int
path_of(int dir, char path[PATH_MAX])
{
	int result = fchdir(dir) == 0 && getcwd(path, PATH_MAX) != NULL ? 0 : -1, error = errno;

	/* The mailbox's file system is not kept from being unmounted. */
	if (chdir("/") == -1)
		fatal("chdir");
	errno = error;
	return result;
}

/*
 * Opens the directory FORMAT-ID below the user's own, and makes it if it is absent. The id is
 * made of the mailbox's path without symlinks, so that two services that spell
 * it otherwise find each other's journals and locks. A new one is on the disk
 * before anything is written to it. Returns 0, or -1 with errno.
 */
static int
open_own_state(const struct mailboxes *b, const struct store_place *place, int user, int *state)
{
	char path[PATH_MAX], name[16 + UIDL_HASH_TEXT + 1];
	XXH128_canonical_t id;
	XXH3_state_t hash;
	int fd;

	if (path_of(place->dir, path) == -1)
		return -1;
	XXH3_128bits_reset(&hash);
	XXH3_128bits_update(&hash, path, strlen(path) + 1);
	XXH3_128bits_update(&hash, place->name, strlen(place->name));
	XXH128_canonicalFromHash(&id, XXH3_128bits_digest(&hash));
	uidl_write(id.digest, stpcpy(stpcpy(name, b->format), "-"));
	if (mkdirat(user, name, 0700) == -1 && errno != EEXIST)
		return -1;
	*state = openat(user, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*state == -1)
		return -1;
	if (faccessat(*state, "mailbox", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0;
	/* The process that made the directory may have been killed before its fsync, so the file comes last. */
	if (fsync(user) == -1)
		return -1;
	/* For the administrator. */
	fd = openat(*state, "mailbox", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd != -1) {
		dprintf(fd, "%s/%s\n", path, place->name);
		close(fd);
	}
	return 0;
}

enum drop_error
maildrop_state(const struct mailboxes *b, const char *path, int user, int *state)
{
	struct store_place place = { .state = -1 };
	enum drop_error error = find_place(&place, path);

	if (error != DROP_OK)
		return error;
	if (open_own_state(b, &place, user, &place.state) == -1) {
		log_event(LOG_ERR, "failed", "what=\"opening the state directory of the mailbox\" "
		    "error=\"%s\"", strerror(errno));
		error = DROP_FAILED;
	}
	close(place.dir);
	*state = place.state;
	return error;
}

/* Returns true if a removal of any format is unfinished in this state directory. */
static bool
is_any_unfinished(int state)
{
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
		if (formats[i].store->unfinished != NULL && formats[i].store->unfinished(state))
			return true;
	return false;
}

/* Takes over what an earlier version has left in the directory that all mailboxes of the user share. */
static enum drop_error
take_over(const struct mailboxes *b, const struct store_place *place, int user)
{
	static const char *const remains[] = { "index", "index.tmp", "yield", "j.tmp" };
	struct lock_session lock;
	enum drop_error error = DROP_OK;

	if (faccessat(user, "session", F_OK, AT_SYMLINK_NOFOLLOW) == -1 && errno == ENOENT)
		return DROP_OK;
	/* A session of the earlier version may still be there. */
	if (lock_session(user, NULL, &lock) == -1) {
		log_event(LOG_ERR, "failed", "what=\"taking over an earlier version's state\" error=\"%s\"",
		    errno == EAGAIN ? "one of its sessions is still there" : strerror(errno));
		return errno == EAGAIN ? DROP_BUSY : DROP_FAILED;
	}
	for (size_t i = 0; i < sizeof(remains) / sizeof(remains[0]); i++)
		unlinkat(user, remains[i], 0);
	if (b->store->adopt != NULL)
		error = b->store->adopt(place, user);
	/* While a journal is left its mailbox may still come, and it may be of another format than this one. */
	if (error == DROP_OK && !is_any_unfinished(user))
		unlinkat(user, "session", 0);
	unlock_session(&lock);
	return error;
}

static enum drop_error
fail_to_follow(void)
{
	log_event(LOG_ERR, "failed", "what=\"looking for removals in other state directories of the user\" "
	    "error=\"%s\"", strerror(errno));
	return DROP_FAILED;
}

/* Looks at the state directory that has this name, if it is one and not the mailbox's own. */
static enum drop_error
follow(const struct mailboxes *b, const struct store_place *place, int user, const char *name)
{
	struct stat own, st;
	enum drop_error error = DROP_OK;
	int other = openat(user, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (other == -1)
		return errno == ENOTDIR || errno == ENOENT || errno == ELOOP ? DROP_OK : fail_to_follow();
	if (fstat(place->state, &own) == -1 || fstat(other, &st) == -1)
		error = fail_to_follow();
	else if (own.st_ino != st.st_ino || own.st_dev != st.st_dev)
		error = b->store->follow(place, other);
	close(other);
	return error;
}

/*
 * Takes over what is unfinished of this mailbox under another path: its
 * directory was moved, or is mounted elsewhere. Otherwise the mailbox would be
 * read and changed while a removal in it is half done.
 */
static enum drop_error
follow_all(const struct mailboxes *b, const struct store_place *place, int user)
{
	size_t n = strlen(b->format);
	enum drop_error error = DROP_OK;
	const struct dirent *entry;
	int copy = openat(user, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *all = copy != -1 ? fdopendir(copy) : NULL;

	if (all == NULL)
		return fail_to_follow();
	while (error == DROP_OK && (entry = readdir(all)) != NULL)
		if (strncmp(entry->d_name, b->format, n) == 0 && entry->d_name[n] == '-')
			error = follow(b, place, user, entry->d_name);
	closedir(all);
	return error;
}

/* Takes the lock that two paths of one mailbox have in common. */
static enum drop_error
lock_identity(const struct store_place *place, int user, struct lock_session *lock)
{
	struct stat st;
	XXH3_state_t hash;

	if (fstat(place->dir, &st) == -1)
		fatal("fstat of the mailbox's directory");
	XXH3_64bits_reset(&hash);
	XXH3_64bits_update(&hash, &st.st_dev, sizeof(st.st_dev));
	XXH3_64bits_update(&hash, &st.st_ino, sizeof(st.st_ino));
	XXH3_64bits_update(&hash, place->name, strlen(place->name));
	if (lock_place(user, XXH3_64bits_digest(&hash), lock) == 0)
		return DROP_OK;
	if (errno == EAGAIN)
		return DROP_BUSY;
	log_event(LOG_ERR, "failed", "what=\"locking the mailbox under all its paths\" error=\"%s\"", strerror(errno));
	return DROP_FAILED;
}

enum drop_error
maildrop_claim(const struct mailboxes *b, const char *path, int user, int state, struct lock_session *lock)
{
	struct store_place place = { .state = state };
	enum drop_error error;

	if ((error = find_place(&place, path)) != DROP_OK)
		return error;
	if ((error = lock_identity(&place, user, lock)) == DROP_OK)
		error = take_over(b, &place, user);
	if (error == DROP_OK && b->store->follow != NULL)
		error = follow_all(b, &place, user);
	close(place.dir);
	return error;
}

enum drop_error
maildrop_open(struct maildrop *m, const struct mailboxes *b, const char *path,
    int state, const struct lock_plan *locks)
{
	struct store_place place = { .create = b->create, .quoted = b->quoted, .state = state,
		.locks = locks };
	enum drop_error error;

	/* The store keeps it. */
	if ((path = strdup(path)) == NULL)
		fatal("strdup");
	*m = (struct maildrop){ .store = b->store };
	if ((error = find_place(&place, path)) != DROP_OK ||
	    (error = m->store->open(&place, &m->box)) != DROP_OK)
		return error; /* NOLINT(clang-analyzer-unix.Malloc): the place's name goes with the process */
	m->count = m->store->count(m->box);
	if ((m->marks = calloc(m->count / 8 + 1, 1)) == NULL)
		fatal("marks for %zu messages", m->count);
	m->wire_size = m->store->total(m->box);
	return DROP_OK;
}

enum drop_error
maildrop_recover(const struct mailboxes *b, const char *path, int state,
    const struct lock_plan *locks)
{
	struct store_place place = { .quoted = b->quoted, .state = state, .locks = locks };
	enum drop_error error;

	if (b->store->recover == NULL)
		return DROP_OK;
	error = find_place(&place, path);
	return error == DROP_OK ? b->store->recover(&place) : error;
}

void
maildrop_reach_directory(const char *path, struct sandbox_path *directory)
{
	char *copy = strdup(path), *slash;

	if (copy == NULL)
		fatal("strdup");
	slash = strrchr(copy, '/');
	slash[slash == copy] = '\0';
	*directory = (struct sandbox_path){ open(copy, O_PATH | O_DIRECTORY | O_CLOEXEC), SANDBOX_OWN };
	free(copy);
}

/*
 * The spool's directory and not the spool, because the file may be made, or
 * replaced by another, while the session waits for a lock.
 */
void
maildrop_reach(const struct mailboxes *b, const char *path, struct sandbox_path *mailbox,
    struct sandbox_path *directory)
{
	if (mailboxes_are_locked(b)) {
		maildrop_reach_directory(path, directory);
		directory->how = SANDBOX_WRITE;
		return;
	}
	*mailbox = (struct sandbox_path){ open(path, O_PATH | O_CLOEXEC | O_DIRECTORY), SANDBOX_OWN };
	if (b->create)
		maildrop_reach_directory(path, directory);
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
maildrop_uidl(struct maildrop *m, size_t n, char id[UIDL_SIZE])
{
	m->store->uidl(m->box, n - 1, id);
}

enum drop_error
maildrop_fetch(struct maildrop *m, size_t n, struct span *s)
{
	enum drop_error error = m->store->fetch(m->box, n - 1, s);
	int number = errno;
	unsigned more;

	if (error != DROP_OK && log_due(&m->unread, &more))
		log_event(error == DROP_CHANGED ? LOG_WARNING : LOG_ERR, "failed",
		    "what=\"reading message %zu\" error=\"%s\" more=%u", n,
		    error == DROP_CHANGED ? "another program changed the mailbox" : strerror(number), more);
	/* A message may be counted again when it is fetched; then it is not marked, so the marked bytes stay true. */
	m->wire_size = m->store->total(m->box);
	return error;
}

enum drop_error
maildrop_begin(struct maildrop *m, size_t n, struct span *s)
{
	enum drop_error error = maildrop_fetch(m, n, s);

	s->failed = false;
	return error;
}

bool
maildrop_end(struct maildrop *m, size_t n, const struct span *s, uint64_t sent)
{
	return !s->failed && (sent == s->wire_size || maildrop_recounted(m, n)) && maildrop_stands(m, n);
}

bool
maildrop_stands(struct maildrop *m, size_t n)
{
	return m->store->stands == NULL || m->store->stands(m->box, n - 1);
}

bool
maildrop_recounted(struct maildrop *m, size_t n)
{
	return m->store->recounted != NULL && m->store->recounted(m->box, n - 1);
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
	if (n <= 0) {
		s->failed = true;
		return -1;
	}
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
