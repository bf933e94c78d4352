/*
 * Tests options.c: the defaults, the values that each option takes on the
 * command line and in the file, and the refusal of others.
 *
 * Runs as any user: that user's files seem to belong to root, and no file to be
 * at the default place (owner.c).
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <string.h>
#include <unistd.h>

#include "login-defs.h"
#include "options.h"
#include "process.h"
#include "tests/unit/check.h"
#include "tests/unit/owner.h"

#define WORDS 16
#define REFUSED 2
#define UNKNOWN                                                                \
	"kpopd: unknown option, or its argument is missing or unwanted: "

static char path[] = "/tmp/kpopd-options.XXXXXX";

/*
 * Splits a command line at each '|', and reads the resulting options. Resets
 * getopt first.
 */
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
	if (!options_read(&o, argc, argv, true))
		options_refuse_mistake(&o);
	return o;
}

/*
 * Reads the line in a child, which must end with status 2. Returns what it
 * prints.
 */
static const char *
refuse_line(const char *line)
{
	static char said[1024];
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
	said[n] = '\0';
	close(fds[0]);
	CHECK(process_wait(pid, &status, 0) == 0);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == REFUSED);
	return said;
}

/* Checks that the line is refused with a message that begins so. */
static void
check_refused(const char *line, const char *expected)
{
	CHECK(strncmp(refuse_line(line), expected, strlen(expected)) == 0);
}

/* Returns the command line with the file, which gets this text, and more. */
static const char *
with_file(const char *text, const char *more)
{
	static char line[256];
	int fd = open(path, O_WRONLY | O_TRUNC);

	CHECK(fd != -1 && write(fd, text, strlen(text)) != -1);
	CHECK(close(fd) == 0);
	snprintf(line, sizeof(line), "-f|%s%s", path, more);
	return line;
}

/*
 * Checks that a file with this text is refused with exactly this message after
 * its path, and without the usage.
 */
static void
check_file_refused(const char *text, const char *expected)
{
	char message[512];

	snprintf(message, sizeof(message), "kpopd: %s:%s\n", path, expected);
	CHECK(strcmp(refuse_line(with_file(text, "")), message) == 0);
}

