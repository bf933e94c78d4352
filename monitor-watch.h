/* The processes of a connection, seen from the monitor: see monitor-watch.c. */
#ifndef MONITOR_WATCH_H
#define MONITOR_WATCH_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"
#include "privsep.h"

/* The monitor's children. There is one of each at most. */
enum role { ROLE_PREAUTH, ROLE_TLS, ROLE_RELAY, ROLE_SESSION, ROLE_BROKER, ROLE_REFUSAL, ROLE_RECOVERY };
#define ROLES 7

/* Why the monitor has killed a child. */
enum watch_reason {
	WATCH_ALIVE,     /* it has not */
	WATCH_DISMISSED, /* it was of no more use */
	WATCH_LATE,      /* its deadline has passed */
	WATCH_STOPPED,   /* its user stopped it */
	WATCH_SILENT,    /* it closed its channel and went on */
	WATCH_WRONG,     /* it sent what it may not */
};

struct watch {
	struct watch_child {
		pid_t pid;        /* 0: there is none */
		int channel;      /* to the child; -1: closed */
		int64_t deadline; /* absolute, ms of CLOCK_MONOTONIC; 0: none */
		int64_t paid;     /* until this moment its lines have used what it may write */
		unsigned withheld; /* lines that were too many */
		enum watch_reason reason;
		bool has_ended;
		int64_t ended; /* when */
		bool is_lost; /* it was killed, and does not end */
		int status;
	} children[ROLES];
	char packet[sizeof(struct report) > sizeof(struct log_packet) ? sizeof(struct report) : sizeof(struct log_packet)];
};

/* What watch_next has seen: a packet of a child that is no line of the log, or its end. */
struct watch_event {
	enum role role;
	const void *packet; /* NULL: the child has ended, and is logged */
	size_t size;
	int status; /* of its end */
	enum watch_reason reason;
};

/* Root: begins to watch; there are no children yet. */
void watch_begin(struct watch *w);

/*
 * Root: makes the child of a role, with a channel to this process over which it
 * logs from now on. It is killed at deadline (0: never). Returns true in the
 * child, which has none of the others' channels, and its own in *channel.
 */
bool watch_fork(struct watch *w, enum role role, int64_t deadline, int *channel);

/* Returns the channel to the child; -1: it has none, or there is no child. */
int watch_channel(const struct watch *w, enum role role);

/* Changes the child's deadline (0: none), if there is such a child. */
void watch_limit(struct watch *w, enum role role, int64_t deadline);

/* Kills the child, if there is one. Nothing more is taken from it. */
void watch_kill(struct watch *w, enum role role, enum watch_reason reason);

/*
 * Waits for what the children say or for their ends; meanwhile writes their
 * lines to syslog, and kills those that are late or were stopped. A killed child
 * that does not end counts as one that has. Returns false when no child is left.
 */
bool watch_next(struct watch *w, struct watch_event *e);

#endif
