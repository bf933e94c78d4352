/* The process that answers a client that gets no session: see refusal.c. */
#ifndef REFUSAL_H
#define REFUSAL_H

#include <stdint.h>

/*
 * Refusal process, already jailed: waits until the time `earliest`, then
 * answers that the login is refused (refusal_deny), or that the mailbox is not
 * available (refusal_unavailable). Both times are absolute, in ms of
 * CLOCK_MONOTONIC.
 */
_Noreturn void refusal_deny(int64_t deadline, int64_t earliest);
_Noreturn void refusal_unavailable(int64_t deadline, int64_t earliest);

#endif
