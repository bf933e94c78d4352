/*
 * Writes an AP-REQ from the default ccache to standard output, for tests that
 * send the bytes themselves.
 *
 *	apreq [-gm] [-a TYPE:FILE] [-e TYPE:FILE] [-c HEX] [-n COUNT]
 *	    [-o SECONDS] [-t TIME] [-w SECONDS] PRINCIPAL
 *
 *	-a  put the file into the authenticator, as authorization data of TYPE
 *	-c  with -g, the bytes of the checksum
 *	-e  ask the KDC to put the file into the ticket, as authorization data
 *	    of TYPE; the ticket is then in the ccache
 *	-g  make the AP-REQ as GSSAPI does
 *	-m  ask for mutual authentication
 *	-n  write COUNT AP-REQs, each after its length, as sendauth does
 *	-o  make the AP-REQ by a clock that is SECONDS fast (negative: slow)
 *	-t  make the AP-REQ by a clock that stands still at TIME
 *	-w  wait SECONDS between the ticket and the AP-REQ
 *
 * Runs as the caller.
 */
#include "config.h"

#include <sys/endian.h>

#include <krb5.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* libkrb5 exports this function, but no header declares it. */
krb5_error_code krb5_set_debugging_time(krb5_context, krb5_timestamp,
    krb5_int32);

static krb5_context context;

/* Prints a message and exits if a call of libkrb5 has failed. */
static void
must(krb5_error_code problem, const char *what)
{
	if (problem == 0)
		return;
	fprintf(stderr, "apreq: %s: %s\n", what,
	    krb5_get_error_message(context, problem));
	_exit(1);
}

/*
 * Converts hexadecimal digits to at most size bytes. Returns the number of
 * bytes.
 */
static unsigned
read_hex(const char *digits, char *bytes, size_t size)
{
	unsigned n = 0, byte;

	for (; n < size && sscanf(digits + 2 * n, "%2x", &byte) == 1; n++)
		bytes[n] = (char)byte;
	return n;
}

/* Reads the file FILE. The argument "text" is "TYPE:FILE". */
static krb5_authdata *
read_authdata(char *text)
{
	static krb5_octet bytes[131072];
	static krb5_authdata a = { .magic = KV5M_AUTHDATA, .contents = bytes };
	FILE *f;
	char *end;

	a.ad_type = (krb5_authdatatype)strtol(text, &end, 10);
	if (*end != ':' || (f = fopen(end + 1, "r")) == NULL)
		_exit(2);
	a.length = (unsigned)fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	return &a;
}

/*
 * Writes an AP-REQ. If "framed" is true, writes the length of the AP-REQ first.
 */
static void
write_request(const krb5_data *request, bool framed)
{
	const unsigned n = request->length;
	unsigned char length[4];

	be32enc(length, n);
	if ((framed && fwrite(length, 1, 4, stdout) != 4) ||
	    fwrite(request->data, 1, n, stdout) != n)
		_exit(1);
}

int
main(int argc, char **argv)
{
	krb5_auth_context session = NULL;
	krb5_ccache cache;
	krb5_creds want = { 0 }, *creds;
	/*
	 * The default checksum (RFC 4121 §4.1.1): the length of the channel
	 * bindings, no bindings, and no flags.
	 */
	char bindings[4096] = { 16 };
	krb5_data request, checksum = { .data = bindings, .length = 24 };
	krb5_authdata *authdata[2] = { NULL }, *in_ticket[2] = { NULL };
	bool for_gssapi = false;
	krb5_flags flags = 0;
	unsigned wait = 0, count = 0, i = 0;
	struct timespec now;
	long fast = 0, stands = 0;
	int c;

	while ((c = getopt(argc, argv, "a:c:e:gmn:o:t:w:")) != -1) {
		if (c == 'g')
			for_gssapi = true;
		else if (c == 'a')
			authdata[0] = read_authdata(optarg);
		else if (c == 'e')
			in_ticket[0] = read_authdata(optarg);
		else if (c == 'c')
			checksum.length =
			    read_hex(optarg, bindings, sizeof(bindings));
		else if (c == 'm')
			flags = AP_OPTS_MUTUAL_REQUIRED;
		else if (c == 'n')
			count = (unsigned)strtoul(optarg, NULL, 10);
		else if (c == 'o')
			fast = strtol(optarg, NULL, 10);
		else if (c == 't')
			stands = strtol(optarg, NULL, 10);
		else if (c == 'w')
			wait = (unsigned)strtoul(optarg, NULL, 10);
		else
			return 2;
	}
	if (argc - optind != 1)
		return 2;
	must(krb5_init_context(&context), "context");
	must(krb5_cc_default(context, &cache), "ccache");
	must(krb5_cc_get_principal(context, cache, &want.client), "client");
	must(krb5_parse_name(context, argv[optind], &want.server), "service");
	if (in_ticket[0] != NULL)
		want.authdata = in_ticket;
	must(krb5_get_credentials(context, 0, cache, &want, &creds), "ticket");
	if (in_ticket[0] != NULL) {
		/*
		 * Store the ticket without the requested authorization data.
		 * libkrb5 would otherwise not find the ticket for a request
		 * without that data.
		 */
		creds->authdata = NULL;
		must(krb5_cc_store_cred(context, cache, creds), "ccache");
	}
	if (authdata[0] != NULL)
		creds->authdata = authdata;
	sleep(wait);
	if (fast != 0) {
		/*
		 * Set the microseconds, too. Without these, AP-REQs with
		 * different clocks could be equal.
		 */
		clock_gettime(CLOCK_REALTIME, &now);
		must(krb5_set_real_time(context,
			 (krb5_timestamp)(now.tv_sec + fast),
			 (krb5_int32)(now.tv_nsec / 1000)),
		    "clock");
	}
	if (stands != 0)
		must(krb5_set_debugging_time(context, (krb5_timestamp)stands,
			 0),
		    "clock");
	do {
		krb5_auth_con_free(context, session);
		session = NULL;
		if (for_gssapi) {
			must(krb5_auth_con_init(context, &session),
			    "auth context");
			must(krb5_auth_con_set_req_cksumtype(context, session,
				 0x8003),
			    "checksum");
		}
		must(krb5_mk_req_extended(context, &session, flags,
			 for_gssapi ? &checksum : NULL, creds, &request),
		    "AP-REQ");
		write_request(&request, count > 0);
	} while (++i < count);
	return fflush(stdout) == 0 ? 0 : 1;
}
