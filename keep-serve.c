/*
 * Makes a process for each connection with TLS, in a kpopd-tls that is kept.
 *
 * Runs in kpopd-tls: keep_lock, keep_note_files and keep_begin as root, the
 * rest as the TLS user in the jail. A new kpopd-tls needs several ms of the
 * processor before it can begin a handshake, because OpenSSL makes its tables
 * and reads the key. A kept kpopd-tls has done that once, and forks. It reads
 * only what monitors send, and only root can connect to its socket. Each
 * process that it makes closes all that belongs to other connections before
 * the client's socket comes.
 *
 * One process is made in advance, the spare process. It waits without a
 * connection, so that the next client need not wait for the fork.
 *
 * The kept process cannot read the key again, because it has given up root's
 * rights. So it ends when a file has changed, and the listener or the
 * administrator's program starts the next one. Meanwhile monitors start a
 * kpopd-tls for each connection.
 */
#include "config.h"

#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "keep-serve.h"
#include "log.h"
#include "packet.h"
#include "privsep.h"
#include "process.h"
#include "sandbox.h"

#define OTHERS 64 /* descriptors beside those of the connections, at most */
/* The most connections at once. A monitor of one more starts a kpopd-tls. */
#define MOST (PRIVSEP_KEEPER_FILES - OTHERS)
/*
 * A monitor must send its request within this time, and a new spare process
 * must be ready, because all other monitors wait meanwhile.
 */
#define REQUEST_MS 200
#define SPARE_MS 500
/*
 * The monitors that wait for an answer, at most. If this process hangs, only
 * these wait in vain; the kernel refuses the others at once.
 */
#define WAITING_MOST 128
/*
 * The kept process ends after this time, so that a change that it cannot notice
 * comes into force then.
 */
#define LIFE_MS INT64_C(3600000)
#define FILES_MOST 32 /* noted files, at most; further files are not noted */

/* The processes whose status a monitor waits for. */
static struct kept {
	pid_t pid;
	int control; /* to the monitor */
} kept[MOST];
static size_t n_kept, most_kept;

/* The noted files, opened with O_PATH, as they were at the start. */
static struct noted {
	int fd;
	struct stat st;
} noted[FILES_MOST];
static size_t n_noted;

static int listener = -1, signals = -1;

/*
 * The process for the next connection. It confines itself, reports on its
 * channel that it is ready, and waits there for the connection.
 */
static struct {
	pid_t pid; /* 0: there is none */
	int channel;
	int process; /* its pidfd */
} spare;

bool
keep_lock(const char *state)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char path[PATH_MAX];
	int fd;

	privsep_make_jail(state, "tls");
	/* The socket's file does not show whether a process has it. */
	snprintf(path, sizeof(path), "%s/tls.lock", state);
	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1)
		fatal("opening %s/tls.lock", state);
	/* A process that is forked later does not have this lock. */
	if (fcntl(fd, F_SETLK, &whole) == 0)
		return true;
	if (errno != EAGAIN && errno != EACCES)
		fatal("locking %s/tls.lock", state);
	close(fd);
	return false;
}

/*
 * Makes the socket, to which only root can connect (umask 077). Until the
 * socket listens, the kernel refuses monitors, so none of them waits for this
 * start. Returns false (logged) on failure.
 */
static bool
make_socket(const char *state)
{
	struct sockaddr_un address;
	mode_t before = umask(077);
	struct log_text shown;

	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (listener == -1)
		fatal("socket");
	errno = ENAMETOOLONG;
	if (keep_address(&address, state) == -1 ||
	    (unlink(address.sun_path) == -1 && errno != ENOENT) ||
	    bind(listener, (struct sockaddr *)&address, sizeof(address)) ==
		-1) {
		log_failed("making the socket %s",
		    log_words(&shown, address.sun_path));
		return false;
	}
	umask(before);
	return true;
}

/* Notes a file, unless it is already noted or the table is full. */
static void
note_file(const char *path)
{
	struct noted *f = &noted[n_noted];

	if (n_noted == FILES_MOST ||
	    (f->fd = open(path, O_PATH | O_CLOEXEC)) == -1)
		return;
	if (fstat(f->fd, &f->st) == -1) {
		close(f->fd);
		return;
	}
	for (size_t i = 0; i < n_noted; i++)
		if (noted[i].st.st_dev == f->st.st_dev &&
		    noted[i].st.st_ino == f->st.st_ino) {
			close(f->fd);
			return;
		}
	n_noted++;
}

/* Notes the files of which this process executes a part (proc_pid_maps(5)). */
static void
note_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char *line = NULL, rights[5];
	size_t size = 0;

	while (maps != NULL && getline(&line, &size, maps) > 0) {
		const char *path = strchr(line, '/');

		line[strcspn(line, "\n")] = '\0';
		if (path != NULL && sscanf(line, "%*s %4s", rights) == 1 &&
		    rights[2] == 'x')
			note_file(path);
	}
	free(line);
	if (maps != NULL)
		fclose(maps);
}

