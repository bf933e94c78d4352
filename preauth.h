/* The pre-auth process: see preauth.c. */
#ifndef PREAUTH_H
#define PREAUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "options.h"
#include "auth.h"
#include "privsep.h"

/*
 * Leads a connection until the login, in a child of the monitor; ends the
 * process. Runs as root until the keys are copied, then as account, the
 * pre-auth user, in its jail. If the client logs in, the last message on the
 * channel is MESSAGE_LOGIN; otherwise the channel ends without that message.
 * After the login the process waits until the monitor kills it. If no process
 * has taken the turn (turn.h) in time, it answers the client instead.
 * auth: from auth_prepare. is_proxied: the connection begins with a PROXY
 * header. deadline: the login deadline, absolute, in ms of
 * CLOCK_MONOTONIC.
 */
_Noreturn void preauth(const struct options *o, const struct account *account,
    struct auth *auth, bool is_proxied, int64_t deadline, int channel);

#endif
