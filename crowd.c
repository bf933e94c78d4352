/*
 * Who may come in while others are there: a table of the sessions, and a rate.
 *
 * Runs in the listener, as root. Pure computation: the clock, the processes and
 * the memory are the caller's.
 */
#include "config.h"

#include <string.h>

#include "crowd.h"

#define WHOLE 1000 /* thousandths in one session, and ms in a second */

size_t
crowd_size(const struct crowd_limits *most)
{
	return sizeof(struct crowd) + (size_t)most->all * sizeof(struct crowd_session);
}

void
crowd_init(struct crowd *t, const struct crowd_limits *most, int64_t now)
{
	*t = (struct crowd){ .most = *most, .credit = (int64_t)most->rate * WHOLE,
		.since = now };
}

/* What the time since the last look has brought. Before anything is taken away: or a long quiet would pay it back. */
static void
refill(struct crowd *t, int64_t now)
{
	int64_t most = (int64_t)t->most.rate * WHOLE, gone = now - t->since;

	t->credit += (gone < WHOLE ? gone : WHOLE) * t->most.rate;
	if (t->credit > most)
		t->credit = most;
	t->since = now;
}

int
crowd_wait(struct crowd *t, int64_t now)
{
	refill(t, now);
	if (t->credit >= WHOLE)
		return 0;
	return (int)((WHOLE - t->credit + t->most.rate - 1) / t->most.rate);
}

enum crowd_verdict
crowd_judge(const struct crowd *t, const struct address_net *net)
{
	int same = 0;

	if (t->count >= t->most.all)
		return CROWD_ALL;
	if (net == NULL)
		return CROWD_FINE;
	for (int i = 0; i < t->count; i++) {
		const struct crowd_session *s = &t->sessions[i];

		same += s->has_net && memcmp(&s->net, net, sizeof(*net)) == 0;
	}
	return same < t->most.each ? CROWD_FINE : CROWD_EACH;
}

void
crowd_add(struct crowd *t, pid_t pid, const struct address_net *net, int64_t now)
{
	struct crowd_session *s = &t->sessions[t->count++];

	*s = (struct crowd_session){ .pid = pid, .has_net = net != NULL };
	if (net != NULL)
		s->net = *net;
	refill(t, now);
	t->credit -= WHOLE;
}

bool
crowd_remove(struct crowd *t, pid_t pid)
{
	for (int i = 0; i < t->count; i++)
		if (t->sessions[i].pid == pid) {
			t->sessions[i] = t->sessions[--t->count];
			return true;
		}
	return false;
}
