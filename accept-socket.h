/* The listening socket, fd 0: see accept-socket.c. */
#ifndef ACCEPT_SOCKET_H
#define ACCEPT_SOCKET_H

#include <sys/socket.h>

#include <stdbool.h>

/* Returns true if fd 0 is a listening socket. */
bool accept_is_listening(void);

/*
 * Returns true if a connection has come within so many ms. Then
 * accept_within_limit may accept it, unless another process does so first.
 */
bool accept_has_connection(int ms);

/*
 * Accepts a connection, and writes its address. Returns its descriptor, which
 * is close-on-exec, or -1 with errno; EINTR if there was none after all, after
 * at most 50 ms. Sets the handler of SIGALRM, and uses ITIMER_REAL.
 */
int accept_within_limit(struct sockaddr_storage *from);

#endif
