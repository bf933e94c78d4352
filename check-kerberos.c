/*
 * Checks krb5.conf and the realms.
 *
 * Runs as root in kpopd-check, and in its children.
 */
#include "config.h"

#include <sys/stat.h>

#include <profile.h>
#include <string.h>

#include "auth-internal.h"
#include "auth-permit.h"
#include "auth-start.h"
#include "check-keys.h"
#include "check-quote.h"

#define SECONDS 15 /* for DNS */
#define FILES_MOST 4096
#define KIND "krb5.conf"

/* Quotes the first of the files, for a remedy. Returns w->text. */
static const char *
first_file(struct check_word *w)
{
	char path[PATH_MAX];

	strlcpy(path, auth_configuration(), sizeof(path));
	path[strcspn(path, ":")] = '\0';
	return check_quote(w, path);
}

/*
 * Checks one file. libkrb5 does not name the file that has a mistake, and
 * treats a file that it cannot open as absent.
 */
static void
check_conf_file(struct check *c, const char *path)
{
	char real[PATH_MAX];
	struct check_word w;
	struct stat st;
	profile_t profile;
	long problem;
	const char *files[] = { path, NULL };

	if (!check_path(c, KIND, path, real) || stat(real, &st) == -1)
		return;
	check_quote(&w, path);
	if (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		check_fail(c, KIND, path,
		    check_remedy(c, "chown root %s; chmod go-w %s", w.text,
			w.text),
		    "others than root can change it, and so decide who may "
		    "log in");
	if (S_ISFIFO(st.st_mode)) {
		check_fail(c, KIND, path, NULL, "not a regular file");
		return;
	}
	problem = profile_init(files, &profile);
	if (problem == 0)
		check_ok(c, KIND, path, "libkrb5 can read it");
	else
		check_fail(c, KIND, path, "compare it with krb5.conf(5)",
		    "libkrb5 cannot read it: %s", error_message(problem));
}

/* Child, because a file system may not answer: checks each of the files. */
static void
check_files(struct check *c)
{
	char copy[FILES_MOST], *rest = copy;
	const char *path;

	strlcpy(copy, auth_configuration(), sizeof(copy));
	while ((path = strsep(&rest, ":")) != NULL)
		if (*path != '\0')
			check_conf_file(c, path);
}

/* Returns true if libkrb5 would wait for a writer of one of the files. */
static bool
has_fifo(void)
{
	char copy[FILES_MOST], *rest = copy;
	const char *path;
	struct stat st;

	strlcpy(copy, auth_configuration(), sizeof(copy));
	while ((path = strsep(&rest, ":")) != NULL)
		if (stat(path, &st) == 0 && S_ISFIFO(st.st_mode))
			return true;
	return false;
}

/* Returns true if the realm can be part of a quoted argument of a shell. */
static bool
is_plain_realm(const char *realm)
{
	return keys_is_plain(realm) && strchr(realm, '/') == NULL;
}

/* Finds the realm that libkrb5 uses if krb5.conf has no default_realm. */
static void
check_absent_realm(struct check *c, const char *guess)
{
	krb5_context context = c->auth->context;
	struct check_word w;
	char *realm;
	const char *remedy = is_plain_realm(guess) ?
	    check_remedy(c,
		"printf '\\n[libdefaults]\\n\\tdefault_realm = %s\\n' >>%s",
		guess, first_file(&w)) :
	    "set default_realm in [libdefaults]";

	if (krb5_get_default_realm(context, &realm) != 0) {
		check_fail(c, KIND, auth_configuration(), remedy,
		    "it has no default_realm: only a .k5login can permit a "
		    "principal to log in");
		return;
	}
	check_warn(c, KIND, auth_configuration(), remedy,
	    "it has no default_realm: libkrb5 takes %s from the DNS", realm);
	krb5_free_default_realm(context, realm);
}

/* Ends the visit at a key of the realm, which *self points to. */
static bool
is_of_other_realm(void *self, const krb5_keytab_entry *key)
{
	const char **realm = self;
	const krb5_data *own = &key->principal->realm;

	if (own->length == strlen(*realm) &&
	    memcmp(own->data, *realm, own->length) == 0)
		*realm = NULL;
	return *realm != NULL;
}

/* Returns true if the service has a key of the realm, or has no key. */
static bool
has_key_of(struct check *c, const char *realm, const char *keys)
{
	if (strcmp(realm, keys) == 0)
		return true;
	keys_visit(c, KEYS_OF_SERVICE, is_of_other_realm, &realm);
	return realm == NULL;
}

/* Compares the default realm of krb5.conf with the keys and with -r. */
static void
check_default_realm(struct check *c, const char *realm, const char *keys)
{
	struct check_word w;

	if (!has_key_of(c, realm, keys))
		check_warn(c, "realm", realm,
		    is_plain_realm(realm) && is_plain_realm(keys) ?
			check_remedy(c, "sed -i '/default_realm/s/%s/%s/' %s",
			    realm, keys, first_file(&w)) :
			"correct default_realm in [libdefaults]",
		    "default_realm is not the realm of the keytab, %s: "
		    "principals of that realm need a .k5login or auth_to_local",
		    keys);
	else if (c->o.realms != NULL &&
	    !permit_has_realm(c->o.realms, realm, strlen(realm)))
		check_warn(c, "realm", realm, "add it to realms, or to -r",
		    "the option realms (-r) refuses its principals: %s",
		    c->o.realms);
	else
		check_ok(c, "realm", realm, "default_realm");
}

/* Child: checks the realm. */
static void
check_realm(struct check *c)
{
	char keys[CHECK_REALM];
	char *realm = NULL;
	profile_t profile;

	realm_guess(c, keys);
	if (krb5_get_profile(c->auth->context, &profile) == 0) {
		profile_get_string(profile, "libdefaults", "default_realm",
		    NULL, NULL, &realm);
		profile_release(profile);
	}
	if (realm == NULL)
		check_absent_realm(c, keys);
	else
		check_default_realm(c, realm, keys);
	profile_release_string(realm);
}

/* Starts libkrb5 for all later checks, as kpopd does. */
static void
start_libkrb5(struct check *c)
{
	krb5_context context;
	krb5_error_code problem = krb5_init_context(&context);

	if (problem != 0) {
		const char *text = krb5_get_error_message(NULL, problem);

		check_fail(c, KIND, auth_configuration(), NULL,
		    "libkrb5 does not start: %s", text);
		krb5_free_error_message(NULL, text);
		return;
	}
	krb5_free_context(context);
	if ((c->auth = auth_prepare()) == NULL)
		check_fail(c, KIND, auth_configuration(), "check again",
		    "kpopd cannot use it now; the line log has the reason");
}

void
check_kerberos(struct check *c)
{
	if (!check_in_child(c, SECONDS, check_files))
		check_fail(c, KIND, auth_configuration(), NULL,
		    "its file system did not answer within %d s: no client is "
		    "served",
		    SECONDS);
	else if (!has_fifo())
		start_libkrb5(c);
	if (c->auth == NULL)
		return;
	if (auth_is_unconfigured(c->auth))
		check_fail(c, KIND, auth_configuration(),
		    "printf '[libdefaults]\\n\\tdefault_realm = EXAMPLE.ORG\\n'"
		    " >/etc/krb5.conf, with your realm",
		    "missing or empty: kpopd serves no client");
	else if (!check_in_child(c, SECONDS, check_realm))
		check_warn(c, KIND, auth_configuration(), NULL,
		    "its check did not end within %d s", SECONDS);
}
