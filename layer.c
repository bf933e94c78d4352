/*
 * Starts the processes between the client and the session: kpopd-tls, and the
 * relay of a GSSAPI layer.
 *
 * Runs as root. main and the listener try TLS; the monitor starts the layer
 * that the pre-auth process asks for. The new process also runs this code until
 * it drops root's rights. Each layer has its own process, which gets the
 * client's socket. Inside TLS, the relay gets the cleartext side of kpopd-tls
 * in place of that socket. The pre-auth process, and later the session, has one
 * end of a socket pair and speaks cleartext POP3. So the TLS key, the service's
 * key and the mail are in three processes.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layer.h"
#include "log.h"
#include "message.h"
#include "packet.h"
#include "privsep.h"
#include "process.h"
#include "relay-sasl.h"
#include "sandbox.h"

#define KPOPD_TLS LIBEXEC_DIRECTORY "/kpopd-tls"
/* bytes of describe_files' text with its NUL */
#define FINGERPRINT (512 + TLS_CIPHERS_MOST)

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
 * Writes a text that changes if the certificate, its key or the cipher suites
 * change. Returns false (logged) if a file is missing.
 */
static bool
describe_files(const struct options *o, char text[FINGERPRINT])
{
	const char *files[] = { o->tls.certificate, o->tls.key };
	struct log_text path;
	size_t at = 0;

	for (int i = 0; i < 2; i++) {
		struct stat st;

		if (stat(files[i], &st) == -1) {
			log_failed("looking for %s",
			    log_words(&path, files[i]));
			return false;
		}
		at += (size_t)snprintf(text + at, FINGERPRINT - at,
		    "%ju %ju %jd %jd.%09ld %jd.%09ld\n", (uintmax_t)st.st_dev,
		    (uintmax_t)st.st_ino, (intmax_t)st.st_size,
		    (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
		    (intmax_t)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	}
	strlcat(text, o->tls.ciphers, FINGERPRINT);
	return true;
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
	char path[PATH_MAX], now[FINGERPRINT], known[FINGERPRINT];
	struct log_text t;
	ssize_t n;
	int fd;

	if (!describe_files(o, now))
		return false;
	snprintf(path, sizeof(path), "%s/tls.works", o->state);
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	n = fd != -1 ? read(fd, known, sizeof(known)) : -1;
	if (fd != -1)
		close(fd);
	if (n == (ssize_t)strlen(now) && memcmp(now, known, (size_t)n) == 0)
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
	if (fd == -1 || write(fd, now, strlen(now)) == -1)
		log_failed_at(LOG_WARNING, NULL, "writing %s",
		    log_words(&t, path));
	if (fd != -1)
		close(fd);
	return true;
}

_Noreturn static void
exec_tls(const struct options *o, int cleartext, int channel)
{
	const char missing[] = { (char)('0' + o->sandbox.missing), '\0' };

	set_descriptors(0, cleartext, channel);
	execl(KPOPD_TLS, "kpopd-tls", o->tls.certificate, o->tls.key,
	    o->tls.ciphers, o->tls.user, o->state, missing, (char *)NULL);
	fatal("starting " KPOPD_TLS);
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

/* Makes the socket pair of the cleartext side. */
static void
make_cleartext_pair(int ends[2])
{
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == -1)
		fatal("socketpair");
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

/* A GSSAPI layer may come inside TLS, but not TLS inside a GSSAPI layer. */
int
layer_start_tls(const struct options *o, struct layers *l, struct watch *w,
    int64_t deadline)
{
	int cleartext[2], channel;

	if (l->gssapi || l->tls || !o->tls.works)
		return -1;
	l->tls = true;
	make_cleartext_pair(cleartext);
	if (watch_fork(w, ROLE_TLS, deadline, &channel))
		exec_tls(o, cleartext[1], channel);
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
