/*
 * Watches the processes of a connection until the last has ended, and writes
 * their log lines to syslog.
 *
 * Runs as root: in the monitor, in --recover and in --check. A user can stop
 * the session and the broker with signals, so the process that watches them
 * must not belong to that user. The watching process reads nothing from the
 * network. It reads packets of bounded size from its children, one at a time.
 * Each packet is logged or passed to the caller.
 *
 * Each child has its own channel, so the descriptor identifies the role. A
 * compromised child cannot close, fill or use the channel of another child.
 * roles[] contains the events that each role may log.
 */
#include "config.h"

#include <sys/syscall.h>
#include <sys/wait.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "monitor-watch.h"
#include "packet.h"
#include "sandbox.h"

/* A child may log LINES_AT_ONCE lines at once, and one more every LINE_MS. */
#define LINES_AT_ONCE 100
#define LINE_MS 10000
/* A child that has closed its channel must end within this time. */
#define ENDING_MS 1000
/*
 * A killed child ends within this time, unless it waits in the kernel for a
 * file system that does not answer. A user can mount such a file system in the
 * home directory.
 */
#define KILLED_MS 10000
/* After the end of an adopted child its status must come within this time. */
#define STATUS_MS 100

static const struct {
	const char *name;
	/* names of events that it may log, each between blanks */
	const char *events;
	bool is_users; /* its user can send it signals */
} roles[ROLES] = {
	[ROLE_PREAUTH] = { "the pre-auth process",
	    " closed exposed failed fatal nonsense refused replay sandbox ",
	    false },
	[ROLE_TLS] = { "kpopd-tls", " failed fatal refused sandbox tls ",
	    false },
	[ROLE_RELAY] = { "the relay", " failed fatal sandbox ", false },
	[ROLE_SESSION] = { "the session",
	    " failed fatal index logout nonsense recovery rescue sandbox "
	    "skipped uidl ",
	    true },
	[ROLE_BROKER] = { "the broker",
	    " failed fatal recovery rescue sandbox ", true },
	[ROLE_REFUSAL] = { "the refusal", " failed fatal sandbox ", false },
	[ROLE_RECOVERY] = { "the recovery",
	    " failed fatal recovery rescue sandbox ", true },
	[ROLE_CHECK] = { "the check", " failed fatal ", true },
	[ROLE_IMPORT] = { "the import",
	    " failed fatal import index recovery rescue sandbox skipped ",
	    true },
};

/* Signal handler: does nothing but interrupt ppoll. */
static void
interrupt_wait(int signal_number)
{
	(void)signal_number;
}

void
watch_begin(struct watch *w)
{
	const struct sigaction action = { .sa_handler = interrupt_wait };
	sigset_t child;

	*w = (struct watch){ .children = { { .pid = 0 } }, .request = -1 };
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	/*
	 * SA_NOCLDSTOP is not set, because SIGCHLD must also report that a
	 * child was stopped.
	 */
	if (sigprocmask(SIG_BLOCK, &child, NULL) == -1 ||
	    sigaction(SIGCHLD, &action, NULL) == -1)
		fatal("preparing for signals");
}

static void
close_channel(struct watch_child *c)
{
	if (c->pid != 0 && c->channel != -1)
		close(c->channel);
	c->channel = -1;
}

/* Closes the descriptors that only an adopted child has. */
static void
close_process(struct watch_child *c)
{
	if (c->pid == 0 || !c->is_adopted)
		return;
	close(c->process);
	close(c->control);
	c->process = c->control = -1;
}

/*
 * In a new child: closes the channels to the other children and resets the
 * signals. Clears the last packet, which may contain bytes from the client.
 */
static void
leave_monitor(struct watch *w)
{
	sigset_t child;

	explicit_bzero(w->packet, sizeof(w->packet));
	for (int i = 0; i < ROLES; i++) {
		close_channel(&w->children[i]);
		close_process(&w->children[i]);
	}
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_UNBLOCK, &child, NULL);
}

int
watch_try_fork(struct watch *w, enum role role, int64_t deadline, int *channel)
{
	struct watch_child *c = &w->children[role];
	int ends[2], error;
	pid_t pid;

	packet_make_channel(ends);
	if ((pid = fork()) == -1) {
		error = errno;
		close(ends[0]);
		close(ends[1]);
		errno = error;
		return -1;
	}
	/*
	 * The seccomp filters of these children do not permit them to change
	 * their process group. So if a compromised child makes processes, they
	 * can be killed together with the child.
	 */
	if (setpgid(pid, pid) == -1 && pid == 0)
		fatal("setpgid");
	if (pid == 0) {
		leave_monitor(w);
		close(ends[0]);
		*channel = ends[1];
		log_through(ends[1]);
		return 1;
	}
	close(ends[1]);
	*c = (struct watch_child){
		.pid = pid, .channel = ends[0], .deadline = deadline
	};
	return 0;
}

