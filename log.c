/*
 * syslog: "event peer=address key=value …", nothing raw from outside.
 *
 * Runs as all: root, the pre-auth user, the owner of the mailbox. Facility mail.
 * The address stands before any text that a client chose, so that tools which
 * read the log from the left (fail2ban) cannot be misled.
 *
 * A process that reads what clients send has no connection to syslog, over which
 * it could write any line as any program. It sends its lines to its monitor.
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

/* How long a syslogd that is there and takes nothing holds up a process, once. */
#define PATIENCE_MS 1000
/* log_due: one line in so many ms. */
#define INTERVAL_MS 60000

static struct address_text peer = { "none" };
static int line = -1;         /* to syslogd, as far as we know; -1: syslog(3) will open one */
static int channel = -1;      /* to the monitor, which writes our lines; -1: this process writes them itself */
static int patience = PATIENCE_MS;

void
log_open(const char *program)
{
	/* syslog asks for the zone; in the pre-auth process's chroot its file is gone. */
	tzset();
	closelog();
	/* openlog takes the lowest number, and does not say which. */
	if ((line = dup(0)) != -1)
		close(line);
	openlog(program, LOG_PID | LOG_NDELAY, LOG_MAIL);
}

void
log_through(int to)
{
	closelog();
	line = -1;
	channel = to;
}

/*
 * Returns true if syslogd or the monitor has room for a line; syslog(3) would
 * wait for it forever. If syslogd was restarted, the descriptor may now be
 * another file; that one is writable, and syslog(3) reconnects.
 */
static int
has_room(void)
{
	struct pollfd p = { .fd = channel != -1 ? channel : line, .events = POLLOUT };

	if (p.fd == -1 || poll(&p, 1, patience) != 0)
		return 1;
	patience = 0;
	return 0;
}

void
log_peer(const char *address)
{
	strlcpy(peer.text, address, sizeof(peer.text));
}

static void write_line(int, const char *, const char *, va_list)
    __attribute__((format(printf, 3, 0)));

static void
write_line(int priority, const char *event, const char *format, va_list ap)
{
	struct log_packet packet = { .kind = LOG_LINE, .priority = (unsigned char)priority };

	vsnprintf(packet.text, sizeof(packet.text), format, ap);
	if (!has_room())
		return;
	if (channel == -1) {
		syslog(priority, "%s peer=%s %s", event, peer.text, packet.text);
		return;
	}
	strlcpy(packet.event, event, sizeof(packet.event));
	/* A monitor that was killed leaves its processes to end as they would. */
	send(channel, &packet, offsetof(struct log_packet, text) + strlen(packet.text), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void
log_event(int priority, const char *event, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	write_line(priority, event, format, ap);
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
	log_event(priority, "failed", "what=\"%s\" error=\"%s\"", what, why != NULL ? why : strerror(error));
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
log_forbidden(int call)
{
	const struct log_packet packet = { .kind = LOG_CALL, .call = call };

	if (channel != -1)
		send(channel, &packet, offsetof(struct log_packet, text), MSG_DONTWAIT | MSG_NOSIGNAL);
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

static const char *
visible(struct log_text *t, const char *text, int flags)
{
	size_t n = strnlen(text, LOG_SHOWN);

	strvisx(t->text, text, n, flags | VIS_OCTAL | VIS_TAB | VIS_NL | VIS_DQ);
	return t->text;
}

const char *
log_safe(struct log_text *t, const char *text)
{
	return visible(t, text, VIS_SP);
}

const char *
log_words(struct log_text *t, const char *text)
{
	return visible(t, text, 0);
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
	_exit(1);
}
