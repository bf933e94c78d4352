/*
 * Drops root's rights for good, and puts processes into jails.
 *
 * Runs as root in each process that is about to become another user. The
 * functions that make directories also run as root in main, the listener and
 * the monitor. privsep_leave_broker runs as the user, in the broker's child.
 * This file trusts the owner of the state directory. If a step fails, or
 * succeeds without effect, the process ends. As an exception,
 * privsep_make_directory returns -1 if it cannot make a directory.
 */
#include "config.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "privsep.h"
#include "replay-cache.h"

/*
 * The limit of descriptors in a jail, a little higher than necessary. The
 * pre-auth process needs the most: the replay cache, krb5.conf, the connection,
 * the sockets to the layers, and the channel to the monitor.
 */
#define JAIL_FILES 16
/*
 * A process in a jail cannot make a file larger than this. The replay cache has
 * at least this size from the start.
 */
#define JAIL_FILE_SIZE ((rlim_t)REPLAY_SIZE)
/*
 * The limit of descriptors in a session or a broker, higher than necessary.
 * These processes need the spool, its directory, the state directory, a
 * journal, the channels, and files of libkrb5.
 */
#define SESSION_FILES 64

/*
 * Returns true if the directory's owner or mode must still be set. If the
 * directory still belongs to root, or its mode lacks a search permission,
 * another process has created it. That process is about to set owner and mode,
 * or has ended before it could. If the owner has made the directory writable by
 * others, the mode must be set again. Otherwise a compromised process of the
 * owner could make all later logins of the owner fail by changing the mode.
 */
static bool
is_unfinished_directory(const struct stat *st, mode_t mode, uid_t uid)
{
	mode_t passing = mode & 0111;

	return (st->st_uid == 0 && uid != 0) ||
	    (st->st_uid == uid &&
		((st->st_mode & passing) != passing ||
		    (uid != 0 && (st->st_mode & 022) != 0)));
}

/*
 * Ends the process if the directory belongs to another user or others can write
 * it.
 */
static void
require_owner(const char *path, const struct stat *st, uid_t uid)
{
	if (st->st_uid != uid)
		log_event(LOG_ERR, "fatal",
		    "error=\"directory %s has another owner, uid %u: run chown "
		    "%u %s\"",
		    path, (unsigned)st->st_uid, (unsigned)uid, path);
	else if ((st->st_mode & 022) != 0)
		log_event(LOG_ERR, "fatal",
		    "error=\"directory %s is writable by others, mode %04o: "
		    "run chmod go-w %s\"",
		    path, (unsigned)st->st_mode & 07777, path);
	else
		return;
	log_end(1);
}

int
privsep_make_directory(int at, const char *path, mode_t mode, uid_t uid,
    gid_t gid)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	const char *name = path;
	struct stat st;
	bool made = false;
	int fd;

	if (at != AT_FDCWD)
		name = strrchr(path, '/') + 1;
	/*
	 * Open first, because the directory almost always exists. mkdirat locks
	 * the directory above, also if it then makes nothing.
	 */
	fd = openat(at, name, flags);
	if (fd == -1 && errno == ENOENT) {
		made = mkdirat(at, name, mode) == 0;
		if (!made && errno != EEXIST) {
			log_failed("making directory %s", path);
			return -1;
		}
		fd = openat(at, name, flags);
	}
	if (fd == -1 || fstat(fd, &st) == -1)
		fatal("cannot open directory %s", path);
	if ((made || is_unfinished_directory(&st, mode, uid)) &&
	    (fchown(fd, uid, gid) == -1 || fchmod(fd, mode) == -1 ||
		fstat(fd, &st) == -1))
		fatal("cannot give away directory %s", path);
	require_owner(path, &st, uid);
	return fd;
}

int
privsep_open_state(const char *state, const char *name, mode_t mode)
{
	char path[PATH_MAX];
	int top, directory = -1;

	if (snprintf(path, sizeof(path), "%s/%s", state, name) >= PATH_MAX)
		fatal("the path of the state directory is too long");
	top = privsep_make_directory(AT_FDCWD, state, 0755, 0, 0);
	if (top != -1) {
		directory = privsep_make_directory(top, path, mode, 0, 0);
		close(top);
	}
	return directory;
}

void
privsep_make_jail(const char *state, const char *name)
{
	int jail = privsep_open_state(state, name, 0711);

	if (jail == -1)
		log_end(1);
	close(jail);
}

/*
 * Sets the hard limit of a resource, unless it is already lower. For example,
 * inetd may have set a lower one. Then sets the soft limit to the hard limit,
 * even if that raises the soft limit.
 */
static void
set_limit(int what, rlim_t most)
{
	struct rlimit limit;

	if (getrlimit(what, &limit) == -1)
		fatal("getrlimit");
	if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max > most)
		limit.rlim_max = most;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(what, &limit) == -1)
		fatal("setrlimit");
}

