/*
 * Unit tests of account.c: names and accounts.
 * Runs as anybody, with an account database that can be strange.
 */
#include "config.h"

#include <pwd.h>
#include <string.h>

#include "account.h"
#include "tests/unit/check.h"

static struct passwd *entry; /* what the database has for every name and uid; NULL: the machine's own */

struct passwd *__real_getpwnam(const char *);
struct passwd *__wrap_getpwnam(const char *);
struct passwd *__real_getpwuid(uid_t);
struct passwd *__wrap_getpwuid(uid_t);

struct passwd *
__wrap_getpwnam(const char *name)
{
	return entry != NULL ? entry : __real_getpwnam(name);
}

struct passwd *
__wrap_getpwuid(uid_t uid)
{
	return entry != NULL ? entry : __real_getpwuid(uid);
}

static void
names(void)
{
	static const char *const good[] = { "alice", "a", "_x", "A.b-c_d", "9lives",
		"abcdefghijklmnopqrstuvwxyz012345" };
	static const char *const bad[] = { "", ".", "..", ".a", "-a", "a/b", "../a", "a b",
		"a@b", "a%s", "a\n", "\xc3\xa9", "abcdefghijklmnopqrstuvwxyz0123456", "a\x7f" };

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(account_name_valid(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!account_name_valid(bad[i]));
}

static void
accounts(void)
{
	struct account a;

	CHECK(strcmp(account_find("root", 1, &a), "uid 0") == 0);
	CHECK(strcmp(account_find("daemon", 1000, &a), "uid below the minimum") == 0);
	CHECK(strcmp(account_find("no-such-user-here", 1, &a), "unknown user") == 0);
	CHECK(strcmp(account_find("ro/ot", 1, &a), "not a user name") == 0);
	CHECK(account_find("daemon", 1, &a) == NULL && a.uid == 1);
	CHECK(account_find_uid(1, 1, &a) == NULL && strcmp(a.name, "daemon") == 0);
	CHECK(strcmp(account_find_uid(0, 1, &a), "uid 0") == 0);
	CHECK(strcmp(account_find_uid(4000000000, 1, &a), "unknown user") == 0);
}

/* Databases that fold case, and entries that are longer than Unix has them. */
static void
strange_accounts(void)
{
	static char name[] = "alice", other[] = "Alice", home[5000], long_name[40];
	struct passwd strange = { .pw_name = name, .pw_uid = 1000, .pw_gid = 1000, .pw_dir = home };
	struct account a;

	memset(long_name, 'a', sizeof(long_name) - 1);
	entry = &strange;
	CHECK(account_find("alice", 1, &a) == NULL && a.gid == 1000 && a.home[0] == '\0');
	strange.pw_name = other;
	CHECK(strcmp(account_find("alice", 1, &a), "user name differs from the account's") == 0);
	strange.pw_name = long_name;
	CHECK(strcmp(account_find_uid(1000, 1, &a), "user name too long") == 0);
	strange.pw_name = name;
	memset(home, '/', sizeof(home) - 1);
	CHECK(strcmp(account_find("alice", 1, &a), "home directory name too long") == 0);
	entry = NULL;
}

int
main(void)
{
	names();
	accounts();
	strange_accounts();
	return 0;
}
