/*
 * Unit tests of sandbox.c: what each kind of process may not do is not done,
 * ends it, and is named; what it needs works. Runs as anybody.
 */
#include "config.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "sandbox.h"
#include "tests/unit/check.h"

#define ALL ((1 << SANDBOXES) - 1)
#define BUT(which) (ALL & ~(1 << (which)))
#define PUMPS (1 << SANDBOX_RELAY | 1 << SANDBOX_TLS)
#define TO_SYSLOG (1 << SANDBOX_SESSION | 1 << SANDBOX_BROKER)

/* A bit that the kernel does not look at, where a number has one: on a 64-bit machine. */
#define BEYOND (sizeof(long) > 4 ? (long)(1ULL << 32) : 0)

static char directory[] = "/tmp/kpopd-sandbox.XXXXXX";

static int exec(void) { return execl("/bin/true", "true", (char *)NULL); }
static int make_process(void) { return fork() == 0 ? (_exit(0), 0) : 0; }
static int trace(void) { return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL); }
static int listen_there(void) { return listen(0, 1); }
static int accept_there(void) { return accept(0, NULL, NULL); }
static int mount_there(void) { return unshare(CLONE_NEWNS); }
static int kill_parent(void) { return kill(getppid(), 0); }
static int code(void) { return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED; }
static int answer_it(void) { return signal(SIGSYS, SIG_IGN) == SIG_ERR; }
/* What the kernel takes of a number is its lower 32 bits. */
static int answer_it_in_disguise(void) { return (int)syscall(SYS_rt_sigaction, BEYOND | SIGSYS, NULL, NULL, 8); }
static int duplicate(void) { return dup(0); }
static int duplicate_by_fcntl(void) { return fcntl(0, F_DUPFD, 3); }
static int send_elsewhere(void)
{
	const struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = "\0abstract" };

	return (int)sendto(0, "x", 1, 0, (const struct sockaddr *)&to, sizeof(to));
}
/* Only a session passes descriptors, not over the client's socket, and with no flag that would lead a socket elsewhere. */
static int pass_over(int fd, int flags)
{
	struct iovec space = { .iov_base = (char[]){ 'x' }, .iov_len = 1 };
	const struct msghdr message = { .msg_iov = &space, .msg_iovlen = 1 };

	return (int)sendmsg(fd, &message, flags);
}
static int pass_to_client(void) { return pass_over(0, MSG_NOSIGNAL); }
static int pass_to_client_in_disguise(void) { return (int)syscall(SYS_sendmsg, BEYOND, NULL, MSG_NOSIGNAL); }
static int pass_fast(void) { return pass_over(63, MSG_FASTOPEN | MSG_NOSIGNAL); }
static int pass_to_monitor(void) { return pass_over(63, MSG_NOSIGNAL); }
static int lead_elsewhere(void)
{
	const struct sockaddr nowhere = { .sa_family = AF_UNSPEC };

	return connect(0, &nowhere, sizeof(nowhere));
}
static int lead_elsewhere_in_disguise(void)
{
	const struct sockaddr nowhere = { .sa_family = AF_UNSPEC };

	return (int)syscall(SYS_connect, BEYOND, &nowhere, sizeof(nowhere));
}
static int change_root(void) { return chroot("/"); }
static int make_node(void) { return mkfifo("/no/such/place", 0600); }
static int become(void) { return setresuid(getuid(), getuid(), getuid()); }
static int count_output(void) { int n; return ioctl(0, SIOCOUTQ, &n); }
static int count_input(void) { int n; return ioctl(0, FIONREAD, &n); }
static int type_in(void) { return ioctl(0, TIOCSTI, "x"); }
static int ask_in_disguise(void) { int n; return (int)syscall(SYS_ioctl, 0, BEYOND | SIOCOUTQ, &n); }
static int ask_for_signals(void) { int n = getpid(); return ioctl(0, FIOSETOWN, &n); }
static int watch_many(void) { return epoll_create1(EPOLL_CLOEXEC); }
static int link_there(void) { return link("/no/such/place", "/no/such/place/2"); }

