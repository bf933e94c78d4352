/*
 * Writes the log: lines "event peer=address key=value ..." to syslog, facility
 * mail.
 *
 * Runs in every process. Nothing from outside reaches syslog without encoding.
 * The address comes before any text that a client chose, so that tools which
 * read a line from the left (fail2ban) cannot be misled.
 *
 * A process that reads what clients send has no connection to syslog, because
 * with one it could write any line as any program. It sends its lines to its
 * monitor.
 */
#include "config.h"

#include <sys/socket.h>

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <vis.h>

#include "address.h"
#include "clock.h"
#include "log.h"

/*
 * How long a process waits, once, for a syslogd or a monitor that takes no
 * line.
 */
#define WAIT_MS 1000
/* The log interval of log_due. */
#define INTERVAL_MS 60000

static struct address_text peer = { "none" };
static struct log_text mailbox; /* see log_mailbox; "": none */
/* probably the descriptor of syslog(3); -1: it will open one */
static int syslog_fd = -1;
/*
 * to the monitor, which writes the lines; -1: this process writes them itself
 */
static int channel = -1;
static int wait_ms = WAIT_MS;
static void (*before_end)(void); /* see log_before_end; NULL: nothing */
static pid_t before_end_of;      /* only this process does it */

void
log_open(const char *program)
{
	/*
	 * The time zone is read now, because syslog(3) needs it and a jail does
	 * not have its file.
	 */
	tzset();
	closelog();
	/*
	 * openlog(3) does not return its descriptor, but opens the lowest free
	 * one, as dup does here.
	 */
	if ((syslog_fd = dup(0)) != -1)
		close(syslog_fd);
	openlog(program, LOG_PID | LOG_NDELAY, LOG_MAIL);
}

int
log_through(int to)
{
	int before = channel;

	closelog();
	syslog_fd = -1;
	channel = to;
	return before;
}

/*
 * Waits, for at most WAIT_MS, until syslogd or the monitor can take a line.
 * After one wait in vain it does not wait any more. Returns false if the line
 * still cannot be taken; then syslog(3) would block forever.
 *
 * After a restart of syslogd, syslog(3) reconnects, perhaps with another
 * descriptor. Then syslog_fd may be another file, for which this function does
 * not wait, because that file is writable.
 */
static bool
await_room(void)
{
	struct pollfd p = { .fd = channel != -1 ? channel : syslog_fd,
		.events = POLLOUT };

	if (p.fd == -1 || poll(&p, 1, wait_ms) != 0)
		return true;
	wait_ms = 0;
	return false;
}

void
log_peer(const char *address)
{
	strlcpy(peer.text, address, sizeof(peer.text));
}

void
log_mailbox(const char *path)
{
	log_safe(&mailbox, path);
}

/* Returns true if lines of this event end with the path of the mailbox. */
static bool
names_mailbox(const char *event)
{
	static const char *const events[] = { "failed", "index", "rescue",
		"skipped", "uidl" };

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		if (strcmp(event, events[i]) == 0)
			return mailbox.text[0] != '\0';
	return false;
}

static void write_event(int, const char *, const char *, va_list)
    __attribute__((format(printf, 3, 0)));

static void
write_event(int priority, const char *event, const char *format, va_list ap)
{
	struct log_packet packet = { .kind = LOG_LINE,
		.priority = (unsigned char)priority };

	vsnprintf(packet.text, sizeof(packet.text), format, ap);
	if (names_mailbox(event)) {
		strlcat(packet.text, " mailbox=", sizeof(packet.text));
		strlcat(packet.text, mailbox.text, sizeof(packet.text));
	}
	if (!await_room())
		return;
	if (channel == -1) {
		syslog(priority, "%s peer=%s %s", event, peer.text,
		    packet.text);
		return;
	}
	strlcpy(packet.event, event, sizeof(packet.event));
	/*
	 * If the monitor was killed, the line is lost and the process goes on.
	 */
	send(channel, &packet,
	    offsetof(struct log_packet, text) + strlen(packet.text),
	    MSG_DONTWAIT | MSG_NOSIGNAL);
}

void
log_event(int priority, const char *event, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	write_event(priority, event, format, ap);
	va_end(ap);
}

static void write_failed(int, const char *, const char *, va_list)
    __attribute__((format(printf, 3, 0)));

static void
write_failed(int priority, const char *why, const char *format, va_list ap)
{
	int error = errno;
	char what[LOG_TEXT];

	vsnprintf(what, sizeof(what), format, ap);
	log_event(priority, "failed", "what=\"%s\" error=\"%s\"", what,
	    why != NULL ? why : strerror(error));
	errno = error;
}

void
log_failed(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	write_failed(LOG_ERR, NULL, format, ap);
	va_end(ap);
}

void
log_failed_at(int priority, const char *why, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	write_failed(priority, why, format, ap);
	va_end(ap);
}

void
log_forbidden(int call, const char *name)
{
	const struct log_packet packet = { .kind = LOG_CALL, .call = call };
	char line[LOG_TEXT];
	int n;

	if (channel != -1) {
		send(channel, &packet, offsetof(struct log_packet, text),
		    MSG_DONTWAIT | MSG_NOSIGNAL);
		return;
	}
	/* syslog(3) might wait for a lock that the interrupted code holds. */
	n = snprintf(line, sizeof(line),
	    "<%d>kpopd-tls[%ld]: fatal peer=none error=\"a kept kpopd-tls was "
	    "ended for the system call %s\"",
	    LOG_MAIL | LOG_ALERT, (long)getpid(), name);
	send(syslog_fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void
log_closed(void)
{
	log_event(LOG_INFO, "closed", "reason=\"before the first byte\"");
}

bool
log_due(struct log_limit *limit, unsigned *more)
{
	int64_t now = clock_ms();

	if (now < limit->until) {
		limit->hidden++;
		return false;
	}
	*more = limit->hidden;
	*limit = (struct log_limit){ .until = now + INTERVAL_MS };
	return true;
}

/*
 * Encodes the characters that vis(3) encodes by these flags, and all that could
 * end a value in double quotes. Keeps errno, which vis(3) sets for a byte above
 * 0x7f. The text is often an argument of log_failed, which logs errno.
 */
static const char *
encode(struct log_text *t, const char *text, int flags)
{
	size_t n = strnlen(text, LOG_SHOWN);
	int error = errno;

	strvisx(t->text, text, n,
	    flags | VIS_OCTAL | VIS_TAB | VIS_NL | VIS_DQ);
	errno = error;
	return t->text;
}

const char *
log_safe(struct log_text *t, const char *text)
{
	return encode(t, text, VIS_SP);
}

const char *
log_words(struct log_text *t, const char *text)
{
	return encode(t, text, 0);
}

void
log_before_end(void (*act)(void))
{
	before_end = act;
	before_end_of = getpid();
}

void
log_end(int status)
{
	void (*act)(void) = before_end;

	before_end = NULL;
	if (act != NULL && getpid() == before_end_of)
		act();
	_exit(status);
}

void
fatal(const char *format, ...)
{
	int error = errno;
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	log_event(LOG_ERR, "fatal", "error=\"%s: %s\"", text, strerror(error));
	log_end(1);
}
