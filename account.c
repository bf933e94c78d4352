/*
 * Accounts: who may log in.
 *
 * Runs as root, and in kpopd-tls. Trusts the account database, not the name
 * that it looks up there, which is the client's.
 */
#include "config.h"

#include <pwd.h>
#include <string.h>

#include "account.h"

bool
account_name_valid(const char *name)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "abcdefghijklmnopqrstuvwxyz0123456789_";
	size_t n = strlen(name);

	if (n == 0 || n >= USER_NAME || strchr(letters, name[0]) == NULL)
		return false;
	while (*name != '\0' && (strchr(letters, *name) != NULL ||
				    *name == '.' || *name == '-'))
		name++;
	return *name == '\0';
}

/* Whether this entry of the account database may log in, as account_find says; then *a is filled. */
static const char *
take_account(const struct passwd *pw, uid_t least, struct account *a)
{
	if (pw->pw_uid == 0)
		return "uid 0";
	if (pw->pw_uid < least)
		return "uid below the minimum";
	if (strlcpy(a->name, pw->pw_name, sizeof(a->name)) >= sizeof(a->name))
		return "user name too long";
	a->uid = pw->pw_uid;
	a->gid = pw->pw_gid;
	if (strlcpy(a->home, pw->pw_dir, sizeof(a->home)) >= sizeof(a->home))
		return "home directory name too long";
	return NULL;
}

const char *
account_find(const char *name, uid_t least, struct account *a)
{
	const struct passwd *pw;

	if (!account_name_valid(name))
		return "not a user name";
	if ((pw = getpwnam(name)) == NULL)
		return "unknown user";
	/* Databases that fold case would give two names one mailbox. */
	if (strcmp(pw->pw_name, name) != 0)
		return "user name differs from the account's";
	return take_account(pw, least, a);
}

const char *
account_find_uid(uid_t uid, uid_t least, struct account *a)
{
	const struct passwd *pw = getpwuid(uid);

	return pw != NULL ? take_account(pw, least, a) : "unknown user";
}
