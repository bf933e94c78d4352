/*
 * Unit tests of auth-permit.c and auth-start.c. A principal is permitted if
 * .k5login or the rules name it. But an anonymous principal, one with a NUL,
 * and one of a realm that is not accepted are refused. For auth-start.c, the
 * tests cover the snapshot of krb5.conf and the clock skew.
 *
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
static const struct passwd *me; /* the user that runs the test */
static struct auth *a;
static const char *why; /* why the last principal was refused */

/* Writes a file in the home directory. */
static void
write_file(const char *name, const char *text)
{
	int dir = open(home, O_RDONLY | O_DIRECTORY);
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd != -1 &&
	    write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(close(fd) == 0 && close(dir) == 0);
}

/*
 * The snapshot contains the same relations as the files that make up krb5.conf,
 * including quotation marks, blanks and subsections.
 */
static void
the_snapshot_is_its_own_copy(void)
{
	struct auth *first, *again;
	const char *text;

	write_file("krb5.conf",
	    "[libdefaults]\n\tdefault_realm = A.TEST\n[other]\n\tplain = x "
	    "y\n\tsub = {\n"
	    "\t\tdeep = {\n\t\t\tk = \"  \\\"q\\\" \\\\ \\n\\t\\b \"\n\t\t\tk "
	    "= \"\"\n\t\t}\n\t}\n"
	    "\tsub = {\n\t\tmore = =}{[;#\n\t}\n");
	CHECK((first = auth_prepare()) != NULL &&
	    (text = auth_krb5conf(first)) != NULL);
	CHECK(strstr(text, "k = \"  \\\"q\\\" \\\\ \\n\\t\\b \"\n") != NULL &&
	    strstr(text, "k = \"\"\n") != NULL);
	CHECK(strstr(text, "plain = \"x y\"\n") != NULL &&
	    strstr(text, "more = \"=}{[;#\"\n") != NULL);
	write_file("krb5.conf", text);
	CHECK((again = auth_prepare()) != NULL &&
	    strcmp(auth_krb5conf(again), text) == 0);
	auth_free(first);
	auth_free(again);
}

/*
 * The clock skew comes from krb5.conf. If krb5.conf has no valid value, the
 * clock skew is libkrb5's default.
 */
static void
the_skew_is_read(void)
{
	static const struct {
		const char *value;
		int skew;
	} skews[] = { { "60", 60 }, { "0", 0 }, { "86400", 86400 },
		{ "-5", 300 }, { "x", 300 }, { "", 300 },
		{ "99999999999999999999", 300 } };
	char text[200];
	struct auth *one;

	for (size_t i = 0; i < sizeof(skews) / sizeof(skews[0]); i++) {
		snprintf(text, sizeof(text),
		    "[libdefaults]\n\tdefault_realm = A.TEST\n\tclockskew = "
		    "%s\n",
		    skews[i].value);
		write_file("krb5.conf", text);
		CHECK((one = auth_prepare()) != NULL);
		CHECK(auth_skew(one) == skews[i].skew);
		auth_free(one);
	}
	write_file("krb5.conf", "[libdefaults]\n\tdefault_realm = A.TEST\n");
	CHECK((one = auth_prepare()) != NULL && auth_skew(one) == 300);
	auth_free(one);
}

/*
 * Returns the rule that permits a principal. If no rule permits it, returns
 * NULL and sets the variable "why".
 */
static const char *
find_rule(const char *principal, const char *realms)
{
	return permit_find_rule(a, principal, realms, me->pw_name, home, &why);
}

/* Returns true if a principal of any realm is permitted. */
static bool
is_permitted(const char *principal)
{
	return find_rule(principal, NULL) != NULL;
}

/* Returns true if a principal is refused for the given reason. */
static bool
is_refused(const char *principal, const char *realms, const char *reason)
{
	return find_rule(principal, realms) == NULL && strcmp(why, reason) == 0;
}

/* Without .k5login the principal's whole name must match. */
static void
a_name_must_be_whole(void)
{
	static const char *const suffixes[] = { "\\0@A.TEST", "\\0x@A.TEST",
		"@A.TEST\\0" };
	char name[128];

	snprintf(name, sizeof(name), "%s@A.TEST", me->pw_name);
	CHECK(is_permitted(name));
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
		snprintf(name, sizeof(name), "%s%s", me->pw_name, suffixes[i]);
		CHECK(is_refused(name, NULL, "a NUL in the principal"));
	}
}