/*
 * Returns true if one of the noted files was changed or removed. A package
 * replaces a file by a rename, which removes the old file and changes its
 * ctime.
 */
static bool
is_replaced(void)
{
	for (size_t i = 0; i < n_noted; i++) {
		const struct stat *was = &noted[i].st;
		struct stat st;

		if (fstat(noted[i].fd, &st) == -1 || st.st_nlink == 0 ||
		    st.st_ctim.tv_sec != was->st_ctim.tv_sec ||
		    st.st_ctim.tv_nsec != was->st_ctim.tv_nsec)
			return true;
	}
	return false;
}

void
keep_note_files(const char *also)
{
	note_mappings();
	if (also != NULL)
		note_file(also);
}

bool
keep_begin(const char *state)
{
	struct rlimit files = { 0, 0 };
	sigset_t child;

	if (!make_socket(state))
		return false;
	keep_note_files(NULL);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > OTHERS)
		most_kept = files.rlim_cur - OTHERS < MOST ?
		    (size_t)files.rlim_cur - OTHERS :
		    MOST;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	if (sigprocmask(SIG_BLOCK, &child, NULL) == -1 ||
	    (signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK)) == -1)
		fatal("preparing for signals");
	return true;
}

void
keep_listen(void)
{
	if (listen(listener, WAITING_MOST) == -1)
		fatal("listen");
}

/*
 * Returns true if the spare process reports within this time that it is ready.
 * If it has failed in place of that, logs why.
 */
static bool
spare_is_ready(int wait)
{
	struct pollfd p = { .fd = spare.channel, .events = POLLIN };
	struct log_packet line = { .kind = LOG_LINE };
	ssize_t n;

	if (spare.pid == 0 || poll(&p, 1, wait) != 1)
		return false;
	n = packet_receive(spare.channel, &line, sizeof(line) - 1);
	if (n > 1 && line.kind == LOG_LINE)
		log_event(line.priority, line.event, "%s", line.text);
	else if (n > 1)
		log_event(LOG_ALERT, "fatal",
		    "error=\"a spare kpopd-tls was ended for the system call "
		    "%s\"",
		    sandbox_call_name(line.call));
	return n == 1;
}

/*
 * Closes what belongs to the spare process, if there is one. It is used, has
 * ended, or is not ready in time. In the last case it ends now.
 */
static void
forget_spare(void)
{
	if (spare.pid == 0)
		return;
	close(spare.channel);
	if (spare.process != -1)
		close(spare.process);
	spare.pid = 0;
}

/* Sends the status of each process that has ended to its monitor. */
static void
reap(void)
{
	struct signalfd_siginfo s;
	int status;
	pid_t pid;

	while (read(signals, &s, sizeof(s)) == (ssize_t)sizeof(s))
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == spare.pid) {
			while (spare_is_ready(0))
				;
			forget_spare();
		}
		for (size_t i = 0; i < n_kept; i++) {
			if (kept[i].pid != pid)
				continue;
			/* If the monitor has ended, the status is lost. */
			packet_send(kept[i].control, &status, sizeof(status),
			    NULL, 0);
			close(kept[i].control);
			kept[i] = kept[--n_kept];
			break;
		}
	}
}

/*
 * In the new process: leaves the group of the kept process, closes the
 * descriptors that it has inherited, except channel, and confines itself
 * further. channel is the socket to the kept process.
 */
static void
become_spare(int channel)
{
	sigset_t none;

	log_through(channel);
	/* A signal to the group of the kept process must not end this one. */
	if (setpgid(0, 0) == -1)
		fatal("setpgid");
	process_close_others(channel);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	privsep_limit_jailed();
	sandbox_shut_files(NULL, 0);
}

/*
 * In the spare process: reports that it is ready. Waits until the kept process
 * gives it a connection, and then for the client's socket, which the monitor
 * sends. Ends the process if the kept process ends before, or if the monitor
 * gives up.
 */
static void
await_connection(int channel, struct keep_ends *ends)
{
	int fds[3], control;
	char nothing;

	if (packet_send(channel, "", 1, NULL, 0) == -1 ||
	    packet_await(channel, &nothing, 1, fds, 3) == -1)
		_exit(1);
	control = fds[0];
	ends->cleartext = fds[1];
	ends->channel = fds[2];
	log_through(ends->channel);
	close(channel);
	if (packet_await(control, &nothing, 1, &ends->client, 1) == -1)
		_exit(1);
	close(control);
}

