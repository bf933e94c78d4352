/*
 * What stands between the client and the session: kpopd-tls, or the relay of a GSSAPI layer.
 *
 * Runs as the monitor, root, between the pre-auth process's question and its report. Each
 * layer is a process of its own that has the client's socket; the pre-auth process, later
 * the session, has one end of a socket pair and speaks plain POP3. So neither
 * the TLS key nor the service's key is ever where the mail is, nor one where
 * the other is.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layer.h"
#include "log.h"
#include "relay-sasl.h"
#include "sandbox.h"

#define KPOPD_TLS LIBEXEC_DIRECTORY "/kpopd-tls"
#define STAMP (512 + TLS_CIPHERS_MOST)

/* In the child: nothing is open but 0 and 1, which are these, 2, and the channel to the monitor as LAYER_CHANNEL. */
static void
set_descriptors(int client, int plain, int channel)
{
	if (dup2(client, 0) == -1 || dup2(plain, 1) == -1 || dup2(channel, LAYER_CHANNEL) == -1 ||
	    fcntl(LAYER_CHANNEL, F_SETFD, 0) == -1)
		fatal("dup2");
	log_through(LAYER_CHANNEL);
	closefrom(LAYER_CHANNEL + 1);
}

/* What would change with the certificate, its key, or the cipher suites. */
static void
describe(const struct options *o, char stamp[STAMP])
{
	const char *files[] = { o->tls.certificate, o->tls.key };
	size_t at = 0;

	stamp[0] = '\0';
	for (int i = 0; i < 2; i++) {
		struct stat st;

		if (stat(files[i], &st) == -1) {
			log_event(LOG_ERR, "failed", "what=\"the certificate or its key\" error=\"%s\"",
			    strerror(errno));
			stamp[0] = '\0';
			return;
		}
		at += (size_t)snprintf(stamp + at, STAMP - at, "%ju %ju %jd %jd.%09ld %jd.%09ld\n",
		    (uintmax_t)st.st_dev, (uintmax_t)st.st_ino, (intmax_t)st.st_size,
		    (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
		    (intmax_t)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	}
	strlcat(stamp, o->tls.ciphers, STAMP);
}

/* Lets kpopd-tls try certificate, key and cipher suites; it logs what is wrong. */
static bool
try_certificate(const struct options *o)
{
	pid_t pid = fork();
	int status;

	if (pid == -1)
		fatal("fork");
	if (pid == 0) {
		execl(KPOPD_TLS, "kpopd-tls", o->tls.certificate, o->tls.key, o->tls.ciphers, (char *)NULL);
		fatal("starting " KPOPD_TLS);
	}
	while (waitpid(pid, &status, 0) == -1)
		if (errno != EINTR)
			fatal("waitpid");
	if (WIFEXITED(status) && WEXITSTATUS(status) == TLS_BAD_CIPHERS)
		options_refuse(false, "-C takes cipher suites that OpenSSL has, not ", o->tls.ciphers);
	return status == 0;
}

bool
layer_tls_works(const struct options *o)
{
	char path[PATH_MAX], stamp[STAMP], known[STAMP];
	ssize_t n;
	int fd;

	describe(o, stamp);
	if (stamp[0] == '\0')
		return false;
	snprintf(path, sizeof(path), "%s/tls.works", o->state);
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	n = fd != -1 ? read(fd, known, sizeof(known)) : -1;
	if (fd != -1)
		close(fd);
	if (n == (ssize_t)strlen(stamp) && memcmp(stamp, known, (size_t)n) == 0)
		return true;
	if (!try_certificate(o))
		return false;
	privsep_make_jail(o->state, "tls");
	/* Two at once write the same; a torn one is tried again. */
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd == -1 || write(fd, stamp, strlen(stamp)) == -1)
		log_event(LOG_WARNING, "failed", "what=\"remembering the certificate\" "
		    "error=\"%s\"", strerror(errno));
	if (fd != -1)
		close(fd);
	return true;
}

_Noreturn static void
run_tls(const struct options *o, int plain, int channel)
{
	set_descriptors(0, plain, channel);
	execl(KPOPD_TLS, "kpopd-tls", o->tls.certificate, o->tls.key, o->tls.ciphers,
	    o->tls.user, o->state, (char *)NULL);
	fatal("starting " KPOPD_TLS);
}

/* An exported context names the krb5.conf that it was made with, and is not taken where that file is not. */
static void
share_configuration(const char *state)
{
	char from[PATH_MAX], temporary[PATH_MAX], to[PATH_MAX];

	snprintf(from, sizeof(from), "%s/preauth/krb5.conf", state);
	snprintf(to, sizeof(to), "%s/relay/krb5.conf", state);
	snprintf(temporary, sizeof(temporary), "%s/relay/%ld", state, (long)getpid());
	/* A process that had this pid may have been killed here. */
	unlink(temporary);
	if (link(from, temporary) == -1 || rename(temporary, to) == -1)
		fatal("sharing krb5.conf with the relay");
	/* It stays when both names were one file already. */
	unlink(temporary);
}

_Noreturn static void
run_relay(const struct options *o, const struct account *preauth, int plain, int handoff)
{
	struct sandbox_path within = { -1, SANDBOX_READ };

	privsep_make_jail(o->state, "relay");
	share_configuration(o->state);
	privsep_jail(o->state, "relay", preauth);
	within.fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	sandbox_shut_files(&within, 1);
	close(within.fd);
	sandbox_enter(SANDBOX_RELAY);
	_exit(relay_sasl_run(0, plain, handoff) == 0 ? 0 : 1);
}

/* Makes plain the client's socket of this process. */
static void
put_between(int plain)
{
	if (dup2(plain, 0) == -1 || dup2(plain, 1) == -1)
		fatal("dup2");
	close(plain);
}

int
layer_start(const struct options *o, const struct account *preauth, struct layers *l,
    const struct report *question, struct watch *w, int64_t deadline)
{
	bool tls = question->kind == REPORT_TLS;
	int plain[2], handoff[2] = { -1, -1 }, channel;

	/* A layer of GSSAPI may come inside TLS, not the other way round. */
	if (l->gssapi || (tls ? l->tls || !o->tls.works : !o->pop3))
		return -1;
	*(tls ? &l->tls : &l->gssapi) = true;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, plain) == -1 ||
	    (!tls && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, handoff) == -1))
		fatal("socketpair");
	if (watch_fork(w, tls ? ROLE_TLS : ROLE_RELAY, deadline, &channel)) {
		if (tls)
			run_tls(o, plain[1], channel);
		/* Otherwise this process would not see the end of those that have the other ends. */
		close(plain[0]);
		close(handoff[0]);
		close(1);
		run_relay(o, preauth, plain[1], handoff[1]);
	}
	close(plain[1]);
	put_between(plain[0]);
	/* A pre-auth process that is gone shows in what comes next. */
	report_answer(watch_channel(w, ROLE_PREAUTH), tls ? 0 : handoff[0]);
	if (!tls) {
		close(handoff[0]);
		close(handoff[1]);
	}
	return 0;
}
