/* Accounts, dropping for good, the jail, the one packet: see privsep.c. */
#ifndef PRIVSEP_H
#define PRIVSEP_H

#include <sys/types.h>

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "address.h"
#include "auth.h"
#include "io.h"

#define USER_NAME 33 /* useradd(8): at most 32 octets; and a NUL */

struct account {
	char name[USER_NAME];
	uid_t uid;
	gid_t gid;
	char home[PATH_MAX];
};

enum { REPORT_LOGIN = 'R', REPORT_TLS = 'T', REPORT_LAYER = 'L' };

/*
 * What the gate tells the monitor: packets of this very size, no pointers, no
 * length that decides an allocation. LOGIN is the last; before it the gate may
 * ask once for TLS and once for a LAYER, with the address alone filled.
 */
struct report {
	char kind;
	char address[ADDRESS_TEXT]; /* of the client, from a PROXY header; "": the connection's own */
	uint32_t unread_size;       /* octets used of unread */
	char user[USER_NAME];       /* asked for; "" when it was no user name */
	struct auth_peer peer;
	char unread[IO_IN];         /* what the client sent behind the login */
};

/* Whether name is a Unix user's name: [A-Za-z0-9_][A-Za-z0-9._-]{0,31}. */
bool account_name_valid(const char *name);

/*
 * Looks name up. Returns NULL and fills *a, or says why nobody may log in
 * under it: no such user, uid 0, uid below least.
 */
const char *account_find(const char *name, uid_t least, struct account *a);

/* The same by uid. */
const char *account_find_uid(uid_t uid, uid_t least, struct account *a);

/*
 * Root: opens a directory below at, which only root can have made or changed
 * so far, and makes it with this mode for this owner if it is absent. What is
 * there already must be a directory of that owner that nobody else may write;
 * otherwise this is fatal. Returns it (read-only, close-on-exec), or -1 if it
 * could not be made (logged).
 */
int privsep_make_directory(int at, const char *name, mode_t mode, uid_t uid, gid_t gid);

/* Makes STATE/NAME, a jail's root (root's), and unless gate is NULL a directory replay in it (the gate's). Fatal on failure. */
void privsep_make_jail(const char *state, const char *name, const struct account *gate);

/* Shuts this process into STATE/NAME as that user, for good and verified. Fatal on failure. */
void privsep_jail(const char *state, const char *name, const struct account *a);

/*
 * Becomes the user for good: no group but the user's, no capability, no way
 * back, no process it could make, all of it verified. Fatal on failure.
 */
void privsep_become(const struct account *a);

/*
 * Becomes the user with the spool's group on top: the broker of the dotlock.
 * No other group, no capability, no way back to root. Fatal on failure.
 */
void privsep_become_broker(const struct account *a, gid_t group);

/* A child of the broker becomes the user alone, as privsep_become does. Fatal on failure. */
void privsep_leave_broker(const struct account *a);

/* Gate: sends the report. Returns 0, or -1 when the monitor is gone. */
int report_send(int channel, const struct report *r);

/* What the monitor got. */
enum report_result { REPORT_GOOD, REPORT_NONE, REPORT_LATE, REPORT_BAD };

/*
 * Monitor: waits until deadline (absolute ms, CLOCK_MONOTONIC) for the report.
 * NONE: the gate ended without one. BAD: wrong size, an unended string, a user
 * name outside the alphabet; *r is not to be used.
 */
enum report_result report_await(int channel, struct report *r, int64_t deadline);

/* Gate: sends a question, waits for the answer: a descriptor, or -1 when the monitor says no. */
int report_ask(int channel, const struct report *r);

/* Monitor: answers with a descriptor, or no (-1). Returns 0, or -1 when the gate is gone. */
int report_answer(int channel, int fd);

#endif
