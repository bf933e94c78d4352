/*
 * Keeps a state directory for each user, and knows which mailboxes have state there.
 *
 * Runs as root.
 *
 *	STATE/users                root's, 0700: no user gets in by name
 *	STATE/users/UID            the user's, 0700; inherited as a descriptor
 *	STATE/users/UID/FORMAT-ID  one for each mailbox, made by the session (maildrop.c)
 *	STATE/users/UID/places     the locks that several paths of one mailbox have in common
 *	STATE/users/UID.mailboxes  root's: the user's name (vis(3)) and -m, a line each
 *	STATE/logins/UID.N         root's, empty: locked by a login that may hang on the user's files
 *
 * Because users is closed, a journal with a user's mail cannot be read by a user
 * who has the uid later, and no program of the user can change it. The session
 * inherits the directory from the process that opened it as root.
 *
 * The lines are written here and not by the session, because --recover obeys
 * them as root.
 */
#include "config.h"

#include <sys/file.h>
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <vis.h>

#include "log.h"
#include "state.h"

#define NAME 64 /* bytes of a uid, its suffix and a NUL */
#define MAILBOXES ".mailboxes"
/* Logins of a uid that may hang on the user's files at the same time. */
#define PLACES 4

/* Opens STATE/users, and makes it if it is absent. Returns it, or -1 (logged). */
static int
open_users(const char *state)
{
	int top = privsep_make_directory(AT_FDCWD, state, 0755, 0, 0);
	int users = top != -1 ? privsep_make_directory(top, "users", 0700, 0, 0) : -1;
	struct stat st;

	/* An earlier version let users in. */
	if (users != -1 && (fstat(users, &st) == -1 || ((st.st_mode & 077) != 0 && fchmod(users, 0700) == -1)))
		fatal("closing %s/users to users", state);
	if (top != -1)
		close(top);
	return users;
}

/*
 * Calls line for each line of a file of lines "name mailboxes" until it returns
 * true. Returns true if it did. The name is encoded, because it may have blanks.
 */
static bool
find_line(FILE *file, bool (*line)(void *self, const char *name, const char *mailboxes), void *self)
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

