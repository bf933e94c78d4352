/* Makes a process for each connection with TLS: see keep-serve.c. */
#ifndef KEEP_SERVE_H
#define KEEP_SERVE_H

#include "keep.h"

/* The descriptors of the process of one connection. */
struct keep_ends {
	int client, cleartext, channel;
};

/*
 * Root: makes the jail STATE/tls, and takes the lock STATE/tls.lock until the
 * end of the process. Returns false if another process has the lock. Fatal on
 * any other failure.
 */
bool keep_lock(const char *state);

/*
 * Root: notes the files of which this process executes a part, and the file
 * `also` (NULL: none). If a file is noted before it is read, a change during
 * the reading counts, too.
 */
void keep_note_files(const char *also);

/*
 * Root, with the lock: prepares to serve monitors. Makes the socket in the
 * state directory. Notes the libraries that were loaded since keep_note_files.
 * Returns false (logged) if the socket cannot be made. Fatal if SIGCHLD cannot
 * be watched.
 */
bool keep_begin(const char *state);

/*
 * As the TLS user, in the jail: lets monitors connect from now on. Call it when
 * keep_serve can serve them. Fatal on failure.
 */
void keep_listen(void);

/* How the processes of connections do TLS. */
struct keep_plan {
	const struct keep_setup *setup; /* that monitors must ask for */
	/* Prepares a process that has no connection yet. */
	void (*prepare)(void *self);
	void *self; /* the argument of prepare */
};

/*
 * As the TLS user, in the jail: keeps a spare process ready, and gives it the
 * connection of the next monitor that asks. Returns in the spare process, with
 * the descriptors of the connection in *ends. This process has no other
 * descriptors but 0 to 2, and must install the filter of kpopd-tls before it
 * reads from the client. Does not return in the kept process. The kept process
 * ends if the certificate or the key has changed, if one of the noted files was
 * replaced, and after an hour.
 */
void keep_serve(const struct keep_plan *plan, struct keep_ends *ends);

#endif
