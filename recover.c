/*
 * The broker's process, and the recovery of removals: after a session, and by hand.
 *
 * Begins as root. The broker becomes the user with the spool's group and sees
 * its session end; the recovery is the user alone. By hand root makes both for
 * one mailbox after the other, and watches them as a connection's.
 */
#include "config.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "io.h"
#include "lock.h"
#include "lock-session.h"
#include "log.h"
#include "maildrop.h"
#include "maildrop-state.h"
#include "recover.h"
#include "sandbox.h"
#include "state.h"

/* By hand: what a mailbox may cost the others; until it is locked, and with its broker's end, and in all. */
#define ENTER_MS 30000
#define END_MS 60000
#define RECOVERY_MS 3600000
/* By hand: for looking a user up. */
#define LOOKUP_SECONDS 30

/* How the recovery of a mailbox ended; an exit status. */
enum recovery { FINISHED = 0, NOT_REACHABLE = 1, SET_ASIDE = 3, NOTHING_TO_DO = 4 };

/* As the user: finishes a removal in the mailbox of state, whose session lock this process has. */
_Noreturn static void
finish(const struct visit *v, int state, struct lock_plan *locks)
{
	switch (maildrop_recover(v->mailboxes, v->path, state, locks)) {
	case DROP_OK:
		_exit(FINISHED);
	case DROP_CHANGED:
		_exit(SET_ASIDE);
	default:
		_exit(NOT_REACHABLE);
	}
}

/*
 * As the user, after a session: finishes its removal with the locks that the
 * broker kept of it. If another session has the lock, that one finishes it.
 */
_Noreturn static void
recover(const struct visit *v, int locks_channel)
{
	struct lock_plan locks = v->locks;
	struct lock_session lock;
	struct log_text user;
	bool is_alone = lock_session_kept(v->state, v->kept.session) || lock_session(v->state, NULL, &lock) == 0;

	if (!maildrop_unfinished(v->mailboxes, v->state))
		_exit(NOTHING_TO_DO);
	locks.broker = locks_channel;
	locks.kept = v->kept.spool;
	visit_confine(v, v->state);
	log_event(LOG_NOTICE, "recovery", "user=%s", log_safe(&user, v->user.name));
	if (!is_alone)
		_exit(NOT_REACHABLE);
	finish(v, v->state, &locks);
}

/* By hand: root's terminal is not for the user's processes. */
static void
leave_terminal(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null == -1 || dup2(null, 0) == -1 || dup2(null, 1) == -1 || dup2(null, 2) == -1)
		fatal("/dev/null");
	close(null);
}

/* The broker has the mailbox' directory; a child that recovers a removal has it from here, too. */
static void
confine_broker(const struct visit *v)
{
	struct sandbox_path within[] = { { v->directory, SANDBOX_OWN }, { -1, SANDBOX_OWN } };

	maildrop_reach_directory(v->path, &within[1]);
	sandbox_shut_files(within, 2);
	if (within[1].fd != -1)
		close(within[1].fd);
	sandbox_enter(SANDBOX_BROKER);
}

/* In the broker's child: becomes the user alone, who ends when the broker is killed. */
static void
leave_broker(const struct visit *v, pid_t broker_pid)
{
	privsep_leave_broker(&v->user);
	/* Not before, because it does not outlive a change of ids. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == -1)
		fatal("prctl");
	if (getppid() != broker_pid)
		_exit(NOT_REACHABLE);
}

/* The broker's end of the channel for locks to the recovery. */
static int to_recovery;

/* In a signal handler: if the recovery was stopped, nothing more is to be heard from it. */
static void
note_stop(int number, siginfo_t *info, void *context)
{
	int error = errno;

	(void)number, (void)context;
	if (info->si_code == CLD_STOPPED)
		shutdown(to_recovery, SHUT_RDWR);
	errno = error;
}

/* The broker: has the removal finished by a child, for which it makes the dotlock. */
static void
recover_in_child(struct visit *v)
{
	const struct sigaction action = { .sa_sigaction = note_stop, .sa_flags = SA_SIGINFO | SA_RESTART };
	pid_t self = getpid(), pid;
	int channel[2], status;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) == -1)
		fatal("socketpair");
	to_recovery = channel[0];
	if (sigaction(SIGCHLD, &action, NULL) == -1)
		fatal("sigaction");
	if ((pid = fork()) == -1)
		fatal("fork");
	if (pid == 0) {
		signal(SIGCHLD, SIG_DFL);
		close(channel[0]);
		leave_broker(v, self);
		recover(v, channel[1]);
	}
	close(channel[1]);
	lock_broker(&v->kept, channel[0]);
	close(channel[0]);
	/* A child that its user has stopped ends with this process. */
	while (waitpid(pid, &status, WUNTRACED) == -1)
		if (errno != EINTR)
			fatal("waitpid");
	if (WIFSTOPPED(status))
		log_event(LOG_ERR, "fatal", "error=\"the recovery was stopped, and was killed\"");
	else if (WIFSIGNALED(status))
		log_event(LOG_ERR, "fatal", "error=\"the recovery was ended by signal %d (%s)\"", WTERMSIG(status),
		    strsignal(WTERMSIG(status)));
}

