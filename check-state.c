/*
 * Checks the state directory: the directories that lead to it, its owner and
 * mode, its file system, the room in it, and what is in it (DESIGN §3.4).
 *
 * Runs as root in kpopd-check. It changes nothing, and looks at no file below
 * STATE/users/UID, because those are the user's.
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check-quote.h"
#include "check-volume.h"
#include "check.h"
#include "path.h"
#include "replay-cache.h"
#include "volume.h"

/* Fewer free MiB or inodes than this are worth a warning. */
#define ENOUGH_MIB 64
#define ENOUGH_INODES 1000
/* The most lines about the entries of one directory, which may have many. */
#define LINES_MOST 10
/* The most files that the next login of a user makes. */
#define INODES_OF_LOGIN 8
#define SECONDS 15 /* for the file system */

/* What an entry of the state directory must be. */
struct entry {
	const char *name; /* below STATE */
	mode_t type;      /* S_IFDIR or S_IFREG */
	mode_t mode;
	/* kpopd refuses to use the entry if its mode has one of these bits */
	mode_t refused;
	/* kpopd refuses to use the entry if its owner or type is another */
	bool is_needed;
};

static const struct entry entries[] = {
	{ "preauth", S_IFDIR, 0711, 022, true },
	{ "relay", S_IFDIR, 0711, 022, true },
	{ "tls", S_IFDIR, 0711, 022, true },
	{ "refusal", S_IFDIR, 0711, 022, true },
	{ "logins", S_IFDIR, 0700, 022, true },
	{ "users", S_IFDIR, 0700, 022, true },
	{ "replay", S_IFREG, 0600, 077, true },
	{ "tls.works", S_IFREG, 0600, 0, false },
	{ "tls.lock", S_IFREG, 0600, 0, false },
	{ "exposed.keytab", S_IFREG, 0600, 0, false },
	{ "exposed.tls-key", S_IFREG, 0600, 0, false },
	{ "preauth/krb5.conf", S_IFREG, 0640, 0, false },
	{ "relay/krb5.conf", S_IFREG, 0640, 0, false },
};

/* Prints a warning, or a FAIL if kpopd refuses to go on. */
static void
complain_of_entry(struct check *c, bool is_refused, const char *path,
    const char *remedy, const char *found)
{
	if (is_refused)
		check_fail(c, "state", path, remedy, "%s", found);
	else
		check_warn(c, "state", path, remedy, "%s", found);
}

/* Checks type and owner. Returns false if it has printed a line. */
static bool
check_entry_owner(struct check *c, const char *path, const struct entry *e,
    uid_t uid, const struct stat *st)
{
	struct check_word w;
	char found[128];

	check_quote(&w, path);
	if ((st->st_mode & S_IFMT) != e->type) {
		snprintf(found, sizeof(found), "is not a %s",
		    e->type == S_IFDIR ? "directory" : "regular file");
		complain_of_entry(c, e->is_needed, path,
		    check_remedy(c, "mv -bT %s %s.old", w.text, w.text), found);
		return false;
	}
	/* kpopd gives a directory that is still root's to its owner. */
	if (st->st_uid == uid || (st->st_uid == 0 && e->type == S_IFDIR))
		return true;
	snprintf(found, sizeof(found), "belongs to uid %u, not to uid %u",
	    (unsigned)st->st_uid, (unsigned)uid);
	complain_of_entry(c, e->is_needed, path,
	    check_remedy(c, "chown %u %s", (unsigned)uid, w.text), found);
	return false;
}

/* Checks the mode. Returns false if it has printed a line. */
static bool
check_entry_mode(struct check *c, const char *path, const struct entry *e,
    const struct stat *st)
{
	struct check_word w;
	mode_t mode = st->st_mode & 0777;
	char found[128];

	if ((mode & ~e->mode) == 0)
		return true;
	snprintf(found, sizeof(found), "has mode %04o instead of %04o",
	    (unsigned)mode, (unsigned)e->mode);
	complain_of_entry(c, (mode & e->refused) != 0, path,
	    check_remedy(c, "chmod %04o %s", (unsigned)e->mode,
		check_quote(&w, path)),
	    found);
	return false;
}

