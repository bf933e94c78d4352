/* One user's visit, from the report to the end: see visit.c. */
#ifndef VISIT_H
#define VISIT_H

#include <stdbool.h>
#include <stdint.h>

#include "lock-broker.h"
#include "options.h"
#include "privsep.h"
#include "monitor-watch.h"

/* One user's visit: who it is, where the mail is, and what let them in. */
struct visit {
	const struct options *o;
	struct auth *auth;           /* without keys */
	const struct account *preauth;
	struct report *report;       /* NULL: recovery by hand */
	int64_t deadline;            /* for the login, absolute ms of CLOCK_MONOTONIC */
	int64_t asked;               /* when the report came */
	struct account user;
	const struct mailboxes *mailboxes;
	const char *path;
	gid_t group;                 /* the broker's */
	const char *obstacle;        /* why there may be no dotlock, or NULL */
	int place;     /* that the session has until it waits for the session lock; -1: none */
	int directory; /* STATE/users/UID, which root has opened; -1: not yet */
	int state;     /* the state directory of the mailbox; -1: not known, or not yet */
	bool is_recovering; /* the broker finishes a removal; it may say so once */
	int locks_of[2]; /* broker's and worker's end of the channel for locks; -1: none, the mailbox is not locked */
	struct lock_plan locks;
	struct lock_kept kept; /* broker: of the mailbox' locks */
};

/* What a child says to its monitor besides its log. */
enum visit_kind {
	VISIT_PERMITTED = 'Y', /* session: the ticket opens the account; the text says why */
	VISIT_REFUSED = 'N',   /* session: it does not; the text says why */
	VISIT_LOCKED = 'K',    /* session, recovery by hand: it has the session lock, of which there is one */
	VISIT_RECOVERS = 'F',  /* broker: it finishes a removal */
};

struct visit_message {
	char kind;
	char text[64];
};

/* What the monitor sends a permitted session, with the client's socket and STATE/users/UID. */
struct visit_entry {
	uint32_t unread_size; /* bytes used of unread */
	char unread[IO_IN];   /* what the client sent after the login */
};

/* In a child: says this to the monitor. */
void visit_say(int channel, enum visit_kind kind, const char *text);

/* Monitor: takes a packet of n bytes for a message. Returns false if it is none. */
bool visit_read(const void *packet, size_t n, struct visit_message *m);

/*
 * Monitor, root: prepares what works for the user: its path without symlinks,
 * as far as root may follow them, the broker's group, the channel for locks.
 */
void visit_prepare(struct visit *v);

/* Monitor, root: makes the broker of the worker that has just been made, if the mailbox is locked. */
void visit_start_broker(struct visit *v, struct watch *w);

/* Puts /dev/null in the place of the client's socket. */
void visit_leave_client(void);

/*
 * Monitor, root: lets the user of a report in, or refuses. Returns when the
 * last process of the connection has ended. auth: without keys. deadline: for
 * the login.
 */
void visit_admit(const struct options *o, const struct account *preauth, struct auth *auth, struct report *r,
    int64_t deadline, struct watch *w);

/* As the user: from now on there is nothing but the state directory and the mailbox. */
void visit_confine(const struct visit *v, int state);

/* The same without the mailbox, at which it does not look. */
void visit_confine_outside(int state);

#endif
