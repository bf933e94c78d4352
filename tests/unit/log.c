/*
 * Unit tests of log.c: the encoding of texts from outside, the log interval,
 * and the path of the mailbox in a line. Runs as any user.
 */
#include "config.h"

#include <sys/socket.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "tests/unit/check.h"

/* The test's monotonic clock, in ms. */
static int64_t now = 1000;

int __wrap_clock_gettime(clockid_t, struct timespec *);
int
__wrap_clock_gettime(clockid_t which, struct timespec *t)
{
	CHECK(which == CLOCK_MONOTONIC);
	*t = (struct timespec){ .tv_sec = now / 1000,
		.tv_nsec = (long)(now % 1000 * 1000000) };
	return 0;
}

/*
 * The first line is logged at once. The next line is logged a minute later,
 * with the number of lines that were left out. Each kind of line has its own
 * interval.
 */
static void
one_line_a_minute(void)
{
	struct log_limit limit = { .until = 0 }, other = { .until = 0 };
	unsigned more = 7;

	errno = EIO;
	CHECK(log_due(&limit, &more) && more == 0);
	for (int i = 0; i < 1000; i++, now += 59)
		CHECK(!log_due(&limit, &more));
	CHECK(log_due(&other, &more) && more == 0);
	now += 1000;
	CHECK(log_due(&limit, &more) && more == 1000);
	CHECK(!log_due(&limit, &more));
	now += 60000;
	CHECK(log_due(&limit, &more) && more == 1);
	now += 600000;
	CHECK(log_due(&limit, &more) && more == 0);
	CHECK(errno == EIO);
}

/* Returns true if a line of this event has the text at its end. */
static bool
ends_with(int fds[2], const char *event, const char *text)
{
	struct log_packet p;
	ssize_t n;

	log_event(LOG_ERR, event, "what=x");
	memset(&p, 0, sizeof(p));
	n = recv(fds[1], &p, sizeof(p), 0);
	CHECK(n > (ssize_t)offsetof(struct log_packet, text));
	CHECK(strcmp(p.event, event) == 0);
	return strcmp(p.text + strlen("what=x"), text) == 0;
}

/* Only lines about a mailbox have its path, and only after log_mailbox. */
static void
lines_of_a_mailbox(void)
{
	static const char *const events[] = { "failed", "index", "rescue",
		"skipped" };
	static const char *const others[] = { "login", "logout", "refused",
		"fatal", "recovery", "replay" };
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds) == 0);
	log_through(fds[0]);
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		CHECK(ends_with(fds, events[i], ""));
	log_mailbox("/home/a b/\n\"Maildir");
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		CHECK(ends_with(fds, events[i],
		    " mailbox=/home/a\\040b/\\012\\042Maildir"));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		CHECK(ends_with(fds, others[i], ""));
	log_through(-1);
	close(fds[0]);
	close(fds[1]);
}

int
main(void)
{
	struct log_text t;
	char all[256], long_one[1000];

	for (int i = 0; i < 255; i++)
		all[i] = (char)(i + 1);
	all[255] = '\0';
	/*
	 * log_safe must not change errno, because log_failed("opening %s",
	 * log_safe(&t, path)) logs it.
	 */
	errno = EIO;
	log_safe(&t, all + 0x80);
	log_words(&t, "/home/j\303\266rg");
	CHECK(errno == EIO);
	for (const char *p = all; *p != '\0';
	     p += strlen(p) < LOG_SHOWN ? strlen(p) : LOG_SHOWN)
		for (const char *q = log_safe(&t, p); *q != '\0'; q++)
			CHECK(*q > ' ' && *q < 0x7f && *q != '"');
	CHECK(strcmp(log_safe(&t, "alice@EXAMPLE.COM"), "alice@EXAMPLE.COM") ==
	    0);
	CHECK(strcmp(log_safe(&t, "a b\n\"\\"), "a\\040b\\012\\042\\134") ==
		0 ||
	    strcmp(log_safe(&t, "a b\n\"\\"), "a\\040b\\012\\042\\\\") == 0);
	CHECK(strcmp(log_words(&t, "No key \"x\"\r"),
		  "No key \\042x\\042\\015") == 0);

	memset(long_one, 'x', sizeof(long_one) - 1);
	long_one[sizeof(long_one) - 1] = '\0';
	CHECK(strlen(log_safe(&t, long_one)) == LOG_SHOWN);
	memset(long_one, '\n', sizeof(long_one) - 1);
	CHECK(strlen(log_safe(&t, long_one)) == 4 * LOG_SHOWN);
	one_line_a_minute();
	lines_of_a_mailbox();
	return 0;
}
