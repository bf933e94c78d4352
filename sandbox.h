/* What a process may ask of the kernel: see sandbox.c. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <stddef.h>

/* The processes; their system calls are in sandbox-rules.c. */
enum sandbox { SANDBOX_GATE, SANDBOX_SESSION, SANDBOX_BROKER, SANDBOX_RELAY, SANDBOX_TLS };
#define SANDBOXES 5

/* The monitor, before it makes processes: a place where they can leave word of their end. Fatal on failure. */
void sandbox_prepare(void);

/*
 * From now on this process and its children make no system call but those of
 * its kind; another one ends it. Fatal when the kernel offers filters and takes
 * none of ours.
 */
void sandbox_enter(enum sandbox which);

/* A file or directory, opened with O_PATH or otherwise (-1: none), that stays within reach. */
struct sandbox_path {
	int fd;
	enum { SANDBOX_READ, SANDBOX_WRITE, SANDBOX_OWN } how; /* its octets; to change them; all that is below it */
};

/*
 * From now on this process opens, makes and removes nothing outside these n
 * paths; descriptors that are open stay. Where the kernel has no Landlock
 * the log says so. Fatal when it has and does not do it.
 */
void sandbox_shut_files(const struct sandbox_path *paths, size_t n);

/* The monitor, when that process has ended: logs which system call it was ended for, if it was. */
void sandbox_log_offence(const char *process);

#endif
