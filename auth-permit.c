/*
 * Decides whether a principal may log in as a user, and by which rule.
 *
 * Runs in the session as the user, without any key and before the session has
 * the client's socket. krb5_kuserok reads files that the user controls. One of
 * the files may be a FIFO, which can block this process until its deadline. The
 * content of the files is not trusted.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <profile.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "auth-internal.h"
#include "auth-permit.h"
#include "log.h"

/*
 * Writes the path of the user's .k5login, as krb5.conf places it, into
 * path[size]. Returns 0 or a krb5 error.
 */
static krb5_error_code
locate_k5login(krb5_context context, const char *user, const char *home,
    char *path, size_t size)
{
	char *directory = NULL;
	profile_t profile;
	krb5_error_code problem = krb5_get_profile(context, &profile);
	int n;

	if (problem != 0)
		return problem;
	if (profile_get_string(profile, "libdefaults", "k5login_directory",
		NULL, NULL, &directory) == 0 &&
	    directory != NULL)
		n = snprintf(path, size, "%s/%s", directory, user);
	else
		n = snprintf(path, size, "%s/.k5login", home);
	profile_release_string(directory);
	profile_release(profile);
	return n >= 0 && (size_t)n < size ? 0 : ENAMETOOLONG;
}

/*
 * Returns true if it is certain whether the .k5login exists. If an error
 * prevents that, logs the error and returns false. Uses the user's rights, as
 * libkrb5 does.
 */
static bool
sees_k5login(const char *path)
{
	struct log_text t;

	if (access(path, F_OK) == 0 || errno == ENOENT || errno == ENOTDIR)
		return true;
	log_failed("looking for %s", log_words(&t, path));
	return false;
}

/*
 * Returns true if this .k5login names the principal. By libkrb5's rules, the
 * file's owner must be root or the user, and one of its lines must be the
 * principal.
 */
static bool
is_named(krb5_context context, const char *path, krb5_const_principal who)
{
	/*
	 * Use O_NONBLOCK, because the file may be a FIFO. libkrb5 may have read
	 * its only line, and then this open would block.
	 */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	FILE *file = fd != -1 ? fdopen(fd, "r") : NULL;
	char line[BUFSIZ], *text = NULL;
	struct stat st;
	bool found = false, is_rest = false;

	if (file != NULL && fstat(fileno(file), &st) == 0 &&
	    (st.st_uid == 0 || st.st_uid == geteuid()) &&
	    krb5_unparse_name(context, who, &text) == 0)
		/* A line may be a TiB long, so it is read in parts. */
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

/*
 * Returns true if word is a value of this relation of [plugins] localauth in
 * krb5.conf. Sets *is_set to true if the relation has any value.
 */
static bool
has_value(profile_t profile, const char *relation, const char *word,
    bool *is_set)
{
	const char *names[] = { "plugins", "localauth", relation, NULL };
	char **values = NULL;
	bool found = false;

	*is_set = profile_get_values(profile, names, &values) == 0;
	for (char **p = values; *is_set && !found && *p != NULL; p++)
		found = strcmp(*p, word) == 0;
	profile_free_list(values);
	return found;
}

/*
 * Returns true if krb5_kuserok uses this module of libkrb5. The krb5.conf of
 * sssd may disable all modules but its own.
 */
static bool
uses_module(krb5_context context, const char *module)
{
	profile_t profile;
	bool is_set, used;

	if (krb5_get_profile(context, &profile) != 0)
		return false;
	used = has_value(profile, "enable_only", module, &is_set) || !is_set;
	used = used && !has_value(profile, "disable", module, &is_set);
	profile_release(profile);
	return used;
}

/*
 * Returns the name of the rule by which krb5_kuserok has permitted the login.
 */
static const char *
name_rule(krb5_context context, const char *path, krb5_const_principal who,
    const char *user)
{
	char local[LOGIN_NAME_MAX];

	if (uses_module(context, "k5login") && is_named(context, path, who))
		return "k5login";
	if (uses_module(context, "an2ln") &&
	    krb5_aname_to_localname(context, who, sizeof(local), local) == 0 &&
	    strcmp(local, user) == 0)
		return "localname";
	return "plugin";
}

/* Returns true if the realm is one of realms, which commas separate. */
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

/*
 * Returns true if a component of the principal, or its realm, contains a NUL.
 * libkrb5 treats components and realm as C strings: it compares a component
 * with the user's name, and the realm with the rules of auth_to_local. So
 * "alice\0" would count as alice.
 */
static bool
has_nul(krb5_const_principal who)
{
	for (int i = 0; i < who->length; i++)
		if (who->data[i].length > 0 &&
		    memchr(who->data[i].data, '\0', who->data[i].length) !=
			NULL)
			return true;
	return who->realm.length > 0 &&
	    memchr(who->realm.data, '\0', who->realm.length) != NULL;
}

/* Returns the reason to refuse this principal for every user, or NULL. */
static const char *
find_flaw(krb5_context context, krb5_const_principal who, const char *realms)
{
	/*
	 * The KDC does not authenticate an anonymous client (RFC 8062). So
	 * refuse such a client even if a .k5login names it.
	 */
	if (krb5_principal_compare_any_realm(context, who,
		krb5_anonymous_principal()))
		return "the principal is anonymous";
	if (has_nul(who))
		return "a NUL in the principal";
	if (realms != NULL && !is_of_realm(who, realms))
		return "the realm is not one of -r";
	return NULL;
}

const char *
permit_find_rule(struct auth *a, const char *principal, const char *realms,
    const char *user, const char *home, const char **why)
{
	krb5_context context = a->context;
	krb5_principal who;
	krb5_error_code problem;
	char path[PATH_MAX + LOGIN_NAME_MAX + 1];

	if ((problem = krb5_parse_name(context, principal, &who)) != 0) {
		auth_log_failed(context, problem, "parsing the principal");
		*why = "malformed principal";
		return NULL;
	}
	if ((*why = find_flaw(context, who, realms)) != NULL)
		return NULL;
	*why = "not permitted to be this user";
	if ((problem = locate_k5login(context, user, home, path,
		 sizeof(path))) != 0) {
		auth_log_failed(context, problem,
		    "making the path of .k5login");
		return NULL;
	}
	/*
	 * If libkrb5 cannot find out whether the .k5login exists, it treats the
	 * file as absent and applies a wider rule.
	 */
	return sees_k5login(path) && krb5_kuserok(context, who, user) ?
	    name_rule(context, path, who, user) :
	    NULL;
}

int
permit_locate_k5login(struct auth *a, const char *user, const char *home,
    char *path, size_t size)
{
	return locate_k5login(a->context, user, home, path, size) == 0 ? 0 : -1;
}
