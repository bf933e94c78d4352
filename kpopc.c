/*
 * The client: gets a ticket, logs in, then connects the server with standard
 * input and output. With --listen it does so for each connection of a local
 * program.
 *
 * Runs as the caller, with the caller's tickets or keytab. The server is not
 * trusted before it has proven its identity (mutual authentication), and
 * nothing that it sent before is printed unencoded. After the login the client
 * is a tunnel: the server's bytes go to standard output as they are. If the
 * connection has neither TLS nor a layer, an attacker on the network can change
 * these bytes.
 */
#include "config.h"

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

#define IDLE_SECONDS 1800 /* with --listen, the default of -t */
#define IDLE_MOST 1000000 /* the most for -t; in ms it is an int */

static void
usage(void)
{
	fprintf(stderr,
	    "usage: kpopc [-pV] [-C authorities] [-k keytab [-u principal]]"
	    " [-s service]\n             [-t seconds] [--cleartext]"
	    " [--listen port] [--tls] host [port]\n");
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

static void
read_options(struct options *o, int argc, char **argv)
{
	static const struct option names[] = {
		{ "cleartext", no_argument, NULL, 'P' },
		{ "listen", required_argument, NULL, 'L' },
		{ "tls", no_argument, NULL, 'T' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "C:k:ps:t:u:V", names, NULL)) !=
	    -1) {
		switch (c) {
		case 'C':
			o->authorities = optarg;
			break;
		case 'k':
			o->keytab = optarg;
			break;
		case 'p':
			o->pop3 = true;
			break;
		case 's':
			o->service = optarg;
			break;
		case 't':
			o->idle = read_option_number("-t", optarg, IDLE_MOST);
			break;
		case 'u':
			o->principal = optarg;
			break;
		case 'L':
			o->listen = optarg;
			if (strcmp(optarg, LISTEN_PASSED) != 0)
				read_option_number("--listen", optarg,
				    UINT16_MAX);
			break;
		case 'P':
			o->cleartext = true;
			break;
		case 'T':
			o->tls = true;
			break;
		case 'V':
			printf("kpopc %s\n", PACKAGE_VERSION);
			exit(EXIT_DONE);
		default:
			usage();
		}
	}
	if (argc - optind < 1 || argc - optind > 2 ||
	    (o->cleartext && ((!o->pop3 && o->listen == NULL) || o->tls)) ||
	    (o->idle != 0 && o->listen == NULL) ||
	    (o->principal != NULL && o->keytab == NULL))
		usage();
	o->host = argv[optind];
	o->port = argv[optind + 1];
	/* AUTH GSSAPI protects the session by a layer if there is no TLS. */
	if (o->listen != NULL && !o->pop3 && !o->cleartext)
		o->tls = true;
	if (o->idle == 0)
		o->idle = IDLE_SECONDS;
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

	/*
	 * Get the ticket before connecting, so that an error about the ticket
	 * does not seem to come from the server.
	 */
	ticket_get(&ticket, &o);
	if (o.pop3)
		o.cache = ticket_cache_name(&ticket);
	conn.fd = connect_to(&o);
	conn_limit_time();
	if (!o.pop3)
		kpop_exchange(&ticket, conn.fd);
	if (o.pop3 || o.tls)
		login_greet(&conn, &o);
	conn_unlimit_time();
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
	return o.listen != NULL ? listen_run(&o, run_session) : run_session(&o);
}
