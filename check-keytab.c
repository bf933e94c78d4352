/*
 * Checks the keytab: who can read and change it, and the keys in it.
 *
 * Runs as root in kpopd-check. Only its children read keys, because a later
 * child becomes a user.
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/xattr.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "auth-internal.h"
#include "auth-keytab.h"
#include "check-keys.h"
#include "check-quote.h"
#include "exposure.h"

#define SECONDS 15 /* for the keytab's file system and DNS */
#define KIND "keytab"
#define PRINCIPALS_MOST 32 /* of the service; more are not shown */
#define TYPES_MOST 16      /* keys of one principal with one kvno */
#define LIST 512           /* bytes of a list of names with its NUL */

/* The newest keys of one principal. */
struct key_set {
	krb5_principal principal;
	krb5_kvno kvno;
	krb5_enctype types[TYPES_MOST];
	int count;
};

/* What the keytab has. */
struct content {
	struct check *c;
	struct key_set sets[PRINCIPALS_MOST];
	int count;
	char others[LIST]; /* the principals of other services */
};

/* Finds the keys of a principal, or makes a place for them. NULL: no room. */
static struct key_set *
find_set(struct content *k, krb5_const_principal p)
{
	krb5_context context = k->c->auth->context;
	struct key_set *set = k->sets;

	for (; set < k->sets + k->count; set++)
		if (krb5_principal_compare(context, set->principal, p))
			return set;
	if (k->count == PRINCIPALS_MOST ||
	    krb5_copy_principal(context, p, &set->principal) != 0)
		return NULL;
	k->count++;
	return set;
}

/* Notes a key of the service. */
static bool
note_key(void *self, const krb5_keytab_entry *key)
{
	struct key_set *set = find_set(self, key->principal);

	if (set == NULL || key->vno < set->kvno)
		return true;
	if (key->vno > set->kvno)
		set->count = 0;
	set->kvno = key->vno;
	if (set->count < TYPES_MOST)
		set->types[set->count++] = key->key.enctype;
	return true;
}

/* Adds a name to a list in words[LIST], unless the list has it. */
static void
add_word(char *words, const char *name)
{
	if (strstr(words, name) != NULL)
		return;
	if (*words != '\0')
		strlcat(words, ", ", LIST);
	strlcat(words, name, LIST);
}

/* Notes the principal of any key. */
static bool
note_other(void *self, const krb5_keytab_entry *key)
{
	struct content *k = self;
	char name[CHECK_PRINCIPAL];

	add_word(k->others, principal_write(k->c, key->principal, name));
	return true;
}

/* Makes the remedy: get a key for this host. */
static const char *
add_host_key(struct check *c)
{
	char host[NI_MAXHOST], principal[sizeof("pop/") + NI_MAXHOST];

	if (c->o.service != NULL)
		return remedy_add_key(c, c->o.service);
	strlcpy(principal, "pop/", sizeof(principal));
	strlcat(principal, host_full_name(host), sizeof(principal));
	return remedy_add_key(c, principal);
}

/*
 * Makes the remedy for a keytab in which libkrb5 finds no key at all. If the
 * file is damaged, kadmin adds no key to it that libkrb5 finds.
 */
static const char *
replace_keytab(struct check *c)
{
	char add[sizeof(c->remedy)], path[PATH_MAX];
	struct check_word w;
	const char *command = add_host_key(c);

	if (command != c->remedy || !keytab_path(c->auth, c->o.keytab, path))
		return command;
	strlcpy(add, command, sizeof(add));
	check_quote(&w, path);
	return check_remedy(c, "mv %s %s.damaged; %s", w.text, w.text, add);
}

/* Returns true if a type is deprecated by RFC 6649 or RFC 8429. */
static bool
is_weak(krb5_enctype type)
{
	static const krb5_enctype weak[] = { ENCTYPE_DES_CBC_CRC,
		ENCTYPE_DES_CBC_MD4, ENCTYPE_DES_CBC_MD5, ENCTYPE_DES3_CBC_SHA1,
		ENCTYPE_ARCFOUR_HMAC, ENCTYPE_ARCFOUR_HMAC_EXP };

	for (size_t i = 0; i < sizeof(weak) / sizeof(weak[0]); i++)
		if (type == weak[i])
			return true;
	return false;
}

/* Checks the types of the newest keys of a principal. */
static void
check_types(struct check *c, const struct key_set *set, const char *name)
{
	char types[LIST] = "", type[64];
	bool permitted = false, strong = false;
	const char *remedy;
	char path[PATH_MAX] = "KEYTAB";

	for (int i = 0; i < set->count; i++) {
		if (krb5_enctype_to_name(set->types[i], false, type,
			sizeof(type)) != 0)
			strlcpy(type, "a type that libkrb5 does not know",
			    sizeof(type));
		add_word(types, type);
		permitted = permitted || type_is_permitted(c, set->types[i]);
		strong = strong || !is_weak(set->types[i]);
	}
	keytab_path(c->auth, c->o.keytab, path);
	remedy = keys_is_plain(path) && keys_is_plain(name) ?
	    check_remedy(c,
		"kadmin -q 'ktadd -e aes256-cts-hmac-sha1-96:normal -k %s %s'",
		path, name) :
	    "make a key of another type by kadmin";
	if (!permitted)
		check_fail(c, "key", name, remedy,
		    "kvno %u: krb5.conf and libkrb5 permit none of its types: "
		    "%s",
		    set->kvno, types);
	else if (!strong)
		check_warn(c, "key", name, remedy,
		    "kvno %u: its types are weak: %s", set->kvno, types);
	else
		check_ok(c, "key", name, "kvno %u: %s", set->kvno, types);
}

