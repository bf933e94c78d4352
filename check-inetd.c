/*
 * Reads inetd.conf, and checks the lines that start kpopd.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check-entry.h"
#include "check-port.h"
#include "check-program.h"
#include "check-quote.h"

#define INETD_CONF "/etc/inetd.conf"
#define BLANKS " \t\r"

/* The fields of a line, up to the program's path. */
enum { SERVICE, TYPE, PROTOCOL, WAIT, USER, PROGRAM, FIELDS };

/*
 * Returns the name or number of a service. It may follow an address, as in
 * "127.0.0.1:pop3".
 */
static const char *
inetd_service_of(const char *field)
{
	const char *colon = strrchr(field, ':');

	return colon != NULL ? colon + 1 : field;
}

/* Returns true if the user of a line is root. A group may follow the name. */
static bool
is_roots_line(char *user)
{
	char *end = user + strcspn(user, ".:/");

	*end = '\0';
	return entry_is_root(user);
}

/* Makes the remedy that writes a word into a field of a line. */
static const char *
set_field(struct check *c, const struct entry *e, int field, const char *word)
{
	return check_remedy(c,
	    "sed -i '%ss/[^[:space:]]\\{1,\\}/%s/%d' " INETD_CONF " && %s",
	    strrchr(e->place, ':') + 1, word, field + 1,
	    entry_restart(BY_INETD));
}

/* Checks a line that starts kpopd. */
static void
check_inetd_line(struct check *c, const struct entry *e,
    char *const field[FIELDS])
{
	const char *service = inetd_service_of(field[SERVICE]);
	struct check_word w;

	if (e->port == 0)
		check_fail(c, "service", e->place,
		    check_remedy(c,
			"(echo; echo %s 1109/tcp) >>/etc/services && %s",
			check_quote(&w, service), entry_restart(BY_INETD)),
		    "services(5) does not have %s", service);
	if (strcmp(field[TYPE], "stream") != 0)
		check_fail(c, "service", e->place,
		    set_field(c, e, TYPE, "stream"),
		    "the socket is %s, and kpopd needs stream", field[TYPE]);
	if (strncmp(field[PROTOCOL], "tcp", 3) != 0)
		check_fail(c, "service", e->place,
		    set_field(c, e, PROTOCOL, "tcp"),
		    "the protocol is %s, and kpopd needs tcp", field[PROTOCOL]);
	if (!is_roots_line(field[USER]))
		check_fail(c, "service", e->place,
		    set_field(c, e, USER, "root"),
		    "the user is %s, and kpopd needs root", field[USER]);
	if (access(e->program, X_OK) == -1)
		check_fail(c, "service", e->place, NULL,
		    "inetd cannot start %s: %m", e->program);
}

/*
 * Adds the service of a line. A line that is a comment is a disabled service if
 * it has the form of one: update-inetd(8) writes "#<off># ".
 */
static void
add_inetd_line(struct entries *all, unsigned number, char *line)
{
	char *field[FIELDS], place[64];
	bool is_comment = *line == '#';
	struct entry *e;

	if (strncmp(line, "#<off>#", 7) == 0)
		line += 7;
	line += strspn(line, "#" BLANKS);
	for (int i = 0; i < FIELDS; i++)
		if ((field[i] = entry_word(&line, BLANKS)) == NULL)
			return;
	snprintf(place, sizeof(place), "%s:%u", INETD_CONF, number);
	if ((is_comment && strcmp(field[TYPE], "stream") != 0) ||
	    (e = entry_add(all, BY_INETD, place)) == NULL)
		return;
	if (is_comment)
		strlcpy(e->disabled, "the line is a comment",
		    sizeof(e->disabled));
	snprintf(e->mend, sizeof(e->mend), "sed -E -i '%us/%s/' " INETD_CONF,
	    number, is_comment ? "^(#<off>)?[#[:space:]]*/" : "^/#");
	e->port = entry_port(inetd_service_of(field[SERVICE]));
	/* A service may have one line for IPv4 and one for IPv6. */
	snprintf(e->address, sizeof(e->address), "%.*s %s",
	    (int)(inetd_service_of(field[SERVICE]) - field[SERVICE]),
	    field[SERVICE], field[PROTOCOL]);
	entry_set_command(e, field[PROGRAM], line);
	if (e->is_kpopd && !is_comment)
		check_inetd_line(all->c, e, field);
}

/* Returns true if a program that reads inetd.conf is installed or runs. */
static bool
has_inetd(void)
{
	char path[PATH_MAX], line[PORT_COMMAND_LINE];

	return program_find("inetd", path) ||
	    program_find("inetutils-inetd", path) ||
	    program_find("rlinetd", path) ||
	    /* Debian starts xinetd so that it reads this file, too. */
	    (port_find_process("xinetd", line) != 0 &&
		strstr(line, "-inetd_compat") != NULL);
}

void
check_inetd(struct entries *all)
{
	char *text, *rest, *line;
	unsigned number = 0;

	if (access(INETD_CONF, F_OK) == -1 || !has_inetd())
		return;
	rest = text = malloc(ENTRY_FILE_MOST);
	if (text != NULL && entry_read(INETD_CONF, text) == NULL)
		while ((line = entry_line(&rest)) != NULL)
			add_inetd_line(all, ++number, line);
	free(text);
}