/* Checks that the file has no other name. Returns false if it has printed. */
static bool
check_entry_links(struct check *c, const char *path, const struct stat *st)
{
	struct check_word w;

	if (st->st_nlink == 1)
		return true;
	check_quote(&w, path);
	check_fail(c, "state", path,
	    check_remedy(c, "mv -bT %s %s.old", w.text, w.text),
	    "has more than one name");
	return false;
}

/*
 * Checks an entry of STATE, if it exists. Returns false if it has printed a
 * line.
 */
static bool
check_entry(struct check *c, const struct entry *e, uid_t uid)
{
	char path[PATH_MAX];
	struct stat st;

	snprintf(path, sizeof(path), "%s/%s", c->o.state, e->name);
	return lstat(path, &st) == -1 ||
	    (check_entry_owner(c, path, e, uid, &st) &&
		check_entry_mode(c, path, e, &st) &&
		(strcmp(e->name, "replay") != 0 ||
		    check_entry_links(c, path, &st)));
}

/* Returns the uid with which the name begins, or -1 if there is none. */
static long long
read_uid(const char *name, const char **rest)
{
	char *end;
	long long uid = strtoll(name, &end, 10);

	*rest = end;
	return *name >= '0' && *name <= '9' ? uid : -1;
}

/* Checks an entry of STATE/users. kpopd repairs the mode of a user's. */
static bool
check_user_entry(struct check *c, const char *name)
{
	char path[NAME_MAX + sizeof("users/")];
	struct entry e = { path, S_IFREG, 0600, 0, false };
	const char *rest;
	long long uid = read_uid(name, &rest);

	snprintf(path, sizeof(path), "users/%s", name);
	if (strcmp(rest, ".mailboxes") == 0)
		return uid == -1 || check_entry(c, &e, 0);
	if (uid == -1 || *rest != '\0')
		return true;
	e = (struct entry){ path, S_IFDIR, 0777, 0, true };
	return check_entry(c, &e, (uid_t)uid);
}

/* Checks a login slot, an entry of STATE/logins. */
static bool
check_slot_entry(struct check *c, const char *name)
{
	char path[NAME_MAX + sizeof("logins/")];
	const struct entry e = { path, S_IFREG, 0600, 0, false };

	snprintf(path, sizeof(path), "logins/%s", name);
	return *name == '.' || check_entry(c, &e, 0);
}

/*
 * Checks the entries of a directory below STATE, until it has printed
 * LINES_MOST lines about them. Returns false if it has printed a line.
 */
static bool
check_entries_of(struct check *c, const char *directory,
    bool (*check_one)(struct check *c, const char *name))
{
	char path[PATH_MAX];
	const struct dirent *entry;
	unsigned lines = 0;
	DIR *all;

	snprintf(path, sizeof(path), "%s/%s", c->o.state, directory);
	if ((all = opendir(path)) == NULL)
		return true;
	while (lines < LINES_MOST && (entry = readdir(all)) != NULL)
		lines += !check_one(c, entry->d_name);
	closedir(all);
	if (lines == LINES_MOST)
		check_warn(c, "state", path, NULL,
		    "may have more entries like these; check again when these "
		    "are right");
	return lines == 0;
}

/* Checks what is in STATE. Prints one line if all is right. */
static void
check_all_entries(struct check *c)
{
	bool is_right = true;

	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++)
		if (!check_entry(c, &entries[i], 0))
			is_right = false;
	if (!check_entries_of(c, "logins", check_slot_entry))
		is_right = false;
	if (!check_entries_of(c, "users", check_user_entry))
		is_right = false;
	if (is_right)
		check_ok(c, "state", c->o.state,
		    "what is in it has the right owners and modes");
}

/* Makes the command that shows what fills the file system of the path. */
static const char *
find_largest_files(struct check *c, const char *path, const char *what)
{
	struct check_word w;

	return check_remedy(c,
	    "du -ax %s \"$(findmnt -no TARGET -T %s)\" | sort -n | tail", what,
	    check_quote(&w, path));
}

/* Returns the bytes that the replay cache has not reserved yet. */
static long long
find_missing_replay(const struct check *c)
{
	char path[PATH_MAX];
	struct stat st;
	long long has = 0;

	snprintf(path, sizeof(path), "%s/replay", c->o.state);
	if (lstat(path, &st) == 0)
		has = (long long)st.st_blocks * 512;
	return has < REPLAY_SIZE ? REPLAY_SIZE - has : 0;
}

