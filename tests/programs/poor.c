/*
 * Runs a program as on a kernel without some system calls, or in a container
 * that forbids them.
 *
 *	poor [-e EPERM] CALL … -- PROGRAM [ARGUMENT …]
 *
 * Each CALL fails with ENOSYS, or with the error of -e, in the program and in
 * all processes that it starts. "seccomp" includes the older form by prctl(2),
 * "seccomp-call" does not. "filters" is both forms if they have a filter, so a
 * trial without one succeeds. Runs as root, from tests.
 */
#include "config.h"

#include <sys/prctl.h>

#include <err.h>
#include <errno.h>
#include <seccomp.h>
#include <string.h>
#include <unistd.h>

/* Prints a message and exits if a call of libseccomp has failed. */
static void
check(int result, const char *what)
{
	if (result < 0)
		errx(1, "%s: %s", what, strerror(-result));
}

/* What the calls fail with. */
static uint32_t error = ENOSYS;

/* Sets the error of -e. */
static void
choose_error(const char *name)
{
	static const struct {
		const char *name;
		uint32_t number;
	} errors[] = { { "ENOSYS", ENOSYS }, { "EPERM", EPERM },
		{ "EACCES", EACCES }, { "EOPNOTSUPP", EOPNOTSUPP } };

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
		if (strcmp(name, errors[i].name) == 0) {
			error = errors[i].number;
			return;
		}
	errx(1, "%s: no error", name);
}

/* Makes both forms of seccomp fail if they have a filter. */
static void
withhold_filters(scmp_filter_ctx filter)
{
	check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(error), SCMP_SYS(seccomp),
		  1, SCMP_CMP(2, SCMP_CMP_NE, 0, 0)),
	    "seccomp");
	check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(error), SCMP_SYS(prctl),
		  2, SCMP_CMP(0, SCMP_CMP_EQ, PR_SET_SECCOMP, 0),
		  SCMP_CMP(2, SCMP_CMP_NE, 0, 0)),
	    "prctl");
}

/* Makes the older form of seccomp fail. */
static void
withhold_prctl(scmp_filter_ctx filter)
{
	static const int operations[] = { PR_GET_SECCOMP, PR_SET_SECCOMP };

	for (size_t i = 0; i < 2; i++)
		check(seccomp_rule_add(filter,
			  SCMP_ACT_ERRNO(error == ENOSYS ? EINVAL : error),
			  SCMP_SYS(prctl), 1,
			  SCMP_CMP(0, SCMP_CMP_EQ, (scmp_datum_t)operations[i],
			      0)),
		    "prctl");
}

/* Adds a system call to the filter. */
static void
withhold(scmp_filter_ctx filter, const char *call)
{
	int number = strcmp(call, "seccomp-call") == 0 ?
	    SCMP_SYS(seccomp) :
	    seccomp_syscall_resolve_name(call);

	if (strcmp(call, "filters") == 0) {
		withhold_filters(filter);
		return;
	}
	if (number == __NR_SCMP_ERROR)
		errx(1, "%s: no system call", call);
	check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(error), number, 0), call);
	if (strcmp(call, "seccomp") == 0)
		withhold_prctl(filter);
}

int
main(int argc, char **argv)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int i = 1;

	if (filter == NULL)
		errx(1, "memory");
	/*
	 * Do not set no_new_privs. The program would start without that flag on
	 * a real kernel.
	 */
	check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0), "no_new_privs");
	if (argc > 2 && strcmp(argv[1], "-e") == 0) {
		choose_error(argv[2]);
		i = 3;
	}
	for (; i < argc && strcmp(argv[i], "--") != 0; i++)
		withhold(filter, argv[i]);
	if (i + 1 >= argc)
		errx(1, "no program");
	check(seccomp_load(filter), "seccomp_load");
	execv(argv[i + 1], argv + i + 1);
	err(1, "%s", argv[i + 1]);
}
