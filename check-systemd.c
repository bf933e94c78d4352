/*
 * Asks systemd for the units that start kpopd.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check-entry.h"
#include "check-program.h"

#define UNITS_MOST 16
#define UNIT_NAME 128 /* bytes with the NUL */
#define RECOVERY "kpopd-recover.service"
/* The characters of units' names; see systemd.unit(5). */
#define UNIT_CHARACTERS                                                        \
	"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"                 \
	"0123456789:_.@-"

/* What systemctl prints. */
static char output[PROGRAM_OUTPUT];

/* The properties of a socket. A text is "" if systemd does not report it. */
struct unit {
	char name[UNIT_NAME], service[UNIT_NAME];
	char file[32], active[32], result[32], accept[8], listen[128];
};

/* Runs systemctl. Prints a line if it fails. */
static bool
ask_systemd(struct check *c, const char *const argv[])
{
	const char *problem = program_run(argv, output);

	if (problem != NULL)
		check_warn(c, "systemd", NULL, "systemctl status",
		    "systemctl %s: %s", argv[1], problem);
	return problem == NULL;
}

/* Returns true if the text is the name of a socket of kpopd. */
static bool
is_socket_name(const char *name)
{
	size_t n = strlen(name);

	return strncmp(name, "kpopd", 5) == 0 && n < UNIT_NAME && n > 7 &&
	    strcmp(name + n - 7, ".socket") == 0 &&
	    strspn(name, UNIT_CHARACTERS) == n;
}

/* Lists the sockets. Returns their number. */
static size_t
list_sockets(struct check *c, char names[UNITS_MOST][UNIT_NAME])
{
	static const char *const argv[] = { "systemctl", "list-unit-files",
		"--no-legend", "--no-pager", "--full", "kpopd*.socket", NULL };
	char *rest = output, *line;
	const char *problem = program_run(argv, output);
	size_t count = 0;

	/* The status may be 1 if there is none. */
	if (problem != NULL && strstr(problem, "status") == NULL)
		check_warn(c, "systemd", NULL, "systemctl status",
		    "systemctl list-unit-files: %s", problem);
	while ((line = entry_line(&rest)) != NULL && count < UNITS_MOST) {
		const char *name = entry_word(&line, " \t");

		if (name != NULL && is_socket_name(name))
			strlcpy(names[count++], name, UNIT_NAME);
	}
	return count;
}

/* Copies the value of a line NAME=VALUE to a text if it has this name. */
static void
take_property(const char *line, const char *name, char *text, size_t size)
{
	size_t n = strlen(name);

	/* Of several addresses or commands the first one counts. */
	if (strncmp(line, name, n) == 0 && line[n] == '=' && *text == '\0')
		strlcpy(text, line + n + 1, size);
}

/* Returns true if the socket has a service for each connection. */
static bool
is_each(const struct unit *u)
{
	return strcmp(u->accept, "yes") == 0;
}

static bool
is_enabled(const struct unit *u)
{
	return strncmp(u->file, "enabled", 7) == 0;
}

/* Reads the properties of a socket. */
static bool
read_unit(struct check *c, const char *name, struct unit *u)
{
	const char *const argv[] = { "systemctl", "show", "--no-pager",
		("--property=UnitFileState,ActiveState,Result,Listen,Triggers,"
		 "Accept"),
		"--", name, NULL };
	char *rest = output, *line;

	*u = (struct unit){ .name = "" };
	strlcpy(u->name, name, sizeof(u->name));
	if (!ask_systemd(c, argv))
		return false;
	while ((line = entry_line(&rest)) != NULL) {
		take_property(line, "UnitFileState", u->file, sizeof(u->file));
		take_property(line, "ActiveState", u->active,
		    sizeof(u->active));
		take_property(line, "Result", u->result, sizeof(u->result));
		take_property(line, "Listen", u->listen, sizeof(u->listen));
		take_property(line, "Accept", u->accept, sizeof(u->accept));
		take_property(line, "Triggers", u->service, sizeof(u->service));
	}
	/* A socket with Accept=yes has a service for each connection. */
	if (*u->service == '\0' || is_each(u))
		snprintf(u->service, sizeof(u->service), "%.*s@check.service",
		    (int)strcspn(name, "."), name);
	return true;
}

/* Returns the port in "[::]:1109 (Stream)"; 0 if there is none. */
static unsigned
unit_port(const char *listen)
{
	char text[sizeof(((struct unit *)0)->listen)], *port;

	strlcpy(text, listen, sizeof(text));
	text[strcspn(text, " ")] = '\0';
	port = strrchr(text, ':');
	return entry_port(port != NULL ? port + 1 : text);
}

/*
 * Takes the command of a service from the property ExecStart, which is "{
 * path=PROGRAM ; argv[]=PROGRAM ARGUMENT ... ; ... }".
 */
static void
take_command(struct entry *e, char *property)
{
	char *program = strstr(property, "path=");
	char *arguments = strstr(property, "argv[]=");
	char *end;

	if (program == NULL || arguments == NULL ||
	    (end = strstr(arguments, " ; ")) == NULL)
		return;
	*end = '\0';
	program += strlen("path=");
	program[strcspn(program, " ;")] = '\0';
	entry_set_command(e, program, arguments + strlen("argv[]="));
}

