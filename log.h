/* The audit log: see log.c. */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <syslog.h>

/* The first byte of a packet to the monitor (monitor-watch.c): a line, or the system call for which a process is ended. */
enum { LOG_LINE = 'l', LOG_CALL = 'c' };

#define LOG_EVENT 16  /* an event's name, with its NUL */
#define LOG_TEXT 4096 /* the rest of a line */

/* What a process that may not write to syslog itself sends its monitor. A line's text is as long as the packet. */
struct log_packet {
	char kind;
	unsigned char priority;
	char event[LOG_EVENT];
	int call; /* LOG_CALL: its number */
	char text[LOG_TEXT];
};

/* log_safe: this many bytes of a text are shown, the rest is cut off. */
#define LOG_SHOWN 200

/* A text made fit for one value of a log line. */
struct log_text {
	char text[4 * LOG_SHOWN + 1];
};

/* Connects to syslog before a chroot could hide it; anew, if it was before. */
void log_open(const char *program);

/*
 * From now on the lines of this process go to its monitor, over channel, and it
 * has no connection to syslog. The monitor decides what is written (monitor-watch.c).
 */
void log_through(int channel);

/* In a signal handler: tells the monitor that this process ends because of a forbidden system call. */
void log_forbidden(int call);

/* Every later line of this process and its children carries peer (an address that we formatted). */
void log_peer(const char *peer);

/*
 * Writes one line "event peer=… key=value …" at a syslog priority. The format
 * is ours; a %s that holds anything from outside goes through log_safe.
 */
void log_event(int priority, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Logs that a step failed: the event "failed", what="…" by the format, and error="…": why, or errno's text if why is
 * NULL. A %s that holds anything from outside goes through log_safe. Keeps errno. log_failed: at LOG_ERR, with errno's text.
 */
void log_failed(const char *format, ...)
    __attribute__((format(printf, 1, 2)));
void log_failed_at(int priority, const char *why, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* What is logged at most once a minute, because somebody outside decides how often it happens. Begins as all zeros. */
struct log_limit {
	int64_t until;   /* no line before this moment, in ms of the monotonic clock */
	unsigned hidden; /* lines left out since the last one */
};

/* Returns true if a line is due, with *more how many were left out before it; otherwise counts one more. Keeps errno. */
bool log_due(struct log_limit *limit, unsigned *more);

/*
 * The visible form (vis(3)) of at most LOG_SHOWN bytes of a text from
 * outside: no control characters, blanks, quotes or bytes above 0x7e, so it
 * can neither end the value nor begin another. Returns t->text.
 */
const char *log_safe(struct log_text *t, const char *text);

/* As log_safe, but blanks stay, for error texts of libraries between our quotes. */
const char *log_words(struct log_text *t, const char *text);

/* Logs what failed, with errno's text, and ends the process: the clean-up is the end. */
_Noreturn void fatal(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

#endif
