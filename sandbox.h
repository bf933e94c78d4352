/* Limits the system calls and files of a process: see sandbox.c. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <stddef.h>

/* The processes; sandbox-rules.c has the system calls of each. */
enum sandbox {
	SANDBOX_PREAUTH,
	SANDBOX_SESSION,
	SANDBOX_BROKER,
	SANDBOX_RELAY,
	SANDBOX_TLS,
	SANDBOX_KEEPER, /* a kept kpopd-tls; its children enter SANDBOX_TLS */
	SANDBOX_REFUSAL
};
#define SANDBOXES 7

/* The parts of a sandbox, as bits. */
enum { SANDBOX_SECCOMP = 1, SANDBOX_LANDLOCK = 2 };

#define SANDBOX_TEXT 512 /* bytes of a text of sandbox_find_missing */

/*
 * Asks the kernel for each part, without an effect. Returns the parts that are
 * not offered. A part is not offered if the kernel lacks it, or if a supervisor
 * (a container, SystemCallFilter=) forbids the system calls of this part. If
 * there are such parts, writes their names and the errors to found, and a
 * sentence that says what to do to remedy.
 */
unsigned sandbox_find_missing(char found[SANDBOX_TEXT],
    char remedy[SANDBOX_TEXT]);

/*
 * From now on this process and its children do without these parts. Any other
 * part that cannot be installed is fatal.
 */
void sandbox_do_without(unsigned parts);

/*
 * From now on a system call that this kind of process may not make ends the
 * process that makes the call: this process or a child. Only socket and connect
 * do not end the process, but fail with EACCES. Fatal if the kernel does not
 * accept the filter, or if the filter has no effect.
 */
void sandbox_enter(enum sandbox which);

/* A file or directory that a process may still open. */
struct sandbox_path {
	int fd; /* an open descriptor, also with O_PATH; -1: ignored */
	enum {
		SANDBOX_READ,  /* read files */
		SANDBOX_LIST,  /* read files, list directories */
		SANDBOX_WRITE, /* read and write existing files */
		/*
		 * also list directories, and make, rename and remove files and
		 * directories
		 */
		SANDBOX_OWN,
	} how;
};

/*
 * From now on this process and its children can open, make and remove files
 * only at or below these n paths; open descriptors stay usable. If the kernel's
 * Landlock can do so, also denies TCP, the abstract sockets of other processes,
 * and signals to other processes. Fatal if Landlock does not work.
 */
void sandbox_shut_files(const struct sandbox_path *paths, size_t n);

/* Returns the name of the system call with this number, or "unknown". */
const char *sandbox_call_name(int number);

#endif
