/*
 * A fast, blocking POP3 connection for the bench's client. Its layers are in
 * the same process.
 *
 * Runs as root. Tickets are fetched once, before anything is timed. If the
 * client needed much time, the servers' times would not be visible. So this
 * client reads large pieces. It knows the sizes of answers, and skips the bytes
 * that it does not examine.
 */
#include "config.h"

#include <sys/socket.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <err.h>
#include <gssapi/gssapi.h>
#include <gssapi/gssapi_krb5.h>
#include <krb5.h>
#include <openssl/ssl.h>
#include <resolv.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "line.h"

#define BUFFER 262144
#define TOKEN 65536

static int fd = -1;
static char in[BUFFER];
static size_t at, end;
static SSL_CTX *tls_context;
static SSL *tls;
static gss_ctx_id_t gss = GSS_C_NO_CONTEXT;
static gss_cred_id_t gss_cred = GSS_C_NO_CREDENTIAL;
static gss_name_t gss_service;
static bool has_layer; /* the context "gss" has a layer */
static krb5_context krb5;
static krb5_ccache ccache;
static krb5_creds wanted, *ticket;

static void
must_krb5(krb5_error_code code, const char *what)
{
	if (code != 0)
		errx(1, "%s: %s", what, krb5_get_error_message(krb5, code));
}

static void
must_gss(OM_uint32 major, const char *what)
{
	if (GSS_ERROR(major))
		errx(1, "GSSAPI: %s: %x", what, (unsigned)major);
}

static void
prepare_kpop(const struct how *how)
{
	must_krb5(krb5_init_context(&krb5), "libkrb5");
	must_krb5(krb5_cc_default(krb5, &ccache), "ccache");
	must_krb5(krb5_cc_get_principal(krb5, ccache, &wanted.client),
	    "no ticket");
	must_krb5(krb5_sname_to_principal(krb5, how->host, "pop",
		      KRB5_NT_SRV_HST, &wanted.server),
	    how->host);
	must_krb5(krb5_get_credentials(krb5, 0, ccache, &wanted, &ticket),
	    "no ticket for the service");
}

static void
prepare_gss(const struct how *how)
{
	char name[256];
	gss_buffer_desc text = {
		(size_t)snprintf(name, sizeof(name), "pop@%s", how->host), name
	};
	OM_uint32 minor;

	must_gss(gss_import_name(&minor, &text, GSS_C_NT_HOSTBASED_SERVICE,
		     &gss_service),
	    "name");
	must_gss(gss_acquire_cred(&minor, GSS_C_NO_NAME, GSS_C_INDEFINITE,
		     GSS_C_NO_OID_SET, GSS_C_INITIATE, &gss_cred, NULL, NULL),
	    "tickets");
}

/*
 * Prepares TLS 1.3, which all servers have. Each session is a full handshake,
 * because no ticket for a resumption is kept. The certificate is not verified
 * up to a root.
 */
static void
prepare_tls(void)
{
	tls_context = SSL_CTX_new(TLS_client_method());
	if (tls_context == NULL ||
	    SSL_CTX_set_min_proto_version(tls_context, TLS1_3_VERSION) != 1)
		errx(1, "OpenSSL does not start");
}

void
line_prepare(const struct how *how)
{
	if (how->login == LOGIN_KPOP)
		prepare_kpop(how);
	if (how->login == LOGIN_GSSAPI)
		prepare_gss(how);
	if (how->layer == LAYER_TLS)
		prepare_tls();
}

static void
write_all(const char *data, size_t n)
{
	while (n > 0) {
		ssize_t put = tls != NULL ? SSL_write(tls, data, (int)n) :
					    write(fd, data, n);

		if (put <= 0)
			err(1, "the connection broke");
		data += put;
		n -= (size_t)put;
	}
}

static size_t
read_some(char *data, size_t n)
{
	ssize_t got =
	    tls != NULL ? SSL_read(tls, data, (int)n) : read(fd, data, n);

	if (got == -1)
		err(1, "the connection broke");
	if (got <= 0)
		errx(1, "the server closed the connection");
	return (size_t)got;
}

