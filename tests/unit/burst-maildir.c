/*
 * Opens, reads and empties a Maildir while another program renames files
 * without a pause: burst-maildir [LOGINS].
 *
 * Runs as any user. No message may be missing, listed twice or refused.
 */
#include "config.h"

#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "maildir.h"
#include "tests/unit/check.h"
#include "tests/unit/drop.h"

#define WHERE "maildir:~/Maildir"
#define LOGINS 60 /* logins for each size of the Maildir */
#define MOST_MESSAGES 2000

static const char *const flags[] = { "", "S", "RS", "FS" };
static int top;

/*
 * Stores the path, below the Maildir, that message i has after the given number
 * of flag changes.
 */
static void
name_of(int i, unsigned changes, char name[64])
{
	snprintf(name, 64, "cur/%d.M%d.host:2,%s", 1000000000 + i,
	    i * 7919 % 100000, flags[changes % 4]);
}

/* Makes a Maildir of n messages, and changes to that directory. */
static void
fill(int n)
{
	char name[64], text[64];

	CHECK(mkdirat(top, "Maildir", 0700) == 0 &&
	    mkdirat(top, "Maildir/new", 0700) == 0 &&
	    mkdirat(top, "Maildir/cur", 0700) == 0);
	CHECK(fchdir(top) == 0 && chdir("Maildir") == 0);
	for (int i = 0; i < n; i++) {
		int fd,
		    size = snprintf(text, sizeof(text), "Subject: %d\n\nbody\n",
			i);

		name_of(i, 0, name);
		CHECK((fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600)) !=
		    -1);
		CHECK(write(fd, text, (size_t)size) == size && close(fd) == 0);
	}
}

/*
 * Starts a process that changes the flags of random messages, one after the
 * other. Returns its pid.
 */
static pid_t
start_renaming(int n)
{
	static unsigned changes[MOST_MESSAGES];
	char from[64], to[64];
	unsigned random = 1;
	pid_t pid = fork();

	CHECK(pid != -1);
	if (pid != 0)
		return pid;
	CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() != 1);
	for (;;) {
		int i = (int)(((random = random * 1103515245U + 12345U) >> 8) %
		    (unsigned)n);

		name_of(i, changes[i], from);
		name_of(i, ++changes[i], to);
		/* ENOENT means that the message was removed. */
		CHECK(rename(from, to) == 0 || errno == ENOENT);
	}
}

/*
 * Returns true if message i is the file whose number is i * step. Compares the
 * id. If read_it is true, also compares the text.
 */
static bool
is_right(struct maildrop *drop, int i, int step, bool read_it)
{
	char id[UIDL_SIZE], want[64], text[64];
	struct span s;
	ssize_t got;
	int k = i * step;

	name_of(k, 0, want);
	maildrop_uidl(drop, (size_t)i + 1, id);
	if (strncmp(id, want + strlen("cur/"), strlen(id)) != 0 ||
	    want[strlen("cur/") + strlen(id)] != ':')
		return false;
	if (!read_it)
		return true;
	if (maildrop_begin(drop, (size_t)i + 1, &s) != DROP_OK ||
	    (got = maildrop_read(&s, text, sizeof(text) - 1)) <= 0)
		return false;
	text[got] = '\0';
	return atoi(text + strlen("Subject: ")) == k &&
	    maildrop_end(drop, (size_t)i + 1, &s, s.wire_size);
}

/*
 * Opens a session, which must find "count" messages. Reads some of the
 * messages. Returns true if all of them are right.
 */
static bool
login(int count, int step, unsigned number)
{
	struct maildrop drop;

	if (drop_begin(&drop, WHERE) != DROP_OK ||
	    drop.count != (size_t)count) {
		fprintf(stderr, "%zu messages of %d\n", drop.count, count);
		return false;
	}
	for (int i = 0; i < count; i++)
		if (!is_right(&drop, i, step,
			(unsigned)i % 64 == number % 64)) {
			fprintf(stderr,
			    "message %d of %d is wrong or refused\n", i, count);
			return false;
		}
	return true;
}

/*
 * Removes every second one of n messages. Returns true if all these messages
 * are gone.
 */
static bool
remove_half(int n)
{
	struct maildrop drop;
	size_t removed;

	if (drop_begin(&drop, WHERE) != DROP_OK || drop.count != (size_t)n)
		return false;
	for (size_t i = 2; i <= drop.count; i += 2)
		maildrop_mark(&drop, i);
	return maildrop_commit(&drop, &removed) == DROP_OK &&
	    removed == (size_t)n / 2;
}

/*
 * Runs a session in its own process. If step is 0, the session removes
 * messages. Returns 1 if the session was right, and 0 if it was not.
 */
static int
run_session(int n, int step, unsigned number)
{
	int status;
	pid_t pid = fork();

	CHECK(pid != -1);
	if (pid == 0) {
		if (number % 2 == 1)
			maildir_small = 0;
		_exit(step == 0 ? !remove_half(n) : !login(n, step, number));
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int
main(int argc, char **argv)
{
	static const int sizes[] = { 3, 200, MOST_MESSAGES };
	const unsigned logins = argc > 1 ? (unsigned)atol(argv[1]) : LOGINS;
	long points = 0, right = 0;

	top = drop_directory();
	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		const int n = sizes[k];
		char away[32];
		pid_t pid;

		fill(n);
		pid = start_renaming(n);
		for (unsigned i = 0; i < logins; i++, points++)
			right += run_session(n, 1, i);
		right += run_session(n, 0, 0);
		right += run_session(n - n / 2, 2, 0);
		points += 2;
		CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
		snprintf(away, sizeof(away), "Maildir%d", n);
		CHECK(renameat(top, "Maildir", top, away) == 0);
	}
	printf("logins while another program renames: %ld points, %ld bad\n",
	    points, points - right);
	CHECK(chdir("/") == 0);
	return drop_clean_up() != 0 || right < points;
}
