/*
 * Has one table of all options, with the functions that read their arguments,
 * and prints the usage and --help from it.
 *
 * Runs as root, in main, and in the listener at SIGHUP.
 *
 * A new option needs a row here, a function that reads its argument, entries in
 * kpopd.8, kpopd.conf.5 and examples/kpopd.conf (tests/tools/manuals compares
 * them with the table), and a test.
 */
#include "config.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "login-defs.h"
#include "options-table.h"

#define SECONDS_MAX 86400 /* a day */
#define LOGIN_MAX 3600
#define DEFAULT_LOCKS "fcntl,dotlock"
#define DEFAULT_MAILBOXES "mbox:/var/mail/%u"
#define DEFAULT_TLS_USER "kpopd-tls"
#define DEFAULT_USER "kpopd"
/* Columns of usage and --help. */
#define WIDTH 79
#define USAGE_INDENT 13
#define HELP_INDENT 8

/* One number of a list, and its limits. */
struct number {
	int *to, least, most;
};

/*
 * Reads one to n numbers with colons between them. Numbers may be missing only
 * at the end; those keep their values. Returns 0 or -1.
 */
static int
read_numbers(const char *text, const struct number *numbers, int n)
{
	char copy[64], *rest = copy;

	if (strlcpy(copy, text, sizeof(copy)) >= sizeof(copy))
		return -1;
	for (int i = 0; rest != NULL; i++) {
		const char *word = strsep(&rest, ":");
		const char *problem = "one too many";

		if (i < n)
			*numbers[i].to = (int)strtonum(word, numbers[i].least,
			    numbers[i].most, &problem);
		if (problem != NULL)
			return -1;
	}
	return 0;
}

/* Reads -a: ALL:EACH:RATE:LINGER:EACHRATE. */
static int
read_limits(struct options *o, const char *text)
{
	const struct number limits[] = {
		{ &o->limits.all, 1, LIMITS_MAX },
		{ &o->limits.each, 1, LIMITS_MAX },
		{ &o->limits.rate, 1, LIMITS_MAX },
		{ &o->linger, 0, SECONDS_MAX },
		{ &o->limits.each_rate, 1, LIMITS_MAX },
	};

	return read_numbers(text, limits, 5);
}

/*
 * Reads -C. Only kpopd-tls can find out whether OpenSSL has these ciphers. This
 * function only checks three things. The text must not be empty, because "" is
 * kpopd-tls's own list. It must fit in the record of the last successful trial
 * (layer.c). It must have only characters that the log may contain.
 */
