/* The messages of one user and the deletion marks: see maildrop.c. */
#ifndef MAILDROP_H
#define MAILDROP_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"
#include "uidl.h"

/* How the mailbox answers. What was seen of errno is in the log. */
enum drop_error {
	DROP_OK,
	DROP_BUSY,    /* another program holds it */
	DROP_CHANGED, /* another program changed it: not all could be done */
	DROP_DENIED,  /* will not work until somebody mends it */
	DROP_FAILED,  /* may work later; nothing is lost */
	DROP_LATER,   /* the removal is certain, but will only be finished later */
};

/* The stored bytes of one message; maildrop_read takes from its front. */
struct span {
	int fd;
	off_t at;
	uint64_t bytes;  /* left to read */
	uint64_t wire_size; /* what LIST promised of it */
	bool failed;        /* maildrop_read has failed */
};

struct store_ops;
struct lock_plan;
struct lock_session;

/* Where the users' mailboxes are and of which format: what -m says. */
struct mailboxes {
	const struct store_ops *store;
	const char *text;     /* all of it, as -m has it */
	const char *format;   /* the word before the colon that names the mailbox's state */
	const char *template; /* absolute once %u (user), %h or a leading ~ (home) are replaced */
	bool create;          /* those that are absent */
	bool quoted;          /* no Content-Length is trusted in them */
};

struct maildrop {
	const struct store_ops *store;
	void *box;
	unsigned char *marks; /* one bit a message */
	size_t count;         /* messages, marked ones included */
	size_t marked;
	uint64_t wire_size;        /* of all messages */
	uint64_t marked_wire_size; /* of the marked ones */
	struct log_limit unread; /* of the lines about messages that cannot be read: the client may ask a million times */
};

/* Reads "mbox:PATH", "mboxo:PATH", "maildir:PATH" or "maildir+create:PATH"; text is kept. Returns 0 or -1. */
int mailboxes_read(struct mailboxes *b, const char *text);

/* The mailbox' path for this user, or NULL when there is none (too long). Valid until the next call. */
const char *mailboxes_path(const struct mailboxes *b, const char *user, const char *home);

/* Returns true if other programs lock such a mailbox, and so does the session, with the broker's help. */
bool mailboxes_are_locked(const struct mailboxes *b);

/*
 * Returns true if the path does not lead through the home directory, in which
 * the user can put symlinks in the way: so it may be looked at as root, and
 * with rights that the user does not have.
 */
bool mailboxes_are_roots(const struct mailboxes *b);

/*
 * As the user: opens the state directory of the mailbox at path, in the user's
 * own state directory, and makes it if it is absent. It has the same name
 * however the path is spelled. Returns DROP_OK and sets *state; DENIED or FAILED
 * (logged). The current directory is the root then.
 */
enum drop_error maildrop_state(const struct mailboxes *b, const char *path, int user, int *state);

/*
 * As the user, with the session lock of state: makes that lock the only one of
 * the mailbox, whatever other paths lead to it. Then takes over what is
 * unfinished of it: under another path, or in the user's own directory, which
 * all mailboxes of the uid shared in an earlier version. Returns DROP_OK, BUSY,
 * DENIED or FAILED (logged).
 */
enum drop_error maildrop_claim(const struct mailboxes *b, const char *path, int user, int state, struct lock_session *lock);

/*
 * Session, as the user: finds the messages of the mailbox at path. state is
 * its state directory, in which the session's lock is held. Messages are
 * numbered from 1, as on the wire.
 */
enum drop_error maildrop_open(struct maildrop *m, const struct mailboxes *b,
    const char *path, int state, const struct lock_plan *locks);

/*
 * As the user, with the session's lock: finishes a removal that was broken off,
 * if there is one. Returns CHANGED if its journal was set aside because it does
 * not fit the mailbox.
 */
enum drop_error maildrop_recover(const struct mailboxes *b, const char *path,
    int state, const struct lock_plan *locks);

struct sandbox_path;

/*
 * Opens what the session needs of the file system for the mailbox at path: the
 * Maildir in *mailbox; in *directory the one that the spool is in, to write to
 * files that exist. What is not there, or not needed, is left as it is.
 */
void maildrop_reach(const struct mailboxes *b, const char *path, struct sandbox_path *mailbox,
    struct sandbox_path *directory);

/* The directory that the mailbox is in. */
void maildrop_reach_directory(const char *path, struct sandbox_path *directory);

/* Whether there is one in this state directory. */
bool maildrop_unfinished(const struct mailboxes *b, int state);

/* Whether message n (1 … m->count) is marked. */
bool maildrop_marked(const struct maildrop *m, size_t n);

/* Marks message n, which is not marked yet. */
void maildrop_mark(struct maildrop *m, size_t n);

/* Takes all marks off. */
void maildrop_reset(struct maildrop *m);

/* The bytes of message n as RFC 1939 §11 counts them. */
uint64_t maildrop_wire_size(const struct maildrop *m, size_t n);

/* The unique id of message n: 1 to 70 characters of 0x21 … 0x7e. */
void maildrop_uidl(struct maildrop *m, size_t n, char id[UIDL_SIZE]);

/* Where message n can be read. CHANGED: it is not there any more. Logs an error, at most once a minute. */
enum drop_error maildrop_fetch(struct maildrop *m, size_t n, struct span *s);

/* Begins to read message n at *s. Returns DROP_CHANGED if the message is gone. Logs an error, at most once a minute. */
enum drop_error maildrop_begin(struct maildrop *m, size_t n, struct span *s);

/*
 * Ends reading message n. sent: the wire size of what was read, or s->wire_size
 * if the caller did not need all of the message. Returns true if the whole
 * message was there and what was read is not another message's.
 */
bool maildrop_end(struct maildrop *m, size_t n, const struct span *s, uint64_t sent);

/*
 * Returns true if message n, which was fetched, is still where it was. If not,
 * what was read of it since may be another message's, although there was
 * enough of it.
 */
bool maildrop_stands(struct maildrop *m, size_t n);

/*
 * Returns true if message n, all of which was read since it was fetched, is
 * whole although it had another number of bytes than the span promised.
 */
bool maildrop_recounted(struct maildrop *m, size_t n);

/* Reads up to size bytes from the front of *s. Returns how many, 0 at its end, -1 if they are gone. */
ssize_t maildrop_read(struct span *s, void *to, size_t size);

/*
 * Removes the marked messages, all or (CHANGED) those that could be proven.
 * *removed is how many. BUSY, DENIED, FAILED: none is removed.
 */
enum drop_error maildrop_commit(struct maildrop *m, size_t *removed);

#endif
