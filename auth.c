/*
 * Verifies the AP-REQ by which a client proves its identity, and records the
 * authenticator in it.
 *
 * Runs in the pre-auth process, as the pre-auth user in its jail. The client's
 * bytes are not trusted; libkrb5 and the keys in memory are trusted.
 *
 * krb5_recvauth is not used. It allocates as many bytes as the client asks for
 * (up to 2 GiB), reads without a time limit, and can return 0 without a ticket.
 * This file calls the public functions that krb5_recvauth calls after it has
 * read a message.
 */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth.h"
#include "auth-internal.h"
#include "auth-keytab.h"
#include "der.h"
#include "log.h"
#include "replay-cache.h"

/* The exchange for which an AP-REQ was made. */
enum purpose { FOR_SENDAUTH, FOR_GSSAPI };

/* The checksum type of an AP-REQ for GSSAPI (RFC 4121 §4.1.1). */
#define GSSAPI_CHECKSUM 0x8003

/*
 * The errors of the protocol have the numbers 0 to LAST_PROTOCOL_ERROR (RFC
 * 4120 §7.5.9). libkrb5 adds ERROR_TABLE_BASE_krb5 to these numbers.
 */
#define LAST_PROTOCOL_ERROR 127

/* Tags of DER in an AP-REQ. */
enum {
	TAG_OCTET_STRING = 0x04,
	TAG_SEQUENCE = 0x30,
	TAG_AP_REQ = 0x6e,
	TAG_FIELD = 0xa0, /* context-specific tag 0; 1 and so on follow */
};

void
auth_use_replay_cache(struct auth *a, struct replay *replay)
{
	/* This variable overrides krb5.conf. */
	if (setenv("KRB5RCACHENAME", "none:", 1) == -1)
		fatal("disabling libkrb5's replay cache");
	a->replay = replay;
}

/* Sets *answer to a->answer. */
static void
set_answer(struct auth *a, struct auth_answer *answer)
{
	answer->data = a->answer.data;
	answer->size = a->answer.length;
}

/*
 * Makes the same KRB-ERROR as krb5_recvauth would, with the protocol's code and
 * libkrb5's standard text. An error that has no code of the protocol becomes
 * "generic". The text is sent with its NUL, because old clients print it as a C
 * string. If the KRB-ERROR cannot be made, *answer is empty.
 */
static void
make_error(struct auth *a, krb5_error_code problem, struct auth_answer *answer)
{
	const char *text = error_message(problem);
	krb5_error e = { .server = a->name };

	krb5_us_timeofday(a->context, &e.stime, &e.susec);
	if (problem < ERROR_TABLE_BASE_krb5 ||
	    problem > ERROR_TABLE_BASE_krb5 + LAST_PROTOCOL_ERROR)
		problem = KRB5KRB_ERR_GENERIC;
	e.error = (krb5_ui_4)(problem - ERROR_TABLE_BASE_krb5);
	e.text.data = (char *)(uintptr_t)text;
	e.text.length = (unsigned)strlen(text) + 1;
	krb5_free_data_contents(a->context, &a->answer);
	if (krb5_mk_error(a->context, &e, &a->answer) != 0)
		a->answer = (krb5_data){ .length = 0 };
	set_answer(a, answer);
}

void
auth_refuse(struct auth *a, struct auth_answer *answer)
{
	make_error(a, KRB5KRB_AP_ERR_MSG_TYPE, answer);
}

/*
 * Writes the text form of a principal to to[AUTH_NAME]. Returns 0, or a krb5
 * error, for example if the text does not fit.
 */
static krb5_error_code
write_principal(krb5_context context, krb5_const_principal p, char *to)
{
	char *text;
	krb5_error_code problem = krb5_unparse_name(context, p, &text);

	if (problem != 0)
		return problem;
	if (strlcpy(to, text, AUTH_NAME) >= AUTH_NAME)
		problem = KRB5_PARSE_MALFORMED;
	krb5_free_unparsed_name(context, text);
	return problem;
}