/*
 * Empties the effective, permitted and inheritable sets of capabilities, and
 * asks the kernel whether they are empty. The bounding set stays as it is.
 */
static void
drop_capabilities(void)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3,
		0 };
	struct __user_cap_data_struct none[2] = { 0 }, now[2];

	if (syscall(SYS_capset, &head, none) == -1)
		fatal("capset");
	if (syscall(SYS_capget, &head, now) == -1)
		fatal("capget");
	errno = EPERM;
	if (memcmp(none, now, sizeof(none)) != 0)
		fatal("capabilities remain");
}

/*
 * Ends the process unless it has these ids and no other group, and cannot
 * regain root's ids.
 */
static void
verify_identity(uid_t uid, gid_t gid, gid_t effective)
{
	uid_t ruid, euid, suid;
	gid_t rgid, egid, sgid, group;

	errno = EPERM;
	if (getresuid(&ruid, &euid, &suid) == -1 || ruid != uid ||
	    euid != uid || suid != uid)
		fatal("the uid is not %u", (unsigned)uid);
	if (getresgid(&rgid, &egid, &sgid) == -1 || rgid != gid ||
	    egid != effective || sgid != effective)
		fatal("the gid is not %u", (unsigned)gid);
	if (getgroups(1, &group) != 1 || group != gid)
		fatal("other groups remain");
	if (setuid(0) != -1 || seteuid(0) != -1 || setresuid(0, 0, 0) != -1)
		fatal("the uid of root can be regained");
	if (gid != 0 && effective != 0 && (setgid(0) != -1 || setegid(0) != -1))
		fatal("the gid of root can be regained");
}

/*
 * Gives up root's rights for good. The effective gid is the same as the gid,
 * except in the broker. OpenSSH's permanently_set_uid is the model.
 */
static void
drop_root(uid_t uid, gid_t gid, gid_t effective)
{
	errno = EPERM;
	if (uid == 0)
		fatal("refusing to stay root");
	if (setgroups(1, &gid) == -1)
		fatal("setgroups");
	if (setresgid(gid, effective, effective) == -1)
		fatal("setresgid");
	if (setresuid(uid, uid, uid) == -1)
		fatal("setresuid");
	drop_capabilities();
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 ||
	    prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		fatal("no_new_privs");
	/*
	 * A dumpable process could be read or traced by other processes of its
	 * uid.
	 */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1 ||
	    prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		fatal("the process is still dumpable");
	verify_identity(uid, gid, effective);
}

void
privsep_limit_jailed(void)
{
	set_limit(RLIMIT_NPROC, 0);
	set_limit(RLIMIT_NOFILE, JAIL_FILES);
}

/* Enters the jail as the user, and sets the limits of all jailed processes. */
static void
enter_jail(const char *state, const char *name, const struct account *a)
{
	if (chdir(state) == -1 || chroot(name) == -1 || chdir("/") == -1)
		fatal("chroot to %s/%s", state, name);
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_FSIZE, JAIL_FILE_SIZE);
	set_limit(RLIMIT_AS, PREAUTH_MEMORY);
	drop_root(a->uid, a->gid, a->gid);
	errno = EPERM;
	if (access("/", W_OK) == 0 || access("/..", W_OK) == 0)
		fatal("the jail's root is writable");
	if (chroot("/") != -1)
		fatal("chroot still works");
}

void
privsep_jail(const char *state, const char *name, const struct account *a)
{
	privsep_limit_jailed();
	enter_jail(state, name, a);
}

void
privsep_jail_keeper(const char *state, const char *name,
    const struct account *a)
{
	set_limit(RLIMIT_NOFILE, PRIVSEP_KEEPER_FILES);
	enter_jail(state, name, a);
}

void
privsep_become(const struct account *a)
{
	if (chdir("/") == -1)
		fatal("chdir");
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_NPROC, 0);
	set_limit(RLIMIT_NOFILE, SESSION_FILES);
	drop_root(a->uid, a->gid, a->gid);
}

/*
 * Does not limit the number of processes, because the broker starts a process
 * for a recovery.
 */
void
privsep_become_broker(const struct account *a, gid_t group)
{
	if (chdir("/") == -1)
		fatal("chdir");
	set_limit(RLIMIT_CORE, 0);
	set_limit(RLIMIT_NOFILE, SESSION_FILES);
	drop_root(a->uid, a->gid, group);
}

void
privsep_leave_broker(const struct account *a)
{
	set_limit(RLIMIT_NPROC, 0);
	if (setresgid(a->gid, a->gid, a->gid) == -1)
		fatal("setresgid");
	verify_identity(a->uid, a->gid, a->gid);
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1)
		fatal("the process is still dumpable");
}
