/*
 * Obeys POP3 clients in AUTHORIZATION: USER and PASS, AUTH, STLS.
 *
 * Runs as the pre-auth user in its jail. The client is not authenticated yet,
 * so the size of a token and the number of attempts are bounded. Commands that
 * arrive in cleartext after STLS are never obeyed.
 *
 * RFC 1939 §4, RFC 2595 §4 (STLS), RFC 5034 (AUTH).
 */
#include "config.h"

#include <inttypes.h>
#include <netinet/in.h>
#include <resolv.h>
#include <string.h>
#include <strings.h>

#include "log.h"
#include "pop3-auth.h"

#define TOKEN 65536 /* bytes of a SASL token */
/* Bytes of a buffer for a token in base64, with CRLF or a NUL. */
#define TOKEN_LINE (4 * ((TOKEN + 2) / 3) + 3)
/* Bytes of a buffer for the token in the longest possible line. */
#define TOKEN_ROOM (TOKEN + POP3_LINE)
#define ATTEMPTS 3 /* this many failed attempts of AUTH end the connection */
#define AUTH_GSSAPI "AUTH GSSAPI "

/* The results of read_token that are not a size. */
#define TOKEN_REFUSED (-1)
#define TOKEN_LOST (-2)

struct authorization {
	const struct pop3_preauth *preauth;
	/* The caller's buffer for USER's argument or AUTH's authzid. */
	char *user;
	size_t user_size;
	bool has_user, inside_tls;
	int attempts; /* failed attempts of AUTH */
};

/* Returns true if STLS would be obeyed now. */
static bool
can_stls(const struct authorization *a)
{
	return a->preauth->has_tls && !a->inside_tls;
}

/*
 * Returns true if TLS is required for a login and the connection is not inside
 * TLS.
 */
static bool
lacks_tls(const struct authorization *a)
{
	return a->preauth->needs_tls && !a->inside_tls;
}

/* Refuses a login outside TLS, because TLS is required. */
static enum pop3_verdict
require_tls(struct pop3 *p)
{
	p->refused = "login without TLS, which is required";
	return pop3_err(p, "[AUTH] STLS comes first here");
}

static void
put_login_capabilities(struct pop3 *p)
{
	const struct authorization *a = p->authorization;

	if (a->preauth->principal != NULL)
		io_printf(p->io, "USER\r\n");
	if (a->preauth->has_gssapi && !lacks_tls(a))
		io_printf(p->io, "SASL GSSAPI\r\n");
	if (can_stls(a))
		io_printf(p->io, "STLS\r\n");
}

static enum pop3_verdict
user(struct pop3 *p, int count, char **args)
{
	struct authorization *a = p->authorization;

	(void)count;
	if (lacks_tls(a))
		return require_tls(p);
	a->has_user = strlcpy(a->user, args[1], a->user_size) < a->user_size;
	if (!a->has_user)
		return pop3_err(p, "no user has a name that long");
	return pop3_ok(p, "PASS comes next, with anything");
}

/*
 * Accepts the login. The argument of PASS is ignored, because the ticket has
 * already proven who the client is.
 */
static enum pop3_verdict
accept_pass(struct pop3 *p, int count, char **args)
{
	(void)count, (void)args;
	if (!p->authorization->has_user)
		return pop3_err(p, "USER comes first");
	return POP3_LOGIN;
}

/*
 * Refuses USER, PASS and APOP in POP3 mode, because no ticket has come with the
 * connection.
 */
static enum pop3_verdict
refuse_password(struct pop3 *p, int count, char **args)
{
	(void)count, (void)args;
	p->refused = "login by password, and only AUTH GSSAPI is served";
	return pop3_err(p, "[AUTH] no passwords here, only AUTH GSSAPI");
}

/*
 * Begins TLS. Ends the connection if cleartext follows STLS, because a third
 * party may have inserted this cleartext. It must not be obeyed like commands
 * that come inside TLS (RFC 2595 §4; CVE-2011-0411).
 */
