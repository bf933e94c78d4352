/*
 * Checks how inetd, xinetd or systemd starts kpopd: whether one of them does,
 * with which options, and whether it listens.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include <sys/stat.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth-start.h"
#include "check-entry.h"
#include "check-port.h"
#include "check-quote.h"
#include "check.h"
#include "options.h"

#define SECONDS 180 /* for name services, and for all runs of systemctl */
#define CHANGED 512 /* bytes of the text of a changed file with its NUL */

/* Returns the port that the service of these options usually has. */
static unsigned
usual_port(const struct options *o)
{
	if (!o->pop3)
		return 1109;
	return o->tls.when == TLS_IMMEDIATE ? 995 : 110;
}

/* Returns the name of the service of these options. */
static const char *
name_service(const struct options *o)
{
	if (!o->pop3)
		return "KPOP";
	return o->tls.when == TLS_IMMEDIATE ? "POP3 in TLS" : "POP3";
}

/* Returns true if both are the same service: clients must use the same one. */
static bool
is_same_service(const struct options *a, const struct options *b)
{
	return a->pop3 == b->pop3 &&
	    (a->tls.when == TLS_IMMEDIATE) == (b->tls.when == TLS_IMMEDIATE);
}

/* Writes the words of an entry after the program's name, for a shell. */
static const char *
join_words(const struct entry *e, char text[CHECK_COMMAND])
{
	struct check_word word;

	*text = '\0';
	for (int i = 1; i < e->count; i++) {
		const char *rest = e->words[i] + strspn(e->words[i], "-");
		char dashes[8];

		snprintf(dashes, sizeof(dashes), " %.*s",
		    (int)(rest - e->words[i]), e->words[i]);
		strlcat(text, dashes, CHECK_COMMAND);
		if (*rest != '\0')
			strlcat(text, check_quote(&word, rest), CHECK_COMMAND);
	}
	return text;
}

/* Makes the remedy that checks with these words, and the same user. */
static const char *
repeat_check(struct check *c, const char *words)
{
	struct check_word user = { .text = "" };

	if (c->user != NULL)
		check_quote(&user, c->user);
	return check_remedy(c, "kpopd --check%s%s%s", words,
	    c->user != NULL ? " " : "", user.text);
}

/* Prints an option that the entry has with another value than these checks. */
static void
print_difference(struct check *c, const struct entry *e, const char *words,
    const struct options_difference *d)
{
	const char *there = d->there != NULL ? d->there : "the default";
	const char *here = d->here != NULL ? d->here : "the default";

	if (d->in_file != NULL)
		check_warn(c, "service", e->place,
		    check_remedy(c, "remove %s from one of the two", d->name),
		    "kpopd is started with %s %s, which replaces %s of the "
		    "file of options",
		    d->name, there, d->in_file);
	else
		check_warn(c, "service", e->place, repeat_check(c, words),
		    "kpopd is started with %s %s, but these checks used %s",
		    d->name, there, here);
}

/* Compares a variable of an entry's environment with this process's. */
static void
compare_variable(struct check *c, const struct entry *e, const char *word)
{
	struct check_word quoted;
	static const char *const names[] = { "KRB5_KTNAME", "KRB5_CONFIG" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t n = strlen(names[i]);
		const char *here = getenv(names[i]);

		if (strncmp(word, names[i], n) != 0 || word[n] != '=' ||
		    (here != NULL && strcmp(here, word + n + 1) == 0))
			continue;
		check_warn(c, "service", e->place,
		    check_remedy(c, "env %s kpopd --check",
			check_quote(&quoted, word)),
		    "kpopd is started with %s, and these checks were not",
		    word);
	}
}

/* Compares an entry of this service with the options of these checks. */
static void
compare_entry(struct check *c, const struct entry *e,
    const struct options *there)
{
	struct options_difference d;
	struct stat here, other;
	char words[CHECK_COMMAND], environment[sizeof(e->environment)];
	struct check_word program;
	char *rest = environment, *word;
	size_t row = 0;

	join_words(e, words);
	while (options_differ(&row, &c->o, there, &d))
		print_difference(c, e, words, &d);
	strlcpy(environment, e->environment, sizeof(environment));
	while ((word = entry_word(&rest, " \t")) != NULL)
		compare_variable(c, e, word);
	if (stat(e->program, &other) == 0 && stat(c->program, &here) == 0 &&
	    (here.st_dev != other.st_dev || here.st_ino != other.st_ino))
		check_warn(c, "service", e->place,
		    check_remedy(c, "%s --check",
			check_quote(&program, e->program)),
		    "it starts %s, but these checks are those of %s",
		    e->program, c->program);
}

