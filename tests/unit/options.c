/*
 * Tests options.c: the defaults, the values that each option takes, and the
 * refusal of others.
 *
 * Runs as any user.
 */
#include "config.h"

#include <sys/wait.h>

#include <getopt.h>
#include <string.h>
#include <unistd.h>

#include "login-defs.h"
#include "options.h"
#include "process.h"
#include "tests/unit/check.h"

#define WORDS 16
#define REFUSED 2

/* Splits a command line at each '|' and reads it, with getopt at its start. */
static struct options
read_line(const char *line)
{
	static char copy[256];
	static struct options o;
	char *argv[WORDS + 1] = { (char *)(uintptr_t) "kpopd" }, *at = copy;
	int argc = 1;

	CHECK(strlcpy(copy, line, sizeof(copy)) < sizeof(copy));
	while (*line != '\0' && at != NULL) {
		CHECK(argc < WORDS);
		argv[argc++] = strsep(&at, "|");
	}
	optind = 0;
	options_read(&o, argc, argv, true);
	return o;
}

/*
 * Checks that the line is refused with status 2 and a message that begins so.
 */
static void
check_refused(const char *line, const char *expected)
{
	char said[512] = "";
	int fds[2], status;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	CHECK(pipe(fds) == 0);
	CHECK((pid = fork()) != -1);
	if (pid == 0) {
		CHECK(dup2(fds[1], 2) == 2);
		read_line(line);
		_exit(0);
	}
	close(fds[1]);
	while (n < sizeof(said) - 1 &&
	    (got = read(fds[0], said + n, sizeof(said) - 1 - n)) > 0)
		n += (size_t)got;
	close(fds[0]);
	CHECK(process_wait(pid, &status, 0) == 0);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == REFUSED);
	CHECK(strncmp(said, expected, strlen(expected)) == 0);
}

static void
defaults(void)
{
	struct options o = read_line("");

	CHECK(o.by_hand && !o.pop3 && !o.recover);
	CHECK(o.keytab == NULL && o.service == NULL && o.realms == NULL);
	CHECK(o.domains == NULL && o.proxies.count == 0);
	CHECK(strcmp(o.state, STATE_DIRECTORY) == 0);
	CHECK(strcmp(o.user, "kpopd") == 0);
	CHECK(strcmp(o.tls.user, "kpopd-tls") == 0);
	CHECK(strcmp(o.mailboxes.text, "mbox:/var/mail/%u") == 0);
	CHECK(o.uids.least == login_defs_uid_min("/etc/login.defs"));
	CHECK(o.uids.most == ACCOUNT_UID_MOST);
	CHECK(o.login == 30 && o.idle == 600 && o.linger == 300);
	CHECK(o.limits.all == 200 && o.limits.each == 20);
	CHECK(o.limits.rate == 50 && o.limits.each_rate == 25);
	CHECK(o.tls.when == TLS_NO && o.tls.certificate == NULL);
	CHECK(o.tls.key == NULL && o.tls.ciphers[0] == '\0');
	CHECK(!o.sandbox.is_optional && o.sandbox.missing == 0);
}

static void
numbers(void)
{
	struct options o = read_line("-a|1:2:7:0:4|-t|5:6|-n|1000:60000");

	CHECK(o.limits.all == 1 && o.limits.each == 2 && o.limits.rate == 7);
	CHECK(o.linger == 0 && o.limits.each_rate == 4);
	CHECK(o.login == 5 && o.idle == 6);
	CHECK(o.uids.least == 1000 && o.uids.most == 60000);
	/*
	 * Numbers that are left out keep their defaults; without the fifth one
	 * it is half of the third.
	 */
	o = read_line("-a|300:30:7|-t|60|-n500");
	CHECK(o.limits.all == 300 && o.limits.each == 30);
	CHECK(o.limits.rate == 7 && o.limits.each_rate == 4 && o.linger == 300);
	CHECK(o.login == 60 && o.idle == 600);
	CHECK(o.uids.least == 500 && o.uids.most == ACCOUNT_UID_MOST);
	check_refused("-a|0",
	    "kpopd: -a takes up to five numbers, "
	    "as 200:20:50:300:25, not 0\n");
	check_refused("-a|1:2:3:4:5:6", "kpopd: -a takes ");
	check_refused("-a|", "kpopd: -a takes ");
	check_refused("-t|30:600:1",
	    "kpopd: -t takes seconds, as 30:600, not ");
	check_refused("-t|3601", "kpopd: -t takes ");
	check_refused("-n|0", "kpopd: -n takes one uid above 0 or two, ");
	check_refused("-n|2000:1000", "kpopd: -n takes ");
	check_refused("-n|1:2:3", "kpopd: -n takes ");
}

