/*
 * Reads the command line.
 *
 * Runs as root, before anything of the client is read. There is no
 * configuration file: inetd's has room for these few options. By hand a
 * mistake is said on the terminal; under inetd fd 2 is the client, and syslog
 * is told.
 */
#include "config.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "maildrop.h"
#include "options.h"

void
options_refuse(bool by_hand, const char *why, const char *what)
{
	struct log_text t;

	if (by_hand)
		fprintf(stderr, "kpopd: %s%s\nusage: kpopd [-p] [-a limits] [-C ciphers] [-c certificate]"
		    " [-D domains]\n             [-d state] [-K key] [-k keytab] [-l locks] [-m mailboxes]"
		    " [-n uids]\n             [-r realms] [-s principal] [-T when] [-t login[:idle]]"
		    " [-U user]\n             [-u user] [-x networks]\n       kpopd --recover [-d state]"
		    " [-l locks] [-m mailboxes] [-n uids]\n       kpopd --help | --version\n",
		    why, what);
	else
		log_event(LOG_ERR, "fatal", "error=\"%s%s\"", why, log_words(&t, what));
	exit(2);
}

static void
print_help(void)
{
	printf("kpopd: Kerberized POP3 (KPOP), started by xinetd for each connection, or once to accept them.\n"
	       "  -a limits         where standard input listens: sessions, those from one address, those new\n"
	       "                    in a second, seconds without any until the end, and those new in a second\n"
	       "                    from one address (default: 200:20:50:300:25)\n"
	       "  -C ciphers        of TLS, as OpenSSL names them (default: forward secrecy and AEAD only)\n"
	       "  -c certificate    offer TLS with this certificate, and its chain (PEM)\n"
	       "  -D domains        with commas; USER name@domain means name (default: host and realm alone)\n"
	       "  -d state          directory of locks, journals and the replay cache\n"
	       "  -K key            of the certificate (default: in its file)\n"
	       "  -k keytab         of the service (default: libkrb5's)\n"
	       "  -l locks          of mailboxes, in this order: fcntl, flock, dotlock (default: fcntl,dotlock)\n"
	       "  -m mailboxes      mbox:path, mboxo:path, maildir:path or maildir+create:path,\n"
	       "                    with %%u user, %%h or ~ home (default: mbox:/var/mail/%%u)\n"
	       "  -n uids           that may log in, the least or least:most (default: %d)\n"
	       "  -p                POP3 with AUTH GSSAPI, not KPOP\n"
	       "  -r realms         of clients that are let in, with commas (default: any that krb5.conf maps)\n"
	       "  -s principal      the only service to be (default: all pop/ and pop3/ in the keytab)\n"
	       "  -T when           TLS is no, offer, require or immediate (default: offer with -c)\n"
	       "  -t login[:idle]   limits in seconds (default: 30:600)\n"
	       "  -U user           of the process that does TLS (default: kpopd-tls)\n"
	       "  -u user           of the process that reads tickets (default: kpopd)\n"
	       "  -x networks       of proxies, which send a PROXY header: 192.0.2.0/24,2001:db8::1,local\n"
	       "  --recover         finish the removals that a crash broke off, at boot, before mail is delivered\n"
	       "See kpopd(8).\n", UID_MIN);
}

struct number {
	int *to, least, most;
};

/* One to n numbers with colons between them; what is left out stays as it is. Returns 0 or -1. */
static int
read_numbers(const char *text, const struct number *numbers, int n)
{
	char copy[64], *rest = copy;

	if (strlcpy(copy, text, sizeof(copy)) >= sizeof(copy))
		return -1;
	for (int i = 0; rest != NULL; i++) {
		const char *word = strsep(&rest, ":"), *problem = "one too many";

		if (i < n)
			*numbers[i].to = (int)strtonum(word, numbers[i].least, numbers[i].most, &problem);
		if (problem != NULL)
			return -1;
	}
	return 0;
}

/* LOGIN or LOGIN:IDLE, in seconds. */
static void
read_times(struct options *o, const char *text, bool by_hand)
{
	const struct number times[] = { { &o->login, 1, 3600 }, { &o->idle, 1, 86400 } };

	if (read_numbers(text, times, 2) == -1)
		options_refuse(by_hand, "-t takes seconds, as 30:600, not ", text);
}

/* LEAST or LEAST:MOST. */
static void
read_uids(struct options *o, const char *text, bool by_hand)
{
	char copy[64], *most = copy;
	const char *least, *problem = "too long";

	if (strlcpy(copy, text, sizeof(copy)) < sizeof(copy)) {
		least = strsep(&most, ":");
		o->uids.least = (uid_t)strtonum(least, 1, ACCOUNT_UID_MOST, &problem);
	}
	o->uids.most = ACCOUNT_UID_MOST;
	if (problem == NULL && most != NULL)
		o->uids.most = (uid_t)strtonum(most, o->uids.least, ACCOUNT_UID_MOST, &problem);
	if (problem != NULL)
		options_refuse(by_hand, "-n takes one uid above 0 or two, as 1000:60000, not ", text);
}

