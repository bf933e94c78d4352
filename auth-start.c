/*
 * Starts Kerberos: reads krb5.conf once and makes the libkrb5 context.
 *
 * A half-written krb5.conf may lack auth_to_local, and libkrb5's default rule
 * could then permit more principals. So the files that KRB5_CONFIG names must
 * not change while they are read. Files that these include are not watched.
 *
 * Runs as root, in main, and in the listener at SIGHUP. main and the listener
 * keep the result for all processes that they fork later. auth_skew,
 * auth_krb5conf, auth_k5login and auth_log_failed also run later and as other
 * users; they read no file. No function of this file may open a keytab, because
 * descendants of this process serve clients.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <profile.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth-internal.h"
#include "auth-krb5conf.h"
#include "auth-start.h"
#include "fingerprint.h"
#include "log.h"
#include "root-file.h"

/* libkrb5's default, in seconds, if krb5.conf does not set clockskew. */
#define DEFAULT_SKEW 300
#define FILES_MOST 16 /* files of KRB5_CONFIG that are watched, at most */

/* The files of krb5.conf as they were at one time. */
struct looks {
	size_t count;
	struct stat st[FILES_MOST];
};

void
auth_log_failed(krb5_context context, krb5_error_code problem,
    const char *format, ...)
{
	const char *error = krb5_get_error_message(context, problem);
	struct log_text t;
	char what[LOG_TEXT];
	va_list ap;

	va_start(ap, format);
	vsnprintf(what, sizeof(what), format, ap);
	va_end(ap);
	log_failed_at(LOG_ERR, log_words(&t, error), "%s", what);
	krb5_free_error_message(context, error);
}

/*
 * Makes the context for all later processes. The context uses a snapshot of the
 * files that the context `first` has read. Returns 0 or a krb5 error.
 */
static krb5_error_code
make_context(struct auth *a, krb5_context first)
{
	profile_t files, snapshot;
	krb5_error_code problem = krb5_get_profile(first, &files);

	if (problem != 0)
		return problem;
	problem =
	    (krb5_error_code)krb5conf_read(files, &a->snapshot, &snapshot);
	profile_release(files);
	if (problem != 0)
		return problem;
	a->text = krb5conf_text(a->snapshot);
	problem = a->text != NULL ?
	    krb5_init_context_profile(snapshot, 0, &a->context) :
	    ENOMEM;
	profile_release(snapshot);
	if (problem != 0)
		krb5conf_free(a->snapshot);
	return problem;
}

/* Does what auth_prepare does, except that the files may change meanwhile. */
static struct auth *
read_krb5conf(void)
{
	struct auth *a = calloc(1, sizeof(*a));
	krb5_context first;
	krb5_error_code problem;
	char *realm;

	if (a == NULL)
		fatal("calloc");
	if ((problem = krb5_init_context(&first)) != 0) {
		auth_log_failed(NULL, problem,
		    "initializing libkrb5 from krb5.conf");
		free(a);
		return NULL;
	}
	if ((problem = make_context(a, first)) != 0)
		auth_log_failed(first, problem, "reading krb5.conf");
	krb5_free_context(first);
	if (problem != 0) {
		free(a->text);
		free(a);
		return NULL;
	}
	/*
	 * Ask for the realm now, because the context keeps the answer for all
	 * later processes. If krb5.conf does not set a realm, libkrb5 derives
	 * it from the host's name.
	 */
	if (krb5_get_default_realm(a->context, &realm) == 0)
		krb5_free_default_realm(a->context, realm);
	return a;
}

/*
 * Stores the status of the files of krb5.conf, after they have been written
 * (root_file_settle).
 */
static void
look_at_krb5conf(struct looks *l)
{
	char *names = strdup(auth_configuration()), *rest = names;

	if (names == NULL)
		fatal("strdup");
	*l = (struct looks){ .count = 0 };
	while (rest != NULL && l->count < FILES_MOST)
		root_file_settle(strsep(&rest, ":"), &l->st[l->count++]);
	free(names);
}

/* Returns true if a file has changed between two looks. */
static bool
krb5conf_has_changed(const struct looks *before, const struct looks *after)
{
	for (size_t i = 0; i < before->count; i++) {
		const struct stat *a = &before->st[i], *b = &after->st[i];

		/* A FIFO changes whenever it is written. */
		if (a->st_mode != 0 && !S_ISREG(a->st_mode))
			continue;
		if (a->st_ino != b->st_ino || a->st_size != b->st_size ||
		    fingerprint_ns(&a->st_mtim) != fingerprint_ns(&b->st_mtim))
			return true;
	}
	return false;
}

struct auth *
auth_prepare(void)
{
	struct looks before, after;
	struct auth *a;

	look_at_krb5conf(&before);
	a = read_krb5conf();
	look_at_krb5conf(&after);
	if (a != NULL && krb5conf_has_changed(&before, &after)) {
		log_failed_at(LOG_ERR, "it changed while it was read",
		    "reading krb5.conf");
		auth_free(a);
		a = NULL;
	}
	return a;
}

void
auth_free(struct auth *a)
{
	krb5_free_context(a->context);
	krb5conf_free(a->snapshot);
	free(a->text);
	free(a);
}

/*
 * Reads clockskew as libkrb5 does, but replaces a negative value by the
 * default.
 */
int
auth_skew(const struct auth *a)
{
	profile_t profile;
	int skew = DEFAULT_SKEW;

	if (krb5_get_profile(a->context, &profile) != 0)
		return DEFAULT_SKEW;
	/* A negative skew would refuse every client. */
	if (profile_get_integer(profile, "libdefaults", "clockskew", NULL,
		DEFAULT_SKEW, &skew) != 0 ||
	    skew < 0)
		skew = DEFAULT_SKEW;
	profile_release(profile);
	return skew;
}

bool
auth_is_unconfigured(const struct auth *a)
{
	return krb5conf_is_empty(a->snapshot);
}

const char *
auth_configuration(void)
{
	const char *files = getenv("KRB5_CONFIG");

	return files != NULL ? files : "/etc/krb5.conf";
}

const char *
auth_krb5conf(const struct auth *a)
{
	return a->text;
}

long
auth_k5login(const struct auth *a, const char *user, const char *home,
    char path[AUTH_K5LOGIN])
{
	char *directory = NULL;
	profile_t profile;
	long problem = krb5_get_profile(a->context, &profile);
	int n;

	if (problem != 0)
		return problem;
	if (profile_get_string(profile, "libdefaults", "k5login_directory",
		NULL, NULL, &directory) == 0 &&
	    directory != NULL)
		n = snprintf(path, AUTH_K5LOGIN, "%s/%s", directory, user);
	else
		n = snprintf(path, AUTH_K5LOGIN, "%s/.k5login", home);
	profile_release_string(directory);
	profile_release(profile);
	return n >= 0 && n < AUTH_K5LOGIN ? 0 : ENAMETOOLONG;
}
