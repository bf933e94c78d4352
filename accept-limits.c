/*
 * Who may come in while others are there: a table of the sessions, and a rate.
 *
 * Runs in the listener, as root. Pure computation: the clock, the processes and
 * the memory are the caller's.
 */
#include "config.h"

#include <string.h>

#include "accept-limits.h"

#define WHOLE SOURCES_WHOLE

/* Returns the bytes before the table of addresses. */
static size_t
sessions_size(const struct crowd_limits *most)
{
	size_t size = sizeof(struct crowd) + (size_t)most->all * sizeof(struct crowd_session);

	return (size + _Alignof(struct sources) - 1) / _Alignof(struct sources) * _Alignof(struct sources);
}

/* Returns for how many addresses there is room: all in use, one more, and those seen lately. */
static int
count_sources(const struct crowd_limits *most)
{
	return most->all + CROWD_WAITING + 1 + CROWD_SEEN;
}

size_t
crowd_size(const struct crowd_limits *most)
{
	return sessions_size(most) + sources_size(count_sources(most));
}

void
crowd_init(struct crowd *t, const struct crowd_limits *most, int64_t now, const uint64_t key[3])
{
	int burst = most->each > most->each_rate ? most->each : most->each_rate;

	*t = (struct crowd){ .most = *most, .credit = (int64_t)most->rate * WHOLE,
		.since = now,
		.sources = (struct sources *)(void *)((char *)t + sessions_size(most)) };
	sources_init(t->sources, count_sources(most), most->each_rate, burst, key);
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

bool
crowd_is_full(const struct crowd *t)
{
	return t->count >= t->most.all;
}

enum crowd_verdict
crowd_enter(struct crowd *t, const struct address_net *net, int64_t now, struct crowd_place *place)
{
	int64_t missing, over;

	*place = (struct crowd_place){ .source = 0, .rank = now, .due = now };
	if (crowd_is_full(t))
		return CROWD_ALL;
	if (net == NULL)
		return CROWD_FINE;
	place->source = sources_get(t->sources, net, now);
	/* Refused by this limit it uses nothing of its rate, or an address with many users would lose both. */
	if (t->sources->at[place->source].in_use >= t->most.each)
		return CROWD_EACH;
	if ((missing = sources_take(t->sources, place->source, now)) == -1)
		return CROWD_EACH_RATE;
	place->rank = now + missing / t->most.each_rate;
	over = missing - ((int64_t)t->sources->burst - 1) * WHOLE;
	if (over > 0)
		place->due = now + (over + t->most.each_rate - 1) / t->most.each_rate;
	sources_hold(t->sources, place->source);
	return CROWD_FINE;
}

void
crowd_leave(struct crowd *t, const struct crowd_place *place)
{
	if (place->source != 0)
		sources_release(t->sources, place->source);
}

void
crowd_add(struct crowd *t, pid_t pid, const struct crowd_place *place, int64_t now)
{
	t->sessions[t->count++] = (struct crowd_session){ .pid = pid, .source = place->source };
	refill(t, now);
	t->credit -= WHOLE;
}

bool
crowd_remove(struct crowd *t, pid_t pid)
{
	for (int i = 0; i < t->count; i++)
		if (t->sessions[i].pid == pid) {
			if (t->sessions[i].source != 0)
				sources_release(t->sources, t->sessions[i].source);
			t->sessions[i] = t->sessions[--t->count];
			return true;
		}
	return false;
}
