/*
 * Reads the command line and the file of options. One table describes all
 * options; the usage and --help are also made from it.
 *
 * Runs as root, before the process reads anything from the client. First all
 * options are collected. Then each given option is read once: its text on the
 * command line, or else its text in the file. A mistake is printed if kpopd was
 * started by hand. Under inetd fd 2 is the connection to the client, so a
 * mistake is logged.
 *
 * A new option needs a row here, a function that reads its argument, entries in
 * kpopd.8, kpopd.conf.5 and examples/kpopd.conf (tests/tools/manuals compares
 * them with the table), and a test.
 */
#include "config.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "login-defs.h"
#include "options-file.h"
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
#define HELP_INDENT 8

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
 * Reads -C. Only kpopd-tls can find out whether OpenSSL has these ciphers. This
 * function only checks two things. The text must fit in the record of the last
 * successful trial (layer.c), and have only characters that the log may
 * contain.
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

/* Where an option is allowed. */
enum {
	WITH_SERVER = 1,
	WITH_RECOVER = 2, /* --recover uses it, too */
	WITH_BOTH = 3,
	NOT_IN_FILE = 4,
	AT_ONCE = 8 /* read before all others; ends the process */
};

struct row {
	char letter;          /* '\0': only a long name */
	const char *name;     /* the long name, and the word of the file */
	const char *argument; /* NULL: takes none */
	int where;            /* WITH_... and so on */
	/* Reads the argument (NULL if it takes none). Returns 0 or -1. */
	int (*read)(struct options *o, const char *text);
	size_t field;      /* if read is NULL: the field that gets the text */
	const char *takes; /* for the message "-t takes ..., not ..." */
	const char *help;  /* lines of at most WIDTH - HELP_INDENT bytes */
};

#define ANY_TEXT(field) NULL, offsetof(struct options, field), NULL

static const struct row rows[] = {
	{ 'a', "limits", "limits", WITH_SERVER, read_limits, 0,
	    "up to five numbers, as 200:20:50:300:25",
	    "limits of the listener, with colons: sessions, sessions from\n"
	    "one address, new sessions in a second, idle seconds before\n"
	    "it ends, new sessions in a second from one address\n"
	    "(default: 200:20:50:300:25)" },
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
	{ '\0', "recover", NULL, NOT_IN_FILE, read_recover, 0, NULL,
	    "finish interrupted removals, at boot, before any delivery" },
	{ '\0', "help", NULL, NOT_IN_FILE | AT_ONCE, print_help, 0, NULL,
	    "print this text" },
	{ '\0', "version", NULL, NOT_IN_FILE | AT_ONCE, print_version, 0, NULL,
	    "print the version" },
};

#define ROWS (sizeof(rows) / sizeof(rows[0]))

/* The texts of an option, "" if it takes none; NULL: it is not given there. */
struct given {
	const char *on_line; /* the command line, which wins */
	const char *in_file;
	unsigned line; /* of the file */
};

/* All options as they are given, and the first mistake. */
struct reading {
	struct given given[ROWS];
	const char *config; /* the file's path */
	bool is_file;       /* the mistake is in the file */
	char why[512];      /* the mistake; "": none */
	const char *what;   /* follows it */
};

/* What the process was started with, and its file. */
static struct reading reading;
static struct options_file file;

static const struct row *
find_row(const char *name)
{
	for (const struct row *r = rows; r < rows + ROWS; r++)
		if (strcmp(r->name, name) == 0)
			return r;
	return NULL;
}