void
broker(struct visit *v, int channel)
{
	bool is_after_session = v->report != NULL;

	if (is_after_session)
		explicit_bzero(v->report, sizeof(*v->report));
	else
		leave_terminal();
	/* The session ends when the service is stopped; this process keeps its locks until then. */
	lock_signals(SIG_BLOCK);
	privsep_become_broker(&v->user, v->group);
	lock_broker_prepare(&v->kept, &v->locks, v->path, v->obstacle);
	if (is_after_session && maildrop_state_open(v->mailboxes, v->path, v->directory, &v->state) != DROP_OK)
		v->state = -1;
	confine_broker(v);
	lock_broker(&v->kept, v->locks_of[0]);
	/* A session that sent what is no verb, and waits for the answer, shall see the end. */
	shutdown(v->locks_of[0], SHUT_RDWR);
	if (v->state != -1 && maildrop_unfinished(v->mailboxes, v->state)) {
		visit_say(channel, VISIT_RECOVERS, "");
		recover_in_child(v);
	}
	lock_broker_end(&v->kept);
	_exit(0);
}

/* By hand, root at first: finishes a removal as the user. Exits with an enum recovery. */
_Noreturn static void
recover_by_hand(struct visit *v, int channel)
{
	struct lock_plan locks = v->locks;
	struct lock_session lock;
	struct log_text user;
	int state;
	bool is_alone;

	leave_terminal();
	lock_signals(SIG_UNBLOCK);
	privsep_become(&v->user);
	if (maildrop_state_open(v->mailboxes, v->path, v->directory, &state) != DROP_OK)
		_exit(NOT_REACHABLE);
	is_alone = lock_session(state, NULL, &lock) == 0;
	if (is_alone && maildrop_state_claim(v->mailboxes, v->path, v->directory, state, &lock) != DROP_OK)
		_exit(NOT_REACHABLE);
	if (!maildrop_unfinished(v->mailboxes, state))
		_exit(NOTHING_TO_DO);
	locks.broker = v->locks_of[1];
	visit_confine(v, state);
	log_event(LOG_NOTICE, "recovery", "user=%s", log_safe(&user, v->user.name));
	if (!is_alone)
		_exit(NOT_REACHABLE);
	visit_say(channel, VISIT_LOCKED, "");
	finish(v, state, &locks);
}

/* Root, by hand: has one mailbox recovered, and waits for its processes, but not longer than they may take. Returns an enum recovery. */
static int
recover_and_wait(struct visit *v)
{
	static struct watch w;
	struct watch_event e;
	struct visit_message m;
	int channel, result = NOT_REACHABLE;

	fflush(stdout);
	visit_prepare(v);
	watch_begin(&w);
	if (watch_fork(&w, ROLE_RECOVERY, clock_ms() + ENTER_MS, &channel)) {
		if (v->locks_of[0] != -1)
			close(v->locks_of[0]);
		recover_by_hand(v, channel);
	}
	if (v->locks_of[1] != -1)
		close(v->locks_of[1]);
	visit_start_broker(v, &w);
	while (watch_next(&w, &e)) {
		if (e.packet != NULL && e.role == ROLE_RECOVERY && visit_read(e.packet, e.size, &m) && m.kind == VISIT_LOCKED)
			watch_limit(&w, ROLE_RECOVERY, clock_ms() + RECOVERY_MS);
		else if (e.packet != NULL)
			watch_kill(&w, e.role, WATCH_WRONG);
		else if (e.role == ROLE_RECOVERY) {
			result = WIFEXITED(e.status) ? WEXITSTATUS(e.status) : NOT_REACHABLE;
			/* What the one that was killed waits for, the broker may wait for, too. */
			watch_limit(&w, ROLE_BROKER, clock_ms() + (e.reason == WATCH_ALIVE ? END_MS : 0));
		}
	}
	return result;
}

