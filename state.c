/*
 * Keeps a state directory for each user, and a list of the mailboxes with
 * state.
 *
 * Runs as root. It opens STATE/users/UID, but nothing below it.
 *
 *	STATE/users                root's, 0700: no user can open a path in it
 *	STATE/users/lock           root's, empty: locked by a login that moves
 *	                           the state of former users aside
 *	STATE/users/UID            the user's, 0700; processes get it open
 *	STATE/users/UID/FORMAT-ID  of one mailbox; made by the session, the
 *	                           broker or the recovery
 *	STATE/users/UID/places     the locks that several paths of one mailbox
 *	                           have in common
 *	STATE/users/UID.mailboxes  root's; a line for each mailbox has the
 *	                           user's name (vis(3)) and -m
 *	STATE/logins/UID.N         root's, empty: a slot, locked by a login
 *	                           that may hang on the user's files
 *
 * Users cannot open a path in STATE/users. So no program of a user can change a
 * journal. If another user later gets the same uid, that user cannot read the
 * journal.
 *
 * The monitor, not the session, writes the lines of UID.mailboxes, because
 * --recover runs as root and trusts these lines.
 */
#include "config.h"

#include <sys/file.h>
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <vis.h>

#include "file.h"
#include "log.h"
#include "privsep.h"
#include "state.h"
#include "volume.h"

#define STATE_NAME 64 /* bytes of a name in users or logins with its NUL */
#define MAILBOXES ".mailboxes"
#define FORMER_LOCK "lock"
/*
 * The number of login slots of a uid. At most this many logins of the uid may
 * wait for the user's files at the same time.
 */
#define SLOTS 4

/*
 * Opens STATE/users, and creates it if it is absent. Returns a descriptor, or
 * -1 (logged).
 */
static int
open_users(const char *state)
{
	int users = privsep_open_state(state, "users", 0700);
	struct stat st;

	/* An earlier version let users search this directory. */
	if (users != -1 &&
	    (fstat(users, &st) == -1 ||
		((st.st_mode & 077) != 0 && fchmod(users, 0700) == -1)))
		fatal("setting the mode of %s/users to 0700", state);
	return users;
}

/*
 * Calls the function `line` for each line "name mailboxes" of the file, until
 * the function returns true. Returns true if the function has returned true.
 * The names in the file are encoded (vis(3)), because a name may contain
 * blanks.
 */
static bool
find_line(FILE *file,
    bool (*line)(void *self, const char *name, const char *mailboxes),
    void *self)
{
	char *text = NULL;
	size_t room = 0;
	ssize_t n;
	bool found = false;

	while (!found && (n = getline(&text, &room, file)) != -1) {
		char *blank = strchr(text, ' ');

		/* A power failure may have left a part of a line. */
		if (blank == NULL || text[n - 1] != '\n')
			continue;
		*blank = text[n - 1] = '\0';
		if (strunvis(text, text) == -1)
			continue;
		found = line(self, text, blank + 1);
	}
	free(text);
	return found;
}

/*
 * Opens the list of the uid's mailboxes. Returns NULL with errno if that
 * fails.
 */
