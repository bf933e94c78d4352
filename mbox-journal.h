/* The journal file of a removal: see mbox-journal.c. */
#ifndef MBOX_JOURNAL_H
#define MBOX_JOURNAL_H

#include <sys/stat.h>
#include <sys/types.h>

#include <sha2.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mbox-journal-names.h"

#define JOURNAL_DAMAGED (-2)
#define JOURNAL_D 4096 /* offset of D in the journal; a block boundary */
#define JOURNAL_MARKER 16
#define JOURNAL_FRONT 1024 /* bytes of the witness at P, at most */
#define JOURNAL_BACK 2048  /* bytes of the witness before S, at most */

/*
 * The head of a journal file. Its numbers have the byte order of the
 * host that makes the journal. A host of the other order sets it aside.
 */
struct journal_head {
	char magic[8];
	uint64_t inode; /* of the mailbox */
	int64_t from;   /* P */
	int64_t kept;   /* size of D */
	int64_t size;   /* S */
	uint8_t marker[JOURNAL_MARKER];
	uint64_t marker_size;
	uint8_t before[SHA256_DIGEST_LENGTH]; /* hash of the bytes before P */
	uint8_t after[SHA256_DIGEST_LENGTH];  /* hash of the bytes before S */
	uint8_t tail[SHA256_DIGEST_LENGTH];   /* hash of the last bytes of D */
	uint8_t checksum[SHA256_DIGEST_LENGTH]; /* of all above */
};

/*
 * The witness: the first and the last bytes of [P,S), as they were before the
 * removal.
 */
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

/* The result of comparing a mailbox with a journal. */
enum journal_match {
	MATCH_ERROR = -1, /* the mailbox cannot be read (logged) */
	MATCH_NONE,       /* the journal does not fit the mailbox */
	MATCH_HERE,       /* the journal fits; the mailbox is not truncated */
	MATCH_DONE,       /* the journal fits; the mailbox is truncated */
};

/* Returns the mailbox size after the removal. */
off_t journal_new_size(const struct journal_head *h);

/*
 * Creates an empty journal in the state JOURNAL_TEMPORARY. Returns its
 * descriptor, or -1 (logged).
 */
int journal_create(const struct journal_box *b);

/*
 * Copies n bytes between a mailbox and a journal: from the offset from_at of
 * the file `from` to the offset to_at of the file `to`. Returns 0, or -1 with
 * errno. After an error some of the bytes may have been written.
 */
int journal_copy(int from, off_t from_at, int to, off_t to_at, off_t n);

/*
 * Completes the journal jfd: writes its head and witness, syncs the file and
 * renames it from JOURNAL_TEMPORARY to JOURNAL_DECIDED. The caller has already
 * written D, has set h->from, h->kept and h->size, and syncs the directory
 * afterwards. Returns 0, or -1 (logged). After an error nothing is decided, and
 * the file is unlinked.
 */
int journal_decide(const struct journal_box *b, int jfd,
    struct journal_head *h);

/*
 * Opens a journal and reads its head and witness. Returns 0, JOURNAL_DAMAGED if
 * it is not a whole journal of this user, or -1 (logged). The caller closes
 * j->fd, unless that is -1.
 */
int journal_open(int state, const char *name, struct journal *j);

/*
 * Compares the mailbox with a journal in the state JOURNAL_DECIDED. st is the
 * mailbox's status. Returns MATCH_HERE, MATCH_NONE or MATCH_ERROR.
 */
enum journal_match journal_match_decided(const struct journal_box *b,
    const struct journal *j, const struct stat *st);

/*
 * Compares the mailbox with a journal in the state JOURNAL_WRITTEN. st is the
 * mailbox's status.
 */
enum journal_match journal_match_written(const struct journal_box *b,
    const struct journal_head *h, const struct stat *st);

/* Sync the state directory or the mailbox. Each returns 0, or -1 (logged). */
int journal_sync_state(int state);
int journal_sync_mailbox(int fd);

/*
 * Syncs the mail that other programs have delivered. Many programs deliver
 * without a sync, and a journal must not describe bytes that the disk does not
 * have. Returns 0, or -1 (logged).
 */
int journal_sync_deliveries(int fd);

/*
 * Logs that an operation failed, with errno's text. `what` names the operation.
 * Keeps errno. Returns -1.
 */
int journal_failed(const char *what);

/*
 * Does what journal_failed does, and unlinks the journal, which is not decided.
 * Keeps errno. Returns -1.
 */
int journal_discard(const struct journal_box *b, const char *what);

#endif