/* .k5login permits the principals that it names, and no other principals. */
static void
k5login_permits_whom_it_names(void)
{
	write_file(me->pw_name,
	    "one@A.TEST\ntwo@B.TEST\nWELLKNOWN/ANONYMOUS@A.TEST\n"
	    "WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS\nWELLKNOWN/"
	    "OTHER@A.TEST\n");
	CHECK(is_permitted("one@A.TEST") && is_permitted("two@B.TEST"));
	CHECK(is_permitted("WELLKNOWN/OTHER@A.TEST"));
	CHECK(is_refused("three@A.TEST", NULL,
	    "not permitted to be this user"));
	CHECK(is_refused("one@A@B", NULL, "malformed principal"));
	CHECK(find_rule("", "A.TEST") == NULL);
}

/* Returns true if this is the cause for which the principal is refused. */
static bool
is_cause(const char *principal, const char *cause)
{
	char found[PERMIT_CAUSE];

	permit_explain(a, principal, me->pw_name, home, found);
	return strcmp(found, cause) == 0;
}

/* The cause is what the .k5login has in place of the principal. */
static void
causes_are_found(void)
{
	static const char almost[] = "its line for the principal differs from "
				     "it in blanks, case, or realm",
			  instance[] = "it names the user with another "
				       "instance, but does not name the "
				       "principal";
	char long_text[70000];

	write_file(me->pw_name,
	    "one/x@A.TEST\ntwo\nTHREE@A.TEST\n\tfour@A.TEST"
	    " \r\nfive@B.TEST\nsix/x@B.TEST\n@\n/\n");
	CHECK(is_cause("one@A.TEST", instance));
	CHECK(is_cause("one/y@A.TEST", instance));
	CHECK(is_cause("two@A.TEST", almost) && is_cause("two@B.TEST", almost));
	CHECK(is_cause("three@A.TEST", almost));
	CHECK(is_cause("four@A.TEST", almost));
	CHECK(is_cause("five@A.TEST", "it does not name the principal"));
	CHECK(is_cause("six@A.TEST", "it does not name the principal"));
	CHECK(is_cause("on@A.TEST", "it does not name the principal"));
	write_file(me->pw_name, " \n\r\n\n");
	CHECK(is_cause("one@A.TEST", "it is empty"));
	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	write_file(me->pw_name, long_text);
	CHECK(is_cause("one@A.TEST", "it does not name the principal"));
}

/* An anonymous principal is refused even if .k5login names it. */
/* catalogue:20-3 */
static void
an_anonymous_principal_is_refused(void)
{
	static const char reason[] = "the principal is anonymous";

	CHECK(is_refused("WELLKNOWN/ANONYMOUS@A.TEST", NULL, reason));
	CHECK(is_refused("WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS", NULL,
	    reason));
}

/*
 * If there is a list of accepted realms, the principal's realm must be in that
 * list.
 */
static void
other_realms_are_refused(void)
{
	static const char reason[] = "the realm is not one of -r";

	CHECK(find_rule("one@A.TEST", "A.TEST") != NULL &&
	    find_rule("one@A.TEST", "B.TEST,A.TEST") != NULL);
	CHECK(is_refused("two@B.TEST", "A.TEST", reason));
	CHECK(is_refused("one@A.TEST", "", reason));
	CHECK(is_refused("one@A.TEST", "A.TES,.TEST,A,A.TEST2", reason));
}

int
main(void)
{
	char path[64], text[200];

	me = getpwuid(geteuid());
	CHECK(me != NULL && mkdtemp(home) != NULL);
	snprintf(path, sizeof(path), "%s/krb5.conf", home);
	snprintf(text, sizeof(text),
	    "[libdefaults]\n"
	    "default_realm = A.TEST\nk5login_directory = %s\n",
	    home);
	write_file("krb5.conf", text);
	CHECK(setenv("KRB5_CONFIG", path, 1) == 0);
	CHECK((a = auth_prepare()) != NULL);
	a_name_must_be_whole();
	k5login_permits_whom_it_names();
	an_anonymous_principal_is_refused();
	other_realms_are_refused();
	causes_are_found();
	the_snapshot_is_its_own_copy();
	the_skew_is_read();
	CHECK(unlink(path) == 0);
	snprintf(path, sizeof(path), "%s/%s", home, me->pw_name);
	CHECK(unlink(path) == 0);
	return rmdir(home);
}