static void
read_exact(char *data, size_t n)
{
	while (n > 0) {
		size_t got = read_some(data, n);

		data += got;
		n -= got;
	}
}

/* Reads one token of the layer and appends its text to the input. */
static void
fill_from_token(void)
{
	static char token[TOKEN + 4096];
	unsigned char length[4];
	gss_buffer_desc wrapped = { 0, token }, text;
	OM_uint32 minor;

	read_exact((char *)length, sizeof(length));
	wrapped.length = (size_t)length[0] << 24 | (size_t)length[1] << 16 |
	    (size_t)length[2] << 8 | length[3];
	if (wrapped.length > sizeof(token))
		errx(1, "a token is too large");
	read_exact(token, wrapped.length);
	must_gss(gss_unwrap(&minor, gss, &wrapped, &text, NULL, NULL),
	    "unwrap");
	if (text.length > sizeof(in) - end)
		errx(1, "no room for a token");
	memcpy(in + end, text.value, text.length);
	end += text.length;
	gss_release_buffer(&minor, &text);
}

static void
fill(void)
{
	memmove(in, in + at, end - at);
	end -= at;
	at = 0;
	if (end == sizeof(in))
		errx(1, "a line without an end");
	if (has_layer)
		fill_from_token();
	else
		end += read_some(in + end, sizeof(in) - end);
}

void
line_send(const char *data, size_t n)
{
	unsigned char length[4];
	gss_buffer_desc text = { n, (void *)data }, wrapped;
	OM_uint32 minor;

	if (!has_layer) {
		write_all(data, n);
		return;
	}
	must_gss(gss_wrap(&minor, gss, 1, GSS_C_QOP_DEFAULT, &text, NULL,
		     &wrapped),
	    "wrap");
	for (int i = 0; i < 4; i++)
		length[i] = (unsigned char)(wrapped.length >> (24 - 8 * i));
	write_all((const char *)length, sizeof(length));
	write_all(wrapped.value, wrapped.length);
	gss_release_buffer(&minor, &wrapped);
}

void
line_write(const char *format, ...)
{
	static char text[TOKEN * 2];
	va_list ap;
	size_t n;

	va_start(ap, format);
	n = (size_t)vsnprintf(text, sizeof(text) - 2, format, ap);
	va_end(ap);
	memcpy(text + n, "\r\n", 3);
	line_send(text, n + 2);
}

const char *
line_read(void)
{
	char *line, *line_end;

	while ((line_end = memchr(in + at, '\n', end - at)) == NULL)
		fill();
	line = in + at;
	at = (size_t)(line_end - in) + 1;
	if (line_end > line && line_end[-1] == '\r')
		line_end--;
	*line_end = '\0';
	return line;
}

const char *
line_read_good(void)
{
	const char *line = line_read();

	if (strncmp(line, "+OK", 3) != 0)
		errx(1, "the server answered: %s", line);
	return line;
}

size_t
line_skip(size_t least)
{
	static const char dot[] = "\r\n.\r\n";
	size_t all = 0;
	const char *found;

	if (least < 2)
		least = 0;
	while (least > end - at + 2) {
		least -= end - at;
		all += end - at;
		at = end;
		fill();
	}
	/*
	 * The final dot may follow the first line immediately. The end of that
	 * line has already been read.
	 */
	while (end - at < 3)
		fill();
	if (least == 0 && memcmp(in + at, ".\r\n", 3) == 0) {
		at += 3;
		return 0;
	}
	if (least > 2) {
		at += least - 2;
		all += least - 2;
	}
	while ((found = memmem(in + at, end - at, dot, 5)) == NULL) {
		size_t done = end - at > 4 ? end - at - 4 : 0;

		at += done;
		all += done;
		fill();
	}
	all += (size_t)(found - (in + at)) + 2;
	at = (size_t)(found - in) + 5;
	return all;
}

static void
begin_tls(void)
{
	SSL *new = SSL_new(tls_context);

	line_write("STLS");
	line_read_good();
	if (new == NULL || SSL_set_fd(new, fd) != 1 || SSL_connect(new) != 1)
		errx(1, "no TLS");
	tls = new;
}

