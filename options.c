/*
 * Reads the command line and the file of options, by the table of
 * options-table.c.
 *
 * Runs as root, before the process reads anything from the client. First all
 * options are collected. Then each given option is read once: its text on the
 * command line, or else its text in the file. A mistake is printed if kpopd was
 * started by hand; otherwise it is logged. In that case fd 2 is /dev/null: main
 * has replaced fd 2, because under inetd it is the connection to the client.
 */
#include "config.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "log.h"
#include "login-defs.h"
#include "options-file.h"
#include "options-table.h"
#include "options.h"
#include "root-file.h"
#include "store.h"

#define EXIT_USAGE 2
/* The texts of an option, "" if it takes none; NULL: it is not given there. */
struct given {
	const char *on_line; /* the command line, which wins */
	const char *in_file;
	unsigned line; /* of the file */
};

/* All options as they are given, and the first mistake. */
struct reading {
	struct given given[TABLE_MOST];
	const char *config; /* the file's path */
	bool is_file;       /* the mistake is in the file */
	unsigned line;      /* of the file; 0: all of it, or the command line */
	char why[512];      /* the mistake; "": none */
	const char *what;   /* follows it */
};

/* What the process was started with, and its file. */
static struct reading reading;
static struct root_file file;
/* What another process is started with: options_read_other. */
static struct reading other;
static struct root_file other_file;

void
options_log_refusal(const char *why, const char *what)
{
	struct log_text t;

	log_event(LOG_ERR, "fatal", "error=\"%s%s\"", why, log_words(&t, what));
	log_end(EXIT_USAGE);
}

/* Reports why kpopd cannot start. Then prints the usage if it may help. */
static _Noreturn void
refuse(const struct options *o, const char *why, const char *what,
    bool has_usage)
{
	if (!o->by_hand)
		options_log_refusal(why, what);
	fprintf(stderr, "kpopd: %s%s\n", why, what);
	if (has_usage)
		table_print_usage();
	exit(EXIT_USAGE);
}

void
options_refuse(const struct options *o, const char *why, const char *what)
{
	refuse(o, why, what, false);
}

/*
 * Writes where an option is given. In the file, that is "FILE:LINE: keytab". On
 * the command line, it is "-k", or "--recover" if the option has no letter.
 * Returns text.
 */