/*
 * Checks the room on the file system of `at`, which is STATE, or the directory
 * above STATE if there is no STATE yet. Root makes the replay cache, and may
 * use room that users may not.
 */
static void
check_state_room(struct check *c, const char *at)
{
	struct statvfs fs;
	long long missing = find_missing_replay(c), free, mib;
	bool has_inodes;

	if (statvfs(at, &fs) == -1) {
		check_fail(c, "state", at, NULL,
		    "the room cannot be found out: %m");
		return;
	}
	free = (long long)fs.f_bfree * (long long)fs.f_frsize;
	mib = (long long)fs.f_bavail * (long long)fs.f_frsize >> 20;
	/* Some file systems do not count inodes. */
	has_inodes = fs.f_files != 0;
	if (missing > free)
		check_fail(c, "state", at, find_largest_files(c, at, "-m"),
		    "the replay cache needs %lld KiB more, but %lld KiB are "
		    "free: every login is refused",
		    missing >> 10, free >> 10);
	else if (fs.f_bavail == 0)
		check_fail(c, "state", at, find_largest_files(c, at, "-m"),
		    "its file system is full: users cannot remove messages");
	else if (has_inodes && fs.f_favail < INODES_OF_LOGIN)
		check_fail(c, "state", at,
		    find_largest_files(c, at, "--inodes"),
		    "its file system has no inodes left: new users cannot log "
		    "in, and users cannot remove messages");
	else if (mib < ENOUGH_MIB)
		check_warn(c, "state", at, find_largest_files(c, at, "-m"),
		    "only %lld MiB are free; a removal needs as much as the "
		    "mailbox has",
		    mib);
	else if (has_inodes && fs.f_favail < ENOUGH_INODES)
		check_warn(c, "state", at,
		    find_largest_files(c, at, "--inodes"),
		    "only %llu inodes are free",
		    (unsigned long long)fs.f_favail);
	else
		check_ok(c, "state", at,
		    "%lld MiB are free, with room for the replay cache", mib);
}

/* Warns if a reboot empties the file system, because journals are in it. */
static void
check_state_permanence(struct check *c, const char *at)
{
	struct statfs fs;

	if (statfs(at, &fs) == 0 &&
	    (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC))
		check_warn(c, "state", at,
		    "give -d a directory on a disk, as " STATE_DIRECTORY,
		    "its file system is in memory: after a power failure the "
		    "journal of an unfinished removal is lost");
}

/*
 * Reports whether the hosts that have this state directory share the replay
 * cache: only if the file server can be asked for its content.
 */
static void
check_shared_replay(struct check *c, const char *path)
{
	int fd = open(path,
	    O_RDONLY | O_DIRECT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

	if (fd != -1)
		check_ok(c, "state", path,
		    "the hosts that have it accept each ticket's authenticator "
		    "once");
	else if (errno == EINVAL)
		check_warn(c, "state", path,
		    "use a local state directory, and share only what is below "
		    "users; set the option tls immediate",
		    "its file system has no O_DIRECT: what one host has "
		    "accepted, another host can accept again");
	if (fd != -1)
		close(fd);
}

/*
 * Checks whether an exchange that one host has accepted can be used on another
 * host behind the balancer. Inside TLS no attacker can see it.
 */
static void
check_state_replay(struct check *c)
{
	const struct options *o = &c->o;
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/replay", o->state);
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd == -1)
		return;
	if (volume_is_shared(fd))
		check_shared_replay(c, path);
	else if (o->proxies.count > 0 && o->tls.when != TLS_IMMEDIATE &&
	    !(o->pop3 && o->tls.when == TLS_REQUIRE))
		check_warn(c, "state", path,
		    "set the option tls immediate; for pop3, tls require is "
		    "enough",
		    "belongs to this host alone: a ticket's authenticator that "
		    "it has accepted can be used on another host of the "
		    "balancer");
	close(fd);
}

