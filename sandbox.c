/*
 * Limits what a process can ask of the kernel: its system calls and its files.
 *
 * Runs in each process that has dropped root's rights (privsep.c). Also runs as
 * root: main asks what the kernel offers, and the monitor uses the names of the
 * system calls. The kernel stops a forbidden call. The process then sends the
 * call's number to the monitor, which logs the name. After that the process
 * ends.
 *
 * The filters are made by sandbox-rules when kpopd is built.
 */
#include "config.h"

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "sandbox.h"
#include "sandbox-filters.h"

/*
 * The rights to files (landlock(7)): those of Landlock's first version, and
 * those that later versions have added. Older headers do not define the latter.
 */
#define ALL_OF_ABI_1 ((UINT64_C(1) << 13) - 1)
#define RIGHT_REFER (UINT64_C(1) << 13)        /* from ABI 2 */
#define RIGHT_TRUNCATE (UINT64_C(1) << 14)     /* from ABI 3 */
#define RIGHT_IOCTL_DEVICE (UINT64_C(1) << 15) /* from ABI 5 */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FILTER(name)                                                           \
	{                                                                      \
		COUNT(name##_filter), (struct sock_filter *)name##_filter      \
	}

/*
 * The filters permit sigaction only for signals below SIGSYS
 * (sandbox-rules.c). Confined processes set the handlers of only two signals:
 * the broker sets that of SIGCHLD, the C library that of SIGABRT.
 */
_Static_assert(SIGCHLD < SIGSYS && SIGABRT < SIGSYS,
    "the filters forbid to handle a signal that is not below SIGSYS");

static const struct sock_fprog filters[SANDBOXES] = {
	[SANDBOX_PREAUTH] = FILTER(preauth),
	[SANDBOX_SESSION] = FILTER(session),
	[SANDBOX_BROKER] = FILTER(broker),
	[SANDBOX_RELAY] = FILTER(relay),
	[SANDBOX_TLS] = FILTER(tls),
	[SANDBOX_KEEPER] = FILTER(keeper),
	[SANDBOX_REFUSAL] = FILTER(refusal),
};

/* The parts that this process and its children do without. */
static unsigned absent;

void
sandbox_do_without(unsigned parts)
{
	absent = parts;
}

/*
 * Installs a filter by either form of the call, because a supervisor may permit
 * only the older one. Returns 0 or -1. If filter is NULL, installs nothing and
 * returns -1; errno is then EFAULT if a real filter could be installed.
 */
static int
install_filter(const struct sock_fprog *filter)
{
	int error;

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, filter) == 0)
		return 0;
	error = errno;
	if (error != EFAULT &&
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter) == 0)
		return 0;
	if (errno != EFAULT)
		errno = error;
	return -1;
}

/* Returns the version of Landlock's interface (its ABI), or -1. */
static long
ask_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0,
	    LANDLOCK_CREATE_RULESET_VERSION);
}

/*
 * Writes the texts of sandbox_find_missing. no_seccomp and no_landlock are the
 * errors of the parts that are missing; 0 means that the part is offered.
 */
static void
describe_missing(int no_seccomp, int no_landlock, char found[SANDBOX_TEXT],
    char remedy[SANDBOX_TEXT])
{
	bool both = no_seccomp != 0 && no_landlock != 0;
	int n = snprintf(found, SANDBOX_TEXT, "the sandbox cannot be made: ");

	if (no_seccomp != 0)
		n += snprintf(found + n, SANDBOX_TEXT - (size_t)n,
		    "no seccomp (%s)%s", strerror(no_seccomp),
		    both ? ", " : "");
	if (no_landlock != 0)
		snprintf(found + n, SANDBOX_TEXT - (size_t)n,
		    "no Landlock (%s)", strerror(no_landlock));
	snprintf(remedy, SANDBOX_TEXT,
	    "Permit the system calls%s%s, in SystemCallFilter= of the unit or "
	    "for the container (systemd-nspawn: --system-call-filter=), or use "
	    "a kernel that has %s",
	    no_seccomp != 0 ? " seccomp" : "",
	    no_landlock != 0 ? " landlock_create_ruleset landlock_add_rule"
			       " landlock_restrict_self" :
			       "",
	    both ? "both" : "it");
}

unsigned
sandbox_find_missing(char found[SANDBOX_TEXT], char remedy[SANDBOX_TEXT])
{
	int no_seccomp = 0, no_landlock = 0;

	if (!SANDBOXED)
		return 0;
	if (install_filter(NULL) == -1 && errno != EFAULT)
		no_seccomp = errno;
	if (ask_landlock() == -1)
		no_landlock = errno;
	if (no_seccomp != 0 || no_landlock != 0)
		describe_missing(no_seccomp, no_landlock, found, remedy);
	return (no_seccomp != 0 ? SANDBOX_SECCOMP : 0) |
	    (no_landlock != 0 ? SANDBOX_LANDLOCK : 0);
}

