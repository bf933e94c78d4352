/* A kpopd-tls that forks for each connection: see keep-serve.c. */
#ifndef KEEP_SERVE_H
#define KEEP_SERVE_H

#include "keep.h"

/* The descriptors of the process of one connection. */
struct keep_ends {
	int client, cleartext, channel;
};

/*
 * Root: takes the lock of the kept kpopd-tls of this state directory, until the
 * end of the process. Returns false if another process has it. Fatal if the
 * file of the lock cannot be opened.
 */
bool keep_lock(const char *state);

/*
 * Root: notes the files that this program executes by now, and the file `also`
 * (NULL: none). Call it before a noted file is read. Then a change during the
 * reading counts, too.
 */
void keep_note_files(const char *also);

/*
 * Root, with the lock: prepares to serve monitors. Makes the socket in the
 * state directory. Notes the files that this program executes since
 * keep_note_files. Returns false (logged) if the socket cannot be made.
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
 * As the TLS user, in the jail: has a spare process ready, and gives it the
 * connection of the next monitor that asks. Returns in this process, with the
 * descriptors of the connection. It has no other descriptors but 0 to 2, and
 * must install the filter of kpopd-tls before it reads from the client. In the
 * kept process, does not return: it ends if the certificate or the key has
 * changed, if one of the noted files was replaced, and after an hour.
 */
void keep_serve(const struct keep_plan *plan, struct keep_ends *ends);

#endif
