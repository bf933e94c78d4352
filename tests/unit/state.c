/*
 * Unit test of state.c. Tests which users' state is moved aside, how state.c
 * reads lines that were only partly written or cannot be read, and the login
 * slots.
 *
 * Runs as any user, with its own account database.
 */
#include "config.h"

#include <sys/file.h>
#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "privsep.h"
#include "state.h"
#include "tests/unit/check.h"

static char top[] = "/tmp/kpopd-state.XXXXXX";
static uid_t daves_uid;  /* uid of the user dave; 0 if dave does not exist */
static bool is_shared;   /* every name has uid 5555 */
static int away;         /* errno of the account database, or 0 */
static int failures;     /* number of events "failed" in the log */
static bool is_full;     /* write(2) writes half of its bytes */
static bool is_synced;   /* the state directory was synced */
static char seen[400];   /* the mailboxes that state_each reported */
static int entries = 99; /* the number of calls of readdir that succeed */
static const char *unreadable; /* the name of a file that cannot be opened */
static int lockless;           /* errno of flock, or 0 */
static bool is_racing;         /* eve logs in during the next lookup */

static void log_in_meanwhile(void);
struct passwd *__wrap_getpwnam(const char *);
int __wrap_getpwnam_r(const char *, struct passwd *, char *, size_t,
    struct passwd **);
int __wrap_fchownat(int, const char *, uid_t, gid_t, int);
struct dirent *__real_readdir(DIR *);
struct dirent *__wrap_readdir(DIR *);
int __real_openat(int, const char *, int, ...);
int __wrap_openat(int, const char *, int, ...);
int __real_flock(int, int);
int __wrap_flock(int, int);
bool __wrap_volume_is_shared(int);
int __real_fsync(int);
int __wrap_fsync(int);
ssize_t __real_write(int, const void *, size_t);
ssize_t __wrap_write(int, const void *, size_t);

struct passwd *
__wrap_getpwnam(const char *name)
{
	static struct passwd entry;
	struct passwd *pw;

	errno = __wrap_getpwnam_r(name, &entry, NULL, 0, &pw);
	return pw;
}

int
__wrap_getpwnam_r(const char *name, struct passwd *entry, char *room,
    size_t size, struct passwd **pw)
{
	(void)room, (void)size;
	if (is_racing)
		log_in_meanwhile();
	*entry = (struct passwd){ .pw_uid = is_shared ? 5555 : daves_uid };
	*pw = away == 0 &&
		(is_shared || (daves_uid != 0 && strcmp(name, "dave") == 0)) ?
	    entry :
	    NULL;
	return away;
}

int
__wrap_fchownat(int at, const char *name, uid_t uid, gid_t gid, int flags)
{
	struct stat st;

	CHECK(uid == 0 && gid == 0 && flags == AT_SYMLINK_NOFOLLOW);
	return fstatat(at, name, &st, flags);
}

struct dirent *
__wrap_readdir(DIR *all)
{
	if (entries-- > 0)
		return __real_readdir(all);
	errno = EIO;
	return NULL;
}

int
__wrap_openat(int at, const char *name, int flags, ...)
{
	if (unreadable == NULL || strcmp(name, unreadable) != 0)
		return __real_openat(at, name, flags, 0600);
	errno = EIO;
	return -1;
}

static bool has_hosts; /* whether other hosts may see the directory */

bool
__wrap_volume_is_shared(int fd)
{
	(void)fd;
	return has_hosts;
}

/*
 * A lock on a directory excludes only processes of this host, and NFS does not
 * lock a file that may only be read.
 */
