/*
 * Starts the processes between the client and the session: kpopd-tls, and the
 * relay of a GSSAPI layer.
 *
 * Runs as root. The pre-auth process and the listener try TLS. The listener
 * starts a kept kpopd-tls; with --keep-tls main becomes one. The monitor starts
 * the layer that the pre-auth process asks for. The new process also runs this
 * code until it drops root's rights. Each layer has its own process, which gets
 * the client's socket. Inside TLS, the relay gets the cleartext side of
 * kpopd-tls in place of that socket. The pre-auth process, and later the
 * session, has one end of a socket pair and speaks cleartext POP3. So the TLS
 * key, the service's key and the mail are in three processes.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "keep-ask.h"
#include "layer.h"
#include "log.h"
#include "message.h"
#include "packet.h"
#include "privsep.h"
#include "process.h"
#include "relay-sasl.h"
#include "sandbox.h"

#define KPOPD_TLS LIBEXEC_DIRECTORY "/kpopd-tls"

/*
 * In the child: copies client to descriptor 0, cleartext to 1, and channel to
 * LAYER_CHANNEL. Keeps 2, and closes all others.
 */
static void
set_descriptors(int client, int cleartext, int channel)
{
	if (dup2(client, 0) == -1 || dup2(cleartext, 1) == -1 ||
	    dup2(channel, LAYER_CHANNEL) == -1 ||
	    fcntl(LAYER_CHANNEL, F_SETFD, 0) == -1)
		fatal("dup2");
	log_through(LAYER_CHANNEL);
	closefrom(LAYER_CHANNEL + 1);
}

/*
 * The arguments of kpopd-tls. The array ends with NULL. One more argument fits
 * before the NULL.
 */
struct arguments {
	const char *list[1 + KEEP_ARGUMENTS + 2];
	char missing[2];
};

static void
set_arguments(struct arguments *a, const struct options *o)
{
	*a = (struct arguments){ .missing = {
				     (char)('0' + o->sandbox.missing), '\0' } };
	memcpy(a->list,
	    (const char *const[]){ "kpopd-tls", o->tls.certificate, o->tls.key,
		o->tls.ciphers, o->tls.user, o->state, a->missing },
	    (1 + KEEP_ARGUMENTS) * sizeof(a->list[0]));
}

/* Describes the options and files of a kpopd-tls. Returns 0 or -1 (logged). */
static int
describe(struct keep_setup *setup, const struct options *o)
{
	struct arguments a;

	set_arguments(&a, o);
	return keep_describe(setup, a.list + 1);
}

/*
 * Starts kpopd-tls to try certificate, key and cipher suites. Returns true if
 * they work. If they do not work, kpopd-tls has logged the reason.
 */
static bool
try_certificate(const struct options *o)
{
	pid_t pid = fork();
	int status;

	if (pid == -1)
		fatal("fork");
	if (pid == 0) {
		execl(KPOPD_TLS, "kpopd-tls", o->tls.certificate, o->tls.key,
		    o->tls.ciphers, (char *)NULL);
		fatal("starting " KPOPD_TLS);
	}
	if (process_wait(pid, &status, 0) == -1)
		fatal("waitpid");
	if (WIFEXITED(status) && WEXITSTATUS(status) == TLS_BAD_CIPHERS)
		options_log_wrong("tls-ciphers",
		    "cipher suites that OpenSSL has", o->tls.ciphers);
	return status == 0;
}

bool
layer_tls_works(const struct options *o)
{
	struct keep_setup now, known;
	char path[PATH_MAX];
	struct log_text t;
	ssize_t n;
	int fd;

	if (describe(&now, o) == -1)
		return false;
	snprintf(path, sizeof(path), "%s/tls.works", o->state);
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	n = fd != -1 ? read(fd, &known, sizeof(known)) : -1;
	if (fd != -1)
		close(fd);
	if (n == (ssize_t)sizeof(now) && memcmp(&now, &known, sizeof(now)) == 0)
		return true;
	if (!try_certificate(o))
		return false;
	privsep_make_jail(o->state, "tls");
	/*
	 * Two processes may write at the same time, but both write the same
	 * text. If only a part of the text gets into the file, the next process
	 * tries the certificate again.
	 */
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC,
	    0600);
	if (fd == -1 || write(fd, &now, sizeof(now)) == -1)
		log_failed_at(LOG_WARNING, NULL, "writing %s",
		    log_words(&t, path));
	if (fd != -1)
		close(fd);
	return true;
}

/* Executes kpopd-tls in this process. last: one more argument, or NULL. */
_Noreturn static void
exec_tls(const struct options *o, const char *last)
{
	struct arguments a;

	set_arguments(&a, o);
	a.list[1 + KEEP_ARGUMENTS] = last;
	execv(KPOPD_TLS, (char *const *)(uintptr_t)a.list);
	fatal("starting " KPOPD_TLS);
}

_Noreturn void
layer_keep_tls(const struct options *o)
{
	process_leave_terminal();
	exec_tls(o, "0");
}

pid_t
layer_start_kept_tls(const struct options *o)
{
	char parent[3 * sizeof(pid_t) + 1];
	sigset_t none;
	pid_t pid;

	snprintf(parent, sizeof(parent), "%ld", (long)getpid());
	if ((pid = fork()) == -1)
		log_failed("making a process for kpopd-tls");
	if (pid != 0)
		return pid;
	/* Descriptor 0 is the listening socket, and 2 is /dev/null. */
	process_leave_client();
	closefrom(3);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	exec_tls(o, parent);
}