/* Says that the keytab is no one's choice, if it is not. */
static const char *
hint_at_option(const struct check *c)
{
	return c->o.keytab == NULL && getenv("KRB5_KTNAME") == NULL ?
	    "; this is libkrb5's default; the option keytab (-k) names "
	    "another" :
	    "";
}

/* Prints why the keytab has no key that kpopd uses. */
static void
fail_without_key(struct content *k, const char *path)
{
	struct check *c = k->c;

	keys_visit(c, KEYS_OF_KEYTAB, note_other, k);
	check_fail(c, KIND, path,
	    *k->others != '\0' ? add_host_key(c) : replace_keytab(c),
	    "it has no key for %s; %s%s%s",
	    c->o.service != NULL ? c->o.service : "pop/HOST or pop3/HOST",
	    *k->others != '\0' ? "its principals: " : "it has no key at all",
	    k->others, hint_at_option(c));
}

/* Checks the principal of -s. Returns false if kpopd cannot use it. */
static bool
check_service_name(struct check *c)
{
	krb5_context context = c->auth->context;
	krb5_principal p;
	krb5_error_code problem;
	bool usable;

	if (c->o.service == NULL)
		return true;
	if ((problem = krb5_parse_name(context, c->o.service, &p)) != 0) {
		check_fail(c, "key", c->o.service, NULL, "%s",
		    krb5_get_error_message(context, problem));
		return false;
	}
	usable = keytab_is_for_pop(p);
	krb5_free_principal(context, p);
	if (!usable)
		check_fail(c, "key", c->o.service,
		    "give -s a principal of the keytab, as klist -k prints it",
		    "the option service (-s) is not pop/HOST or pop3/HOST");
	return usable;
}

/* Checks what the keytab has. */
static void
check_content(struct check *c)
{
	static struct content k;
	char path[PATH_MAX] = "";
	krb5_error_code problem;

	k.c = c;
	if (!keytab_path(c->auth, c->o.keytab, path) && c->o.keytab != NULL)
		strlcpy(path, c->o.keytab, sizeof(path));
	if (!check_service_name(c))
		return;
	problem = keys_visit(c, KEYS_OF_SERVICE, note_key, &k);
	if (problem != 0) {
		check_fail(c, KIND, path, replace_keytab(c), "%s",
		    krb5_get_error_message(c->auth->context, problem));
		return;
	}
	if (k.count == 0)
		fail_without_key(&k, path);
	for (int i = 0; i < k.count; i++) {
		char name[CHECK_PRINCIPAL];

		principal_write(c, k.sets[i].principal, name);
		check_types(c, &k.sets[i], name);
	}
}

/* Prints that there is no keytab. */
static void
fail_absent(struct check *c)
{
	char path[PATH_MAX], real[PATH_MAX];

	keytab_path(c->auth, c->o.keytab, path);
	if (!check_path(c, KIND, path, real)) {
		const char *text = strerror(errno);

		check_fail(c, KIND, path, add_host_key(c), "%s%s%s%s", text,
		    strcmp(path, real) != 0 ? ": " : "",
		    strcmp(path, real) != 0 ? real : "", hint_at_option(c));
	}
}

/* Returns where the name of the keytab is from, for a line. */
static const char *
name_source(const struct check *c)
{
	if (c->o.keytab != NULL)
		return "the option keytab (-k)";
	return getenv("KRB5_KTNAME") != NULL ?
	    "KRB5_KTNAME, which the service must have, too" :
	    "libkrb5's default";
}

/* Checks the mode of the file at real. */
static void
check_mode(struct check *c, const char *path, const char *real)
{
	char reason[EXPOSURE_REASON];
	struct check_word w;
	struct stat st;
	const char *remedy;

	check_quote(&w, real);
	remedy = check_remedy(c,
	    "chown root:root %s; chmod 600 %s # then make new keys, if "
	    "others may have read these",
	    w.text, w.text);

	if (stat(real, &st) == -1)
		check_fail(c, KIND, path, NULL, "%m");
	else if (!S_ISREG(st.st_mode))
		check_fail(c, KIND, path, NULL, "not a regular file");
	else if (exposure_find(&st, c->o.least_user, reason))
		check_fail(c, KIND, path, remedy,
		    "mode %04o: %s; its keys permit a login as any user",
		    (unsigned)(st.st_mode & 07777), reason);
	else if (getxattr(real, "system.posix_acl_access", NULL, 0) > 0)
		check_warn(c, KIND, path, check_remedy(c, "getfacl %s", w.text),
		    "it has an access control list, which may let others read "
		    "it");
	else
		check_ok(c, KIND, path, "mode %04o, owner root; named by %s",
		    (unsigned)(st.st_mode & 07777), name_source(c));
}

/* Checks the file. Returns false if there is nothing to read. */
static bool
check_keytab_file(struct check *c)
{
	char path[PATH_MAX], real[PATH_MAX];
	struct stat st;

	if (!keytab_path(c->auth, c->o.keytab, path)) {
		check_ok(c, KIND, c->o.keytab,
		    "it is not a file; who can read it was not checked");
		return true;
	}
	if (path[0] != '/')
		check_warn(c, KIND, path, "give a path that begins with /",
		    "kpopd looks for it in the directory in which it is "
		    "started");
	if (stat(path, &st) == -1) {
		fail_absent(c);
		return false;
	}
	if (check_path(c, KIND, path, real))
		check_mode(c, path, real);
	return S_ISREG(st.st_mode);
}

/* Child: checks the file and what it has. */
static void
check_all(struct check *c)
{
	if (check_keytab_file(c))
		check_content(c);
}

void
check_keytab(struct check *c)
{
	if (c->auth != NULL && !check_in_child(c, SECONDS, check_all))
		check_fail(c, KIND, c->o.keytab, NULL,
		    "its check did not end within %d s", SECONDS);
}