/* What ends whom. */
static const struct {
	const char *name; /* as the log says it; NULL: it depends on the C library */
	int (*try)(void);
	int whom;
} forbidden[] = {
	{ "execve", exec, ALL },
	{ NULL, make_process, BUT(SANDBOX_BROKER) },
	{ "ptrace", trace, ALL },
	{ "listen", listen_there, ALL },
	{ NULL, accept_there, ALL },
	{ "unshare", mount_there, ALL },
	{ "kill", kill_parent, BUT(SANDBOX_BROKER) & BUT(SANDBOX_SESSION) },
	{ "mmap", code, ALL },
	{ "rt_sigaction", answer_it, ALL },
	{ "rt_sigaction", answer_it_in_disguise, ALL },
	{ "dup", duplicate, ALL },
	{ "fcntl", duplicate_by_fcntl, ALL },
	{ "sendto", send_elsewhere, ALL },
	{ "sendmsg", pass_to_client, ALL },
	{ "sendmsg", pass_to_client_in_disguise, ALL },
	{ "sendmsg", pass_fast, ALL },
	{ "sendmsg", pass_to_monitor, BUT(SANDBOX_SESSION) },
	{ "connect", lead_elsewhere, TO_SYSLOG },
	{ "connect", lead_elsewhere_in_disguise, TO_SYSLOG },
	{ "chroot", change_root, ALL },
	{ NULL, make_node, BUT(SANDBOX_BROKER) & BUT(SANDBOX_SESSION) },
	{ "setresuid", become, BUT(SANDBOX_BROKER) },
	{ "ioctl", count_output, BUT(SANDBOX_SESSION) & ~PUMPS },
	{ "ioctl", count_input, ALL & ~PUMPS },
	{ "ioctl", type_in, ALL },
	{ "ioctl", ask_in_disguise, ALL },
	{ "ioctl", ask_for_signals, ALL },
	{ "epoll_create1", watch_many, ALL & ~PUMPS },
	{ NULL, link_there, BUT(SANDBOX_BROKER) & BUT(SANDBOX_SESSION) },
};

/* The log, where the call is named. */
/* Shared with the processes that are tried: the broker's own line counts, too. */
#define LOGGED 200
static char *logged;

void
log_event(int priority, const char *event, const char *format, ...)
{
	va_list ap;

	(void)priority, (void)event;
	va_start(ap, format);
	/* Whose end, and for which call. */
	if (va_arg(ap, const char *) != NULL)
		strlcpy(logged, va_arg(ap, const char *), LOGGED);
	va_end(ap);
}

void
fatal(const char *format, ...)
{
	fprintf(stderr, "fatal: %s\n", format);
	_exit(3);
}

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
	CHECK(pid != -1 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	return WEXITSTATUS(status) == 1;
}

static void
forbids(void)
{
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++)
		for (int which = 0; which < SANDBOXES; which++) {
			bool is_forbidden = (forbidden[i].whom >> which & 1) != 0;

			CHECK(ends((enum sandbox)which, forbidden[i].try) == is_forbidden);
			sandbox_log_offence("who");
			CHECK((logged[0] != '\0') == is_forbidden);
			if (is_forbidden && forbidden[i].name != NULL)
				CHECK(strcmp(logged, forbidden[i].name) == 0);
			logged[0] = '\0';
		}
}

/* Sockets but for syslog's are an error and no end: libraries try them. */
static int
talk(void)
{
	CHECK(socket(AF_UNIX, SOCK_STREAM, 0) == -1 && errno == EACCES);
	CHECK(socket(AF_INET, SOCK_STREAM, 0) == -1 && errno == EACCES);
	CHECK(socket(AF_INET6, SOCK_DGRAM, 0) == -1 && errno == EACCES);
	CHECK(socket(AF_NETLINK, SOCK_RAW, 0) == -1 && errno == EACCES);
	return 0;
}

/* syslog's, where the name can be seen. */
static int
reach_syslog(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = "/no/such/place" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(fd > 2 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == -1 && errno == ENOENT);
	for (int high = 3; high < 64; high++)
		CHECK(connect(high, (struct sockaddr *)&to, sizeof(to)) == -1);
	return 0;
}

static int
reach_nobody(void)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX, .sun_path = "/no/such/place" };

	CHECK(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) == -1 && errno == EACCES);
	for (int fd = 0; fd < 64; fd++)
		CHECK(connect(fd, (struct sockaddr *)&to, sizeof(to)) == -1 && errno == EACCES);
	return 0;
}