static FILE *
open_lines(int users, uid_t uid)
{
	char name[NAME];
	int fd;

	snprintf(name, sizeof(name), "%u" MAILBOXES, (unsigned)uid);
	fd = openat(users, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	return fd != -1 ? fdopen(fd, "r") : NULL;
}

/* Whom and what is looked for in the lines. */
struct wanted {
	const struct account *account;
	const char *mailboxes;
	char former[ACCOUNT_NAME]; /* a name that no longer has this uid */
	bool is_unsure;         /* the account database could not be asked about a name (logged) */
};

static bool
is_wanted(void *self, const char *name, const char *mailboxes)
{
	const struct wanted *w = self;

	return strcmp(name, w->account->name) == 0 && strcmp(mailboxes, w->mailboxes) == 0;
}

/*
 * Looks whether the line's user has lost this uid; two names may share one.
 * Returns true if that is known, or if the account database cannot be asked
 * now: otherwise a user would be taken for a former one while a directory
 * service is away, and an unfinished removal would be set aside.
 */
static bool
is_former(void *self, const char *name, const char *mailboxes)
{
	static char room[65536];
	struct wanted *w = self;
	struct passwd entry, *pw;
	struct log_text t;
	int error;

	(void)mailboxes;
	if (strcmp(name, w->account->name) == 0)
		return false;
	/* Not getpwnam, because its errno does not tell a failure from an absent name. */
	error = getpwnam_r(name, &entry, room, sizeof(room), &pw);
	if (error == 0 && pw != NULL && pw->pw_uid == w->account->uid)
		return false;
	w->is_unsure = error != 0;
	if (error != 0)
		log_event(LOG_ERR, "failed", "what=\"looking up %s, who had uid %u\" error=\"%s\"",
		    log_safe(&t, name), (unsigned)w->account->uid, strerror(error));
	else
		strlcpy(w->former, name, sizeof(w->former));
	return true;
}

/* Renames STATE/users/from, if it is there, and makes it root's. Returns 0, or -1 with errno. */
static int
move_aside(int users, const char *from, const char *to)
{
	if (renameat(users, from, users, to) == -1)
		return errno == ENOENT ? 0 : -1;
	return fchownat(users, to, 0, 0, AT_SYMLINK_NOFOLLOW);
}

/*
 * Moves what a former user of this uid has left to names that nothing here
 * looks at. The lines go last: if they stayed alone, the next login would come
 * here again. Returns 0 or -1 (logged).
 */
static int
set_aside(int users, const struct account *a, const char *former)
{
	char from[NAME], to[NAME], from_lines[NAME], to_lines[NAME];
	struct log_text t;
	long long now = (long long)time(NULL);

	snprintf(from, sizeof(from), "%u", (unsigned)a->uid);
	snprintf(to, sizeof(to), "%u.former.%lld", (unsigned)a->uid, now);
	snprintf(from_lines, sizeof(from_lines), "%u" MAILBOXES, (unsigned)a->uid);
	snprintf(to_lines, sizeof(to_lines), "%u.former.%lld" MAILBOXES, (unsigned)a->uid, now);
	if (move_aside(users, from, to) == -1 || move_aside(users, from_lines, to_lines) == -1) {
		log_event(LOG_ERR, "failed", "what=\"setting the state of former user %s aside\" error=\"%s\"",
		    log_safe(&t, former), strerror(errno));
		return -1;
	}
	log_event(LOG_WARNING, "former-user", "uid=%u user=%s directory=%s", (unsigned)a->uid,
	    log_safe(&t, former), to);
	return 0;
}

/* Writes the line at once, because another login of the user may write the same now. Returns 0, or -1 with errno. */
static int
write_line(int fd, const struct account *a, const char *mailboxes)
{
	char *line, name[4 * ACCOUNT_NAME];
	int n, result;

	strvis(name, a->name, VIS_OCTAL | VIS_WHITE);
	/* A line in front that is not whole ends here. */
	n = asprintf(&line, "\n%s %s\n", name, mailboxes);
	if (n == -1)
		fatal("asprintf");
	errno = ENOSPC;
	result = write(fd, line, (size_t)n) == n ? fsync(fd) : -1;
	free(line);
	return result;
}

/* Syncs users, and what contains users: another login may have made that a moment ago. Returns 0, or -1 with errno. */
static int
sync_users(int users)
{
	int top = openat(users, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC), result;

	if (top == -1)
		return -1;
	result = fsync(users) == 0 ? fsync(top) : -1;
	close(top);
	return result;
}

/* Adds the line. The disk has it before any journal: otherwise --recover could miss one. Returns 0 or -1 (logged). */
static int
add_line(int users, const struct account *a, const char *mailboxes)
{
	char name[NAME];
	int fd;

	snprintf(name, sizeof(name), "%u" MAILBOXES, (unsigned)a->uid);
	fd = openat(users, name, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1 || write_line(fd, a, mailboxes) == -1 || sync_users(users) == -1) {
		log_event(LOG_ERR, "failed", "what=\"remembering the mailbox\" error=\"%s\"", strerror(errno));
		if (fd != -1)
			close(fd);
		return -1;
	}
	close(fd);
	return 0;
}

/* Looks for the line. Returns 1 if it is there, 0 if it is not, or -1 (logged) if that is not known. */
static int
search_lines(FILE *file, struct wanted *w)
{
	bool known = find_line(file, is_wanted, w);

	if (!known && !ferror(file)) {
		rewind(file);
		find_line(file, is_former, w);
	}
	if (ferror(file))
		log_event(LOG_ERR, "failed", "what=\"reading the list of mailboxes\" error=\"%s\"", strerror(errno));
	return ferror(file) || w->is_unsure ? -1 : known;
}

/*
 * Looks for the line, and sets aside what a former user of this uid has left.
 * Returns 1 if the line is there, 0 if it is not, or -1 (logged).
 */
static int
look_up(int users, const struct account *a, const char *mailboxes)
{
	struct wanted w = { .account = a, .mailboxes = mailboxes };
	FILE *file = open_lines(users, a->uid);
	int known;

	if (file == NULL && errno == ENOENT)
		return 0;
	if (file == NULL) {
		log_event(LOG_ERR, "failed", "what=\"opening the list of mailboxes\" error=\"%s\"", strerror(errno));
		return -1;
	}
	known = search_lines(file, &w);
	fclose(file);
	return w.former[0] != '\0' && set_aside(users, a, w.former) == -1 ? -1 : known;
}

int
state_open(const char *state, const struct account *a, const char *mailboxes)
{
	char uid[NAME];
	int users = open_users(state), own = -1, known = -1;

	snprintf(uid, sizeof(uid), "%u", (unsigned)a->uid);
	if (users != -1 && (known = look_up(users, a, mailboxes)) != -1)
		own = privsep_make_directory(users, uid, 0700, a->uid, a->gid);
	if (own != -1 && known == 0 && add_line(users, a, mailboxes) == -1) {
		close(own);
		own = -1;
	}
	if (users != -1)
		close(users);
	return own;
}

int
state_place(const char *state, uid_t uid)
{
	int top = privsep_make_directory(AT_FDCWD, state, 0755, 0, 0);
	int logins = top != -1 ? privsep_make_directory(top, "logins", 0700, 0, 0) : -1;
	int place = -1;

	for (int i = 0; logins != -1 && place == -1 && i < PLACES; i++) {
		char name[NAME];

		snprintf(name, sizeof(name), "%u.%d", (unsigned)uid, i);
		place = openat(logins, name, O_RDONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (place == -1)
			break;
		if (flock(place, LOCK_EX | LOCK_NB) == -1) {
			close(place);
			place = -1;
			errno = EWOULDBLOCK;
		}
	}
	for (int error = errno; top != -1; top = logins, logins = -1, errno = error)
		close(top);
	return place;
}

/* Calls each for the lines of one uid. */
struct caller {
	void (*each)(void *self, const struct state_mailbox *m);
	void *self;
	struct state_mailbox m;
};

static bool
call(void *self, const char *name, const char *mailboxes)
{
	struct caller *c = self;

	c->m.user = name;
	c->m.mailboxes = mailboxes;
	c->each(c->self, &c->m);
	return false;
}

int
state_each(const char *state, void (*each)(void *self, const struct state_mailbox *m), void *self)
{
	int top = open(state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int users = top != -1 ? openat(top, "users", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
	const struct dirent *entry;
	DIR *all;

	if (top != -1)
		close(top);
	if (users == -1)
		return errno == ENOENT ? 0 : -1;
	if ((all = fdopendir(users)) == NULL)
		return -1;
	while ((entry = readdir(all)) != NULL) {
		struct caller c = { .each = each, .self = self };
		const char *problem;
		FILE *file;

		c.m.uid = (uid_t)strtonum(entry->d_name, 1, UINT32_MAX - 1, &problem);
		if (problem != NULL)
			continue;
		c.m.directory = openat(users, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (c.m.directory == -1)
			continue;
		if ((file = open_lines(users, c.m.uid)) != NULL) {
			find_line(file, call, &c);
			fclose(file);
		} else
			each(self, &c.m);
		close(c.m.directory);
	}
	closedir(all);
	return 0;
}

/* Returns false if there is surely no such file. */
static bool
may_exist(int directory, const char *name)
{
	return faccessat(directory, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

static bool
has_journal(int directory)
{
	return may_exist(directory, "j") || may_exist(directory, "j.cut");
}

bool
state_unfinished(int directory)
{
	int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *all = copy != -1 ? fdopendir(copy) : NULL;
	const struct dirent *entry;
	bool unfinished = all == NULL || has_journal(directory);

	while (!unfinished && (entry = readdir(all)) != NULL) {
		int mailbox;

		if (entry->d_name[0] == '.')
			continue;
		mailbox = openat(directory, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		if (mailbox == -1) {
			unfinished = errno != ENOTDIR && errno != ENOENT && errno != ELOOP;
			continue;
		}
		unfinished = has_journal(mailbox);
		close(mailbox);
	}
	if (all != NULL)
		closedir(all);
	return unfinished;
}
