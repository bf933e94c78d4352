/*
 * Tests auth-krb5conf.c: the copy of krb5.conf, also if no memory is left.
 *
 * Runs as any user.
 */
#include "config.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "auth-krb5conf.h"
#include "tests/unit/check.h"

char *__real_strdup(const char *text);
char *__wrap_strdup(const char *text);

/* The number of copies that strdup still makes; -1: any. */
static int copies = -1;

char *
__wrap_strdup(const char *text)
{
	if (copies == 0) {
		errno = ENOMEM;
		return NULL;
	}
	if (copies > 0)
		copies--;
	return __real_strdup(text);
}

static const char text[] = "[libdefaults]\n"
			   "\tdefault_realm = EXAMPLE.ORG\n"
			   "[realms]\n"
			   "\tEXAMPLE.ORG = {\n"
			   "\t\tauth_to_local = RULE:[1:$1]\n"
			   "\t\tauth_to_local = DEFAULT\n"
			   "\t}\n";

/* Returns a profile that reads a file with the text. */
static profile_t
open_profile(void)
{
	char path[] = "/tmp/kpopd-krb5conf.XXXXXX";
	int fd = mkstemp(path);
	const_profile_filespec_t files[] = { path, NULL };
	profile_t profile;

	CHECK(fd != -1);
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(close(fd) == 0 && profile_init(files, &profile) == 0);
	CHECK(unlink(path) == 0);
	return profile;
}

/* Returns the error of a copy of the profile if strdup works only n times. */
static long
copy(profile_t profile, int n)
{
	struct krb5conf *c;
	profile_t snapshot;
	long problem;
	char *copied;

	copies = n;
	problem = krb5conf_read(profile, &c, &snapshot);
	copies = -1;
	if (problem != 0)
		return problem;
	CHECK(!krb5conf_is_empty(c) && (copied = krb5conf_text(c)) != NULL);
	CHECK(strstr(copied, "\"RULE:[1:$1]\"") != NULL);
	CHECK(strstr(copied, "default_realm = \"EXAMPLE.ORG\"") != NULL);
	free(copied);
	profile_release(snapshot);
	krb5conf_free(c);
	return 0;
}

int
main(void)
{
	profile_t profile = open_profile();
	int n = 0;

	/* A block that is freed twice ends the process. */
	while (copy(profile, n) == ENOMEM)
		n++;
	/* Three values, and the names that lead to two relations. */
	CHECK(n == 3 + 2 + 3);
	CHECK(copy(profile, n) == 0);
	profile_release(profile);
	return 0;
}