/*
 * Signal handler: the kernel has stopped a forbidden call. Reports it and ends
 * the process.
 */
static void
end_forbidden(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)context;
	/*
	 * Only signals from the kernel have a positive code. A signal that the
	 * user sends could name any call, so ignore it.
	 */
	if (info->si_code <= 0)
		return;
	log_forbidden(info->si_syscall, sandbox_call_name(info->si_syscall));
	_exit(1);
}

void
sandbox_enter(enum sandbox which)
{
	const struct sigaction action = { .sa_sigaction = end_forbidden,
		.sa_flags = SA_SIGINFO | SA_NODEFER };
	/*
	 * Also true if the parent has set the handler. Then the parent's filter
	 * is in force and forbids sigaction for SIGSYS.
	 */
	static bool has_handler;

	if (!SANDBOXED || (absent & SANDBOX_SECCOMP) != 0)
		return;
	if (!has_handler && sigaction(SIGSYS, &action, NULL) == -1)
		fatal("sigaction");
	has_handler = true;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		fatal("no_new_privs");
	if (install_filter(&filters[which]) == -1)
		fatal("seccomp");
	/* Every filter makes this call fail. */
	if (socket(AF_INET, SOCK_STREAM, 0) != -1 || errno != EACCES)
		fatal("seccomp does not work");
}

const char *
sandbox_call_name(int number)
{
	return number >= 0 && (size_t)number < COUNT(call_names) &&
		call_names[number] != NULL ?
	    call_names[number] :
	    "unknown";
}

/*
 * Returns the rights to files that a kernel of this ABI supports (landlock(7)).
 */
static uint64_t
known_rights(long abi)
{
	uint64_t rights = ALL_OF_ABI_1;

	rights |= abi >= 2 ? RIGHT_REFER : 0;
	rights |= abi >= 3 ? RIGHT_TRUNCATE : 0;
	rights |= abi >= 5 ? RIGHT_IOCTL_DEVICE : 0;
	return rights;
}

/* Returns the rights below a path, as far as the kernel supports them. */
static uint64_t
rights_for(const struct sandbox_path *path, uint64_t known)
{
	const uint64_t read = LANDLOCK_ACCESS_FS_READ_FILE;
	const uint64_t write =
	    read | LANDLOCK_ACCESS_FS_WRITE_FILE | RIGHT_TRUNCATE;
	const uint64_t own = write | LANDLOCK_ACCESS_FS_READ_DIR |
	    LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
	    LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_DIR |
	    RIGHT_REFER |
	    /*
	     * The next three are needed to set aside a symlink, socket or
	     * directory that has the name of a journal, by a rename. The
	     * process still cannot make a symlink, or listen on a socket,
	     * because the filters forbid the calls. By mknod(2), which the
	     * filters permit, the process can make the file of a socket.
	     */
	    LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_MAKE_SOCK |
	    LANDLOCK_ACCESS_FS_REMOVE_DIR;

	switch (path->how) {
	case SANDBOX_READ:
		return known & read;
	case SANDBOX_LIST:
		return known & (read | LANDLOCK_ACCESS_FS_READ_DIR);
	case SANDBOX_WRITE:
		return known & write;
	default:
		return known & own;
	}
}

/*
 * The kernel's struct landlock_ruleset_attr; older headers lack the last two
 * fields.
 */
struct ruleset {
	uint64_t files, network, scoped;
};

/*
 * Returns all that a kernel of this ABI can deny a process: files, TCP, the
 * abstract sockets of other processes, and signals to them. A kernel accepts a
 * structure larger than its own if the rest is zero.
 */
static struct ruleset
known_rules(long abi)
{
	const uint64_t bind_and_connect = 3, sockets_and_signals = 3;

	return (struct ruleset){ .files = known_rights(abi),
		.network = abi >= 4 ? bind_and_connect : 0,
		.scoped = abi >= 6 ? sockets_and_signals : 0 };
}

void
sandbox_shut_files(const struct sandbox_path *paths, size_t n)
{
	struct ruleset all;
	long abi;
	int rules;

	if (!SANDBOXED || (absent & SANDBOX_LANDLOCK) != 0)
		return;
	abi = ask_landlock();
	all = known_rules(abi);
	rules = abi == -1 ?
	    -1 :
	    (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	if (rules == -1)
		fatal("landlock_create_ruleset");
	for (size_t i = 0; i < n; i++) {
		struct landlock_path_beneath_attr rule = { 0 };

		rule.parent_fd = paths[i].fd;
		rule.allowed_access = rights_for(&paths[i], all.files);
		if (rule.parent_fd != -1 &&
		    syscall(SYS_landlock_add_rule, rules,
			LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == -1)
			fatal("landlock_add_rule");
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 ||
	    syscall(SYS_landlock_restrict_self, rules, 0) == -1)
		fatal("landlock_restrict_self");
	close(rules);
	if (open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) != -1 ||
	    errno != EACCES)
		fatal("Landlock does not work");
}
