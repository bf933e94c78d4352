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
		fprintf(stderr, "kpopd: %s%s\nusage: kpopd [-d state] [-k keytab]"
		    " [-l locks] [-m mailboxes]\n             [-n uid] [-s principal]"
		    " [-t login[:idle]] [-u user]\n       kpopd --recover [-d state]"
		    " [-l locks] [-m mailboxes] [-n uid]\n       kpopd --help | --version\n",
		    why, what);
	else
		log_event(LOG_ERR, "fatal", "error=\"%s%s\"", why, log_words(&t, what));
	exit(2);
}

static void
print_help(void)
{
	printf("kpopd: Kerberized POP3 (KPOP), started by xinetd for each connection.\n"
	       "  -d state          directory of locks, journals and the replay cache\n"
	       "  -k keytab         of the service (default: libkrb5's)\n"
	       "  -l locks          of mailboxes, in this order: fcntl, flock, dotlock (default: fcntl,dotlock)\n"
	       "  -m mailboxes      mbox:path, maildir:path or maildir+create:path, with %%u user,\n"
	       "                    %%h or ~ home (default: mbox:/var/mail/%%u)\n"
	       "  -n uid            smallest that may log in (default: %d)\n"
	       "  -s principal      the only service to be (default: all pop/ and pop3/ in the keytab)\n"
	       "  -t login[:idle]   limits in seconds (default: 30:600)\n"
	       "  -u user           of the process that reads tickets (default: kpopd)\n"
	       "  --recover         finish the removals that a crash broke off, at boot, before mail is delivered\n"
	       "See kpopd(8).\n", UID_MIN);
}

/* LOGIN or LOGIN:IDLE, in seconds. */
static void
read_times(struct options *o, const char *text, bool by_hand)
{
	const char *colon = strchr(text, ':'), *wrong = NULL, *also_wrong = NULL;
	char login[16];

	strlcpy(login, text, sizeof(login));
	login[strcspn(login, ":")] = '\0';
	o->login = (int)strtonum(login, 1, 3600, &wrong);
	if (colon != NULL)
		o->idle = (int)strtonum(colon + 1, 1, 86400, &also_wrong);
	if (wrong != NULL || also_wrong != NULL)
		options_refuse(by_hand, "-t takes seconds, as 30:600, not ", text);
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
	const char *problem;
	int c;

	*o = (struct options){
		.state = STATE_DIRECTORY,
		.user = "kpopd",
		.least_uid = UID_MIN,
		.login = 30,
		.idle = 600,
	};
	lock_plan_read(&o->locks, "fcntl,dotlock");
	mailboxes_read(&o->mailboxes, "mbox:/var/mail/%u");

	opterr = 0; /* it would print to the client */
	while ((c = getopt_long(argc, argv, "d:k:l:m:n:s:t:u:", longer, NULL)) != -1) {
		switch (c) {
		case 'd':
			o->state = optarg;
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
			o->least_uid = (uid_t)strtonum(optarg, 1, INT_MAX, &problem);
			if (problem != NULL)
				options_refuse(by_hand, "-n takes a uid above 0, not ", optarg);
			break;
		case 's':
			o->service = optarg;
			break;
		case 't':
			read_times(o, optarg, by_hand);
			break;
		case 'u':
			o->user = optarg;
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
}