/*
 * Fills *peer from a verified ticket and its session key. Returns 0 or a krb5
 * error.
 */
static krb5_error_code
fill_peer(struct auth *a, const krb5_keyblock *key, const krb5_ticket *ticket,
    struct auth_peer *peer)
{
	krb5_error_code problem;

	/*
	 * ticket->server is a name in the keytab, because libkrb5 has replaced
	 * the name that the client sent.
	 */
	if (!keytab_is_for_pop(ticket->server))
		return KRB5KRB_AP_WRONG_PRINC;
	problem = write_principal(a->context, ticket->server, peer->service);
	if (problem == 0)
		problem = write_principal(a->context, ticket->enc_part2->client,
		    peer->principal);
	/*
	 * The client sends the ticket's encryption type in cleartext. The type
	 * is nevertheless right, because libkrb5 has decrypted the ticket with
	 * a key of this type.
	 */
	if (problem == 0)
		problem = krb5_enctype_to_name(ticket->enc_part.enctype, FALSE,
		    peer->ticket, sizeof(peer->ticket));
	if (problem == 0)
		problem = krb5_enctype_to_name(key->enctype, FALSE,
		    peer->session, sizeof(peer->session));
	return problem;
}

/*
 * Returns 0 if an authenticator was made for this purpose, otherwise a krb5
 * error. Without this check, an attacker could intercept a first token of AUTH
 * GSSAPI and use the AP-REQ in it for KPOP. In KPOP the attacker would not need
 * the session key.
 */
static krb5_error_code
check_purpose(const krb5_authenticator *authenticator, enum purpose purpose)
{
	const krb5_checksum *checksum = authenticator->checksum;
	bool is_for_gssapi =
	    checksum != NULL && checksum->checksum_type == GSSAPI_CHECKSUM;

	return is_for_gssapi == (purpose == FOR_GSSAPI) ?
	    0 :
	    KRB5KRB_AP_ERR_INAPP_CKSUM;
}

/*
 * Sets the text that is logged if the replay cache cannot record an AP-REQ.
 * Returns the error, for which the client gets only the standard text.
 */
static krb5_error_code
set_unavailable(struct auth *a, const char *reason)
{
	krb5_set_error_message(a->context, KRB5KDC_ERR_SVC_UNAVAILABLE,
	    "replay cache: %s", reason);
	return KRB5KDC_ERR_SVC_UNAVAILABLE;
}

/*
 * Converts a result of the replay cache to a krb5 error, and sets the error's
 * text. Returns 0 if the AP-REQ is new.
 */
static krb5_error_code
convert_result(struct auth *a, enum replay_result result, const char *principal)
{
	char text[AUTH_NAME + 64];

	switch (result) {
	case REPLAY_NEW:
		return 0;
	case REPLAY_REPEATED:
		return KRB5KRB_AP_ERR_REPEAT;
	case REPLAY_SKEW:
		return KRB5KRB_AP_ERR_SKEW;
	case REPLAY_EARLIER:
		krb5_set_error_message(a->context, KRB5KRB_AP_ERR_SKEW,
		    "Made before the last boot or the replay cache");
		return KRB5KRB_AP_ERR_SKEW;
	case REPLAY_TOO_MANY:
		snprintf(text, sizeof(text), "too many logins of principal %s",
		    principal);
		return set_unavailable(a, text);
	case REPLAY_FULL:
		return set_unavailable(a, "too many logins");
	case REPLAY_FAILED:
		break;
	}
	return set_unavailable(a, strerror(errno));
}

/*
 * Finds the encrypted authenticator in an AP-REQ (RFC 4120 §5.5.1), and sets
 * *cipher to its cipher text. Returns false if an element is missing or
 * unexpected, or if a length is not strict DER, even if libkrb5 accepts the
 * AP-REQ. Does not look into the elements that it skips, such as the ticket.
 */