static int
read_ciphers(struct options *o, const char *text)
{
	static const char letters[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789_.=@!+-:,; ";

	if (*text == '\0' || strlen(text) >= TLS_CIPHERS_MOST ||
	    text[strspn(text, letters)] != '\0')
		return -1;
	o->tls.ciphers = text;
	return 0;
}

/*
 * Reads -D: DOMAIN,DOMAIN,... No domain may be empty, because "name@" must not
 * mean "name"; equals_domain (account.c) ensures that, too.
 */
static int
read_domains(struct options *o, const char *text)
{
	if (*text == '\0' || text[strcspn(text, "@ \t")] != '\0' ||
	    strstr(text, ",,") != NULL || *text == ',' ||
	    text[strlen(text) - 1] == ',')
		return -1;
	o->domains = text;
	return 0;
}

/* Reads -l. */
static int
read_locks(struct options *o, const char *text)
{
	return lock_plan_read(&o->locks, text);
}

/* Reads -m. */
static int
read_mailboxes(struct options *o, const char *text)
{
	return mailboxes_read(&o->mailboxes, text);
}

/* Reads --uidl. */
static int
read_scheme(struct options *o, const char *text)
{
	return scheme_read(&o->uidl, text);
}

/* Reads -n: LEAST or LEAST:MOST. */
static int
read_uids(struct options *o, const char *text)
{
	char copy[64], *most = copy;
	const char *least, *problem = "too long";

	if (strlcpy(copy, text, sizeof(copy)) < sizeof(copy)) {
		least = strsep(&most, ":");
		o->uids.least =
		    (uid_t)strtonum(least, 1, ACCOUNT_UID_MOST, &problem);
	}
	o->uids.most = ACCOUNT_UID_MOST;
	if (problem == NULL && most != NULL)
		o->uids.most = (uid_t)strtonum(most, o->uids.least,
		    ACCOUNT_UID_MOST, &problem);
	return problem == NULL ? 0 : -1;
}

/* Reads -p. */
static int
read_pop3(struct options *o, const char *text)
{
	(void)text;
	o->pop3 = true;
	return 0;
}

/* Reads -S. */
static int
read_sandbox(struct options *o, const char *text)
{
	o->sandbox.is_optional = strcmp(text, "optional") == 0;
	return o->sandbox.is_optional || strcmp(text, "required") == 0 ? 0 : -1;
}

/* Reads -T. */
static int
read_when(struct options *o, const char *text)
{
	static const char *const words[] = { [TLS_NO] = "no",
		[TLS_OFFER] = "offer",
		[TLS_REQUIRE] = "require",
		[TLS_IMMEDIATE] = "immediate" };

	for (int i = 0; i < TLS_UNSET; i++)
		if (strcmp(text, words[i]) == 0) {
			o->tls.when = (enum tls_when)i;
			return 0;
		}
	return -1;
}

/* Reads -t: LOGIN or LOGIN:IDLE. */
static int
read_times(struct options *o, const char *text)
{
	const struct number times[] = {
		{ &o->login, 1, LOGIN_MAX },
		{ &o->idle, 1, SECONDS_MAX },
	};

	return read_numbers(text, times, 2);
}

/* Reads -x. */
static int
read_proxies(struct options *o, const char *text)
{
	return networks_read(&o->proxies, text);
}

/* Reads --keep-tls. */
static int
read_keep_tls(struct options *o, const char *text)
{
	(void)text;
	o->tls.is_kept = true;
	return 0;
}

/* Reads --recover. */
static int
read_recover(struct options *o, const char *text)
{
	(void)text;
	o->recover = true;
	return 0;
}

/* Reads --check. */
static int
read_check(struct options *o, const char *text)
{
	(void)text;
	o->check.run = true;
	return 0;
}

/* Reads --json. */
static int
read_json(struct options *o, const char *text)
{
	(void)text;
	o->check.json = true;
	return 0;
}

static int print_help(struct options *, const char *);

/* Prints the version for --version and ends the process. */
static int
print_version(struct options *o, const char *text)
{
	(void)o;
	(void)text;
	printf("kpopd %s\n", PACKAGE_VERSION);
	exit(0);
}

#define ANY_TEXT(field) NULL, offsetof(struct options, field), NULL

const struct table_row options_table[] = {
	{ 'a', "limits", "limits", WITH_SERVER, read_limits, 0,
	    "up to five numbers, as 200:20:50:300:25",
	    "limits of the listener, with colons: sessions, sessions from\n"
	    "one address, new sessions in a second, idle seconds before\n"
	    "it ends, new sessions in a second from one address\n"
	    "(default: 200:20:50:300:25)" },
	{ '\0', "access", "file", WITH_SERVER, ANY_TEXT(access),
	    "file of rights, see kpopd.access(5)\n"
	    "(default: " ACCESS_FILE ", if it exists)" },
	{ 'C', "tls-ciphers", "ciphers", WITH_SERVER, read_ciphers, 0,
	    "OpenSSL's cipher list, as ECDHE+AESGCM:TLS_AES_256_GCM_SHA384",
	    "cipher suites of TLS, in OpenSSL's syntax\n"
	    "(default: those with forward secrecy and AEAD)" },
	{ 'c', "tls-certificate", "certificate", WITH_SERVER,
	    ANY_TEXT(tls.certificate),
	    "offer TLS with this certificate and its chain (PEM)" },
	{ 'D', "domains", "domains", WITH_SERVER, read_domains, 0,
	    "domains with commas, as example.org,example.net",
	    "mail domains, with commas: USER name@domain means name\n"
	    "(default: this host and the realm)" },
	{ 'd', "state", "state", WITH_BOTH, ANY_TEXT(state),
	    "directory of locks, journals and the replay cache\n"
	    "(default: " STATE_DIRECTORY ")" },
	{ 'f', "config", "file", WITH_BOTH | NOT_IN_FILE, ANY_TEXT(config),
	    "file of options, see kpopd.conf(5)\n"
	    "(default: " CONFIG_FILE ", if it exists)" },
	{ 'K', "tls-key", "key", WITH_SERVER, ANY_TEXT(tls.key),
	    "private key of the certificate (default: in its file)" },
	{ 'k', "keytab", "keytab", WITH_SERVER, ANY_TEXT(keytab),
	    "keytab of the service (default: libkrb5's)" },
	{ 'l', "locks", "locks", WITH_BOTH, read_locks, 0,
	    "fcntl, flock and dotlock with commas",
	    "locks taken on a mailbox, in this order, with commas:\n"
	    "fcntl, flock, dotlock (default: " DEFAULT_LOCKS ")" },
	{ 'm', "mailboxes", "mailboxes", WITH_BOTH, read_mailboxes, 0,
	    "mbox:/path or maildir:/path with %u and %h",
	    "mbox:path, mboxo:path, maildir:path or maildir+create:path,\n"
	    "with %u for the user, %h or ~ for the home directory\n"
	    "(default: " DEFAULT_MAILBOXES ")" },
	{ 'n', "uids", "uids", WITH_BOTH, read_uids, 0,
	    "one uid above 0 or two, as 1000:60000",
	    "smallest[:largest] uid that may log in\n"
	    "(default: UID_MIN of " LOGIN_DEFS ")" },
	{ 'p', "pop3", NULL, WITH_SERVER, read_pop3, 0, NULL,
	    "speak POP3 with AUTH GSSAPI, not KPOP" },
	{ 'r', "realms", "realms", WITH_SERVER, ANY_TEXT(realms),
	    "realms of clients that may log in, with commas\n"
	    "(default: all that krb5.conf or .k5login permits)" },
	{ 'S', "sandbox", "sandbox", WITH_BOTH, read_sandbox, 0,
	    "required or optional",
	    "optional: serve where seccomp or Landlock is not offered\n"
	    "(default: required)" },
	{ 's', "service", "principal", WITH_SERVER, ANY_TEXT(service),
	    "the only service principal whose key is used\n"
	    "(default: all pop/ and pop3/ in the keytab)" },
	{ 'T', "tls", "when", WITH_SERVER, read_when, 0,
	    "no, offer, require or immediate",
	    "use of TLS: no, offer, require or immediate\n"
	    "(default: offer with -c, else no)" },
	{ 't', "timeouts", "login[:idle]", WITH_SERVER, read_times, 0,
	    "seconds, as 30:600", "time limits in seconds (default: 30:600)" },
	{ 'U', "tls-user", "user", WITH_SERVER, ANY_TEXT(tls.user),
	    "user of the process that does TLS (default: " DEFAULT_TLS_USER
	    ")" },
	{ 'u', "user", "user", WITH_SERVER, ANY_TEXT(user),
	    "user of the process that reads tickets (default: " DEFAULT_USER
	    ")" },
	{ 'x', "proxies", "networks", WITH_SERVER, read_proxies, 0,
	    "addresses, networks and local, with commas",
	    "networks of proxies, which send a PROXY header, with commas:\n"
	    "192.0.2.0/24,2001:db8::1,local" },
	{ '\0', "uidl", "scheme", WITH_SERVER, read_scheme, 0,
	    "none, dovecot, dovecot:FORMAT, uw, courier, popa3d, solid-pop3d, "
	    "qpopper or mailutils",
	    "give messages the ids of an earlier server: dovecot,\n"
	    "dovecot:format, uw, courier, popa3d, solid-pop3d, qpopper or\n"
	    "mailutils (default: none)" },
	{ '\0', "recover", NULL, NOT_IN_FILE, read_recover, 0, NULL,
	    "finish interrupted removals, at boot, before any delivery" },
	{ '\0', "import-uidl", "user", NOT_IN_FILE, ANY_TEXT(import_uidl),
	    "give a mailbox the unique ids of another server, whose list is\n"
	    "standard input (kpopc --uidl-map)" },
	{ '\0', "uidl-report", "user", NOT_IN_FILE, ANY_TEXT(uidl_report),
	    "print what --import-uidl would do with this list" },
	{ '\0', "keep-tls", NULL, NOT_IN_FILE, read_keep_tls, 0, NULL,
	    "keep a kpopd-tls ready, for a service by xinetd or inetd" },
	{ '\0', "check", NULL, NOT_IN_FILE, read_check, 0, NULL,
	    "check all that a login needs, for a USER if one is named" },
	{ '\0', "json", NULL, NOT_IN_FILE, read_json, 0, NULL,
	    "print the lines of --check as JSON" },
	{ '\0', "help", NULL, NOT_IN_FILE | AT_ONCE, print_help, 0, NULL,
	    "print this text" },
	{ '\0', "version", NULL, NOT_IN_FILE | AT_ONCE, print_version, 0, NULL,
	    "print the version" },
};

const size_t options_table_rows =
    sizeof(options_table) / sizeof(options_table[0]);
_Static_assert(sizeof(options_table) / sizeof(options_table[0]) <= TABLE_MOST,
    "TABLE_MOST is too small");

const struct table_row *
table_find(const char *name)
{
	for (const struct table_row *r = options_table;
	     r < options_table + options_table_rows; r++)
		if (strcmp(r->name, name) == 0)
			return r;
	return NULL;
}

/* Writes an option as the usage has it: "-a limits" or "--recover". */
static void
name_option(const struct table_row *r, char *name, size_t size)
{
	const char *blank = r->argument != NULL ? " " : "";
	const char *argument = r->argument != NULL ? r->argument : "";

	if (r->letter == '\0')
		snprintf(name, size, "--%s%s%s", r->name, blank, argument);
	else
		snprintf(name, size, "-%c%s%s", r->letter, blank, argument);
}

/* Prints an option with its long name, and its help text. */
static void
print_row(const struct table_row *r)
{
	const char *line = r->help;
	size_t n;

	printf("  ");
	if (r->letter != '\0')
		printf("-%c, ", r->letter);
	printf("--%s", r->name);
	if (r->argument != NULL)
		printf(" %s", r->argument);
	printf("\n%*s", HELP_INDENT, "");
	while (line[n = strcspn(line, "\n")] != '\0') {
		printf("%.*s\n%*s", (int)n, line, HELP_INDENT, "");
		line += n + 1;
	}
	printf("%s\n", line);
}

/* Prints the text for --help and ends the process. */
static int
print_help(struct options *o, const char *text)
{
	(void)o;
	(void)text;
	printf("kpopd: Kerberized POP3 (KPOP). xinetd starts it for each "
	       "connection, or once\nto accept connections.\n"
	       "\nOptions, whose long names are also the words of " CONFIG_FILE
	       ":\n");
	for (const struct table_row *r = options_table;
	     r < options_table + options_table_rows; r++)
		if ((r->where & NOT_IN_FILE) == 0)
			print_row(r);
	printf("\nOptions of the command line only:\n");
	for (const struct table_row *r = options_table;
	     r < options_table + options_table_rows; r++)
		if ((r->where & NOT_IN_FILE) != 0)
			print_row(r);
	printf("\nSee kpopd(8) and kpopd.conf(5).\n");
	exit(0);
}

/*
 * Prints the options of one line of the usage. column: the number of characters
 * that the line already has.
 */
static void
print_options(int where, int column)
{
	char name[64];

	for (const struct table_row *r = options_table;
	     r < options_table + options_table_rows; r++) {
		int n;

		if ((r->where & where) == 0)
			continue;
		name_option(r, name, sizeof(name));
		n = (int)strlen(name) + 3;
		if (column + n > WIDTH) {
			fprintf(stderr, "\n%*s", USAGE_INDENT - 1, "");
			column = USAGE_INDENT - 1;
		}
		column += n;
		fprintf(stderr, " [%s]", name);
	}
	fprintf(stderr, "\n");
}

void
table_print_usage(void)
{
	int column;

	column = fprintf(stderr, "usage: kpopd");
	print_options(WITH_SERVER, column);
	column = fprintf(stderr, "       kpopd --recover");
	print_options(WITH_RECOVER, column);
	fprintf(stderr, "       kpopd --import-uidl user [option ...] <list\n");
	fprintf(stderr, "       kpopd --uidl-report user [option ...] <list\n");
	fprintf(stderr, "       kpopd --keep-tls [option ...]\n");
	fprintf(stderr, "       kpopd --check [--json] [option ...] [user]\n");
	fprintf(stderr, "       kpopd --help | --version\n");
}

void
table_set_defaults(struct options *o)
{
	*o = (struct options){
		.by_hand = o->by_hand,
		.check.user = o->check.user,
		.state = STATE_DIRECTORY,
		.user = DEFAULT_USER,
		.uids.most = ACCOUNT_UID_MOST,
		.login = 30,
		.idle = 600,
		.limits = { .all = 200, .each = 20, .rate = 50 },
		.linger = 300,
		.tls.user = DEFAULT_TLS_USER,
		.tls.ciphers = "",
		.tls.when = TLS_UNSET,
	};
	read_locks(o, DEFAULT_LOCKS);
	read_scheme(o, "none");
	read_mailboxes(o, DEFAULT_MAILBOXES);
}
