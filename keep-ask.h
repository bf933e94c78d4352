/* Asks a kept kpopd-tls to do TLS for a connection: see keep-ask.c. */
#ifndef KEEP_ASK_H
#define KEEP_ASK_H

#include "keep.h"

/* A process that the kept kpopd-tls has made for the caller's connection. */
struct keep_process {
	pid_t pid;
	int process; /* a pidfd */
	/*
	 * The socket to the kept kpopd-tls. The process waits there for the
	 * client's socket (keep_give_client). After the end of the process its
	 * status comes from there, an int as waitpid(2) stores it. If the kept
	 * kpopd-tls has ended before the process, only the end of the socket
	 * comes.
	 */
	int control;
};

/*
 * Monitor, root: asks the kept kpopd-tls of the state directory for a process
 * with this setup. The process gets copies of the cleartext side and of the
 * channel. Returns 0 with *p, whose descriptors the caller must close. Returns
 * -1 if no kept kpopd-tls with this setup answers within a second. A process
 * that was made nevertheless ends without the client's socket.
 */
int keep_ask(const char *state, const struct keep_setup *setup, int cleartext,
    int channel, struct keep_process *p);

/*
 * Sends the client's socket to the process; the descriptor stays open here.
 * Returns 0, or -1 if the process has ended.
 */
int keep_give_client(const struct keep_process *p, int client);

#endif
