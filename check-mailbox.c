/*
 * Checks the mailbox of a user.
 *
 * Runs as root in kpopd-check, which makes the mailbox's path as the monitor
 * does. Then a child becomes the user and looks at the mailbox with the code of
 * the session (maildrop_look). The verdict is that of this code; the rest of
 * this file only finds the cause and the remedy. check-locks.c checks the
 * dotlock.
 */
#include "config.h"

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "check.h"
#include "check-mend.h"
#include "check-quote.h"
#include "check-volume.h"
#include "check-way.h"
#include "maildrop.h"
#include "maildrop-state.h"
#include "path.h"
#include "session-setup.h"
#include "store.h"

#define ENTRIES_MOST 10000 /* names of a directory that are examined */

/* The session that a login of the user would have. */
static struct session s;
/* Its mailbox, as -m specifies it; s.path is without symlinks. */
static char mailbox[PATH_MAX];
/* The directory of that mailbox. */
static char directory[PATH_MAX];

/* Returns true if the mailboxes are directories: Maildirs. */
static bool
has_maildirs(void)
{
	return s.mailboxes->store->mailbox_access != STORE_NO_ACCESS;
}

/* Returns true if path is `within`, or is below it. */
static bool
is_below(const char *path, const char *within)
{
	size_t n = strlen(within);

	return strncmp(path, within, n) == 0 &&
	    (path[n] == '/' || path[n] == '\0');
}

/* Returns true if a file system is mounted at the directory. */
static bool
is_mounted(const char *path)
{
	FILE *mounts = setmntent("/proc/self/mounts", "re");
	const struct mntent *m;
	bool found = false;

	/* Without the list, all that should be mounted counts as mounted. */
	if (mounts == NULL)
		return true;
	while (!found && (m = getmntent(mounts)) != NULL)
		found = strcmp(m->mnt_dir, path) == 0;
	endmntent(mounts);
	return found;
}

/*
 * Prints that the mount point of an fstab entry is not mounted, if the mailbox
 * is below it. Returns true if it has printed that.
 */
static bool
check_mount(struct check *c, const struct mntent *m)
{
	char path[PATH_MAX];
	const char *remedy;
	struct check_word w;

	if (m->mnt_dir[0] != '/' || m->mnt_dir[1] == '\0' ||
	    (!is_below(mailbox, m->mnt_dir) && !is_below(s.path, m->mnt_dir)) ||
	    is_mounted(m->mnt_dir) ||
	    (realpath(m->mnt_dir, path) != NULL && is_mounted(path)))
		return false;
	remedy = check_remedy(c, "mount %s", check_quote(&w, m->mnt_dir));
	if (hasmntopt(m, "noauto") != NULL)
		check_warn(c, "mount", m->mnt_dir, remedy,
		    "fstab(5) has a file system for it, %s, which is not "
		    "mounted (noauto)",
		    m->mnt_fsname);
	else
		check_fail(c, "mount", m->mnt_dir, remedy,
		    "fstab(5) has a file system for it, %s, which is not "
		    "mounted: the mailboxes are absent",
		    m->mnt_fsname);
	return true;
}

/*
 * Prints which file systems on the way to the mailbox are not mounted. Returns
 * true if there is one.
 */
static bool
check_mounts(struct check *c)
{
	FILE *fstab = setmntent("/etc/fstab", "re");
	const struct mntent *m;
	bool found = false;
	struct mntent copy;
	char room[2 * PATH_MAX];

	if (fstab == NULL)
		return false;
	/* getmntent has one buffer, which is_mounted uses, too. */
	while ((m = getmntent_r(fstab, &copy, room, sizeof(room))) != NULL)
		found |= check_mount(c, m);
	endmntent(fstab);
	return found;
}