static bool
find_authenticator(const krb5_data *ap_req, struct der *cipher)
{
	struct der all = { (const unsigned char *)ap_req->data,
		ap_req->length };
	struct der request, field, part, skipped;

	/*
	 * The version, the type, the options and the ticket come before the
	 * authenticator.
	 */
	if (!der_take(&all, TAG_AP_REQ, &request) || all.left > 0 ||
	    !der_take(&request, TAG_SEQUENCE, &field) || request.left > 0 ||
	    !der_take(&field, TAG_FIELD, &skipped) ||
	    !der_take(&field, TAG_FIELD + 1, &skipped) ||
	    !der_take(&field, TAG_FIELD + 2, &skipped) ||
	    !der_take(&field, TAG_FIELD + 3, &skipped) ||
	    !der_take(&field, TAG_FIELD + 4, &part) || field.left > 0)
		return false;
	/*
	 * EncryptedData (RFC 4120 §5.2.9): the type, perhaps the version of the
	 * key, the cipher text.
	 */
	if (!der_take(&part, TAG_SEQUENCE, &field) || part.left > 0 ||
	    !der_take(&field, TAG_FIELD, &skipped))
		return false;
	der_take(&field, TAG_FIELD + 1, &skipped);
	return der_take(&field, TAG_FIELD + 2, &part) && field.left == 0 &&
	    der_take(&part, TAG_OCTET_STRING, cipher) && part.left == 0;
}

/*
 * Records an authenticator, identified by its cipher text and session key.
 * Returns 0 or a krb5 error.
 *
 * The other bytes of an AP-REQ are not protected. If the record depended on
 * these bytes, an altered copy of the AP-REQ would count as new. The decrypted
 * fields alone do not identify an authenticator, because two clients of one
 * principal may make authenticators in the same microsecond.
 */
static krb5_error_code
record(struct auth *a, const krb5_data *ap_req,
    const krb5_authenticator *authenticator, const krb5_keyblock *key,
    const char *principal)
{
	struct der cipher = { 0 };
	bool is_found = find_authenticator(ap_req, &cipher);
	const struct replay_piece pieces[] = {
		{ principal, strlen(principal) },
		{ &authenticator->ctime, sizeof(authenticator->ctime) },
		{ cipher.at, cipher.left },
		{ key->contents, key->length },
	};
	const struct replay_authenticator used = { .principal = pieces[0],
		/*
		 * libkrb5's timestamps are unsigned 32-bit numbers, until 2106.
		 */
		.ctime = (uint32_t)authenticator->ctime,
		.pieces = pieces,
		.count = sizeof(pieces) / sizeof(pieces[0]) };

	if (!is_found)
		return KRB5KRB_AP_ERR_MODIFIED;
	if (a->replay == NULL)
		return set_unavailable(a, "it could not be opened");
	return convert_result(a, replay_record(a->replay, &used), principal);
}

/*
 * Verifies the rest of an AP-REQ that libkrb5 has decrypted, fills *peer, and
 * makes the AP-REP if the client needs one. Returns 0 or a krb5 error.
 *
 * The authenticator is recorded last. Otherwise a refused authenticator would
 * use a slot of the cache.
 */
static krb5_error_code
verify_decrypted(struct auth *a, krb5_auth_context session,
    const krb5_data *ap_req, const krb5_ticket *ticket, enum purpose purpose,
    struct auth_peer *peer)
{
	krb5_authenticator *authenticator = NULL;
	krb5_keyblock *key = NULL;
	krb5_error_code problem;

