/* Who may come in while others are there: see crowd.c. */
#ifndef CROWD_H
#define CROWD_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "address.h"

#define CROWD_MOST 100000 /* of each; a table of so many sessions has 2 MiB */

struct crowd_limits {
	int all;  /* sessions */
	int each; /* sessions from one address, or one /64 of IPv6 */
	int rate; /* new sessions per second; as many at once after a quiet second */
};

/* The sessions there are. Of a fixed size, in the caller's memory. */
struct crowd {
	struct crowd_limits most;
	int count;
	int64_t credit, since; /* thousandths of a session that may come; ms when that was so */
	struct crowd_session {
		pid_t pid;
		bool has_net;
		struct address_net net;
	} sessions[];
};

enum crowd_verdict { CROWD_FINE, CROWD_ALL, CROWD_EACH };

/* Octets that a table needs. */
size_t crowd_size(const struct crowd_limits *most);

/* An empty table, in so many octets. now: ms of any clock that does not go back. */
void crowd_init(struct crowd *t, const struct crowd_limits *most, int64_t now);

/* Ms from now until the rate allows one more session; 0 when it does. */
int crowd_wait(struct crowd *t, int64_t now);

/* Whether one more session may begin, from net or (NULL) from nowhere in particular. */
enum crowd_verdict crowd_judge(const struct crowd *t, const struct address_net *net);

/* It began, after crowd_judge said FINE. */
void crowd_add(struct crowd *t, pid_t pid, const struct address_net *net, int64_t now);

/* A process ended. Whether it was a session. */
bool crowd_remove(struct crowd *t, pid_t pid);

#endif
