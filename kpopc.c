/*
 * The client: gets a ticket, logs in, then connects the server with standard
 * input and output. With --listen it does so for each connection of a local
 * program, with --probe it tries a login, and with --uidl-map it lists the
 * server's ids.
 *
 * Runs as the caller, with the caller's tickets or keytab. The server is not
 * trusted before it has proven its identity (mutual authentication), and
 * nothing that it sent before is printed unencoded. After the login the client
 * is a tunnel: the server's bytes go to standard output as they are. If the
 * connection has neither TLS nor a layer, an attacker on the network can change
 * these bytes.
 */
#include "config.h"

#include <sys/socket.h>

#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kpopc-ticket.h"
#include "kpopc.h"

#define PROBE_SECONDS 10    /* of a whole probe, without -t */
#define SECONDS_MOST 86400  /* that an option may give */
#define IDLE_SECONDS 1800   /* with --listen, the default of -t */
#define IDLE_MOST 1000000   /* the most for -t; in ms it is an int */
#define SILENCE_SECONDS 600 /* with --uidl-map, the default of -t */

/*
 * Ends the process because of wrong arguments. A probe reports the wrong one,
 * if it is known.
 */
_Noreturn static void
usage(const struct options *o, const char *wrong)
{
	static const char text[] =
	    "usage: kpopc [-46pV] [-C authorities] [-k keytab [-u principal]]"
	    " [-s service]\n             [-t seconds] [--cleartext]"
	    " [--listen port] [--tls] host [port]\n"
	    "       kpopc --probe [-c seconds] [-l user] [-t seconds]"
	    " [-w seconds]\n             [option ...] host [port]\n"
	    "       kpopc --uidl-map [-l user] [-t seconds]"
	    " [--command command]\n             [--password-file file]"
	    " [option ...] [host [port]]\n";
	char reason[TEXT_MAX];

	snprintf(reason, sizeof(reason), "wrong usage%s%s, see kpopc(1)",
	    wrong != NULL ? ": " : "", wrong != NULL ? wrong : "");
	if (o->probe)
		report_give_up(reason);
	fputs(text, stderr);
	exit(EXIT_USAGE);
}

/*
 * Opens descriptors 0, 1 and 2 if they are closed; otherwise the connection
 * would become standard input or output.
 */
static void
open_standard(void)
{
	int fd;

	do {
		if ((fd = open("/dev/null", O_RDWR)) == -1)
			err(EXIT_REFUSED, "/dev/null");
	} while (fd <= STDERR_FILENO);
	close(fd);
}

/* Reads a number of seconds, at most a day. */
static double
read_seconds(const struct options *o, const char *text)
{
	char *end;
	double seconds = strtod(text, &end);

	if (end == text || *end != '\0' ||
	    !(seconds > 0 && seconds <= SECONDS_MOST))
		usage(o, text);
	return seconds;
}

/*
 * Returns true if the options are a probe's. A mistake in the options must not
 * be printed as for another use of kpopc, so this looks before they are read.
 */
static bool
is_probe(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], "--probe") == 0)
			return true;
	return false;
}

/*
 * Returns true if the options and the n arguments can be used together to log
 * in to a server without Kerberos.
 */
static bool
is_login_consistent(const struct options *o, int n)
{
	const bool has_ticket = o->keytab != NULL || o->service != NULL;

	if (o->command != NULL)
		return o->map && n == 0 && !has_ticket && !o->pop3 && !o->tls &&
		    !o->cleartext && o->authorities == NULL &&
		    o->family == AF_UNSPEC &&
		    (o->user != NULL) == (o->password_file != NULL);
	if (o->password_file != NULL &&
	    (!o->map || has_ticket || o->user == NULL ||
		o->tls == o->cleartext))
		return false;
	return n >= 1 && n <= 2;
}