	if (ticket == NULL || ticket->enc_part2 == NULL)
		return KRB5KRB_AP_ERR_MODIFIED;
	problem =
	    krb5_auth_con_getauthenticator(a->context, session, &authenticator);
	if (problem == 0)
		problem = check_purpose(authenticator, purpose);
	if (problem == 0)
		problem = krb5_auth_con_getkey(a->context, session, &key);
	if (problem == 0)
		problem = fill_peer(a, key, ticket, peer);
	if (problem == 0 && peer->mutual && purpose == FOR_SENDAUTH)
		problem = krb5_mk_rep(a->context, session, &a->answer);
	if (problem == 0)
		problem =
		    record(a, ap_req, authenticator, key, peer->principal);
	krb5_free_keyblock(a->context, key);
	if (authenticator != NULL)
		krb5_free_authenticator(a->context, authenticator);
	return problem;
}

/* Returns true if the cause of the error may be in the keytab. */
static bool
concerns_keytab(krb5_error_code problem)
{
	return problem == KRB5KRB_AP_ERR_NOT_US ||
	    problem == KRB5KRB_AP_ERR_NOKEY ||
	    problem == KRB5KRB_AP_ERR_BADKEYVER ||
	    problem == KRB5KRB_AP_ERR_BAD_INTEGRITY ||
	    problem == KRB5KRB_AP_WRONG_PRINC || problem == KRB5_KT_NOTFOUND ||
	    problem == KRB5_KT_KVNONOTFOUND;
}

/*
 * Logs why an AP-REQ is refused. libkrb5's text cannot name the keytab, because
 * the keys are in memory.
 */
static void
log_refused_ap_req(struct auth *a, krb5_error_code problem,
    enum purpose purpose)
{
	struct log_text t, keytab;
	const char *text = krb5_get_error_message(a->context, problem);
	bool is_shown = concerns_keytab(problem);

	log_event(LOG_NOTICE, "refused", "reason=\"%s\" error=\"%s%s%s\"",
	    purpose == FOR_GSSAPI ? "GSSAPI" : "Kerberos", log_words(&t, text),
	    is_shown ? ": keytab " : "",
	    is_shown ? log_words(&keytab, a->keytab) : "");
	krb5_free_error_message(a->context, text);
}

/*
 * Verifies an AP-REQ, and fills *peer. Returns 0 or a krb5 error (logged). The
 * AP-REP is made before the AP-REQ is recorded, so nothing can fail after the
 * record is made.
 */
static krb5_error_code
verify(struct auth *a, const void *ap_req, size_t n, enum purpose purpose,
    struct auth_peer *peer)
{
	krb5_data request = { .data = (char *)(uintptr_t)ap_req,
		.length = (unsigned)n };
	krb5_auth_context session = NULL;
	krb5_error_code problem;
	krb5_flags options = 0;
	krb5_ticket *ticket = NULL;

	memset(peer, 0, sizeof(*peer));
	/*
	 * This sets no addresses, so tickets that contain addresses work
	 * through NAT.
	 */
	problem = krb5_auth_con_init(a->context, &session);
	if (problem == 0)
		problem = krb5_rd_req(a->context, &session, &request, NULL,
		    a->keys, &options, &ticket);
	peer->mutual = (options & AP_OPTS_MUTUAL_REQUIRED) != 0 ? 1 : 0;
	if (problem == 0)
		problem = verify_decrypted(a, session, &request, ticket,
		    purpose, peer);
	if (problem != 0)
		log_refused_ap_req(a, problem, purpose);
	krb5_free_ticket(a->context, ticket);
	krb5_auth_con_free(a->context, session);
	return problem;
}

int
auth_accept(struct auth *a, const void *ap_req, size_t n,
    struct auth_peer *peer, struct auth_answer *answer)
{
	krb5_error_code problem;

	krb5_free_data_contents(a->context, &a->answer);
	problem = verify(a, ap_req, n, FOR_SENDAUTH, peer);
	if (problem != 0)
		make_error(a, problem, answer);
	else
		set_answer(a, answer);
	return problem == 0 ? 0 : -1;
}

int
auth_screen(struct auth *a, const void *ap_req, size_t n,
    struct auth_peer *peer)
{
	return verify(a, ap_req, n, FOR_GSSAPI, peer) == 0 ? 0 : -1;
}
