/*
 * Accounts: who may log in.
 *
 * Runs as root, and in kpopd-tls. Trusts the account database, but not the name
 * that it looks up there, which the client has sent.
 *
 * What the database knows may log in: sssd and winbind have names such as
 * alice@example.org and KPOPD\alice, and useradd --badname has others. So a
 * name is not checked by an alphabet, but by what it could do elsewhere: it is
 * a part of a path (-m, the dotlock, k5login_directory), and a word of the log
 * and of the state's lines, where log.c and state.c encode it. Bytes above 0x7f
 * may be UTF-8 or not, because the database has compared them.
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

bool
account_name_valid(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n >= ACCOUNT_NAME || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	/* Programs that the name is handed to would take it for an option. */
	if (*name == '-')
		return false;
	while (*name != '\0' && *name != '/' && *name != 0x7f && (unsigned char)*name >= ' ')
		name++;
	return *name == '\0';
}

/* Returns true if this error of getpwnam_r(3) may mean that the database has no such account. */
static bool
is_absent(int error)
{
	return error == 0 || error == ENOENT || error == ESRCH || error == EBADF || error == EPERM;
}

/*
 * Returns true if the uid is one that the kernel and NFS put in the place of
 * an unknown user: 65534, -2, and the two that mean "none".
 */
static bool
is_nobody(uid_t uid)
{
	return uid == 65534 || uid == 65535 || uid > ACCOUNT_UID_MOST;
}

/* Whether this entry of the account database may log in, as account_find says; then *a is filled. */
static const char *
take_account(const struct passwd *pw, const struct account_uids *uids, struct account *a)
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
		return "the account's own name is no user name";
	a->uid = pw->pw_uid;
	a->gid = pw->pw_gid;
	if (strlcpy(a->home, pw->pw_dir, sizeof(a->home)) >= sizeof(a->home))
		return "home directory name too long";
	return NULL;
}

/*
 * Looks name up, as account_find, but takes the database's word for other
 * spellings of an account: *a has the account's own name. *is_there: whether
 * the database may have an account for this name, whoever may use it.
 */
static const char *
look_up(const char *name, const struct account_uids *uids, struct account *a, bool *is_there)
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
	return take_account(pw, uids, a);
}

const char *
account_find(const char *name, const struct account_uids *uids, struct account *a)
{
	bool is_there;
	const char *refusal = look_up(name, uids, a, &is_there);

	return refusal == NULL && strcmp(a->name, name) != 0 ? "user name differs from the account's" : refusal;
}

/*
 * Writes the first component of a principal's text form to name[ACCOUNT_NAME].
 * Returns false if it is too long or contains a NUL.
 */
static bool
write_first_component(const char *principal, char *name)
{
	/* What krb5_unparse_name(3) writes as a letter. Any other character stands for itself after a backslash. */
	static const char letters[] = "ntb", meant[] = "\n\t\b";
	size_t n = 0;

	for (; *principal != '\0' && *principal != '/' && *principal != '@'; principal++) {
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

/* Returns the "@" before the realm in a principal's text form, or the text's end if there is none. */
static const char *
find_realm(const char *principal)
{
	for (; *principal != '\0' && *principal != '@'; principal++)
		if (*principal == '\\' && principal[1] != '\0')
			principal++;
	return principal;
}

/* Returns true if text is the principal, whose realm may be in any case. */
static bool
is_principal(const char *text, const char *principal)
{
	const char *realm = find_realm(principal);
	size_t n = (size_t)(realm - principal);

	return strncmp(text, principal, n) == 0 && strcasecmp(text + n, realm) == 0;
}

/* Returns true if the domain is the n bytes at word, in any case. */
static bool
is_word(const char *domain, const char *word, size_t n)
{
	return n > 0 && strlen(domain) == n && strncasecmp(domain, word, n) == 0;
}

/* Returns true if the domain is one of these. */
static bool
is_domain(const char *domain, const struct account_domains *d)
{
	const char *realm = find_realm(d->service), *host = d->service + strcspn(d->service, "/");
	size_t n;

	if (is_word(domain, d->host, strlen(d->host)) || (*realm == '@' && is_word(domain, realm + 1, strlen(realm + 1))) ||
	    (host < realm && is_word(domain, host + 1, (size_t)(realm - host) - 1)))
		return true;
	for (const char *p = d->more; p != NULL && *p != '\0'; p += n + (p[n] == ',')) {
		n = strcspn(p, ",");
		if (is_word(domain, p, n))
			return true;
	}
	return false;
}

/* Writes NAME of NAME@DOMAIN to name[ACCOUNT_NAME]. Returns false if the domain, after the last "@", is none of these. */
static bool
write_name(const char *text, const struct account_domains *domains, char *name)
{
	const char *at = strrchr(text, '@');

	if (at == NULL || !is_domain(at + 1, domains) || (size_t)(at - text) >= ACCOUNT_NAME)
		return false;
	memcpy(name, text, (size_t)(at - text));
	name[at - text] = '\0';
	return true;
}

const char *
account_find_login(const char *text, const char *principal, const struct account_domains *domains,
    const struct account_uids *uids, struct account *a)
{
	char name[ACCOUNT_NAME];
	const char *refusal = NULL;
	bool is_there = false;

	if (*text != '\0')
		refusal = look_up(text, uids, a, &is_there);
	if (is_there)
		return refusal;
	if (*text == '\0' || is_principal(text, principal))
		return write_first_component(principal, name) ? look_up(name, uids, a, &is_there) : "not a user name";
	return write_name(text, domains, name) ? look_up(name, uids, a, &is_there) : refusal;
}

const char *
account_find_uid(uid_t uid, const struct account_uids *uids, struct account *a)
{
	const struct passwd *pw = getpwuid(uid);

	return pw != NULL ? take_account(pw, uids, a) : "unknown user";
}

/* The exit statuses of the process that asks the shadow database. */
enum answer { ANSWER_OPEN, ANSWER_EXPIRED, ANSWER_UNKNOWN };

/*
 * Asks the shadow database about the account. Only its expiry counts: the
 * password is not asked for here, so it may be locked or too old.
 */
static enum answer
ask_shadow(const char *name)
{
	static char room[65536];
	struct spwd entry, *sp;
	int error = getspnam_r(name, &entry, room, sizeof(room), &sp);

	/* Directory services have no entries there. */
	if (sp == NULL)
		return error == 0 || error == ENOENT || error == ESRCH ? ANSWER_OPEN : ANSWER_UNKNOWN;
	/* Closed from that day on; "chage -E 0" closes as well. So does pam_unix(8). */
	return sp->sp_expire >= 0 && time(NULL) / 86400 >= sp->sp_expire ? ANSWER_EXPIRED : ANSWER_OPEN;
}

const char *
account_closed(const struct account *a, unsigned seconds)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		alarm(seconds);
		_exit(ask_shadow(a->name));
	}
	while (pid != -1 && waitpid(pid, &status, 0) == -1 && errno == EINTR)
		;
	if (pid != -1 && WIFEXITED(status) && WEXITSTATUS(status) == ANSWER_OPEN)
		return NULL;
	if (pid != -1 && WIFEXITED(status) && WEXITSTATUS(status) == ANSWER_EXPIRED)
		return "account expired";
	return "the expiry of the account cannot be read";
}