/* What --recover has seen so far. */
struct recovery_by_hand {
	const struct options *o;
	bool is_good; /* all are finished */
	uid_t uid;    /* of the last mailbox */
	int directory; /* a copy of its descriptor; -1: none yet */
	bool is_told;  /* that it is not reachable */
};

static const char *
recovery_text(int result)
{
	switch (result) {
	case FINISHED:
		return "removal finished";
	case SET_ASIDE:
		return "set aside: the removal does not fit the mailbox, see rescue.* in its state directory";
	case NOTHING_TO_DO:
		return "nothing to do";
	default:
		return "not reachable, see syslog";
	}
}

/* Returns why this mailbox cannot be recovered, or NULL with v filled; boxes lasts as long as v. */
static const char *
describe_mailbox(const struct options *o, const struct state_mailbox *m, struct mailboxes *boxes, struct visit *v)
{
	const char *refusal = m->user != NULL ? account_find(m->user, &o->uids, &v->user) :
						account_find_uid(m->uid, &o->uids, &v->user);

	if (refusal != NULL)
		return refusal;
	if (v->user.uid != m->uid)
		return "the user has another uid now";
	*boxes = o->mailboxes;
	if (m->mailboxes != NULL && mailboxes_read(boxes, m->mailboxes) == -1)
		return "not a mailbox that -m can describe";
	v->mailboxes = boxes;
	v->path = mailboxes_path(boxes, v->user.name, v->user.home);
	return v->path != NULL ? NULL : "the mailbox's name is too long";
}

/* Says what is left in the directory of the uid before: no mailbox has had it. */
static void
report_rest(struct recovery_by_hand *r)
{
	if (r->directory == -1)
		return;
	if (state_unfinished(r->directory) && !r->is_told) {
		printf("uid %u: not reachable: a removal in a mailbox that is not known or not there\n", (unsigned)r->uid);
		r->is_good = false;
	}
	close(r->directory);
	r->directory = -1;
	r->is_told = false;
}

/* Root, by hand: recovers one mailbox, and says how that ended unless there is nothing to say. Returns an enum recovery. */
static int
recover_described(const struct recovery_by_hand *r, const struct state_mailbox *m)
{
	struct visit v = { .o = r->o, .directory = m->directory, .state = -1, .place = -1 };
	struct mailboxes boxes;
	struct log_text name, path;
	const char *refusal, *box;
	int result;

	alarm(LOOKUP_SECONDS);
	refusal = describe_mailbox(r->o, m, &boxes, &v);
	alarm(0);
	if (refusal != NULL && !state_unfinished(m->directory))
		return NOTHING_TO_DO;
	if (refusal != NULL) {
		printf("%s%suid %u: not reachable: %s\n", m->user != NULL ? log_safe(&name, m->user) : "",
		    m->user != NULL ? ", " : "", (unsigned)m->uid, refusal);
		return NOT_REACHABLE;
	}
	/* visit_prepare resolves it. */
	box = v.path;
	result = state_unfinished(m->directory) ? recover_and_wait(&v) : NOTHING_TO_DO;
	printf("%s (%s): %s\n", log_safe(&name, v.user.name), log_words(&path, box), recovery_text(result));
	return result;
}

/*
 * Root, by hand: recovers one mailbox in a process of its own, because a lookup
 * in the account database, which may wait for a server, cannot be interrupted.
 */
static void
recover_one(void *self, const struct state_mailbox *m)
{
	struct recovery_by_hand *r = self;
	pid_t pid;
	int status;

	if (r->directory != -1 && r->uid != m->uid)
		report_rest(r);
	if (r->directory == -1)
		r->directory = fcntl(m->directory, F_DUPFD_CLOEXEC, 3);
	r->uid = m->uid;
	fflush(stdout);
	if ((pid = fork()) == -1)
		fatal("fork");
	if (pid == 0) {
		status = recover_described(r, m);
		fflush(stdout);
		_exit(status);
	}
	while (waitpid(pid, &status, 0) == -1)
		if (errno != EINTR)
			fatal("waitpid");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		printf("uid %u: not reachable: the account database does not answer\n", (unsigned)m->uid);
	if (!WIFEXITED(status) || (WEXITSTATUS(status) != FINISHED && WEXITSTATUS(status) != NOTHING_TO_DO)) {
		r->is_good = false;
		r->is_told = true;
	}
}

int
recover_all(const struct options *o)
{
	struct recovery_by_hand r = { .o = o, .is_good = true, .directory = -1 };

	if (state_each(o->state, recover_one, &r) == -1)
		err(1, "%s/users", o->state);
	report_rest(&r);
	return r.is_good ? 0 : 1;
}
