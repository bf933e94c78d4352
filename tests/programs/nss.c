/*
 * A name service that gives the answers that a test specifies (nsswitch.conf:
 * "passwd: files kpopd_test").
 *
 * Its accounts are the lines of /run/nss, a file that it reads in each call. A
 * line consists of
 *
 * 	NAME SECONDS ANSWER [UID HOME]
 *
 * A call for this name or uid takes SECONDS. ANSWER is "found", "absent" (the
 * account does not exist), "down" (try again), "for-root" or "logs". "for-root"
 * means the same as "found", but takes no time if root calls. "logs" waits for
 * ever in syslog(3). If two lines have the same name, the first line is for
 * processes with an even pid. The second line is for processes with an odd pid.
 * Each call appends a line to /run/nss.asked. If /run/nss.folds exists, the
 * case of names does not matter.
 *
 * Runs in every process that looks up an account, as that process's user.
 */
#include <errno.h>
#include <fcntl.h>
#include <nss.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

enum nss_status _nss_kpopd_test_getpwnam_r(const char *name, struct passwd *pw,
    char *room, size_t size, int *error);
enum nss_status _nss_kpopd_test_getpwuid_r(uid_t uid, struct passwd *pw,
    char *room, size_t size, int *error);

struct line {
	char name[64], answer[16], home[256];
	unsigned seconds, uid;
};

/* Returns 1 if "name" is the name of the account in "known". */
static int
is_name(const char *name, const char *known)
{
	return access("/run/nss.folds", F_OK) == 0 ?
	    strcasecmp(name, known) == 0 :
	    strcmp(name, known) == 0;
}

/*
 * Finds the line with the given name. If "name" is NULL, finds the line with
 * the given uid. Returns 1 if there is such a line.
 */
static int
find(const char *name, unsigned uid, struct line *found)
{
	FILE *file = fopen("/run/nss", "re");
	struct line one;
	int n = 0, wanted = getpid() % 2;

	if (file == NULL)
		return 0;
	while (n <= wanted &&
	    fscanf(file, "%63s %u %15s %u %255s", one.name, &one.seconds,
		one.answer, &one.uid, one.home) == 5)
		if (name != NULL ? is_name(name, one.name) : one.uid == uid) {
			*found = one;
			n++;
		}
	fclose(file);
	return n > 0;
}

/* Appends a line to /run/nss.asked, if it exists. */
static void
note(const char *name, unsigned uid)
{
	int fd = open("/run/nss.asked", O_WRONLY | O_APPEND | O_CLOEXEC);

	if (fd != -1) {
		dprintf(fd, "%s %u by=%u\n", name != NULL ? name : "-", uid,
		    (unsigned)geteuid());
		close(fd);
	}
}

/*
 * Waits for ever in syslog(3), which keeps its lock meanwhile: it also writes
 * to fd 2, which is a full pipe.
 */
static void
wait_in_syslog(void)
{
	static const char block[4096];
	int ends[2];

	if (pipe(ends) == -1 || fcntl(ends[1], F_SETFL, O_NONBLOCK) == -1)
		return;
	while (write(ends[1], block, sizeof(block)) > 0)
		;
	fcntl(ends[1], F_SETFL, 0);
	dup2(ends[1], STDERR_FILENO);
	openlog("nss", LOG_PERROR, LOG_MAIL);
	syslog(LOG_INFO, "the name service waits");
}

/*
 * Answers a call for the given name. If "name" is NULL, answers a call for the
 * given uid.
 */
static enum nss_status
answer(const char *name, unsigned uid, struct passwd *pw, char *room,
    size_t size, int *error)
{
	struct line l;
	int n;

	if (!find(name, uid, &l))
		return NSS_STATUS_NOTFOUND;
	note(name, uid);
	if (strcmp(l.answer, "logs") == 0)
		wait_in_syslog();
	if (strcmp(l.answer, "for-root") != 0 || geteuid() != 0)
		for (struct timespec left = { l.seconds, 0 };
		     nanosleep(&left, &left) == -1;)
			;
	*error = EAGAIN;
	if (strcmp(l.answer, "down") == 0)
		return NSS_STATUS_TRYAGAIN;
	*error = ENOENT;
	if (strcmp(l.answer, "absent") == 0)
		return NSS_STATUS_NOTFOUND;
	*error = ERANGE;
	n = snprintf(room, size, "%s", l.name);
	if ((size_t)n + 1 + strlen(l.home) + 1 + 20 > size)
		return NSS_STATUS_TRYAGAIN;
	strcpy(room + n + 1, l.home);
	strcpy(room + n + 1 + strlen(l.home) + 1, "/bin/sh");
	*pw = (struct passwd){ .pw_name = room,
		.pw_passwd = room + n,
		.pw_uid = l.uid,
		.pw_gid = l.uid,
		.pw_gecos = room + n,
		.pw_dir = room + n + 1,
		.pw_shell = room + n + 1 + strlen(l.home) + 1 };
	*error = 0;
	return NSS_STATUS_SUCCESS;
}

enum nss_status
_nss_kpopd_test_getpwnam_r(const char *name, struct passwd *pw, char *room,
    size_t size, int *error)
{
	return answer(name, 0, pw, room, size, error);
}

enum nss_status
_nss_kpopd_test_getpwuid_r(uid_t uid, struct passwd *pw, char *room,
    size_t size, int *error)
{
	return answer(NULL, uid, pw, room, size, error);
}
