/*
 * Finishes the removals of all users: kpopd --recover.
 *
 * Runs as root. It looks users up and watches its children, but opens nothing
 * below STATE/users/UID or in a mailbox's directory. The user can replace any
 * file in these directories by a symlink or a FIFO. So only a child that has
 * become the user (recover.c) opens these files.
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <err.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "by-hand.h"
#include "clock.h"
#include "log.h"
#include "maildrop.h"
#include "monitor-watch.h"
#include "process.h"
#include "recover.h"
#include "recover-all.h"
#include "session-setup.h"
#include "state.h"

/*
 * These times bound how long one mailbox may delay the others. The recovery
 * must take the session lock within ENTER_MS, then lock the spool and finish
 * the removal within RECOVERY_MS. A child that only looks for an unfinished
 * removal must end within ENTER_MS.
 */
#define ENTER_MS 30000
#define RECOVERY_MS 3600000
/* How long the account database may take to find one user. */
#define LOOKUP_SECONDS 30

/* The state of --recover. */
struct recovery_round {
	const struct options *o;
	bool is_good;  /* no removal is or may be left unfinished so far */
	uid_t uid;     /* the uid of the last mailbox */
	int directory; /* its STATE/users/UID; -1: none yet */
	/* a line was printed about a removal of this uid that is left */
	bool is_printed;
};

/* Returns the exit status of a child as an enum recovery. */
static int
recovery_of(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : RECOVERY_UNREACHABLE;
}

/*
 * Starts a child that becomes the user of this uid and looks for an unfinished
 * removal in STATE/users/UID. Returns true if the child found one, or if the
 * child failed.
 */
static bool
find_unfinished(int directory, uid_t uid)
{
	static struct watch w;
	struct account user = { .uid = uid };
	struct watch_event e;
	struct stat st;
	int channel, result = RECOVERY_UNREACHABLE;

	/*
	 * Take the gid from the directory, because the account database may no
	 * longer have this user.
	 */
	if (fstat(directory, &st) == -1)
		fatal("STATE/users/%u", (unsigned)uid);
	user.gid = st.st_gid;
	fflush(stdout);
	watch_begin(&w);
	if (watch_fork(&w, ROLE_RECOVERY, clock_ms() + ENTER_MS, &channel)) {
		by_hand_become(&user);
		recover_look(directory);
	}
	while (watch_next(&w, &e)) {
		if (e.packet != NULL)
			watch_kill(&w, e.role, WATCH_WRONG);
		else
			result = recovery_of(e.status);
	}
	return result != RECOVERY_NOTHING;
}

/*
 * Recovers one mailbox with a recovery, a child that becomes the user. If the
 * mailbox's format has locks, also starts a broker. Returns an enum recovery.
 */
static int
recover_mailbox(struct session *s)
{
	const struct by_hand work = { .role = ROLE_RECOVERY,
		.run = recover_by_hand,
		.enter_ms = ENTER_MS,
		.work_ms = RECOVERY_MS };
	int result = by_hand_run(s, &work);

	return result != -1 ? result : RECOVERY_UNREACHABLE;
}

/* Returns the text that --recover prints for an enum recovery. */
static const char *
recovery_text(int result)
{
	switch (result) {
	case RECOVERY_FINISHED:
		return "removal finished";
	case RECOVERY_SET_ASIDE:
		return "set aside: the removal does not fit the mailbox, see "
		       "rescue.* in its state directory";
	case RECOVERY_NOTHING:
		return "nothing to do";
	default:
		return "not reachable, see syslog";
	}
}

/*
 * Fills s->user, s->mailboxes and s->path. Returns NULL, or the reason why this
 * mailbox cannot be recovered. *boxes must last as long as *s.
 */
static const char *
describe_mailbox(const struct state_mailbox *m, struct mailboxes *boxes,
    struct session *s)
{
	const struct options *o = s->o;
	const char *refusal = m->user != NULL ?
	    account_find(m->user, &o->uids, &s->user) :
	    account_find_uid(m->uid, &o->uids, &s->user);

	if (refusal != NULL)
		return refusal;
	if (s->user.uid != m->uid)
		return "the user has another uid now";
	*boxes = o->mailboxes;
	if (m->mailboxes != NULL && mailboxes_read(boxes, m->mailboxes) == -1)
		return "not a mailbox that -m can describe";
	s->mailboxes = boxes;
	s->path = mailboxes_path(boxes, s->user.name, s->user.home);
	return s->path != NULL ? NULL : MAILBOXES_NO_PATH;
}

