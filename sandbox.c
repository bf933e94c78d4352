/*
 * What a process may ask of the kernel from now on: system calls and files.
 *
 * Runs as whoever has given up everything else (privsep.c). What is forbidden
 * is not done, and the process that asked for it ends: it sends the call's
 * number to the monitor, which logs its name.
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
#include <unistd.h>

#include "log.h"
#include "sandbox.h"
#include "sandbox-filters.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define FILTER(name) { COUNT(name##_filter), (struct sock_filter *)name##_filter }

static const struct sock_fprog filters[SANDBOXES] = {
	[SANDBOX_PREAUTH] = FILTER(preauth),
	[SANDBOX_SESSION] = FILTER(session),
	[SANDBOX_BROKER] = FILTER(broker),
	[SANDBOX_RELAY] = FILTER(relay),
	[SANDBOX_TLS] = FILTER(tls),
	[SANDBOX_REFUSAL] = FILTER(refusal),
};

static void
forbidden(int signal, siginfo_t *info, void *context)
{
	(void)signal, (void)context;
	/* Only the kernel's codes are positive. A signal that the user has sent names a call of the user's choice. */
	if (info->si_code <= 0)
		return;
	log_forbidden(info->si_syscall);
	_exit(1);
}

void
sandbox_enter(enum sandbox which)
{
	const struct sigaction action = { .sa_sigaction = forbidden, .sa_flags = SA_SIGINFO | SA_NODEFER };

	static bool answers; /* of this process or the one that made it, whose filter holds here, too */

	if (!SANDBOXED)
		return;
	if (!answers && sigaction(SIGSYS, &action, NULL) == -1)
		fatal("sigaction");
	answers = true;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1)
		fatal("no_new_privs");
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filters[which]) == 0) {
		/* All of them have this answered with an error. */
		if (socket(AF_INET, SOCK_STREAM, 0) != -1 || errno != EACCES)
			fatal("seccomp does not work");
		return;
	}
	/* A kernel without filters is the admin's choice. */
	if (errno != ENOSYS && errno != EINVAL)
		fatal("seccomp");
	if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != -1)
		fatal("seccomp");
	log_event(LOG_NOTICE, "sandbox", "error=\"this kernel has no seccomp\"");
}

const char *
sandbox_call_name(int number)
{
	return number >= 0 && (size_t)number < COUNT(call_names) && call_names[number] != NULL ? call_names[number] : "unknown";
}

/* Rights that a kernel of this ABI knows (landlock(7)). */
static uint64_t
known_rights(long abi)
{
	/* Headers older than the kernel lack the names. */
	const uint64_t refer = 1 << 13, truncate = 1 << 14, ioctl_device = 1 << 15;
	uint64_t rights = (1 << 13) - 1;

	rights |= abi >= 2 ? refer : 0;
	rights |= abi >= 3 ? truncate : 0;
	rights |= abi >= 5 ? ioctl_device : 0;
	return rights;
}

static uint64_t
rights_for(const struct sandbox_path *path, uint64_t known)
{
	const uint64_t read = LANDLOCK_ACCESS_FS_READ_FILE;
	const uint64_t write = read | LANDLOCK_ACCESS_FS_WRITE_FILE | (1 << 14);
	const uint64_t own = write | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
	    LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_DIR |
	    (1 << 13) |
	    /* To rename what stands in a journal's place, whatever it is; no filter lets a symlink or a socket be made. */
	    LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_DIR;

	return known & (path->how == SANDBOX_READ ? read : path->how == SANDBOX_WRITE ? write : own);
}

/* What a ruleset handles. Headers older than the kernel lack the last two. */
struct ruleset {
	uint64_t files, network, scoped;
};

/*
 * All that a kernel of this ABI can keep from a process: files, TCP, the
 * abstract sockets of others, and signals to them. A kernel takes a structure
 * larger than its own if the rest is zero.
 */
static struct ruleset
known_rules(long abi)
{
	const uint64_t bind_and_connect = 3, sockets_and_signals = 3;

	return (struct ruleset){ .files = known_rights(abi), .network = abi >= 4 ? bind_and_connect : 0,
		.scoped = abi >= 6 ? sockets_and_signals : 0 };
}

void
sandbox_shut_files(const struct sandbox_path *paths, size_t n)
{
	struct ruleset all;
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	int rules;

	if (!SANDBOXED)
		return;
	if (abi == -1 && (errno == ENOSYS || errno == EOPNOTSUPP)) {
		log_event(LOG_NOTICE, "sandbox", "error=\"this kernel has no Landlock\"");
		return;
	}
	all = known_rules(abi);
	rules = abi == -1 ? -1 : (int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	if (rules == -1)
		fatal("landlock_create_ruleset");
	for (size_t i = 0; i < n; i++) {
		struct landlock_path_beneath_attr rule = { .parent_fd = paths[i].fd,
			.allowed_access = rights_for(&paths[i], all.files) };

		if (rule.parent_fd != -1 &&
		    syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == -1)
			fatal("landlock_add_rule");
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1 ||
	    syscall(SYS_landlock_restrict_self, rules, 0) == -1)
		fatal("landlock_restrict_self");
	close(rules);
	if (open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC) != -1 || errno != EACCES)
		fatal("Landlock does not work");
}
