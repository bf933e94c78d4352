/*
 * Checks the locks of a mailbox against those of other mail programs, and
 * whether they can be taken in the spool directory.
 *
 * Runs as root in kpopd-check. Two of its children examine the spool
 * directory: one because the file system may never answer, and one as a user,
 * who could make a dotlock there or not. If the directory is in a home
 * directory, both run as the user.
 *
 * The order of kpopd's own locks is not compared. kpopd waits for no lock while
 * it holds another one (lock-spool.c), so any order is safe.
 */
#include "config.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check-compare.h"
#include "check-dovecot.h"
#include "check-entry.h"
#include "check-mend.h"
#include "check-program.h"
#include "check-quote.h"
#include "check.h"
#include "clock.h"
#include "path.h"
#include "privsep.h"
#include "process.h"
#include "resolve.h"

#define SPOOL_SECONDS 5
/* In the exit status of the child: no dotlock can be made. */
#define NO_DOTLOCK 4

/* What a program prints. */
static char output[PROGRAM_OUTPUT];

/* Checks Postfix's local(8). */
static void
check_postfix(struct check *c, unsigned ours)
{
	static const char *const argv[] = { "postconf", "mailbox_delivery_lock",
		"mailbox_transport", "mailbox_command", "home_mailbox", NULL };
	static const char *const others[] = { "mailbox_transport",
		"mailbox_command", "home_mailbox" };
	char value[256];

	if (!compare_ask(c, argv, output))
		return;
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (*compare_find_setting(output, others[i], value) != '\0') {
			check_ok(c, "locks", "postfix",
			    "it does not itself deliver to the spool, because "
			    "%s = %s",
			    others[i], value);
			return;
		}
	compare_locks(c, "postfix", "delivers with",
	    compare_read(compare_find_setting(output, "mailbox_delivery_lock",
		value)),
	    ours);
}

/* What exim -bP prints about one transport. */
struct transport {
	char name[64];
	char file[256]; /* the path to which it appends; "": none */
	bool is_other;  /* its driver does not append to files */
	unsigned locks;
};

/* Checks a transport after its last line. Returns true if it uses the spool. */
static bool
check_transport(struct check *c, const struct transport *t,
    const char *directory, unsigned ours)
{
	char name[96];

	if (t->is_other || *directory == '\0' ||
	    !compare_is_in_directory(t->file, directory))
		return false;
	snprintf(name, sizeof(name), "exim: %s", t->name);
	compare_locks(c, name, "delivers with", t->locks, ours);
	return true;
}

/* Reads a line about a transport. */
static void
read_transport_line(struct transport *t, const char *line)
{
	if (strncmp(line, "file = ", 7) == 0)
		strlcpy(t->file, line + 7, sizeof(t->file));
	else if (strncmp(line, "driver = ", 9) == 0)
		t->is_other = strcmp(line + 9, "appendfile") != 0;
	else if (strncmp(line, "use_", 4) == 0)
		t->locks |= compare_read(line);
}

/* Checks the transports of Exim that append to files of the spool. */
static void
check_exim(struct check *c, const char *directory, unsigned ours)
{
	const char *argv[] = { "exim4", "-bP", "transports", NULL };
	static const char heading[] = " transport:";
	struct transport t = { .is_other = true };
	char *rest = output, *line, *end, path[PATH_MAX];
	bool is_used = false;

	if (!program_find(argv[0], path))
		argv[0] = "exim";
	if (!compare_ask(c, argv, output))
		return;
	while ((line = entry_line(&rest)) != NULL) {
		end = strstr(line, heading);
		if (end == NULL || end[sizeof(heading) - 1] != '\0') {
			read_transport_line(&t, line);
			continue;
		}
		is_used |= check_transport(c, &t, directory, ours);
		*end = '\0';
		t = (struct transport){ .locks = 0 };
		strlcpy(t.name, line, sizeof(t.name));
	}
	is_used |= check_transport(c, &t, directory, ours);
	if (!is_used)
		check_ok(c, "locks", "exim",
		    "it does not itself deliver to the spool");
}

/*
 * Checks procmail, whose locks were chosen when it was compiled. Returns their
 * names in the order in which it takes them; "" if they are unknown.
 */
static const char *
check_procmail(struct check *c, unsigned ours)
{
	static const char *const argv[] = { "procmail", "-v", NULL };
	static const char label[] = "Locking strategies:";
	static char names[256];
	char *line;

	if (!compare_ask(c, argv, output) ||
	    (line = strstr(output, label)) == NULL)
		return "";
	line[strcspn(line, "\n")] = '\0';
	strlcpy(names, line + sizeof(label) - 1, sizeof(names));
	compare_locks(c, "procmail", "delivers with", compare_read(names),
	    ours);
	return names;
}

