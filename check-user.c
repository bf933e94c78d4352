/*
 * Checks whether a user may log in, and by which rule.
 *
 * Runs as root in kpopd-check, which looks the account up as the monitor does.
 * Then a child becomes the user and asks Kerberos as the session does. The
 * child also reads the user's .k5login, of which nothing is trusted.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <krb5.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "access.h"
#include "auth-internal.h"
#include "auth-permit.h"
#include "auth-start.h"
#include "check.h"
#include "check-access.h"
#include "check-mend.h"
#include "check-quote.h"
#include "check-way.h"

#define NAMES 10         /* lines of .k5login that are examined */
#define NAME 256         /* bytes of such a line with its NUL */
#define NAMES_TEXT 1024  /* bytes of a list of such lines with its NUL */
#define LINES_MOST 10000 /* lines of .k5login that are read */
#define PRINCIPAL ((size_t)4 * NAME) /* bytes of a principal with its NUL */

/* What the checks of a user share. */
static struct {
	krb5_context context;       /* with the krb5.conf snapshot */
	const char *realm;          /* the default realm; NULL: none */
	char principal[PRINCIPAL];  /* of the user in this realm */
	bool is_json;               /* as in struct check */
	char k5login[AUTH_K5LOGIN]; /* its path */
} k;

/* A .k5login. */
struct k5login {
	bool exists;
	const char *flaw; /* why libkrb5 accepts no name in it, or NULL */
	struct stat st;
	/*
	 * it is no symlink and has no second link; then root may change it
	 * safely
	 */
	bool is_plain;
	bool ends_line;          /* it is empty, or ends with a line feed */
	size_t count;            /* lines that are not empty */
	char names[NAMES][NAME]; /* the first of them */
	bool is_long[NAMES];     /* names[i] is only the beginning */
	unsigned numbers[NAMES]; /* of their lines */
};

/*
 * Finds the default realm. Returns false if krb5.conf has no principals for
 * users, which is printed here or by check_kerberos.
 */
static bool
find_default_realm(struct check *c)
{
	char *realm;

	if (c->auth == NULL)
		return false;
	if (krb5_get_default_realm(c->auth->context, &realm) == 0) {
		k.context = c->auth->context;
		k.realm = realm;
		return true;
	}
	check_fail(c, "principal", NULL,
	    check_remedy(c,
		"set default_realm in [libdefaults] of /etc/krb5.conf"),
	    "there is no default realm, so that no principal belongs to a "
	    "user");
	return false;
}

/*
 * Writes the principal that has this name in the default realm. Writes only
 * the name if there is no realm.
 */
static void
make_principal(const char *name, char principal[PRINCIPAL])
{
	krb5_principal who;
	char *text;

	strlcpy(principal, name, PRINCIPAL);
	if (k.realm == NULL ||
	    krb5_build_principal(k.context, &who, (unsigned)strlen(k.realm),
		k.realm, name, (char *)NULL) != 0)
		return;
	if (krb5_unparse_name(k.context, who, &text) == 0) {
		strlcpy(principal, text, PRINCIPAL);
		krb5_free_unparsed_name(k.context, text);
	}
	krb5_free_principal(k.context, who);
}

/*
 * Signal handler: ends the process, because a lookup in the C library cannot be
 * cancelled.
 */
static void
end_check(int signal_number)
{
	static const char text[] =
	    "FAIL  account: the account database does not answer within "
	    "the time of a login (-t)\n",
			  json[] = "{\"verdict\":\"FAIL\","
				   "\"kind\":\"account\",\"found\":\"the "
				   "account database does not answer within "
				   "the time of a login (-t)\"}\n";

	(void)signal_number;
	if (k.is_json)
		_exit(write(1, json, sizeof(json) - 1) != -1);
	_exit(write(1, text, sizeof(text) - 1) != -1);
}

/*
 * Looks the account up as the monitor does for a client with a ticket of the
 * user. uids is as in account_find_login. Returns NULL or the reason to refuse
 * the login.
 */
static const char *
find_account(const struct check *c, const struct account_uids *uids,
    struct account *a)
{
	char host[HOST_NAME_MAX + 1] = "", service[PRINCIPAL],
				  principal[PRINCIPAL];
	const struct account_domains domains = {
		.host = host, .service = service, .more = c->o.domains
	};

