/* The setup of a kpopd-tls, and the socket of a kept one: see keep.c. */
#ifndef KEEP_H
#define KEEP_H

#include <sys/types.h>
#include <sys/un.h>

#include <limits.h>

#include "account.h"
#include "options.h"

/* The number of arguments of kpopd-tls that decide how it does TLS. */
#define KEEP_ARGUMENTS 6

/* The options and files with which a kpopd-tls does TLS. */
struct keep_setup {
	/* the arguments of kpopd-tls, a line each; zeros follow */
	char options[3 * PATH_MAX + TLS_CIPHERS_MOST + ACCOUNT_NAME + 16];
	/* the fingerprints of the certificate and the key; zeros follow */
	char files[512];
};

/*
 * Describes the setup of a kpopd-tls with these arguments: CERTIFICATE KEY
 * CIPHERS USER STATE MISSING (kpopd-tls.c). Returns 0. Returns -1 (logged) if
 * the certificate or the key is missing, or a path is too long.
 */
int keep_describe(struct keep_setup *s,
    const char *const arguments[KEEP_ARGUMENTS]);

/*
 * Writes the address of the socket of the kept kpopd-tls, STATE/tls.sock.
 * Returns 0, or -1 if the path is too long for a socket.
 */
int keep_address(struct sockaddr_un *address, const char *state);

/* The answer of a kept kpopd-tls; a pidfd of the process comes with it. */
struct keep_answer {
	pid_t pid; /* of the process that does TLS for the connection */
};

#endif
