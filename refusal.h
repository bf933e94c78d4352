/* The process that answers a client which is not served: see refusal.c. */
#ifndef REFUSAL_H
#define REFUSAL_H

#include <stdint.h>

/*
 * Refusal, already jailed: answers that the login is refused, not before the
 * moment `earliest`. Both times are absolute, in ms of CLOCK_MONOTONIC.
 */
_Noreturn void refusal_deny(int64_t deadline, int64_t earliest);

/* Refusal, already jailed: answers that the mailbox is not available. */
_Noreturn void refusal_unavailable(int64_t deadline);

#endif