	gethostname(host, sizeof(host) - 1);
	snprintf(service, sizeof(service), "pop/%s@%s", host,
	    k.realm != NULL ? k.realm : "");
	if (c->o.service != NULL)
		strlcpy(service, c->o.service, sizeof(service));
	make_principal(c->user, principal);
	return account_find_login(c->user, principal, &domains, uids, a);
}

/* Prints why there is no account that may log in. */
static void
refuse_account(struct check *c, const char *refusal)
{
	const char *remedy = NULL;
	struct account a = { .name = "" };
	struct check_word w;

	if (find_account(c, NULL, &a) != NULL && getpwnam(c->user) == NULL)
		remedy = check_remedy(c, "getent passwd %s",
		    check_quote(&w, c->user));
	else if (a.name[0] != '\0' &&
	    (a.uid < c->o.uids.least || a.uid > c->o.uids.most))
		remedy = check_remedy(c,
		    "if uid %u is a person's, set uids (-n) to a range that "
		    "contains it",
		    (unsigned)a.uid);
	check_fail(c, "account", c->user, remedy, "%s", refusal);
}

/*
 * Finds the account and whether it has expired. Returns false (printed) if
 * there is none that may log in.
 */
static bool
check_login_account(struct check *c)
{
	struct account *a = &c->account;
	const char *refusal;
	struct check_word w;

	if ((refusal = find_account(c, &c->o.uids, a)) != NULL) {
		refuse_account(c, refusal);
		a->name[0] = '\0';
		return false;
	}
	refusal = account_find_closure(a, (unsigned)c->o.login);
	if (refusal == NULL)
		check_ok(c, "account", a->name,
		    "uid %u, home directory %s, not expired", (unsigned)a->uid,
		    a->home);
	else
		check_fail(c, "account", a->name,
		    check_remedy(c, "chage -l %s, then chage -E -1 %s",
			check_quote(&w, a->name), w.text),
		    "%s", refusal);
	/* The other checks are useful to the administrator all the same. */
	return true;
}

/* Prints that /etc/nologin is not the reason for a refusal. */
static void
check_nologin(struct check *c)
{
	if (access("/etc/nologin", F_OK) == 0)
		check_ok(c, "nologin", "/etc/nologin",
		    "it exists, but kpopd does not read it");
}

/*
 * Reads the lines of .k5login as libkrb5 does: a line is the whole text of a
 * principal.
 */
static void
read_names(FILE *file, struct k5login *k5)
{
	char line[BUFSIZ];
	bool is_rest = false;
	unsigned number = 0;

	for (int i = 0; i < LINES_MOST; i++) {
		size_t n;
		bool ends;

		if (fgets(line, sizeof(line), file) == NULL)
			break;
		n = strcspn(line, "\n");
		k5->ends_line = line[n] == '\n';
		/* libkrb5 does not need a line feed at the end of the file. */
		ends = k5->ends_line || feof(file);
		line[n] = '\0';
		number += !is_rest;
		if (!is_rest && n > 0) {
			if (k5->count < NAMES)
				k5->numbers[k5->count] = number;
			if (k5->count < NAMES)
				k5->is_long[k5->count] =
				    strlcpy(k5->names[k5->count], line, NAME) >=
					NAME ||
				    !ends;
			k5->count++;
		}
		is_rest = !ends;
	}
}

/* Reads .k5login. */
static void
read_k5login(struct k5login *k5)
{
	FILE *file;
	int fd;

	*k5 = (struct k5login){ .ends_line = true };
	k5->is_plain = lstat(k.k5login, &k5->st) == 0 &&
	    S_ISREG(k5->st.st_mode) && k5->st.st_nlink == 1;
	k5->exists = stat(k.k5login, &k5->st) == 0;
	if (!k5->exists)
		return;
	if (!S_ISREG(k5->st.st_mode)) {
		k5->flaw = "it is not a regular file";
		return;
	}
	if (k5->st.st_uid != 0 && k5->st.st_uid != geteuid()) {
		k5->flaw = "it belongs to neither root nor the user, so that "
			   "libkrb5 accepts no name in it";
		return;
	}
	fd = open(k.k5login, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd == -1 || (file = fdopen(fd, "r")) == NULL) {
		k5->flaw = strerror(errno);
		return;
	}
	read_names(file, k5);
	fclose(file);
}

/*
 * Finds what the access file has about the principal. Returns true if a line
 * names it, with the rule, or NULL and *why.
 */
