/*
 * Unit tests of account.c: names and accounts.
 *
 * Runs as any user. While the variable "entry", "away" or "expires" is set, the
 * test's own account database is used.
 */
#include "config.h"

#include <errno.h>
#include <pwd.h>
#include <shadow.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "account.h"
#include "tests/unit/check.h"

static const struct account_domains domains = { .host = "mx",
	.service = "pop/mail.h.test@H.TEST",
	.more = "e.test,E2.test" };
/*
 * the database's entry for every name and uid, or NULL for the machine's
 * database
 */
static struct passwd *entry;

static const struct account_uids people = { 1000, ACCOUNT_UID_MOST };
/*
 * the expiry date of every account in the shadow database; NONE if no account
 * has an entry there
 */
static long expires;
/* the error of the shadow database, or HANGS if it must not answer */
static int shadow_fails;
#define NONE -2
#define HANGS -1
static int away; /* the errno of the account database, or 0 */
/* the only name that has an entry, or NULL if every name has one */
static const char *only;

int __real_getpwnam_r(const char *, struct passwd *, char *, size_t,
    struct passwd **);
int __wrap_getpwnam_r(const char *, struct passwd *, char *, size_t,
    struct passwd **);
struct passwd *__real_getpwuid(uid_t);
struct passwd *__wrap_getpwuid(uid_t);

int
__wrap_getpwnam_r(const char *name, struct passwd *to, char *room, size_t size,
    struct passwd **pw)
{
	if (entry == NULL && away == 0)
		return __real_getpwnam_r(name, to, room, size, pw);
	*pw = away == 0 && (only == NULL || strcmp(name, only) == 0) ? entry :
								       NULL;
	return away;
}

struct passwd *
__wrap_getpwuid(uid_t uid)
{
	return entry != NULL ? entry : __real_getpwuid(uid);
}

int __wrap_getspnam_r(const char *, struct spwd *, char *, size_t,
    struct spwd **);

int
__wrap_getspnam_r(const char *name, struct spwd *to, char *room, size_t size,
    struct spwd **sp)
{
	(void)name, (void)room, (void)size;
	while (shadow_fails == HANGS)
		pause();
	*to = (struct spwd){ .sp_expire = expires };
	*sp = expires == NONE || shadow_fails != 0 ? NULL : to;
	return shadow_fails;
}

/* Tests which uids may log in. */
static void
uids(void)
{
	static const uid_t good[] = { 1000, 1001, 60000, 61184, 65519, 65533,
		65536, 524288, 1879048192, 4294967293 };
	static const uid_t never[] = { 65534, 65535, (uid_t)-2, (uid_t)-1 };
	const struct account_uids few = { 2000, 3000 },
				  all = { 1, ACCOUNT_UID_MOST };
	static char name[] = "alice", home[] = "/h";
	struct passwd pw = { .pw_name = name, .pw_dir = home };
	struct account a;

	entry = &pw;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		pw.pw_uid = good[i];
		CHECK(account_find("alice", &people, &a) == NULL &&
		    a.uid == good[i]);
	}
	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
		pw.pw_uid = never[i];
		CHECK(strcmp(account_find("alice", &all, &a),
			  "uid of nobody") == 0);
		CHECK(strcmp(account_find_uid(never[i], &all, &a),
			  "uid of nobody") == 0);
	}
	for (uid_t uid = 1998; uid < 3003; uid++) {
		const char *refusal;

		pw.pw_uid = uid;
		refusal = account_find("alice", &few, &a);
		CHECK((refusal == NULL) == (uid >= 2000 && uid <= 3000));
		CHECK(uid <= 3000 ||
		    strcmp(refusal, "uid above the maximum") == 0);
	}
	entry = NULL;
}

/*
 * An account is closed from the day on which it expires. It is also closed if
 * the shadow database reports an error.
 */
static void
expiry(void)
{
	static const int absent[] = { 0, ENOENT, ESRCH },
			 failures[] = { EACCES, EIO, EPERM, ENOMEM, EMFILE,
				 ECONNREFUSED };
	const struct account a = { .name = "alice" };
	long today = time(NULL) / 86400;

	for (long day = -1; day < 3; day++) {
		expires = day;
		CHECK((account_find_closure(&a, 10) == NULL) == (day == -1));
	}
	expires = today - 1;
	CHECK(strcmp(account_find_closure(&a, 10), "account expired") == 0);
	expires = today;
	CHECK(strcmp(account_find_closure(&a, 10), "account expired") == 0);
	expires = today + 2;
	CHECK(account_find_closure(&a, 10) == NULL);
	expires = NONE;
	for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
		shadow_fails = absent[i];
		CHECK(account_find_closure(&a, 10) == NULL);
	}
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		shadow_fails = failures[i];
		CHECK(strcmp(account_find_closure(&a, 10),
			  "the expiry of the account cannot be read") == 0);
	}
	shadow_fails = HANGS;
	CHECK(strcmp(account_find_closure(&a, 1),
		  "the expiry of the account cannot be read") == 0);
	shadow_fails = 0;
	expires = -1;
}

