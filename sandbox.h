/* What a process may ask of the kernel: see sandbox.c. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <stddef.h>

/* The processes; their system calls are in sandbox-rules.c. */
enum sandbox { SANDBOX_PREAUTH, SANDBOX_SESSION, SANDBOX_BROKER, SANDBOX_RELAY, SANDBOX_TLS, SANDBOX_REFUSAL };
#define SANDBOXES 6

/*
 * From now on this process and its children make no system call but those of
 * its kind; another one ends it. Fatal when the kernel offers filters and takes
 * none of ours.
 */
void sandbox_enter(enum sandbox which);

/* A file or directory, opened with O_PATH or otherwise (-1: none), that stays within reach. */
struct sandbox_path {
	int fd;
	enum { SANDBOX_READ, SANDBOX_WRITE, SANDBOX_OWN } how; /* its bytes; to change them; all that is below it */
};

/*
 * From now on this process opens, makes and removes nothing outside these n
 * paths; descriptors that are open stay. Where the kernel has no Landlock
 * the log says so. Fatal when it has and does not do it.
 */
void sandbox_shut_files(const struct sandbox_path *paths, size_t n);

/* Returns the name of the system call with this number, "unknown" if it has none. */
const char *sandbox_call_name(int number);

#endif
