/*
 * A POP3 server with the service's key whose offer of layers is what it is told: as servers that know none, or others.
 * Runs as root, on a connection; the keytab is KRB5_KTNAME.
 *
 *	gssserve OFFER
 *
 * OFFER: one byte, as in RFC 4752 §3.1. Logs in whoever has a ticket, and says
 * which layer they chose; then the connection ends.
 */
#include "config.h"

#include <gssapi/gssapi.h>
#include <gssapi/gssapi_krb5.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 100000

_Noreturn static void
stop(const char *why)
{
	fprintf(stderr, "gssserve: %s\n", why);
	exit(1);
}

static void
say(const char *text)
{
	printf("%s\r\n", text);
	fflush(stdout);
}

static void
challenge(const gss_buffer_desc *token)
{
	static char text[MOST];

	if (b64_ntop(token->value, token->length, text, sizeof(text)) == -1)
		stop("a token too large");
	printf("+ %s\r\n", text);
	fflush(stdout);
}

/* Reads a line without its end. Returns it. */
static char *
hear(void)
{
	static char line[MOST];

	if (fgets(line, sizeof(line), stdin) == NULL)
		exit(0);
	line[strcspn(line, "\r\n")] = '\0';
	return line;
}

static gss_buffer_desc
hear_token(void)
{
	static unsigned char token[MOST];
	int n = b64_pton(hear(), token, sizeof(token));

	if (n == -1)
		stop("not base64");
	return (gss_buffer_desc){ (size_t)n, token };
}

/* Returns the client's choice. */
static unsigned
authenticate(unsigned offer)
{
	unsigned char bytes[4] = { (unsigned char)offer, 1, 0, 0 };
	gss_ctx_id_t context = GSS_C_NO_CONTEXT;
	gss_buffer_desc in, out, text = { sizeof(bytes), bytes };
	OM_uint32 major, minor;

	challenge(&(gss_buffer_desc){ 0, bytes });
	do {
		in = hear_token();
		major = gss_accept_sec_context(&minor, &context, GSS_C_NO_CREDENTIAL, &in,
		    GSS_C_NO_CHANNEL_BINDINGS, NULL, NULL, &out, NULL, NULL, NULL);
		if (GSS_ERROR(major))
			stop("gss_accept_sec_context");
		challenge(&out);
	} while ((major & GSS_S_CONTINUE_NEEDED) != 0);
	hear();
	if (gss_wrap(&minor, context, 0, GSS_C_QOP_DEFAULT, &text, NULL, &out) != GSS_S_COMPLETE)
		stop("gss_wrap");
	challenge(&out);
	in = hear_token();
	if (gss_unwrap(&minor, context, &in, &text, NULL, NULL) != GSS_S_COMPLETE || text.length < 4)
		stop("gss_unwrap");
	return *(const unsigned char *)text.value;
}

int
main(int argc, char **argv)
{
	const char *line;

	if (argc != 2)
		stop("usage: gssserve OFFER");
	say("+OK");
	while (strcmp(line = hear(), "AUTH GSSAPI") != 0)
		say(strcmp(line, "CAPA") == 0 ? "+OK\r\nSASL GSSAPI\r\n." : "-ERR");
	printf("+OK layer %u\r\n", authenticate((unsigned)atoi(argv[1])));
	return 0;
}