bool
watch_fork(struct watch *w, enum role role, int64_t deadline, int *channel)
{
	int is_child = watch_try_fork(w, role, deadline, channel);

	if (is_child == -1)
		fatal("fork");
	return is_child == 1;
}

void
watch_adopt(struct watch *w, enum role role, int64_t deadline,
    const struct keep_process *p, int channel)
{
	w->children[role] = (struct watch_child){ .pid = p->pid,
		.channel = channel,
		.deadline = deadline,
		.is_adopted = true,
		.process = p->process,
		.control = p->control };
}

int
watch_channel(const struct watch *w, enum role role)
{
	return w->children[role].pid != 0 ? w->children[role].channel : -1;
}

void
watch_limit(struct watch *w, enum role role, int64_t deadline)
{
	w->children[role].deadline = deadline;
}

void
watch_dismiss(struct watch *w, enum role role, int64_t deadline)
{
	w->children[role].deadline = deadline;
	w->children[role].is_needless = true;
}

void
watch_request(struct watch *w, int fd)
{
	w->request = fd;
}

void
watch_remind(struct watch *w, int64_t time)
{
	w->reminder = time;
}

/* Kills the child, and the processes that it has made. */
static void
kill_child(const struct watch_child *c)
{
	/* A process of the kept kpopd-tls cannot make processes. */
	if (c->is_adopted)
		syscall(SYS_pidfd_send_signal, c->process, SIGKILL, NULL, 0);
	else
		kill(-c->pid, SIGKILL);
}

void
watch_kill(struct watch *w, enum role role, enum watch_reason reason)
{
	struct watch_child *c = &w->children[role];

	if (c->pid == 0)
		return;
	if (!c->has_ended)
		kill_child(c);
	if (c->reason == WATCH_ALIVE)
		c->reason = reason;
	c->deadline = clock_ms() + KILLED_MS;
	if (reason == WATCH_DISMISSED || reason == WATCH_WRONG)
		close_channel(c);
}

/*
 * Counts one more line against the child's log rate. If the child has exceeded
 * the rate, counts the line as withheld and returns false.
 */
static bool
charge_line(struct watch_child *c)
{
	int64_t now = clock_ms();

	if (c->paid < now)
		c->paid = now;
	if (c->paid + LINE_MS > now + (int64_t)LINES_AT_ONCE * LINE_MS) {
		c->withheld++;
		return false;
	}
	c->paid += LINE_MS;
	return true;
}

/* Returns true if this role may log the event. */
static bool
is_event_of(enum role role, const char *event)
{
	char word[LOG_EVENT + 2];

	if (event[0] == '\0' ||
	    event[strspn(event, "abcdefghijklmnopqrstuvwxyz")] != '\0')
		return false;
	snprintf(word, sizeof(word), " %s ", event);
	return strstr(roles[role].events, word) != NULL;
}

/*
 * Writes the line that a child has sent in a packet of n bytes, if its role
 * may log this event.
 */
static void
log_line(enum role role, struct log_packet *p, size_t n)
{
	struct log_text event;
	size_t size = n - offsetof(struct log_packet, text);
	int priority = LOG_PRI(p->priority);

	/*
	 * LOG_ALERT is the highest priority that kpopd uses. LOG_EMERG would
	 * appear on every user's terminal.
	 */
	if (priority < LOG_ALERT)
		priority = LOG_ALERT;
	p->event[LOG_EVENT - 1] = '\0';
	if (!is_event_of(role, p->event)) {
		log_event(LOG_ALERT, "fatal",
		    "error=\"%s logged a forbidden event: %s\"",
		    roles[role].name, log_safe(&event, p->event));
		return;
	}
	/* A compromised child may not have encoded the text. */
	for (size_t i = 0; i < size; i++)
		if (p->text[i] < ' ' || p->text[i] > '~')
			p->text[i] = '?';
	log_event(priority, p->event, "%.*s", (int)size, p->text);
}

/*
 * Logs the packet if it is a log line, or if it reports a system call that the
 * filter does not permit. Returns false for any other packet.
 */
static bool
log_packet(enum role role, struct watch_child *c, char *packet, size_t n)
{
	struct log_packet *p = (struct log_packet *)(void *)packet;

	if (n < offsetof(struct log_packet, text) || n > sizeof(*p) ||
	    (p->kind != LOG_LINE && p->kind != LOG_CALL))
		return false;
	if (!charge_line(c))
		return true;
	if (p->kind == LOG_LINE)
		log_line(role, p, n);
	else
		log_event(LOG_ALERT, "fatal",
		    "error=\"%s was ended for the system call %s\"",
		    roles[role].name, sandbox_call_name(p->call));
	return true;
}