static bool
find_access_rule(const struct check *c, const char *principal,
    const char *realms, const char **rule, const char **why)
{
	static char text[2][64 + ACCESS_WHY];
	struct access_answer answer;

	check_access_of(c, principal, &answer);
	*rule = NULL;
	*why = "the access file has a mistake, so no client may log in";
	if (answer.right == ACCESS_UNNAMED || answer.right == ACCESS_MISTAKE)
		return answer.right == ACCESS_MISTAKE;
	snprintf(text[0], sizeof(text[0]),
	    "denied by line %u of the access "
	    "file: %s",
	    answer.line, answer.why);
	snprintf(text[1], sizeof(text[1]), "by line %u of the access file%s",
	    answer.line,
	    answer.right == ACCESS_READ ? ", to remove nothing" : "");
	*why = text[0];
	if (answer.right != ACCESS_DENIED &&
	    permit_accepts(c->auth, principal, realms, why))
		*rule = text[1];
	return true;
}

/* Asks what the session asks. Returns the rule, or NULL with *why. */
static const char *
find_rule(const struct check *c, const char *principal, const char *realms,
    const char **why)
{
	const struct account *a = &c->account;
	const char *rule;

	if (!find_access_rule(c, principal, realms, &rule, why))
		rule = permit_find_rule(c->auth, principal, realms, a->name,
		    a->home, why);
	if (rule != NULL &&
	    (*why = account_find_contradiction(a, &c->o.uids)) != NULL)
		rule = NULL;
	return rule;
}

/* Returns a sentence about a rule of find_rule. */
static const char *
explain_rule(const char *rule)
{
	if (strcmp(rule, "k5login") == 0)
		return "because .k5login names it";
	if (strcmp(rule, "localname") == 0)
		return "by auth_to_local or the default rule";
	if (strcmp(rule, "plugin") == 0)
		return "by a plugin of libkrb5";
	return rule;
}

/* Prints a line if others than the user can change .k5login. */
static void
report_writers(struct check *c, const struct k5login *k5)
{
	struct check_text t;

	if ((k5->st.st_mode & S_IWOTH) != 0 || check_group_writes(c, &k5->st))
		check_fail(c, "k5login", k.k5login,
		    mend_mode(c, k.k5login, &k5->st, "go-w"),
		    "other users can write it, and so log in as this one: %s, "
		    "gid %u",
		    check_describe(&t, &k5->st), (unsigned)k5->st.st_gid);
}

/*
 * Returns true if the text is the user's principal with an instance, as
 * alice/cron@REALM is one of alice@REALM.
 */
static bool
is_instance(const char *text)
{
	const char *at = k.realm != NULL ?
	    k.principal + strlen(k.principal) - strlen(k.realm) - 1 :
	    k.principal;
	size_t n = (size_t)(at - k.principal), all = strlen(text);

	return strncmp(text, k.principal, n) == 0 && text[n] == '/' &&
	    all > n + strlen(at) && strcmp(text + all - strlen(at), at) == 0;
}

/*
 * Returns what is wrong with a line that the user may have meant as the
 * principal, or NULL.
 */
static const char *
find_near_miss(const char *line, const char *principal)
{
	size_t n = strlen(principal);
	const char *realm = strrchr(principal, '@');

	if (strncasecmp(line, principal, n) == 0 && line[n] != '\0' &&
	    line[n + strspn(line + n, " \t\r")] == '\0')
		return "a blank or a carriage return follows the principal";
	if (strcasecmp(line, principal) == 0)
		return "upper and lower case must be the principal's";
	if (realm != NULL && strlen(line) == (size_t)(realm - principal) &&
	    strncmp(line, principal, strlen(line)) == 0)
		return "the realm is missing";
	return NULL;
}

/* Returns true if the line is the whole text of a principal. */
static bool
is_principal_text(const char *line)
{
	krb5_principal who;
	char *text = NULL;
	bool result;

	if (krb5_parse_name(k.context, line, &who) != 0)
		return false;
	result = krb5_unparse_name(k.context, who, &text) == 0 &&
	    strcmp(text, line) == 0;
	krb5_free_unparsed_name(k.context, text);
	krb5_free_principal(k.context, who);
	return result;
}

/*
 * Writes the principals of .k5login that NAMES_TEXT bytes can have. Returns
 * their number. Sets *are_instances if all are instances of the user.
 */
