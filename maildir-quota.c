/*
 * Tells the quota of a Maildir what was removed: one line in its maildirsize.
 *
 * Runs as the owner of the mailbox. Maildir++ (README.maildirquota of Courier)
 * keeps the quota in the first line of maildirsize, and after it lines of two
 * numbers, bytes and messages, whose sums are what the mailbox contains. A
 * program that delivers refuses mail for 15 minutes after it has counted a full
 * mailbox, unless another program has added a line meanwhile.
 *
 * All that a session removes becomes one line in one write, because the file is
 * not locked. The line comes after the removal. If the session dies between
 * them, the sums are too high until the next program counts again; no mail is
 * lost by that.
 *
 * The file is the user's and may be anything. It is never made, never
 * truncated, and only appended to if it is what other programs would use.
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

#define NAME "maildirsize"
#define MOST 5120 /* bytes: a file of this size or more is counted again before anybody uses it */
#define WHAT "what=\"updating the Maildir's " NAME "\""

/*
 * Returns the size by which a message was counted: the number after the last
 * ",S=" before the flags of its name, or else the file's.
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

/* Returns true if the name has the flag of deleted messages, which Courier does not count and Dovecot does. */
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
	if (__builtin_add_overflow(q->bytes, counted_size(name, size), &q->bytes) || q->bytes > INT64_MAX)
		q->bytes = INT64_MAX;
}

/* Opens the file. Returns -1 if there is none, or it is not one to write to, which is logged. */
static int
open_sizes(int dir)
{
	struct stat st;
	int fd = openat(dir, NAME, O_RDWR | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
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
	log_event(LOG_WARNING, "failed", WHAT " error=\"%s\"", why);
	if (fd != -1)
		close(fd);
	return -1;
}

/*
 * Returns true if a line may be appended. A file without its first line would
 * take ours for the quota, and half a line would become another number with it.
 * To a file that is counted again before its next use nothing is appended;
 * otherwise it could grow forever.
 */
static bool
takes_line(int fd)
{
	char text[MOST];
	ssize_t n;

	do
		n = pread(fd, text, sizeof(text), 0);
	while (n == -1 && errno == EINTR);
	return n > 0 && n < MOST && text[n - 1] == '\n';
}

void
quota_tell(const struct quota *q, int dir)
{
	char line[64];
	ssize_t put;
	int fd, n;

	if ((q->messages == 0 && !q->is_uncertain) || (fd = open_sizes(dir)) == -1)
		return;
	if (takes_line(fd)) {
		/* As wide as Courier's lines. A line of zeros, if nobody knows what was counted, makes other programs count again. */
		n = snprintf(line, sizeof(line), "%12jd %12jd\n", -(intmax_t)q->bytes, -(intmax_t)q->messages);
		put = write(fd, line, (size_t)n);
		if (put != n)
			log_event(LOG_WARNING, "failed", WHAT " error=\"%s\"", put == -1 ? strerror(errno) : "it was cut off");
	}
	close(fd);
}
