/*
 * What happens before the login: proxy header, TLS, ticket, USER and PASS or AUTH.
 *
 * Runs as root while it copies the keys, then as the pre-auth user in its jail.
 * It reads what nobody has answered for yet, and holds the service's key: it
 * can write in one file that root has opened, the replay cache, and open none,
 * and all it can bring about is said in the packets of privsep.h.
 */
#include "config.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth.h"
#include "preauth.h"
#include "log.h"
#include "pop3-auth.h"
#include "proxy.h"
#include "replay-cache.h"
#include "sandbox.h"
#include "sasl.h"
#include "sendauth.h"

/* Where libraries that read krb5.conf again find what it said. */
#define CONFIGURATION "krb5.conf"
#define CONFIGURATION_MOST (1 << 20)

struct preauth {
	const struct options *o;
	int channel;
	int64_t deadline;
	struct io io;
	struct auth *auth;
	struct sasl *sasl;
	char wish[SASL_AUTHZID];
	struct pop3_preauth door;
	bool has_tls;
	unsigned char hash[64]; /* of the certificate, once there is TLS */
	size_t hash_size;
	struct report report;
};

/* Asks the monitor for TLS or a LAYER. Returns a descriptor or -1. */
static int
ask(struct preauth *g, char kind)
{
	struct report question = { .kind = kind };

	return report_ask(g->channel, &question);
}

/* kpopd-tls' first words on the plain side: it is ready, and its certificate's hash. Returns 0 or -1. */
static int
await_tls(struct preauth *g, int fd)
{
	struct io *io = calloc(1, sizeof(*io));
	unsigned char size;
	int result;

	if (io == NULL)
		fatal("calloc");
	io_init(io, fd, g->deadline);
	io->no_read_ahead = true;
	result = io_exact(io, &size, 1) == 0 && size <= sizeof(g->hash) &&
	    io_exact(io, g->hash, size) == 0 ? 0 : -1;
	g->hash_size = size;
	free(io);
	return result;
}

static int
prepare_tls(void *self)
{
	struct preauth *g = self;
	int fd = ask(g, REPORT_TLS);

	/* The monitor answers once: what failed is not tried again. */
	g->door.has_tls = false;
	if (fd == -1 || await_tls(g, fd) == -1)
		return -1;
	if (g->sasl != NULL)
		sasl_inside_tls(g->sasl, g->hash, g->hash_size);
	g->has_tls = true;
	return fd;
}

static int
authenticate(void *self, bool first, const void *token, size_t n,
    const void **challenge, size_t *size)
{
	struct preauth *g = self;

	if (first)
		sasl_begin(g->sasl);
	switch (sasl_step(g->sasl, token, n, challenge, size)) {
	case SASL_MORE:
		return 1;
	case SASL_DONE:
		return 0;
	default:
		return -1;
	}
}

static int
who(void *self, const char **wish)
{
	struct preauth *g = self;

	*wish = g->wish;
	return sasl_peer(g->sasl, &g->report.peer, g->wish);
}

/*
 * Puts what krb5.conf says into the jail, unless it is there: GSSAPI reads it
 * anew with every call. As root; nobody but the pre-auth process's group may read it, since
 * krb5.conf itself may be closed to others. Returns whether it is there: without
 * it, or with an older one, libkrb5 would know other rules than the admin's.
 */
static bool
keep_configuration(const struct preauth *g, const struct account *account)
{
	char path[PATH_MAX], temporary[PATH_MAX];
	static char old[CONFIGURATION_MOST];
	const char *text = auth_configuration(g->auth);
	ssize_t n = (ssize_t)strlen(text);
	bool whole = true;
	int fd;

	if (snprintf(path, sizeof(path), "%s/preauth/" CONFIGURATION, g->o->state) >= PATH_MAX ||
	    snprintf(temporary, sizeof(temporary), "%s.%ld", path, (long)getpid()) >= PATH_MAX)
		fatal("the state directory's name is too long");
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd == -1 || n > CONFIGURATION_MOST || read(fd, old, sizeof(old)) != n ||
	    memcmp(old, text, (size_t)n) != 0) {
		int new;

		/* A process that had this pid may have been killed here. */
		unlink(temporary);
		new = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);

		whole = new != -1 && fchown(new, 0, account->gid) == 0 && fchmod(new, 0640) == 0 &&
		    write(new, text, (size_t)n) == n && rename(temporary, path) == 0;
		if (!whole) {
			log_event(LOG_ERR, "failed", "what=\"copying krb5.conf into the jail\"");
			unlink(temporary);
		}
		if (new != -1)
			close(new);
	}
	if (fd != -1)
		close(fd);
	if (setenv("KRB5_CONFIG", "/" CONFIGURATION, 1) == -1)
		fatal("setenv");
	return whole;
}

