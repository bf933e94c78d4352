/* The journal file of a removal: see mbox-journal.c. */
#ifndef MBOX_JOURNAL_H
#define MBOX_JOURNAL_H

#include <sys/stat.h>
#include <sys/types.h>

#include <sha2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The names of a journal in the state directory: its state. */
#define JOURNAL_TEMPORARY "j.tmp" /* not decided */
#define JOURNAL_DECIDED "j"       /* decided; not truncated */
#define JOURNAL_WRITTEN "j.cut"   /* D is in its place; truncated or not */

#define JOURNAL_DAMAGED (-2)
#define JOURNAL_D 4096 /* offset of D in the journal: blocks stay aligned */
#define JOURNAL_MARKER 16
#define JOURNAL_FRONT 1024 /* bytes of the witness at P, at most */
#define JOURNAL_BACK 2048  /* bytes of the witness before S, at most */

/* A mailbox and the directory of its journal. */
struct journal_box {
	int state; /* the state directory of this mailbox alone */
	int fd;    /* the mailbox, locked for writing; -1: there is none */
	int dir;   /* the directory that the mailbox is in; -1: not compared */
};

/*
 * The head of a journal file, in the byte order of this machine, because a
 * journal never leaves it. For P, S and D see mbox-journal.c.
 */
struct journal_head {
	char magic[8];
	uint64_t inode; /* of the mailbox */
	int64_t from;   /* P */
	int64_t kept;   /* size of D */
	int64_t size;   /* S */
	uint8_t marker[JOURNAL_MARKER];
	uint64_t marker_size;
	uint8_t before[SHA256_DIGEST_LENGTH];   /* bytes before P */
	uint8_t after[SHA256_DIGEST_LENGTH];    /* bytes before S */
	uint8_t tail[SHA256_DIGEST_LENGTH];     /* last bytes of D */
	uint8_t checksum[SHA256_DIGEST_LENGTH]; /* of all above */
};

/* Bytes of the mailbox where the removal writes, as they were before. */
struct journal_witness {
	uint64_t directory; /* inode of the mailbox's directory; 0: unknown */
	uint32_t front_size, back_size;
	char front[JOURNAL_FRONT];              /* at P */
	char back[JOURNAL_BACK];                /* before S */
	uint8_t checksum[SHA256_DIGEST_LENGTH]; /* of all above */
};

/* An open journal. */
struct journal {
	int fd;
	struct journal_head head;
	struct journal_witness witness; /* all zero in version 1 */
};

/* How a journal and a mailbox fit. */
enum journal_match {
	MATCH_ERROR = -1, /* the mailbox cannot be read (logged) */
	MATCH_NONE,       /* the mailbox is not the journal's */
	MATCH_HERE,       /* the mailbox is the journal's; not truncated */
	MATCH_DONE,       /* the mailbox is the journal's; truncated */
};

/* Returns the mailbox size after the removal: where D ends. */
off_t journal_new_size(const struct journal_head *h);

/*
 * Creates an empty journal, JOURNAL_TEMPORARY. Returns its descriptor, or -1
 * (logged).
 */
int journal_create(int state);

/*
 * Copies n bytes between a mailbox and a journal. Returns 0, or -1 with errno;
 * some may have been written.
 */
int journal_copy(int from, off_t from_at, int to, off_t to_at, off_t n);

/*
 * Does steps 1 and 2, except the copy of D before and the sync of the directory
 * after: writes head and witness of the journal jfd, which has D already, syncs
 * it and renames it. h->from, kept and size are set; the rest is filled in.
 * Returns 0, or -1 (logged): nothing is decided, and the file is unlinked.
 */
int journal_decide(const struct journal_box *b, int jfd,
    struct journal_head *h);

/*
 * Opens a journal and reads its head and witness. Returns 0; JOURNAL_DAMAGED if
 * it is not a whole journal of this user; or -1 (logged). The caller closes
 * j->fd, unless that is -1.
 */
int journal_open(int state, const char *name, struct journal *j);

/*
 * Compares the mailbox, of which st is the status, with a journal in the state
 * JOURNAL_DECIDED. Returns MATCH_HERE, MATCH_NONE or MATCH_ERROR.
 */
enum journal_match journal_match_decided(const struct journal_box *b,
    const struct journal *j, const struct stat *st);

/*
 * Compares the mailbox, of which st is the status, with a journal in the state
 * JOURNAL_WRITTEN.
 */
enum journal_match journal_match_written(const struct journal_box *b,
    const struct journal_head *h, const struct stat *st);

/* Returns true unless the file is certainly absent from the state directory. */
bool journal_may_exist(int state, const char *name);

/* These sync what their names contain. Each returns 0, or -1 (logged). */
int journal_sync_state(int state);
int journal_sync_mailbox(int fd);

/*
 * Syncs what other programs have delivered, because they do so without a sync,
 * and a journal must not describe bytes that the disk does not have. Returns 0,
 * or -1 (logged).
 */
int journal_sync_deliveries(int fd);

/* Logs that a step failed, with errno's text. Returns -1. */
int journal_failed(const char *what);

#endif
