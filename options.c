/*
 * Reads the command line by one table, from which the usage and --help are also
 * made.
 *
 * Runs as root, before the process reads anything from the client. There is no
 * configuration file; the few options fit in inetd's. A mistake is printed if
 * kpopd was started by hand. Under inetd fd 2 would be the client, so a mistake
 * is logged.
 *
 * A new option needs a row here, a function that reads its argument, an entry
 * in kpopd.8 (tests/tools/manuals compares the two), and a test.
 */
#include "config.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "login-defs.h"
#include "options.h"

#define EXIT_USAGE 2
#define SECONDS_MAX 86400 /* a day */
#define LOGIN_MAX 3600
#define DEFAULT_LOCKS "fcntl,dotlock"
#define DEFAULT_MAILBOXES "mbox:/var/mail/%u"
#define DEFAULT_TLS_USER "kpopd-tls"
#define DEFAULT_USER "kpopd"
#define LOGIN_DEFS "/etc/login.defs"
/* Columns of usage and --help. */
#define WIDTH 79
#define USAGE_INDENT 13
#define HELP_INDENT 20

/* One number of a list, and its limits. */
struct number {
	int *to, least, most;
};

/*
 * Reads one to n numbers with colons between them; a number that is left out
 * keeps its value. Returns 0 or -1.
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
 * Reads -C. Only kpopd-tls can find out whether OpenSSL has these ciphers. Here
 * the text must only be short enough for the record of what worked last
 * (layer.c), and consist of characters that the log may contain.
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
 * Reads -D: DOMAIN,DOMAIN,... No domain may be empty; otherwise "name@" would
 * mean "name".
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
	return proxies_read(&o->proxies, text);
}

/* Reads --recover. */
static int
read_recover(struct options *o, const char *text)
{
	(void)text;
	o->recover = true;
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

/* The lines of the usage that an option is in. */
enum { WITH_NONE = 0, WITH_SERVER = 1, WITH_RECOVER = 2, WITH_BOTH = 3 };

struct row {
	char letter;          /* '\0': the option has a long name */
	const char *name;     /* the long name */
	const char *argument; /* NULL: takes none */
	int usage;            /* WITH_... */
	/* Reads the argument (NULL if it takes none). Returns 0 or -1. */
	int (*read)(struct options *o, const char *text);
	size_t field;      /* if read is NULL: where any text is stored */
	const char *takes; /* after a wrong argument: "-t takes ..." */
	const char *help;  /* lines of at most WIDTH - HELP_INDENT bytes */
};

#define ANY_TEXT(field) NULL, offsetof(struct options, field), NULL

static const struct row rows[] = {
	{ 'a', NULL, "limits", WITH_SERVER, read_limits, 0,
	    "up to five numbers, as 200:20:50:300:25",
	    "limits of the listener, with colons: sessions, sessions from\n"
	    "one address, new sessions in a second, idle seconds before\n"
	    "it ends, new sessions in a second from one address\n"
	    "(default: 200:20:50:300:25)" },
	{ 'C', NULL, "ciphers", WITH_SERVER, read_ciphers, 0,
	    "OpenSSL's cipher list, as ECDHE+AESGCM:TLS_AES_256_GCM_SHA384",
	    "cipher suites of TLS, in OpenSSL's syntax\n"
	    "(default: those with forward secrecy and AEAD)" },
	{ 'c', NULL, "certificate", WITH_SERVER, ANY_TEXT(tls.certificate),
	    "offer TLS with this certificate and its chain (PEM)" },
	{ 'D', NULL, "domains", WITH_SERVER, read_domains, 0,
	    "domains with commas, as example.org,example.net",
	    "mail domains, with commas: USER name@domain means name\n"
	    "(default: this host and the realm)" },
	{ 'd', NULL, "state", WITH_BOTH, ANY_TEXT(state),
	    "directory of locks, journals and the replay cache\n"
	    "(default: " STATE_DIRECTORY ")" },
	{ 'K', NULL, "key", WITH_SERVER, ANY_TEXT(tls.key),
	    "private key of the certificate (default: in its file)" },
	{ 'k', NULL, "keytab", WITH_SERVER, ANY_TEXT(keytab),
	    "keytab of the service (default: libkrb5's)" },
	{ 'l', NULL, "locks", WITH_BOTH, read_locks, 0,
	    "fcntl, flock and dotlock with commas",
	    "locks taken on a mailbox, in this order, with commas:\n"
	    "fcntl, flock, dotlock (default: " DEFAULT_LOCKS ")" },
	{ 'm', NULL, "mailboxes", WITH_BOTH, read_mailboxes, 0,
	    "mbox:/path or maildir:/path with %u and %h",
	    "mbox:path, mboxo:path, maildir:path or maildir+create:path,\n"
	    "with %u for the user, %h or ~ for the home directory\n"
	    "(default: " DEFAULT_MAILBOXES ")" },
	{ 'n', NULL, "uids", WITH_BOTH, read_uids, 0,
	    "one uid above 0 or two, as 1000:60000",
	    "smallest[:largest] uid that may log in\n"
	    "(default: UID_MIN of " LOGIN_DEFS ")" },
	{ 'p', NULL, NULL, WITH_SERVER, read_pop3, 0, NULL,
	    "speak POP3 with AUTH GSSAPI, not KPOP" },
	{ 'r', NULL, "realms", WITH_SERVER, ANY_TEXT(realms),
	    "realms of clients that may log in, with commas\n"
	    "(default: all that krb5.conf or .k5login permits)" },
	{ 's', NULL, "principal", WITH_SERVER, ANY_TEXT(service),
	    "the only service principal whose key is used\n"
	    "(default: all pop/ and pop3/ in the keytab)" },
	{ 'T', NULL, "when", WITH_SERVER, read_when, 0,
	    "no, offer, require or immediate",
	    "use of TLS: no, offer, require or immediate\n"
	    "(default: offer with -c, else no)" },
	{ 't', NULL, "login[:idle]", WITH_SERVER, read_times, 0,
	    "seconds, as 30:600", "time limits in seconds (default: 30:600)" },
	{ 'U', NULL, "user", WITH_SERVER, ANY_TEXT(tls.user),
	    "user of the process that does TLS (default: " DEFAULT_TLS_USER
	    ")" },
	{ 'u', NULL, "user", WITH_SERVER, ANY_TEXT(user),
	    "user of the process that reads tickets (default: " DEFAULT_USER
	    ")" },
	{ 'x', NULL, "networks", WITH_SERVER, read_proxies, 0,
	    "addresses, networks and local, with commas",
	    "networks of proxies, which send a PROXY header, with commas:\n"
	    "192.0.2.0/24,2001:db8::1,local" },
	{ 'S', NULL, "sandbox", WITH_BOTH, read_sandbox, 0,
	    "required or optional",
	    "optional: serve where seccomp or Landlock is not offered\n"
	    "(default: required)" },
	{ '\0', "recover", NULL, WITH_NONE, read_recover, 0, NULL,
	    "finish interrupted removals, at boot, before any delivery" },
	{ '\0', "help", NULL, WITH_NONE, print_help, 0, NULL,
	    "print this text" },
	{ '\0', "version", NULL, WITH_NONE, print_version, 0, NULL,
	    "print the version" },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* Writes an option as the manual writes it: "-a limits" or "--recover". */
static void
name_option(const struct row *r, char *name, size_t size)
{
	if (r->letter == '\0')
		snprintf(name, size, "--%s", r->name);
	else
		snprintf(name, size, "-%c%s%s", r->letter,
		    r->argument != NULL ? " " : "",
		    r->argument != NULL ? r->argument : "");
}

/* Prints the text for --help and ends the process. */
static int
print_help(struct options *o, const char *text)
{
	char name[64];

	(void)o;
	(void)text;
	printf("kpopd: Kerberized POP3 (KPOP). xinetd starts it for each "
	       "connection, or once\nto accept connections.\n");
	for (const struct row *r = rows; r < rows + ROWS; r++) {
		const char *line = r->help;
		size_t n;

		name_option(r, name, sizeof(name));
		printf("  %-*s", HELP_INDENT - 2, name);
		while (line[n = strcspn(line, "\n")] != '\0') {
			printf("%.*s\n%*s", (int)n, line, HELP_INDENT, "");
			line += n + 1;
		}
		printf("%s\n", line);
	}
	printf("See kpopd(8).\n");
	exit(0);
}

/* Prints the options of one line of the usage, after column characters. */
static void
print_options(int usage, int column)
{
	char name[64];

	for (const struct row *r = rows; r < rows + ROWS; r++) {
		int n;

		if ((r->usage & usage) == 0)
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

/* Prints a mistake and the usage, and ends the process. */
_Noreturn static void
print_usage_error(const char *why, const char *what)
{
	int column;

	fprintf(stderr, "kpopd: %s%s\n", why, what);
	column = fprintf(stderr, "usage: kpopd");
	print_options(WITH_SERVER, column);
	column = fprintf(stderr, "       kpopd --recover");
	print_options(WITH_RECOVER, column);
	fprintf(stderr, "       kpopd --help | --version\n");
	exit(EXIT_USAGE);
}

void
options_log_refusal(const char *why, const char *what)
{
	struct log_text t;

	log_event(LOG_ERR, "fatal", "error=\"%s%s\"", why, log_words(&t, what));
	exit(EXIT_USAGE);
}

void
options_refuse(const struct options *o, const char *why, const char *what)
{
	if (o->by_hand)
		print_usage_error(why, what);
	options_log_refusal(why, what);
}

/* Reads the option of one row. */
static void
read_row(struct options *o, const struct row *r, const char *text)
{
	char why[128];

	if (r->read == NULL) {
		memcpy((char *)o + r->field, &text, sizeof(text));
		return;
	}
	if (r->read(o, text) == 0)
		return;
	snprintf(why, sizeof(why), "-%c takes %s, not ", r->letter, r->takes);
	options_refuse(o, why, text);
}

/*
 * Reads the options by getopt_long, which returns LONG_OPTION plus the row for
 * an option with a long name.
 */
static void
read_rows(struct options *o, int argc, char **argv)
{
	enum { LONG_OPTION = 256 };
	struct option names[ROWS + 1] = { { NULL, 0, NULL, 0 } }, *name = names;
	char letters[2 * ROWS + 1], *letter = letters;
	int c;

	for (size_t i = 0; i < ROWS; i++) {
		const struct row *r = &rows[i];

		if (r->letter == '\0') {
			*name++ = (struct option){ r->name, no_argument, NULL,
				LONG_OPTION + (int)i };
			continue;
		}
		*letter++ = r->letter;
		if (r->argument != NULL)
			*letter++ = ':';
	}
	*letter = '\0';
	opterr = 0; /* getopt would print to the client */
	while ((c = getopt_long(argc, argv, letters, names, NULL)) != -1) {
		const struct row *r = rows;

		if (c == '?')
			options_refuse(o,
			    "unknown option, or its argument is "
			    "missing: ",
			    argv[optind - 1]);
		if (c >= LONG_OPTION)
			r = &rows[c - LONG_OPTION];
		else
			while (r->letter != c)
				r++;
		read_row(o, r, optarg);
	}
	if (optind < argc)
		options_refuse(o, "unexpected argument: ", argv[optind]);
}

/* Sets the defaults that depend on other options, or on the host. */
static void
set_dependent(struct options *o)
{
	if (o->uids.least == 0)
		o->uids.least = login_defs_uid_min(LOGIN_DEFS);
	if (o->limits.each_rate == 0)
		o->limits.each_rate = (o->limits.rate + 1) / 2;
	if (o->tls.when == TLS_UNSET)
		o->tls.when = o->tls.certificate != NULL ? TLS_OFFER : TLS_NO;
	if ((o->tls.when != TLS_NO || *o->tls.ciphers != '\0') &&
	    o->tls.certificate == NULL)
		options_refuse(o, "TLS needs a certificate: -c", "");
	if (o->tls.key == NULL)
		o->tls.key = o->tls.certificate;
}

void
options_read(struct options *o, int argc, char **argv, bool by_hand)
{
	*o = (struct options){
		.by_hand = by_hand,
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
	read_mailboxes(o, DEFAULT_MAILBOXES);
	read_rows(o, argc, argv);
	set_dependent(o);
}