/* Returns true if the options and the n arguments can be used together. */
static bool
is_consistent(const struct options *o, int n)
{
	const bool limits = o->warning > 0 || o->critical > 0;

	return is_login_consistent(o, n) &&
	    (!o->cleartext ||
		((o->pop3 || o->listen != NULL || o->password_file != NULL) &&
		    !o->tls)) &&
	    (o->principal == NULL || o->keytab != NULL) &&
	    (int)o->probe + (int)o->map + (int)(o->listen != NULL) <= 1 &&
	    (o->probe || !limits) && (o->probe || o->map || o->user == NULL) &&
	    (o->critical <= 0 || o->warning <= o->critical);
}

/* Reads the number in an option. Ends the process if it is wrong. */
static long
read_option_number(const char *option, const char *text, long most)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end != '\0' || n < 1 || n > most)
		errx(EXIT_USAGE, "%s: %s is not a number from 1 to %ld", option,
		    text, most);
	return n;
}

/*
 * Reads the letters and words of the options into *o. Returns the argument of
 * -t, or NULL.
 */
static const char *
read_letters(struct options *o, int argc, char **argv)
{
	static const struct option names[] = {
		{ "cleartext", no_argument, NULL, 'P' },
		{ "command", required_argument, NULL, 'R' },
		{ "listen", required_argument, NULL, 'L' },
		{ "password-file", required_argument, NULL, 'W' },
		{ "probe", no_argument, NULL, 'M' },
		{ "tls", no_argument, NULL, 'T' },
		{ "uidl-map", no_argument, NULL, 'I' },
		{ NULL, 0, NULL, 0 },
	};
	static const char letters[] = "46C:c:k:l:ps:t:u:Vw:";
	char unknown[] = "-?";
	const char *time = NULL;
	int c;

	while ((c = getopt_long(argc, argv, letters, names, NULL)) != -1) {
		switch (c) {
		case '4':
			o->family = AF_INET;
			break;
		case '6':
			o->family = AF_INET6;
			break;
		case 'C':
			o->authorities = optarg;
			break;
		case 'c':
			o->critical = read_seconds(o, optarg);
			break;
		case 'k':
			o->keytab = optarg;
			break;
		case 'l':
			o->user = optarg;
			break;
		case 'p':
			o->pop3 = true;
			break;
		case 's':
			o->service = optarg;
			break;
		case 't':
			time = optarg;
			break;
		case 'u':
			o->principal = optarg;
			break;
		case 'w':
			o->warning = read_seconds(o, optarg);
			break;
		case 'I':
			o->map = true;
			break;
		case 'M':
			o->probe = true;
			break;
		case 'L':
			o->listen = optarg;
			break;
		case 'P':
			o->cleartext = true;
			break;
		case 'R':
			o->command = optarg;
			break;
		case 'T':
			o->tls = true;
			break;
		case 'W':
			o->password_file = optarg;
			break;
		case 'V':
			printf("kpopc %s\n", PACKAGE_VERSION);
			exit(EXIT_DONE);
		default:
			unknown[1] = (char)optopt;
			/* A long option has no letter. */
			usage(o, optopt != 0 ? unknown : argv[optind - 1]);
		}
	}
	return time;
}

/* Reads the options and arguments. Ends the process if they are wrong. */
static void
read_options(struct options *o, int argc, char **argv)
{
	const char *time;

	o->probe = is_probe(argc, argv);
	opterr = !o->probe;
	time = read_letters(o, argc, argv);
	if (time != NULL && !o->probe && !o->map && o->listen == NULL)
		usage(o, "-t");
	if (!is_consistent(o, argc - optind))
		usage(o, NULL);
	if (o->listen != NULL && strcmp(o->listen, LISTEN_PASSED) != 0)
		read_option_number("--listen", o->listen, UINT16_MAX);
	o->limit =
	    time != NULL && o->probe ? read_seconds(o, time) : PROBE_SECONDS;
	o->idle = time != NULL && !o->probe ?
	    read_option_number("-t", time, IDLE_MOST) :
	    IDLE_SECONDS;
	o->silence = time != NULL ? o->idle : SILENCE_SECONDS;
	if (optind < argc) {
		o->host = argv[optind];
		o->port = argv[optind + 1];
	}
	/* AUTH GSSAPI protects the session by a layer if there is no TLS. */
	if (o->listen != NULL && !o->pop3 && !o->cleartext)
		o->tls = true;
	if (o->password_file != NULL)
		o->pop3 = true;
}

