/*
 * Runs a program as on a kernel without some system calls.
 *
 *	poor CALL … -- PROGRAM [ARGUMENT …]
 *
 * Each CALL fails with ENOSYS, in the program and in all processes that it
 * starts. "seccomp" includes the older form by prctl(2). Runs as root, from
 * tests.
 */
#include "config.h"

#include <sys/prctl.h>

#include <err.h>
#include <errno.h>
#include <seccomp.h>
#include <string.h>
#include <unistd.h>

/* Ends with a message if a call of libseccomp failed. */
static void
check(int result, const char *what)
{
	if (result < 0)
		errx(1, "%s: %s", what, strerror(-result));
}

/* Adds a system call to the filter. */
static void
withhold(scmp_filter_ctx filter, const char *call)
{
	int number = seccomp_syscall_resolve_name(call);

	if (number == __NR_SCMP_ERROR)
		errx(1, "%s: no system call", call);
	check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), number, 0),
	    call);
	if (strcmp(call, "seccomp") != 0)
		return;
	check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(prctl),
		  1, SCMP_CMP(0, SCMP_CMP_EQ, PR_GET_SECCOMP, 0)),
	    call);
	check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(prctl),
		  1, SCMP_CMP(0, SCMP_CMP_EQ, PR_SET_SECCOMP, 0)),
	    call);
}

int
main(int argc, char **argv)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int i = 1;

	if (filter == NULL)
		errx(1, "memory");
	/*
	 * Do not set no_new_privs, because the program starts without it if
	 * there is no such filter.
	 */
	check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0), "no_new_privs");
	for (; i < argc && strcmp(argv[i], "--") != 0; i++)
		withhold(filter, argv[i]);
	if (i + 1 >= argc)
		errx(1, "no program");
	check(seccomp_load(filter), "seccomp_load");
	execv(argv[i + 1], argv + i + 1);
	err(1, "%s", argv[i + 1]);
}
