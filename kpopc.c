/*
 * The client: a ticket, then standard input and output.
 *
 * Runs as the caller, with the caller's tickets or keytab. Does not trust the
 * server before it has shown its own proof (mutual authentication), and prints
 * nothing raw that came before that. Afterwards it is a tunnel: the server's
 * bytes go to standard output as they are. Without TLS and without a layer they
 * may be anybody's who can change the connection.
 */
#include "config.h"

#include <sys/resource.h>
#include <sys/time.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <krb5.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vis.h>

#include "kpopc.h"

static krb5_context context;

static void
usage(void)
{
	fprintf(stderr, "usage: kpopc [-pV] [-C authorities] [-k keytab [-u principal]]"
			" [-s service]\n             [--cleartext] [--tls] host [port]\n");
	exit(EXIT_USAGE);
}

const char *
printable(const char *text, size_t n)
{
	static char safe[4 * TEXT_MAX + 1];

	n = strnlen(text, n < TEXT_MAX ? n : TEXT_MAX);
	strvisx(safe, text, n, VIS_OCTAL | VIS_TAB | VIS_NL);
	return safe;
}

/* What went wrong, what to do about it, and the end. libkrb5's text may quote what a KDC said, unproven. */
_Noreturn static void
give_up(krb5_error_code problem, const char *what, const char *hint)
{
	char line[TEXT_MAX];

	snprintf(line, sizeof(line), "%s: %s", what,
	    krb5_get_error_message(context, problem));
	fprintf(stderr, "kpopc: %s%s\n", printable(line, sizeof(line)), hint);
	exit(EXIT_REFUSED);
}

/* The errors that everybody meets once, with what helps. */
static const char *
hint_for(krb5_error_code problem)
{
	switch (problem) {
	case KRB5_FCC_NOFILE:
	case KRB5_CC_NOTFOUND:
		return " (run kinit, or give -k)";
	case KRB5KRB_AP_ERR_TKT_EXPIRED:
		return " (run kinit again)";
	case KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN:
		return " (the realm has no such service; see -s)";
	case KRB5KRB_AP_ERR_SKEW:
		return " (set the clock)";
	case KRB5_KDC_UNREACH:
	case KRB5_REALM_UNKNOWN:
		return " (see krb5.conf(5))";
	default:
		return "";
	}
}

/* The first principal of the keytab. */
static krb5_principal
first_principal(krb5_keytab keytab, const char *name)
{
	krb5_kt_cursor cursor;
	krb5_keytab_entry entry;
	krb5_principal first;
	krb5_error_code problem;

	if ((problem = krb5_kt_start_seq_get(context, keytab, &cursor)) != 0 ||
	    (problem = krb5_kt_next_entry(context, keytab, &entry, &cursor)) != 0 ||
	    (problem = krb5_copy_principal(context, entry.principal, &first)) != 0)
		give_up(problem, name, "");
	krb5_free_keytab_entry_contents(context, &entry);
	krb5_kt_end_seq_get(context, keytab, &cursor);
	return first;
}

/* Returns the server's principal. */
static krb5_principal
service_of(const struct options *o)
{
	krb5_principal service;
	krb5_error_code problem;

	problem = o->service != NULL ? krb5_parse_name(context, o->service, &service) :
	    krb5_sname_to_principal(context, o->host, "pop", KRB5_NT_SRV_HST, &service);
	if (problem != 0)
		give_up(problem, o->service != NULL ? o->service : o->host, "");
	return service;
}

/* A ccache in memory with a ticket-granting ticket got by the keytab's key. */
static krb5_ccache
tickets_of_keytab(const struct options *o)
{
	krb5_ccache cache;
	krb5_creds creds;
	krb5_error_code problem;
	krb5_keytab keytab;
	krb5_principal who;

	if ((problem = krb5_kt_resolve(context, o->keytab, &keytab)) != 0)
		give_up(problem, o->keytab, "");
	if (o->principal == NULL)
		who = first_principal(keytab, o->keytab);
	else if ((problem = krb5_parse_name(context, o->principal, &who)) != 0)
		give_up(problem, o->principal, "");
	problem = krb5_get_init_creds_keytab(context, &creds, who, keytab, 0,
	    NULL, NULL);
	if (problem != 0)
		give_up(problem, "no ticket with the keytab", hint_for(problem));
	if ((problem = krb5_cc_new_unique(context, "MEMORY", NULL, &cache)) != 0 ||
	    (problem = krb5_cc_initialize(context, cache, who)) != 0 ||
	    (problem = krb5_cc_store_cred(context, cache, &creds)) != 0)
		give_up(problem, "keeping the ticket", "");
	return cache;
}

