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
#include <strings.h>
#include <unistd.h>

#include "auth-internal.h"
#include "auth-permit.h"
#include "auth-start.h"
#include "log.h"

/*
 * permit_explain reads so much of a .k5login, because the user can make the
 * file as large as the disk.
 */
#define EXPLAINED ((size_t)64 << 10)

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

bool
permit_has_realm(const char *realms, const char *realm, size_t n)
{
	for (const char *p = realms; *p != '\0'; p += strspn(p, ",")) {
		size_t length = strcspn(p, ",");

		if (length == n && memcmp(p, realm, n) == 0)
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
	if (realms != NULL &&
	    !permit_has_realm(realms, who->realm.data, who->realm.length))
		return "the realm is not one of -r";
	return NULL;
}

/*
 * Returns the principal, or NULL with *why if it may log in as no user. The
 * principal is not freed, because the session decides only about one.
 */
static krb5_principal
accept_principal(struct auth *a, const char *principal, const char *realms,
    const char **why)
{
	krb5_principal who;
	krb5_error_code problem = krb5_parse_name(a->context, principal, &who);

	if (problem != 0) {
		auth_log_failed(a->context, problem, "parsing the principal");
		*why = "malformed principal";
		return NULL;
	}
	*why = find_flaw(a->context, who, realms);
	return *why == NULL ? who : NULL;
}

bool
permit_accepts(struct auth *a, const char *principal, const char *realms,
    const char **why)
{
	return accept_principal(a, principal, realms, why) != NULL;
}

const char *
permit_find_rule(struct auth *a, const char *principal, const char *realms,
    const char *user, const char *home, const char **why)
{
	krb5_context context = a->context;
	krb5_principal who = accept_principal(a, principal, realms, why);
	krb5_error_code problem;
	char path[AUTH_K5LOGIN];

	if (who == NULL)
		return NULL;
	*why = PERMIT_NO_RULE;
	problem = (krb5_error_code)auth_k5login(a, user, home, path);
	if (problem != 0) {
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

/* Returns the value of k5login_authoritative in krb5.conf. */
static bool
is_authoritative(krb5_context context)
{
	profile_t profile;
	int value = 1;

	if (krb5_get_profile(context, &profile) != 0)
		return true;
	if (profile_get_boolean(profile, "libdefaults", "k5login_authoritative",
		NULL, 1, &value) != 0)
		value = 1;
	profile_release(profile);
	return value != 0;
}

/* What the lines of a .k5login have to do with the principal, best last. */
enum likeness { NOTHING, OTHERS, INSTANCE, ALMOST, EXACT };

/*
 * Compares a line with a principal's text form. realm is the "@" in that text.
 * Changes the line.
 */
static enum likeness
compare_line(char *line, const char *text, const char *realm)
{
	static const char blanks[] = " \t\r";
	size_t first = strcspn(text, "/@"), n;

	if (strcmp(line, text) == 0)
		return EXACT;
	line += strspn(line, blanks);
	for (n = strlen(line); n > 0 && strchr(blanks, line[n - 1]) != NULL;)
		line[--n] = '\0';
	if (n == 0)
		return NOTHING;
	if (strcasecmp(line, text) == 0 ||
	    (n == (size_t)(realm - text) && strncasecmp(line, text, n) == 0))
		return ALMOST;
	return strncmp(line, text, first) == 0 &&
		(line[first] == '/' || line[first] == '@') &&
		strcmp(line + strcspn(line, "@"), realm) == 0 ?
	    INSTANCE :
	    OTHERS;
}

/* Returns the best likeness in the first bytes of a .k5login. */
static enum likeness
compare_file(int fd, const char *text)
{
	static char content[EXPLAINED + 1];
	const char *realm = strrchr(text, '@');
	enum likeness best = NOTHING;
	char *next = content, *line;
	ssize_t n = pread(fd, content, EXPLAINED, 0);

	content[n > 0 ? n : 0] = '\0';
	while ((line = strsep(&next, "\n")) != NULL) {
		enum likeness one = compare_line(line, text,
		    realm != NULL ? realm : text + strlen(text));

		if (one > best)
			best = one;
	}
	return best;
}

/* Writes why a .k5login that exists does not permit the principal. */
static void
explain_file(krb5_context context, const char *path, krb5_const_principal who,
    char cause[PERMIT_CAUSE])
{
	static const char *const causes[] = { [NOTHING] = "it is empty",
		[OTHERS] = "it does not name the principal",
		[INSTANCE] = "it names the user with another instance, but "
			     "does not name the principal",
		[ALMOST] = "its line for the principal differs from it in "
			   "blanks, case, or realm",
		[EXACT] = "it has just changed" };
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	char *text;

	if (fd == -1 || fstat(fd, &st) == -1)
		snprintf(cause, PERMIT_CAUSE, "the user cannot read it: %s",
		    strerror(errno));
	else if (!S_ISREG(st.st_mode))
		strlcpy(cause, "it is not a regular file", PERMIT_CAUSE);
	else if (st.st_uid != 0 && st.st_uid != geteuid())
		snprintf(cause, PERMIT_CAUSE,
		    "it belongs to uid %u, not to the user or root",
		    (unsigned)st.st_uid);
	else if (krb5_unparse_name(context, who, &text) == 0) {
		strlcpy(cause, causes[compare_file(fd, text)], PERMIT_CAUSE);
		krb5_free_unparsed_name(context, text);
	}
	if (fd != -1)
		close(fd);
}

/* Writes why the principal is not the user without a .k5login. */
static void
explain_mapping(krb5_context context, krb5_const_principal who,
    const char *user, const char *start, char cause[PERMIT_CAUSE])
{
	/* A client can choose words as the name of its principal. */
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	static const char none[] = "and auth_to_local gives the principal no "
				   "user";
	char local[LOGIN_NAME_MAX] = "", *realm = NULL;
	const char *text;
	krb5_error_code problem =
	    krb5_aname_to_localname(context, who, sizeof(local), local);
	bool has_default = krb5_get_default_realm(context, &realm) == 0;

	if (!uses_module(context, "an2ln"))
		snprintf(cause, PERMIT_CAUSE,
		    "%s, and krb5.conf disables auth_to_local", start);
	else if (problem == 0 && strcmp(local, user) == 0)
		snprintf(cause, PERMIT_CAUSE,
		    "%s, and a localauth plugin refuses", start);
	else if (problem == 0)
		snprintf(cause, PERMIT_CAUSE,
		    "%s, and auth_to_local makes the principal %s%s", start,
		    local[strspn(local, plain)] == '\0' ? "user " :
							  "another user",
		    local[strspn(local, plain)] == '\0' ? local : "");
	else if (!has_default)
		snprintf(cause, PERMIT_CAUSE,
		    "%s, %s: krb5.conf has no default_realm", start, none);
	else if (problem == KRB5_LNAME_NOTRANS)
		snprintf(cause, PERMIT_CAUSE, "%s, %s: the default realm is %s",
		    start, none, realm);
	else {
		text = krb5_get_error_message(context, problem);
		snprintf(cause, PERMIT_CAUSE, "%s, and auth_to_local fails: %s",
		    start, text);
		krb5_free_error_message(context, text);
	}
	krb5_free_default_realm(context, realm);
}

/*
 * Reads .k5login only if it can refuse. With k5login_authoritative = false it
 * never does.
 */
void
permit_explain(struct auth *a, const char *principal, const char *user,
    const char *home, char cause[PERMIT_CAUSE])
{
	krb5_context context = a->context;
	char path[AUTH_K5LOGIN];
	krb5_principal who;
	bool exists;

	strlcpy(cause, "its path is too long", PERMIT_CAUSE);
	if (auth_k5login(a, user, home, path) != 0 ||
	    krb5_parse_name(context, principal, &who) != 0)
		return;
	exists = access(path, F_OK) == 0;
	if (!exists && errno != ENOENT && errno != ENOTDIR)
		snprintf(cause, PERMIT_CAUSE,
		    "the user cannot search the directories of its path: %s",
		    strerror(errno));
	else if (exists && uses_module(context, "k5login") &&
	    is_authoritative(context))
		explain_file(context, path, who, cause);
	else
		explain_mapping(context, who, user,
		    exists ? "krb5.conf does not let it decide" :
			     "it does not exist",
		    cause);
	krb5_free_principal(context, who);
}
