/* What happens before the login: see preauth.c. */
#ifndef PREAUTH_H
#define PREAUTH_H

#include <stdint.h>

#include "options.h"
#include "auth.h"
#include "privsep.h"

/*
 * The pre-auth process, a child of the monitor's. Root until the keys are copied, then
 * jailed as its own user. Ends with a report on the channel, or without one
 * when nobody is to be let in. auth: without keys yet; NULL when Kerberos does
 * not work. deadline: absolute, ms of CLOCK_MONOTONIC.
 */
_Noreturn void preauth(const struct options *o, const struct account *account,
    struct auth *auth, int64_t deadline, int channel);

#endif
