/*
 * Checks the conditions under which kpopd serves, one after the other, and
 * prints a line for each: kpopd --check [USER].
 *
 * Runs as root, started by hand through kpopd, with the same command line. It
 * is a program of its own because kpopd, which starts for each connection,
 * needs none of its code.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "log.h"

int
main(int argc, char **argv)
{
	static struct check c;
	static void (*const parts[])(struct check *) = { check_options,
		check_access, check_sandbox, check_state, check_kerberos,
		check_keytab, check_names, check_kdc, check_tls, check_service,
		check_leftover, check_user, check_locks, check_mailbox };

	if (geteuid() != 0) {
		fprintf(stderr, "kpopd-check: must be started as root\n");
		return 2;
	}
	/* A line in syslog would look like an event of the service. */
	check_keep_log(&c);
	/* check_options prints the mistake, if there is one. */
	options_read(&c.o, argc, argv, true);
	c.program = argv[0];
	c.user = c.o.check.user;
	c.json = c.o.check.json;
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		parts[i](&c);
		check_print_log();
	}
	return c.worst == CHECK_FAIL ? 1 : 0;
}
