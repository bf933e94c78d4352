/*
 * Kerberos and nothing else: who is at the other end, and may they be this user?
 *
 * It begins as root, with krb5.conf, for all processes that come from there.
 * The first half runs as the pre-auth process: as root while it reads the keytab, then as
 * the pre-auth user. The second half runs in the session as the owner of the
 * mailbox, without any key. The client's bytes are not trusted; libkrb5 and
 * the keytab are.
 *
 * krb5_recvauth is not used: it allocates what the peer says (up to 2 GiB),
 * reads without a time limit, and can return 0 without having seen a ticket.
 * Its parts behind the framing are public, and are what is called here.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <krb5.h>
#include <limits.h>
#include <profile.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "auth.h"
#include "der.h"
#include "log.h"
#include "replay-cache.h"
#include "auth-krb5conf.h"

struct auth {
	krb5_context context;
	struct krb5conf *settings; /* what the context knows of krb5.conf */
	char *text;               /* the same as one file */
	krb5_keytab keys;         /* in memory: pop/ and pop3/ only */
	krb5_principal name;      /* ours, for a KRB-ERROR */
	krb5_data answer;         /* what the last auth_answer points to */
	struct replay *replay;    /* what was accepted; NULL: nothing can be */
};

/* What an AP-REQ was made for. */
enum purpose { FOR_SENDAUTH, FOR_GSSAPI };

/* libkrb5's, where krb5.conf says nothing. */
#define DEFAULT_SKEW 300

/* Logs what libkrb5 could not do. */
static void
complain(krb5_context context, krb5_error_code problem, const char *what)
{
	struct log_text t;
	const char *text = krb5_get_error_message(context, problem);

	log_event(LOG_ERR, "failed", "what=\"%s\" error=\"%s\"", what,
	    log_words(&t, text));
	krb5_free_error_message(context, text);
}

/*
 * Returns true if the principal is pop/HOST or pop3/HOST, for which Emacs'
 * movemail asks. Letters may be of either case, because Active Directory has
 * one service under all spellings, and its tools write keytabs with POP/HOST.
 */
static bool
is_pop(krb5_const_principal p)
{
	const krb5_data *first = p->data;

	if (p->length != 2)
		return false;
	return (first->length == 3 && strncasecmp(first->data, "pop", 3) == 0) ||
	    (first->length == 4 && strncasecmp(first->data, "pop3", 4) == 0);
}

/*
 * Copies the wanted keys. Returns how many, or -1 with *problem set.
 *
 * A keytab in memory is read before the chroot hides the file; and it holds
 * no host/ or HTTP/ key, which libkrb5 would otherwise try on every ticket.
 */
static int
copy_keys(struct auth *a, krb5_keytab from, krb5_const_principal only,
    krb5_error_code *problem)
{
	krb5_kt_cursor cursor;
	krb5_keytab_entry entry;
	int n = 0;

	if ((*problem = krb5_kt_start_seq_get(a->context, from, &cursor)) != 0)
		return -1;
	while ((*problem = krb5_kt_next_entry(a->context, from, &entry,
		    &cursor)) == 0) {
		bool wanted = is_pop(entry.principal) &&
		    (only == NULL ||
			krb5_principal_compare(a->context, entry.principal, only));

		if (wanted)
			*problem = krb5_kt_add_entry(a->context, a->keys, &entry);
		if (wanted && a->name == NULL && *problem == 0)
			*problem = krb5_copy_principal(a->context,
			    entry.principal, &a->name);
		krb5_free_keytab_entry_contents(a->context, &entry);
		if (*problem != 0)
			break;
		n += wanted;
	}
	krb5_kt_end_seq_get(a->context, from, &cursor);
	return *problem == KRB5_KT_END ? n : -1;
}

/* Reads the name of the service that -s names into *only. Returns 0, or -1 having logged why. */
static int
read_service(struct auth *a, const char *service, krb5_principal *only)
{
	struct log_text t;
	krb5_error_code problem = krb5_parse_name(a->context, service, only);

	if (problem != 0) {
		complain(a->context, problem, "reading the name of the service");
		return -1;
	}
	if (is_pop(*only))
		return 0;
	log_event(LOG_ERR, "failed", "what=\"reading the name of the service\" "
	    "error=\"-s is neither pop/HOST nor pop3/HOST: %s\"",
	    log_words(&t, service));
	return -1;
}

