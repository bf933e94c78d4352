/*
 * Makes a realm with one service in this process, and AP-REQs without a KDC.
 *
 * The keys are known constants. So a fuzzer can encrypt any cleartext, and the
 * fuzzed cleartext reaches the code after the decryption. Altered encrypted
 * bytes would have a wrong checksum and would not get that far. The clock
 * stands still, so a recorded AP-REQ never expires. The libraries call the
 * functions gettimeofday and time that are defined below.
 */
#include "config.h"

#include <sys/time.h>

#include <fcntl.h>
#include <krb5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "auth-keytab.h"
#include "auth-start.h"
#include "fuzz/ticket.h"
#include "replay-cache.h"

#define NOW 1780000000 /* the present time: 2026-05-28 */
#define KEY_SIZE 32

/*
 * These replace functions of the C library. In C they have other names, because
 * libc's headers declare the originals with other attributes.
 */
int fuzz_gettimeofday(struct timeval *t, void *zone) __asm__("gettimeofday");
time_t fuzz_time(time_t *t) __asm__("time");

int
fuzz_gettimeofday(struct timeval *t, void *zone)
{
	(void)zone;
	*t = (struct timeval){ .tv_sec = NOW, .tv_usec = 1 };
	return 0;
}

time_t
fuzz_time(time_t *t)
{
	if (t != NULL)
		*t = NOW;
	return NOW;
}

static krb5_context context;
static uint8_t bytes[3][KEY_SIZE];
static krb5_keyblock service_key, host_key, session_key;

/* Fills a key with one value. Returns the key. */
static krb5_keyblock
key_of(uint8_t *key, int fill)
{
	memset(key, fill, KEY_SIZE);
	return (krb5_keyblock){ .enctype = ENCTYPE_AES256_CTS_HMAC_SHA1_96,
		.length = KEY_SIZE,
		.contents = key };
}

/* Ends the process if a call of libkrb5 has failed. */
static void
must(krb5_error_code problem)
{
	if (problem != 0)
		fprintf(stderr, "%s\n", error_message(problem));
	HOLDS(problem == 0);
}

/* Adds the key of a principal to a keytab. */
static void
add_key(krb5_keytab keytab, const char *name, const krb5_keyblock *key)
{
	krb5_keytab_entry entry = { .vno = 1, .key = *key };

	must(krb5_parse_name(context, name, &entry.principal));
	must(krb5_kt_add_entry(context, keytab, &entry));
	krb5_free_principal(context, entry.principal);
}

/* Writes a krb5.conf, which libkrb5 then uses instead of the machine's. */
static void
configure(void)
{
	char name[4200];
	FILE *file;

	snprintf(name, sizeof(name), "%s/krb5.conf", fuzz_directory_name());
	HOLDS((file = fopen(name, "we")) != NULL);
	fprintf(file,
	    "[libdefaults]\ndefault_realm = KPOPD.TEST\ndns_lookup_kdc = "
	    "false\nrdns = false\n"
	    "dns_canonicalize_hostname = false\n");
	HOLDS(fclose(file) == 0 && setenv("KRB5_CONFIG", name, 1) == 0 &&
	    setenv("KRB5CCNAME", "MEMORY:fuzz", 1) == 0);
}

struct auth *
ticket_realm(void)
{
	struct auth *a;
	struct replay *replay;
	krb5_keytab keytab;

	configure();
	service_key = key_of(bytes[0], 's');
	host_key = key_of(bytes[1], 'h');
	session_key = key_of(bytes[2], 'e');
	must(krb5_init_context(&context));
	must(krb5_kt_resolve(context, "MEMORY:realm", &keytab));
	add_key(keytab, "host/mail.kpopd.test@KPOPD.TEST", &host_key);
	add_key(keytab, TICKET_SERVICE, &service_key);
	HOLDS((replay = replay_open(fuzz_directory_name(), 300, INT64_MAX)) !=
	    NULL);
	HOLDS((a = auth_prepare()) != NULL &&
	    keytab_load(a, "MEMORY:realm", NULL) == 0);
	auth_use_replay_cache(a, replay);
	return a;
}