static const char *
locate_option(const struct reading *g, const struct table_row *r,
    char text[256])
{
	const struct given *given = &g->given[r - options_table];
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

/* Keeps a mistake if it is the first. Returns false. */
static bool
keep_mistake(struct reading *g, const char *why, const char *what)
{
	if (*g->why != '\0')
		return false;
	strlcpy(g->why, why, sizeof(g->why));
	g->what = what;
	return false;
}

/* Keeps a mistake of an option, on the command line or in the file. */
static bool
keep_option_mistake(struct reading *g, const struct given *given,
    const char *why, const char *what)
{
	if (*g->why == '\0' && given->on_line == NULL) {
		g->is_file = true;
		g->line = given->line;
	}
	return keep_mistake(g, why, what);
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
	return keep_option_mistake(g, &(struct given){ .line = line }, text,
	    what);
}

/* Reads the option of one row, if it is given. */
static bool
read_row(struct reading *g, struct options *o, const struct table_row *r)
{
	const struct given *given = &g->given[r - options_table];
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
	return keep_option_mistake(g, given, why, text);
}

/*
 * Returns the word of the command line with the long option that getopt_long
 * has just read.
 */
static const char *
option_word(char *const argv[])
{
	const char *word = argv[optind - 1];

	return optarg != NULL && word == optarg ? argv[optind - 2] : word;
}

/*
 * Keeps the mistake that getopt_long does not take an option: the one with this
 * letter, or a long one if the letter is 0. Names the letter and not its word,
 * because getopt_long does not report the word. Returns false.
 */
static bool
keep_unknown(struct reading *g, int letter, char *const argv[])
{
	const char option[] = { '-', (char)letter, '\0' };
	struct log_text t;
	char why[128];

	snprintf(why, sizeof(why),
	    "unknown option, or its argument is missing or unwanted: %s",
	    letter != 0 ? log_words(&t, option) : "");
	return keep_mistake(g, why, letter != 0 ? "" : option_word(argv));
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
 * Makes the arguments of getopt_long from the table. For a long option,
 * getopt_long will return LONG_OPTION plus the index of the row.
 */
enum { LONG_OPTION = 256 };

static void
make_getopt_tables(char letters[2 * TABLE_MOST + 1],
    struct option names[TABLE_MOST + 1])
{
	for (size_t i = 0; i < options_table_rows; i++) {
		const struct table_row *r = &options_table[i];

		names[i] = (struct option){ r->name,
			r->argument != NULL ? required_argument : no_argument,
			NULL, LONG_OPTION + (int)i };
		if (r->letter == '\0')
			continue;
		*letters++ = r->letter;
		if (r->argument != NULL)
			*letters++ = ':';
	}
	names[options_table_rows] = (struct option){ NULL, 0, NULL, 0 };
	*letters = '\0';
}

/* Collects the options of the command line. */
static bool
read_command_line(struct reading *g, struct options *o, int argc, char **argv)
{
	struct option names[TABLE_MOST + 1];
	char letters[2 * TABLE_MOST + 1];
	bool is_right = true;
	int c;

	make_getopt_tables(letters, names);
	opterr = 0; /* keep_mistake keeps what getopt would print */
	while ((c = getopt_long(argc, argv, letters, names, NULL)) != -1) {
		const struct table_row *r = options_table;

		if (c == '?') {
			is_right = keep_unknown(g,
			    optopt < LONG_OPTION ? optopt : 0, argv);
			continue;
		}
		if (c >= LONG_OPTION &&
		    !is_whole_name(option_word(argv),
			options_table[c - LONG_OPTION].name)) {
			is_right = keep_unknown(g, 0, argv);
			continue;
		}
		if (c >= LONG_OPTION)
			r = &options_table[c - LONG_OPTION];
		else
			while (r->letter != c)
				r++;
		if ((r->where & AT_ONCE) != 0 && g == &other) {
			is_right = keep_mistake(g,
			    "serves no client: ", option_word(argv));
			continue;
		}
		if ((r->where & AT_ONCE) != 0)
			r->read(o, NULL);
		g->given[r - options_table].on_line =
		    r->argument != NULL ? optarg : "";
	}
	if (optind < argc &&
	    g->given[table_find("check") - options_table].on_line != NULL)
		o->check.user = argv[optind++];
	if (optind < argc)
		return keep_mistake(g, "unexpected argument: ", argv[optind]);
	return is_right;
}

/* Collects the option of one line of the file. */
static bool
read_file_word(struct reading *g, unsigned line, const char *word,
    const char *argument)
{
	const struct table_row *r = table_find(word);
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
	given = &g->given[r - options_table];
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
read_file(struct reading *g, struct root_file *f)
{
	const char *named =
	    g->given[table_find("config") - options_table].on_line;
	const char *word, *argument;
	bool is_right;

	g->config = named != NULL ? named : CONFIG_FILE;
	is_right =
	    root_file_read(f, g->config, OPTIONS_FILE_KIB, named == NULL) ||
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
	const struct table_row *r = table_find(name);
	const struct given *given = &g->given[r - options_table];
	char place[256], why[sizeof(g->why)];

	if (o->tls.certificate != NULL ||
	    (given->on_line == NULL && given->in_file == NULL))
		return true;
	snprintf(why, sizeof(why),
	    "%s needs a certificate: -c, tls-certificate",
	    locate_option(g, r, place));
	return keep_option_mistake(g, given, why, "");
}

/*
 * Checks that a server of the scheme of --uidl can have had the mailboxes of
 * -m. Otherwise no message would get its old id, and this would be final.
 */
static bool
check_scheme(struct reading *g, const struct options *o)
{
	const struct table_row *r = table_find("uidl");
	unsigned format = SCHEME_MBOX;
	char place[256], why[sizeof(g->why)];

	if ((o->mailboxes.store->id_sources >> SCHEME_COURIER & 1) != 0)
		format = SCHEME_MAILDIR;
	if ((o->uidl.mailboxes & format) != 0)
		return true;
	snprintf(why, sizeof(why),
	    "%s is of another format than the mailboxes: ",
	    locate_option(g, r, place));
	return keep_option_mistake(g, &g->given[r - options_table], why,
	    o->uidl.text);
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
	    check_certificate(g, o, "tls-key") && check_scheme(g, o);
}

/*
 * Reads the file of options. Sets each option to its text on the command line,
 * which g already has. An option that is not there is set to its text in the
 * file, or to its default. Returns true, or false with g->why.
 */
static bool
set_options(struct options *o, struct reading *g, struct root_file *f)
{
	bool is_right;

	table_set_defaults(o);
	is_right = read_file(g, f);
	for (const struct table_row *r = options_table;
	     r < options_table + options_table_rows; r++)
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

bool
options_find_mistake(const char **why, const char **what, const char **from,
    unsigned *line)
{
	*why = reading.why;
	*what = reading.what;
	*from = reading.is_file ? reading.config : NULL;
	*line = reading.line;
	return *reading.why != '\0';
}

void
options_refuse_mistake(const struct options *o)
{
	refuse(o, reading.why, reading.what, !reading.is_file);
}

/* Returns true if both texts are NULL, or if both are there and are equal. */
static bool
is_same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

const char *
options_read_other(struct options *o, int argc, char **argv, const char **what)
{
	bool is_right;

	other = (struct reading){ .why = "" };
	*o = (struct options){ 0 };
	optind = 0; /* getopt_long begins again */
	is_right = read_command_line(&other, o, argc, argv);
	if (set_options(o, &other, &other_file) && is_right)
		return NULL;
	*what = other.what;
	return other.why;
}

/*
 * Returns true if two arguments of an option mean the same. NULL is the
 * default.
 */
static bool
is_same_argument(const struct table_row *r, const char *a, const char *b)
{
	static struct options with_a, with_b;

	memset(&with_a, 0, sizeof(with_a));
	table_set_defaults(&with_a);
	/* Also makes the padding the same. */
	memcpy(&with_b, &with_a, sizeof(with_b));
	return (a == NULL || r->read(&with_a, a) == 0) &&
	    (b == NULL || r->read(&with_b, b) == 0) &&
	    /* NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-*) */
	    memcmp(&with_a, &with_b, sizeof(with_a)) == 0;
}

/* Returns the argument of an option, NULL if it is not given. */
static const char *
argument_of(const struct given *given)
{
	return given->on_line != NULL ? given->on_line : given->in_file;
}

bool
options_differ(size_t *row, const struct options *here,
    const struct options *there, struct options_difference *d)
{
	while (*row < options_table_rows) {
		const struct table_row *r = &options_table[*row];
		const struct given *g = &other.given[*row];
		const char *a, *b;

		d->here = argument_of(&reading.given[*row]);
		d->there = argument_of(g);
		++*row;
		if ((r->where & NOT_IN_FILE) != 0 ||
		    is_same_text(d->here, d->there))
			continue;
		if (r->read == NULL) {
			memcpy(&a, (const char *)here + r->field, sizeof(a));
			memcpy(&b, (const char *)there + r->field, sizeof(b));
			if (is_same_text(a, b))
				continue;
		} else if (is_same_argument(r, d->here, d->there))
			continue;
		d->name = r->name;
		d->in_file = g->on_line != NULL ? g->in_file : NULL;
		return true;
	}
	return false;
}

/*
 * Returns true if the options that the struct reading has of the file are not
 * those that are in use.
 */
static bool
differs_in_file(const struct reading *again)
{
	for (size_t i = 0; i < options_table_rows; i++)
		if (again->given[i].on_line == NULL &&
		    !is_same_text(again->given[i].in_file,
			reading.given[i].in_file))
			return true;
	return false;
}

bool
options_have_changed(void)
{
	static struct root_file file_again;
	static struct options options;
	struct reading again = { .why = "" };
	struct log_text t;
	bool have_changed = false;

	for (size_t i = 0; i < options_table_rows; i++)
		again.given[i].on_line = reading.given[i].on_line;
	if (set_options(&options, &again, &file_again))
		have_changed = differs_in_file(&again);
	else
		log_event(LOG_ERR, "failed",
		    "what=\"reading the options again\" error=\"%s%s\"",
		    again.why, log_words(&t, again.what));
	root_file_free(&file_again);
	return have_changed;
}

void
options_show(void)
{
	int fd = file_in_memory(OPTIONS_SHOWN);

	/* root_file_read does not read an empty file. */
	if (fd == -1 || dprintf(fd, "# in use\n") == -1)
		return;
	for (size_t i = 0; i < options_table_rows; i++) {
		const struct given *given = &reading.given[i];

		if (given->on_line == NULL && given->in_file != NULL)
			dprintf(fd, "%s %s\n", options_table[i].name,
			    given->in_file);
	}
}

const char *
options_find_newer(const char *shown)
{
	static struct root_file f;
	struct reading then = { .config = shown };
	const char *word, *argument;

	if (!root_file_read(&f, shown, OPTIONS_FILE_KIB, false))
		return NULL;
	while (options_file_next(&f, &word, &argument))
		if (word != NULL)
			read_file_word(&then, f.line, word, argument);
	for (size_t i = 0; i < options_table_rows; i++)
		if (other.given[i].on_line == NULL &&
		    !is_same_text(other.given[i].in_file,
			then.given[i].in_file))
			return options_table[i].name;
	return NULL;
}

void
options_log_wrong(const char *name, const char *takes, const char *text)
{
	char place[256], why[sizeof(reading.why)];

	snprintf(why, sizeof(why), "%s takes %s, not ",
	    locate_option(&reading, table_find(name), place), takes);
	options_log_refusal(why, text);
}
