/*
 * Checks whether a directory is on a file system that other hosts change.
 *
 * Runs in kpopd-check: as root for the state directory, and as the user for the
 * mailbox's directory. What another host sees cannot be found out on this one.
 * But this host can measure whether its kernel answers from memory when a
 * session asks for times. What the client of the file system keeps, a process
 * or a part of the kernel, cannot be seen at all.
 *
 * On some file systems a process goes on writing to a file after its host has
 * lost the lock of that file (DESIGN §5.6). GlusterFS refuses that with an
 * option of the volume, which a virtual file of its mount shows.
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "check-volume.h"
#include "volume.h"

#define TYPE 64 /* bytes of a file system's type with its NUL */
#define GLUSTER "fuse.glusterfs"
/* The virtual file of a mount of GlusterFS with its options. */
#define GLUSTER_OPTIONS "/.meta/graphs/active/volfile"
#define ROUNDS 8 /* calls whose fastest one is compared */
/*
 * An answer from memory takes less than a microsecond, and one of a process
 * more than ten.
 */
#define TIMES_FASTER 4

/* A mount, as /proc/self/mountinfo describes it. */
struct volume_mount {
	char type[TYPE];
	char point[PATH_MAX]; /* of the file system's root, or "" */
};

/*
 * Finds the mounts of the file system with this device. A blank in a mount
 * point is not decoded.
 */
static void
find_mount(dev_t device, struct volume_mount *m)
{
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *rest;
	size_t room = 0;

	strlcpy(m->type, "unknown", TYPE);
	m->point[0] = '\0';
	while (mounts != NULL && getline(&line, &room, mounts) != -1) {
		unsigned major, minor;
		int root, point, end = 0;

		/* If the line is too short, sscanf does not set end. */
		if (sscanf(line, "%*d %*d %u:%u %n%*s %n%*s%n", &major, &minor,
			&root, &point, &end) != 2 ||
		    end == 0 || makedev(major, minor) != device ||
		    (rest = strstr(line, " - ")) == NULL)
			continue;
		sscanf(rest, " - %63s", m->type);
		/* Another root is that of a bind mount. */
		line[end] = '\0';
		if (strncmp(line + root, "/ ", 2) == 0)
			strlcpy(m->point, line + point, sizeof(m->point));
	}
	free(line);
	if (mounts != NULL)
		fclose(mounts);
}

/*
 * Returns 1 if the mount of GlusterFS was made with client.strict-locks, 0 if
 * not, and -1 if that cannot be seen.
 */
static int
has_strict_locks(const struct volume_mount *m)
{
	char path[sizeof(m->point) + sizeof(GLUSTER_OPTIONS)], line[512];
	FILE *options = NULL;
	int answer = -1;

	snprintf(path, sizeof(path), "%s%s", m->point, GLUSTER_OPTIONS);
	if (m->point[0] != '\0')
		options = fopen(path, "re");
	while (answer != 1 && options != NULL &&
	    fgets(line, sizeof(line), options) != NULL) {
		char value[8] = "";

		sscanf(line, " option strict-locks %7s", value);
		answer = strcasecmp(value, "on") == 0 ||
		    strcasecmp(value, "yes") == 0 ||
		    strcasecmp(value, "true") == 0 ||
		    strcasecmp(value, "enable") == 0 || strcmp(value, "1") == 0;
	}
	if (options != NULL)
		fclose(options);
	return answer;
}

/*
 * Returns how many nanoseconds the fastest of some calls of statx takes with
 * these flags.
 */
static int64_t
measure(int fd, int flags)
{
	int64_t least = INT64_MAX;

	for (int i = 0; i < ROUNDS; i++) {
		struct timespec begin, end;
		struct statx st;
		int64_t ns;

		clock_gettime(CLOCK_MONOTONIC, &begin);
		if (statx(fd, "", AT_EMPTY_PATH | flags, STATX_BASIC_STATS,
			&st) == -1)
			return 0;
		clock_gettime(CLOCK_MONOTONIC, &end);
		ns = (end.tv_sec - begin.tv_sec) * INT64_C(1000000000) +
		    end.tv_nsec - begin.tv_nsec;
		if (ns < least)
			least = ns;
	}
	return least;
}

/*
 * Returns true if the kernel keeps the sizes and times of fd's file system.
 * Asks the server first, so that the kernel has what it may keep.
 */
static bool
keeps_times(int fd)
{
	int64_t asked = measure(fd, AT_STATX_FORCE_SYNC);

	return measure(fd, 0) < asked / TIMES_FASTER;
}

/* Prints if GlusterFS keeps a host that has lost its locks from writing. */
static void
check_strict_locks(struct check *c, const char *kind, const char *path,
    const struct volume_mount *m)
{
	switch (has_strict_locks(m)) {
	case 1:
		check_ok(c, kind, path,
		    "its mount has client.strict-locks: a host that has lost "
		    "its locks cannot write");
		break;
	case 0:
		check_warn(c, kind, path,
		    "gluster volume set VOLUME client.strict-locks on, and "
		    "mount it again",
		    "its mount does not have client.strict-locks: a host that "
		    "has lost its locks can damage a mailbox");
		break;
	default:
		check_ok(c, kind, path,
		    "client.strict-locks must be on; it cannot be seen here");
		break;
	}
}

void
check_volume(struct check *c, const char *kind, const char *path)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct volume_mount m;
	bool is_gluster;
	struct stat st;

	if (fd == -1)
		return;
	if (fstat(fd, &st) == 0 && volume_is_shared(fd)) {
		find_mount(st.st_dev, &m);
		is_gluster = strcmp(m.type, GLUSTER) == 0;
		if (keeps_times(fd))
			check_warn(c, kind, path,
			    is_gluster ?
				"mount it with attribute-timeout=0,"
				"entry-timeout=0,direct-io-mode=enable" :
				"if other hosts use it, mount it so that this "
				"host keeps no sizes, times and names",
			    "this host keeps sizes and times of its file "
			    "system (%s): a change by another host is seen "
			    "late, except by kpopd, which asks the server",
			    m.type);
		else
			check_ok(c, kind, path,
			    "its file system (%s) is asked for sizes and "
			    "times; what its client keeps cannot be seen here",
			    m.type);
		if (is_gluster)
			check_strict_locks(c, kind, path, &m);
	}
	close(fd);
}

/*
 * Returns 1 if other hosts may change the directory at path, 0 if only this
 * host may, or -1 if the directory cannot be opened.
 */
static int
is_shared_path(const char *path)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), result = -1;

	if (fd != -1) {
		result = volume_is_shared(fd);
		close(fd);
	}
	return result;
}

void
check_volumes_agree(struct check *c, const char *path)
{
	char users[PATH_MAX];
	int mailbox = is_shared_path(path), state;

	snprintf(users, sizeof(users), "%s/users", c->o.state);
	if ((state = is_shared_path(users)) == -1)
		state = is_shared_path(c->o.state);
	if (mailbox == 1 && state == 0)
		check_warn(c, "mailbox", path,
		    check_remedy(c,
			"if other hosts serve it, they must have %s, too: is "
			"it mounted?",
			users),
		    "other hosts may change it, but do not see the locks and "
		    "unfinished removals of this host in %s",
		    users);
	else if (mailbox == 0 && state == 1)
		check_warn(c, "mailbox", path,
		    "if other hosts have mailboxes of their own here, give "
		    "each host its own state directory",
		    "no other host sees it, but other hosts may have %s",
		    users);
}
