/*
 * Unit tests of whom auth.c permits: somebody who is named in .k5login and by
 * the rules is let in, unless anonymous, of a realm that is not accepted or with
 * a NUL in the name. And of what it reads in krb5.conf.
 * Runs as anybody who has a name.
 */
#include "config.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "auth.h"
#include "tests/unit/check.h"

static char home[] = "/tmp/kpopd-auth.XXXXXX";

static void
put(const char *name, const char *text)
{
	int dir = open(home, O_RDONLY | O_DIRECTORY);
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd != -1 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(close(fd) == 0 && close(dir) == 0);
}

/* What krb5.conf says as one file says the same: quotation marks, blanks, sections in sections. */
static void
reads_itself(void)
{
	struct auth *a, *again;
	const char *text;

	put("krb5.conf", "[libdefaults]\n\tdefault_realm = A.TEST\n[other]\n\tplain = x y\n\tsub = {\n"
	    "\t\tdeep = {\n\t\t\tk = \"  \\\"q\\\" \\\\ \\n\\t\\b \"\n\t\t\tk = \"\"\n\t\t}\n\t}\n"
	    "\tsub = {\n\t\tmore = =}{[;#\n\t}\n");
	CHECK((a = auth_prepare()) != NULL && (text = auth_configuration(a)) != NULL);
	CHECK(strstr(text, "k = \"  \\\"q\\\" \\\\ \\n\\t\\b \"\n") != NULL && strstr(text, "k = \"\"\n") != NULL);
	CHECK(strstr(text, "plain = \"x y\"\n") != NULL && strstr(text, "more = \"=}{[;#\"\n") != NULL);
	put("krb5.conf", text);
	CHECK((again = auth_prepare()) != NULL && strcmp(auth_configuration(again), text) == 0);
	auth_forget(a);
	auth_forget(again);
}

/* The clock skew is what krb5.conf permits; what is no number of seconds is libkrb5's default. */
static void
knows_the_skew(void)
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
		put("krb5.conf", text);
		CHECK((a = auth_prepare()) != NULL);
		CHECK(auth_skew(a) == skews[i].skew);
		auth_forget(a);
	}
	put("krb5.conf", "[libdefaults]\n\tdefault_realm = A.TEST\n");
	CHECK((a = auth_prepare()) != NULL && auth_skew(a) == 300);
	auth_forget(a);
}

int
main(void)
{
	const struct passwd *me = getpwuid(geteuid());
	char path[64], configuration[200], name[128];
	const char *why;
	struct auth *a;

	CHECK(me != NULL && mkdtemp(home) != NULL);
	snprintf(path, sizeof(path), "%s/krb5.conf", home);
	snprintf(configuration, sizeof(configuration), "[libdefaults]\n"
	    "default_realm = A.TEST\nk5login_directory = %s\n", home);
	put("krb5.conf", configuration);
	CHECK(setenv("KRB5_CONFIG", path, 1) == 0);
	CHECK((a = auth_prepare()) != NULL);
#define PERMITTED(who, realms) auth_permitted(a, who, realms, me->pw_name, home, &why)
	/* Without .k5login it is the name that counts, all of it. */
	snprintf(name, sizeof(name), "%s@A.TEST", me->pw_name);
	CHECK(PERMITTED(name, NULL) != NULL);
	snprintf(name, sizeof(name), "%s\\0@A.TEST", me->pw_name);
	CHECK(PERMITTED(name, NULL) == NULL && strcmp(why, "a NUL in the principal") == 0);
	snprintf(name, sizeof(name), "%s\\0x@A.TEST", me->pw_name);
	CHECK(PERMITTED(name, NULL) == NULL && strcmp(why, "a NUL in the principal") == 0);
	snprintf(name, sizeof(name), "%s@A.TEST\\0", me->pw_name);
	CHECK(PERMITTED(name, NULL) == NULL && strcmp(why, "a NUL in the principal") == 0);
	put(me->pw_name, "one@A.TEST\ntwo@B.TEST\nWELLKNOWN/ANONYMOUS@A.TEST\n"
	    "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS\nWELLKNOWN/OTHER@A.TEST\n");
	CHECK(PERMITTED("one@A.TEST", NULL) != NULL && PERMITTED("two@B.TEST", NULL) != NULL);
	CHECK(PERMITTED("WELLKNOWN/OTHER@A.TEST", NULL) != NULL);
	CHECK(PERMITTED("three@A.TEST", NULL) == NULL && strcmp(why, "not permitted to be this user") == 0);
	/* catalogue:20-3 */
	CHECK(PERMITTED("WELLKNOWN/ANONYMOUS@A.TEST", NULL) == NULL && strcmp(why, "anonymous") == 0);
	CHECK(PERMITTED("WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS", NULL) == NULL && strcmp(why, "anonymous") == 0);
	CHECK(PERMITTED("one@A.TEST", "A.TEST") != NULL && PERMITTED("one@A.TEST", "B.TEST,A.TEST") != NULL);
	CHECK(PERMITTED("two@B.TEST", "A.TEST") == NULL && strcmp(why, "the realm is not accepted") == 0);
	CHECK(PERMITTED("one@A.TEST", "") == NULL && PERMITTED("one@A.TEST", "A.TES,.TEST,A,A.TEST2") == NULL);
	CHECK(PERMITTED("one@A@B", NULL) == NULL && strcmp(why, "no principal") == 0);
	CHECK(PERMITTED("", "A.TEST") == NULL);
	reads_itself();
	knows_the_skew();
	CHECK(unlink(path) == 0);
	snprintf(path, sizeof(path), "%s/%s", home, me->pw_name);
	CHECK(unlink(path) == 0);
	return rmdir(home);
}