/* Makes the socket pair of the cleartext side. */
static void
make_cleartext_pair(int ends[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == -1)
		fatal("socketpair");
}

/*
 * Asks the kept kpopd-tls for a process, which gets the client's socket and
 * cleartext[1]. Returns false if no kept kpopd-tls has made one. Then cleartext
 * is a new pair if the old one was sent. A kept kpopd-tls that hangs still has
 * the old one, and the session would not notice the end of another kpopd-tls.
 */
static bool
start_kept_process(const struct options *o, struct watch *w, int64_t deadline,
    int cleartext[2])
{
	struct keep_setup setup;
	struct keep_process p;
	int channel[2], result;

	if (describe(&setup, o) == -1)
		return false;
	packet_make_channel(channel);
	result = keep_ask(o->state, &setup, cleartext[1], channel[1], &p);
	close(channel[1]);
	if (result == -1) {
		close(channel[0]);
		close(cleartext[0]);
		close(cleartext[1]);
		make_cleartext_pair(cleartext);
		return false;
	}
	watch_adopt(w, ROLE_TLS, deadline, &p, channel[0]);
	/*
	 * If this fails because the process has ended, the next event reports
	 * that end.
	 */
	keep_give_client(&p, 0);
	return true;
}

/*
 * Links the pre-auth process's krb5.conf into the relay's jail. An exported
 * GSSAPI context names the krb5.conf with which it was made, and libgssapi does
 * not import the context without that file.
 */
static void
share_configuration(const char *state)
{
	char from[PATH_MAX], temporary[PATH_MAX], to[PATH_MAX];

	snprintf(from, sizeof(from), "%s/preauth/krb5.conf", state);
	snprintf(to, sizeof(to), "%s/relay/krb5.conf", state);
	snprintf(temporary, sizeof(temporary), "%s/relay/%ld", state,
	    (long)getpid());
	/*
	 * An earlier process with this pid may have been killed before its
	 * rename.
	 */
	unlink(temporary);
	if (link(from, temporary) == -1 || rename(temporary, to) == -1)
		fatal("sharing krb5.conf with the relay");
	/*
	 * If both names were links to the same file, rename has done nothing.
	 */
	unlink(temporary);
}

_Noreturn static void
become_relay(const struct options *o, const struct account *preauth,
    int cleartext, int handoff)
{
	struct sandbox_path within = { -1, SANDBOX_READ };

	privsep_make_jail(o->state, "relay");
	share_configuration(o->state);
	privsep_jail(o->state, "relay", preauth);
	within.fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	sandbox_shut_files(&within, 1);
	close(within.fd);
	sandbox_enter(SANDBOX_RELAY);
	_exit(relay_sasl_run(0, cleartext, handoff) == 0 ? 0 : 1);
}

/*
 * Replaces the client's socket in this process by this process's end of the
 * cleartext side. The layer's process has the other end.
 */
static void
take_cleartext_side(const int cleartext[2])
{
	close(cleartext[1]);
	if (dup2(cleartext[0], 0) == -1 || dup2(cleartext[0], 1) == -1)
		fatal("dup2");
	close(cleartext[0]);
}

/*
 * A GSSAPI layer may come inside TLS, but not TLS inside a GSSAPI layer. Only
 * the pre-auth process knows whether the certificate works (o->tls.works).
 */
int
layer_start_tls(const struct options *o, struct layers *l, struct watch *w,
    int64_t deadline)
{
	int cleartext[2], channel;

	if (l->gssapi || l->tls || o->tls.when == TLS_NO)
		return -1;
	l->tls = true;
	make_cleartext_pair(cleartext);
	if (!start_kept_process(o, w, deadline, cleartext) &&
	    watch_fork(w, ROLE_TLS, deadline, &channel)) {
		set_descriptors(0, cleartext[1], channel);
		exec_tls(o, NULL);
	}
	take_cleartext_side(cleartext);
	/*
	 * If this fails, the pre-auth process has ended, and the next event
	 * reports that end.
	 */
	message_answer(watch_channel(w, ROLE_PREAUTH), 0);
	return 0;
}

int
layer_start_gssapi(const struct options *o, const struct account *preauth,
    struct layers *l, struct watch *w, int64_t deadline)
{
	int cleartext[2], handoff[2], channel;

	if (l->gssapi || !o->pop3)
		return -1;
	l->gssapi = true;
	make_cleartext_pair(cleartext);
	packet_make_channel(handoff);
	if (watch_fork(w, ROLE_RELAY, deadline, &channel)) {
		/*
		 * Close the relay's copies of the monitor's ends. As long as
		 * the relay has such a copy, it does not notice that the other
		 * processes have closed these ends. Descriptor 1 is only a copy
		 * of descriptor 0.
		 */
		close(cleartext[0]);
		close(handoff[0]);
		close(1);
		become_relay(o, preauth, cleartext[1], handoff[1]);
	}
	take_cleartext_side(cleartext);
	message_answer(watch_channel(w, ROLE_PREAUTH), handoff[0]);
	close(handoff[0]);
	close(handoff[1]);
	return 0;
}
