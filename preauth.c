/*
 * Leads a connection until the login: PROXY header, TLS, ticket, USER and PASS
 * or AUTH.
 *
 * Runs in the pre-auth process: as root until enter_preauth_jail has ended,
 * then as the pre-auth user in its jail. The process reads the bytes of a
 * client that has not logged in, and has the service's key. So it can open no
 * file but krb5.conf, and write to no file but the replay cache, which root has
 * opened. It affects other processes only by the replay cache, the messages of
 * message.h, its log lines, the bytes that it writes on the cleartext side, and
 * the handover of a layer (sasl-handover.h).
 */
#include "config.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "auth.h"
#include "auth-keytab.h"
#include "auth-start.h"
#include "clock.h"
#include "log.h"
#include "message.h"
#include "pop3.h"
#include "pop3-auth.h"
#include "preauth.h"
#include "proxy.h"
#include "replay-cache.h"
#include "sandbox.h"
#include "sasl.h"
#include "sendauth.h"
#include "turn.h"

/* The file in the jail that GSSAPI reads in place of krb5.conf. */
#define KRB5_CONF "krb5.conf"
#define KRB5_CONF_MOST (1 << 20) /* the most bytes of it that are compared */
#define STAND_IN_MS                                                            \
	2000 /* for the client to take the answer of stand_in_for_session */

struct preauth {
	const struct options *o;
	int channel;     /* to the monitor */
	bool is_proxied; /* the connection begins with a PROXY header */
	int64_t deadline;
	struct io io;
	struct auth *auth; /* NULL: there is no key */
	struct sasl *sasl; /* NULL: AUTH GSSAPI is not offered */
	char authzid[SASL_AUTHZID];
	struct pop3_preauth door;
	bool has_tls;
	unsigned char hash[SASL_HASH]; /* the certificate's, inside TLS */
	size_t hash_size;
	struct preauth_message message;
};

/*
 * Sends the monitor a request, MESSAGE_TLS or MESSAGE_LAYER. Returns the
 * descriptor in the monitor's answer, or -1.
 */
static int
ask_monitor(struct preauth *g, char kind)
{
	struct preauth_message request = { .kind = kind };

	return message_ask(g->channel, &request);
}

/*
 * Waits until kpopd-tls is ready, which then sends its certificate's hash on
 * the cleartext side, fd. Returns 0 or -1.
 */
static int
await_tls(struct preauth *g, int fd)
{
	struct io *io = calloc(1, sizeof(*io));
	unsigned char size;
	int result = -1;

	if (io == NULL)
		fatal("calloc");
	io_init(io, fd, g->deadline);
	io->no_read_ahead = true;
	if (io_exact(io, &size, 1) == 0 && size <= sizeof(g->hash) &&
	    io_exact(io, g->hash, size) == 0) {
		g->hash_size = size;
		result = 0;
	}
	free(io);
	return result;
}

/* Starts TLS. Returns the socket of the cleartext side, or -1. */
static int
start_tls(void *self)
{
	struct preauth *g = self;
	int fd = ask_monitor(g, MESSAGE_TLS);

	/* The monitor grants one request, so a second attempt would fail. */
	g->door.has_tls = false;
	if (fd == -1 || await_tls(g, fd) == -1)
		return -1;
	if (g->sasl != NULL)
		sasl_enter_tls(g->sasl, g->hash, g->hash_size);
	g->has_tls = true;
	return fd;
}

/*
 * Takes a step of AUTH GSSAPI, as the callback authenticate of struct
 * pop3_preauth.
 */