/*
 * Returns the ccache to use for the service: of several in a collection the one
 * of the principal that .k5identity(5) names, or one of the service's realm, as
 * GSSAPI chooses; otherwise the primary one.
 */
static krb5_ccache
choose_cache(krb5_principal service)
{
	krb5_ccache cache = NULL;
	krb5_principal chosen = NULL;
	krb5_error_code problem = krb5_cc_select(context, service, &cache, &chosen);

	/* With a principal it means that this one, which was chosen, has no tickets. */
	if (problem == KRB5_CC_NOTFOUND && chosen == NULL)
		problem = krb5_cc_default(context, &cache);
	if (problem != 0)
		give_up(problem, "no tickets", hint_for(problem));
	return cache;
}

/* Returns the ccache to use, and in *who whose tickets are in it. */
static krb5_ccache
tickets(const struct options *o, krb5_principal service, krb5_principal *who)
{
	krb5_ccache cache = o->keytab != NULL ? tickets_of_keytab(o) : choose_cache(service);
	krb5_error_code problem;

	if ((problem = krb5_cc_get_principal(context, cache, who)) != 0)
		give_up(problem, "no tickets", hint_for(problem));
	return cache;
}

/* The service's ticket, got before anything is said to the server, so that what fails here is clear. */
static krb5_creds *
ticket(krb5_principal service, krb5_ccache cache, krb5_principal who)
{
	krb5_creds want = { .client = who, .server = service }, *got;
	krb5_error_code problem;
	char *name, *what;

	problem = krb5_get_credentials(context, 0, cache, &want, &got);
	if (problem == 0)
		return got;
	if (krb5_unparse_name(context, want.server, &name) != 0 ||
	    asprintf(&what, "no ticket for %s", name) == -1)
		what = name = (char *)(uintptr_t)"no ticket";
	give_up(problem, what, hint_for(problem));
}

/* What the server said in its KRB-ERROR: not proven yet to be the server, so nothing raw. */
static void
print_refusal(const krb5_error *e)
{
	/* The protocol's own codes end at 127; a sum with more could overflow. */
	krb5_error_code code = e->error <= 127 ?
	    (krb5_error_code)(ERROR_TABLE_BASE_krb5 + (long)e->error) :
	    (krb5_error_code)KRB5KRB_ERR_GENERIC;
	const char *text = "";

	if (e->text.length > 0)
		text = printable(e->text.data, e->text.length);
	fprintf(stderr, "kpopc: the server refused the ticket: %s\n",
	    *text != '\0' ? text : krb5_get_error_message(context, code));
}

/* What sendauth's errors mean here. */
_Noreturn static void
explain(krb5_error_code problem, int fd)
{
	const char *words;

	switch (problem) {
	case KRB5_SENDAUTH_BADAUTHVERS:
	case KRB5_SENDAUTH_BADAPPLVERS:
		errx(EXIT_REFUSED, "the server speaks another version of KPOP");
	case KRB5_SENDAUTH_BADRESPONSE:
		if ((words = line_hear_refusal(fd)) != NULL)
			line_give_up(words);
		errx(EXIT_REFUSED, "the server does not speak Kerberos 5 KPOP");
	case ECONNABORTED:
	case ECONNRESET:
	case EPIPE:
		if ((words = line_hear_refusal(fd)) != NULL)
			line_give_up(words);
		errx(EXIT_REFUSED, "the server closed the connection during the"
		    " exchange (does it speak Kerberos 5 KPOP?)");
	default:
		give_up(problem, "the exchange failed", hint_for(problem));
	}
}

