/*
 * Finds accounts, and decides whether they may log in.
 *
 * Runs as root in main, the listener, the monitor and --recover, and in
 * kpopd-tls before it drops root's rights. Runs as the user in the session.
 * Trusts the account database, but not the name to look up, which the client
 * has sent.
 *
 * The account database decides which user names exist. sssd and winbind have
 * names like alice@example.org and KPOPD\alice, and useradd --badname makes
 * others. So a name is not checked against an alphabet. It must only be safe
 * where it is used: as a component of a path (-m, the dotlock,
 * k5login_directory). The log and the lines of state.c contain names, too, but
 * encode them. Bytes above 0x7f need not be UTF-8, because only the database
 * compares them.
 */
#include "config.h"

#include <sys/wait.h>

#include <errno.h>
#include <pwd.h>
#include <shadow.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "account.h"
#include "process.h"

bool
account_name_valid(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n >= ACCOUNT_NAME || strcmp(name, ".") == 0 ||
	    strcmp(name, "..") == 0)
		return false;
	/*
	 * A program that gets such a name as an argument would take it for an
	 * option.
	 */
	if (*name == '-')
		return false;
	while (*name != '\0' && *name != '/' && *name != 0x7f &&
	    (unsigned char)*name >= ' ')
		name++;
	return *name == '\0';
}

/*
 * Returns true if getpwnam_r(3) may return this error for an account that does
 * not exist.
 */
static bool
is_absent(int error)
{
	return error == 0 || error == ENOENT || error == ESRCH ||
	    error == EBADF || error == EPERM;
}

/*
 * Returns true if the kernel or NFS use the uid for an unknown user (65534, -2)
 * or for "none" (65535, -1).
 */
static bool
is_nobody(uid_t uid)
{
	return uid == 65534 || uid == 65535 || uid > ACCOUNT_UID_MOST;
}

/*
 * Copies an entry of the account database to *a. Returns what account_find
 * returns, but does not compare the name.
 */
static const char *
copy_account(const struct passwd *pw, const struct account_uids *uids,
    struct account *a)
{
	if (pw->pw_uid == 0)
		return "uid 0";
	if (uids != NULL && is_nobody(pw->pw_uid))
		return "uid of nobody";
	if (uids != NULL && pw->pw_uid < uids->least)
		return "uid below the minimum";
	if (uids != NULL && pw->pw_uid > uids->most)
		return "uid above the maximum";
	if (strlcpy(a->name, pw->pw_name, sizeof(a->name)) >= sizeof(a->name))
		return "user name too long";
	if (!account_name_valid(a->name))
		return "the own name of the account is not a user name";
	a->uid = pw->pw_uid;
	a->gid = pw->pw_gid;
	if (strlcpy(a->home, pw->pw_dir, sizeof(a->home)) >= sizeof(a->home))
		return "the path of the home directory is too long";
	return NULL;
}

/*
 * Does what account_find does, but accepts another spelling of the account's
 * own name if the database does; *a has the account's own name. Sets *is_there
 * to false if the name is not valid, or if the database has no account for it.
 * Otherwise sets *is_there to true, even if the database does not answer.
 */
static const char *
find_spelling(const char *name, const struct account_uids *uids,
    struct account *a, bool *is_there)
{
	static char room[65536];
	struct passwd entry, *pw;
	int error;

	*is_there = false;
	if (!account_name_valid(name))
		return "not a user name";
	error = getpwnam_r(name, &entry, room, sizeof(room), &pw);
	if (pw == NULL && is_absent(error))
		return "unknown user";
	*is_there = true;
	if (pw == NULL)
		return "the account database does not answer";
	return copy_account(pw, uids, a);
}

const char *
account_find(const char *name, const struct account_uids *uids,
    struct account *a)
{
	bool is_there;
	const char *refusal = find_spelling(name, uids, a, &is_there);

	return refusal == NULL && strcmp(a->name, name) != 0 ?
	    "the account has another user name" :
	    refusal;
}

/*
 * Writes the first component of a principal's text form to name[ACCOUNT_NAME].
 * Returns false if it is too long or contains a NUL.
 */
static bool
write_first_component(const char *principal, char *name)
{
	/*
	 * krb5_unparse_name(3) writes these three as a backslash and a letter.
	 * It writes other special characters as a backslash and the character
	 * itself.
	 */
	static const char letters[] = "ntb", meant[] = "\n\t\b";
	size_t n = 0;

	for (; *principal != '\0' && *principal != '/' && *principal != '@';
	     principal++) {
		const char *which;

		name[n] = *principal;
		if (*principal == '\\') {
			if (*++principal == '\0' || *principal == '0')
				return false;
			which = strchr(letters, *principal);
			if (which != NULL)
				name[n] = meant[which - letters];
			else
				name[n] = *principal;
		}
		if (++n == ACCOUNT_NAME)
			return false;
	}
	name[n] = '\0';
	return true;
}

