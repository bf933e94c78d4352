/* Dropping for good, the jail, the one packet: see privsep.c. */
#ifndef PRIVSEP_H
#define PRIVSEP_H

#include <sys/types.h>

#include <stdbool.h>
#include <stdint.h>

#include "account.h"
#include "address.h"
#include "auth.h"
#include "io.h"

enum { REPORT_LOGIN = 'R', REPORT_TLS = 'T', REPORT_LAYER = 'L', REPORT_PEER = 'P' };

/*
 * What the pre-auth process tells the monitor: packets of this very size, no pointers, no
 * length that decides an allocation. LOGIN is the last. Before it the pre-auth process may
 * name once the PEER that a proxy has named, with the address alone filled; and
 * it may ask once for TLS and once for a LAYER.
 */
struct report {
	char kind;
	struct address_text address; /* PEER: the client's, from a PROXY header */
	uint32_t unread_size;       /* bytes used of unread */
	char user[ACCOUNT_NAME];    /* as the client wrote it, not checked; "": the one of the principal */
	struct auth_peer peer;
	char unread[IO_IN];         /* what the client sent behind the login */
};

/*
 * Root: opens a directory below at, which only root can have made or changed
 * so far, and makes it with this mode for this owner if it is absent. What is
 * there already must be a directory of that owner that nobody else may write;
 * otherwise this is fatal. Returns it (read-only, close-on-exec), or -1 if it
 * could not be made (logged).
 */
int privsep_make_directory(int at, const char *name, mode_t mode, uid_t uid, gid_t gid);

/* Makes STATE/NAME, a jail's root (root's). Fatal on failure. */
void privsep_make_jail(const char *state, const char *name);

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

#define PACKET_FILES 2 /* the most descriptors that a packet carries */

/* Sends a packet with k descriptors (at most PACKET_FILES). Returns 0, or -1 if the other end is gone. */
int packet_send(int channel, const void *data, size_t n, const int *fds, int k);

/* Waits for a packet of n bytes with k descriptors, which it opens close-on-exec. Returns 0, or -1 if something else comes. */
int packet_await(int channel, void *data, size_t n, int *fds, int k);

/* packet_receive's other answers. An empty packet is the end, too. */
#define PACKET_END 0
#define PACKET_NONE (-1)
#define PACKET_BAD (-2)

/*
 * Monitor: takes the next packet without waiting. Returns its size; or that
 * there is none, that the other end is gone, or that it was larger than size
 * or carried descriptors, none of which is opened.
 */
ssize_t packet_receive(int channel, void *data, size_t size);

/* Pre-auth process: sends the report. Returns 0, or -1 when the monitor is gone. */
int report_send(int channel, const struct report *r);

/*
 * Monitor: takes a packet of n bytes for a report. Returns false if it has the
 * wrong size or kind, an unended string, or a user name or address that is none;
 * *r is not to be used then.
 */
bool report_read(const void *packet, size_t n, struct report *r);

/* Pre-auth process: sends a question, waits for the answer: a descriptor, or -1 when the monitor says no. */
int report_ask(int channel, const struct report *r);

/* Monitor: answers with a descriptor, or no (-1). Returns 0, or -1 when the pre-auth process is gone. */
int report_answer(int channel, int fd);

#endif
