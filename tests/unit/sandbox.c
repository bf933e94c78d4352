/*
 * Unit tests of sandbox.c. If a process makes a forbidden call, the call has no
 * effect, the process ends, and the log contains the call's name. Each process
 * can make the calls that it needs.
 *
 * Runs as any user.
 */
#include "config.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "sandbox.h"
#include "tests/unit/check.h"

#define ALL ((1 << SANDBOXES) - 1)
#define BUT(which) (ALL & ~(1 << (which)))
#define RELAYS (1 << SANDBOX_RELAY | 1 << SANDBOX_TLS | 1 << SANDBOX_KEEPER)
#define RECEIVE                                                                \
	(1 << SANDBOX_PREAUTH | 1 << SANDBOX_BROKER | 1 << SANDBOX_KEEPER)
#define PARENTS (1 << SANDBOX_BROKER | 1 << SANDBOX_KEEPER)

/* A bit that the kernel ignores in an int argument. */
#define BEYOND (1L << 32)

static char directory[] = "/tmp/kpopd-sandbox.XXXXXX";

static int
exec(void)
{
	return execl("/bin/true", "true", (char *)NULL);
}
/*
 * With its signals blocked a process has no handler. The C library of Debian 13
 * makes a child this way.
 */
static int
exec_unheard(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	return exec();
}
static int
make_process(void)
{
	return fork() == 0 ? (_exit(0), 0) : 0;
}
static int
trace(void)
{
	return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}
static int
listen_there(void)
{
	return listen(0, 1);
}
static int
accept_there(void)
{
	return accept(0, NULL, NULL);
}
static int
accept_closing(void)
{
	return accept4(0, NULL, NULL, SOCK_CLOEXEC);
}
static int
watch_parent(void)
{
	return (int)syscall(SYS_pidfd_open, getppid(), 0);
}
static int
mount_there(void)
{
	return unshare(CLONE_NEWNS);
}
static int
look_for_parent(void)
{
	return kill(getppid(), 0);
}
static int
stop_parent(void)
{
	return kill(getppid(), SIGCONT);
}
static int
stop_parent_in_disguise(void)
{
	return (int)syscall(SYS_kill, getppid(), BEYOND | SIGCONT);
}
static int
code(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_EXEC,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}
static int
answer_it(void)
{
	return signal(SIGSYS, SIG_IGN) == SIG_ERR;
}
/* The kernel uses only the lower 32 bits of the number. */
static int
answer_it_in_disguise(void)
{
	return (int)syscall(SYS_rt_sigaction, BEYOND | SIGSYS, NULL, NULL, 8);
}
static int
duplicate(void)
{
	return dup(0);
}
static int
duplicate_by_fcntl(void)
{
	return fcntl(0, F_DUPFD, 3);
}
static int
send_elsewhere(void)
{
	const struct sockaddr_un to = { .sun_family = AF_UNIX,
		.sun_path = "\0abstract" };

	return (int)sendto(0, "x", 1, 0, (const struct sockaddr *)&to,
	    sizeof(to));
}
/*
 * Only a session may pass descriptors. It may not pass them over the client's
 * socket, or with a flag that would connect a socket.
 */