static void
greet(const struct how *how)
{
	line_read_good();
	if (how->layer == LAYER_TLS)
		begin_tls();
}

static void
send_ticket(void)
{
	krb5_auth_context auth = NULL;

	must_krb5(krb5_sendauth(krb5, &auth, &fd, (char *)"KPOPV1.0",
		      wanted.client, wanted.server, AP_OPTS_MUTUAL_REQUIRED,
		      NULL, ticket, ccache, NULL, NULL, NULL),
	    "sendauth");
	krb5_auth_con_free(krb5, auth);
}

/* Sends a token. Returns the server's next token. */
static gss_buffer_desc
trade(const gss_buffer_desc *out)
{
	static char text[TOKEN * 2];
	static unsigned char token[TOKEN];
	const char *answer;
	int n;

	if (b64_ntop(out->value, out->length, text, sizeof(text)) == -1)
		errx(1, "a token is too large");
	line_write("%s", text);
	answer = line_read();
	if (strncmp(answer, "+ ", 2) != 0)
		errx(1, "the server answered: %s", answer);
	n = b64_pton(answer + 2, token, sizeof(token));
	return (gss_buffer_desc){ n > 0 ? (size_t)n : 0, token };
}

/*
 * Sends the chosen layer and the mailbox's user. This ends the exchange (RFC
 * 4752).
 */
static void
choose(const struct how *how, gss_buffer_t offer)
{
	static char text[TOKEN];
	unsigned char choice[4 + 256] = { how->layer == LAYER_GSSAPI ? 4 : 1 };
	gss_buffer_desc plain, wrapped;
	OM_uint32 minor;

	must_gss(gss_unwrap(&minor, gss, offer, &plain, NULL, NULL),
	    "the offer of layers");
	gss_release_buffer(&minor, &plain);
	if (how->layer == LAYER_GSSAPI)
		choice[1] = TOKEN >> 16;
	memcpy(choice + 4, how->user, strlen(how->user));
	plain = (gss_buffer_desc){ 4 + strlen(how->user), choice };
	must_gss(gss_wrap(&minor, gss, 0, GSS_C_QOP_DEFAULT, &plain, NULL,
		     &wrapped),
	    "the choice of a layer");
	if (b64_ntop(wrapped.value, wrapped.length, text, sizeof(text)) == -1)
		errx(1, "a token is too large");
	gss_release_buffer(&minor, &wrapped);
	line_write("%s", text);
	line_read_good();
	has_layer = how->layer == LAYER_GSSAPI;
}

static void
authenticate(const struct how *how)
{
	gss_buffer_desc received = { 0, NULL }, out;
	OM_uint32 major, minor;

	line_write("AUTH GSSAPI");
	if (line_read()[0] != '+')
		errx(1, "no AUTH GSSAPI");
	do {
		major = gss_init_sec_context(&minor, gss_cred, &gss,
		    gss_service, (gss_OID)gss_mech_krb5,
		    GSS_C_MUTUAL_FLAG | GSS_C_INTEG_FLAG | GSS_C_CONF_FLAG |
			GSS_C_SEQUENCE_FLAG,
		    0, GSS_C_NO_CHANNEL_BINDINGS, &received, NULL, &out, NULL,
		    NULL);
		must_gss(major, "no ticket for the server");
		received = trade(&out);
		gss_release_buffer(&minor, &out);
	} while ((major & GSS_S_CONTINUE_NEEDED) != 0);
	choose(how, &received);
}

void
line_login(const struct how *how)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)how->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int on = 1;

	if ((fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) == -1 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == -1)
		err(1, "connecting to port %d", how->port);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (how->login == LOGIN_KPOP)
		send_ticket();
	greet(how);
	if (how->login == LOGIN_GSSAPI) {
		authenticate(how);
		return;
	}
	line_write("USER %s", how->user);
	line_read_good();
	line_write("PASS %s", how->password);
	line_read_good();
}

void
line_close(void)
{
	OM_uint32 minor;

	SSL_free(tls);
	tls = NULL;
	gss_delete_sec_context(&minor, &gss, GSS_C_NO_BUFFER);
	has_layer = false;
	close(fd);
	at = end = 0;
}
