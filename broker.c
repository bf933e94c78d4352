/*
 * Makes the dotlock for a session and keeps the session's locks. If the session
 * leaves a removal unfinished, starts a recovery.
 *
 * Runs as the user with the spool's group as effective group, after root's
 * rights were dropped. A recovery runs in a child, as the user without that
 * group. The broker could change other users' mailboxes, because it has the
 * group. So it runs no code that reads mail or input of the client.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "broker.h"
#include "confine.h"
#include "lock-dotlock.h"
#include "lock-broker.h"
#include "maildrop-state.h"
#include "log.h"
#include "maildrop.h"
#include "packet.h"
#include "privsep.h"
#include "process.h"
#include "recover.h"

/*
 * Child: gives up the spool's group, and makes sure that this process ends if
 * the broker is killed.
 */
static void
become_recovery(const struct session *s, pid_t broker_pid)
{
	privsep_leave_broker(&s->user);
	/* Only now, because a change of the ids undoes it. */
	if (!process_follow(broker_pid))
		_exit(RECOVERY_UNREACHABLE);
}

/* The broker's end of the recovery's channel for locks. */
static int to_recovery;

/*
 * Signal handler: if the recovery was stopped, shuts the channel down, so that
 * the broker does not wait for the recovery.
 */
static void
note_stop(int number, siginfo_t *info, void *context)
{
	int error = errno;

	(void)number, (void)context;
	if (info->si_code == CLD_STOPPED)
		shutdown(to_recovery, SHUT_RDWR);
	errno = error;
}

/* Waits for the recovery. Logs if a signal has stopped or ended it. */
static void
await_recovery(pid_t pid)
{
	int status;

	/*
	 * If the user has stopped the recovery, it is killed when this process
	 * ends.
	 */
	if (process_wait(pid, &status, WUNTRACED) == -1)
		fatal("waitpid");
	if (WIFSTOPPED(status))
		log_event(LOG_ERR, "fatal",
		    "error=\"the recovery was stopped, and was killed\"");
	else if (WIFSIGNALED(status))
		log_event(LOG_ERR, "fatal",
		    "error=\"the recovery was ended by signal %d (%s)\"",
		    WTERMSIG(status), strsignal(WTERMSIG(status)));
}

/*
 * Starts a recovery in a child. Obeys the child's verbs until the child ends.
 */
static void
recover_in_child(struct session *s)
{
	const struct sigaction action = { .sa_sigaction = note_stop,
		.sa_flags = SA_SIGINFO | SA_RESTART };
	pid_t self = getpid(), pid;
	int channel[2];

	packet_make_channel(channel);
	to_recovery = channel[0];
	if (sigaction(SIGCHLD, &action, NULL) == -1)
		fatal("sigaction");
	if ((pid = fork()) == -1)
		fatal("fork");
	if (pid == 0) {
		signal(SIGCHLD, SIG_DFL);
		close(channel[0]);
		become_recovery(s, self);
		recover_after_session(s, channel[1]);
	}
	close(channel[1]);
	lock_broker(&s->kept, channel[0]);
	close(channel[0]);
	await_recovery(pid);
}

void
broker_run(struct session *s, int channel)
{
	bool is_after_session = s->login != NULL;

	lock_broker_prepare(&s->kept, &s->locks, s->path, s->obstacle);
	if (is_after_session &&
	    maildrop_state_open(s->mailboxes, s->path, s->directory,
		&s->state) != DROP_OK)
		s->state = -1;
	confine_broker(s);
	lock_broker(&s->kept, s->locks_to_session);
	/*
	 * If the session's last packet was not a verb, the session may wait for
	 * an answer. shutdown ends that wait.
	 */
	shutdown(s->locks_to_session, SHUT_RDWR);
	if (s->state != -1 && maildrop_unfinished(s->mailboxes, s->state)) {
		message_send_session(channel, MESSAGE_RECOVERS, "");
		recover_in_child(s);
	}
	lock_broker_end(&s->kept);
	_exit(0);
}