static int
pass_over(int fd, int flags)
{
	struct iovec space = { .iov_base = (char[]){ 'x' }, .iov_len = 1 };
	const struct msghdr message = { .msg_iov = &space, .msg_iovlen = 1 };

	return (int)sendmsg(fd, &message, flags);
}
static int
pass_to_client(void)
{
	return pass_over(0, MSG_NOSIGNAL);
}
static int
pass_to_client_in_disguise(void)
{
	return (int)syscall(SYS_sendmsg, BEYOND, NULL, MSG_NOSIGNAL);
}
static int
pass_fast(void)
{
	return pass_over(63, MSG_FASTOPEN | MSG_NOSIGNAL);
}
static int
pass_to_monitor(void)
{
	return pass_over(63, MSG_NOSIGNAL);
}
static int
set_filter(void)
{
	return setsockopt(0, SOL_SOCKET, SO_ATTACH_FILTER, "", 1);
}
static int
set_buffer(void)
{
	return setsockopt(0, SOL_SOCKET, SO_SNDBUF, "", 1);
}
static int
set_unsent(void)
{
	return setsockopt(0, IPPROTO_TCP, TCP_NOTSENT_LOWAT, "", 1);
}
static int
get_option(void)
{
	int n;
	socklen_t size = sizeof(n);
	return getsockopt(0, SOL_SOCKET, SO_TYPE, &n, &size);
}
static int
take_descriptors(void)
{
	struct msghdr message = { .msg_iovlen = 0 };
	return (int)recvmsg(63, &message, MSG_DONTWAIT);
}
static int
find_peer(void)
{
	return getpeername(63, NULL, NULL);
}
static int
find_self(void)
{
	return getsockname(63, NULL, NULL);
}
static int
set_name(void)
{
	return prctl(PR_SET_NAME, "other");
}
static int
keep_capabilities(void)
{
	return prctl(PR_SET_KEEPCAPS, 1);
}
static int
end_with_parent(void)
{
	return prctl(PR_SET_PDEATHSIG, SIGKILL);
}
static int
look_around(void)
{
	struct stat st;
	return stat("/", &st);
}
static int
change_root(void)
{
	return chroot("/");
}
static int
make_node(void)
{
	return mkfifo("/no/such/place", 0600);
}
static int
become(void)
{
	return setresuid(getuid(), getuid(), getuid());
}
static int
count_output(void)
{
	int n;
	return ioctl(0, SIOCOUTQ, &n);
}
static int
count_input(void)
{
	int n;
	return ioctl(0, FIONREAD, &n);
}
static int
type_in(void)
{
	return ioctl(0, TIOCSTI, "x");
}
static int
ask_in_disguise(void)
{
	int n;
	return (int)syscall(SYS_ioctl, 0, BEYOND | SIOCOUTQ, &n);
}
static int
ask_for_signals(void)
{
	int n = getpid();
	return ioctl(0, FIOSETOWN, &n);
}
static int
watch_many(void)
{
	return epoll_create1(EPOLL_CLOEXEC);
}
static int
link_there(void)
{
	return link("/no/such/place", "/no/such/place/2");
}

/* The forbidden calls, and the processes that they end. */
/* promise:4 */
static const struct {
	/*
	 * The call's name in the log; "": the call is not named; NULL: the C
	 * library chooses the call.
	 */
	const char *name;
	int (*try)(void);
	int whom;
} forbidden[] = {
	{ "execve", exec, ALL },
	{ "", exec_unheard, ALL },
	{ NULL, make_process, ALL & ~PARENTS },
	{ "ptrace", trace, ALL },
	{ "listen", listen_there, ALL },
	{ NULL, accept_there, ALL },
	{ "accept4", accept_closing, BUT(SANDBOX_KEEPER) },
	{ "pidfd_open", watch_parent, BUT(SANDBOX_KEEPER) },
	{ "unshare", mount_there, ALL },
	{ "kill", look_for_parent, BUT(SANDBOX_BROKER) },
	{ "kill", stop_parent, ALL },
	{ "kill", stop_parent_in_disguise, ALL },
	{ "setsockopt", set_filter, ALL },
	{ "setsockopt", set_buffer, BUT(SANDBOX_PREAUTH) },
	{ "setsockopt", set_unsent, ALL & ~RELAYS },
	{ "getsockopt", get_option, ALL },
	{ "recvmsg", take_descriptors, ALL & ~RECEIVE },
	{ "getpeername", find_peer, ALL },
	{ "getsockname", find_self, ALL },
	{ "prctl", set_name, ALL },
	{ "prctl", keep_capabilities, ALL },
	{ "prctl", end_with_parent, ALL & ~PARENTS },
	{ NULL, look_around, 1 << SANDBOX_REFUSAL },
	{ "mmap", code, ALL },
	{ "rt_sigaction", answer_it, ALL },
	{ "rt_sigaction", answer_it_in_disguise, ALL },
	{ "dup", duplicate, ALL },
	{ "fcntl", duplicate_by_fcntl, ALL },
	{ "sendto", send_elsewhere, ALL },
	{ "sendmsg", pass_to_client, ALL },
	{ "sendmsg", pass_to_client_in_disguise, ALL },
	{ "sendmsg", pass_fast, ALL },
	{ "sendmsg", pass_to_monitor,
	    BUT(SANDBOX_SESSION) & BUT(SANDBOX_KEEPER) },
	{ "chroot", change_root, ALL },
	{ NULL, make_node, BUT(SANDBOX_BROKER) & BUT(SANDBOX_SESSION) },
	{ "setresuid", become, BUT(SANDBOX_BROKER) },
	{ "ioctl", count_output, BUT(SANDBOX_SESSION) & ~RELAYS },
	{ "ioctl", count_input, ALL & ~RELAYS },
	{ "ioctl", type_in, ALL },
	{ "ioctl", ask_in_disguise, ALL },
	{ "ioctl", ask_for_signals, ALL },
	{ "epoll_create1", watch_many, ALL & ~RELAYS },
	{ NULL, link_there, BUT(SANDBOX_BROKER) & BUT(SANDBOX_SESSION) },
};