static void
defaults(void)
{
	struct options o = read_line("");

	CHECK(o.by_hand && !o.pop3 && !o.recover);
	CHECK(o.config == NULL);
	CHECK(o.keytab == NULL && o.service == NULL && o.realms == NULL);
	CHECK(o.domains == NULL && o.proxies.count == 0);
	CHECK(strcmp(o.state, STATE_DIRECTORY) == 0);
	CHECK(strcmp(o.user, "kpopd") == 0);
	CHECK(strcmp(o.tls.user, "kpopd-tls") == 0);
	CHECK(strcmp(o.mailboxes.text, "mbox:/var/mail/%u") == 0);
	CHECK(o.uids.least == login_defs_uid_min("/etc/login.defs"));
	CHECK(o.least_user == o.uids.least);
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
	 * Numbers that are left out keep their defaults. The default of the
	 * fifth number is half of the third number.
	 */
	o = read_line("-a|300:30:7|-t|60|-n500");
	CHECK(o.limits.all == 300 && o.limits.each == 30);
	CHECK(o.limits.rate == 7 && o.limits.each_rate == 4 && o.linger == 300);
	CHECK(o.login == 60 && o.idle == 600);
	CHECK(o.uids.least == 500 && o.uids.most == ACCOUNT_UID_MOST);
	CHECK(o.least_user == 500);
	/* Users who may not log in are users, too. */
	o = read_line("-n|70000");
	CHECK(o.uids.least == 70000);
	CHECK(o.least_user == login_defs_uid_min("/etc/login.defs"));
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
	o = read_line("--import-uidl|alice");
	CHECK(strcmp(o.import_uidl, "alice") == 0 && o.uidl_report == NULL);
	o = read_line("--uidl-report|bob|-d|/state");
	CHECK(strcmp(o.uidl_report, "bob") == 0 && o.import_uidl == NULL);
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
schemes(void)
{
	struct options o = read_line("-p");

	CHECK(o.uidl.source == SCHEME_NONE);
	o = read_line("--uidl|dovecot:%v.%u");
	CHECK(o.uidl.source == SCHEME_FORMAT);
	CHECK(strcmp(o.uidl.format, "%v.%u") == 0);
	o = read_line("-m|maildir:~/M|--uidl|courier");
	CHECK(o.uidl.source == SCHEME_COURIER);
	o = read_line("--uidl|courier|--uidl|none");
	CHECK(o.uidl.source == SCHEME_NONE);
	check_refused("--uidl|Dovecot", "kpopd: --uidl takes none, dovecot, ");
	check_refused("--uidl|dovecot:%v", "kpopd: --uidl takes none, ");
	check_refused("--uidl|courier",
	    "kpopd: --uidl is of another format than the mailboxes: courier\n");
	check_refused("--uidl|dovecot:%f", "kpopd: --uidl is of another ");
	check_refused("--uidl|popa3d|-m|maildir:~/M",
	    "kpopd: --uidl is of another format than the mailboxes: popa3d\n");
	check_refused("--uidl|uw|-m|maildir+create:~/M", "kpopd: --uidl is ");
	check_refused("--uidl|dovecot:%m|-m|maildir:~/M", "kpopd: --uidl is ");
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
	check_refused("-T|offer", "kpopd: -T needs a certificate: -c, ");
	check_refused("-C|ALL", "kpopd: -C needs a certificate: -c, ");
	check_refused("--tls-key|/k", "kpopd: -K needs a certificate: -c, ");
	check_refused("-C||-c|/c", "kpopd: -C takes OpenSSL's cipher list, ");
	check_refused("-C|A\"|-c|/c",
	    "kpopd: -C takes OpenSSL's cipher list, ");
}

static void
long_names(void)
{
	struct options o = read_line("--keytab|/k|--state=/s|--pop3");

	CHECK(strcmp(o.keytab, "/k") == 0 && strcmp(o.state, "/s") == 0);
	CHECK(o.pop3 && !o.recover);
	/* As for getopt: the last one wins, with its whole argument. */
	o = read_line("-t|5:6|--timeouts|7");
	CHECK(o.login == 7 && o.idle == 600);
	/* An abbreviation would mean another option in a later version. */
	check_refused("--key|/k", UNKNOWN "--key\n");
	check_refused("--keyta=/k", "kpopd: unknown option, or its argument ");
	check_refused("--rec", "kpopd: unknown option, or its argument ");
}

static void
mistakes(void)
{
	check_refused("-q", UNKNOWN "-q\nusage: kpopd [-a limits] ");
	check_refused("--no-such", UNKNOWN "--no-such\n");
	check_refused("-t", UNKNOWN "-t\n");
	check_refused("--keytab", UNKNOWN "--keytab\n");
	check_refused("--pop3=yes", UNKNOWN "--pop3=yes\n");
	/* The message names the wrong letter, wherever it is in its word. */
	check_refused("-zp", UNKNOWN "-z\n");
	check_refused("-p|-zk|x", UNKNOWN "-z\n");
	check_refused("-pz|-qr", UNKNOWN "-z\n");
	check_refused("word|-z5|--keytab|/k", UNKNOWN "-z\n");
	check_refused("-pk", UNKNOWN "-k\n");
	check_refused("-\"", UNKNOWN "-\\042\n");
	check_refused("-\303\244", UNKNOWN "-\\303\n");
	check_refused("-p|--no-such|-z", UNKNOWN "--no-such\n");
	check_refused("-k|/k|--key|/k|-z", UNKNOWN "--key\n");
	check_refused("-p|word", "kpopd: unexpected argument: word\n");
}

/* Every option of the file reaches its field. */
static void
file_words(void)
{
	struct options o = read_line(with_file(
	    "# all\n"
	    "limits 1:2:7:0:4\ntls-ciphers ALL\ntls-certificate /c\n"
	    "domains a,b.c\nstate /s\ntls-key /k\nkeytab /t\nlocks flock\n"
	    "mailboxes maildir:~/M m\nuids 5:6\npop3\nrealms R,S\n"
	    "service pop/h\ntls require\ntimeouts 8:9\ntls-user v\nuser w\n"
	    "proxies local\nuidl solid-pop3d\n",
	    ""));

	CHECK(o.limits.all == 1 && o.limits.each == 2 && o.linger == 0);
	CHECK(strcmp(o.tls.ciphers, "ALL") == 0 && o.tls.when == TLS_REQUIRE);
	CHECK(strcmp(o.tls.certificate, "/c") == 0);
	CHECK(strcmp(o.tls.key, "/k") == 0 && strcmp(o.tls.user, "v") == 0);
	CHECK(strcmp(o.domains, "a,b.c") == 0 && strcmp(o.state, "/s") == 0);
	CHECK(strcmp(o.keytab, "/t") == 0 && o.locks.count == 1);
	CHECK(strcmp(o.mailboxes.text, "maildir:~/M m") == 0);
	CHECK(o.uids.least == 5 && o.uids.most == 6 && o.pop3 && !o.recover);
	CHECK(strcmp(o.realms, "R,S") == 0 && strcmp(o.service, "pop/h") == 0);
	CHECK(o.login == 8 && o.idle == 9 && strcmp(o.user, "w") == 0);
	CHECK(o.proxies.count == 1 && o.uidl.source == SCHEME_SOLID);
}

/* The command line wins with its whole argument, wherever -f is. */
static void
file_and_line(void)
{
	struct options o =
	    read_line(with_file("limits 1:2:3\nkeytab /t\ntls no\n",
		"|-a|9|--keytab|/u"));

	CHECK(o.limits.all == 9 && o.limits.each == 20 && o.limits.rate == 50);
	CHECK(strcmp(o.keytab, "/u") == 0 && o.tls.when == TLS_NO);
	CHECK(strcmp(o.config, path) == 0);
	check_refused(with_file("limits 1\n", "|-a|x"), "kpopd: -a takes ");
	check_refused(with_file("limits 1\n", "|-T|offer"),
	    "kpopd: -T needs a certificate: ");
	/* A file with a mistake serves nothing, although -k is given. */
	check_refused(with_file("keytab\n", "|-k|/k"), "kpopd: /tmp/");
}

static void
file_mistakes(void)
{
	check_file_refused("\nkeytabs /k\n", "2: unknown word: keytabs");
	check_file_refused("k /k\n", "1: unknown word: k");
	check_file_refused("keytab /k\nkeytab /k\n", "2: repeated: keytab");
	check_file_refused("keytab\n", "1: its argument is missing: keytab");
	check_file_refused("pop3 no\n", "1: takes no argument: pop3");
	check_file_refused("config /f\n",
	    "1: an option of the command line only: config");
	check_file_refused("import-uidl alice\n",
	    "1: an option of the command line only: import-uidl");
	check_file_refused("recover\n",
	    "1: an option of the command line only: recover");
	check_file_refused("help\n",
	    "1: an option of the command line only: help");
	check_file_refused("#\nlimits 1,2\n",
	    "2: limits takes up to five numbers, as 200:20:50:300:25, not 1,2");
	check_file_refused("tls-user a\n\ntls offer # always\n",
	    "3: tls takes no, offer, require or immediate, "
	    "not offer # always");
	check_file_refused("tls offer\n",
	    "1: tls needs a certificate: -c, tls-certificate");
	check_file_refused("tls no\ntls-key /k\n",
	    "2: tls-key needs a certificate: -c, tls-certificate");
	check_file_refused("mailboxes maildir:~/M\nuidl popa3d\n",
	    "2: uidl is of another format than the mailboxes: popa3d");
	check_file_refused("tls=offer\n",
	    "1: a line is NAME or NAME ARGUMENT, with a blank between them");
	check_file_refused("",
	    " it is empty; remove it, or write a comment into it");
	check_refused("--config=/nonexistent/f",
	    "kpopd: /nonexistent/f: No such file or directory\n");
}

int
main(void)
{
	int fd = mkstemp(path);

	owner_hidden_path = CONFIG_FILE;
	CHECK(fd != -1 && fchmod(fd, 0644) == 0 && close(fd) == 0);
	defaults();
	numbers();
	texts();
	tls();
	long_names();
	mistakes();
	schemes();
	file_words();
	file_and_line();
	file_mistakes();
	CHECK(unlink(path) == 0);
	return 0;
}