/*
 * Reads the options of an entry. Returns true if it is the service that these
 * checks are about. Prints what is wrong with them if it is enabled.
 */
static bool
is_this_service(struct check *c, struct entry *e)
{
	static struct options there;
	const char *why, *what, *why_here, *what_here, *from;
	unsigned line;
	bool is_enabled = *e->disabled == '\0';

	if (!e->is_kpopd)
		return false;
	why = options_read_other(&there, e->count, e->words, &what);
	/* A mistake of the file has its own line. */
	if (why != NULL && is_enabled &&
	    (!options_find_mistake(&why_here, &what_here, &from, &line) ||
		strcmp(why, why_here) != 0))
		check_fail(c, "service", e->place,
		    check_remedy(c, "correct the options in %s", e->place),
		    "kpopd is started with a wrong option: %s%s", why, what);
	if (is_enabled && (there.recover || there.check.run))
		check_fail(c, "service", e->place,
		    check_remedy(c, "correct the options in %s", e->place),
		    "kpopd serves no client with --recover or --check");
	if (!is_same_service(&c->o, &there))
		return false;
	if (is_enabled && why == NULL)
		compare_entry(c, e, &there);
	return true;
}

/* Returns true if the program is one that obeys entries of this superserver. */
static bool
is_superserver(enum superserver by, const char *program)
{
	switch (by) {
	case BY_SYSTEMD:
		return strcmp(program, "systemd") == 0;
	case BY_XINETD:
		return strcmp(program, "xinetd") == 0;
	default:
		/* xinetd can read inetd.conf, too. */
		return strcmp(program, "inetd") == 0 ||
		    strcmp(program, "inetutils-inetd") == 0 ||
		    strcmp(program, "rlinetd") == 0 ||
		    strcmp(program, "xinetd") == 0;
	}
}

/* Returns true if both entries listen, but only one of them can. */
static bool
is_conflict(const struct entry *a, const struct entry *b)
{
	return *a->disabled == '\0' && *b->disabled == '\0' &&
	    a->port == b->port && a->port != 0 &&
	    (a->is_kpopd || b->is_kpopd) &&
	    (a->by != b->by || strcmp(a->address, b->address) == 0);
}

/*
 * Returns the command that enables or disables an entry of xinetd or inetd;
 * NULL if none is known.
 */
static const char *
mend_entry(struct check *c, const struct entry *e)
{
	if (*e->mend == '\0')
		return NULL;
	return check_remedy(c, "%s && %s", e->mend, entry_restart(e->by));
}

/* Returns a command that disables an entry; NULL if none is known. */
static const char *
disable(struct check *c, const struct entry *e)
{
	if (e->by != BY_SYSTEMD)
		return mend_entry(c, e);
	return check_remedy(c, "systemctl disable --now %s", e->place);
}

/* Returns true if the superserver of an entry has the entry's port. */
static bool
is_served(const struct entry *e)
{
	static struct port_use u;

	if (e->by == BY_SYSTEMD)
		return e->is_active;
	if (!port_find(e->port, &u))
		return false;
	for (size_t i = 0; i < u.count; i++)
		if (u.holders[i].uid == 0 &&
		    is_superserver(e->by, u.holders[i].program))
			return true;
	return false;
}

/*
 * Returns the entry to disable of two that have one port: not that of kpopd,
 * not the one that serves now, not the one that is meant to be used.
 */
static const struct entry *
choose_surplus(const struct entry *a, const struct entry *b)
{
	bool serves_a, serves_b;

	if (a->is_kpopd != b->is_kpopd)
		return a->is_kpopd ? b : a;
	serves_a = is_served(a);
	serves_b = is_served(b);
	if (serves_a != serves_b)
		return serves_a ? b : a;
	return a->doubt > b->doubt ? a : b;
}

