/* The listening socket, fd 0: see accept-socket.c. */
#ifndef ACCEPT_SOCKET_H
#define ACCEPT_SOCKET_H

#include <sys/socket.h>

#include <stdbool.h>

/* Returns true if fd 0 is a listening socket. */
bool accept_is_listening(void);

/*
 * Waits at most this many ms for a connection. Returns true as soon as there is
 * one. Then accept_within_limit may accept that connection, unless another
 * process does so first.
 */
bool accept_has_connection(int ms);

/*
 * Accepts a connection, and writes its address. Returns its descriptor, which
 * is close-on-exec, or -1 with errno. If another process has taken the
 * connection first, returns -1 with EINTR, usually after 50 ms. Sets the
 * handler of SIGALRM, and uses ITIMER_REAL.
 */
int accept_within_limit(struct sockaddr_storage *from);

#endif
