/* The log: see log.c. */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <syslog.h>

/*
 * The first byte of a packet to the monitor (monitor-watch.c): a line of the
 * log, or the system call for which the process ends.
 */
enum { LOG_LINE = 'l', LOG_CALL = 'c' };

#define LOG_EVENT 16  /* bytes of an event's name with its NUL */
#define LOG_TEXT 4096 /* bytes of the rest of a line with its NUL */

/*
 * What a process without a connection to syslog sends its monitor. The packet
 * ends with the last byte of the text, without a NUL.
 */
struct log_packet {
	char kind;
	unsigned char priority;
	char event[LOG_EVENT];
	int call; /* LOG_CALL: the number of the system call */
	char text[LOG_TEXT];
};

/* Bytes of a text that log_safe shows; the rest is left out. */
#define LOG_SHOWN 200

/* A text that is encoded for a value of a log line. */
struct log_text {
	char text[4 * LOG_SHOWN + 1];
};

/*
 * Connects or reconnects to syslog. It must be called before a chroot that
 * hides syslog's socket.
 */
void log_open(const char *program);

/*
 * Closes the connection to syslog. Sends the later lines of this process over
 * channel to its monitor, which decides what is written (monitor-watch.c).
 * Returns the channel that was used before, or -1 if this process wrote to
 * syslog.
 */
int log_through(int channel);

/*
 * Signal handler: reports that this process ends because of a forbidden system
 * call, with this number and name. Reports to the monitor or, in a kept
 * kpopd-tls, to syslog.
 */
void log_forbidden(int call, const char *name);

/*
 * Sets peer=, an address that kpopd has formatted, in every later line of this
 * process and its children.
 */
void log_peer(const char *peer);

/*
 * Adds mailbox=PATH to the end of the later lines of this process and its
 * children that concern a mailbox: failed, index, rescue, skipped,
 * uidl.
 */
void log_mailbox(const char *path);

/*
 * Writes one line "event peer=... key=value ..." with a syslog priority. In
 * format, a %s from outside the process must be encoded by log_safe, or by
 * log_words if it is between quotes.
 */
void log_event(int priority, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Logs that a step failed: the event "failed" with what="...", which the format
 * makes, and error="...". The error is `why`, or errno's text if why is NULL. A
 * %s or a why from outside must be encoded by log_safe or log_words. log_failed
 * logs at LOG_ERR with errno's text. Both keep errno.
 */
void log_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_failed_at(int priority, const char *why, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Logs that the client ended the connection before it sent a byte; with a
 * proxy, before it sent a byte after the header. This is not a refusal, because
 * monitors and balancers make such connections.
 */
void log_closed(void);

/*
 * Limits a line to one a minute, if a client or a user can repeat its cause. It
 * begins with all zeros.
 */
struct log_limit {
	/* no line before this moment, absolute ms of CLOCK_MONOTONIC */
	int64_t until;
	unsigned hidden; /* lines left out since the last one */
};

/*
 * Returns true if a line is due, with *more the number of lines left out before
 * it. Otherwise counts one more line that is left out. Keeps errno.
 */
bool log_due(struct log_limit *limit, unsigned *more);

/*
 * Encodes at most LOG_SHOWN bytes of a text from outside by vis(3). The result
 * has no control character, blank, double quote, or byte above 0x7e, so it can
 * neither end a value nor begin another. Returns t->text. Keeps errno.
 */
const char *log_safe(struct log_text *t, const char *text);

/* Does the same as log_safe, but keeps blanks, for texts between quotes. */
const char *log_words(struct log_text *t, const char *text);

/*
 * Makes log_end call act before it ends this process; NULL: log_end calls
 * nothing. In a child of this process, log_end does not call act.
 */
void log_before_end(void (*act)(void));

/* Ends the process with this exit status, after a fatal error was logged. */
_Noreturn void log_end(int status);

/* Logs what failed, with errno's text, and ends the process (log_end). */
_Noreturn void fatal(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

#endif