static void
names(void)
{
	static const char *const good[] = { "alice", "a", "_x", "A.b-c_d",
		"9lives", "alice@example.org", "KPOPD\\alice", "alice$",
		"alice+lists", "+alice", "jos\xc3\xa9", "jos\xe9", "a b", " ",
		"~", "*", "%s%n", "\"", "a;id", ".alice", "..alice", "...",
		"alice.lock", "\xff\xfe", "\x80" };
	static const char *const bad[] = { "", ".", "..", "-", "-a", "/", "a/b",
		"../a", "a/../b", "a\n", "\r", "a\t", "\x1b[2Ja", "\x01",
		"a\x7f", "\x1f" };
	char longest[ACCOUNT_NAME + 1] = "";

	memset(longest, 'a', ACCOUNT_NAME - 1);
	CHECK(account_name_valid(longest));
	longest[ACCOUNT_NAME - 1] = 'a';
	CHECK(!account_name_valid(longest));
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(account_name_valid(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!account_name_valid(bad[i]));
}

static void
accounts(void)
{
	struct account a;

	CHECK(strcmp(account_find("root", NULL, &a), "uid 0") == 0);
	CHECK(strcmp(account_find("daemon", &people, &a),
		  "uid below the minimum") == 0);
	CHECK(strcmp(account_find("no-such-user-here", NULL, &a),
		  "unknown user") == 0);
	CHECK(strcmp(account_find("ro/ot", NULL, &a), "not a user name") == 0);
	CHECK(account_find("daemon", NULL, &a) == NULL && a.uid == 1);
	CHECK(account_find_uid(1, NULL, &a) == NULL &&
	    strcmp(a.name, "daemon") == 0);
	CHECK(strcmp(account_find_uid(0, NULL, &a), "uid 0") == 0);
	CHECK(strcmp(account_find_uid(4000000000, NULL, &a), "unknown user") ==
	    0);
}

/*
 * Tests databases that ignore case, and entries that are longer than a struct
 * account.
 */
static void
strange_accounts(void)
{
	static char name[] = "alice", other[] = "Alice", home[5000],
		    long_name[ACCOUNT_NAME + 1];
	struct passwd strange = {
		.pw_name = name, .pw_uid = 1000, .pw_gid = 1000, .pw_dir = home
	};
	struct account a;

	memset(long_name, 'a', sizeof(long_name) - 1);
	entry = &strange;
	CHECK(account_find("alice", NULL, &a) == NULL && a.gid == 1000 &&
	    a.home[0] == '\0');
	strange.pw_name = other;
	CHECK(strcmp(account_find("alice", NULL, &a),
		  "the account has another user name") == 0);
	strange.pw_name = long_name;
	CHECK(strcmp(account_find_uid(1000, NULL, &a), "user name too long") ==
	    0);
	strange.pw_name = name;
	memset(home, '/', sizeof(home) - 1);
	CHECK(strcmp(account_find("alice", NULL, &a),
		  "the path of the home directory is too long") == 0);
	entry = NULL;
}

/*
 * Tests which account account.c selects. The choice depends on the text that
 * the client sends, and on the principal of the client's ticket.
 */
static void
logins(void)
{
	static const struct {
		/*
		 * "there" is the only account that exists; "found" is NULL if
		 * the login is refused
		 */
		const char *text, *principal, *there, *found;
	} cases[] = {
		{ "alice", "alice@A.TEST", "alice", "alice" },
		/* krb5_kuserok decides whether bob may log in */
		{ "alice", "bob@A.TEST", "alice", "alice" },
		{ "alice", "alice@A.TEST", "bob", NULL },
		/*
		 * The text is the principal itself. There is an account with
		 * that name, or there is none.
		 */
		{ "alice@A.TEST", "alice@A.TEST", "alice", "alice" },
		{ "alice@A.TEST", "alice@A.TEST", "alice@A.TEST",
		    "alice@A.TEST" },
		{ "alice@A.TEST", "bob@A.TEST", "alice@A.TEST",
		    "alice@A.TEST" },
		{ "alice@A.TEST", "bob@A.TEST", "alice", NULL },
		/* The case of the realm does not matter. */
		{ "alice@a.test", "alice@A.TEST", "alice", "alice" },
		{ "Alice@A.TEST", "alice@A.TEST", "alice", NULL },
		{ "alice@a.test", "alice\\@a.test@A.TEST", "alice", NULL },
		{ "alice\\@a.test@a.test", "alice\\@a.test@A.TEST",
		    "alice@a.test", "alice@a.test" },
		{ "alice@A", "alice@A.TEST", "alice", NULL },
		{ "alice/admin@A.TEST", "alice/admin@A.TEST", "alice",
		    "alice" },
		{ "alice/admin", "alice/admin@A.TEST", "alice", NULL },
		/* AUTH came without an authzid. */
		{ "", "alice@A.TEST", "alice", "alice" },
		{ "", "alice@A.TEST", "alice@A.TEST", NULL },
		{ "", "/alice@A.TEST", "alice", NULL },
		{ "", "@A.TEST", "alice", NULL },
		{ "", "", "alice", NULL },
		/*
		 * The principal has characters that krb5_unparse_name quotes.
		 */
		{ "", "alice\\@example.org@A.TEST", "alice@example.org",
		    "alice@example.org" },
		{ "alice@example.org", "alice\\@example.org@A.TEST",
		    "alice@example.org", "alice@example.org" },
		{ "", "KPOPD\\\\alice@A.TEST", "KPOPD\\alice", "KPOPD\\alice" },
		{ "", "KPOPD\\\\alice@A.TEST", "KPOPD\\\\alice", NULL },
		{ "", "a\\ b@A.TEST", "a b", "a b" },
		{ "", "a b@A.TEST", "a b", "a b" },
		{ "", "alice\\0@A.TEST", "alice", NULL },
		{ "", "alice\\0x@A.TEST", "alice", NULL },
		{ "", "alice\\n@A.TEST", "alicen", NULL },
		{ "", "alice\\t@A.TEST", "alicet", NULL },
		{ "", "alice\\/bob@A.TEST", "alice", NULL },
		{ "", "alice\\/bob@A.TEST", "alice/bob", NULL },
		{ "", "..\\/alice@A.TEST", "../alice", NULL },
		{ "", "alice\\", "alice", NULL },
		/* The text ends with a domain. */
		{ "alice@H.TEST", "bob@A.TEST", "alice", "alice" },
		{ "alice@h.test", "bob@A.TEST", "alice", "alice" },
		{ "alice@mail.H.test", "bob@A.TEST", "alice", "alice" },
		{ "alice@MX", "bob@A.TEST", "alice", "alice" },
		{ "alice@E.test", "bob@A.TEST", "alice", "alice" },
		{ "alice@e2.TEST", "bob@A.TEST", "alice", "alice" },
		{ "alice@h.test", "bob@A.TEST", "alice@h.test",
		    "alice@h.test" },
		{ "alice@h.test@e.test", "bob@A.TEST", "alice@h.test",
		    "alice@h.test" },
		{ "alice@h.test@e.test", "bob@A.TEST", "alice", NULL },
		{ "alice@@h.test", "bob@A.TEST", "alice", NULL },
		{ "@h.test", "bob@A.TEST", "alice", NULL },
		{ "@h.test", "alice@A.TEST", "alice", NULL },
		{ "alice@", "alice@A.TEST", "alice", NULL },
		{ "alice@e.test,E2.test", "bob@A.TEST", "alice", NULL },
		{ "alice@e.tes", "bob@A.TEST", "alice", NULL },
		{ "alice@.test", "bob@A.TEST", "alice", NULL },
		{ "alice@,", "bob@A.TEST", "alice", NULL },
		{ "alice@pop", "bob@A.TEST", "alice", NULL },
		{ "alice@mail.h.test@H.TEST", "bob@A.TEST", "alice", NULL },
		{ "Alice@h.test", "bob@A.TEST", "alice", NULL },
		{ "../alice@h.test", "bob@A.TEST", "../alice", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char there[64], home[] = "/h";
		struct passwd pw = {
			.pw_name = there, .pw_uid = 1000, .pw_dir = home
		};
		struct account a;
		const char *refusal;

		strlcpy(there, cases[i].there, sizeof(there));
		only = there;
		entry = &pw;
		refusal = account_find_login(cases[i].text, cases[i].principal,
		    &domains, NULL, &a);
		CHECK((refusal == NULL) == (cases[i].found != NULL));
		CHECK(refusal != NULL || strcmp(a.name, cases[i].found) == 0);
	}
	only = NULL;
	entry = NULL;
}

/* attack:7-17 */
/*
 * If the database accepts another spelling of a name, kpopd uses the name in
 * the database entry. If the name in the entry is not a valid user name, kpopd
 * refuses the account.
 */
static void
other_spellings(void)
{
	static char own[] = "alice@a.test", nowhere[] = "../alice",
		    home[] = "/h";
	struct passwd pw = { .pw_name = own, .pw_uid = 1000, .pw_dir = home };
	struct account a;

	entry = &pw;
	CHECK(account_find_login("Alice@A.TEST", "x@A.TEST", &domains, NULL,
		  &a) == NULL &&
	    strcmp(a.name, own) == 0);
	CHECK(account_find_login("", "Alice@A.TEST", &domains, NULL, &a) ==
		NULL &&
	    strcmp(a.name, own) == 0);
	CHECK(account_find_login("Alice@e.test", "x@A.TEST", &domains, NULL,
		  &a) == NULL &&
	    strcmp(a.name, own) == 0);
	/* account_find does not accept another spelling. */
	CHECK(strcmp(account_find("Alice@A.TEST", NULL, &a),
		  "the account has another user name") == 0);
	pw.pw_name = nowhere;
	CHECK(strcmp(account_find_login("alice", "x@A.TEST", &domains, NULL,
			 &a),
		  "the own name of the account is not a user name") == 0);
	CHECK(strcmp(account_find_uid(1000, NULL, &a),
		  "the own name of the account is not a user name") == 0);
	entry = NULL;
}

/*
 * If an account with exactly the client's text as its name exists, or may
 * exist, account.c does not split the text into a user and a domain.
 */
static void
no_second_reading(void)
{
	static char exact[] = "daemon@A.TEST", home[] = "/h";
	static const int failures[] = { EIO, ERANGE, ENOMEM, EMFILE, EAGAIN };
	struct passwd pw = { .pw_name = exact, .pw_uid = 1, .pw_dir = home };
	struct account a;

	only = exact;
	entry = &pw;
	CHECK(strcmp(account_find_login(exact, exact, &domains, &people, &a),
		  "uid below the minimum") == 0);
	for (size_t i = 0; i < sizeof(failures) / sizeof(failures[0]); i++) {
		away = failures[i];
		CHECK(strcmp(account_find_login(exact, exact, &domains, NULL,
				 &a),
			  "the account database does not answer") == 0);
	}
	away = ENOENT;
	CHECK(strcmp(account_find_login(exact, exact, &domains, NULL, &a),
		  "unknown user") == 0);
	away = 0;
	only = NULL;
	entry = NULL;
}

/* attack:7-16 */
/*
 * A compromised pre-auth process could send a service name without host or
 * realm. Then only the host's own name counts as a domain.
 */
static void
strange_domains(void)
{
	static const char *const services[] = { "", "pop", "pop/", "@", "pop/@",
		"pop@a/b", "\\", "pop/h\\", "pop/h\\@x", "/@" };
	static char name[] = "alice", home[] = "/h";
	struct passwd pw = { .pw_name = name, .pw_uid = 1000, .pw_dir = home };
	struct account a;

	only = name;
	entry = &pw;
	for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
		const struct account_domains strange = { .host = "mx",
			.service = services[i] };
		const struct account_domains none = {
			.host = "", .service = services[i], .more = ""
		};

		CHECK(account_find_login("alice@Mx", "x@A.TEST", &strange, NULL,
			  &a) == NULL);
		CHECK(account_find_login("alice@", "x@A.TEST", &strange, NULL,
			  &a) != NULL);
		CHECK(account_find_login("alice@", "x@A.TEST", &none, NULL,
			  &a) != NULL);
		CHECK(account_find_login("alice@mx", "x@A.TEST", &none, NULL,
			  &a) != NULL);
	}
	only = NULL;
	entry = NULL;
}

/*
 * Tests principals whose first component is as long as the longest user name,
 * or longer.
 */
static void
long_principals(void)
{
	static char name[ACCOUNT_NAME], home[] = "/h";
	char principal[ACCOUNT_NAME + 20];
	struct passwd pw = { .pw_name = name, .pw_uid = 1000, .pw_dir = home };
	struct account a;

	memset(name, 'a', ACCOUNT_NAME - 1);
	only = name;
	entry = &pw;
	snprintf(principal, sizeof(principal), "%s@A.TEST", name);
	CHECK(account_find_login("", principal, &domains, NULL, &a) == NULL &&
	    strcmp(a.name, name) == 0);
	snprintf(principal, sizeof(principal), "%sa@A.TEST", name);
	CHECK(strcmp(account_find_login("", principal, &domains, NULL, &a),
		  "not a user name") == 0);
	only = NULL;
	entry = NULL;
}

int
main(void)
{
	names();
	accounts();
	strange_accounts();
	uids();
	expiry();
	logins();
	other_spellings();
	no_second_reading();
	long_principals();
	strange_domains();
	return 0;
}