static size_t
list_names(const struct k5login *k5, char names[NAMES_TEXT],
    bool *are_instances)
{
	size_t count = 0;

	names[0] = '\0';
	*are_instances = true;
	for (size_t i = 0; i < k5->count && i < NAMES; i++) {
		if (k5->is_long[i] || !is_principal_text(k5->names[i]))
			continue;
		strlcat(names, count++ > 0 ? ", " : "", NAMES_TEXT);
		strlcat(names, k5->names[i], NAMES_TEXT);
		*are_instances = *are_instances && is_instance(k5->names[i]);
	}
	if (k5->count > NAMES)
		strlcat(names, ", ...", NAMES_TEXT);
	return count;
}

/*
 * Makes the remedy that has .k5login name the user's own principal, or moves it
 * away if that is not safe.
 */
static const char *
add_own_line(struct check *c, const struct k5login *k5)
{
	struct check_word name, user, path;
	const char *feed = k5->ends_line ? "" : "\\n";

	if (!k5->is_plain)
		return mend_aside(c, k.k5login);
	check_quote(&name, k.principal);
	check_quote(&path, k.k5login);
	if (!check_is_replaceable(k.k5login))
		return check_remedy(c, "printf '%s%%s\\n' %s >>%s", feed,
		    name.text, path.text);
	if (access(k.k5login, W_OK) == -1)
		return check_remedy(c, "add the line %s to it", name.text);
	return check_remedy(c,
	    "printf '%s%%s\\n' %s | " AS_USER "tee -a %s >/dev/null", feed,
	    name.text, check_quote(&user, c->account.name), path.text);
}

/*
 * Prints why .k5login does not permit the user's own principal, which the file
 * does not name.
 */
static void
explain_names(struct check *c, const struct k5login *k5)
{
	char names[NAMES_TEXT];
	bool are_instances;
	size_t count = list_names(k5, names, &are_instances);
	const char *remedy = add_own_line(c, k5), *miss = NULL;

	for (size_t i = 0; miss == NULL && i < k5->count && i < NAMES; i++)
		miss = find_near_miss(k5->names[i], k.principal);
	if (miss != NULL)
		check_fail(c, "k5login", k.k5login, remedy,
		    "no line is exactly %s: %s", k.principal, miss);
	else if (count == 0)
		check_fail(c, "k5login", k.k5login, remedy,
		    "it names no principal, and so permits none");
	else
		check_fail(c, "k5login", k.k5login, remedy,
		    "it names only %s%s, and so does not permit %s; without "
		    "this file %s could log in",
		    are_instances ? "instances of the user: " : "", names,
		    k.principal, k.principal);
}

/* Prints what auth_to_local makes of the principal. */
static void
explain_localname(struct check *c)
{
	char local[ACCOUNT_NAME];
	struct check_word path;
	krb5_principal who;
	krb5_error_code problem = krb5_parse_name(k.context, k.principal, &who);

	if (problem == 0)
		problem = krb5_aname_to_localname(k.context, who, sizeof(local),
		    local);
	if (problem != 0)
		strlcpy(local, "no user", sizeof(local));
	check_fail(c, "localname", k.principal,
	    check_remedy(c,
		"correct auth_to_local in [realms] of /etc/krb5.conf, or name "
		"the principal in %s",
		check_quote(&path, k.k5login)),
	    "auth_to_local and the default rule give %s, and there is no "
	    ".k5login",
	    local);
}

/*
 * Prints the obstacle on the way to .k5login. Returns false if there is none.
 */
static bool
explain_obstacle(struct check *c)
{
	struct check_obstacle o;

	if (!check_find_obstacle(c, k.k5login, &o) || o.error == ENOENT ||
	    o.error == ENOTDIR)
		return false;
	check_fail(c, "k5login", k.k5login,
	    o.remedy[0] != '\0' ? o.remedy : NULL,
	    "whether it exists cannot be found out, so no ticket opens the "
	    "account: %s",
	    o.why);
	return true;
}

/* Prints why libkrb5 accepts no name in .k5login. */
static void
explain_flaw(struct check *c, const struct k5login *k5)
{
	struct check_text t;
	struct check_word user, path;
	const char *remedy;

	check_quote(&path, k.k5login);
	if (k5->is_plain && k5->st.st_uid == geteuid())
		remedy = mend_mode(c, k.k5login, &k5->st, "u+r");
	else if (k5->is_plain && !check_is_replaceable(k.k5login))
		remedy = check_remedy(c, "chown -h %s %s && chmod u+r %s",
		    check_quote(&user, c->account.name), path.text, path.text);
	else
		/* It permits no principal, so it can be removed. */
		remedy = mend_aside(c, k.k5login);
	check_fail(c, "k5login", k.k5login, remedy, "%s: %s", k5->flaw,
	    check_describe(&t, &k5->st));
}