/* Prints the entries that have one port with another one. */
static void
check_conflicts(struct check *c, const struct entries *all)
{
	for (size_t i = 0; i < all->count; i++)
		for (size_t k = i + 1; k < all->count; k++) {
			const struct entry *a = &all->all[i];
			const struct entry *b = &all->all[k], *surplus;

			if (!is_conflict(a, b))
				continue;
			surplus = choose_surplus(a, b);
			check_fail(c, "service", surplus->place,
			    disable(c, surplus),
			    "%s and %s both have port %u: only one of them can "
			    "listen",
			    a->place, b->place, a->port);
		}
}

/* Returns a command that enables an entry; NULL if none is known. */
static const char *
enable(struct check *c, const struct entry *e)
{
	bool is_masked = strstr(e->disabled, "masked") != NULL;

	if (e->by != BY_SYSTEMD)
		return mend_entry(c, e);
	return check_remedy(c, "%s%s%ssystemctl enable --now %s",
	    is_masked ? "systemctl unmask " : "", is_masked ? e->place : "",
	    is_masked ? " && " : "", e->place);
}

/*
 * Returns the entry of this service that is most likely the one to enable; NULL
 * if there is none. A superserver that runs comes first.
 */
static const struct entry *
find_disabled_entry(const struct entries *all, const bool is_this[])
{
	char line[PORT_COMMAND_LINE];
	bool has_xinetd = port_find_process("xinetd", line) != 0;
	const struct entry *found = NULL;

	for (size_t i = 0; i < all->count; i++) {
		const struct entry *e = &all->all[i];
		bool is_better = found == NULL ||
		    (e->by == BY_SYSTEMD && found->by != BY_SYSTEMD &&
			!has_xinetd) ||
		    (e->by == found->by && e->doubt < found->doubt);

		if (is_this[i] && is_better)
			found = e;
	}
	return found;
}

/* Prints that no superserver starts this service, and how one would. */
static void
check_absent(struct check *c, const struct entries *all, const bool is_this[])
{
	const struct entry *e = find_disabled_entry(all, is_this);
	char words[CHECK_COMMAND];

	for (size_t i = 0; i < all->count; i++) {
		const struct entry *another = &all->all[i];

		if (!another->is_kpopd || *another->disabled != '\0')
			continue;
		check_warn(c, "service", another->place,
		    repeat_check(c, join_words(another, words)),
		    "no superserver starts kpopd for %s; this one starts it "
		    "for another protocol, which was not checked",
		    name_service(&c->o));
		return;
	}
	if (e != NULL)
		check_fail(c, "service", e->place, enable(c, e),
		    "no superserver starts kpopd for %s: %s",
		    name_service(&c->o), e->disabled);
	else
		check_fail(c, "service", NULL,
		    "install xinetd, or enable a unit or a line of inetd; see "
		    "kpopd(8), FILES",
		    "no superserver that is installed would start kpopd for %s",
		    name_service(&c->o));
}

/*
 * Returns the enabled entry of kpopd with this port whose superserver is this
 * program; NULL if there is none.
 */
static const struct entry *
find_served(const struct entries *all, unsigned port, const char *program)
{
	for (size_t i = 0; i < all->count; i++) {
		const struct entry *e = &all->all[i];

		if (e->is_kpopd && *e->disabled == '\0' && e->port == port &&
		    is_superserver(e->by, program) &&
		    (e->by != BY_SYSTEMD || e->is_active))
			return e;
	}
	return NULL;
}

/* How one listening socket is held. */
struct use_of_socket {
	const struct port_holder *first;  /* NULL: by no visible process */
	const struct port_holder *holder; /* the process that starts kpopd */
	const struct entry *entry;        /* and for which entry; NULL: none */
};

static struct use_of_socket
judge_socket(const struct entries *all, unsigned port, const struct port_use *u,
    size_t number)
{
	struct use_of_socket use = { .first = NULL };

	for (size_t i = 0; i < u->count; i++) {
		const struct port_holder *h = &u->holders[i];
		const struct entry *e = find_served(all, port, h->program);

		if (h->socket != number)
			continue;
		if (use.first == NULL)
			use.first = h;
		/* Any user can listen on 1109, and name a program xinetd. */
		if (h->uid != 0 ||
		    (e == NULL && strcmp(h->program, "kpopd") != 0))
			continue;
		if (use.holder == NULL || e != NULL)
			use.holder = h;
		if (e != NULL)
			use.entry = e;
	}
	return use;
}