/*
 * Called after the last mailbox of a uid. If a removal of the uid is left and
 * no line has reported that, prints a line.
 */
static void
print_rest(struct recovery_round *r)
{
	if (r->directory == -1)
		return;
	if (!r->is_printed && find_unfinished(r->directory, r->uid)) {
		printf("uid %u: not reachable: a removal in a mailbox that is "
		       "not known or not there\n",
		    (unsigned)r->uid);
		r->is_good = false;
	}
	close(r->directory);
	r->directory = -1;
	r->is_printed = false;
}

/* Prints that the mailbox cannot be recovered, and why. */
static void
print_unreachable(const struct state_mailbox *m, const char *refusal)
{
	struct log_text name;

	printf("%s%suid %u: not reachable: %s\n",
	    m->user != NULL ? log_safe(&name, m->user) : "",
	    m->user != NULL ? ", " : "", (unsigned)m->uid, refusal);
}

/*
 * Recovers one mailbox and prints how the recovery ended. Prints nothing if the
 * mailbox cannot be found and the user has no unfinished removal. Returns an
 * enum recovery, with RECOVERY_REPORTED for all failures.
 */
static int
recover_described(const struct recovery_round *r, const struct state_mailbox *m)
{
	struct session s;
	struct mailboxes boxes;
	struct log_text name, path;
	const char *refusal, *box;
	bool is_unfinished;
	int result;

	setup_begin(&s, r->o);
	s.directory = m->directory;
	alarm(LOOKUP_SECONDS);
	refusal = describe_mailbox(m, &boxes, &s);
	alarm(0);
	is_unfinished = find_unfinished(m->directory, m->uid);
	if (refusal != NULL && !is_unfinished)
		return RECOVERY_NOTHING;
	if (refusal != NULL) {
		print_unreachable(m, refusal);
		return RECOVERY_REPORTED;
	}
	/*
	 * The printed path is the one that -m specifies; setup_prepare may
	 * change s.path.
	 */
	box = s.path;
	result = is_unfinished ? recover_mailbox(&s) : RECOVERY_NOTHING;
	printf("%s (%s): %s\n", log_safe(&name, s.user.name),
	    log_words(&path, box), recovery_text(result));
	return result == RECOVERY_FINISHED || result == RECOVERY_NOTHING ||
		result == RECOVERY_SET_ASIDE ?
	    result :
	    RECOVERY_REPORTED;
}

/*
 * Prints that the process for a mailbox ended by a signal or a fatal error.
 */
static void
print_end(const struct state_mailbox *m, int status)
{
	printf("uid %u: not reachable", (unsigned)m->uid);
	if (!WIFSIGNALED(status))
		printf(", see syslog\n");
	else if (WTERMSIG(status) == SIGALRM)
		printf(": the account database does not answer\n");
	else
		printf(": ended by signal %d (%s)\n", WTERMSIG(status),
		    strsignal(WTERMSIG(status)));
}

/*
 * Recovers one mailbox in a process of its own, because a lookup in the account
 * database may wait for a server and cannot be interrupted.
 */
static void
recover_one(void *self, const struct state_mailbox *m)
{
	struct recovery_round *r = self;
	pid_t pid;
	int status;

	if (r->directory != -1 && r->uid != m->uid)
		print_rest(r);
	if (r->directory == -1 &&
	    (r->directory = fcntl(m->directory, F_DUPFD_CLOEXEC, 3)) == -1)
		fatal("fcntl");
	r->uid = m->uid;
	fflush(stdout);
	if ((pid = fork()) == -1)
		fatal("fork");
	if (pid == 0) {
		status = recover_described(r, m);
		fflush(stdout);
		_exit(status);
	}
	if (process_wait(pid, &status, 0) == -1)
		fatal("waitpid");
	switch (recovery_of(status)) {
	case RECOVERY_FINISHED:
	case RECOVERY_NOTHING:
		return;
	case RECOVERY_SET_ASIDE:
	case RECOVERY_REPORTED:
		break;
	default:
		print_end(m, status);
	}
	r->is_good = false;
	r->is_printed = true;
}

/* What a fatal error of --recover itself does before the process ends. */
static void
print_fatal(void)
{
	printf("the recovery ends early, see syslog\n");
	fflush(stdout);
}

int
recover_all(const struct options *o)
{
	struct recovery_round r = { .o = o, .is_good = true, .directory = -1 };

	log_before_end(print_fatal);
	if (state_each(o->state, recover_one, &r) == -1) {
		warn("%s/users", o->state);
		r.is_good = false;
	}
	print_rest(&r);
	return r.is_good ? 0 : 1;
}