/*
 * Makes the spare process, if there is none. Returns true in the spare process
 * after it has got a connection, with *ends. Returns false in the kept process.
 */
static bool
make_spare(const struct keep_plan *plan, struct keep_ends *ends)
{
	int channel[2];
	pid_t pid;

	if (spare.pid != 0)
		return false;
	packet_make_channel(channel);
	if ((pid = fork()) == 0) {
		become_spare(channel[1]);
		plan->prepare(plan->self);
		await_connection(channel[1], ends);
		return true;
	}
	close(channel[1]);
	if (pid == -1) {
		close(channel[0]);
		return false;
	}
	spare.pid = pid;
	spare.channel = channel[0];
	if ((spare.process = (int)syscall(SYS_pidfd_open, pid, 0)) == -1) {
		log_failed("making a pidfd");
		/* The end of its channel ends it. */
		forget_spare();
	}
	return false;
}

static void
close_ends(const struct keep_ends *ends)
{
	close(ends->cleartext);
	close(ends->channel);
}

/*
 * Gives the connection to the spare process, and answers the monitor. Keeps
 * control, until the status of the process can be sent. If a step fails, closes
 * control, or shuts it down if the spare process already has a copy. The
 * monitor then starts a kpopd-tls of its own, and a spare process with a copy
 * ends. Returns true if the spare process is used.
 */
static bool
use_spare(int control, const struct keep_ends *ends)
{
	const int fds[3] = { control, ends->cleartext, ends->channel };
	const struct keep_answer a = { .pid = spare.pid };
	bool has_room = n_kept < most_kept;
	bool is_given = has_room && spare_is_ready(SPARE_MS) &&
	    packet_send(spare.channel, "", 1, fds, 3) == 0;

	/* The session does not notice the end of TLS while these are open. */
	close_ends(ends);
	if (!is_given) {
		close(control);
		if (has_room)
			forget_spare();
		return false;
	}
	if (packet_send(control, &a, sizeof(a), &spare.process, 1) == -1)
		shutdown(control, SHUT_RDWR);
	kept[n_kept++] = (struct kept){ .pid = spare.pid, .control = control };
	forget_spare();
	return true;
}

/*
 * Accepts a monitor's connection and reads its request. Returns the socket,
 * with *setup, ends->cleartext and ends->channel. Returns -1 if the request is
 * malformed or late.
 */
static int
accept_request(struct keep_setup *setup, struct keep_ends *ends)
{
	int fds[2], control = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct pollfd p = { .fd = control, .events = POLLIN };

	/* The end of this process refuses all monitors that wait. */
	if (control == -1)
		fatal("accepting a monitor");
	if (poll(&p, 1, REQUEST_MS) != 1 ||
	    packet_await(control, setup, sizeof(*setup), fds, 2) == -1) {
		close(control);
		return -1;
	}
	ends->cleartext = fds[0];
	ends->channel = fds[1];
	return control;
}

/* Logs that a file has changed, and ends the kept process. */
static _Noreturn void
end_changed(void)
{
	log_event(LOG_NOTICE, "kept",
	    "reason=\"the certificate, the key or the program has changed\"");
	exit(0);
}

/*
 * Serves a monitor by the spare process. Returns false if it is not used. Ends
 * the kept process if a file has changed.
 */
static bool
serve_monitor(const struct keep_setup *own)
{
	static struct keep_setup asked;
	struct keep_ends ends;
	int control = accept_request(&asked, &ends);

	/* The program of the monitor may already be another. */
	if (is_replaced())
		end_changed();
	if (control == -1)
		return false;
	/* Another service may have other options and the same state. */
	if (memcmp(asked.options, own->options, sizeof(asked.options)) != 0) {
		close(control);
		close_ends(&ends);
		return false;
	}
	if (memcmp(asked.files, own->files, sizeof(asked.files)) != 0)
		end_changed();
	return use_spare(control, &ends);
}

void
keep_serve(const struct keep_plan *plan, struct keep_ends *ends)
{
	int64_t end = clock_ms() + LIFE_MS, left;
	/*
	 * A spare process that has failed is replaced at the next request, not
	 * at once. Otherwise one that always fails would keep this loop busy.
	 */
	bool is_due = true;

	while ((left = end - clock_ms()) > 0) {
		struct pollfd p[] = { { .fd = listener, .events = POLLIN },
			{ .fd = signals, .events = POLLIN } };

		if (is_due && make_spare(plan, ends))
			return;
		is_due = false;
		if (poll(p, 2, (int)left) == -1 && errno != EINTR)
			fatal("poll");
		if (p[1].revents != 0)
			reap();
		if (p[0].revents == 0)
			continue;
		if (make_spare(plan, ends))
			return;
		is_due = serve_monitor(plan->setup);
	}
	exit(0);
}