/* Logs that the keytab has no key for us, or none for the service that -s names. */
static void
log_no_key(struct auth *a, krb5_const_principal only)
{
	struct log_text t;
	char *name = NULL;

	if (only == NULL)
		log_event(LOG_ERR, "failed", "what=\"reading the keytab\" error=\"no key for pop/ or pop3/ in it\"");
	else
		log_event(LOG_ERR, "failed", "what=\"reading the keytab\" error=\"no key for %s, the service of -s, in it\"",
		    krb5_unparse_name(a->context, only, &name) == 0 ? log_words(&t, name) : "its principal");
	krb5_free_unparsed_name(a->context, name);
}

/* Opens the keytab and takes what we may use from it. Returns 0, or -1 having logged why. */
static int
load_keys(struct auth *a, const char *keytab, const char *service)
{
	krb5_keytab from;
	krb5_principal only = NULL;
	krb5_error_code problem;
	int n;

	if (service != NULL && read_service(a, service, &only) == -1)
		return -1;
	problem = keytab != NULL ? krb5_kt_resolve(a->context, keytab, &from) :
				   krb5_kt_default(a->context, &from);
	if (problem == 0)
		problem = krb5_kt_resolve(a->context, AUTH_KEYS, &a->keys);
	if (problem != 0) {
		complain(a->context, problem, "naming the keytab");
		return -1;
	}
	n = copy_keys(a, from, only, &problem);
	krb5_kt_close(a->context, from);
	if (n == -1)
		complain(a->context, problem, "reading the keytab");
	else if (n == 0)
		log_no_key(a, only);
	krb5_free_principal(a->context, only);
	return n > 0 ? 0 : -1;
}

/* The context for all that follows, over what the files of krb5.conf say now. */
static krb5_error_code
keep_settings(struct auth *a, krb5_context read)
{
	profile_t files, kept;
	krb5_error_code problem = krb5_get_profile(read, &files);

	if (problem != 0)
		return problem;
	problem = (krb5_error_code)krb5conf_read(files, &a->settings, &kept);
	profile_release(files);
	if (problem != 0)
		return problem;
	a->text = krb5conf_text(a->settings);
	problem = a->text != NULL ? krb5_init_context_profile(kept, 0, &a->context) : ENOMEM;
	profile_release(kept);
	if (problem != 0)
		krb5conf_free(a->settings);
	return problem;
}

struct auth *
auth_prepare(void)
{
	struct auth *a = calloc(1, sizeof(*a));
	krb5_context read;
	krb5_error_code problem;
	char *realm;

	if (a == NULL)
		fatal("calloc");
	if ((problem = krb5_init_context(&read)) != 0) {
		complain(NULL, problem, "krb5_init_context");
		free(a);
		return NULL;
	}
	if ((problem = keep_settings(a, read)) != 0)
		complain(read, problem, "reading krb5.conf");
	krb5_free_context(read);
	if (problem != 0) {
		free(a->text);
		free(a);
		return NULL;
	}
	/* Asked for once, for all that are forked: where krb5.conf does not say it the host's name does. */
	if (krb5_get_default_realm(a->context, &realm) == 0)
		krb5_free_default_realm(a->context, realm);
	return a;
}

void
auth_forget(struct auth *a)
{
	krb5_free_context(a->context);
	krb5conf_free(a->settings);
	free(a->text);
	free(a);
}

/* As libkrb5 reads it; a negative one would refuse everybody. */
int
auth_skew(const struct auth *a)
{
	profile_t profile;
	int skew = DEFAULT_SKEW;

	if (krb5_get_profile(a->context, &profile) != 0)
		return DEFAULT_SKEW;
	if (profile_get_integer(profile, "libdefaults", "clockskew", NULL, DEFAULT_SKEW, &skew) != 0 || skew < 0)
		skew = DEFAULT_SKEW;
	profile_release(profile);
	return skew;
}