/*
 * Gets the ticket if it is needed, connects, does the KPOP exchange, and begins
 * TLS. Stores what the session needs in *c, *t and *o.
 */
static void
connect_server(struct conn *c, struct ticket *t, struct options *o)
{
	const bool needs_ticket =
	    o->command == NULL && o->password_file == NULL;

	/*
	 * Get the ticket before connecting, so that an error about the ticket
	 * does not seem to come from the server.
	 */
	if (needs_ticket)
		ticket_get(t, o);
	if (needs_ticket && o->pop3)
		o->cache = ticket_cache_name(t);
	report_enter(PHASE_CONNECT);
	if (o->command != NULL)
		c->fd = command_start(o->command);
	else
		c->fd = connect_to(o);
	report_connection(c->fd);
	report_enter(PHASE_LOGIN);
	conn_limit_time(EXCHANGE_SECONDS);
	if (needs_ticket && !o->pop3)
		kpop_exchange(t, c->fd);
	if (o->pop3 || o->tls || o->probe || o->map)
		login_greet(c, o);
	conn_unlimit_time();
}

/*
 * Writes the list of the server's ids. Returns the exit status. Does not wait
 * for the end of the connection, because the list is whole without it.
 */
static int
run_map(const struct options *given)
{
	static char password[LINE_USER + 1];
	struct options o = *given;
	struct conn conn = { .fd = -1 };
	struct ticket ticket = { .context = NULL };

	map_begin();
	if (o.password_file != NULL) {
		command_read_password(o.password_file, password);
		o.password = password;
	}
	connect_server(&conn, &ticket, &o);
	if (o.command == NULL && o.user == NULL)
		o.user = ticket_user(&ticket);
	if (o.user != NULL && !login_is_word(o.user))
		errx(EXIT_REFUSED, "not a user's name (see -l)");
	conn_limit_time(o.silence);
	if (o.user != NULL)
		answer_expect_good(login_as(&conn, &o, o.user));
	conn_unlimit_time();
	explicit_bzero(password, sizeof(password));
	map_session(&conn, o.silence);
	return EXIT_DONE;
}

/*
 * Gets the ticket, logs in, and connects the server with standard input and
 * output. Returns the exit status.
 */
static int
run_session(const struct options *given)
{
	struct options o = *given;
	struct conn conn = { .fd = -1 };
	struct ticket ticket = { .context = NULL };
	const char *unanswered;
	int status;

	connect_server(&conn, &ticket, &o);
	if (o.probe) {
		probe_session(&conn, &o,
		    o.user != NULL ? o.user : ticket_user(&ticket));
		return conn_end(&conn, EXIT_DONE);
	}
	if (o.pop3 && !login_serve(&conn, &o))
		return conn_end(&conn, EXIT_DONE);
	follow_begin(o.pop3 || o.tls, o.pop3);
	if (o.listen != NULL && !o.pop3)
		follow_require_pop3();
	status = conn_end(&conn, tunnel_run(conn.fd));
	/* A layer that broke has printed the reason. */
	if (status == EXIT_DONE &&
	    (unanswered = follow_unanswered(&status)) != NULL)
		errx(status,
		    "the server closed the connection before it answered %s",
		    unanswered);
	return status;
}

int
main(int argc, char **argv)
{
	struct options o = { .keytab = NULL };

	open_standard();
	/*
	 * Write each message in one piece, because the program that started
	 * kpopc may write to the same file.
	 */
	setvbuf(stderr, NULL, _IOLBF, BUFSIZ);
	read_options(&o, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	/* The program that started kpopc may ignore it; then no wait works. */
	signal(SIGCHLD, SIG_DFL);
	if (o.probe)
		probe_start(&o);
	if (o.map)
		return run_map(&o);
	return o.listen != NULL ? listen_run(&o, run_session) : run_session(&o);
}
