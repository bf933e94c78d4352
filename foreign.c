/*
 * Recognizes, by a client's first bytes, a protocol that this connection does
 * not serve. Another port of kpopd may serve the protocol (TLS, KPOP).
 *
 * Runs in the pre-auth process, and in the session for its first line; pure
 * computation, over the client's bytes. The log gets only the name of the
 * protocol, and none of the bytes.
 */
#include "config.h"

#include <string.h>

#include "foreign.h"

const char *
foreign_protocol(const void *first)
{
	static const struct {
		const char *begin;
		size_t size;
		const char *name;
	} protocols[] = {
		{ "\x16\x03", 2, "TLS client" },
		{ "\0\0\0\x13", 4, "KPOP client" },
		{ "PROX", 4, "PROXY header where none is taken" },
		{ "\r\n\r\n", 4, "PROXY header where none is taken" },
		{ "GET ", 4, "HTTP client" },
		{ "HEAD", 4, "HTTP client" },
		{ "POST", 4, "HTTP client" },
		{ "PUT ", 4, "HTTP client" },
		{ "OPTI", 4, "HTTP client" },
		{ "CONN", 4, "HTTP client" },
		{ "PRI ", 4, "HTTP client" },
		{ "SSH-", 4, "SSH client" },
		{ "EHLO", 4, "SMTP client" },
		{ "HELO", 4, "SMTP client" },
	};

	for (size_t i = 0; i < sizeof(protocols) / sizeof(protocols[0]); i++)
		if (memcmp(first, protocols[i].begin, protocols[i].size) == 0)
			return protocols[i].name;
	return NULL;
}
