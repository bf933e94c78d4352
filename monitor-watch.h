/* Watches the processes of a connection: see monitor-watch.c. */
#ifndef MONITOR_WATCH_H
#define MONITOR_WATCH_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "keep-ask.h"
#include "log.h"
#include "message.h"

/*
 * The children of the monitor, of --recover, of --check and of --import-uidl;
 * at most one child of each role.
 */
enum role {
	ROLE_PREAUTH,
	ROLE_TLS,
	ROLE_RELAY,
	ROLE_SESSION,
	ROLE_BROKER,
	ROLE_REFUSAL,
	ROLE_RECOVERY,
	ROLE_CHECK,
	ROLE_IMPORT
};
#define ROLES 9

/* Why the monitor has killed a child. */
enum watch_reason {
	WATCH_ALIVE,     /* it was not killed */
	WATCH_DISMISSED, /* it was not needed any more */
	WATCH_LATE,      /* its deadline has passed */
	WATCH_STOPPED,   /* its user stopped it */
	WATCH_SILENT,    /* it closed its channel and did not end */
	WATCH_WRONG,     /* it sent a message that it must not send */
};

struct watch {
	struct watch_child {
		pid_t pid;        /* 0: there is no such child */
		int channel;      /* to the child; -1: closed */
		int64_t deadline; /* see watch_fork */
		/* the time, in ms, until which its log rate is used up */
		int64_t paid;
		/*
		 * number of its lines that were not written, because they
		 * exceeded its log rate
		 */
		unsigned withheld;
		enum watch_reason reason;
		bool is_needless; /* see watch_dismiss */
		bool has_ended;
		int64_t ended; /* when it ended, absolute ms */
		bool is_lost;  /* it was killed but does not end */
		/*
		 * It is not a child of this process (watch_adopt): its pidfd,
		 * and the socket from which its status comes.
		 */
		bool is_adopted;
		int process, control;
		int status; /* as waitpid(2) stores it */
	} children[ROLES];
	int request;      /* see watch_request */
	int64_t reminder; /* see watch_remind; 0: none */
	char packet[sizeof(struct preauth_message) > sizeof(struct log_packet) ?
		sizeof(struct preauth_message) :
		sizeof(struct log_packet)];
};

/* An event: a packet of a child that is not for the log, or the child's end. */
struct watch_event {
	enum role role;
	const void *packet; /* valid until the next call; NULL: the child has
			     * ended. The end is logged if a signal caused it,
			     * except after WATCH_DISMISSED. */
	size_t size;        /* of the packet, in bytes */
	int status;         /* of the end, as waitpid(2) stores it */
	enum watch_reason reason; /* of the end */
	/* the socket of watch_request has a packet; the rest is not set */
	bool is_request;
	bool is_reminder; /* of watch_remind; the rest is not set */
};

/* Root: initializes *w, without children. SIGCHLD is blocked from now on. */
void watch_begin(struct watch *w);

/*
 * Root: forks the child of a role, with a channel for its log lines and its
 * messages to this process. The child is killed at the deadline (absolute ms of
 * CLOCK_MONOTONIC; 0: never). Returns true in the child. The child has its end
 * of the channel in *channel, and its copies of the other channels are closed.
 * Ends this process if no process can be made.
 */
bool watch_fork(struct watch *w, enum role role, int64_t deadline,
    int *channel);

/*
 * Does the same for a child that the caller can do without. Returns 1 in the
 * child and 0 in this process, or -1 with errno if no process could be made.
 */
int watch_try_fork(struct watch *w, enum role role, int64_t deadline,
    int *channel);

/*
 * Counts a process of the kept kpopd-tls as the child of a role. Its deadline
 * is as that of watch_fork; channel is this process's end. *w owns the
 * descriptors from now on.
 */
void watch_adopt(struct watch *w, enum role role, int64_t deadline,
    const struct keep_process *p, int channel);

/*
 * Returns the channel to the child, or -1 if there is no child or no channel.
 */
int watch_channel(const struct watch *w, enum role role);

/* Changes the child's deadline (0: none), if there is such a child. */
void watch_limit(struct watch *w, enum role role, int64_t deadline);

/*
 * Gives a child that is not needed any more time until the deadline. Does
 * nothing if there is no child with this role. If the child is killed at the
 * deadline, that is not logged.
 */
void watch_dismiss(struct watch *w, enum role role, int64_t deadline);

/* Kills the child, if there is one. Its later packets are not obeyed. */
void watch_kill(struct watch *w, enum role role, enum watch_reason reason);

/*
 * Root: makes watch_next report once when this socket has a packet, but not
 * when its other end is closed. The packet is not read. fd is a descriptor that
 * stays open until then, or -1: no socket.
 */
void watch_request(struct watch *w, int fd);

/*
 * Makes watch_next report once when this time has come (absolute ms of
 * CLOCK_MONOTONIC), in place of an earlier reminder; 0: no reminder.
 */
void watch_remind(struct watch *w, int64_t time);

/*
 * Waits for the next event. Meanwhile writes the children's lines to syslog,
 * and kills the children that are late or were stopped. A killed child that
 * does not end counts as ended if a user may have made its files. Returns false
 * if no child is left.
 */
bool watch_next(struct watch *w, struct watch_event *e);

#endif
