/*
 * Limits the number of sessions that run at a time, and the number of sessions
 * that begin in a second.
 *
 * Runs as root, in the listener. Pure computation: the caller provides the time
 * and the memory, and makes the processes.
 */
#include "config.h"

#include <string.h>

#include "accept-limits.h"

#define WHOLE SOURCES_WHOLE

/* Returns the offset of the table of addresses in the state. */
static size_t
sessions_size(const struct limits_config *most)
{
	size_t align = _Alignof(struct sources);
	size_t size = sizeof(struct limits_state) +
	    (size_t)most->all * sizeof(struct limits_session);

	return (size + align - 1) / align * align;
}

/*
 * Returns the number of addresses in the table. The table needs an entry for
 * each address that can be in use, one for a new connection, and LIMITS_SEEN
 * for other addresses.
 */
static int
count_sources(const struct limits_config *most)
{
	return most->all + LIMITS_WAITING + 1 + LIMITS_SEEN;
}

size_t
limits_size(const struct limits_config *most)
{
	return sessions_size(most) + sources_size(count_sources(most));
}

void
limits_init(struct limits_state *t, const struct limits_config *most,
    int64_t now, const uint64_t key[3])
{
	int burst = most->each > most->each_rate ? most->each : most->each_rate;
	char *sources = (char *)t + sessions_size(most);

	*t = (struct limits_state){ .most = *most,
		.credit = (int64_t)most->rate * WHOLE,
		.since = now,
		.sources = (struct sources *)(void *)sources };
	sources_init(t->sources, count_sources(most), most->each_rate, burst,
	    key);
}

/*
 * Adds the credit earned since the last call, up to the maximum. Call it before
 * charging a session. If the session were charged first, the idle time before
 * the session would replace the charged credit.
 */
static void
add_credit(struct limits_state *t, int64_t now)
{
	int64_t most = (int64_t)t->most.rate * WHOLE, gone = now - t->since;

	t->credit += (gone < WHOLE ? gone : WHOLE) * t->most.rate;
	if (t->credit > most)
		t->credit = most;
	t->since = now;
}

int
limits_wait_ms(struct limits_state *t, int64_t now)
{
	add_credit(t, now);
	if (t->credit >= WHOLE)
		return 0;
	return (int)((WHOLE - t->credit + t->most.rate - 1) / t->most.rate);
}

bool
limits_is_full(const struct limits_state *t)
{
	return t->count >= t->most.all;
}

enum limits_verdict
limits_take_slot(struct limits_state *t, const struct address_net *net,
    int64_t now, struct limits_slot *slot)
{
	int64_t missing, over;

	*slot = (struct limits_slot){ .source = 0, .rank = now, .due = now };
	if (limits_is_full(t))
		return LIMITS_ALL;
	if (net == NULL)
		return LIMITS_OK;
	slot->source = sources_get(t->sources, net, now);
	/*
	 * A connection that is rejected here takes no token. Otherwise the
	 * rejected connections would use up the rate of the address.
	 */
	if (t->sources->at[slot->source].in_use >= t->most.each)
		return LIMITS_EACH;
	if ((missing = sources_take(t->sources, slot->source, now)) == -1)
		return LIMITS_EACH_RATE;
	slot->rank = now + missing / t->most.each_rate;
	over = missing - ((int64_t)t->sources->burst - 1) * WHOLE;
	if (over > 0)
		slot->due =
		    now + (over + t->most.each_rate - 1) / t->most.each_rate;
	sources_hold(t->sources, slot->source);
	return LIMITS_OK;
}

void
limits_return_slot(struct limits_state *t, const struct limits_slot *slot)
{
	if (slot->source != 0)
		sources_release(t->sources, slot->source);
}

void
limits_begin_session(struct limits_state *t, pid_t pid,
    const struct limits_slot *slot, int64_t now)
{
	t->sessions[t->count++] =
	    (struct limits_session){ .pid = pid, .source = slot->source };
	add_credit(t, now);
	t->credit -= WHOLE;
}

bool
limits_end_session(struct limits_state *t, pid_t pid)
{
	for (int i = 0; i < t->count; i++)
		if (t->sessions[i].pid == pid) {
			if (t->sessions[i].source != 0)
				sources_release(t->sources,
				    t->sessions[i].source);
			t->sessions[i] = t->sessions[--t->count];
			return true;
		}
	return false;
}