void
ticket_forget_replays(void)
{
	int fd = openat(fuzz_directory(), "replay", O_RDWR | O_CLOEXEC);

	/*
	 * Clear everything after the head. The head stays, because struct
	 * replay has a copy of it.
	 */
	HOLDS(fd != -1 &&
	    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		REPLAY_HEAD, REPLAY_SIZE - REPLAY_HEAD) == 0);
	close(fd);
}

/* DER, written from its end to its beginning. */
struct der {
	uint8_t *begin, *at;
};

/* Writes n bytes before the bytes written so far. */
static void
put(struct der *d, const void *p, size_t n)
{
	HOLDS((size_t)(d->at - d->begin) >= n);
	d->at -= n;
	memcpy(d->at, p, n);
}

/*
 * Writes a tag and a length before the bytes [d->at, end), which become the
 * content of the element.
 */
static void
wrap(struct der *d, uint8_t tag, const uint8_t *end)
{
	size_t n = (size_t)(end - d->at);
	uint8_t head[4] = { tag, 0x82, (uint8_t)(n >> 8), (uint8_t)n };

	HOLDS(n < 65536);
	if (n < 128) {
		head[1] = (uint8_t)n;
		put(d, head, 2);
	} else if (n < 256) {
		head[1] = 0x81;
		head[2] = (uint8_t)n;
		put(d, head, 3);
	} else
		put(d, head, 4);
}

/* Writes n bytes as an element of the given type inside a context tag. */
static void
put_tagged(struct der *d, uint8_t tag, uint8_t type, const void *p, size_t n)
{
	const uint8_t *end = d->at;

	put(d, p, n);
	wrap(d, type, end);
	wrap(d, tag, end);
}

#define INTEGER 0x02
#define BITS 0x03
#define BYTES 0x04
#define TIME 0x18
#define STRING 0x1b
#define SEQUENCE 0x30

/*
 * Encrypts a cleartext and writes it as EncryptedData (RFC 4120 §5.2.9) inside
 * a tag.
 */
static void
put_encrypted(struct der *d, uint8_t tag, const krb5_keyblock *key, int usage,
    const uint8_t *p, size_t n)
{
	krb5_data cleartext = { .length = (unsigned)n,
		.data = (char *)(uintptr_t)p };
	krb5_enc_data encrypted;
	const uint8_t *end = d->at;
	size_t size;
	char type = ENCTYPE_AES256_CTS_HMAC_SHA1_96;

	must(krb5_c_encrypt_length(context, key->enctype, n, &size));
	encrypted.ciphertext =
	    (krb5_data){ .length = (unsigned)size, .data = malloc(size) };
	HOLDS(encrypted.ciphertext.data != NULL);
	must(krb5_c_encrypt(context, key, usage, NULL, &cleartext, &encrypted));
	put_tagged(d, 0xa2, BYTES, encrypted.ciphertext.data, size);
	put_tagged(d, 0xa1, INTEGER, "\1", 1);
	put_tagged(d, 0xa0, INTEGER, &type, 1);
	wrap(d, SEQUENCE, end);
	wrap(d, tag, end);
	free(encrypted.ciphertext.data);
}

/* Writes a PrincipalName of one or two components. */
static void
put_name(struct der *d, uint8_t tag, const char *first, const char *second)
{
	const uint8_t *end = d->at;

	if (second != NULL) {
		put(d, second, strlen(second));
		wrap(d, STRING, end);
	}
	if (first != NULL) {
		const uint8_t *here = d->at;

		put(d, first, strlen(first));
		wrap(d, STRING, here);
	}
	wrap(d, SEQUENCE, end);
	wrap(d, 0xa1, end);
	put_tagged(d, 0xa0, INTEGER, "\1", 1);
	wrap(d, SEQUENCE, end);
	wrap(d, tag, end);
}