static void
texts(void)
{
	struct options o = read_line("-d|/s|-k|/k|-s|pop/h|-p");

	CHECK(strcmp(o.state, "/s") == 0 && strcmp(o.keytab, "/k") == 0);
	CHECK(strcmp(o.service, "pop/h") == 0 && o.pop3);
	o = read_line("-r|R,S|-D|a,b.c|-u|x|--recover");
	CHECK(strcmp(o.realms, "R,S") == 0 && strcmp(o.domains, "a,b.c") == 0);
	CHECK(strcmp(o.user, "x") == 0 && o.recover);
	o = read_line("-m|maildir:~/Maildir|-l|flock|-x|local,10.0.0.0/8");
	CHECK(strcmp(o.mailboxes.text, "maildir:~/Maildir") == 0);
	CHECK(o.proxies.count == 2);
	o = read_line("-S|optional");
	CHECK(o.sandbox.is_optional);
	o = read_line("-S|optional|-S|required");
	CHECK(!o.sandbox.is_optional);
	check_refused("-S|no",
	    "kpopd: -S takes required or optional, not no\n");
	check_refused("-D|a,,b", "kpopd: -D takes domains with commas, ");
	check_refused("-m|none:/x", "kpopd: -m takes ");
	check_refused("-m|mbox:%u", "kpopd: -m takes ");
	check_refused("-l|posix", "kpopd: -l takes fcntl, flock and dotlock ");
	check_refused("-x|10.0.0.0/33", "kpopd: -x takes addresses, networks ");
}

static void
tls(void)
{
	struct options o = read_line("-c|/c");

	CHECK(o.tls.when == TLS_OFFER && strcmp(o.tls.key, "/c") == 0);
	o = read_line("-T|immediate|-c|/c|-K|/k|-U|u|-C|ALL");
	CHECK(o.tls.when == TLS_IMMEDIATE && strcmp(o.tls.key, "/k") == 0);
	o = read_line("-T|require|-c|/c|-U|u|-C|ALL");
	CHECK(o.tls.when == TLS_REQUIRE && strcmp(o.tls.user, "u") == 0);
	CHECK(strcmp(o.tls.ciphers, "ALL") == 0);
	o = read_line("-T|no|-c|/c");
	CHECK(o.tls.when == TLS_NO);
	check_refused("-T|always|-c|/c",
	    "kpopd: -T takes no, offer, require or "
	    "immediate, not always\n");
	check_refused("-T|offer", "kpopd: TLS needs a certificate: -c\n");
	check_refused("-C|ALL", "kpopd: TLS needs a certificate: -c\n");
	check_refused("-C||-c|/c", "kpopd: -C takes OpenSSL's cipher list, ");
	check_refused("-C|A\"|-c|/c",
	    "kpopd: -C takes OpenSSL's cipher list, ");
}

static void
mistakes(void)
{
	check_refused("-q",
	    "kpopd: unknown option, or its argument is "
	    "missing: -q\nusage: kpopd [-a limits] ");
	check_refused("--no-such",
	    "kpopd: unknown option, or its argument is "
	    "missing: --no-such\n");
	check_refused("-t",
	    "kpopd: unknown option, or its argument is "
	    "missing: -t\n");
	check_refused("-p|word", "kpopd: unexpected argument: word\n");
}

int
main(void)
{
	defaults();
	numbers();
	texts();
	tls();
	mistakes();
	return 0;
}