static enum pop3_verdict
stls(struct pop3 *p, int count, char **args)
{
	struct authorization *a = p->authorization;
	const char *unread;
	int fd;

	(void)count, (void)args;
	if (a->inside_tls)
		return pop3_err(p, "TLS has begun already");
	p->refused = can_stls(a) ? NULL : "STLS, which is not offered";
	if (!can_stls(a))
		return pop3_err(p, "no TLS here");
	if (io_unread(p->io, &unread) > 0) {
		p->refused = "cleartext commands after STLS";
		pop3_err(p, "nothing may follow STLS before TLS");
		return POP3_LEAVE;
	}
	/*
	 * If prepare_tls fails, kpopd-tls may already have the connection, so
	 * do not read further commands.
	 */
	if ((fd = a->preauth->prepare_tls(a->preauth->self)) == -1) {
		pop3_err(p, "[SYS/TEMP] TLS cannot be had now");
		p->end = "TLS failed";
		return POP3_LEAVE;
	}
	pop3_ok(p, "begin TLS");
	if (io_flush(p->io) == -1)
		return POP3_LEAVE;
	io_switch(p->io, fd);
	a->inside_tls = true;
	a->has_user = p->has_spoken = false;
	return POP3_GO_ON;
}

/*
 * Writes a SASL challenge of n bytes. Returns true, or false if it is too
 * large.
 */
static bool
put_challenge(struct pop3 *p, const void *challenge, size_t n)
{
	static char text[TOKEN_LINE];

	if (b64_ntop(challenge, n, text, sizeof(text)) == -1)
		return false;
	io_write(p->io, "+ ", 2);
	io_write(p->io, text, strlen(text));
	io_write(p->io, "\r\n", 2);
	return true;
}

/* Logs why an attempt of AUTH ends, and answers with text. */
static enum pop3_verdict
refuse_auth(struct pop3 *p, const char *reason, const char *text)
{
	log_event(LOG_NOTICE, "refused", "reason=\"GSSAPI: %s\"", reason);
	return pop3_err(p, text);
}

/*
 * Refuses a token of n bytes. Logs the size, because it may be due to a ticket
 * that lists many groups of the user.
 */
static enum pop3_verdict
refuse_token(struct pop3 *p, uint64_t n)
{
	log_event(LOG_NOTICE, "refused",
	    "reason=\"GSSAPI token of %" PRIu64 " bytes\"", n);
	return pop3_err(p, "the token is too large");
}

/*
 * Decodes base64 into token[TOKEN_ROOM]. Returns the token's size. If the token
 * is too large or text is not base64, sends a refusal and returns
 * TOKEN_REFUSED.
 */
static int
decode_token(struct pop3 *p, const char *text, unsigned char *token)
{
	int n = b64_pton(text, token, TOKEN_ROOM);

	if (n == -1)
		refuse_auth(p, "not base64", "this is not base64");
	if (n > TOKEN)
		refuse_token(p, (uint64_t)n);
	return n <= TOKEN ? n : TOKEN_REFUSED;
}

/* Returns how many bytes are encoded in n bytes of base64. */
static uint64_t
decoded_size(uint64_t n)
{
	return n / 4 * 3;
}

/*
 * Reads a line with the client's next token into token[TOKEN_ROOM]. Returns the
 * token's size, or TOKEN_LOST if the connection has ended. If the client
 * cancels or the line is not a token, sends a refusal and returns
 * TOKEN_REFUSED.
 */
