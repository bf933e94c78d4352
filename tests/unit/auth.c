/*
 * Unit tests of auth-permit.c: a principal that .k5login or the rules name is
 * permitted, unless it is anonymous, of a realm that is not accepted, or has a
 * NUL. And of auth-start.c: the snapshot of krb5.conf and the clock skew.
 * Runs as any user that has a name.
 */
#include "config.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "auth-permit.h"
#include "auth-start.h"
#include "tests/unit/check.h"

static char home[] = "/tmp/kpopd-auth.XXXXXX";

/* Writes a file in the home directory. */
static void
write_file(const char *name, const char *text)
{
	int dir = open(home, O_RDONLY | O_DIRECTORY);
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd != -1 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(close(fd) == 0 && close(dir) == 0);
}

/*
 * The snapshot as one file has the same relations: with quotation marks, blanks
 * and subsections.
 */
static void
the_snapshot_is_its_own_copy(void)
{
	struct auth *a, *again;
	const char *text;

	write_file("krb5.conf", "[libdefaults]\n\tdefault_realm = A.TEST\n[other]\n\tplain = x y\n\tsub = {\n"
	    "\t\tdeep = {\n\t\t\tk = \"  \\\"q\\\" \\\\ \\n\\t\\b \"\n\t\t\tk = \"\"\n\t\t}\n\t}\n"
	    "\tsub = {\n\t\tmore = =}{[;#\n\t}\n");
	CHECK((a = auth_prepare()) != NULL && (text = auth_krb5conf(a)) != NULL);
	CHECK(strstr(text, "k = \"  \\\"q\\\" \\\\ \\n\\t\\b \"\n") != NULL && strstr(text, "k = \"\"\n") != NULL);
	CHECK(strstr(text, "plain = \"x y\"\n") != NULL && strstr(text, "more = \"=}{[;#\"\n") != NULL);
	write_file("krb5.conf", text);
	CHECK((again = auth_prepare()) != NULL && strcmp(auth_krb5conf(again), text) == 0);
	auth_free(a);
	auth_free(again);
}

/*
 * The clock skew is that of krb5.conf; libkrb5's default if krb5.conf has no
 * valid one.
 */
static void
the_skew_is_read(void)
{
	static const struct {
		const char *value;
		int skew;
	} skews[] = { { "60", 60 }, { "0", 0 }, { "86400", 86400 }, { "-5", 300 }, { "x", 300 }, { "", 300 },
		{ "99999999999999999999", 300 } };
	char text[200];
	struct auth *a;

	for (size_t i = 0; i < sizeof(skews) / sizeof(skews[0]); i++) {
		snprintf(text, sizeof(text), "[libdefaults]\n\tdefault_realm = A.TEST\n\tclockskew = %s\n", skews[i].value);
		write_file("krb5.conf", text);
		CHECK((a = auth_prepare()) != NULL);
		CHECK(auth_skew(a) == skews[i].skew);
		auth_free(a);
	}
	write_file("krb5.conf", "[libdefaults]\n\tdefault_realm = A.TEST\n");
	CHECK((a = auth_prepare()) != NULL && auth_skew(a) == 300);
	auth_free(a);
}

/* Who may be the user me, with this context. */
static void
principals_are_judged(struct auth *a, const struct passwd *me)
{
	char name[128];
	const char *why;

#define PERMITTED(who, realms) permit_find_rule(a, who, realms, me->pw_name, home, &why)
	/* Without .k5login the whole name decides. */
	snprintf(name, sizeof(name), "%s@A.TEST", me->pw_name);
	CHECK(PERMITTED(name, NULL) != NULL);
	snprintf(name, sizeof(name), "%s\\0@A.TEST", me->pw_name);
	CHECK(PERMITTED(name, NULL) == NULL && strcmp(why, "a NUL in the principal") == 0);
	snprintf(name, sizeof(name), "%s\\0x@A.TEST", me->pw_name);
	CHECK(PERMITTED(name, NULL) == NULL && strcmp(why, "a NUL in the principal") == 0);
	snprintf(name, sizeof(name), "%s@A.TEST\\0", me->pw_name);
	CHECK(PERMITTED(name, NULL) == NULL && strcmp(why, "a NUL in the principal") == 0);
	write_file(me->pw_name, "one@A.TEST\ntwo@B.TEST\nWELLKNOWN/ANONYMOUS@A.TEST\n"
	    "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS\nWELLKNOWN/OTHER@A.TEST\n");
	CHECK(PERMITTED("one@A.TEST", NULL) != NULL && PERMITTED("two@B.TEST", NULL) != NULL);
	CHECK(PERMITTED("WELLKNOWN/OTHER@A.TEST", NULL) != NULL);
	CHECK(PERMITTED("three@A.TEST", NULL) == NULL && strcmp(why, "not permitted to be this user") == 0);
	CHECK(PERMITTED("WELLKNOWN/ANONYMOUS@A.TEST", NULL) == NULL && strcmp(why, "the principal is anonymous") == 0);
	CHECK(PERMITTED("WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS", NULL) == NULL && strcmp(why, "the principal is anonymous") == 0);
	CHECK(PERMITTED("one@A.TEST", "A.TEST") != NULL && PERMITTED("one@A.TEST", "B.TEST,A.TEST") != NULL);
	CHECK(PERMITTED("two@B.TEST", "A.TEST") == NULL && strcmp(why, "the principal's realm is not one of -r") == 0);
	CHECK(PERMITTED("one@A.TEST", "") == NULL && PERMITTED("one@A.TEST", "A.TES,.TEST,A,A.TEST2") == NULL);
	CHECK(PERMITTED("one@A@B", NULL) == NULL && strcmp(why, "malformed principal") == 0);
	CHECK(PERMITTED("", "A.TEST") == NULL);
#undef PERMITTED
}

int
main(void)
{
	const struct passwd *me = getpwuid(geteuid());
	char path[64], text[200];
	struct auth *a;

	CHECK(me != NULL && mkdtemp(home) != NULL);
	snprintf(path, sizeof(path), "%s/krb5.conf", home);
	snprintf(text, sizeof(text), "[libdefaults]\n"
	    "default_realm = A.TEST\nk5login_directory = %s\n", home);
	write_file("krb5.conf", text);
	CHECK(setenv("KRB5_CONFIG", path, 1) == 0);
	CHECK((a = auth_prepare()) != NULL);
	principals_are_judged(a, me);
	the_snapshot_is_its_own_copy();
	the_skew_is_read();
	CHECK(unlink(path) == 0);
	snprintf(path, sizeof(path), "%s/%s", home, me->pw_name);
	CHECK(unlink(path) == 0);
	return rmdir(home);
}