int
auth_open(struct auth *a, const char *keytab, const char *service, struct replay *replay)
{
	/* libkrb5 has none of its own, whatever krb5.conf says. */
	if (setenv("KRB5RCACHENAME", "none:", 1) == -1)
		fatal("preparing Kerberos");
	a->replay = replay;
	return load_keys(a, keytab, service);
}

bool
auth_is_empty(const struct auth *a)
{
	return krb5conf_none(a->settings);
}

const char *
auth_configuration(const struct auth *a)
{
	return a->text;
}

static void
set_answer(struct auth *a, struct auth_answer *answer)
{
	answer->data = a->answer.data;
	answer->size = a->answer.length;
}

/*
 * The KRB-ERROR of krb5_recvauth: the protocol's code, or "generic" for what
 * has none, and the standard text with its NUL, which old clients print as a
 * string.
 */
static void
make_error(struct auth *a, krb5_error_code problem, struct auth_answer *answer)
{
	const char *text = error_message(problem);
	krb5_error e = { .server = a->name };

	krb5_us_timeofday(a->context, &e.stime, &e.susec);
	if (problem < ERROR_TABLE_BASE_krb5 || problem > ERROR_TABLE_BASE_krb5 + 127)
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

/* A principal's text form into to[AUTH_NAME]; -1 when it does not fit. */
static krb5_error_code
name_of(krb5_context context, krb5_const_principal p, char *to)
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

/* Fills *peer from a ticket that has been proven, and its session key. Returns 0 or a krb5 error. */
static krb5_error_code
describe(struct auth *a, const krb5_keyblock *key, const krb5_ticket *ticket,
    struct auth_peer *peer)
{
	krb5_error_code problem;

	/* libkrb5 puts the keytab's name here, whatever the client claimed. */
	if (!is_pop(ticket->server))
		return KRB5KRB_AP_WRONG_PRINC;
	problem = name_of(a->context, ticket->server, peer->service);
	if (problem == 0)
		problem = name_of(a->context, ticket->enc_part2->client,
		    peer->principal);
	/* The ticket's type is in clear, but libkrb5 has decrypted the ticket by a key of that type. */
	if (problem == 0)
		problem = krb5_enctype_to_name(ticket->enc_part.enctype, FALSE, peer->ticket, sizeof(peer->ticket));
	if (problem == 0)
		problem = krb5_enctype_to_name(key->enctype, FALSE, peer->session, sizeof(peer->session));
	return problem;
}

/* The checksum of an AP-REQ that was made for GSSAPI (RFC 4121 section 4.1.1). */
#define GSSAPI_CHECKSUM 0x8003

/*
 * Returns 0 if an authenticator was made for this purpose. Otherwise a first
 * token of AUTH GSSAPI that was held back would open KPOP, where the client
 * need not prove afterwards that it has the session key.
 */
static krb5_error_code
check_purpose(const krb5_authenticator *authenticator, enum purpose purpose)
{
	const krb5_checksum *checksum = authenticator->checksum;
	bool is_for_gssapi = checksum != NULL && checksum->checksum_type == GSSAPI_CHECKSUM;

	return is_for_gssapi == (purpose == FOR_GSSAPI) ? 0 : KRB5KRB_AP_ERR_INAPP_CKSUM;
}

/* Returns an error that the client hears as "unavailable", with the reason for the log. */
static krb5_error_code
unavailable(struct auth *a, const char *reason)
{
	krb5_set_error_message(a->context, KRB5KDC_ERR_SVC_UNAVAILABLE, "replay cache: %s", reason);
	return KRB5KDC_ERR_SVC_UNAVAILABLE;
}

/* Returns the error for what the replay cache says, or 0. */
static krb5_error_code
error_of(struct auth *a, enum replay_result result, const char *principal)
{
	char text[AUTH_NAME + 64];

	switch (result) {
	case REPLAY_NEW:
		return 0;
	case REPLAY_SHOWN:
		return KRB5KRB_AP_ERR_REPEAT;
	case REPLAY_SKEW:
		return KRB5KRB_AP_ERR_SKEW;
	case REPLAY_EARLIER:
		krb5_set_error_message(a->context, KRB5KRB_AP_ERR_SKEW,
		    "Made before the replay cache or this boot of the machine began");
		return KRB5KRB_AP_ERR_SKEW;
	case REPLAY_TOO_MANY:
		snprintf(text, sizeof(text), "too many logins of principal %s", principal);
		return unavailable(a, text);
	case REPLAY_FULL:
		return unavailable(a, "too many logins");
	case REPLAY_FAILED:
		break;
	}
	return unavailable(a, strerror(errno));
}

/*
 * Finds the encrypted authenticator in an AP-REQ (RFC 4120 section 5.5.1).
 * Returns false if the AP-REQ is not exactly that, although libkrb5 takes it.
 */
static bool
find_authenticator(const krb5_data *ap_req, struct der *cipher)
{
	struct der all = { (const unsigned char *)ap_req->data, ap_req->length };
	struct der request, field, part, skipped;

	/* Its version, type, options and ticket come first. */
	if (!der_take(&all, 0x6e, &request) || all.left > 0 ||
	    !der_take(&request, 0x30, &field) || request.left > 0 ||
	    !der_take(&field, 0xa0, &skipped) || !der_take(&field, 0xa1, &skipped) ||
	    !der_take(&field, 0xa2, &skipped) || !der_take(&field, 0xa3, &skipped) ||
	    !der_take(&field, 0xa4, &part) || field.left > 0)
		return false;
	/* EncryptedData (section 5.2.9): the type, perhaps the key's version, the cipher text. */
	if (!der_take(&part, 0x30, &field) || part.left > 0 || !der_take(&field, 0xa0, &skipped))
		return false;
	der_take(&field, 0xa1, &skipped);
	return der_take(&field, 0xa2, &part) && field.left == 0 &&
	    der_take(&part, 0x04, cipher) && part.left == 0;
}

/*
 * Remembers an authenticator, by its cipher text and session key. The other
 * bytes of an AP-REQ are not protected: an altered copy would look new. The
 * fields of the authenticator alone would not do, because two clients of one
 * principal may make theirs in the same microsecond.
 */
static krb5_error_code
remember(struct auth *a, const krb5_data *ap_req, const krb5_authenticator *authenticator,
    const krb5_keyblock *key, const char *principal)
{
	struct der cipher = { 0 };
	bool is_found = find_authenticator(ap_req, &cipher);
	const struct replay_piece pieces[] = {
		{ principal, strlen(principal) },
		{ &authenticator->ctime, sizeof(authenticator->ctime) },
		{ cipher.at, cipher.left },
		{ key->contents, key->length },
	};
	const struct replay_authenticator shown = { .principal = pieces[0],
		/* libkrb5's timestamps have 32 bits and no sign, until 2106. */
		.ctime = (uint32_t)authenticator->ctime,
		.pieces = pieces, .count = sizeof(pieces) / sizeof(pieces[0]) };

	if (!is_found)
		return KRB5KRB_AP_ERR_MODIFIED;
	if (a->replay == NULL)
		return unavailable(a, "there is none");
	return error_of(a, replay_show(a->replay, &shown), principal);
}

/*
 * Judges what libkrb5 has decrypted, and fills *peer. The authenticator is
 * remembered last, so that nothing that is refused fills the cache.
 */
static krb5_error_code
judge_ticket(struct auth *a, krb5_auth_context session, const krb5_data *ap_req, const krb5_ticket *ticket,
    enum purpose purpose, struct auth_peer *peer)
{
	krb5_authenticator *authenticator = NULL;
	krb5_keyblock *key = NULL;
	krb5_error_code problem;

	if (ticket == NULL || ticket->enc_part2 == NULL)
		return KRB5KRB_AP_ERR_MODIFIED;
	problem = krb5_auth_con_getauthenticator(a->context, session, &authenticator);
	if (problem == 0)
		problem = check_purpose(authenticator, purpose);
	if (problem == 0)
		problem = krb5_auth_con_getkey(a->context, session, &key);
	if (problem == 0)
		problem = describe(a, key, ticket, peer);
	if (problem == 0 && peer->mutual && purpose == FOR_SENDAUTH)
		problem = krb5_mk_rep(a->context, session, &a->answer);
	if (problem == 0)
		problem = remember(a, ap_req, authenticator, key, peer->principal);
	krb5_free_keyblock(a->context, key);
	if (authenticator != NULL)
		krb5_free_authenticator(a->context, authenticator);
	return problem;
}

/* The whole judgement: returns 0 or why not, having logged it. The AP-REP is made before anything says yes. */
static krb5_error_code
judge(struct auth *a, const void *ap_req, size_t n, enum purpose purpose, struct auth_peer *peer)
{
	krb5_data request = { .data = (char *)(uintptr_t)ap_req, .length = (unsigned)n };
	krb5_auth_context session = NULL;
	krb5_error_code problem;
	krb5_flags options = 0;
	krb5_ticket *ticket = NULL;

	memset(peer, 0, sizeof(*peer));
	/* No addresses are set, so addressed tickets work from behind NAT. */
	problem = krb5_auth_con_init(a->context, &session);
	if (problem == 0)
		problem = krb5_rd_req(a->context, &session, &request, NULL, a->keys, &options, &ticket);
	peer->mutual = (options & AP_OPTS_MUTUAL_REQUIRED) != 0 ? 1 : 0;
	if (problem == 0)
		problem = judge_ticket(a, session, &request, ticket, purpose, peer);
	if (problem != 0) {
		struct log_text t;
		const char *text = krb5_get_error_message(a->context, problem);

		log_event(LOG_NOTICE, "refused", "reason=\"%s\" error=\"%s\"",
		    purpose == FOR_GSSAPI ? "GSSAPI" : "Kerberos", log_words(&t, text));
		krb5_free_error_message(a->context, text);
	}
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
	problem = judge(a, ap_req, n, FOR_SENDAUTH, peer);
	if (problem != 0)
		make_error(a, problem, answer);
	else
		set_answer(a, answer);
	return problem == 0 ? 0 : -1;
}

int
auth_screen(struct auth *a, const void *ap_req, size_t n, struct auth_peer *peer)
{
	return judge(a, ap_req, n, FOR_GSSAPI, peer) == 0 ? 0 : -1;
}

/* Writes the path of the user's .k5login, where krb5.conf has it, into path[size]. Returns 0 or a krb5 error. */
static krb5_error_code
locate_k5login(krb5_context context, const char *user, const char *home, char *path, size_t size)
{
	char *directory = NULL;
	profile_t profile;
	krb5_error_code problem = krb5_get_profile(context, &profile);
	int n;

	if (problem != 0)
		return problem;
	if (profile_get_string(profile, "libdefaults", "k5login_directory",
		NULL, NULL, &directory) == 0 && directory != NULL)
		n = snprintf(path, size, "%s/%s", directory, user);
	else
		n = snprintf(path, size, "%s/.k5login", home);
	profile_release_string(directory);
	profile_release(profile);
	return n >= 0 && (size_t)n < size ? 0 : ENAMETOOLONG;
}

/*
 * Returns false if nobody can tell whether the user has a .k5login (logged).
 * Looks as the user, as libkrb5 does.
 */
static bool
can_look(const char *path)
{
	if (access(path, F_OK) == 0 || errno == ENOENT || errno == ENOTDIR)
		return true;
	log_event(LOG_ERR, "failed", "what=\"looking for .k5login\" error=\"%s\"",
	    strerror(errno));
	return false;
}

/*
 * Returns true if this .k5login names the principal, by libkrb5's rules: the
 * file is root's or the user's, and a line of it is the principal's text.
 */
static bool
is_named(krb5_context context, const char *path, krb5_const_principal who)
{
	/* A FIFO gave its only line to libkrb5; this process must not wait for another. */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	FILE *file = fd != -1 ? fdopen(fd, "r") : NULL;
	char line[BUFSIZ], *text = NULL;
	struct stat st;
	bool found = false, is_rest = false;

	if (file != NULL && fstat(fileno(file), &st) == 0 && (st.st_uid == 0 || st.st_uid == geteuid()) &&
	    krb5_unparse_name(context, who, &text) == 0)
		/* The file is the user's, and may be one line of a TiB. */
		while (!found && fgets(line, sizeof(line), file) != NULL) {
			size_t n = strcspn(line, "\n");
			bool ends = line[n] == '\n';

			line[n] = '\0';
			found = !is_rest && strcmp(line, text) == 0;
			is_rest = !ends;
		}
	krb5_free_unparsed_name(context, text);
	if (file != NULL)
		fclose(file);
	return found;
}

/* Returns true if word is among the values of a relation of [plugins] localauth in krb5.conf. *is_set: whether it has any. */
static bool
is_listed(profile_t profile, const char *relation, const char *word, bool *is_set)
{
	const char *names[] = { "plugins", "localauth", relation, NULL };
	char **values = NULL;
	bool found = false;

	*is_set = profile_get_values(profile, names, &values) == 0;
	for (char **value = values; *is_set && !found && *value != NULL; value++)
		found = strcmp(*value, word) == 0;
	profile_free_list(values);
	return found;
}

/* Returns true if krb5_kuserok asks this module of libkrb5. sssd's krb5.conf may turn all but its own off. */
static bool
is_asked(krb5_context context, const char *module)
{
	profile_t profile;
	bool is_set, asked;

	if (krb5_get_profile(context, &profile) != 0)
		return false;
	asked = is_listed(profile, "enable_only", module, &is_set) || !is_set;
	asked = asked && !is_listed(profile, "disable", module, &is_set);
	profile_release(profile);
	return asked;
}

/* Returns which rule has let the principal in, after krb5_kuserok has. */
static const char *
name_rule(krb5_context context, const char *path, krb5_const_principal who, const char *user)
{
	char local[LOGIN_NAME_MAX];

	if (is_asked(context, "k5login") && is_named(context, path, who))
		return "k5login";
	if (is_asked(context, "an2ln") &&
	    krb5_aname_to_localname(context, who, sizeof(local), local) == 0 && strcmp(local, user) == 0)
		return "localname";
	return "plugin";
}

/* Whether a principal's realm is one of these, with commas between them. */
static bool
is_of_realm(krb5_const_principal who, const char *realms)
{
	size_t n = who->realm.length;

	for (const char *p = realms; *p != '\0'; p += strspn(p, ",")) {
		size_t length = strcspn(p, ",");

		if (length == n && memcmp(p, who->realm.data, n) == 0)
			return true;
		p += length;
	}
	return false;
}

/* libkrb5 makes a C string of a component before it compares it with the user's name: "alice\0" would be alice. */
static bool
has_nul(krb5_const_principal who)
{
	for (int i = 0; i < who->length; i++)
		if (who->data[i].length > 0 &&
		    memchr(who->data[i].data, '\0', who->data[i].length) != NULL)
			return true;
	/* And of a realm, before it compares that with a rule of auth_to_local. */
	return who->realm.length > 0 && memchr(who->realm.data, '\0', who->realm.length) != NULL;
}

const char *
auth_permitted(struct auth *a, const char *principal, const char *realms,
    const char *user, const char *home, const char **why)
{
	krb5_context context = a->context;
	krb5_principal who;
	krb5_error_code problem;
	char path[PATH_MAX + LOGIN_NAME_MAX + 1];

	if ((problem = krb5_parse_name(context, principal, &who)) != 0) {
		complain(context, problem, "reading the principal");
		*why = "no principal";
		return NULL;
	}
	/* Whoever the KDC does not know (RFC 8062) is nobody here, whatever a .k5login says. */
	if (krb5_principal_compare_any_realm(context, who, krb5_anonymous_principal())) {
		*why = "anonymous";
		return NULL;
	}
	if (has_nul(who)) {
		*why = "a NUL in the principal";
		return NULL;
	}
	if (realms != NULL && !is_of_realm(who, realms)) {
		*why = "the realm is not accepted";
		return NULL;
	}
	*why = "not permitted to be this user";
	/* libkrb5 takes one that it fails to see for an absent one, for which a wider rule holds. */
	if ((problem = locate_k5login(context, user, home, path, sizeof(path))) != 0) {
		complain(context, problem, "naming .k5login");
		return NULL;
	}
	return can_look(path) && krb5_kuserok(context, who, user) ? name_rule(context, path, who, user) : NULL;
}