/* In the jail: krb5.conf may be read, and no other file opened. */
static void
confine(void)
{
	const struct sandbox_path within = { open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), SANDBOX_READ };

	sandbox_shut_files(&within, 1);
	close(within.fd);
	sandbox_enter(SANDBOX_PREAUTH);
}

/* As root: opens the replay cache, and reads the keys. Without the cache everybody is refused, and the log has the reason. */
static void
open_keys(struct preauth *g, struct auth *auth)
{
	const struct options *o = g->o;
	struct replay *replay = replay_open(o->state, auth_skew(auth), g->deadline);

	if (auth_open(auth, o->keytab, o->service, replay) == 0)
		g->auth = auth;
}

/* As root: keys, then the jail. */
static void
prepare(struct preauth *g, const struct account *account, struct auth *auth)
{
	const struct options *o = g->o;

	privsep_make_jail(o->state, "preauth");
	if (auth != NULL)
		open_keys(g, auth);
	if (g->auth != NULL && o->pop3 && keep_configuration(g, account))
		g->sasl = sasl_open(g->auth);
	privsep_jail(o->state, "preauth", account);
	confine();
	io_init(&g->io, 0, g->deadline);
	g->door = (struct pop3_preauth){ .self = g, .has_gssapi = g->sasl != NULL,
		.has_tls = o->tls.works && o->tls.when != TLS_IMMEDIATE,
		.needs_tls = o->tls.when == TLS_REQUIRE,
		.prepare_tls = prepare_tls, .authenticate = authenticate, .get_authzid = who };
}

/* Reads the header of a proxy, and tells the monitor who is behind the proxy. Returns 0 or -1. */
static int
read_header(struct preauth *g)
{
	struct report peer = { .kind = REPORT_PEER };

	if (proxy_read(&g->io, peer.address) == -1)
		return -1;
	return peer.address[0] == '\0' ? 0 : report_send(g->channel, &peer);
}

/* Everything up to the login. Returns 0 with the user in the report, or -1. */
static int
let_in(struct preauth *g)
{
	struct report *r = &g->report;
	int fd;

	if (g->o->proxies.count > 0 && proxies_include_peer(&g->o->proxies, 0) &&
	    read_header(g) == -1)
		return -1;
	if (g->o->tls.when == TLS_IMMEDIATE) {
		if (!g->o->tls.works || (fd = prepare_tls(g)) == -1)
			return -1;
		io_switch(&g->io, fd);
		g->door.inside_tls = true;
	}
	if (!g->o->pop3) {
		if (g->auth == NULL) {
			io_printf(&g->io, "-ERR [SYS/PERM] the server has no Kerberos key\r\n");
			return -1;
		}
		if (sendauth_serve(&g->io, g->auth, &r->peer) == -1)
			return -1;
		g->door.principal = r->peer.principal;
	}
	return pop3_login(&g->io, &g->door, r->user, sizeof(r->user));
}

/* With a layer of GSSAPI what the client sends from now on is the relay's. */
static void
hand_over(struct preauth *g)
{
	const char *unread;
	size_t n = io_unread(&g->io, &unread);
	int handoff = ask(g, REPORT_LAYER);

	if (handoff == -1 || sasl_hand_over(g->sasl, handoff, unread, n) == -1)
		_exit(1);
}

void
preauth(const struct options *o, const struct account *account, struct auth *auth,
    int64_t deadline, int channel)
{
	static struct preauth g;
	const char *unread;

	g.o = o;
	g.channel = channel;
	g.deadline = deadline;
	g.report.kind = REPORT_LOGIN;
	prepare(&g, account, auth);
	if (let_in(&g) == -1) {
		io_linger(&g.io);
		_exit(0);
	}
	if (g.report.peer.layer[0] == '\0')
		strlcpy(g.report.peer.layer, g.has_tls ? "tls" : "none",
		    sizeof(g.report.peer.layer));
	if (g.sasl != NULL && sasl_has_layer(g.sasl))
		hand_over(&g);
	else {
		g.report.unread_size = (uint32_t)io_unread(&g.io, &unread);
		memcpy(g.report.unread, unread, g.report.unread_size);
	}
	if (report_send(channel, &g.report) == -1)
		fatal("report");
	_exit(0);
}
