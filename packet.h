/*
 * Packets with descriptors between the processes of a connection: see
 * packet.c.
 */
#ifndef PACKET_H
#define PACKET_H

#include <sys/types.h>

#include <stddef.h>

/*
 * Makes a channel for packets: two connected sockets, close-on-exec. Fatal on
 * failure.
 */
void packet_make_channel(int ends[2]);

#define PACKET_FILES 3 /* the most descriptors that a packet carries */

/*
 * Sends n bytes and k descriptors (at most PACKET_FILES) as one packet; the
 * descriptors stay open here. Returns 0, or -1 after any error, for example
 * because the other end is closed.
 */
int packet_send(int channel, const void *data, size_t n, const int *fds, int k);

/*
 * Waits for a packet of exactly n bytes with exactly k descriptors (at least
 * one). Stores the bytes, stores the descriptors in fds[0] to fds[k - 1], and
 * returns 0. The descriptors are close-on-exec, and the caller must close them.
 * Returns -1 for any other packet, whose descriptors are closed, or if the
 * other end is closed. Also returns -1 for k = 0.
 */
int packet_await(int channel, void *data, size_t n, int *fds, int k);

/* What packet_receive returns in place of a size. */
/* the other end is closed; an empty packet counts as the end */
#define PACKET_END 0
#define PACKET_NONE (-1) /* no packet has come yet */
/*
 * the packet was larger than size, or carried descriptors, which were not
 * opened
 */
#define PACKET_BAD (-2)

/*
 * Takes the next packet, of at most size bytes, without waiting. Returns its
 * size in bytes, or PACKET_END, PACKET_NONE or PACKET_BAD.
 */
ssize_t packet_receive(int channel, void *data, size_t size);

#endif