int
__wrap_flock(int fd, int operation)
{
	struct stat st;

	CHECK(fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
	    (!has_hosts || (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR));
	if (lockless == 0)
		return __real_flock(fd, operation);
	errno = lockless;
	return -1;
}

/* Records whether the state directory itself was synced. */
int
__wrap_fsync(int fd)
{
	struct stat st, state;

	CHECK(fstat(fd, &st) == 0 && stat(top, &state) == 0);
	is_synced |= st.st_ino == state.st_ino;
	return __real_fsync(fd);
}

ssize_t
__wrap_write(int fd, const void *from, size_t size)
{
	return __real_write(fd, from, is_full ? size / 2 : size);
}

int
privsep_make_directory(int at, const char *path, mode_t mode, uid_t uid,
    gid_t gid)
{
	(void)at, (void)uid, (void)gid;
	CHECK(mkdir(path, mode) == 0 || errno == EEXIST);
	return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int
privsep_open_state(const char *state, const char *name, mode_t mode)
{
	char path[PATH_MAX];

	close(privsep_make_directory(AT_FDCWD, state, 0755, 0, 0));
	snprintf(path, sizeof(path), "%s/%s", state, name);
	return privsep_make_directory(AT_FDCWD, path, mode, 0, 0);
}

void
log_failed(const char *format, ...)
{
	(void)format;
	failures++;
}

void
log_failed_at(int priority, const char *why, const char *format, ...)
{
	(void)priority, (void)why, (void)format;
	failures++;
}

void
log_event(int priority, const char *event, const char *format, ...)
{
	(void)priority, (void)event, (void)format;
}

const char *
log_safe(struct log_text *t, const char *text)
{
	(void)t;
	return text;
}

void
fatal(const char *format, ...)
{
	fprintf(stderr, "fatal: %s\n", format);
	abort();
}

/*
 * Logs in. Returns true if state_open returns a directory. Also checks the log:
 * there must be an error if state_open has failed, and no error if it has not.
 */
static bool
logs_in(const char *name, const char *mailboxes)
{
	struct account a = { .uid = 5555, .gid = 5555 };
	int before = failures, directory;

	strlcpy(a.name, name, sizeof(a.name));
	directory = state_open(top, &a, mailboxes);
	CHECK((directory == -1) == (failures > before));
	if (directory != -1)
		close(directory);
	return directory != -1;
}

/* Makes a file in the state directory of uid 5555. */
static void
leave(const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/users/5555/%s", top, name);
	CHECK(close(open(path, O_WRONLY | O_CREAT | O_EXCL, 0600)) == 0);
}

/* Another process serves a login of eve while this one looks a user up. */
static void
log_in_meanwhile(void)
{
	is_racing = false;
	CHECK(logs_in("eve", "mbox:/m/%u"));
	leave("j");
}

static bool
has(const char *name)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/users/%s", top, name);
	return access(path, F_OK) == 0;
}

/* Empties the list of uid 5555. */
static void
empty_list(void)
{
	char path[200];

	snprintf(path, sizeof(path), "%s/users/5555.mailboxes", top);
	CHECK(truncate(path, 0) == 0);
}

static void
remove_all(void)
{
	char command[100];

	snprintf(command, sizeof(command), "rm -rf %s/users", top);
	CHECK(system(command) == 0);
}

static void
former_users(void)
{
	/*
	 * While the database does not answer, no user counts as a former user.
	 */
	static const int errors[] = { EAGAIN, EIO, ENOENT, ERANGE, ECONNREFUSED,
		EMFILE };

	daves_uid = 5555;
	CHECK(logs_in("dave", "mbox:/m/%u") && is_synced);
	leave("j");
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		away = errors[i];
		CHECK(!logs_in("info", "mbox:/m/%u") && has("5555/j"));
		/*
		 * If the user's name is recorded, state.c does not ask the
		 * database.
		 */
		CHECK(logs_in("dave", "mbox:/m/%u") && has("5555/j"));
	}
	away = 0;
	/* Two names with one uid are one user. */
	CHECK(logs_in("info", "mbox:/m/%u") && logs_in("dave", "mbox:/m/%u") &&
	    has("5555/j"));
	remove_all();
	/* A former user now has another uid, or does not exist. */
	for (uid_t now = 0; now <= 5556; now += 5556) {
		daves_uid = 5555;
		CHECK(logs_in("dave", "mbox:/m/%u"));
		leave("j");
		daves_uid = now;
		CHECK(logs_in("eve", "mbox:/m/%u") && !has("5555/j") &&
		    has("5555"));
		leave("j");
		/* The state is moved only once. */
		CHECK(logs_in("eve", "maildir:/m/%u") && has("5555/j"));
		remove_all();
	}
}

/*
 * The state of a uid with several names is moved aside only if none of them
 * still has the uid.
 */