static void
too_slow(int signal_number)
{
	static const char text[] = "kpopc: the server did not finish the exchange in time\n";

	(void)signal_number;
	if (write(STDERR_FILENO, text, sizeof(text) - 1) == -1)
		_exit(EXIT_REFUSED);
	_exit(EXIT_REFUSED);
}

void
limit_time(void)
{
	sigset_t alarms;

	/* The caller may have blocked it, and then there were no limit. */
	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	signal(SIGALRM, too_slow);
	sigprocmask(SIG_UNBLOCK, &alarms, NULL);
	alarm(EXCHANGE_SECONDS);
}

/*
 * Limits the memory of this process, because libkrb5 allocates as much as the
 * length of a message says, up to 2 GiB, before the server has proven anything.
 */
static void
limit_memory(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_DATA, &limit) == -1)
		err(EXIT_REFUSED, "getrlimit");
	if (limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < PREAUTH_MEMORY)
		return;
	limit.rlim_cur = PREAUTH_MEMORY;
	if (setrlimit(RLIMIT_DATA, &limit) == -1)
		err(EXIT_REFUSED, "setrlimit");
}

/* The whole of sendauth. */
static void
exchange(int fd, krb5_creds *creds)
{
	krb5_auth_context session = NULL;
	krb5_ap_rep_enc_part *proof = NULL;
	krb5_error *refusal = NULL;
	krb5_error_code problem;
	char version[] = "KPOPV1.0";

	limit_memory();
	problem = krb5_sendauth(context, &session, &fd, version, creds->client,
	    creds->server, AP_OPTS_MUTUAL_REQUIRED, NULL, creds, NULL, &refusal,
	    &proof, NULL);
	if (problem == KRB5_SENDAUTH_REJECTED && refusal != NULL) {
		print_refusal(refusal);
		exit(EXIT_REFUSED);
	}
	if (problem != 0)
		explain(problem, fd);
	if (proof == NULL)
		errx(EXIT_REFUSED, "the server did not prove who it is");
}

/* Were 0, 1 or 2 closed, the connection would become standard input or output. */
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

static void
read_options(struct options *o, int argc, char **argv)
{
	static const struct option longer[] = {
		{ "cleartext", no_argument, NULL, 'P' },
		{ "tls", no_argument, NULL, 'T' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "C:k:ps:u:V", longer, NULL)) != -1) {
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
		case 'u':
			o->principal = optarg;
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
	if (argc - optind < 1 || argc - optind > 2 || (o->cleartext && (!o->pop3 || o->tls)) ||
	    (o->principal != NULL && o->keytab == NULL))
		usage();
	o->host = argv[optind];
	o->port = argv[optind + 1];
}

int
main(int argc, char **argv)
{
	struct options o = { .keytab = NULL };
	struct line line = { .fd = -1 };
	krb5_error_code problem;
	krb5_creds *creds;
	krb5_principal service, who;
	krb5_ccache cache;
	const char *unanswered;
	int status;

	open_standard();
	/* Each message in one write, because the program that started kpopc may write to the same file. */
	setvbuf(stderr, NULL, _IOLBF, BUFSIZ);
	read_options(&o, argc, argv);
	signal(SIGPIPE, SIG_IGN);
	if ((problem = krb5_init_context(&context)) != 0)
		give_up(problem, "Kerberos", "");
	service = service_of(&o);
	cache = tickets(&o, service, &who);
	creds = ticket(service, cache, who);
	if (o.pop3 && (problem = krb5_cc_get_full_name(context, cache, &o.cache)) != 0)
		give_up(problem, "the name of the ticket cache", "");
	line.fd = connect_to(&o);
	limit_time();
	if (!o.pop3)
		exchange(line.fd, creds);
	if (o.pop3 || o.tls)
		line_greet(&line, &o);
	alarm(0);
	if (o.pop3 && !line_login(&line, &o))
		return line_end(&line, EXIT_DONE);
	status = line_end(&line, tunnel(line.fd, o.pop3 || o.tls, o.pop3));
	/* A layer that broke has said so. */
	if (status == EXIT_DONE && (unanswered = tunnel_unanswered(&status)) != NULL)
		errx(status, "the server closed the connection before it answered %s", unanswered);
	return status;
}