/* Reads the command of a socket's service, and checks the service. */
static void
read_service(struct check *c, const struct unit *u, struct entry *e)
{
	const char *const argv[] = { "systemctl", "show", "--no-pager",
		"--property=LoadState,ActiveState,Result,ExecStart,Environment",
		"--", u->service, NULL };
	char active[32] = "", result[32] = "", load[32] = "";
	char command[2048] = "";
	char *rest = output, *line;

	if (strspn(u->service, UNIT_CHARACTERS) != strlen(u->service) ||
	    !ask_systemd(c, argv))
		return;
	while ((line = entry_line(&rest)) != NULL) {
		take_property(line, "LoadState", load, sizeof(load));
		take_property(line, "ActiveState", active, sizeof(active));
		take_property(line, "Result", result, sizeof(result));
		take_property(line, "ExecStart", command, sizeof(command));
		take_property(line, "Environment", e->environment,
		    sizeof(e->environment));
	}
	take_command(e, command);
	/* This service has no command, but its name implies the protocol. */
	if (strcmp(load, "loaded") != 0 && !e->is_kpopd)
		entry_set_command(e, "kpopd",
		    strstr(u->name, "pop3") != NULL ? "kpopd -p" : "kpopd");
	if (strcmp(load, "loaded") != 0)
		check_fail(c, "service", u->service,
		    check_remedy(c, "systemd-analyze verify %s", u->service),
		    "systemd does not start the service: %s", load);
	else if (strcmp(active, "failed") == 0)
		check_fail(c, "service", u->service,
		    check_remedy(c, "systemctl status %s", u->service),
		    "the service has failed (%s)", result);
}

/* Adds a socket. */
static void
add_unit(struct entries *all, const struct unit *u)
{
	struct entry *e = entry_add(all, BY_SYSTEMD, u->name);

	if (e == NULL)
		return;
	e->port = unit_port(u->listen);
	e->is_active = strcmp(u->active, "active") == 0;
	if (!is_enabled(u) && !e->is_active && strcmp(u->active, "failed") != 0)
		snprintf(e->disabled, sizeof(e->disabled), "it is %s", u->file);
	/* README names the others. */
	e->doubt = (strncmp(u->file, "masked", 6) == 0 ? 2 : 0) + is_each(u);
	if (!is_each(u))
		strlcpy(e->service, u->service, sizeof(e->service));
	read_service(all->c, u, e);
}

/* Returns true if systemd listens for another socket on this one's port. */
static bool
has_rival(const struct entries *all, const struct unit *u)
{
	unsigned port = unit_port(u->listen);

	for (size_t i = 0; i < all->count; i++)
		if (all->all[i].is_active && all->all[i].port == port &&
		    strcmp(all->all[i].place, u->name) != 0)
			return true;
	return false;
}

/* Checks the state of a socket. */
static void
check_unit(const struct entries *all, const struct unit *u)
{
	struct check *c = all->c;
	bool is_active = strcmp(u->active, "active") == 0;

	if (strcmp(u->active, "failed") == 0)
		check_fail(c, "service", u->name,
		    check_remedy(c, "systemctl status %s", u->name),
		    "the socket has failed (%s), and its port is closed",
		    u->result);
	else if (is_active && !is_enabled(u))
		check_warn(c, "service", u->name,
		    check_remedy(c, "systemctl enable %s", u->name),
		    "the socket is active, but it is %s, so it will not be "
		    "started at boot",
		    u->file);
	/* The two sockets of one port have a line of their own. */
	else if (is_enabled(u) && !is_active && !has_rival(all, u))
		check_fail(c, "service", u->name,
		    check_remedy(c, "systemctl start %s", u->name),
		    "the socket is enabled, but it is %s", u->active);
}

/* Returns true if a superserver other than systemd starts kpopd. */
static bool
has_other_superserver(const struct entries *all)
{
	for (size_t i = 0; i < all->count; i++)
		if (all->all[i].is_kpopd && all->all[i].by != BY_SYSTEMD &&
		    *all->all[i].disabled == '\0')
			return true;
	return false;
}

/*
 * Checks whether removals that a crash interrupted are finished at boot. The
 * sockets of kpopd start the service for that, but xinetd and inetd do not.
 */
static void
check_recovery(const struct entries *all)
{
	static const char *const argv[] = { "systemctl", "show", "--no-pager",
		"--property=UnitFileState,ActiveState,SubState,Result", "--",
		RECOVERY, NULL };
	char file[32] = "", active[32] = "", sub[32] = "", result[32] = "";
	char *rest = output, *line;

	if (!ask_systemd(all->c, argv))
		return;
	while ((line = entry_line(&rest)) != NULL) {
		take_property(line, "UnitFileState", file, sizeof(file));
		take_property(line, "ActiveState", active, sizeof(active));
		take_property(line, "SubState", sub, sizeof(sub));
		take_property(line, "Result", result, sizeof(result));
	}
	if (strcmp(active, "failed") == 0 ||
	    strncmp(sub, "auto-restart", strlen("auto-restart")) == 0)
		check_warn(all->c, "service", RECOVERY,
		    "systemctl reset-failed " RECOVERY
		    "; systemctl restart " RECOVERY
		    " || { journalctl --sync; journalctl -n 20 -u " RECOVERY
		    "; }",
		    "it has failed (%s), so a removal that a crash interrupted "
		    "waits for the user's next login",
		    result);
	if (has_other_superserver(all) && strcmp(file, "disabled") == 0)
		check_warn(all->c, "service", RECOVERY,
		    "systemctl enable " RECOVERY,
		    "it is disabled, so a removal that a crash interrupts "
		    "waits for the user's next login");
}

void
check_systemd(struct entries *all)
{
	static struct unit units[UNITS_MOST];
	char names[UNITS_MOST][UNIT_NAME];
	size_t count, read = 0;

	if (!entry_has_systemd())
		return;
	count = list_sockets(all->c, names);
	for (size_t i = 0; i < count; i++)
		if (read_unit(all->c, names[i], &units[read]))
			add_unit(all, &units[read++]);
	for (size_t i = 0; i < read; i++)
		check_unit(all, &units[i]);
	check_recovery(all);
}