static void
former_names(void)
{
	static const char *const names[] = { "carol", "dave", "erin" };

	daves_uid = 5555;
	is_shared = true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		CHECK(logs_in(names[i], "mbox:/m/%u"));
	leave("j");
	/* Now only dave has the uid. */
	is_shared = false;
	CHECK(logs_in("dave", "maildir:/m/%u") && has("5555/j"));
	CHECK(logs_in("info", "mbox:/m/%u") && has("5555/j"));
	/* If the name that logs in is recorded, no other name matters. */
	away = EIO;
	CHECK(logs_in("dave", "mboxo:/m/%u") && has("5555/j"));
	CHECK(!logs_in("eve", "mbox:/m/%u") && has("5555/j"));
	away = 0;
	daves_uid = 0;
	CHECK(logs_in("eve", "mbox:/m/%u") && !has("5555/j"));
	remove_all();
}

/*
 * Of two logins of a new user, only one moves the former user's state aside.
 * The state of the new user stays.
 */
static void
two_logins(void)
{
	daves_uid = 5555;
	CHECK(logs_in("dave", "mbox:/m/%u"));
	daves_uid = 0;
	is_racing = true;
	CHECK(logs_in("eve", "mbox:/m/%u") && has("5555/j"));
	CHECK(!is_racing);
	/* Nothing is moved without the lock. */
	lockless = ENOLCK;
	CHECK(!logs_in("frank", "mbox:/m/%u") && has("5555/j"));
	lockless = 0;
	remove_all();
}

/*
 * Moving a former user's state aside may stop halfway: the directory is moved,
 * but the file with the user's lines is not. The next user's directory must not
 * be moved aside because of these lines.
 */
static void
half_aside(void)
{
	char path[200], blocked[240];
	long long now = time(NULL);

	daves_uid = 5555;
	CHECK(logs_in("dave", "mbox:/m/%u"));
	daves_uid = 0;
	/*
	 * For each of the next ten seconds, make a directory with the name to
	 * which that file would be moved.
	 */
	for (long long second = 0; second < 10; second++) {
		snprintf(blocked, sizeof(blocked),
		    "%s/users/5555.former.%lld.mailboxes", top, now + second);
		CHECK(mkdir(blocked, 0700) == 0);
	}
	CHECK(!logs_in("eve", "mbox:/m/%u") && !has("5555"));
	for (long long second = 0; second < 10; second++) {
		snprintf(blocked, sizeof(blocked),
		    "%s/users/5555.former.%lld.mailboxes", top, now + second);
		CHECK(rmdir(blocked) == 0);
	}
	CHECK(logs_in("eve", "mbox:/m/%u"));
	leave("j");
	CHECK(logs_in("eve", "maildir:/m/%u") && has("5555/j"));
	/* If the file cannot be read, it does not count as absent. */
	snprintf(path, sizeof(path), "%s/users/5555.mailboxes", top);
	CHECK(unlink(path) == 0 && symlink("/dev/null", path) == 0);
	CHECK(!logs_in("eve", "mbox:/m/%u") && has("5555/j"));
	CHECK(unlink(path) == 0 && mkdir(path, 0700) == 0);
	CHECK(!logs_in("eve", "mbox:/m/%u") && has("5555/j"));
	remove_all();
}

static void
note_mailbox(void *self, const struct state_mailbox *m)
{
	(void)self;
	CHECK(m->uid == 5555);
	snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s=%s;",
	    m->user != NULL ? m->user : "(null)",
	    m->mailboxes != NULL ? m->mailboxes : "(null)");
}

/*
 * If only half a line can be written, the login fails. Later lines are whole.
 */
static void
half_lines(void)
{
	daves_uid = 5555;
	is_full = true;
	CHECK(!logs_in("dave", "mbox:/m/%u"));
	is_full = false;
	CHECK(logs_in("dave", "maildir:/m/%u") &&
	    logs_in("dave", "mbox:/m/%u"));
	CHECK(state_each(top, note_mailbox, NULL) == 0);
	/* The half line counts as no mailbox. */
	CHECK(strcmp(seen, "dave=mb;dave=maildir:/m/%u;dave=mbox:/m/%u;") == 0);
	remove_all();
}

/*
 * If a directory or a list cannot be read, state_each reports the others, and
 * fails.
 */