static FILE *
open_lines(int users, uid_t uid)
{
	char name[STATE_NAME];
	int fd;

	snprintf(name, sizeof(name), "%u" MAILBOXES, (unsigned)uid);
	fd = openat(users, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd != -1 ? fdopen(fd, "r") : NULL;
}

/* A search in the lines of a uid. */
struct search {
	const struct account *account;
	const char *mailboxes;
	/* set by the search: a user who no longer has this uid, or may not */
	char former[ACCOUNT_NAME];
	int error; /* why the database did not answer for this user, or 0 */
};

static bool
is_line_of(void *self, const char *name, const char *mailboxes)
{
	const struct search *w = self;

	return strcmp(name, w->account->name) == 0 &&
	    strcmp(mailboxes, w->mailboxes) == 0;
}

/*
 * Returns true, which ends the search, if the user of this line has the uid: if
 * it is the account's name, or if the account database says so. Otherwise
 * stores the user's name in w->former. Two names may share one uid, so one name
 * without the uid proves nothing about the others.
 *
 * A missing answer must not count as "no". Otherwise, while a directory service
 * does not answer, every user would count as a former user, and kpopd would
 * move unfinished removals aside. So w->error keeps the first such failure.
 */
static bool
has_uid(void *self, const char *name, const char *mailboxes)
{
	static char room[65536];
	struct search *w = self;
	struct passwd entry, *pw;
	int error;

	(void)mailboxes;
	if (strcmp(name, w->account->name) == 0)
		return true;
	/*
	 * Do not use getpwnam, because after it errno does not distinguish a
	 * failure from an absent name.
	 */
	error = getpwnam_r(name, &entry, room, sizeof(room), &pw);
	if (error == 0 && pw != NULL && pw->pw_uid == w->account->uid)
		return true;
	if (w->error == 0) {
		strlcpy(w->former, name, sizeof(w->former));
		w->error = error;
	}
	return false;
}

/*
 * Renames the entry `from` of STATE/users to `to`, if it exists, and gives it
 * to root. Returns 0, or -1 with errno.
 */
static int
rename_to_root(int users, const char *from, const char *to)
{
	if (renameat(users, from, users, to) == -1)
		return errno == ENOENT ? 0 : -1;
	return fchownat(users, to, 0, 0, AT_SYMLINK_NOFOLLOW);
}

/*
 * Moves the directory and the lines of a former user of this uid to names that
 * kpopd does not use. Moves the lines last: as long as the lines exist, the
 * next login tries again. Returns 0, or -1 (logged).
 */
static int
move_former(int users, const struct account *a, const char *former)
{
	char from[STATE_NAME], to[STATE_NAME], from_lines[STATE_NAME],
	    to_lines[STATE_NAME];
	struct log_text t;
	long long now = (long long)time(NULL);

	snprintf(from, sizeof(from), "%u", (unsigned)a->uid);
	snprintf(to, sizeof(to), "%u.former.%lld", (unsigned)a->uid, now);
	snprintf(from_lines, sizeof(from_lines), "%u" MAILBOXES,
	    (unsigned)a->uid);
	snprintf(to_lines, sizeof(to_lines), "%u.former.%lld" MAILBOXES,
	    (unsigned)a->uid, now);
	if (rename_to_root(users, from, to) == -1 ||
	    rename_to_root(users, from_lines, to_lines) == -1) {
		log_failed("moving the state of former user %s aside",
		    log_safe(&t, former));
		return -1;
	}
	log_event(LOG_WARNING, "former-user", "uid=%u user=%s directory=%s",
	    (unsigned)a->uid, log_safe(&t, former), to);
	return 0;
}

/*
 * Writes the line with one call of write, because another login of the user may
 * write at the same time. Returns 0, or -1 with errno.
 */
static int
write_line(int fd, const struct account *a, const char *mailboxes)
{
	char *line, name[4 * ACCOUNT_NAME];
	int n, result;

	strvis(name, a->name, VIS_OCTAL | VIS_WHITE);
	/*
	 * The leading line end closes a line of which a power failure has left
	 * only a part.
	 */
	n = asprintf(&line, "\n%s %s\n", name, mailboxes);
	if (n == -1)
		fatal("asprintf");
	errno = ENOSPC;
	result = write(fd, line, (size_t)n) == n ? fsync(fd) : -1;
	free(line);
	return result;
}

/*
 * Syncs STATE/users. Also syncs STATE, because this login or another one may
 * have just made STATE/users. Returns 0, or -1 with errno.
 */
static int
sync_users(int users)
{
	int top = openat(users, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
	    result;

	if (top == -1)
		return -1;
	result = fsync(users) == 0 ? fsync(top) : -1;
	close(top);
	return result;
}

/*
 * Adds the line, and syncs it before the session can write a journal.
 * Otherwise, after a power failure, the disk could have a journal without a
 * line, and --recover would not find the journal. Returns 0, or -1 (logged).
 */
static int
add_line(int users, const struct account *a, const char *mailboxes)
{
	char name[STATE_NAME];
	int fd;

	snprintf(name, sizeof(name), "%u" MAILBOXES, (unsigned)a->uid);
	fd = openat(users, name,
	    O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1 || write_line(fd, a, mailboxes) == -1 ||
	    sync_users(users) == -1) {
		log_failed("writing users/%s in the state directory", name);
		if (fd != -1)
			close(fd);
		return -1;
	}
	close(fd);
	return 0;
}

/*
 * Looks for the line. If the line is absent, and no recorded user has the uid,
 * leaves the name of a former user in w->former. Returns 1 if the line exists,
 * 0 if it is absent, or -1 (logged) if the search failed.
 */
static int
search_lines(FILE *file, struct search *w)
{
	bool known = find_line(file, is_line_of, w);
	struct log_text t;

	if (!known && !ferror(file)) {
		rewind(file);
		if (find_line(file, has_uid, w)) {
			w->former[0] = '\0';
			w->error = 0;
		}
	}
	if (ferror(file))
		log_failed("reading users/%u" MAILBOXES
			   " in the state directory",
		    (unsigned)w->account->uid);
	else if (w->error != 0)
		log_failed_at(LOG_ERR, strerror(w->error),
		    "looking up %s, who had uid %u", log_safe(&t, w->former),
		    (unsigned)w->account->uid);
	return ferror(file) || w->error != 0 ? -1 : known;
}

/*
 * Opens the list and searches it. Returns as search_lines does, and 0 if there
 * is no list.
 */
static int
search_list(int users, struct search *w)
{
	FILE *file = open_lines(users, w->account->uid);
	int known;

	if (file == NULL && errno == ENOENT)
		return 0;
	if (file == NULL) {
		log_failed("opening users/%u" MAILBOXES
			   " in the state directory",
		    (unsigned)w->account->uid);
		return -1;
	}
	known = search_lines(file, w);
	fclose(file);
	return known;
}

/*
 * Locks the moving of former users' state. The lock is on a file, because a
 * lock on the directory would not exclude the logins of other hosts. Then waits
 * until this host has noticed names that another host has moved just before.
 * Returns the descriptor with the lock, or -1 (logged).
 */
static int
lock_former(int users)
{
	int fd = openat(users, FORMER_LOCK,
	    O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd != -1 && flock(fd, LOCK_EX) == 0) {
		volume_outlast_names(fd);
		return fd;
	}
	log_failed("locking users/" FORMER_LOCK " in the state directory");
	file_close(fd);
	return -1;
}

/*
 * Looks for the line, and moves the state of former users of this uid aside.
 * Returns 1 if the line exists, 0 if it is absent, or -1 (logged).
 *
 * Another login may move the state of the same former users. What this login
 * has read is then out of date, and STATE/users/UID is the new user's. So this
 * login reads the list again while it has a lock, which it keeps until the
 * caller closes *lock (-1: it needs none). Only such logins wait for the lock,
 * because the account database may answer late.
 */
static int
look_for_line(int users, const struct account *a, const char *mailboxes,
    int *lock)
{
	struct search w = { .account = a, .mailboxes = mailboxes };
	int known = search_list(users, &w);

	if (known != 0 || w.former[0] == '\0')
		return known;
	if ((*lock = lock_former(users)) == -1)
		return -1;
	w.former[0] = '\0';
	known = search_list(users, &w);
	return known == 0 && w.former[0] != '\0' &&
		move_former(users, a, w.former) == -1 ?
	    -1 :
	    known;
}

void
state_require(const char *state)
{
	int top = privsep_make_directory(AT_FDCWD, state, 0755, 0, 0);

	if (top == -1 || faccessat(top, ".", W_OK, 0) == -1)
		fatal("cannot write in directory %s", state);
	close(top);
}

int
state_open(const char *state, const struct account *a, const char *mailboxes)
{
	char path[PATH_MAX];
	int users = open_users(state), own = -1, known = -1, lock = -1;

	if (snprintf(path, sizeof(path), "%s/users/%u", state,
		(unsigned)a->uid) >= PATH_MAX)
		fatal("the path of the state directory is too long");
	if (users != -1 &&
	    (known = look_for_line(users, a, mailboxes, &lock)) != -1)
		own = privsep_make_directory(users, path, 0700, a->uid, a->gid);
	if (own != -1 && known == 0 && add_line(users, a, mailboxes) == -1) {
		close(own);
		own = -1;
	}
	file_close(lock);
	file_close(users);
	return own;
}

int
state_take_slot(const char *state, uid_t uid)
{
	int logins = privsep_open_state(state, "logins", 0700), slot = -1;

	for (int i = 0; logins != -1 && slot == -1 && i < SLOTS; i++) {
		char name[STATE_NAME];

		snprintf(name, sizeof(name), "%u.%d", (unsigned)uid, i);
		/* NFS locks only a file that may be written. */
		slot = openat(logins, name,
		    (volume_is_shared(logins) ? O_RDWR : O_RDONLY) | O_CREAT |
			O_NOFOLLOW | O_CLOEXEC,
		    0600);
		if (slot == -1)
			break;
		if (flock(slot, LOCK_EX | LOCK_NB) == -1) {
			file_close(slot);
			slot = -1;
			if (errno != EWOULDBLOCK)
				break;
		}
	}
	file_close(logins);
	return slot;
}

/* The arguments of call_each, for the lines of one uid. */
struct caller {
	void (*each)(void *self, const struct state_mailbox *m);
	void *self;
	struct state_mailbox m;
	bool is_called; /* there was a line */
};

/* Calls the function for a line. Returns false, so that the search goes on. */
static bool
call_each(void *self, const char *name, const char *mailboxes)
{
	struct caller *c = self;

	c->m.user = name;
	c->m.mailboxes = mailboxes;
	c->is_called = true;
	c->each(c->self, &c->m);
	return false;
}

/*
 * Calls the function for each line of the uid, or once without a user if no
 * line can be read. Returns 0, or -1 with errno if the lines cannot be read.
 */
static int
call_lines(int users, struct caller *c)
{
	FILE *file = open_lines(users, c->m.uid);
	int error = file != NULL || errno == ENOENT ? 0 : errno;

	if (file != NULL) {
		find_line(file, call_each, c);
		error = ferror(file) ? EIO : 0;
		fclose(file);
	}
	if (!c->is_called)
		c->each(c->self, &c->m);
	errno = error;
	return error == 0 ? 0 : -1;
}

/*
 * Calls the function for the uid that is the name of an entry of STATE/users.
 * Other entries are not directories of users. Returns 0, or -1 with errno.
 */
static int
call_entry(int users, const char *name, struct caller *c)
{
	const char *problem;
	int result;

	c->m.uid = (uid_t)strtonum(name, 1, UINT32_MAX - 1, &problem);
	if (problem != NULL)
		return 0;
	c->m.directory = openat(users, name,
	    O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (c->m.directory == -1)
		return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ?
		    0 :
		    -1;
	result = call_lines(users, c);
	file_close(c->m.directory);
	return result;
}

int
state_each(const char *state,
    void (*each)(void *self, const struct state_mailbox *m), void *self)
{
	int top = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int users = top != -1 ?
	    openat(top, "users",
		O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) :
	    -1;
	const struct dirent *entry;
	int error = 0;
	DIR *all;

	if (top != -1)
		close(top);
	if (users == -1)
		return errno == ENOENT ? 0 : -1;
	if ((all = fdopendir(users)) == NULL)
		return -1;
	while (errno = 0, (entry = readdir(all)) != NULL) {
		struct caller c = { .each = each, .self = self };

		if (call_entry(users, entry->d_name, &c) == -1)
			error = errno;
	}
	if (errno != 0)
		error = errno;
	closedir(all);
	errno = error;
	return error == 0 ? 0 : -1;
}