/*
 * The number of the call that ended a process, plus one. It is 0 if no call has
 * ended a process. The memory is shared with the children.
 */
static int *offence;

/* The offence if the kernel ended the process without its handler. */
#define UNNAMED (-1)

void
log_forbidden(int call, const char *name)
{
	(void)name;
	*offence = call + 1;
}

void
log_event(int priority, const char *event, const char *format, ...)
{
	(void)priority, (void)event, (void)format;
}

void
fatal(const char *format, ...)
{
	fprintf(stderr, "fatal: %s\n", format);
	_exit(3);
}

/*
 * Returns true if the call ends a process with this filter: either its handler
 * of SIGSYS, which has the call's number, or the kernel.
 */
static bool
ends(enum sandbox which, int (*try)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		sandbox_enter(which);
		try();
		_exit(0);
	}
	CHECK(pid != -1 && waitpid(pid, &status, 0) == pid);
	if (WIFEXITED(status))
		return WEXITSTATUS(status) == 1;
	CHECK(WTERMSIG(status) == SIGSYS && *offence == 0);
	*offence = UNNAMED;
	return true;
}

/* Returns true if the log has the call's name, or none if the name is empty. */
static bool
is_named(const char *name)
{
	if (*offence == UNNAMED || name[0] == '\0')
		return *offence == UNNAMED && name[0] == '\0';
	return strcmp(sandbox_call_name(*offence - 1), name) == 0;
}

static void
forbids(void)
{
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++)
		for (int which = 0; which < SANDBOXES; which++) {
			bool is_forbidden =
			    (forbidden[i].whom >> which & 1) != 0;

			CHECK(ends((enum sandbox)which, forbidden[i].try) ==
			    is_forbidden);
			CHECK((*offence != 0) == is_forbidden);
			if (is_forbidden && forbidden[i].name != NULL)
				CHECK(is_named(forbidden[i].name));
			*offence = 0;
		}
}

/*
 * Libraries try to make sockets and to connect sockets. These attempts fail,
 * but do not end the process.
 */
static int
talk(void)
{
	const struct sockaddr_un to = { .sun_family = AF_UNIX,
		.sun_path = "/no/such/place" };

	CHECK(socket(AF_UNIX, SOCK_STREAM, 0) == -1 && errno == EACCES);
	CHECK(socket(AF_INET, SOCK_STREAM, 0) == -1 && errno == EACCES);
	CHECK(socket(AF_INET6, SOCK_DGRAM, 0) == -1 && errno == EACCES);
	CHECK(socket(AF_NETLINK, SOCK_RAW, 0) == -1 && errno == EACCES);
	CHECK(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) == -1 &&
	    errno == EACCES);
	for (int fd = 0; fd < 64; fd++)
		CHECK(connect(fd, (const struct sockaddr *)&to, sizeof(to)) ==
			-1 &&
		    errno == EACCES);
	return 0;
}