/* Returns true if the name in the open directory is a Maildir of the user. */
static bool
is_maildir_at(int dir, const char *name)
{
	char part[NAME_MAX + 8];
	struct stat st;

	snprintf(part, sizeof(part), "%s/new", name);
	if (fstatat(dir, part, &st, AT_SYMLINK_NOFOLLOW) == -1 ||
	    !S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return false;
	snprintf(part, sizeof(part), "%s/cur", name);
	return fstatat(dir, part, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISDIR(st.st_mode);
}

/*
 * Returns true if the file could be the mailbox under another name: a Maildir,
 * or for an mbox a file whose name has other letters' case or another dot.
 */
static bool
is_similar(int dir, const char *name)
{
	const char *own = strrchr(mailbox, '/') + 1;
	struct stat st;

	if (strcmp(name, own) == 0)
		return false;
	if (has_maildirs())
		return is_maildir_at(dir, name);
	return strcasecmp(name + (*name == '.'), own + (*own == '.')) == 0 &&
	    fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) && st.st_uid == geteuid();
}

/*
 * Looks for another mailbox of the user in a directory. Stores its path in
 * found, and returns true.
 */
static bool
find_similar(const char *within, char found[PATH_MAX])
{
	int fd = open(within, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *all = fd != -1 ? fdopendir(fd) : NULL;
	const struct dirent *entry;
	bool is_found = false;

	if (all == NULL)
		return false;
	for (int i = 0; i < ENTRIES_MOST && !is_found; i++) {
		if ((entry = readdir(all)) == NULL)
			break;
		if (strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0)
			is_found = is_similar(fd, entry->d_name) &&
			    snprintf(found, PATH_MAX, "%s/%s", within,
				entry->d_name) < PATH_MAX;
	}
	closedir(all);
	return is_found;
}

/*
 * Looks where else the user may have mail: in a Maildir in the home directory
 * if the mailboxes are mbox files, or else in the usual spool. Stores the path
 * in found, and returns what to write before it in -m; or NULL.
 */
static const char *
find_elsewhere(const struct check *c, char found[PATH_MAX])
{
	static const char *const names[] = { "Maildir", ".maildir", ".Maildir",
		"Mail" };
	struct stat st;
	int home;

	if (has_maildirs()) {
		snprintf(found, PATH_MAX, "/var/mail/%s", c->account.name);
		return stat(found, &st) == 0 && S_ISREG(st.st_mode) &&
			st.st_size > 0 ?
		    "mbox:" :
		    NULL;
	}
	home = open(c->account.home, O_PATH | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; home != -1 && i < sizeof(names) / sizeof(names[0]);
	     i++)
		if (is_maildir_at(home, names[i])) {
			close(home);
			return snprintf(found, PATH_MAX, "%s/%s",
				   c->account.home, names[i]) < PATH_MAX ?
			    "maildir:" :
			    NULL;
		}
	if (home != -1)
		close(home);
	return NULL;
}

/*
 * Prints that there is no mailbox, but one under another name. Returns false if
 * there is none.
 */
static bool
report_other(struct check *c)
{
	char found[PATH_MAX];
	const char *format, *remedy;

	if (find_similar(directory, found))
		remedy = check_remedy(c, "correct the path in mailboxes (-m)");
	else if ((format = find_elsewhere(c, found)) != NULL)
		remedy = check_remedy(c,
		    "if mail is delivered there, set mailboxes (-m) to %s and "
		    "that path",
		    format);
	else
		return false;
	check_warn(c, "mailbox", mailbox, remedy,
	    "there is none, so a login shows no mail, but there is %s", found);
	return true;
}

/* Prints that there is no mailbox, which means that there is no mail. */
static void
report_absence(struct check *c)
{
	bool can_make = access(directory, W_OK) == 0;

	if (s.mailboxes->create && !can_make)
		check_fail(c, "mailbox", mailbox,
		    check_remedy(c, "let the user write in its directory"),
		    "there is none, and the user cannot make it: %s",
		    strerror(errno));
	else if (report_other(c))
		return;
	else if (s.mailboxes->create)
		check_ok(c, "mailbox", mailbox,
		    "there is none; the next login makes it");
	else if (has_maildirs())
		check_warn(c, "mailbox", mailbox,
		    check_remedy(c,
			"deliver a message, or correct the path in mailboxes "
			"(-m)"),
		    "there is none, so a login shows no mail");
	else
		check_ok(c, "mailbox", mailbox,
		    "there is none yet, so a login shows no mail");
}

/* Prints which of new, cur and tmp an existing Maildir lacks. */
static void
report_maildir(struct check *c)
{
	static const char *const parts[] = { "new", "cur", "tmp" };
	char path[PATH_MAX + 8], missing[32] = "";
	struct check_text t;
	struct check_word w;
	struct stat st;

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", mailbox, parts[i]);
		if (stat(path, &st) == 0)
			continue;
		strlcat(missing, missing[0] != '\0' ? ", " : "",
		    sizeof(missing));
		strlcat(missing, parts[i], sizeof(missing));
	}
	if (missing[0] != '\0') {
		check_warn(c, "mailbox", mailbox,
		    check_remedy(c,
			"make them as the user: cd %s && mkdir -p "
			"new cur tmp",
			check_quote(&w, mailbox)),
		    "a Maildir has new, cur and tmp, but this has no %s",
		    missing);
		return;
	}
	stat(mailbox, &st);
	check_ok(c, "mailbox", mailbox, "a Maildir, %s",
	    check_describe(&t, &st));
}

/* Prints what a mailbox that can be opened is. */
static void
report_usable(struct check *c)
{
	struct check_text t;
	struct stat st;

	if (stat(mailbox, &st) == -1)
		report_absence(c);
	else if (has_maildirs())
		report_maildir(c);
	else
		check_ok(c, "mailbox", mailbox, "an mbox, %lld bytes, %s",
		    (long long)st.st_size, check_describe(&t, &st));
	if (stat(mailbox, &st) == 0 && (st.st_mode & (S_IROTH | S_IWOTH)) != 0)
		if (!has_maildirs() || (st.st_mode & S_IXOTH) != 0)
			check_warn(c, "mailbox", mailbox,
			    mend_mode(c, mailbox, &st, "o-rwx"),
			    "every user can read or write it: %s",
			    check_describe(&t, &st));
}

/* Returns a remedy for a directory that does not exist, on the way. */
static const char *
find_way(struct check *c, const char *missing)
{
	struct check_word w;

	if (is_below(c->account.home, missing))
		return check_remedy(c,
		    "mount its file system, or: mkhomedir_helper %s",
		    check_quote(&w, c->account.name));
	check_quote(&w, directory);
	if (is_below(directory, c->account.home))
		return check_remedy(c, "make it as the user: mkdir -p %s",
		    w.text);
	return check_remedy(c,
	    has_maildirs() ?
		"mount its file system, or: install -d -m 755 %s" :
		"mount its file system, or: install -d -g mail -m 2775 %s",
	    w.text);
}

/* Prints the obstacle on the way to the mailbox's directory. */
static void
explain_way(struct check *c, const struct check_obstacle *o, const char *log)
{
	const char *remedy = o->remedy[0] != '\0' ? o->remedy : NULL;

	if (o->error == ENOENT)
		remedy = find_way(c, o->at);
	check_fail(c, "mailbox", mailbox, remedy, "%s (%s)", o->why, log);
}

/* Returns a remedy for a file that is not of the format of the mailboxes. */
static const char *
find_other_format(struct check *c, const struct stat *st)
{
	if (!has_maildirs() && S_ISDIR(st->st_mode))
		return check_remedy(c,
		    "if it is a Maildir, set mailboxes (-m) to maildir: and "
		    "its path");
	if (has_maildirs() && S_ISREG(st->st_mode))
		return check_remedy(c,
		    "if it is an mbox, set mailboxes (-m) to mbox: and its "
		    "path");
	return NULL;
}

/*
 * Returns a remedy for a file or directory in the mailbox that the session
 * refuses, and describes it in *t. Returns NULL if there is none. A file with a
 * second link may be another user's, so chown is not proposed for it.
 */
static const char *
find_remedy(struct check *c, const char *path, struct check_text *t)
{
	const char *remedy;
	struct check_word word, user;
	struct stat st;

	t->text[0] = '\0';
	if (lstat(path, &st) == -1)
		return NULL;
	check_describe(t, &st);
	check_quote(&user, c->account.name);
	if (S_ISLNK(st.st_mode))
		return check_remedy(c,
		    "replace the symlink %s by the mailbox, or set mailboxes "
		    "(-m) to the path to which it leads",
		    check_quote(&word, path));
	if ((remedy = find_other_format(c, &st)) != NULL)
		return remedy;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return mend_aside(c, path);
	if (S_ISREG(st.st_mode) && st.st_nlink > 1)
		return check_remedy(c,
		    "find / -xdev -samefile %s, and remove the other name",
		    check_quote(&word, path));
	if (st.st_uid != geteuid())
		return mend_owner(c, path, user.text);
	if ((st.st_mode & 0600) != 0600 ||
	    (S_ISDIR(st.st_mode) && (st.st_mode & S_IXUSR) == 0))
		return mend_mode(c, path, &st, "u+rwX");
	return NULL;
}

/*
 * Prints why the directory of the mailbox is refused. Returns false if it is
 * not.
 */
static bool
explain_directory(struct check *c, const char *log)
{
	struct check_text t;
	struct stat st;
	bool is_open;

	if (stat(directory, &st) == -1)
		return false;
	is_open = (st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0;
	if (!is_open && (st.st_uid == 0 || st.st_uid == geteuid()))
		return false;
	check_fail(c, "mailbox", mailbox,
	    is_open ? mend_mode(c, directory, &st, "o-w") :
		      mend_owner(c, directory, check_owner(c, directory)),
	    "%s (%s)", log, check_describe(&t, &st));
	return true;
}

/* Prints why the session refuses the mailbox. */
static void
explain_refused(struct check *c, const char *log)
{
	static const char *const parts[] = { "", "/new", "/cur" };
	struct check_obstacle o;
	char path[PATH_MAX + 8];
	struct check_text t;
	const char *remedy = NULL;

	if (check_find_obstacle(c, mailbox, &o) && strcmp(o.at, mailbox) != 0) {
		explain_way(c, &o, log);
		return;
	}
	if (explain_directory(c, log))
		return;
	for (size_t i = 0; remedy == NULL && i < (has_maildirs() ? 3 : 1);
	     i++) {
		snprintf(path, sizeof(path), "%s%s", mailbox, parts[i]);
		remedy = find_remedy(c, path, &t);
	}
	if (remedy == NULL) {
		strlcpy(path, mailbox, sizeof(path));
		find_remedy(c, path, &t); /* for *t */
	}
	if (t.text[0] != '\0')
		check_fail(c, "mailbox", mailbox, remedy, "%s (%s: %s)", log,
		    path, t.text);
	else
		check_fail(c, "mailbox", mailbox, remedy, "%s", log);
}

/* Child, as the user: checks the mailbox. */
static void
look_at_mailbox(struct check *c)
{
	enum drop_error error;
	const char *log;
	bool is_absent;

	is_absent = check_mounts(c);
	check_log_begin();
	s.state = s.directory != -1 ?
	    maildrop_state_find(s.mailboxes, s.path, s.directory) :
	    -1;
	check_log_end();
	check_log_begin();
	error = maildrop_look(s.mailboxes, s.path, s.state);
	log = check_log_end();
	if (error != DROP_OK)
		explain_refused(c, log);
	else if (!is_absent || access(mailbox, F_OK) == 0)
		report_usable(c);
	check_directories(c, mailbox, "the mailbox");
	check_volume(c, "mailbox", directory);
	check_volumes_agree(c, directory);
}

/*
 * Opens STATE/users/UID, if there is one. Returns a descriptor or -1.
 */
static int
open_users_state(const struct check *c)
{
	char path[PATH_MAX];

	if (c->state_is_dead ||
	    snprintf(path, sizeof(path), "%s/users/%u", c->o.state,
		(unsigned)c->account.uid) >= (int)sizeof(path))
		return -1;
	return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

void
check_mailbox(struct check *c)
{
	const struct mailboxes *b = &c->o.mailboxes;
	const char *path;

	if (c->account.name[0] == '\0' || c->spool_is_dead)
		return;
	path = mailboxes_path(b, c->account.name, c->account.home);
	if (path == NULL) {
		check_fail(c, "mailbox", b->text,
		    check_remedy(c,
			"correct the path in mailboxes (-m), or the home "
			"directory: usermod -d"),
		    "the path of this user's mailbox is too long, or does not "
		    "begin with /");
		return;
	}
	strlcpy(mailbox, path, sizeof(mailbox));
	path_split(mailbox, directory);
	setup_begin(&s, &c->o);
	s.user = c->account;
	s.mailboxes = b;
	s.path = mailbox;
	setup_prepare(&s);
	setup_close_end(&s.locks_to_session);
	setup_close_end(&s.locks_to_broker);
	s.directory = open_users_state(c);
	check_as_user(c, look_at_mailbox);
	if (s.directory != -1)
		close(s.directory);
}