/* Writes a Ticket whose encrypted part has this cleartext of n bytes. */
static void
put_ticket(struct der *d, unsigned how, const uint8_t *part, size_t n)
{
	const uint8_t *end = d->at;

	put_encrypted(d, 0xa3,
	    (how & TICKET_WRONG_KEY) != 0 ? &host_key : &service_key,
	    KRB5_KEYUSAGE_KDC_REP_TICKET, part, n);
	put_name(d, 0xa2, "pop", "mail.kpopd.test");
	put_tagged(d, 0xa1, STRING, "KPOPD.TEST", 10);
	put_tagged(d, 0xa0, INTEGER, "\5", 1);
	wrap(d, SEQUENCE, end);
	wrap(d, 0x61, end);
}

/*
 * Moves the written bytes to the beginning of the buffer. Returns their number.
 */
static size_t
finish(struct der *d, const uint8_t *end)
{
	size_t n = (size_t)(end - d->at);

	memmove(d->begin, d->at, n);
	return n;
}

size_t
ticket_request(unsigned how, const uint8_t *part, size_t part_size,
    const uint8_t *authenticator, size_t authenticator_size, uint8_t *out)
{
	struct der d = { out, out + TICKET_MOST };
	const uint8_t *end = d.at, *ticket;

	put_encrypted(&d, 0xa4,
	    (how & TICKET_WRONG_SESSION) != 0 ? &host_key : &session_key,
	    KRB5_KEYUSAGE_AP_REQ_AUTH, authenticator, authenticator_size);
	ticket = d.at;
	put_ticket(&d, how, part, part_size);
	wrap(&d, 0xa3, ticket);
	put_tagged(&d, 0xa2, BITS,
	    (how & TICKET_MUTUAL) != 0 ? "\0\x20\0\0\0" : "\0\0\0\0\0", 5);
	put_tagged(&d, 0xa1, INTEGER, "\x0e", 1);
	put_tagged(&d, 0xa0, INTEGER, "\5", 1);
	wrap(&d, SEQUENCE, end);
	wrap(&d, 0x6e, end);
	return finish(&d, end);
}

void
ticket_cache(void)
{
	uint8_t part[512], ticket[1024];
	struct der d = { ticket, ticket + sizeof(ticket) };
	const uint8_t *end = d.at;
	krb5_creds creds = { .keyblock = session_key,
		.times = { .authtime = NOW - 3600,
		    .starttime = NOW - 3600,
		    .endtime = NOW + 36000 } };
	krb5_ccache cache;

	put_ticket(&d, 0, part, ticket_part(part));
	creds.ticket = (krb5_data){ .length = (unsigned)finish(&d, end),
		.data = (char *)ticket };
	must(krb5_parse_name(context, TICKET_CLIENT, &creds.client));
	must(krb5_parse_name(context, TICKET_SERVICE, &creds.server));
	must(krb5_cc_default(context, &cache));
	must(krb5_cc_initialize(context, cache, creds.client));
	must(krb5_cc_store_cred(context, cache, &creds));
	krb5_cc_close(context, cache);
}

size_t
ticket_part(uint8_t *out)
{
	struct der d = { out, out + 512 };
	const uint8_t *end = d.at, *key;
	char type = ENCTYPE_AES256_CTS_HMAC_SHA1_96;

	put_tagged(&d, 0xa7, TIME, "20370101000000Z", 15);
	put_tagged(&d, 0xa5, TIME, "20260101000000Z", 15);
	key = d.at;
	put_tagged(&d, 0xa1, BYTES, "", 0);
	put_tagged(&d, 0xa0, INTEGER, "\1", 1);
	wrap(&d, SEQUENCE, key);
	wrap(&d, 0xa4, key);
	put_name(&d, 0xa3, NULL, "alice");
	put_tagged(&d, 0xa2, STRING, "KPOPD.TEST", 10);
	key = d.at;
	put_tagged(&d, 0xa1, BYTES, session_key.contents, session_key.length);
	put_tagged(&d, 0xa0, INTEGER, &type, 1);
	wrap(&d, SEQUENCE, key);
	wrap(&d, 0xa1, key);
	put_tagged(&d, 0xa0, BITS, "\0\0\0\0\0", 5);
	wrap(&d, SEQUENCE, end);
	wrap(&d, 0x63, end);
	return finish(&d, end);
}