/* Checks mutt, whose locks were chosen when it was compiled. */
static void
check_mutt(struct check *c, unsigned ours)
{
	static const char *const argv[] = { "mutt", "-v", NULL };

	if (compare_ask(c, argv, output))
		compare_locks(c, "mutt", "reads and writes with",
		    compare_read(output), ours);
}

/*
 * Finds the mount options of the file system with this device number. Returns
 * true with them if it is NFS.
 */
static bool
find_nfs(dev_t device, char options[512])
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char line[2048], type[32];
	unsigned number[2];
	bool is_nfs = false;

	while (f != NULL && !is_nfs && fgets(line, sizeof(line), f) != NULL) {
		const char *end = strstr(line, " - ");

		is_nfs = sscanf(line, "%*u %*u %u:%u ", &number[0],
			     &number[1]) == 2 &&
		    makedev(number[0], number[1]) == device && end != NULL &&
		    sscanf(end, " - %31s %*s %511s", type, options) == 2 &&
		    strncmp(type, "nfs", 3) == 0;
	}
	if (f != NULL)
		fclose(f);
	return is_nfs;
}

/* Checks what NFS needs if the spool is there. */
static void
check_nfs(struct check *c, const char *directory, const struct stat *st)
{
	unsigned kernel = compare_bit(LOCK_FCNTL) | compare_bit(LOCK_FLOCK);
	char options[512];

	if (!find_nfs(st->st_dev, options))
		return;
	if ((compare_wanted(c) & kernel) == kernel)
		check_warn(c, "spool", directory,
		    compare_advise(c,
			compare_bit(LOCK_FCNTL) | compare_bit(LOCK_DOTLOCK)),
		    "on NFS a flock is an fcntl lock of the server, so the "
		    "fcntl lock and the flock of kpopd can exclude each other");
	else if (strstr(options, "nolock") != NULL ||
	    strstr(options, "local_lock=all") != NULL ||
	    strstr(options, "local_lock=posix") != NULL)
		check_warn(c, "spool", directory,
		    "remove nolock and local_lock from the mount options",
		    "it is on NFS, and fcntl locks stay on this host");
	else
		check_ok(c, "spool", directory,
		    "it is on NFS, with locks of the server; only one host may "
		    "serve it with kpopd");
}

/*
 * Child: gets the rights of the account's broker with this group, unless the
 * process is that account already.
 */
static void
become(const struct account *a, gid_t group)
{
	if (geteuid() != a->uid)
		privsep_become_broker(a, group);
}

/*
 * Returns 0 if the account, with this group, may make files in the directory,
 * otherwise the errno. Asks in a child that becomes the account.
 */
static int
try_directory(const struct account *a, gid_t group, const char *directory)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		become(a, group);
		/* As dotlock_prepare does. */
		_exit(faccessat(AT_FDCWD, directory, W_OK, AT_EACCESS) == 0 ?
			0 :
			errno);
	}
	if (child == -1 || process_wait(child, &status, 0) == -1 ||
	    !WIFEXITED(status))
		return ECHILD;
	return WEXITSTATUS(status);
}

/*
 * Prints that no dotlock can be made. is_mode: the directory's owner, group or
 * mode is the reason.
 */
static void
print_no_dotlock(struct check *c, const char *directory, const char *why,
    bool is_mode)
{
	struct check_word word;
	const char *quoted = check_quote(&word, directory);

	check_warn(c, "spool", directory,
	    is_mode ?
		check_remedy(c,
		    "chown root:mail %s && chmod 2775 %s; or -l fcntl, if no "
		    "other program relies on dotlocks",
		    quoted, quoted) :
		check_remedy(c, "look at namei -l %s and findmnt -T %s", quoted,
		    quoted),
	    "no dotlock can be made: %s", why);
}

/*
 * Checks whether the broker of an account can make the dotlock for the mailbox
 * at this path. Makes no file.
 */
static bool
check_dotlock(struct check *c, const struct account *a, const char *path,
    const char *directory, const struct stat *st)
{
	struct check_word word;
	const char *quoted = check_quote(&word, directory);
	gid_t gid = a->gid;
	bool by_group = mailboxes_are_outside_home(&c->o.mailboxes) &&
	    lock_needs_group(&c->o.locks, path, &gid);
	const struct group *group = by_group ? getgrgid(gid) : NULL;
	int error = try_directory(a, by_group ? gid : a->gid, directory);

	if (error != 0)
		print_no_dotlock(c, directory, strerror(error),
		    (error == EACCES || error == EPERM) &&
			mailboxes_are_outside_home(&c->o.mailboxes));
	else if ((st->st_mode & S_IWOTH) != 0)
		check_warn(c, "spool", directory,
		    mailboxes_are_outside_home(&c->o.mailboxes) ?
			check_remedy(c, "chown root:mail %s && chmod 2775 %s",
			    quoted, quoted) :
			mend_mode(c, directory, st, "o-w"),
		    "every user may write it, so any user can make the dotlock "
		    "of another user, for which that user's mail programs "
		    "wait");
	else if (by_group)
		check_ok(c, "spool", directory,
		    "dotlocks can be made, by the group %s",
		    group != NULL ? group->gr_name : "of the directory");
	else
		check_ok(c, "spool", directory, "dotlocks can be made");
	return error == 0;
}