/* Makes the calls that libraries may make at any moment. */
static int
live(void)
{
	struct timespec now;
	char *p = malloc(4 << 20);

	CHECK(p != NULL && (p = realloc(p, 8 << 20)) != NULL);
	memset(p, 1, 8 << 20);
	free(p);
	CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0 && time(NULL) != -1);
	/* A tracer that suppresses a call replaces its number by -1. */
	CHECK(syscall(-1) == -1 && errno == ENOSYS);
	return 0;
}

/* Makes the calls that libraries make with files. */
static int
look(void)
{
	struct stat st;

	CHECK(stat("/", &st) == 0 && access("/no/such/place", F_OK) == -1 &&
	    errno == ENOENT);
	CHECK(open("/no/such/place", O_RDONLY) == -1 && errno == ENOENT);
	return 0;
}

/*
 * A child of the broker finishes a removal. It adds the filter of a session to
 * the broker's filter.
 */
static int
descend(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		sandbox_enter(SANDBOX_SESSION);
		_exit(live() + look());
	}
	CHECK(pid != -1 && waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void
make_file(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT, 0600);

	CHECK(fd != -1 && write(fd, "x", 1) == 1 && close(fd) == 0);
}

/* Checks that only files at or below the given paths can be opened. */
static int
stay_inside(void)
{
	const struct sandbox_path within[] = {
		{ open("own", O_PATH | O_DIRECTORY), SANDBOX_OWN },
		{ open("shared/mine", O_PATH), SANDBOX_WRITE },
		{ open("read", O_PATH | O_DIRECTORY), SANDBOX_READ },
		{ open("spool", O_PATH | O_DIRECTORY), SANDBOX_WRITE },
		{ -1, SANDBOX_OWN },
	};
	int fd;

	make_file("spool/alice");
	sandbox_shut_files(within, sizeof(within) / sizeof(within[0]));
	sandbox_enter(SANDBOX_SESSION);
	CHECK((fd = open("own/new", O_RDWR | O_CREAT | O_EXCL, 0600)) != -1 &&
	    ftruncate(fd, 10) == 0);
	CHECK(rename("own/new", "own/newer") == 0 && unlink("own/newer") == 0);
	CHECK(mkfifo("own/fifo", 0600) == 0 && unlink("own/fifo") == 0);
	CHECK((fd = open("shared/mine", O_RDWR)) != -1 &&
	    write(fd, "y", 1) == 1 && ftruncate(fd, 0) == 0);
	/* In the spool's directory only existing files can be opened. */
	CHECK((fd = open("spool/alice", O_RDWR)) != -1 &&
	    write(fd, "y", 1) == 1 && ftruncate(fd, 0) == 0);
	CHECK(open("spool/alice.lock", O_RDWR | O_CREAT, 0600) == -1 &&
	    errno == EACCES);
	CHECK(unlink("spool/alice") == -1 && errno == EACCES &&
	    open("spool", O_RDONLY | O_DIRECTORY) == -1);
	CHECK(rename("spool/alice", "spool/bob") == -1 && errno == EACCES);
	CHECK(open("read/file", O_RDONLY) != -1);
	CHECK(open("read/file", O_RDWR) == -1 && errno == EACCES);
	CHECK(open("read", O_RDONLY | O_DIRECTORY) == -1 && errno == EACCES);
	CHECK(open("shared/other", O_RDONLY) == -1 && errno == EACCES);
	CHECK(open("shared/new", O_RDWR | O_CREAT, 0600) == -1 &&
	    errno == EACCES);
	CHECK(unlink("shared/mine") == -1 && errno == EACCES);
	CHECK(rename("shared/other", "own/other") == -1 &&
	    (errno == EACCES || errno == EXDEV));
	CHECK(link("shared/other", "own/other") == -1 &&
	    (errno == EACCES || errno == EXDEV));
	CHECK(open("/etc/passwd", O_RDONLY) == -1 && errno == EACCES);
	_exit(0);
}

