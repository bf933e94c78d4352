/*
 * Logs in by AUTH GSSAPI and can break every rule of the security layer.
 *
 * 	gsstalk LAYER MOST HOW [USER [PORT [BINDING]]]
 *
 * LAYER is 1, 2 or 4. MOST is the size of the largest token that gsstalk claims
 * to accept. HOW is one of
 *
 * 	well     breaks no rule
 * 	initial  breaks no rule; sends an initial response
 * 	oneway   breaks no rule; asks for no mutual authentication
 * 	equals   breaks no rule; sends "=" for an empty token
 * 	flip, short, zero, huge, large, clear, skip, none
 * 	         a good DELE 1, then a QUIT with a wrong token of this kind
 * 	replay   a good DELE 1, its token again, and a QUIT
 * 	after    good tokens after the QUIT
 * 	tiny     good tokens of one byte of text each
 * 	nothing  good tokens without text
 * 	pieces   a good token, each byte in a separate packet
 * 	full     a good token of the largest size
 *
 * BINDING is the data of the channel bindings, in base64, because they may
 * contain a NUL.
 *
 * Prints the server's answers, and the size of the server's largest token.
 * Exits with 0 if the server has authenticated gsstalk and the connection has
 * ended. Runs as the caller, with the default ccache, against 127.0.0.1:1109.
 */
#include "config.h"

#include <sys/socket.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <gssapi/gssapi.h>
#include <gssapi/gssapi_krb5.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST 100000 /* largest size of a line */

static int fd;
static gss_ctx_id_t context;
static unsigned layer;
static size_t largest;   /* size of the server's largest token */
static int is_after;     /* the server may close the connection from now on */
static int sends_equals; /* sends "=" for an empty token */
/* The channel bindings that BINDING specifies. */
static struct gss_channel_bindings_struct bindings;

_Noreturn static void
stop(const char *why)
{
	fprintf(stderr, "gsstalk: %s\n", why);
	exit(1);
}

/* Sends n bytes. */
static void
put(const void *p, size_t n)
{
	if (send(fd, p, n, MSG_NOSIGNAL) != (ssize_t)n && !is_after)
		stop("cannot send");
}

/* Reads n bytes. Returns 0, or -1 at the end. */
static int
get(void *p, size_t n)
{
	for (size_t at = 0; at < n;) {
		ssize_t got = read(fd, (char *)p + at, n - at);

		if (got <= 0)
			return -1;
		at += (size_t)got;
	}
	return 0;
}

/* Reads a line with its end. */
static void
get_line(char *line)
{
	size_t n = 0;

	do
		if (n == MOST || get(line + n, 1) == -1)
			stop("no line");
	while (line[n++] != '\n');
	line[n] = '\0';
}

/*
 * Sends a token, and stores the server's next token in next[]. If "next" is
 * NULL, sends nothing and reads a line. Returns the size of the server's token.
 * Returns -1 if the server sends no token, and stores the server's answer in
 * line[].
 */
static int
trade(const void *token, size_t n, unsigned char *next, char *line)
{
	static char text[MOST];

	if (next != NULL) {
		b64_ntop(token, n, text, sizeof(text));
		if (n == 0 && sends_equals)
			strcpy(text, "=");
		strcat(text, "\r\n");
		put(text, strlen(text));
	}
	get_line(line);
	return next != NULL && strncmp(line, "+ ", 2) == 0 ?
	    b64_pton(line + 2, next, MOST) :
	    -1;
}