/* Prints which rule or file refuses the user's own principal. */
static void
explain_refusal(struct check *c, const struct k5login *k5)
{
	const char *why;

	if (find_rule(c, k.principal, NULL, &why) != NULL)
		check_fail(c, "realm", k.realm,
		    check_remedy(c, "add the realm to realms (-r)"),
		    "it is not one of %s (-r)", c->o.realms);
	else if (k5->flaw != NULL)
		explain_flaw(c, k5);
	else if (k5->exists)
		explain_names(c, k5);
	else if (!explain_obstacle(c))
		explain_localname(c);
}

/* Checks the user's own principal. */
static void
check_own_principal(struct check *c, const struct k5login *k5)
{
	const char *why = "", *rule, *log;
	struct access_answer answer;
	bool is_denied;

	check_access_of(c, k.principal, &answer);
	is_denied =
	    answer.right == ACCESS_DENIED || answer.right == ACCESS_MISTAKE;
	check_log_begin();
	rule = find_rule(c, k.principal, c->o.realms, &why);
	log = check_log_end();
	if (rule != NULL) {
		check_ok(c, "principal", k.principal, "it may log in as %s, %s",
		    c->account.name, explain_rule(rule));
		return;
	}
	check_fail(c, "principal", k.principal, NULL,
	    "it may not log in as %s: %s%s%s", c->account.name, why,
	    log[0] != '\0' ? "; " : "", log);
	check_log_begin();
	if (!is_denied)
		explain_refusal(c, k5);
	check_log_end();
}

/* Checks a principal that .k5login names, other than the user's own. */
static void
check_other_principal(struct check *c, const char *principal)
{
	const char *why = "", *rule;

	check_log_begin();
	rule = find_rule(c, principal, c->o.realms, &why);
	check_log_end();
	if (rule != NULL)
		check_ok(c, "principal", principal, "it may log in as %s, %s",
		    c->account.name, explain_rule(rule));
	else
		check_warn(c, "principal", principal, NULL,
		    "%s names it, but it may not log in as %s: %s", k.k5login,
		    c->account.name, why);
}

/* Checks the lines of .k5login. */
static void
check_lines(struct check *c, const struct k5login *k5)
{
	char wrong[NAMES_TEXT] = "", number[32];

	for (size_t i = 0; i < k5->count && i < NAMES; i++) {
		if (!k5->is_long[i] && is_principal_text(k5->names[i])) {
			if (strcmp(k5->names[i], k.principal) != 0)
				check_other_principal(c, k5->names[i]);
			continue;
		}
		snprintf(number, sizeof(number), "%s%u",
		    wrong[0] != '\0' ? ", " : "", k5->numbers[i]);
		strlcat(wrong, number, sizeof(wrong));
	}
	if (wrong[0] != '\0')
		check_warn(c, "k5login", k.k5login, NULL,
		    "not exactly NAME@REALM, so it permits no principal: line "
		    "%s",
		    wrong);
}

/*
 * Child, as the user: checks the principals that may log in, and .k5login. Does
 * not let libkrb5 open a FIFO, which blocks it.
 */
static void
check_permission(struct check *c)
{
	static struct k5login k5;

	read_k5login(&k5);
	if (k5.exists && !S_ISREG(k5.st.st_mode) && !S_ISDIR(k5.st.st_mode)) {
		k5.flaw = "it is not a file, and a login may wait for it until "
			  "its deadline";
		explain_flaw(c, &k5);
		return;
	}
	check_own_principal(c, &k5);
	check_directories(c, k.k5login, ".k5login");
	if (!k5.exists || k5.flaw != NULL)
		return;
	check_lines(c, &k5);
	report_writers(c, &k5);
}

void
check_user(struct check *c)
{
	bool has_realm, has_account;

	if (c->user == NULL)
		return;
	has_realm = find_default_realm(c);
	k.is_json = c->json;
	signal(SIGALRM, end_check);
	alarm((unsigned)c->o.login);
	has_account = check_login_account(c);
	alarm(0);
	signal(SIGALRM, SIG_DFL);
	if (!has_account)
		return;
	check_nologin(c);
	check_access_user(c);
	if (!has_realm)
		return;
	make_principal(c->account.name, k.principal);
	if (auth_k5login(c->auth, c->account.name, c->account.home,
		k.k5login) != 0)
		check_fail(c, "k5login", NULL, NULL,
		    "its path is too long, so no ticket opens the account");
	else
		check_as_user(c, check_permission);
}
