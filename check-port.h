/* Which processes listen on a TCP port: see check-port.c. */
#ifndef CHECK_PORT_H
#define CHECK_PORT_H

#include <sys/types.h>

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#define PORT_SOCKETS 16
#define PORT_HOLDERS 64
#define PORT_PROGRAM 64        /* bytes of a program's name with its NUL */
#define PORT_COMMAND_LINE 2048 /* bytes of a command line with its NUL */

/* The sockets that listen on a port, and the processes that have them open. */
struct port_use {
	size_t sockets;
	unsigned long inodes[PORT_SOCKETS];
	bool only_local; /* no other host can reach one of them */
	size_t count;
	struct port_holder {
		size_t socket; /* which one */
		pid_t pid;
		uid_t uid;                  /* the real one */
		char program[PORT_PROGRAM]; /* its name without a directory */
	} holders[PORT_HOLDERS];
};

/*
 * Finds the sockets that listen on a TCP port in this network namespace, and
 * their processes in this pid namespace. Returns false if /proc does not show
 * them.
 */
bool port_find(unsigned port, struct port_use *u);

/*
 * Looks for a file in memory with this name (memfd_create(2)) that a process
 * has open. Returns true with a path of it.
 */
bool port_find_memory(pid_t pid, const char *name, char path[PATH_MAX]);

/*
 * Returns the pid of a process of root that has this program, in this network
 * namespace, and its command line with blanks between the words; 0 if there is
 * none.
 */
pid_t port_find_process(const char *program, char line[PORT_COMMAND_LINE]);

#endif