/* Checks that root can write in the directory. */
static void
check_state_writable(struct check *c, const char *at)
{
	struct check_word w;

	check_quote(&w, at);
	if (faccessat(AT_FDCWD, at, W_OK, 0) == 0)
		return;
	if (errno == EROFS)
		check_fail(c, "state", at,
		    check_remedy(c,
			"mount -o remount,rw \"$(findmnt -no TARGET -T %s)\"",
			w.text),
		    "its file system is read-only");
	else
		check_fail(c, "state", at,
		    errno == EPERM ? check_remedy(c, "chattr -i %s", w.text) :
				     check_remedy(c, "findmnt -T %s", w.text),
		    "root cannot write in it: %m");
}

/* Checks STATE itself, which exists. Returns false if it cannot be used. */
static bool
check_state_top(struct check *c, const struct stat *st)
{
	struct check_word w;
	const char *state = c->o.state;
	unsigned mode = st->st_mode & 07777;

	check_quote(&w, state);
	if (S_ISLNK(st->st_mode))
		check_fail(c, "state", state,
		    check_remedy(c, "give -d what readlink -f %s prints",
			w.text),
		    "is a symbolic link, which kpopd does not follow");
	else if (!S_ISDIR(st->st_mode))
		check_fail(c, "state", state,
		    check_remedy(c, "mv -bT %s %s.old", w.text, w.text),
		    "is not a directory");
	else if (st->st_uid != 0)
		check_fail(c, "state", state,
		    check_remedy(c, "chown root:root %s", w.text),
		    "belongs to uid %u, not to root", (unsigned)st->st_uid);
	else if ((mode & (S_IWGRP | S_IWOTH)) != 0)
		check_fail(c, "state", state,
		    check_remedy(c, "chmod 0755 %s", w.text),
		    "has mode %04o, so others than root can write in it", mode);
	else {
		check_ok(c, "state", state, "belongs to root, mode %04o", mode);
		return true;
	}
	return false;
}

/*
 * Makes the path absolute, because the superservers start kpopd in "/".
 * Removes slashes at its end.
 */
static void
make_state_absolute(struct check *c)
{
	static char path[PATH_MAX];
	size_t n;

	if (c->o.state[0] != '/')
		check_warn(c, "state", c->o.state,
		    check_remedy(c, "give -d a path that begins with /"),
		    "depends on the directory in which kpopd starts, "
		    "probably /");
	snprintf(path, sizeof(path), "%s%s", c->o.state[0] != '/' ? "/" : "",
	    c->o.state);
	for (n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
		path[n - 1] = '\0';
	c->o.state = path;
}

/* Checks STATE, or else the directory above it, and what is below. */
static void
check_state_below(struct check *c, const char *above)
{
	struct check_word w;
	struct stat st;
	bool is_there = lstat(c->o.state, &st) == 0;
	const char *at = is_there ? c->o.state : above;

	if (is_there && !check_state_top(c, &st))
		return;
	if (!is_there)
		check_warn(c, "state", c->o.state,
		    check_remedy(c, "install -d -m 0755 %s",
			check_quote(&w, c->o.state)),
		    "is not there; the first connection makes it. If kpopd "
		    "has served before, this is not its -d");
	check_state_writable(c, at);
	check_state_permanence(c, at);
	check_volume(c, "state", at);
	check_state_room(c, at);
	if (is_there) {
		check_all_entries(c);
		check_state_replay(c);
	}
}

/* Child, because the file system may not answer: checks all. */
static void
check_state_in_child(struct check *c)
{
	char above[PATH_MAX], real[PATH_MAX];
	struct check_word w;

	path_split(c->o.state, above);
	if (check_path(c, "state", above, real))
		check_state_below(c, above);
	else
		check_fail(c, "state", c->o.state,
		    check_remedy(c, "install -d -m 0755 %s",
			check_quote(&w, c->o.state)),
		    "kpopd cannot make it: %s: %s", real, strerror(errno));
}

void
check_state(struct check *c)
{
	make_state_absolute(c);
	c->state_is_dead = !check_in_child(c, SECONDS, check_state_in_child);
	if (c->state_is_dead)
		check_fail(c, "state", c->o.state,
		    "look at the mounts and at the file server",
		    "its file system did not answer within %d s: no client is "
		    "served",
		    SECONDS);
}
