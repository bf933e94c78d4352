/*
 * Starts a command whose standard input and output speak POP3, in place of a
 * connection; and reads a password from a file, for a server without Kerberos.
 *
 * Runs as the caller. The password is in no argument and no environment, where
 * other users of the machine could read it.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/stat.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "kpopc.h"

int
command_start(const char *command)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == -1)
		err(EXIT_REFUSED, "socketpair");
	if ((pid = fork()) == -1)
		err(EXIT_REFUSED, "fork");
	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		if (dup2(ends[1], STDIN_FILENO) == -1 ||
		    dup2(ends[1], STDOUT_FILENO) == -1)
			err(EXIT_REFUSED, "dup2");
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		err(EXIT_REFUSED, "/bin/sh");
	}
	close(ends[1]);
	return ends[0];
}

/* Ends the process if other users can read or change the file. */
static void
require_private(int fd, const char *file)
{
	struct stat st;

	if (fstat(fd, &st) == -1)
		err(EXIT_REFUSED, "%s", file);
	if (st.st_uid != geteuid() || (st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
		errx(EXIT_REFUSED,
		    "%s: other users have rights to it (run chmod 600)", file);
}

void
command_read_password(const char *file, char password[LINE_USER + 1])
{
	char text[LINE_USER + 2];
	int fd = open(file, O_RDONLY | O_CLOEXEC);
	size_t n = 0;
	ssize_t got;

	if (fd == -1)
		err(EXIT_REFUSED, "%s", file);
	require_private(fd, file);
	while (n < sizeof(text) - 1 &&
	    (got = read(fd, text + n, sizeof(text) - 1 - n)) != 0) {
		if (got == -1 && errno != EINTR)
			err(EXIT_REFUSED, "%s", file);
		n += got > 0 ? (size_t)got : 0;
	}
	close(fd);
	if (memchr(text, '\n', n) != NULL)
		n = (size_t)((char *)memchr(text, '\n', n) - text);
	text[n] = '\0';
	if (strlen(text) != n || !login_is_word(text))
		errx(EXIT_REFUSED,
		    "%s: the first line is not a password of 1 to %d bytes "
		    "without control characters",
		    file, LINE_USER);
	strlcpy(password, text, LINE_USER + 1);
	explicit_bzero(text, sizeof(text));
}