static int
read_token(struct pop3 *p, unsigned char *token)
{
	static char line[TOKEN_LINE];
	int n = io_line(p->io, line, sizeof(line));

	if (n == IO_LINE_ERROR)
		return TOKEN_LOST;
	if (n == IO_LINE_LONG) {
		refuse_token(p, decoded_size(p->io->line_size));
		return TOKEN_REFUSED;
	}
	if (strcmp(line, "*") == 0) {
		refuse_auth(p, "cancelled by the client", "cancelled");
		return TOKEN_REFUSED;
	}
	/*
	 * An empty token is an empty line. "=" means an empty token only as
	 * AUTH's argument, but some clients send "=" here, too.
	 */
	if (strcmp(line, "=") == 0)
		return 0;
	/*
	 * If the line contains a NUL, decode "!" in its place. "!" is refused
	 * because it is not base64.
	 */
	return decode_token(p, strlen(line) == (size_t)n ? line : "!", token);
}

/*
 * Exchanges the tokens of AUTH. token contains the initial response of n bytes
 * (0: none).
 */
static enum pop3_verdict
exchange_tokens(struct pop3 *p, unsigned char *token, int n)
{
	struct authorization *a = p->authorization;
	const struct pop3_preauth *preauth = a->preauth;
	const void *challenge = "";
	const char *authzid;
	size_t size = 0;
	/* Without an initial response the first challenge is empty. */
	int result = n == 0 ? 1 :
			      preauth->authenticate(preauth->self, true, token,
				  (size_t)n, &challenge, &size);
	bool first = n == 0;

	while (result == 1) {
		if (!put_challenge(p, challenge, size))
			return pop3_err(p, "[SYS/TEMP] a token too large");
		if ((n = read_token(p, token)) < 0)
			return n == TOKEN_REFUSED ? POP3_GO_ON : POP3_LEAVE;
		result = preauth->authenticate(preauth->self, first, token,
		    (size_t)n, &challenge, &size);
		first = false;
	}
	/*
	 * Refuse an authzid that does not fit. If it were truncated, it could
	 * be another user's name. An empty authzid is valid and means the
	 * principal's own user name.
	 */
	if (result == -1 ||
	    preauth->get_authzid(preauth->self, &authzid) == -1 ||
	    strlcpy(a->user, authzid, a->user_size) >= a->user_size)
		return pop3_err(p, "[AUTH] not authenticated");
	return POP3_LOGIN;
}

/*
 * Counts the failed attempts of AUTH. An attempt has failed if its verdict is
 * POP3_GO_ON. Returns verdict, or POP3_LEAVE after ATTEMPTS failures.
 */
static enum pop3_verdict
count_attempt(struct pop3 *p, enum pop3_verdict verdict)
{
	if (verdict != POP3_GO_ON || ++p->authorization->attempts < ATTEMPTS)
		return verdict;
	p->end = "too many attempts";
	return POP3_LEAVE;
}

static enum pop3_verdict
auth(struct pop3 *p, int count, char **args)
{
	static unsigned char token[TOKEN_ROOM];
	const struct authorization *a = p->authorization;
	int n = 0;

	if (count == 1) {
		pop3_ok(p, "mechanisms follow");
		if (a->preauth->has_gssapi && !lacks_tls(a))
			io_printf(p->io, "GSSAPI\r\n");
		return pop3_end_lines(p);
	}
	p->refused = NULL;
	if (strcasecmp(args[1], "GSSAPI") != 0) {
		p->refused = "AUTH by another mechanism than GSSAPI";
		return pop3_err(p, "[AUTH] the only mechanism is GSSAPI");
	}
	if (!a->preauth->has_gssapi)
		return pop3_err(p, "[SYS/PERM] the server has no Kerberos key");
	if (lacks_tls(a))
		return require_tls(p);
	if (count > 2 && strcmp(args[2], "=") != 0 &&
	    (n = decode_token(p, args[2], token)) == TOKEN_REFUSED)
		return count_attempt(p, POP3_GO_ON);
	return count_attempt(p, exchange_tokens(p, token, n));
}

static enum pop3_verdict
quit_login(struct pop3 *p, int count, char **args)
{
	(void)count, (void)args;
	pop3_ok(p, "bye");
	p->end = "left";
	return POP3_LEAVE;
}

/*
 * Refuses a line that is too long. If the line begins with AUTH GSSAPI, and
 * that command would be obeyed now, refuses the token as too large.
 */