/* Performs AUTH GSSAPI. Ends the process if the server refuses. */
static void
authenticate(size_t most, const char *user, int initial, OM_uint32 mutual)
{
	static unsigned char token[MOST];
	static char line[MOST + 1];
	char name[] = "pop@mail.kpopd.test";
	gss_buffer_desc text = { sizeof(name) - 1, name }, in = { 0, token },
			out;
	gss_name_t service;
	OM_uint32 major, minor;
	unsigned char choice[300] = { (unsigned char)layer,
		(unsigned char)(most >> 16), (unsigned char)(most >> 8),
		(unsigned char)most };
	int n;

	get_line(line);
	put(initial ? "AUTH GSSAPI " : "AUTH GSSAPI\r\n", initial ? 12 : 13);
	if (!initial)
		trade(NULL, 0, NULL, line);
	gss_import_name(&minor, &text, GSS_C_NT_HOSTBASED_SERVICE, &service);
	do {
		major = gss_init_sec_context(&minor, GSS_C_NO_CREDENTIAL,
		    &context, service, (gss_OID)gss_mech_krb5,
		    mutual | GSS_C_INTEG_FLAG | GSS_C_CONF_FLAG |
			GSS_C_SEQUENCE_FLAG | GSS_C_REPLAY_FLAG,
		    0,
		    bindings.application_data.length > 0 ?
			&bindings :
			GSS_C_NO_CHANNEL_BINDINGS,
		    &in, NULL, &out, NULL, NULL);
		if (GSS_ERROR(major))
			stop("gss_init_sec_context");
		n = trade(out.value, out.length, token, line);
		if (n == -1) {
			printf("%s", line);
			exit(1);
		}
		in.length = (size_t)n;
	} while ((major & GSS_S_CONTINUE_NEEDED) != 0);
	/*
	 * Unwrap the offer, because its token counts in the layer's sequence.
	 */
	if (gss_unwrap(&minor, context, &in, &out, NULL, NULL) !=
	    GSS_S_COMPLETE)
		stop("the offer");
	strcpy((char *)choice + 4, user);
	text = (gss_buffer_desc){ 4 + strlen(user), choice };
	gss_wrap(&minor, context, 0, GSS_C_QOP_DEFAULT, &text, NULL, &out);
	trade(out.value, out.length, token, line);
	printf("%s", line);
	if (strncmp(line, "+OK", 3) != 0)
		exit(1);
}

/* Wraps a command. Returns the token. */
static gss_buffer_desc
wrapped(const char *command, int conceal)
{
	gss_buffer_desc text = { strlen(command), (void *)(uintptr_t)command },
			token;
	OM_uint32 minor;

	gss_wrap(&minor, context, conceal, GSS_C_QOP_DEFAULT, &text, NULL,
	    &token);
	return token;
}

static void
put_length(uint32_t n)
{
	n = htonl(n);
	put(&n, 4);
}

static void
put_token(const gss_buffer_desc *token)
{
	put_length((uint32_t)token->length);
	put(token->value, token->length);
}

/* Sends a command in the layer. Returns the command's token. */
static gss_buffer_desc
send_command(const char *command)
{
	gss_buffer_desc token = wrapped(command, layer == 4);

	put_token(&token);
	return token;
}

/* Sends a command whose token is wrong in the way that "how" specifies. */
static void
misbehave(const char *how, const char *command)
{
	gss_buffer_desc token =
	    wrapped(command, layer == 4 && strcmp(how, "clear") != 0);
	char *bytes = token.value;
	static char zeros[70000];

	if (strcmp(how, "flip") == 0)
		bytes[token.length / 2] ^= 1;
	if (strcmp(how, "skip") == 0)
		token = wrapped(command, layer == 4);
	if (strcmp(how, "zero") == 0)
		put_length(0);
	else if (strcmp(how, "huge") == 0)
		put_length(0xffffffff);
	else if (strcmp(how, "large") == 0) {
		put_length(65537);
		put(zeros, 65537);
	} else if (strcmp(how, "none") == 0)
		put(command, strlen(command));
	else {
		put_length((uint32_t)token.length);
		put(token.value,
		    strcmp(how, "short") == 0 ? token.length / 2 :
						token.length);
	}
	if (strcmp(how, "short") == 0)
		shutdown(fd, SHUT_WR);
}

/*
 * Unwraps and prints the server's next token. Returns 0 at the end of the
 * answers. Returns 1 if there was a token.
 */
