/*
 * Finds the user whose process is at the other end of a TCP connection within
 * this machine.
 *
 * Runs as the caller, with --listen, in the process that listens. Reads nothing
 * from the connection. The answers come from the kernel: by NETLINK_SOCK_DIAG,
 * or from /proc/net if that has no answer, for example because a container
 * forbids it.
 */
#include "config.h"

#include <sys/socket.h>

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kpopc.h"

#define PROC_KEY 100 /* bytes of two addresses in /proc/net/tcp6, and more */

/*
 * One end of a connection, in network byte order. An IPv4 address has its form
 * in IPv6, because a program may use an IPv6 socket for it.
 */
struct end {
	uint32_t words[4];
	in_port_t port;
};

/* The other end of a connection, as the kernel describes it. */
struct peer {
	struct end own, other;
	unsigned state;
	unsigned long inode;
	uid_t owner;
};

/* Returns the end that has this address. */
static struct end
end_of(const struct sockaddr_storage *a)
{
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct end e = { .words = { 0, 0, htonl(0xffff), 0 } };

	if (a->ss_family == AF_INET) {
		memcpy(&v4, a, sizeof(v4));
		e.words[3] = v4.sin_addr.s_addr;
		e.port = v4.sin_port;
	} else {
		memcpy(&v6, a, sizeof(v6));
		memcpy(e.words, &v6.sin6_addr, sizeof(e.words));
		e.port = v6.sin6_port;
	}
	return e;
}

static bool
ends_are_equal(const struct end *a, const struct end *b)
{
	return a->port == b->port &&
	    memcmp(a->words, b->words, sizeof(a->words)) == 0;
}

static bool
end_is_ipv4(const struct end *e)
{
	return e->words[0] == 0 && e->words[1] == 0 &&
	    e->words[2] == htonl(0xffff);
}

/*
 * Returns true if a process has the socket. A socket that was closed remains
 * for a while, for example in TIME_WAIT. It has no inode then, and the kernel
 * reports root as its owner.
 */
static bool
is_held(const struct peer *p)
{
	return p->inode != 0 &&
	    (p->state == TCP_ESTABLISHED || p->state == TCP_FIN_WAIT1 ||
		p->state == TCP_FIN_WAIT2);
}

/* Writes the end's address, as struct inet_diag_sockid has it. */
static void
put_address(__be32 to[4], const struct end *e)
{
	memset(to, 0, sizeof(e->words));
	if (end_is_ipv4(e))
		to[0] = e->words[3];
	else
		memcpy(to, e->words, sizeof(e->words));
}

/* Returns the end with this address of a struct inet_diag_sockid. */
static struct end
get_address(const __be32 from[4], in_port_t port, int family)
{
	struct end e = { .words = { 0, 0, htonl(0xffff), from[0] },
		.port = port };

	if (family == AF_INET6)
		memcpy(e.words, from, sizeof(e.words));
	return e;
}

/* Asks the kernel for the socket between the ends of p. Returns 0 or -1. */
static int
send_question(int fd, const struct peer *p)
{
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 body;
	} question = { .header = { .nlmsg_len = sizeof(question),
			   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			   .nlmsg_flags = NLM_F_REQUEST },
		.body = {
		    .sdiag_family = end_is_ipv4(&p->own) ? AF_INET : AF_INET6,
		    .sdiag_protocol = IPPROTO_TCP,
		    .idiag_states = ~0U,
		    .id = { .idiag_sport = p->own.port,
			.idiag_dport = p->other.port,
			.idiag_cookie = { INET_DIAG_NOCOOKIE,
			    INET_DIAG_NOCOOKIE } },
		} };

	put_address(question.body.id.idiag_src, &p->own);
	put_address(question.body.id.idiag_dst, &p->other);
	return send(fd, &question, sizeof(question), 0) == -1 ? -1 : 0;
}

/*
 * Reads the kernel's answer into p. Returns 0, or -1 if the kernel has found no
 * socket, or another one: without an exact match it looks for one that listens.
 * The answer is there already, because the kernel answers within send.
 */