/*
 * Prints that a process has taken the port. If it is a superserver, also prints
 * what it starts there.
 */
static void
print_taken(struct check *c, const struct entries *all, unsigned port,
    const struct port_holder *h)
{
	const char *starts = "", *by = "";
	char name[16];

	snprintf(name, sizeof(name), "%u", port);
	for (size_t i = 0; i < all->count; i++) {
		const struct entry *e = &all->all[i];

		if (h->uid == 0 && *e->disabled == '\0' && e->port == port &&
		    is_superserver(e->by, h->program)) {
			starts = e->program;
			by = e->place;
		}
	}
	check_fail(c, "port", name,
	    strcmp(h->program, "systemd") == 0 ?
		"systemctl list-sockets" :
		check_remedy(c,
		    "stop process %d, then start the superserver of kpopd "
		    "again",
		    (int)h->pid),
	    "the port is taken by %s (pid %d, uid %u), which %s%s%s%s",
	    h->program, (int)h->pid, (unsigned)h->uid,
	    *by != '\0' ? "starts " : "does not start kpopd there", starts,
	    *by != '\0' ? " there, because of " : "", by);
}

/*
 * Prints which process has a socket. Returns the pid if it starts kpopd,
 * otherwise 0. Prints nothing if the process is that of an earlier socket,
 * served.
 */
static pid_t
check_socket(struct check *c, const struct entries *all, unsigned port,
    const struct port_use *u, size_t number, pid_t served)
{
	struct use_of_socket use = judge_socket(all, port, u, number);
	char name[16];

	snprintf(name, sizeof(name), "%u", port);
	if (use.holder != NULL && use.holder->pid == served)
		return served;
	if (use.entry != NULL && use.holder != NULL)
		check_ok(c, "port", name, "%s (pid %d) listens, for %s",
		    use.holder->program, (int)use.holder->pid,
		    use.entry->place);
	else if (use.holder != NULL)
		check_ok(c, "port", name, "kpopd (pid %d) itself listens",
		    (int)use.holder->pid);
	else if (use.first != NULL)
		print_taken(c, all, port, use.first);
	else
		check_fail(c, "port", name,
		    check_remedy(c, "ss -ltnp 'sport = :%u'", port),
		    "a process listens that this host does not show: it may "
		    "be in a container");
	return use.holder != NULL ? use.holder->pid : 0;
}

/* Returns true if kpopd is started with this process's KRB5_CONFIG. */
static bool
has_same_configuration(const struct entry *e)
{
	const char *here = getenv("KRB5_CONFIG"), *there = NULL;
	char environment[sizeof(e->environment)], *rest = environment, *word;

	strlcpy(environment, e->environment, sizeof(environment));
	while ((word = entry_word(&rest, " \t")) != NULL)
		if (strncmp(word, "KRB5_CONFIG=", 12) == 0)
			there = word + 12;
	return here == NULL || there == NULL ? here == there :
					       strcmp(here, there) == 0;
}

/*
 * Finds out whether a listener, which was started for the entry, has the
 * options and the krb5.conf that the files have now. Writes to changed what
 * it has not read, or "".
 */
static void
find_unread(const struct check *c, const struct entry *e, pid_t pid,
    char changed[CHANGED])
{
	static struct options there;
	static char text[ENTRY_FILE_MOST];
	const char *what, *name;
	char shown[PATH_MAX], *words[ENTRY_WORDS];

	*changed = '\0';
	memcpy(words, e->words, sizeof(words)); /* getopt may order them */
	if (port_find_memory(pid, OPTIONS_SHOWN, shown) &&
	    options_read_other(&there, e->count, words, &what) == NULL &&
	    (name = options_find_newer(shown)) != NULL)
		snprintf(changed, CHANGED, "%s since %s was changed there",
		    there.config != NULL ? there.config : CONFIG_FILE, name);
	/* The listener would not take an empty one over. */
	else if (c->auth != NULL && *auth_krb5conf(c->auth) != '\0' &&
	    has_same_configuration(e) &&
	    port_find_memory(pid, AUTH_SHOWN, shown) &&
	    entry_read(shown, text) == NULL &&
	    strcmp(text, auth_krb5conf(c->auth)) != 0)
		snprintf(changed, CHANGED, "krb5.conf since it was changed");
}