/*
 * Receives one packet from a child. Returns true with *e filled if the packet
 * is for the caller.
 */
static bool
take_packet(struct watch *w, enum role role, struct watch_event *e)
{
	struct watch_child *c = &w->children[role];
	ssize_t n = packet_receive(c->channel, w->packet, sizeof(w->packet));

	if (n == PACKET_BAD) {
		watch_kill(w, role, WATCH_WRONG);
		return false;
	}
	/*
	 * A compromised broker may have forked a process that keeps the channel
	 * open after the broker has ended, and sends forever.
	 */
	if (n == PACKET_END ||
	    (c->has_ended &&
		(n == PACKET_NONE || clock_ms() >= c->ended + ENDING_MS))) {
		close_channel(c);
		if (c->deadline == 0 || c->deadline > clock_ms() + ENDING_MS)
			c->deadline = clock_ms() + ENDING_MS;
		return false;
	}
	/*
	 * If watch_kill has not closed the channel of a killed child, the lines
	 * that the child has sent are still logged. Its messages are not
	 * obeyed.
	 */
	if (n == PACKET_NONE || log_packet(role, c, w->packet, (size_t)n) ||
	    c->reason != WATCH_ALIVE)
		return false;
	*e = (struct watch_event){
		.role = role, .packet = w->packet, .size = (size_t)n
	};
	return true;
}

/*
 * If the child has ended, kills the processes that it has made. Call it before
 * waitpid has returned the child: until then, no other process group can have
 * this pid as its id.
 */
static void
kill_group(pid_t pid)
{
	siginfo_t info = { .si_pid = 0 };

	if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	    info.si_pid == pid)
		kill(-pid, SIGKILL);
}

static void
record_end(struct watch_child *c, int status)
{
	c->has_ended = true;
	c->ended = clock_ms();
	c->status = status;
}

/*
 * Notes the end of an adopted child. The kept kpopd-tls sends the status. If
 * the kept kpopd-tls has ended or hangs, the status is unknown. Then it counts
 * as 0, or as SIGKILL if this process has killed the child.
 */
static void
reap_adopted(struct watch_child *c)
{
	struct pollfd process = { .fd = c->process, .events = POLLIN },
		      control = { .fd = c->control, .events = POLLIN };
	int status = c->reason != WATCH_ALIVE ? SIGKILL : 0, sent;

	if (poll(&process, 1, 0) != 1)
		return;
	if (poll(&control, 1, STATUS_MS) == 1 &&
	    packet_receive(c->control, &sent, sizeof(sent)) ==
		(ssize_t)sizeof(sent))
		status = sent;
	record_end(c, status);
}

/*
 * Notes which children have ended, and kills the children that their user has
 * stopped.
 */
static void
reap_children(struct watch *w)
{
	for (int i = 0; i < ROLES; i++) {
		struct watch_child *c = &w->children[i];
		int status;

		if (c->pid == 0 || c->has_ended)
			continue;
		if (c->is_adopted) {
			reap_adopted(c);
			continue;
		}
		kill_group(c->pid);
		if (waitpid(c->pid, &status, WNOHANG | WUNTRACED) != c->pid)
			continue;
		if (WIFSTOPPED(status)) {
			if (roles[i].is_users)
				watch_kill(w, (enum role)i, WATCH_STOPPED);
			continue;
		}
		record_end(c, status);
	}
}

/* Logs that a killed child waits for a file system. */
static void
log_stuck(enum role role)
{
	log_event(LOG_ERR, "fatal",
	    "error=\"%s was killed and does not end: it waits for a file "
	    "system\"",
	    roles[role].name);
}

/*
 * Gives a killed child up whose process still waits for a file system. The file
 * system may be the user's own, so a user's child counts as ended, and its
 * connection against no limit any more. When kpopd ends, init becomes the
 * parent of that process. All other children use only files of root. If these
 * do not answer, no login succeeds, and this process waits. So the limits of
 * the listener or xinetd bound the number of the processes that wait.
 */
static void
give_up_killed(enum role role, struct watch_child *c)
{
	log_stuck(role);
	close_channel(c);
	c->deadline = 0;
	c->is_lost = roles[role].is_users;
	c->status = SIGKILL;
}

/*
 * Kills the children whose deadline has passed. watch_kill sets a new deadline.
 * If the new deadline passes, too, counts the child as ended.
 */
static void
kill_late(struct watch *w)
{
	int64_t now = clock_ms();

	for (int i = 0; i < ROLES; i++) {
		struct watch_child *c = &w->children[i];

		if (c->pid == 0 || c->has_ended || c->deadline == 0 ||
		    now < c->deadline)
			continue;
		if (c->reason != WATCH_ALIVE)
			give_up_killed((enum role)i, c);
		else
			watch_kill(w, (enum role)i,
			    c->channel == -1   ? WATCH_SILENT :
				c->is_needless ? WATCH_DISMISSED :
						 WATCH_LATE);
	}
}

