/* The messages of one mailbox and the deletion marks: see maildrop.c. */
#ifndef MAILDROP_H
#define MAILDROP_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "log.h"
#include "mailboxes.h"
#include "uidl.h"

/*
 * The result of an operation on a mailbox. If an operation fails with an errno,
 * it has already logged that errno.
 */
enum drop_error {
	DROP_OK,
	DROP_BUSY, /* another program holds a lock */
	/* another program changed the mailbox: not all could be done */
	DROP_CHANGED,
	DROP_DENIED, /* fails until a person removes the cause */
	DROP_FAILED, /* may succeed later; nothing is lost */
	/*
	 * The removal is decided, but not certainly finished. If there is a
	 * journal, it will be finished later.
	 */
	DROP_LATER,
};

/* The stored bytes of one message that are still to be read. */
struct span {
	int fd;
	off_t at;
	uint64_t bytes;
	uint64_t wire_size; /* of the whole message */
	/* Why maildrop_read has returned -1; neither: it has not. */
	bool is_short; /* the file has ended before the message */
	int error;     /* the errno */
};

struct store_ops;
struct lock_plan;
struct lock_session;
struct uidl_map;
struct uidl_scheme;

struct maildrop {
	const struct store_ops *store;
	void *box;            /* the value that the store's open has stored */
	int state;            /* the mailbox's state directory */
	bool read_only;       /* no message may be marked or removed */
	unsigned char *marks; /* one bit for each message */
	size_t count;         /* number of messages, marked ones included */
	size_t marked;
	uint64_t wire_size;        /* of all messages */
	uint64_t marked_wire_size; /* of the marked ones */
	/*
	 * limits the log lines about messages that cannot be read, because a
	 * client can request such a message a million times
	 */
	struct log_limit unread;
	/* After maildrop_load_ids: the result, and the map; NULL: none. */
	bool is_map_read;
	enum drop_error map_error;
	struct uidl_map *map;
	/* computes the map if there is none; NULL: nothing does */
	const struct uidl_scheme *scheme;
};

/*
 * Session, as the user: opens the mailbox at path and finds its messages. state
 * is the mailbox's state directory, whose session lock this process holds.
 * Messages are numbered from 1, as in POP3.
 */
enum drop_error maildrop_open(struct maildrop *m, const struct mailboxes *b,
    const char *path, int state, const struct lock_plan *locks);

/*
 * --check, as the user: finds the obstacles that maildrop_open would find, but
 * takes no lock and changes nothing. state is the mailbox's state directory, or
 * -1 if it has none yet. Returns DROP_OK if the next login can open the
 * mailbox, unless another program locks it or there is an unfinished removal.
 */
enum drop_error maildrop_look(const struct mailboxes *b, const char *path,
    int state);

/*
 * As the user, with the session lock: finishes a removal that was interrupted,
 * if there is one. Returns DROP_CHANGED if the journal of the removal does not
 * fit the mailbox and was set aside.
 */
enum drop_error maildrop_recover(const struct mailboxes *b, const char *path,
    int state, const struct lock_plan *locks);

struct sandbox_path;

/*
 * Opens what a confined session needs for the mailbox at path, with the rights
 * that the format specifies. If b->read_only is set, these are only the rights
 * to read and to list. If the mailbox is a directory, opens it as
 * *mailbox. Opens the directory that contains the mailbox as *directory. If the
 * format specifies no right to one of these directories, leaves *mailbox or
 * *directory unchanged. If a directory cannot be opened, stores -1 as its fd.
 */
void maildrop_reach(const struct mailboxes *b, const char *path,
    struct sandbox_path *mailbox, struct sandbox_path *directory);

/*
 * Opens the directory that contains the mailbox at path, for a process that
 * gets all rights below this directory.
 */
void maildrop_reach_directory(const char *path, struct sandbox_path *directory);

/* Returns true if a removal is unfinished in this state directory. */
bool maildrop_unfinished(const struct mailboxes *b, int state);

/* Returns true if message n (1 … m->count) is marked. */
bool maildrop_marked(const struct maildrop *m, size_t n);

/* Marks message n, which is not marked yet. The maildrop is not read-only. */
void maildrop_mark(struct maildrop *m, size_t n);

/* Removes all marks. */
void maildrop_reset(struct maildrop *m);

/*
 * Returns the size of message n in bytes. Each line end counts as CRLF (RFC
 * 1939 §11).
 */
uint64_t maildrop_wire_size(const struct maildrop *m, size_t n);

/*
 * Makes maildrop_load_ids compute the ids that a server of this scheme gave the
 * messages, if the mailbox has no map of ids yet. scheme must last as long as
 * the maildrop.
 */
void maildrop_compute_ids(struct maildrop *m, const struct uidl_scheme *scheme);

/*
 * Reads the ids that the messages had on another server (uidl-map.h), at the
 * first call. Must be called before maildrop_uidl, which otherwise does not
 * know these ids. Returns DROP_OK, also if there are none. If they cannot be
 * read, returns DROP_DENIED or DROP_FAILED (logged once).
 */
enum drop_error maildrop_load_ids(struct maildrop *m);

/*
 * Stores the own id of message n. It is the unique id, unless the message had
 * another id on another server.
 */
void maildrop_own_id(const struct maildrop *m, size_t n, char id[UIDL_SIZE]);

/*
 * Stores the unique id of message n: 1 to 70 characters of 0x21 … 0x7e (RFC
 * 1939 §7).
 */
void maildrop_uidl(struct maildrop *m, size_t n, char id[UIDL_SIZE]);

/*
 * Finds the stored bytes of message n, so that maildrop_read can read them.
 * Call maildrop_end after reading; only one message can be read at a time.
 * Returns DROP_OK. Returns DROP_CHANGED if the mailbox does not have the
 * message any more, or DROP_FAILED after another error. Logs errors at most
 * once a minute.
 */
enum drop_error maildrop_begin(struct maildrop *m, size_t n, struct span *s);

/*
 * Reads the next bytes of *s, at most size. Returns their number, 0 at the end
 * of the message, or -1 with the reason in *s if they cannot be read.
 */
ssize_t maildrop_read(struct span *s, void *to, size_t size);

/*
 * Ends the reading of message n. `sent` is the wire size of the bytes that were
 * read. If the client wanted only the first lines, the caller passes
 * s->wire_size. Returns true if no read failed, no byte is missing, and the
 * message has not changed since maildrop_begin. If it returns false, the bytes
 * that were read may belong to another message. Then the caller must make sure
 * that the client sees an incomplete answer. Logs s->error at most once a
 * minute.
 */
bool maildrop_end(struct maildrop *m, size_t n, const struct span *s,
    uint64_t sent);

/*
 * Removes the marked messages and stores the number of removed ones in
 * *removed. Returns DROP_OK if all are removed, or DROP_CHANGED if some of them
 * could not be identified. Returns DROP_BUSY, DROP_DENIED or DROP_FAILED if
 * none is removed; DROP_DENIED if the maildrop is read-only. Returns DROP_LATER
 * if the removal is decided, but not certainly finished, even if some messages
 * could not be identified.
 */
enum drop_error maildrop_commit(struct maildrop *m, size_t *removed);

#endif