/* Writes an option as the usage has it: "-a limits" or "--recover". */
static void
name_option(const struct row *r, char *name, size_t size)
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
print_row(const struct row *r)
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
	for (const struct row *r = rows; r < rows + ROWS; r++)
		if ((r->where & NOT_IN_FILE) == 0)
			print_row(r);
	printf("\nOptions of the command line only:\n");
	for (const struct row *r = rows; r < rows + ROWS; r++)
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

	for (const struct row *r = rows; r < rows + ROWS; r++) {
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

static void
print_usage(void)
{
	int column;

	column = fprintf(stderr, "usage: kpopd");
	print_options(WITH_SERVER, column);
	column = fprintf(stderr, "       kpopd --recover");
	print_options(WITH_RECOVER, column);
	fprintf(stderr, "       kpopd --help | --version\n");
}

void
options_log_refusal(const char *why, const char *what)
{
	struct log_text t;

	log_event(LOG_ERR, "fatal", "error=\"%s%s\"", why, log_words(&t, what));
	log_end(EXIT_USAGE);
}

void
options_refuse(const struct options *o, const char *why, const char *what)
{
	if (!o->by_hand)
		options_log_refusal(why, what);
	fprintf(stderr, "kpopd: %s%s\n", why, what);
	if (!reading.is_file)
		print_usage();
	exit(EXIT_USAGE);
}

/*
 * Writes where an option is given: "FILE:LINE: keytab", or as on the command
 * line, "-k" or "--sandbox". Returns text.
 */
static const char *
locate_option(const struct reading *g, const struct row *r, char text[256])
{
	const struct given *given = &g->given[r - rows];
	struct log_text t;

	if (given->on_line == NULL)
		snprintf(text, 256, "%.200s:%u: %s", log_words(&t, g->config),
		    given->line, r->name);
	else if (r->letter != '\0')
		snprintf(text, 256, "-%c", r->letter);
	else
		snprintf(text, 256, "--%s", r->name);
	return text;
}

/*
 * Keeps a mistake if it is the first. is_file: the file has it. Returns false.
 */
static bool
keep_mistake(struct reading *g, bool is_file, const char *why, const char *what)
{
	if (*g->why != '\0')
		return false;
	strlcpy(g->why, why, sizeof(g->why));
	g->is_file = is_file;
	g->what = what;
	return false;
}

/* Keeps a mistake of the file in this line (0: in all of it). Returns false. */
static bool
keep_file_mistake(struct reading *g, unsigned line, const char *why,
    const char *what)
{
	struct log_text t;
	const char *path = log_words(&t, g->config);
	char text[sizeof(g->why)];

	if (line > 0)
		snprintf(text, sizeof(text), "%.200s:%u: %s", path, line, why);
	else
		snprintf(text, sizeof(text), "%.200s: %s", path, why);
	return keep_mistake(g, true, text, what);
}

/* Reads the option of one row, if it is given. */
static bool
read_row(struct reading *g, struct options *o, const struct row *r)
{
	const struct given *given = &g->given[r - rows];
	const char *text = given->on_line;
	char place[256], why[sizeof(g->why)];

	if (text == NULL && (text = given->in_file) == NULL)
		return true;
	if (r->read == NULL) {
		memcpy((char *)o + r->field, &text, sizeof(text));
		return true;
	}
	if (r->read(o, text) == 0)
		return true;
	snprintf(why, sizeof(why), "%s takes %s, not ",
	    locate_option(g, r, place), r->takes);
	return keep_mistake(g, given->on_line == NULL, why, text);
}

/*
 * Returns the word of the command line with the option that getopt_long has
 * just read.
 */
static const char *
option_word(char *const argv[])
{
	const char *word = argv[optind - 1];

	return optarg != NULL && word == optarg ? argv[optind - 2] : word;
}

/*
 * Returns true if the word is the long option's full name. An abbreviation
 * would mean another option, or none, in a later version.
 */
static bool
is_whole_name(const char *word, const char *name)
{
	return strcspn(word + 2, "=") == strlen(name);
}

/*
 * Makes the arguments of getopt_long from the table. For a long option it
 * returns LONG_OPTION plus the row.
 */
enum { LONG_OPTION = 256 };

static void
make_getopt_tables(char letters[2 * ROWS + 1], struct option names[ROWS + 1])
{
	for (size_t i = 0; i < ROWS; i++) {
		const struct row *r = &rows[i];

		names[i] = (struct option){ r->name,
			r->argument != NULL ? required_argument : no_argument,
			NULL, LONG_OPTION + (int)i };
		if (r->letter == '\0')
			continue;
		*letters++ = r->letter;
		if (r->argument != NULL)
			*letters++ = ':';
	}
	names[ROWS] = (struct option){ NULL, 0, NULL, 0 };
	*letters = '\0';
}

/* Collects the options of the command line. */
static bool
read_command_line(struct reading *g, struct options *o, int argc, char **argv)
{
	struct option names[ROWS + 1];
	char letters[2 * ROWS + 1];
	bool is_right = true;
	int c;

	make_getopt_tables(letters, names);
	opterr = 0; /* getopt would print to the client */
	while ((c = getopt_long(argc, argv, letters, names, NULL)) != -1) {
		const struct row *r = rows;

		if (c == '?' ||
		    (c >= LONG_OPTION &&
			!is_whole_name(option_word(argv),
			    rows[c - LONG_OPTION].name))) {
			is_right = keep_mistake(g, false,
			    "unknown option, or its argument is missing or "
			    "unwanted: ",
			    option_word(argv));
			continue;
		}
		if (c >= LONG_OPTION)
			r = &rows[c - LONG_OPTION];
		else
			while (r->letter != c)
				r++;
		if ((r->where & AT_ONCE) != 0)
			r->read(o, NULL);
		g->given[r - rows].on_line = r->argument != NULL ? optarg : "";
	}
	if (optind < argc)
		return keep_mistake(g, false,
		    "unexpected argument: ", argv[optind]);
	return is_right;
}

/* Collects the option of one line of the file. */
static bool
read_file_word(struct reading *g, unsigned line, const char *word,
    const char *argument)
{
	const struct row *r = find_row(word);
	struct given *given;

	if (r == NULL)
		return keep_file_mistake(g, line, "unknown word: ", word);
	if ((r->where & NOT_IN_FILE) != 0)
		return keep_file_mistake(g, line,
		    "an option of the command line only: ", word);
	if (argument == NULL && r->argument != NULL)
		return keep_file_mistake(g, line,
		    "its argument is missing: ", word);
	if (argument != NULL && r->argument == NULL)
		return keep_file_mistake(g, line, "takes no argument: ", word);
	given = &g->given[r - rows];
	if (given->in_file != NULL)
		return keep_file_mistake(g, line, "repeated: ", word);
	given->in_file = argument != NULL ? argument : "";
	given->line = line;
	return true;
}

/*
 * Collects the options of the file, also those after a mistake: the answer to
 * clients depends on them.
 */
static bool
read_file(struct reading *g, struct options_file *f)
{
	const char *named = g->given[find_row("config") - rows].on_line;
	const char *word, *argument;
	bool is_right;

	g->config = named != NULL ? named : CONFIG_FILE;
	is_right = options_file_read(f, g->config, named == NULL) ||
	    keep_file_mistake(g, f->line, f->problem, "");
	while (options_file_next(f, &word, &argument))
		if (word == NULL)
			is_right =
			    keep_file_mistake(g, f->line, f->problem, "");
		else if (!read_file_word(g, f->line, word, argument))
			is_right = false;
	return is_right;
}

/* Checks that an option of TLS comes with a certificate. */
static bool
check_certificate(struct reading *g, const struct options *o, const char *name)
{
	const struct row *r = find_row(name);
	const struct given *given = &g->given[r - rows];
	char place[256], why[sizeof(g->why)];

	if (o->tls.certificate != NULL ||
	    (given->on_line == NULL && given->in_file == NULL))
		return true;
	snprintf(why, sizeof(why),
	    "%s needs a certificate: -c, tls-certificate",
	    locate_option(g, r, place));
	return keep_mistake(g, given->on_line == NULL, why, "");
}

/* Sets the defaults that depend on other options, or on the host. */
static bool
set_dependent(struct reading *g, struct options *o)
{
	o->least_user = login_defs_uid_min(LOGIN_DEFS);
	if (o->uids.least == 0)
		o->uids.least = o->least_user;
	else if (o->uids.least < o->least_user)
		o->least_user = o->uids.least;
	if (o->limits.each_rate == 0)
		o->limits.each_rate = (o->limits.rate + 1) / 2;
	if (o->tls.when == TLS_UNSET)
		o->tls.when = o->tls.certificate != NULL ? TLS_OFFER : TLS_NO;
	if (o->tls.key == NULL)
		o->tls.key = o->tls.certificate;
	return (o->tls.when == TLS_NO || check_certificate(g, o, "tls")) &&
	    check_certificate(g, o, "tls-ciphers") &&
	    check_certificate(g, o, "tls-key");
}

/*
 * Sets all options to their defaults, and to what the command line has, which
 * is collected, or else the file. Returns false with g->why.
 */
static bool
set_options(struct options *o, struct reading *g, struct options_file *f)
{
	bool is_right;

	*o = (struct options){
		.by_hand = o->by_hand,
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
	is_right = read_file(g, f);
	for (const struct row *r = rows; r < rows + ROWS; r++)
		if (!read_row(g, o, r))
			is_right = false;
	return set_dependent(g, o) && is_right;
}

bool
options_read(struct options *o, int argc, char **argv, bool by_hand)
{
	bool is_right;

	reading = (struct reading){ .why = "" };
	*o = (struct options){ .by_hand = by_hand };
	is_right = read_command_line(&reading, o, argc, argv);
	return set_options(o, &reading, &file) && is_right;
}

void
options_refuse_mistake(const struct options *o)
{
	options_refuse(o, reading.why, reading.what);
}

/* Returns true if both texts, or none of them, are there and are equal. */
static bool
is_same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool
options_have_changed(void)
{
	static struct options_file file_again;
	static struct options options;
	struct reading again = { .why = "" };
	struct log_text t;

	for (size_t i = 0; i < ROWS; i++)
		again.given[i].on_line = reading.given[i].on_line;
	if (!set_options(&options, &again, &file_again)) {
		log_event(LOG_ERR, "failed",
		    "what=\"reading the options again\" error=\"%s%s\"",
		    again.why, log_words(&t, again.what));
		return false;
	}
	for (size_t i = 0; i < ROWS; i++)
		if (again.given[i].on_line == NULL &&
		    !is_same_text(again.given[i].in_file,
			reading.given[i].in_file))
			return true;
	return false;
}

void
options_log_wrong(const char *name, const char *takes, const char *text)
{
	char place[256], why[sizeof(reading.why)];

	snprintf(why, sizeof(why), "%s takes %s, not ",
	    locate_option(&reading, find_row(name), place), takes);
	options_log_refusal(why, text);
}