static int
read_diagnosis(int fd, struct peer *p)
{
	union {
		struct nlmsghdr header;
		char bytes[8192];
	} answer;
	struct sockaddr_nl from = { .nl_pid = 1 };
	socklen_t size = sizeof(from);
	const struct inet_diag_msg *found = NLMSG_DATA(&answer.header);
	ssize_t n = recvfrom(fd, &answer, sizeof(answer), MSG_DONTWAIT,
	    (struct sockaddr *)&from, &size);
	struct end own, other;

	if (n < (ssize_t)NLMSG_LENGTH(sizeof(*found)) || from.nl_pid != 0 ||
	    answer.header.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return -1;
	own = get_address(found->id.idiag_src, found->id.idiag_sport,
	    found->idiag_family);
	other = get_address(found->id.idiag_dst, found->id.idiag_dport,
	    found->idiag_family);
	if (!ends_are_equal(&own, &p->own) ||
	    !ends_are_equal(&other, &p->other))
		return -1;
	p->state = found->idiag_state;
	p->inode = found->idiag_inode;
	p->owner = found->idiag_uid;
	return 0;
}

/* Finds the socket between the ends of p by netlink. Returns 0 or -1. */
static int
ask_netlink(struct peer *p)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG),
	    result;

	if (fd == -1)
		return -1;
	result = send_question(fd, p) == 0 ? read_diagnosis(fd, p) : -1;
	close(fd);
	return result;
}

/* Appends the last words of an address, and the port, as in /proc/net/tcp. */
static void
append_end(char key[PROC_KEY], const struct end *e, int words)
{
	size_t n = strlen(key);

	for (int i = 4 - words; i < 4; i++)
		n += (size_t)snprintf(key + n, PROC_KEY - n, "%08X",
		    e->words[i]);
	snprintf(key + n, PROC_KEY - n, ":%04X ", ntohs(e->port));
}

/*
 * Finds the socket between the ends of p in a file of /proc/net, in which an
 * address has so many words. Returns 0 or -1.
 */
static int
search_proc(const char *name, int words, struct peer *p)
{
	char key[PROC_KEY] = "", line[512];
	FILE *f = fopen(name, "re");
	int result = -1;

	if (f == NULL)
		return -1;
	append_end(key, &p->own, words);
	append_end(key, &p->other, words);
	while (result == -1 && fgets(line, sizeof(line), f) != NULL) {
		const char *colon = strchr(line, ':');

		if (colon != NULL && colon[1] == ' ' &&
		    strncmp(colon + 2, key, strlen(key)) == 0 &&
		    sscanf(colon + 2 + strlen(key),
			"%x %*x:%*x %*x:%*x %*x %u %*d %lu", &p->state,
			&p->owner, &p->inode) == 3)
			result = 0;
	}
	fclose(f);
	return result;
}

/* Returns true if the connection fd still has its other end. */
static bool
is_connected(int fd)
{
	struct tcp_info info;
	socklen_t size = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
	    (info.tcpi_state == TCP_ESTABLISHED ||
		info.tcpi_state == TCP_CLOSE_WAIT);
}

/*
 * The kernel is asked for the socket with the two addresses of the connection,
 * mirrored. Another process can have such a socket only after the first one has
 * been closed, and only a reset lets it connect. The reset ends this
 * connection, too, but the bytes before it can still be read. So the connection
 * is examined after the answer: if the connection has not ended, the answer was
 * about its other end.
 */
int
peer_find(int fd, uid_t *owner)
{
	struct sockaddr_storage here = { 0 }, there = { 0 };
	socklen_t here_size = sizeof(here), there_size = sizeof(there);
	struct peer p;

	if (getsockname(fd, (struct sockaddr *)&here, &here_size) == -1 ||
	    getpeername(fd, (struct sockaddr *)&there, &there_size) == -1)
		return -1;
	p = (struct peer){ .own = end_of(&there), .other = end_of(&here) };
	if (ask_netlink(&p) == -1 &&
	    (!end_is_ipv4(&p.own) ||
		search_proc("/proc/net/tcp", 1, &p) == -1) &&
	    search_proc("/proc/net/tcp6", 4, &p) == -1)
		return -1;
	if (!is_held(&p) || !is_connected(fd))
		return -1;
	*owner = p.owner;
	return 0;
}

bool
peer_is_distinct(uid_t uid)
{
	unsigned overflow = 65534;
	FILE *f = fopen("/proc/sys/kernel/overflowuid", "re");

	if (f != NULL) {
		if (fscanf(f, "%u", &overflow) != 1)
			overflow = 65534;
		fclose(f);
	}
	return uid != overflow;
}