/*
 * Checks the directory of the mailbox at this path. Returns false if kpopd is
 * to make a dotlock there but cannot.
 */
static bool
check_spool(struct check *c, const struct account *a, const char *path)
{
	char resolved[PATH_MAX], directory[PATH_MAX];
	bool is_roots = mailboxes_are_outside_home(&c->o.mailboxes);
	const char *obstacle = NULL;
	struct check_word word;
	struct stat st;

	if (is_roots && (obstacle = resolve_directory(path, resolved)) == NULL)
		path = resolved;
	path_split(path, directory);
	if (obstacle != NULL && lock_wants_dotlock(&c->o.locks)) {
		print_no_dotlock(c, directory, obstacle, false);
		return false;
	}
	if (stat(directory, &st) == -1) {
		check_fail(c, "spool", directory,
		    check_remedy(c, "namei -l %s",
			check_quote(&word, directory)),
		    "the directory of the mailboxes: %m");
		return true;
	}
	check_nfs(c, directory, &st);
	return !lock_wants_dotlock(&c->o.locks) ||
	    check_dotlock(c, a, path, directory, &st);
}

/*
 * Does the same in a child, because a file system may never answer; then sets
 * *answers to false. Returns the locks that kpopd can take.
 */
static unsigned
find_possible_locks(struct check *c, const struct account *a, const char *path,
    bool *answers)
{
	pid_t child = fork();
	unsigned set = compare_wanted(c);
	int status;

	*answers = true;
	if (child == 0) {
		setpgid(0, 0);
		c->worst = CHECK_OK;
		/* Root must not follow a user's symlinks. */
		if (!mailboxes_are_outside_home(&c->o.mailboxes))
			become(a, a->gid);
		if (!check_spool(c, a, path))
			_exit((int)c->worst | NO_DOTLOCK);
		_exit((int)c->worst);
	}
	if (child == -1 ||
	    !program_wait(child, clock_ms() + (int64_t)SPOOL_SECONDS * 1000,
		&status) ||
	    !WIFEXITED(status)) {
		check_fail(c, "spool", path,
		    "look at the mounts and at the file server",
		    "the file system of the mailboxes does not answer");
		*answers = false;
		return set;
	}
	if ((WEXITSTATUS(status) & ~NO_DOTLOCK) > (int)c->worst)
		c->worst =
		    (enum check_verdict)(WEXITSTATUS(status) & ~NO_DOTLOCK);
	return (WEXITSTATUS(status) & NO_DOTLOCK) != 0 ?
	    set & ~compare_bit(LOCK_DOTLOCK) :
	    set;
}

/*
 * Finds an account whose mailbox would be in the spool directory: that of the
 * command line, or else any, if the directory is the same for all users.
 */
static const char *
find_path(struct check *c, struct account *a)
{
	const struct mailboxes *m = &c->o.mailboxes;
	const char *slash = strrchr(m->template, '/');
	const char *percent = strchr(m->template, '%');

	/* check_user has looked it up, within a limited time. */
	if (c->account.name[0] != '\0') {
		*a = c->account;
		return mailboxes_path(m, a->name, a->home);
	}
	if (c->accounts_are_dead || !mailboxes_are_outside_home(m) ||
	    (percent != NULL && percent < slash) ||
	    account_find(c->o.user, NULL, a) != NULL)
		return NULL;
	return mailboxes_path(m, a->name, a->home);
}

void
check_locks(struct check *c)
{
	static struct account a;
	char directory[PATH_MAX] = "";
	const char *path, *procmail;
	unsigned ours = compare_wanted(c);
	bool answers;

	if (!mailboxes_are_locked(&c->o.mailboxes)) {
		check_ok(c, "locks", NULL,
		    "mailboxes of this format have none");
		dovecot_check(c, 0, "");
		return;
	}
	if ((path = find_path(c, &a)) != NULL) {
		ours = find_possible_locks(c, &a, path, &answers);
		if (mailboxes_are_outside_home(&c->o.mailboxes)) {
			c->spool_is_dead = !answers;
			if (answers)
				path_split(path, directory);
		}
	}
	check_postfix(c, ours);
	check_exim(c, directory, ours);
	procmail = check_procmail(c, ours);
	dovecot_check(c, ours, procmail);
	check_mutt(c, ours);
}