static void
unreadable_state(void)
{
	static const char *const names[] = { "5555", "5555.mailboxes" };
	static const char *const wanted[] = { "", "(null)=(null);" };

	daves_uid = 5555;
	CHECK(logs_in("dave", "mbox:/m/%u"));
	for (entries = 0; entries < 5; entries++) {
		int most = entries;

		errno = 0;
		CHECK(state_each(top, note_mailbox, NULL) == -1 &&
		    errno == EIO);
		entries = most;
	}
	entries = 99;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		seen[0] = '\0';
		unreadable = names[i];
		CHECK(state_each(top, note_mailbox, NULL) == -1 &&
		    errno == EIO);
		CHECK(strcmp(seen, wanted[i]) == 0);
	}
	unreadable = NULL;
	/* The uid of a list without lines is reported, too. */
	seen[0] = '\0';
	empty_list();
	CHECK(state_each(top, note_mailbox, NULL) == 0);
	CHECK(strcmp(seen, wanted[1]) == 0);
	remove_all();
}

/*
 * A name may contain separators of lines or words, or characters of the
 * encoding. Such a name must be read as it was written.
 */
static void
strange_names(void)
{
	static const char *const names[] = { "a", "a b", "a\\040b",
		"KPOPD\\alice", "jos\xc3\xa9", "\xff", " ", "\\", "%s#*[~" };
	char wanted[sizeof(seen)] = "";

	is_shared = true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		for (int twice = 0; twice < 2; twice++)
			CHECK(logs_in(names[i], "b mbox:/m/%u"));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		snprintf(wanted + strlen(wanted),
		    sizeof(wanted) - strlen(wanted), "%s=b mbox:/m/%%u;",
		    names[i]);
	seen[0] = '\0';
	CHECK(state_each(top, note_mailbox, NULL) == 0);
	CHECK(strcmp(seen, wanted) == 0);
	remove_all();
	is_shared = false;
	/* A line of "dave b" is not a line of "dave". */
	daves_uid = 5555;
	CHECK(logs_in("dave b", "mbox:/m/%u"));
	leave("j");
	CHECK(logs_in("dave", "b mbox:/m/%u") && !has("5555/j"));
	remove_all();
}

/*
 * Each uid has four slots. A slot is free again once the last copy of its
 * descriptor is closed.
 */
static void
slots(void)
{
	char path[200];
	int taken[4], copy;

	has_hosts = true;
	for (int i = 0; i < 4; i++)
		CHECK((taken[i] = state_take_slot(top, 5555)) != -1);
	CHECK(state_take_slot(top, 5555) == -1 && errno == EWOULDBLOCK);
	CHECK((copy = state_take_slot(top, 5556)) != -1 && close(copy) == 0);
	/* The session has the slot, but must not write to it. */
	has_hosts = false;
	CHECK((copy = state_take_slot(top, 5557)) != -1 &&
	    (fcntl(copy, F_GETFL) & O_ACCMODE) == O_RDONLY && close(copy) == 0);
	CHECK((copy = dup(taken[1])) != -1 && close(taken[1]) == 0);
	CHECK(state_take_slot(top, 5555) == -1 && errno == EWOULDBLOCK);
	CHECK(close(copy) == 0 &&
	    (taken[1] = state_take_slot(top, 5555)) != -1);
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s/logins/5555.%d", top, i);
		CHECK(close(taken[i]) == 0 && unlink(path) == 0);
	}
	/*
	 * If a slot cannot be made or locked, the error is not the one for full
	 * slots.
	 */
	lockless = ENOLCK;
	CHECK(state_take_slot(top, 5555) == -1 && errno == ENOLCK);
	lockless = 0;
	CHECK(mkdir(path, 0700) == 0);
	for (int i = 0; i < 3; i++)
		CHECK((taken[i] = state_take_slot(top, 5555)) != -1);
	CHECK(state_take_slot(top, 5555) == -1 && errno != EWOULDBLOCK);
	snprintf(path, sizeof(path), "rm -r %s/logins", top);
	CHECK(system(path) == 0);
}

int
main(void)
{
	CHECK(mkdtemp(top) != NULL);
	slots();
	former_users();
	former_names();
	two_logins();
	half_aside();
	half_lines();
	unreadable_state();
	strange_names();
	CHECK(rmdir(top) == 0);
	return 0;
}
