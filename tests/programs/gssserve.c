/*
 * Serves AUTH GSSAPI with the service's key, and with any offer of layers.
 *
 * 	gssserve OFFER
 *
 * OFFER is one byte, as in RFC 4752 §3.1. Accepts every client that has a
 * ticket. Answers with the layer that the client has chosen, and ends the
 * connection.
 *
 * Runs as root, on a connection. The keytab is KRB5_KTNAME.
 */
#include "config.h"

#include <gssapi/gssapi.h>
#include <gssapi/gssapi_krb5.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST 100000 /* largest size of a line */

_Noreturn static void
stop(const char *why)
{
	fprintf(stderr, "gssserve: %s\n", why);
	exit(1);
}

/* Sends a line. */
static void
send_line(const char *text)
{
	printf("%s\r\n", text);
	fflush(stdout);
}

/* Sends a token. */
static void
send_token(const gss_buffer_desc *token)
{
	static char text[MOST];

	if (b64_ntop(token->value, token->length, text, sizeof(text)) == -1)
		stop("a token too large");
	printf("+ %s\r\n", text);
	fflush(stdout);
}

/* Reads a line. Returns the line without its line end. */
static char *
read_line(void)
{
	static char line[MOST];

	if (fgets(line, sizeof(line), stdin) == NULL)
		exit(0);
	line[strcspn(line, "\r\n")] = '\0';
	return line;
}

/* Reads a token. */
static gss_buffer_desc
read_token(void)
{
	static unsigned char token[MOST];
	int n = b64_pton(read_line(), token, sizeof(token));

	if (n == -1)
		stop("not base64");
	return (gss_buffer_desc){ (size_t)n, token };
}

/* Performs AUTH GSSAPI. Returns the layer that the client has chosen. */
static unsigned
authenticate(unsigned offer)
{
	unsigned char bytes[4] = { (unsigned char)offer, 1, 0, 0 };
	gss_ctx_id_t context = GSS_C_NO_CONTEXT;
	gss_buffer_desc in, out, text = { sizeof(bytes), bytes };
	OM_uint32 major, minor;

	send_token(&(gss_buffer_desc){ 0, bytes });
	do {
		in = read_token();
		major = gss_accept_sec_context(&minor, &context,
		    GSS_C_NO_CREDENTIAL, &in, GSS_C_NO_CHANNEL_BINDINGS, NULL,
		    NULL, &out, NULL, NULL, NULL);
		if (GSS_ERROR(major))
			stop("gss_accept_sec_context");
		send_token(&out);
	} while ((major & GSS_S_CONTINUE_NEEDED) != 0);
	read_line();
	if (gss_wrap(&minor, context, 0, GSS_C_QOP_DEFAULT, &text, NULL,
		&out) != GSS_S_COMPLETE)
		stop("gss_wrap");
	send_token(&out);
	in = read_token();
	if (gss_unwrap(&minor, context, &in, &text, NULL, NULL) !=
		GSS_S_COMPLETE ||
	    text.length < 4)
		stop("gss_unwrap");
	return *(const unsigned char *)text.value;
}

int
main(int argc, char **argv)
{
	const char *line;

	if (argc != 2)
		stop("usage: gssserve OFFER");
	send_line("+OK");
	while (strcmp(line = read_line(), "AUTH GSSAPI") != 0)
		send_line(strcmp(line, "CAPA") == 0 ?
			"+OK\r\nSASL GSSAPI\r\n." :
			"-ERR");
	printf("+OK layer %u\r\n", authenticate((unsigned)atoi(argv[1])));
	return 0;
}
