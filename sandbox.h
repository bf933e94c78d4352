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
	SANDBOX_REFUSAL
};
#define SANDBOXES 6

/*
 * From now on ends this process and its children if they make a system call
 * that this kind of process may not make. If the kernel has no filters, logs
 * this. Fatal if the kernel has filters and does not accept this one.
 */
void sandbox_enter(enum sandbox which);

/* A file or directory that a process may still open. */
struct sandbox_path {
	int fd; /* an open descriptor, also with O_PATH; -1: ignored */
	enum {
		SANDBOX_READ,  /* read files */
		SANDBOX_WRITE, /* read and write existing files */
		SANDBOX_OWN,   /* also make, rename and remove files */
	} how;
};

/*
 * From now on this process can open, make and remove files only at or below
 * these n paths; open descriptors stay usable. If the kernel has no Landlock,
 * logs this. Fatal if the kernel has Landlock and it does not work.
 */
void sandbox_shut_files(const struct sandbox_path *paths, size_t n);

/* Returns the name of the system call with this number, or "unknown". */
const char *sandbox_call_name(int number);

#endif