static int
print_token(void)
{
	static char token[1 << 20];
	gss_buffer_desc in = { 0, token }, text;
	OM_uint32 minor;
	uint32_t n;
	int conceals;

	if (get(&n, 4) == -1)
		return 0;
	in.length = ntohl(n);
	if (in.length > sizeof(token) || get(token, in.length) == -1)
		stop("half a token");
	if (gss_unwrap(&minor, context, &in, &text, &conceals, NULL) !=
	    GSS_S_COMPLETE)
		stop("a token that cannot be unwrapped");
	if (layer == 4 && !conceals)
		stop("a token without confidentiality");
	if (in.length > largest)
		largest = in.length;
	fwrite(text.value, 1, text.length, stdout);
	gss_release_buffer(&minor, &text);
	return 1;
}

/*
 * Sends good tokens in an unusual number, size or order. Returns 0 if the
 * argument "how" is none of these ways.
 */
static int
abound(const char *how)
{
	static char noops[6 * 10900 + 1];
	gss_buffer_desc token;

	if (strcmp(how, "after") == 0) {
		send_command("QUIT\r\n");
		is_after = 1;
		for (int i = 0; i < 1000; i++)
			send_command("DELE 2\r\nQUIT\r\n");
	} else if (strcmp(how, "tiny") == 0) {
		for (int i = 0; i < 1200; i++)
			send_command(&"N\0O\0O\0P\0\r\0\n"[2 * (i % 6)]);
	} else if (strcmp(how, "nothing") == 0) {
		for (int i = 0; i < 3000; i++)
			send_command("");
	} else if (strcmp(how, "pieces") == 0) {
		token = wrapped("NOOP\r\n", layer == 4);
		put_length((uint32_t)token.length);
		for (size_t i = 0; i < token.length; i++)
			put((char *)token.value + i, 1);
	} else if (strcmp(how, "full") == 0) {
		for (size_t i = 0; i + 6 < sizeof(noops); i += 6)
			memcpy(noops + i, "NOOP\r\n", 6);
		send_command(noops);
	} else
		return 0;
	send_command("RETR 2\r\n");
	shutdown(fd, SHUT_WR);
	return 1;
}

/* Stores the bindings. The argument is their data in base64. */
static void
set_bindings(const char *text)
{
	static unsigned char data[256];
	int n = b64_pton(text, data, sizeof(data));

	if (n <= 0)
		stop("the bindings");
	bindings.application_data = (gss_buffer_desc){ (size_t)n, data };
}

int
main(int argc, char **argv)
{
	struct sockaddr_in server = { .sin_family = AF_INET,
		.sin_port = htons(1109),
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	gss_buffer_desc token;
	char byte;

	if (argc < 4)
		stop("usage: gsstalk LAYER MOST HOW [USER [PORT [BINDING]]]");
	layer = (unsigned)atoi(argv[1]);
	if (argc > 5)
		server.sin_port = htons((uint16_t)atoi(argv[5]));
	if (argc > 6)
		set_bindings(argv[6]);
	sends_equals = strcmp(argv[3], "equals") == 0;
	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&server, sizeof(server)) == -1)
		stop("connect");
	authenticate((size_t)atol(argv[2]), argc > 4 ? argv[4] : "alice",
	    strcmp(argv[3], "initial") == 0,
	    strcmp(argv[3], "oneway") == 0 ? 0 : GSS_C_MUTUAL_FLAG);
	if (layer == 1) {
		/* Without a layer nothing more can be tested. */
		put("QUIT\r\n", 6);
		while (read(fd, &byte, 1) == 1)
			;
		return 0;
	}
	token = send_command("DELE 1\r\n");
	print_token();
	if (strcmp(argv[3], "well") == 0 || sends_equals)
		send_command("RETR 2\r\nQUIT\r\n");
	else if (strcmp(argv[3], "replay") == 0) {
		put_token(&token);
		send_command("QUIT\r\n");
	} else if (!abound(argv[3]))
		misbehave(argv[3], "QUIT\r\n");
	while (print_token())
		;
	printf("largest token: %zu\n", largest);
	return 0;
}