static int
step_gssapi(void *self, bool first, const void *token, size_t n,
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

/*
 * After AUTH GSSAPI, gets the authorization identity, and fills the peer in the
 * login message. Returns 0 or -1.
 */
static int
get_gssapi_authzid(void *self, const char **authzid)
{
	struct preauth *g = self;

	*authzid = g->authzid;
	return sasl_peer(g->sasl, &g->message.peer, g->authzid);
}

/*
 * Returns true if the file at path has exactly this text of n bytes, and the
 * owner, group and mode that replace_file gives it. They differ if the pre-auth
 * user was made again with another group. Returns false if n is larger than
 * KRB5_CONF_MOST.
 */
static bool
is_copy(const char *path, const char *text, size_t n, gid_t gid)
{
	static char old[KRB5_CONF_MOST];
	struct stat st;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	bool same = fd != -1 && fstat(fd, &st) == 0 &&
	    st.st_mode == (S_IFREG | 0640) && st.st_uid == 0 &&
	    st.st_gid == gid && st.st_size == (off_t)n && n <= sizeof(old) &&
	    read(fd, old, sizeof(old)) == (ssize_t)n &&
	    memcmp(old, text, n) == 0;

	if (fd != -1)
		close(fd);
	return same;
}

/*
 * As root, replaces the file at path by this text of n bytes. Only the pre-auth
 * user's group may read it, because others may not be permitted to read
 * krb5.conf. Returns false (logged) if that failed.
 */
static bool
replace_file(const char *path, const char *text, size_t n, gid_t gid)
{
	char temporary[PATH_MAX];
	bool done;
	int fd;

	if (snprintf(temporary, sizeof(temporary), "%s.%ld", path,
		(long)getpid()) >= PATH_MAX)
		fatal("the path of the state directory is too long");
	/* A killed process that had this pid may have left the file. */
	unlink(temporary);
	fd = open(temporary,
	    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
	done = fd != -1 && fchown(fd, 0, gid) == 0 && fchmod(fd, 0640) == 0 &&
	    write(fd, text, n) == (ssize_t)n && rename(temporary, path) == 0;
	if (!done) {
		log_failed("copying krb5.conf to %s", path);
		unlink(temporary);
	}
	if (fd != -1)
		close(fd);
	return done;
}

/*
 * As root, puts the krb5.conf snapshot into the jail, where GSSAPI reads it in
 * each call. Returns false (logged) if the jail does not have it. Without the
 * file, or with an older one, libkrb5 would apply other rules than the
 * administrator's.
 */
static bool
provide_krb5_conf(const struct preauth *g, const struct account *account)
{
	char path[PATH_MAX];
	const char *text = auth_krb5conf(g->auth);
	size_t n = strlen(text);
	bool done;

	if (snprintf(path, sizeof(path), "%s/preauth/" KRB5_CONF,
		g->o->state) >= PATH_MAX)
		fatal("the path of the state directory is too long");
	done = is_copy(path, text, n, account->gid) ||
	    replace_file(path, text, n, account->gid);
	if (setenv("KRB5_CONFIG", "/" KRB5_CONF, 1) == -1)
		fatal("setenv");
	return done;
}

/*
 * In the jail, limits the process to reading krb5.conf, and to the system calls
 * of the pre-auth process.
 */
static void
confine_preauth(void)
{
	const struct sandbox_path jail = {
		open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), SANDBOX_READ
	};

	sandbox_shut_files(&jail, 1);
	close(jail.fd);
	sandbox_enter(SANDBOX_PREAUTH);
}

/*
 * As root, opens the replay cache and copies the keys; without keys g->auth
 * stays NULL. Without the cache every login is refused; the log has the reason.
 */
static void
open_keys(struct preauth *g, struct auth *auth)
{
	const struct options *o = g->o;

	auth_use_replay_cache(auth,
	    replay_open(o->state, auth_skew(auth), g->deadline));
	if (keytab_load(auth, o->keytab, o->service) == 0)
		g->auth = auth;
}

/*
 * As root, opens the replay cache and copies the keys. Then enters the jail, as
 * the pre-auth user.
 */
static void
enter_preauth_jail(struct preauth *g, const struct account *account,
    struct auth *auth)
{
	const struct options *o = g->o;

	privsep_make_jail(o->state, "preauth");
	open_keys(g, auth);
	if (g->auth != NULL && o->pop3 && provide_krb5_conf(g, account))
		g->sasl = sasl_open(g->auth);
	privsep_jail(o->state, "preauth", account);
	confine_preauth();
}

/* Prepares the buffered connection and the callbacks for POP3. */
static void
prepare_service(struct preauth *g)
{
	const struct options *o = g->o;

	io_init(&g->io, 0, g->deadline);
	g->door = (struct pop3_preauth){ .self = g,
		.has_gssapi = g->sasl != NULL,
		.has_tls = o->tls.works && o->tls.when != TLS_IMMEDIATE,
		.needs_tls = o->tls.when == TLS_REQUIRE,
		.prepare_tls = start_tls,
		.authenticate = step_gssapi,
		.get_authzid = get_gssapi_authzid };
}

/*
 * Reads a proxy's header, and sends the monitor the client's address that it
 * contains. Returns 0 or -1.
 */
static int
read_header(struct preauth *g)
{
	struct preauth_message peer = { .kind = MESSAGE_PEER };

	if (proxy_read(&g->io, &peer.address) == -1)
		return -1;
	return peer.address.text[0] == '\0' ?
	    0 :
	    message_send_preauth(g->channel, &peer);
}

/* Leads the sendauth exchange, for KPOP. Returns 0 or -1. */
static int
serve_kpop(struct preauth *g)
{
	if (g->auth == NULL) {
		io_printf(&g->io,
		    "-ERR [SYS/PERM] the server has no Kerberos key\r\n");
		return -1;
	}
	if (sendauth_serve(&g->io, g->auth, &g->message.peer) == -1)
		return -1;
	g->door.principal = g->message.peer.principal;
	return 0;
}

/*
 * Serves the client until its login. Returns 0 with g->message filled, or -1.
 */
static int
serve_client(struct preauth *g)
{
	const struct options *o = g->o;
	int fd;

	if (g->is_proxied && read_header(g) == -1)
		return -1;
	if (o->tls.when == TLS_IMMEDIATE) {
		if (!o->tls.works || (fd = start_tls(g)) == -1)
			return -1;
		io_switch(&g->io, fd);
		g->door.inside_tls = true;
	}
	if (!o->pop3 && serve_kpop(g) == -1)
		return -1;
	return pop3_login(&g->io, &g->door, g->message.user,
	    sizeof(g->message.user));
}

/*
 * Hands the GSSAPI layer over to the relay. Hands over the bytes that the
 * client has sent after the login, too, because these are inside the layer.
 */
static void
hand_over_layer(struct preauth *g)
{
	const char *unread;
	size_t n = io_unread(&g->io, &unread);
	int handoff = ask_monitor(g, MESSAGE_LAYER);

	if (handoff == -1 || sasl_hand_over(g->sasl, handoff, unread, n) == -1)
		_exit(1);
}

/* Hands the bytes that the client has sent after the login to the session. */
static void
keep_unread(struct preauth *g)
{
	const char *unread;

	g->message.unread_size = (uint32_t)io_unread(&g->io, &unread);
	memcpy(g->message.unread, unread, g->message.unread_size);
}

/*
 * Waits while the monitor and the session look for the user, the state and the
 * mailbox. If the turn is still free when the client must be answered, or when
 * the monitor has ended, answers that the mailbox is not available.
 */
static void
stand_in_for_session(struct preauth *g)
{
	struct pollfd monitor = { .fd = g->channel, .events = 0 };
	int64_t now = clock_ms();
	int64_t end = turn_end(g->deadline, g->o->login, now);

	poll(&monitor, 1, (int)(end - now));
	if (!turn_take())
		return;
	g->io.deadline = clock_ms() + STAND_IN_MS;
	pop3_unavailable(&g->io, DROP_FAILED);
	io_linger(&g->io);
}

void
preauth(const struct options *o, const struct account *account,
    struct auth *auth, bool is_proxied, int64_t deadline, int channel)
{
	static struct preauth g;
	bool has_layer;

	g.o = o;
	g.channel = channel;
	g.is_proxied = is_proxied;
	g.deadline = deadline;
	g.message.kind = MESSAGE_LOGIN;
	enter_preauth_jail(&g, account, auth);
	turn_retake();
	prepare_service(&g);
	if (serve_client(&g) == -1) {
		io_linger(&g.io);
		_exit(0);
	}
	if (g.message.peer.layer[0] == '\0')
		strlcpy(g.message.peer.layer, g.has_tls ? "tls" : "none",
		    sizeof(g.message.peer.layer));
	has_layer = g.sasl != NULL && sasl_has_layer(g.sasl);
	if (has_layer)
		hand_over_layer(&g);
	else
		keep_unread(&g);
	turn_give();
	if (message_send_preauth(channel, &g.message) == -1)
		fatal("sending the login to the monitor");
	/* This process cannot write through the layer. */
	if (!has_layer)
		stand_in_for_session(&g);
	_exit(0);
}