/* Checks whether a listener has read the files as they are now. */
static void
check_listener(struct check *c, const struct entry *e, pid_t pid)
{
	char changed[CHANGED];

	find_unread(c, e, pid, changed);
	if (*changed == '\0')
		return;
	check_warn(c, "service", *e->service != '\0' ? e->service : e->place,
	    *e->service != '\0' ?
		check_remedy(c, "systemctl reload %s", e->service) :
		check_remedy(c, "kill -HUP %d", (int)pid),
	    "the listener (pid %d) has not read %s", (int)pid, changed);
}

/* Checks the listeners of kpopd that have a socket of the port. */
static void
check_listeners(struct check *c, const struct entries *all, unsigned port,
    const struct port_use *u)
{
	for (size_t i = 0; i < u->count; i++) {
		const struct port_holder *h = &u->holders[i];
		const struct entry *e =
		    judge_socket(all, port, u, h->socket).entry;

		if (e != NULL && h->uid == 0 &&
		    strcmp(h->program, "kpopd") == 0)
			check_listener(c, e, h->pid);
	}
}

/* Returns a command that makes the superserver of an entry listen. */
static const char *
start_again(struct check *c, const struct entry *e)
{
	if (e->by != BY_SYSTEMD)
		return entry_restart(e->by);
	return check_remedy(c, "systemctl restart %s", e->place);
}

/*
 * Checks which process listens on a port. e is an entry of kpopd for it, or
 * NULL. Returns true if a process listens that starts kpopd.
 */
static bool
check_port(struct check *c, const struct entries *all, unsigned port,
    const struct entry *e)
{
	static struct port_use u;
	pid_t served = 0, holder;
	char name[16];

	snprintf(name, sizeof(name), "%u", port);
	if (!port_find(port, &u)) {
		check_warn(c, "port", name, "mount -t proc proc /proc",
		    "/proc does not show which process listens");
		return e != NULL;
	}
	for (size_t i = 0; i < u.sockets; i++)
		if ((holder = check_socket(c, all, port, &u, i, served)) != 0)
			served = holder;
	check_listeners(c, all, port, &u);
	if (u.sockets == 0 && e != NULL)
		check_fail(c, "port", name, start_again(c, e),
		    "nothing listens, although %s is enabled", e->place);
	/* Proxies may be on this host. */
	if (served != 0 && u.only_local && c->o.proxies.count == 0)
		check_warn(c, "port", name,
		    "remove the address, for example bind or interface",
		    "only this host can connect, because the address is a "
		    "loopback address");
	return served != 0;
}

/* Returns true if an earlier entry of this service has the same port. */
static bool
is_repeated(const struct entries *all, const bool is_this[], size_t number)
{
	for (size_t i = 0; i < number; i++)
		if (is_this[i] && *all->all[i].disabled == '\0' &&
		    all->all[i].port == all->all[number].port)
			return true;
	return false;
}

/* Child, because a name service may not answer: checks all. */
static void
check_service_in_child(struct check *c)
{
	static struct entries all;
	static bool is_this[ENTRIES_MOST];
	bool is_enabled = false;

	all.c = c;
	check_xinetd(&all);
	check_inetd(&all);
	check_systemd(&all);
	for (size_t i = 0; i < all.count; i++)
		is_this[i] = is_this_service(c, &all.all[i]);
	check_conflicts(c, &all);
	for (size_t i = 0; i < all.count; i++) {
		if (!is_this[i] || *all.all[i].disabled != '\0')
			continue;
		is_enabled = true;
		if (all.all[i].port != 0 && !is_repeated(&all, is_this, i))
			check_port(c, &all, all.all[i].port, &all.all[i]);
	}
	if (!is_enabled && !check_port(c, &all, usual_port(&c->o), NULL))
		check_absent(c, &all, is_this);
}

void
check_service(struct check *c)
{
	if (!check_in_child(c, SECONDS, check_service_in_child))
		check_fail(c, "service", NULL, NULL,
		    "its check did not end within %d s", SECONDS);
}
