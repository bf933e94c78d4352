/*
 * Finds out from /proc which processes listen on a TCP port.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check-port.h"

#define LISTENS 0x0a /* the state TCP_LISTEN in /proc/net/tcp */

/*
 * Returns true if an address of /proc/net/tcp or tcp6 is a loopback address.
 * The digits are those of the words of memory.
 */
static bool
is_loopback_port(const char *digits)
{
	struct in6_addr a;
	uint32_t words[4] = { 0 };
	size_t n = strlen(digits) / 8;

	for (size_t i = 0; i < n && i < 4; i++) {
		char word[9] = "";

		memcpy(word, digits + 8 * i, 8);
		words[i] = (uint32_t)strtoul(word, NULL, 16);
	}
	if (n == 1)
		return ntohl(words[0]) >> 24 == 127;
	memcpy(&a, words, sizeof(a));
	return IN6_IS_ADDR_LOOPBACK(&a) ||
	    (IN6_IS_ADDR_V4MAPPED(&a) && a.s6_addr[12] == 127);
}

/* Adds the listening sockets of /proc/net/tcp or tcp6. */
static bool
find_sockets(const char *path, unsigned port, struct port_use *u)
{
	FILE *f = fopen(path, "re");
	char line[512];

	if (f == NULL)
		return false;
	while (fgets(line, sizeof(line), f) != NULL) {
		char digits[33];
		unsigned local, state;
		unsigned long inode;

		if (sscanf(line,
			" %*[0-9]: %32[0-9A-F]:%x %*[0-9A-F]:%*x %x %*s %*s "
			"%*s %*u %*u %lu",
			digits, &local, &state, &inode) != 4 ||
		    local != port || state != LISTENS ||
		    u->sockets == PORT_SOCKETS)
			continue;
		u->inodes[u->sockets++] = inode;
		if (!is_loopback_port(digits))
			u->only_local = false;
	}
	fclose(f);
	return true;
}

/* Reads a link in /proc. Returns false if it cannot be read. */
static bool
read_proc_link(const char *path, char target[PATH_MAX])
{
	ssize_t n = readlink(path, target, PATH_MAX - 1);

	if (n < 0)
		return false;
	target[n] = '\0';
	return true;
}

/*
 * Finds the name of a process's program. An upgrade may have removed the
 * program's file.
 */
static bool
name_program(pid_t pid, char name[PORT_PROGRAM])
{
	char path[64], target[PATH_MAX], *end;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	if (!read_proc_link(path, target))
		return false;
	if ((end = strstr(target, " (deleted)")) != NULL)
		*end = '\0';
	end = strrchr(target, '/');
	strlcpy(name, end != NULL ? end + 1 : target, PORT_PROGRAM);
	return true;
}

/*
 * Finds the real uid of a process. The owner of its directory in /proc would be
 * root for each process that is not dumpable.
 */
static bool
find_uid(pid_t pid, uid_t *uid)
{
	char path[64], line[256];
	unsigned number;
	bool is_found = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if ((f = fopen(path, "re")) == NULL)
		return false;
	while (!is_found && fgets(line, sizeof(line), f) != NULL)
		is_found = sscanf(line, "Uid: %u", &number) == 1;
	fclose(f);
	*uid = is_found ? number : 0;
	return is_found;
}

/* Adds a process that has one of the sockets. */
static void
add_holder(pid_t pid, size_t number, struct port_use *u)
{
	struct port_holder *h = &u->holders[u->count];

	if (u->count == PORT_HOLDERS || !name_program(pid, h->program) ||
	    !find_uid(pid, &h->uid))
		return;
	h->socket = number;
	h->pid = pid;
	u->count++;
}

/* Adds a process for each descriptor of it that is one of the sockets. */
static void
find_holder(pid_t pid, struct port_use *u)
{
	char path[PATH_MAX], target[PATH_MAX];
	struct dirent *entry;
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	if ((d = opendir(path)) == NULL)
		return;
	while ((entry = readdir(d)) != NULL) {
		unsigned long inode;

		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)pid,
		    entry->d_name);
		if (!read_proc_link(path, target) ||
		    sscanf(target, "socket:[%lu]", &inode) != 1)
			continue;
		for (size_t i = 0; i < u->sockets; i++)
			if (u->inodes[i] == inode)
				add_holder(pid, i, u);
	}
	closedir(d);
}

bool
port_find_memory(pid_t pid, const char *name, char path[PATH_MAX])
{
	char target[PATH_MAX], wanted[PATH_MAX];
	struct dirent *entry;
	bool is_found = false;
	DIR *d;

	snprintf(wanted, sizeof(wanted), "/memfd:%s (deleted)", name);
	snprintf(path, PATH_MAX, "/proc/%d/fd", (int)pid);
	if ((d = opendir(path)) == NULL)
		return false;
	while (!is_found && (entry = readdir(d)) != NULL) {
		snprintf(path, PATH_MAX, "/proc/%d/fd/%s", (int)pid,
		    entry->d_name);
		is_found =
		    read_proc_link(path, target) && strcmp(target, wanted) == 0;
	}
	closedir(d);
	return is_found;
}

/* Returns the pid of the next process in /proc; 0: there is no other. */
static pid_t
next_process(DIR *proc)
{
	const struct dirent *entry;
	const char *problem;

	while ((entry = readdir(proc)) != NULL) {
		pid_t pid =
		    (pid_t)strtonum(entry->d_name, 1, INT_MAX, &problem);

		if (problem == NULL)
			return pid;
	}
	return 0;
}

bool
port_find(unsigned port, struct port_use *u)
{
	DIR *proc = opendir("/proc");
	pid_t pid;
	bool is_found;

	*u = (struct port_use){ .only_local = true };
	is_found = find_sockets("/proc/net/tcp", port, u);
	/* A kernel without IPv6 does not have the second file. */
	find_sockets("/proc/net/tcp6", port, u);
	while (proc != NULL && u->sockets > 0 && (pid = next_process(proc)) > 0)
		find_holder(pid, u);
	if (proc != NULL)
		closedir(proc);
	return is_found && proc != NULL;
}

/* Returns true if the process has the network of this one. */
static bool
has_this_network(pid_t pid)
{
	char path[64], here[PATH_MAX], there[PATH_MAX];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	return read_proc_link("/proc/self/ns/net", here) &&
	    read_proc_link(path, there) && strcmp(here, there) == 0;
}

/* Reads a process's command line. */
static void
read_command_line_of(pid_t pid, char line[PORT_COMMAND_LINE])
{
	char path[64];
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) != -1) {
		n = read(fd, line, PORT_COMMAND_LINE - 1);
		close(fd);
	}
	line[n > 0 ? n : 0] = '\0';
	for (ssize_t i = 0; i + 1 < n; i++)
		if (line[i] == '\0')
			line[i] = ' ';
}

pid_t
port_find_process(const char *program, char line[PORT_COMMAND_LINE])
{
	DIR *proc = opendir("/proc");
	char name[PORT_PROGRAM];
	pid_t pid = 0;
	uid_t uid;

	while (proc != NULL && (pid = next_process(proc)) > 0)
		if (name_program(pid, name) && strcmp(name, program) == 0 &&
		    find_uid(pid, &uid) && uid == 0 && has_this_network(pid))
			break;
	if (proc != NULL)
		closedir(proc);
	*line = '\0';
	if (pid > 0)
		read_command_line_of(pid, line);
	return pid;
}
