/*
 * Updates the quota of a Maildir after a removal: appends one line to its
 * maildirsize.
 *
 * Runs in the session, as the owner of the mailbox. Maildir++
 * (README.maildirquota of Courier) keeps the quota in the first line of
 * maildirsize. Each further line contains a number of bytes and a number of
 * messages. The sums of these numbers are the size of the mailbox and the
 * number of its messages. If a delivering program finds that the mailbox is
 * full, it refuses mail for 15 minutes, unless another program adds a line in
 * that time.
 *
 * All removals of a session become one line in one write, because the file is
 * not locked. The line is written after the removal. If the session dies
 * between removal and write, no mail is lost, but the sums are too high until a
 * program counts again.
 *
 * The file belongs to the user and may be anything. The session never creates
 * or truncates it. The session appends a line only if other programs could use
 * the file with that line (can_append).
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "maildir-quota.h"
#include "volume.h"

#define NAME "maildirsize"
/*
 * Other programs count again before they use a file of this many bytes or more.
 */
#define SIZE_MOST 5120
#define WHAT "updating the Maildir's " NAME

/*
 * Returns the size with which other programs have counted a message. This is
 * the number after the last ",S=" before the flags of its name. If the name has
 * no such number, it is the size of the file.
 */
static uint64_t
counted_size(const char *name, off_t size)
{
	static const char mark[] = ",S=";
	const char *end = strchrnul(name, ':'), *last = NULL;
	uintmax_t value;

	for (const char *p = name; (p = strstr(p, mark)) != NULL && p < end;)
		last = p += sizeof(mark) - 1;
	if (last == NULL || *last < '0' || *last > '9')
		return (uint64_t)size;
	errno = 0;
	value = strtoumax(last, NULL, 10);
	return errno == 0 && value <= INT64_MAX ? value : (uint64_t)size;
}

/*
 * Returns true if the name has the flag T of deleted messages. Courier does not
 * count these messages, Dovecot does.
 */
static bool
is_trashed(const char *name)
{
	const char *flags = strstr(name, ":2,");

	return flags != NULL && strchr(flags, 'T') != NULL;
}

void
quota_note(struct quota *q, const char *name, off_t size)
{
	if (is_trashed(name)) {
		q->is_uncertain = true;
		return;
	}
	q->messages++;
	if (__builtin_add_overflow(q->bytes, counted_size(name, size),
		&q->bytes) ||
	    q->bytes > INT64_MAX)
		q->bytes = INT64_MAX;
}

/*
 * Opens the file. Returns its descriptor. Returns -1 if the file is absent,
 * cannot be opened, or must not be written to. Logs the reason unless the file
 * is absent.
 */
static int
open_sizes(int dir)
{
	struct stat st;
	int fd = volume_open(dir, NAME,
	    O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	const char *why = NULL;

	if (fd == -1 && errno == ENOENT)
		return -1;
	if (fd == -1 || fstat(fd, &st) == -1)
		why = strerror(errno);
	else if (!S_ISREG(st.st_mode))
		why = "it is not a regular file";
	else if (st.st_uid != geteuid())
		why = "it has another owner";
	if (why == NULL)
		return fd;
	log_failed_at(LOG_WARNING, why, WHAT);
	if (fd != -1)
		close(fd);
	return -1;
}

/*
 * Returns true if a line may be appended. If the file is empty, the new line
 * would be the first and so the quota. If the last line has no end, the new
 * line would change a number in it. If the file has SIZE_MOST bytes, other
 * programs count again before they use it, and with more lines it could grow
 * forever.
 */
static bool
can_append(int fd)
{
	char text[SIZE_MOST];
	ssize_t n;

	do
		n = pread(fd, text, sizeof(text), 0);
	while (n == -1 && errno == EINTR);
	return n > 0 && n < SIZE_MOST && text[n - 1] == '\n';
}

void
quota_update(const struct quota *q, int dir)
{
	char line[64];
	ssize_t put;
	int fd, n;

	if ((q->messages == 0 && !q->is_uncertain) ||
	    (fd = open_sizes(dir)) == -1)
		return;
	if (can_append(fd)) {
		/*
		 * The line is as wide as Courier's. If only messages with the
		 * flag T were removed, the line contains zeros. It is written
		 * nevertheless, because after any new line other programs count
		 * a full mailbox again.
		 */
		n = snprintf(line, sizeof(line), "%12jd %12jd\n",
		    -(intmax_t)q->bytes, -(intmax_t)q->messages);
		put = write(fd, line, (size_t)n);
		if (put != n)
			log_failed_at(LOG_WARNING,
			    put == -1 ? NULL :
					"only a part of the line was written",
			    WHAT);
	}
	close(fd);
}