/*
 * Landlock also works without a system call filter. It denies signals to other
 * processes, and connections to the abstract sockets of other processes.
 * Kernels before Landlock ABI 6 cannot do this.
 */
static int
stay_alone(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0,
	    LANDLOCK_CREATE_RULESET_VERSION);
	const struct sockaddr_un to = { .sun_family = AF_UNIX,
		.sun_path = "\0kpopd-test-sandbox" };
	int theirs = socket(AF_UNIX, SOCK_DGRAM, 0),
	    ours = socket(AF_UNIX, SOCK_DGRAM, 0);
	bool can = abi >= 6;
	pid_t pid;
	int status;

	CHECK(theirs != -1 && ours != -1 &&
	    bind(theirs, (const struct sockaddr *)&to, sizeof(to)) == 0);
	if ((pid = fork()) == 0) {
		sandbox_shut_files(NULL, 0);
		CHECK((connect(ours, (const struct sockaddr *)&to,
			   sizeof(to)) == -1 &&
			  errno == EPERM) == can);
		CHECK((kill(getppid(), 0) == -1 && errno == EPERM) == can);
		_exit(0);
	}
	CHECK(pid != -1 && waitpid(pid, &status, 0) == pid &&
	    WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* Runs work() in a child. The check fails unless work() returns 0. */
static void
apart(enum sandbox which, bool enter, int (*work)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (enter)
			sandbox_enter(which);
		_exit(work());
	}
	CHECK(pid != -1 && waitpid(pid, &status, 0) == pid);
	if (*offence != 0)
		fprintf(stderr, "ended for %s\n",
		    sandbox_call_name(*offence - 1));
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int
main(void)
{
	static const char *const directories[] = { "own", "shared", "read",
		"spool" };
	char found[SANDBOX_TEXT], remedy[SANDBOX_TEXT];
	unsigned missing = sandbox_find_missing(found, remedy);

	/*
	 * A build for sanitizers has no filters, because sanitizers make other
	 * calls.
	 */
	if (!SANDBOXED) {
		printf("built for sanitizers, without a sandbox\n");
		return 77;
	}
	/* A container may build packages without seccomp or Landlock. */
	if (missing != 0)
		printf("%s\n", found);
	if ((missing & SANDBOX_SECCOMP) != 0)
		return 77;
	offence = mmap(NULL, sizeof(*offence), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(offence != MAP_FAILED);
	forbids();
	for (int which = 0; which < SANDBOXES; which++) {
		apart((enum sandbox)which, true, live);
		apart((enum sandbox)which, true, talk);
		if (which != SANDBOX_REFUSAL)
			apart((enum sandbox)which, true, look);
	}
	apart(SANDBOX_BROKER, true, descend);
	if (missing != 0)
		return 77;
	apart(SANDBOX_SESSION, false, stay_alone);
	CHECK(mkdtemp(directory) != NULL && chdir(directory) == 0);
	for (size_t i = 0; i < 4; i++)
		CHECK(mkdir(directories[i], 0700) == 0);
	make_file("shared/mine");
	make_file("shared/other");
	make_file("read/file");
	apart(SANDBOX_SESSION, false, stay_inside);
	CHECK(unlink("shared/mine") == 0 && unlink("shared/other") == 0 &&
	    unlink("read/file") == 0 && unlink("spool/alice") == 0);
	for (size_t i = 0; i < 4; i++)
		CHECK(rmdir(directories[i]) == 0);
	return rmdir(directory);
}
