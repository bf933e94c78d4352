/*
 * Counts connections per address, in a table of fixed size.
 *
 * Runs as root, in the listener. Pure computation: the caller provides the
 * time, the memory and the key.
 *
 * An address is in use while it has a session or a waiting connection. An
 * address that is in use keeps its entry. If no entry is free, a new address
 * replaces the least recently seen address that is not in use. If the replaced
 * address returns, it gets a full token bucket. So an attacker with more
 * addresses than the table has entries can exceed the rate of each address. But
 * the attacker cannot make the address of another client appear to be over its
 * rate. An address is found in a hash chain. Chains are short, because clients
 * do not know the key of the hash.
 */
#include "config.h"

#include <string.h>

#include "accept-sources.h"

/* Returns the smallest power of two that is not less than `room`. */
static uint32_t
count_chains(int room)
{
	uint32_t n = 1;

	while (n < (uint32_t)room)
		n *= 2;
	return n;
}

size_t
sources_size(int room)
{
	return sizeof(struct sources) +
	    ((size_t)room + 1) * sizeof(struct source) +
	    count_chains(room) * sizeof(int);
}

void
sources_init(struct sources *s, int room, int rate, int burst,
    const uint64_t key[3])
{
	*s = (struct sources){ .rate = rate,
		.burst = burst,
		.room = room,
		.chains = count_chains(room) };
	memcpy(s->key, key, sizeof(s->key));
}

/* Returns a pointer to the head of this address's chain. */
static int *
find_chain(struct sources *s, const struct address_net *net)
{
	int *heads = (int *)(void *)&s->at[s->room + 1];
	uint64_t h;

	memcpy(&h, net->bytes, sizeof(h));
	h = (h ^ s->key[0]) * (s->key[1] | 1);
	h = (h ^ h >> 32) * (s->key[2] | 1);
	return &heads[(h >> 32) & (s->chains - 1)];
}

/* Appends an address to the list of addresses not in use. */
static void
unused_append(struct sources *s, int i)
{
	s->at[i].older = s->newest;
	s->at[i].newer = 0;
	if (s->newest != 0)
		s->at[s->newest].newer = i;
	else
		s->oldest = i;
	s->newest = i;
}

/* Removes an address from the list of addresses not in use. */
static void
unused_remove(struct sources *s, int i)
{
	struct source *a = &s->at[i];

	*(a->older != 0 ? &s->at[a->older].newer : &s->oldest) = a->newer;
	*(a->newer != 0 ? &s->at[a->newer].older : &s->newest) = a->older;
}

/*
 * Removes the least recently seen address that is not in use. Returns the index
 * of its entry.
 */
static int
evict_oldest(struct sources *s)
{
	int i = s->oldest, *at = find_chain(s, &s->at[i].net);

	while (*at != i)
		at = &s->at[*at].chained;
	*at = s->at[i].chained;
	unused_remove(s, i);
	return i;
}

int
sources_get(struct sources *s, const struct address_net *net, int64_t now)
{
	int *head = find_chain(s, net), i = *head;

	while (i != 0 && memcmp(&s->at[i].net, net, sizeof(*net)) != 0)
		i = s->at[i].chained;
	if (i != 0) {
		if (s->at[i].in_use == 0) {
			unused_remove(s, i);
			unused_append(s, i);
		}
		return i;
	}
	i = s->used < s->room ? ++s->used : evict_oldest(s);
	s->at[i] = (struct source){ .net = *net,
		.since = now,
		.credit = (int64_t)s->burst * SOURCES_WHOLE,
		.chained = *head };
	*head = i;
	unused_append(s, i);
	return i;
}

int64_t
sources_take(struct sources *s, int index, int64_t now)
{
	struct source *a = &s->at[index];
	int64_t most = (int64_t)s->burst * SOURCES_WHOLE;
	int64_t gone = now - a->since, missing;

	/*
	 * The bucket is full after this time in any case, also if it owed all
	 * that it may owe. With a longer time the product could overflow.
	 */
	if (gone > most + SOURCES_WAIT_MS)
		gone = most + SOURCES_WAIT_MS;
	a->credit += gone * s->rate;
	if (a->credit > most)
		a->credit = most;
	a->since = now;
	if (a->credit + (int64_t)s->rate * SOURCES_WAIT_MS < SOURCES_WHOLE)
		return -1;
	missing = most - a->credit;
	a->credit -= SOURCES_WHOLE;
	return missing;
}

void
sources_hold(struct sources *s, int index)
{
	if (s->at[index].in_use++ == 0)
		unused_remove(s, index);
}

void
sources_release(struct sources *s, int index)
{
	if (--s->at[index].in_use == 0)
		unused_append(s, index);
}