/*
 * Returns a pointer to the "@" before the realm in a principal's text form, or
 * to its end if it has no realm.
 */
static const char *
find_realm(const char *principal)
{
	for (; *principal != '\0' && *principal != '@'; principal++)
		if (*principal == '\\' && principal[1] != '\0')
			principal++;
	return principal;
}

/* Returns true if text is the principal; the realm is compared without case. */
static bool
is_principal(const char *text, const char *principal)
{
	const char *realm = find_realm(principal);
	size_t n = (size_t)(realm - principal);

	return strncmp(text, principal, n) == 0 &&
	    strcasecmp(text + n, realm) == 0;
}

/*
 * Returns true if the domain equals the n bytes at word; they are compared
 * without case.
 */
static bool
equals_domain(const char *domain, const char *word, size_t n)
{
	return n > 0 && strlen(domain) == n &&
	    strncasecmp(domain, word, n) == 0;
}

/* Returns true if the domain is one of *d. */
static bool
is_domain(const char *domain, const struct account_domains *d)
{
	const char *realm = find_realm(d->service),
		   *host = d->service + strcspn(d->service, "/");
	size_t n;

	if (equals_domain(domain, d->host, strlen(d->host)) ||
	    (*realm == '@' &&
		equals_domain(domain, realm + 1, strlen(realm + 1))) ||
	    (host < realm &&
		equals_domain(domain, host + 1, (size_t)(realm - host) - 1)))
		return true;
	for (const char *p = d->more; p != NULL && *p != '\0';
	     p += n + (p[n] == ',')) {
		n = strcspn(p, ",");
		if (equals_domain(domain, p, n))
			return true;
	}
	return false;
}

/*
 * Writes NAME of NAME@DOMAIN to name[ACCOUNT_NAME]. Returns false if DOMAIN,
 * which follows the last "@", is not one of *domains, or if NAME is too long.
 */
static bool
write_local_part(const char *text, const struct account_domains *domains,
    char *name)
{
	const char *at = strrchr(text, '@');

	if (at == NULL || !is_domain(at + 1, domains) ||
	    (size_t)(at - text) >= ACCOUNT_NAME)
		return false;
	memcpy(name, text, (size_t)(at - text));
	name[at - text] = '\0';
	return true;
}

const char *
account_find_login(const char *text, const char *principal,
    const struct account_domains *domains, const struct account_uids *uids,
    struct account *a)
{
	char name[ACCOUNT_NAME];
	const char *refusal = NULL;
	bool is_there = false;

	if (*text != '\0')
		refusal = find_spelling(text, uids, a, &is_there);
	if (is_there)
		return refusal;
	if (*text == '\0' || is_principal(text, principal))
		return write_first_component(principal, name) ?
		    find_spelling(name, uids, a, &is_there) :
		    "not a user name";
	return write_local_part(text, domains, name) ?
	    find_spelling(name, uids, a, &is_there) :
	    refusal;
}

const char *
account_find_uid(uid_t uid, const struct account_uids *uids, struct account *a)
{
	const struct passwd *pw = getpwuid(uid);

	return pw != NULL ? copy_account(pw, uids, a) : "unknown user";
}

/* The exit status of the child that asks the shadow database. */
enum answer { ANSWER_OPEN, ANSWER_EXPIRED, ANSWER_UNKNOWN };

/*
 * Asks the shadow database whether the account has expired. The password may be
 * locked or expired, because Kerberos logins do not use it.
 */
static enum answer
ask_shadow(const char *name)
{
	static char room[65536];
	struct spwd entry, *sp;
	int error = getspnam_r(name, &entry, room, sizeof(room), &sp);

	/* Accounts of directory services have no shadow entry. */
	if (sp == NULL)
		return error == 0 || error == ENOENT || error == ESRCH ?
		    ANSWER_OPEN :
		    ANSWER_UNKNOWN;
	/*
	 * The account is closed from the day sp_expire on, as in pam_unix(8).
	 * "chage -E 0" closes it, too.
	 */
	return sp->sp_expire >= 0 && time(NULL) / 86400 >= sp->sp_expire ?
	    ANSWER_EXPIRED :
	    ANSWER_OPEN;
}

const char *
account_find_closure(const struct account *a, unsigned seconds)
{
	int status;
	bool has_answer;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(seconds);
		_exit(ask_shadow(a->name));
	}
	has_answer = pid != -1 && process_wait(pid, &status, 0) == 0 &&
	    WIFEXITED(status);
	if (has_answer && WEXITSTATUS(status) == ANSWER_OPEN)
		return NULL;
	if (has_answer && WEXITSTATUS(status) == ANSWER_EXPIRED)
		return "account expired";
	return "the expiry of the account cannot be read";
}