/* ALL:EACH:RATE:LINGER:EACHRATE, the last ones optional. */
static void
read_limits(struct options *o, const char *text, bool by_hand)
{
	const struct number limits[] = { { &o->limits.all, 1, LIMITS_MAX },
		{ &o->limits.each, 1, LIMITS_MAX }, { &o->limits.rate, 1, LIMITS_MAX },
		{ &o->linger, 0, 86400 }, { &o->limits.each_rate, 1, LIMITS_MAX } };

	if (read_numbers(text, limits, 5) == -1)
		options_refuse(by_hand, "-a takes sessions, those from one address, those new in a "
		    "second, seconds, and those new in a second from one address, as "
		    "200:20:50:300:25, not ", text);
}

/* Reads OpenSSL's cipher list. kpopd-tls knows whether OpenSSL has these; here it is text that fits a stamp and the log. */
static void
read_ciphers(struct options *o, const char *text, bool by_hand)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.=@!+-:,; ";

	if (*text == '\0' || strlen(text) >= TLS_CIPHERS_MOST || text[strspn(text, letters)] != '\0')
		options_refuse(by_hand, "-C takes OpenSSL's cipher list, as ECDHE+AESGCM:TLS_AES_256_GCM_SHA384, not ", text);
	o->tls.ciphers = text;
}

/* DOMAIN,DOMAIN,... Each has a byte; otherwise "name@" would mean "name". */
static void
read_domains(struct options *o, const char *text, bool by_hand)
{
	bool good = *text != '\0' && text[strcspn(text, "@ \t")] == '\0' && strstr(text, ",,") == NULL;

	if (!good || *text == ',' || text[strlen(text) - 1] == ',')
		options_refuse(by_hand, "-D takes domains with commas, as example.org,example.net, not ", text);
	o->domains = text;
}

/* When TLS is used: the word of -T, or NULL. */
static void
read_when(struct options *o, const char *word, bool by_hand)
{
	static const char *const words[] = { "no", "offer", "require", "immediate" };
	int when = 0;

	if (word == NULL)
		word = o->tls.certificate != NULL ? "offer" : "no";
	while (when < 4 && strcmp(word, words[when]) != 0)
		when++;
	if (when == 4)
		options_refuse(by_hand, "-T takes no, offer, require or immediate, not ", word);
	if ((when != TLS_NO || *o->tls.ciphers != '\0') && o->tls.certificate == NULL)
		options_refuse(by_hand, "TLS needs a certificate: -c", "");
	o->tls.when = (enum tls_when)when;
	if (o->tls.key == NULL)
		o->tls.key = o->tls.certificate;
}

void
options_read(struct options *o, int argc, char **argv, bool by_hand)
{
	static const struct option longer[] = {
		{ "help", no_argument, NULL, 'h' },
		{ "recover", no_argument, NULL, 'R' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	const char *when = NULL;
	int c;

	*o = (struct options){
		.state = STATE_DIRECTORY,
		.user = "kpopd",
		.uids = { .least = UID_MIN, .most = ACCOUNT_UID_MOST },
		.login = 30,
		.idle = 600,
		.limits = { .all = 200, .each = 20, .rate = 50 },
		.linger = 300,
		.tls.user = "kpopd-tls",
		.tls.ciphers = "",
	};
	lock_plan_read(&o->locks, "fcntl,dotlock");
	mailboxes_read(&o->mailboxes, "mbox:/var/mail/%u");

	opterr = 0; /* it would print to the client */
	while ((c = getopt_long(argc, argv, "a:C:c:D:d:K:k:l:m:n:pr:s:T:t:U:u:x:", longer, NULL)) != -1) {
		switch (c) {
		case 'a':
			read_limits(o, optarg, by_hand);
			break;
		case 'C':
			read_ciphers(o, optarg, by_hand);
			break;
		case 'c':
			o->tls.certificate = optarg;
			break;
		case 'D':
			read_domains(o, optarg, by_hand);
			break;
		case 'd':
			o->state = optarg;
			break;
		case 'K':
			o->tls.key = optarg;
			break;
		case 'k':
			o->keytab = optarg;
			break;
		case 'l':
			if (lock_plan_read(&o->locks, optarg) == -1)
				options_refuse(by_hand, "-l takes fcntl, flock and dotlock with commas, not ", optarg);
			break;
		case 'm':
			if (mailboxes_read(&o->mailboxes, optarg) == -1)
				options_refuse(by_hand, "-m takes mbox:/path or maildir:/path with %u and %h, not ", optarg);
			break;
		case 'n':
			read_uids(o, optarg, by_hand);
			break;
		case 'p':
			o->pop3 = true;
			break;
		case 'r':
			o->realms = optarg;
			break;
		case 's':
			o->service = optarg;
			break;
		case 'T':
			when = optarg;
			break;
		case 't':
			read_times(o, optarg, by_hand);
			break;
		case 'U':
			o->tls.user = optarg;
			break;
		case 'u':
			o->user = optarg;
			break;
		case 'x':
			if (proxies_read(&o->proxies, optarg) == -1)
				options_refuse(by_hand, "-x takes addresses, networks and local, with commas, not ", optarg);
			break;
		case 'R':
			o->recover = true;
			break;
		case 'h':
			print_help();
			exit(0);
		case 'V':
			printf("kpopd %s\n", PACKAGE_VERSION);
			exit(0);
		default:
			options_refuse(by_hand, "wrong option or missing argument: ", argv[optind - 1]);
		}
	}
	if (optind < argc)
		options_refuse(by_hand, "options only, not ", argv[optind]);
	if (o->limits.each_rate == 0)
		o->limits.each_rate = (o->limits.rate + 1) / 2;
	read_when(o, when, by_hand);
}