/* What libraries do at any moment. */
static int
live(void)
{
	struct timespec now;
	struct stat st;
	char *p = malloc(4 << 20);

	CHECK(p != NULL && (p = realloc(p, 8 << 20)) != NULL);
	memset(p, 1, 8 << 20);
	free(p);
	CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0 && time(NULL) != -1);
	CHECK(stat("/", &st) == 0 && access("/no/such/place", F_OK) == -1 && errno == ENOENT);
	CHECK(open("/no/such/place", O_RDONLY) == -1 && errno == ENOENT);
	/* A tracer that keeps a call from being made has it be this one. */
	CHECK(syscall(-1) == -1 && errno == ENOSYS);
	return 0;
}

/* The broker's child, which finishes a removal, is a session's kind behind the broker's. */
static int
descend(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		sandbox_enter(SANDBOX_SESSION);
		_exit(live());
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

/* Files: what is within reach, and no more. */
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
	CHECK((fd = open("own/new", O_RDWR | O_CREAT | O_EXCL, 0600)) != -1 && ftruncate(fd, 10) == 0);
	CHECK(rename("own/new", "own/newer") == 0 && unlink("own/newer") == 0);
	CHECK(mkfifo("own/fifo", 0600) == 0 && unlink("own/fifo") == 0);
	CHECK((fd = open("shared/mine", O_RDWR)) != -1 && write(fd, "y", 1) == 1 && ftruncate(fd, 0) == 0);
	/* In a spool's directory, files that exist. */
	CHECK((fd = open("spool/alice", O_RDWR)) != -1 && write(fd, "y", 1) == 1 && ftruncate(fd, 0) == 0);
	CHECK(open("spool/alice.lock", O_RDWR | O_CREAT, 0600) == -1 && errno == EACCES);
	CHECK(unlink("spool/alice") == -1 && errno == EACCES && open("spool", O_RDONLY | O_DIRECTORY) == -1);
	CHECK(rename("spool/alice", "spool/bob") == -1 && errno == EACCES);
	CHECK(open("read/file", O_RDONLY) != -1);
	CHECK(open("read/file", O_RDWR) == -1 && errno == EACCES);
	CHECK(open("read", O_RDONLY | O_DIRECTORY) == -1 && errno == EACCES);
	CHECK(open("shared/other", O_RDONLY) == -1 && errno == EACCES);
	CHECK(open("shared/new", O_RDWR | O_CREAT, 0600) == -1 && errno == EACCES);
	CHECK(unlink("shared/mine") == -1 && errno == EACCES);
	CHECK(rename("shared/other", "own/other") == -1 && (errno == EACCES || errno == EXDEV));
	CHECK(link("shared/other", "own/other") == -1 && (errno == EACCES || errno == EXDEV));
	CHECK(open("/etc/passwd", O_RDONLY) == -1 && errno == EACCES);
	_exit(0);
}

/* Runs work in a process of its own, which has to end well. */
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
	sandbox_log_offence("who");
	if (logged[0] != '\0')
		fprintf(stderr, "ended for %s\n", logged);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int
main(void)
{
	static const char *const directories[] = { "own", "shared", "read", "spool" };

	/* A sanitizer's calls are not ours, so nothing is forbidden there. */
	if (!SANDBOXED) {
		printf("built for sanitizers, without a sandbox\n");
		return 77;
	}
	logged = mmap(NULL, LOGGED, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(logged != MAP_FAILED);
	sandbox_prepare();
	forbids();
	for (int which = 0; which < SANDBOXES; which++) {
		apart((enum sandbox)which, true, live);
		apart((enum sandbox)which, true, talk);
		apart((enum sandbox)which, true, (TO_SYSLOG >> which & 1) != 0 ? reach_syslog : reach_nobody);
	}
	apart(SANDBOX_BROKER, true, descend);
	CHECK(mkdtemp(directory) != NULL && chdir(directory) == 0);
	for (size_t i = 0; i < 4; i++)
		CHECK(mkdir(directories[i], 0700) == 0);
	make_file("shared/mine");
	make_file("shared/other");
	make_file("read/file");
	apart(SANDBOX_SESSION, false, stay_inside);
	CHECK(unlink("shared/mine") == 0 && unlink("shared/other") == 0 && unlink("read/file") == 0 &&
	    unlink("spool/alice") == 0);
	for (size_t i = 0; i < 4; i++)
		CHECK(rmdir(directories[i]) == 0);
	return rmdir(directory);
}