/*
 * Logs the end of a child that a signal ended, unless the child was killed
 * because it was not needed any more. In any case logs if lines of the child
 * were withheld, or if it sent a wrong message.
 */
static void
log_killed(enum role role, const struct watch_child *c)
{
	static const char *const reasons[] = {
		[WATCH_LATE] = "did not end in time",
		[WATCH_STOPPED] = "was stopped",
		[WATCH_SILENT] = "closed its channel",
		[WATCH_WRONG] = "sent a malformed message",
	};
	const char *name = roles[role].name;
	int signal_number = WIFSIGNALED(c->status) ? WTERMSIG(c->status) : 0;

	if (c->withheld > 0)
		log_event(LOG_WARNING, "withheld", "process=\"%s\" lines=%u",
		    name, c->withheld);
	if (c->reason == WATCH_WRONG)
		log_event(LOG_ALERT, "fatal", "error=\"%s %s, and was killed\"",
		    name, reasons[c->reason]);
	else if (signal_number == SIGKILL && c->reason == WATCH_LATE &&
	    (role == ROLE_PREAUTH || role == ROLE_SESSION))
		log_event(LOG_NOTICE, "refused",
		    "reason=\"login deadline, %s killed\"",
		    name + strlen("the "));
	else if (signal_number == SIGKILL && c->reason > WATCH_DISMISSED)
		log_event(LOG_ERR, "fatal", "error=\"%s %s, and was killed\"",
		    name, reasons[c->reason]);
	else if (signal_number != 0 && c->reason != WATCH_DISMISSED)
		log_event(LOG_ERR, "fatal",
		    "error=\"%s was ended by signal %d (%s)\"", name,
		    signal_number, strsignal(signal_number));
}

/*
 * Waits until a child sends a packet, ends, is stopped, or reaches its
 * deadline. Returns true if the socket of watch_request has a packet.
 */
static bool
await_change(struct watch *w)
{
	struct pollfd p[2 * ROLES + 1];
	sigset_t mask;
	int64_t until = w->reminder, left;
	nfds_t n = 0;

	for (int i = 0; i < ROLES; i++) {
		const struct watch_child *c = &w->children[i];

		if (c->pid == 0)
			continue;
		if (c->channel != -1)
			p[n++] = (struct pollfd){ .fd = c->channel,
				.events = POLLIN };
		if (c->is_adopted && !c->has_ended)
			p[n++] = (struct pollfd){ .fd = c->process,
				.events = POLLIN };
		if (!c->has_ended && c->deadline != 0 &&
		    (until == 0 || c->deadline < until))
			until = c->deadline;
	}
	p[n++] = (struct pollfd){ .fd = w->request, .events = POLLIN };
	left = until != 0 ? until - clock_ms() : 0;
	if (left < 0)
		left = 0;
	sigprocmask(SIG_BLOCK, NULL, &mask);
	sigdelset(&mask, SIGCHLD);
	if (ppoll(p, n,
		until == 0 ? NULL :
			     &(struct timespec){ .tv_sec = left / 1000,
				 .tv_nsec = (long)(left % 1000 * 1000000) },
		&mask) == -1 &&
	    errno != EINTR)
		fatal("ppoll");
	if (p[n - 1].revents != 0)
		w->request = -1;
	return p[n - 1].revents == POLLIN;
}

/*
 * Removes a child from the table, after log_killed has logged what is unusual
 * about its end. All packets of the child must have been received, unless it is
 * lost. Fills *e.
 */
static void
remove_child(struct watch *w, enum role role, struct watch_event *e)
{
	struct watch_child *c = &w->children[role];

	log_killed(role, c);
	*e = (struct watch_event){
		.role = role, .status = c->status, .reason = c->reason
	};
	close_process(c);
	*c = (struct watch_child){ .pid = 0 };
}

bool
watch_next(struct watch *w, struct watch_event *e)
{
	for (;;) {
		bool is_left = false;

		reap_children(w);
		kill_late(w);
		for (int i = 0; i < ROLES; i++) {
			struct watch_child *c = &w->children[i];

			if (c->pid == 0)
				continue;
			is_left = true;
			if (c->channel != -1 && take_packet(w, (enum role)i, e))
				return true;
			if (c->is_lost || (c->has_ended && c->channel == -1)) {
				remove_child(w, (enum role)i, e);
				return true;
			}
		}
		if (!is_left)
			return false;
		if (w->reminder != 0 && clock_ms() >= w->reminder) {
			w->reminder = 0;
			*e = (struct watch_event){ .is_reminder = true };
			return true;
		}
		if (await_change(w)) {
			*e = (struct watch_event){ .is_request = true };
			return true;
		}
	}
}