static enum pop3_verdict
refuse_long_auth(struct pop3 *p, const char *line)
{
	const struct authorization *a = p->authorization;
	const size_t n = sizeof(AUTH_GSSAPI) - 1;

	if (strncasecmp(line, AUTH_GSSAPI, n) != 0 || !a->preauth->has_gssapi ||
	    lacks_tls(a))
		return pop3_not_understood(p, "line too long");
	return count_attempt(p,
	    refuse_token(p, decoded_size(p->io->line_size - n)));
}

/* KPOP: the ticket came before the greeting. */
static const struct pop3_command kpop_commands[] = {
	{ "CAPA", 0, 0, pop3_capa },
	{ "STLS", 0, 0, stls },
	{ "UTF8", 0, 0, pop3_utf8 },
	{ "USER", 1, POP3_TEXT, user },
	{ "PASS", 0, POP3_ANY, accept_pass },
	{ "QUIT", 0, 0, quit_login },
	{ NULL, 0, 0, NULL },
};

/* POP3 mode. */
static const struct pop3_command gssapi_commands[] = {
	{ "CAPA", 0, 0, pop3_capa },
	{ "STLS", 0, 0, stls },
	{ "UTF8", 0, 0, pop3_utf8 },
	{ "AUTH", 0, 2, auth },
	{ "USER", 0, POP3_ANY, refuse_password },
	{ "PASS", 0, POP3_ANY, refuse_password },
	{ "APOP", 0, POP3_ANY, refuse_password },
	{ "QUIT", 0, 0, quit_login },
	{ NULL, 0, 0, NULL },
};

/*
 * RFC 5034 §4 permits an initial response only if it fits in a command line. A
 * Kerberos token never fits, so kpopd accepts longer lines for AUTH.
 */
static char login_line[TOKEN_LINE + POP3_LINE];

static const struct pop3_state kpop_state = { .commands = kpop_commands,
	.line = login_line,
	.line_size = POP3_LINE,
	.put_capabilities = put_login_capabilities };
static const struct pop3_state gssapi_state = { .commands = gssapi_commands,
	.line = login_line,
	.line_size = sizeof(login_line),
	.long_command = "AUTH ",
	.refuse_long = refuse_long_auth,
	.put_capabilities = put_login_capabilities };

/*
 * Returns true if the client ended the connection before it sent a byte of
 * KPOP, TLS or POP3.
 */
static bool
was_silent(const struct pop3 *p)
{
	const struct pop3_preauth *preauth = p->authorization->preauth;

	return preauth->principal == NULL && !p->has_spoken &&
	    p->authorization->inside_tls == preauth->inside_tls &&
	    p->io->error == IO_CLOSED && p->io->line_size == 0;
}

/*
 * Logs why there is no login: the reason of the last refusal, or else how the
 * connection ended.
 */
static void
log_no_login(const struct pop3 *p)
{
	if (was_silent(p))
		log_closed();
	else if (p->refused != NULL)
		log_event(LOG_NOTICE, "refused", "reason=\"%s\"", p->refused);
	else
		log_event(LOG_NOTICE, "refused", "reason=\"no login: %s\"",
		    pop3_why_ended(p));
}

int
pop3_login(struct io *io, const struct pop3_preauth *preauth, char *user_name,
    size_t size)
{
	struct authorization a = { .preauth = preauth,
		.user = user_name,
		.user_size = size,
		.inside_tls = preauth->inside_tls };
	struct pop3 p = { .io = io,
		.authorization = &a,
		.state =
		    preauth->principal != NULL ? &kpop_state : &gssapi_state };

	pop3_ok(&p, "kpopd at your service");
	/*
	 * Send waiting answers before passing the login on. If the client has
	 * gone, this function must log that, because no session will be started
	 * that could log it.
	 */
	if (pop3_obey(&p) == POP3_LOGIN && io_flush(io) == 0)
		return 0;
	log_no_login(&p);
	return -1;
}
