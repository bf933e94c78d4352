/*
 * Reads the files of xinetd, and checks the services that start kpopd.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include <dirent.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check-entry.h"
#include "check-port.h"
#include "check-program.h"
#include "check-quote.h"

#define XINETD_CONF "/etc/xinetd.conf"
#define XINETD_SERVICES_MOST 128
#define XINETD_DEPTH 4 /* of files that include others */
#define BLANKS " \t\r"
/* The characters of an id or of a name that a remedy may have. */
#define ID_CHARACTERS                                                          \
	"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

/* A service as it is written, or the defaults. A text is "" if it is absent. */
struct xinetd_service {
	char path[256];       /* of the file */
	unsigned first, last; /* lines of the block; last is 0 without a } */
	unsigned given;       /* a bit for each attribute that has a line */
	bool is_ignored;      /* xinetd does not read that file */
	const char *mistake;  /* why xinetd does not accept it; NULL: none */
	char name[64], id[64], disable[16], disabled[1024], enabled[1024];
	char type[64], port[16], protocol[16], socket_type[16], wait[16];
	char user[64], server[512], server_args[1024], flags[256], env[512];
	char bind[64], interface[64];
	char only_from[16], no_access[16], access_times[16];
};

/* The attributes that are read. xinetd has more. */
static const struct attribute {
	const char *name;
	size_t offset, size;
} attributes[] = {
#define ATTRIBUTE(field)                                                       \
	{                                                                      \
#field, offsetof(struct xinetd_service, field),                \
		    sizeof(((struct xinetd_service *)0)->field)                \
	}
	ATTRIBUTE(id), ATTRIBUTE(disable), ATTRIBUTE(disabled),
	ATTRIBUTE(enabled), ATTRIBUTE(type), ATTRIBUTE(port),
	ATTRIBUTE(protocol), ATTRIBUTE(socket_type), ATTRIBUTE(wait),
	ATTRIBUTE(user), ATTRIBUTE(server), ATTRIBUTE(server_args),
	ATTRIBUTE(flags), ATTRIBUTE(env), ATTRIBUTE(bind), ATTRIBUTE(interface),
	ATTRIBUTE(only_from), ATTRIBUTE(no_access), ATTRIBUTE(access_times)
};

/* All that xinetd's files contain. */
struct xinetd {
	struct check *c;
	const char *path; /* of the file that is read */
	unsigned line;    /* its number in that file */
	bool is_ignored;
	bool in_directory; /* the files of includedir are read */
	int depth;
	struct xinetd_service defaults;
	struct xinetd_service services[XINETD_SERVICES_MOST];
	size_t count;
	struct xinetd_service *open; /* the block that is read; NULL: none */
};

static const char no_blank[] = "xinetd needs a blank before each =";

/* Reads the line "NAME = VALUE ..." of a block; += adds, and -= is ignored. */
static void
read_attribute(struct xinetd_service *x, char *line)
{
	size_t n = strcspn(line, BLANKS "=+-");
	char *sign = line + n + strspn(line + n, BLANKS);
	char *value = strchr(sign, '='), *end;

	if (value == NULL)
		return;
	if (sign == line + n)
		x->mistake = no_blank;
	if (*sign == '-' || sign == line + n)
		return;
	value += 1 + strspn(value + 1, BLANKS);
	for (end = value + strlen(value); end > value; *--end = '\0')
		if (strchr(BLANKS, end[-1]) == NULL)
			break;
	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]);
	     i++) {
		const struct attribute *a = &attributes[i];
		char *field = (char *)x + a->offset;

		if (strlen(a->name) != n || strncmp(a->name, line, n) != 0)
			continue;
		x->given |= 1U << i;
		/* If an attribute is repeated, xinetd keeps the first. */
		if (*sign == '+')
			strlcat(field, " ", a->size);
		if (*sign == '+' || *field == '\0')
			strlcat(field, value, a->size);
	}
}

static void read_xinetd_file(struct xinetd *x, const char *path);

/* Compares two names, for scandir(3). */
static int
compare_names(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/*
 * Reads the files of a directory, in xinetd's order. xinetd ignores names that
 * contain a dot or end in a tilde.
 */
static void
read_xinetd_directory(struct xinetd *x, const char *directory)
{
	struct dirent **names;
	int n = scandir(directory, &names, NULL, compare_names);

	x->in_directory = true;
	for (int i = 0; i < n; i++) {
		const char *name = names[i]->d_name;
		char path[512];

		x->is_ignored =
		    strchr(name, '.') != NULL || name[strlen(name) - 1] == '~';
		snprintf(path, sizeof(path), "%s/%s", directory, name);
		if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
			read_xinetd_file(x, path);
		free(names[i]);
	}
	x->is_ignored = x->in_directory = false;
	if (n >= 0)
		free(names);
}

/* Begins the block of a service. name is NULL for the defaults. */
static void
begin_block(struct xinetd *x, const char *name)
{
	static struct xinetd_service surplus;

	x->open = name == NULL              ? &x->defaults :
	    x->count < XINETD_SERVICES_MOST ? &x->services[x->count++] :
					      &surplus;
	if (name != NULL) {
		*x->open =
		    (struct xinetd_service){ .is_ignored = x->is_ignored };
		strlcpy(x->open->name, name, sizeof(x->open->name));
		strlcpy(x->open->id, name, sizeof(x->open->id));
	}
	strlcpy(x->open->path, x->path, sizeof(x->open->path));
	x->open->first = x->line;
}

/* Ends the block, at the line of its }. */
static void
end_block(struct xinetd *x)
{
	if (x->open != NULL)
		x->open->last = x->line;
	x->open = NULL;
}

/* Reads a line that is outside all blocks. */
static void
read_directive(struct xinetd *x, char *line)
{
	const char *word = entry_word(&line, BLANKS);
	const char *argument = entry_word(&line, BLANKS);

	if (word == NULL)
		return;
	if (strcmp(word, "defaults") == 0 && !x->is_ignored)
		begin_block(x, NULL);
	else if (argument != NULL && strcmp(word, "service") == 0) {
		begin_block(x, argument);
		if (strchr(line, '{') != NULL)
			x->open->mistake = "xinetd needs { in the next line";
	}
	/* The files of a directory might include that directory again. */
	if (argument == NULL || x->in_directory)
		return;
	if (strcmp(word, "include") == 0)
		read_xinetd_file(x, argument);
	else if (strcmp(word, "includedir") == 0)
		read_xinetd_directory(x, argument);
}

/* Reads a file, and those that it includes. */
static void
read_xinetd_file(struct xinetd *x, const char *path)
{
	const char *outer = x->path, *problem;
	unsigned outer_line = x->line;
	char *text = malloc(ENTRY_FILE_MOST), *rest = text, *line;

	if (text == NULL || x->depth == XINETD_DEPTH) {
		free(text);
		return;
	}
	x->depth++;
	x->path = path;
	x->line = 0;
	problem = entry_read(path, text);
	if (problem != NULL && !x->is_ignored)
		check_fail(x->c, "xinetd", path, NULL,
		    "the file is not read: %s", problem);
	while (problem == NULL && (line = entry_line(&rest)) != NULL) {
		x->line++;
		line += strspn(line, BLANKS);
		if (*line == '#' || *line == '{')
			continue;
		if (*line == '}')
			end_block(x);
		else if (x->open != NULL)
			read_attribute(x->open, line);
		else
			read_directive(x, line);
	}
	x->open = NULL;
	x->path = outer;
	x->line = outer_line;
	x->depth--;
	free(text);
}

/* Returns true if a list with blanks between its words contains the word. */
static bool
has_xinetd_word(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (; *list != '\0'; list += strcspn(list, BLANKS)) {
		list += strspn(list, BLANKS);
		if (strcspn(list, BLANKS) == n &&
		    strncasecmp(list, word, n) == 0)
			return true;
	}
	return false;
}

/* Returns why xinetd does not start a service; "" if it does. */
static const char *
find_disabled(const struct xinetd *x, const struct xinetd_service *s)
{
	if (s->is_ignored)
		return "xinetd ignores a file whose name contains a dot or "
		       "ends in a tilde";
	if (s->mistake != NULL)
		return s->mistake;
	if (strcasecmp(s->disable, "yes") == 0)
		return "it contains disable = yes";
	if (*s->disable != '\0' && strcasecmp(s->disable, "no") != 0)
		return "disable is neither yes nor no";
	if (has_xinetd_word(x->defaults.disabled, s->id))
		return "disabled in the defaults of xinetd.conf names it";
	if (*x->defaults.enabled != '\0' &&
	    !has_xinetd_word(x->defaults.enabled, s->id))
		return "enabled in the defaults of xinetd.conf does not name "
		       "it";
	return "";
}

/*
 * Returns the port that a service has by its own attribute, which must be a
 * number; 0 if it has none.
 */
static unsigned
own_port(const struct xinetd_service *s)
{
	return s->port[strspn(s->port, "0123456789")] == '\0' ?
	    entry_port(s->port) :
	    0;
}

/* Makes the remedy for a service whose name services(5) does not have. */
static const char *
add_to_services(struct check *c, const struct xinetd_service *s)
{
	unsigned port = own_port(s) != 0 ? own_port(s) : 1109;

	if (s->name[strspn(s->name, ID_CHARACTERS)] != '\0')
		return check_remedy(c,
		    "write type = UNLISTED and port = %u into %s", port,
		    s->path);
	return check_remedy(c, "printf '\\n%s %u/tcp\\n' >>/etc/services && %s",
	    s->name, port, entry_restart(BY_XINETD));
}

/* Returns true if the service has a line for this attribute. */
static bool
is_given(const struct xinetd_service *s, const char *name)
{
	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
		if (strcmp(attributes[i].name, name) == 0)
			return (s->given & 1U << i) != 0;
	return false;
}

/* Returns true if the service's file has another service. */
static bool
has_neighbour(const struct xinetd *x, const struct xinetd_service *s)
{
	for (size_t i = 0; i < x->count; i++)
		if (&x->services[i] != s &&
		    strcmp(x->services[i].path, s->path) == 0)
			return true;
	return false;
}

/*
 * Makes the command that gives an attribute of a service this value; "" if none
 * is known. README has the same for disable.
 */
static void
set_attribute(const struct xinetd *x, const struct xinetd_service *s,
    const char *name, const char *value, char command[CHECK_COMMAND])
{
	struct check_word file;
	char lines[32] = "";

	*command = '\0';
	/* A block without an end has another mistake. */
	if (s->last == 0)
		return;
	check_quote(&file, s->path);
	if (has_neighbour(x, s))
		snprintf(lines, sizeof(lines), "%u,%u", s->first, s->last);
	if (is_given(s, name))
		snprintf(command, CHECK_COMMAND,
		    "sed -i '%ss/^\\([[:space:]]*%s[[:space:]]*=\\).*/\\1 %s/' "
		    "%s",
		    lines, name, value, file.text);
	else
		snprintf(command, CHECK_COMMAND,
		    "sed -i '%us/^/\\t%s = %s\\n/' %s", s->last, name, value,
		    file.text);
}

/*
 * Makes the remedy that gives an attribute of a service this value; NULL if
 * none is known.
 */
static const char *
mend_attribute(const struct xinetd *x, const struct xinetd_service *s,
    const char *name, const char *value)
{
	char command[CHECK_COMMAND];

	set_attribute(x, s, name, value, command);
	if (*command == '\0')
		return NULL;
	return check_remedy(x->c, "%s && %s", command,
	    entry_restart(BY_XINETD));
}

/* Makes the command that gives the file a name that xinetd does not ignore. */
static void
rename_file(const struct xinetd_service *s, char command[CHECK_COMMAND])
{
	char path[sizeof(s->path)];
	struct check_word from, to;

	strlcpy(path, s->path, sizeof(path));
	for (char *p = strrchr(path, '/'); p != NULL && *p != '\0'; p++)
		if (*p == '.' || *p == '~')
			*p = '-';
	snprintf(command, CHECK_COMMAND, "mv -bT %s %s",
	    check_quote(&from, s->path), check_quote(&to, path));
}

/*
 * Makes the command that changes the lists of the defaults so that they do not
 * disable a service.
 */
static void
mend_defaults(const struct xinetd *x, const struct xinetd_service *s,
    char command[CHECK_COMMAND])
{
	struct check_word file;

	/* Another character might mean something in the expression. */
	if (s->id[strspn(s->id, ID_CHARACTERS)] != '\0')
		return;
	check_quote(&file, x->defaults.path);
	if (has_xinetd_word(x->defaults.disabled, s->id))
		snprintf(command, CHECK_COMMAND,
		    "sed -E -i '/^[[:space:]]*disabled[[:space:]]*[+]?=/"
		    "{s/([[:space:]=])%s([[:space:]]|$)/\\1\\2/g;"
		    "/=[[:space:]]*$/d}' %s",
		    s->id, file.text);
	else
		snprintf(command, CHECK_COMMAND,
		    "sed -E -i '/^[[:space:]]*enabled[[:space:]]*[+]?=/s/$/ "
		    "%s/' %s",
		    s->id, file.text);
}

/* Makes the command that enables a disabled service, or disables another. */
static void
mend_service(const struct xinetd *x, const struct xinetd_service *s,
    bool is_enabled, char command[CHECK_COMMAND])
{
	struct check_word file;

	check_quote(&file, s->path);
	if (s->is_ignored)
		rename_file(s, command);
	else if (s->mistake == no_blank)
		snprintf(command, CHECK_COMMAND,
		    "sed -E -i 's/^([[:space:]]*[^[:space:]=+-]+)([+-]?=)/"
		    "\\1 \\2/' %s",
		    file.text);
	else if (s->mistake != NULL)
		snprintf(command, CHECK_COMMAND,
		    "sed -E -i 's/^([[:space:]]*service[[:space:]].*)\\{/"
		    "\\1\\n{/' %s",
		    file.text);
	else if (is_enabled ||
	    (*s->disable != '\0' && strcasecmp(s->disable, "no") != 0))
		set_attribute(x, s, "disable", is_enabled ? "yes" : "no",
		    command);
	else
		mend_defaults(x, s, command);
}

/* Checks the port of a service, and its name in services(5). */
static void
check_xinetd_port(const struct xinetd *x, const struct xinetd_service *s)
{
	struct check *c = x->c;
	unsigned named = entry_port(s->name);

	if (has_xinetd_word(s->type, "UNLISTED")) {
		if (own_port(s) == 0)
			check_fail(c, "service", s->path,
			    mend_attribute(x, s, "port", "1109"),
			    "a service with type = UNLISTED needs the number "
			    "of a "
			    "port");
	} else if (named == 0)
		check_fail(c, "service", s->path, add_to_services(c, s),
		    "xinetd does not start it, because services(5) does not "
		    "have %s, and %s does not have type = UNLISTED",
		    s->name, s->path);
	else if (*s->port != '\0' && own_port(s) != named)
		check_fail(c, "service", s->path,
		    mend_attribute(x, s, "type", "UNLISTED"),
		    "xinetd does not start it, because its port is %s, and %s "
		    "in services(5) is %u",
		    s->port, s->name, named);
}

/* Checks one attribute that must have a value. */
static void
check_attribute(const struct xinetd *x, const struct xinetd_service *s,
    const char *name, const char *value, const char *wanted)
{
	if (strcasecmp(value, wanted) == 0)
		return;
	check_fail(x->c, "service", s->path, mend_attribute(x, s, name, wanted),
	    "%s is %s, and kpopd needs %s", name,
	    *value != '\0' ? value : "absent", wanted);
}

/* Checks a service that starts kpopd. */
static void
check_xinetd_service(const struct xinetd *x, const struct xinetd_service *s)
{
	struct check *c = x->c;

	check_attribute(x, s, "socket_type", s->socket_type, "stream");
	if (*s->protocol != '\0')
		check_attribute(x, s, "protocol", s->protocol, "tcp");
	if (!entry_is_root(s->user))
		check_attribute(x, s, "user", s->user, "root");
	if (strcasecmp(s->wait, "yes") != 0 && strcasecmp(s->wait, "no") != 0)
		check_attribute(x, s, "wait", s->wait, "no");
	if (strcasecmp(s->wait, "yes") == 0 &&
	    (*s->only_from != '\0' || *s->no_access != '\0' ||
		*s->access_times != '\0'))
		check_warn(c, "service", s->path,
		    mend_attribute(x, s, "wait", "no"),
		    "xinetd does not apply only_from, no_access and "
		    "access_times, because wait = yes");
	if (access(s->server, X_OK) == -1)
		check_fail(c, "service", s->path, NULL,
		    "xinetd cannot start %s: %m", s->server);
	check_xinetd_port(x, s);
}

/* Adds a service of xinetd to those of all superservers. */
static void
add_service(struct entries *all, const struct xinetd *x,
    const struct xinetd_service *s)
{
	struct entry *e = entry_add(all, BY_XINETD, s->path);
	char arguments[sizeof(s->server) + sizeof(s->server_args)] = "";

	if (e == NULL)
		return;
	strlcpy(e->disabled, find_disabled(x, s), sizeof(e->disabled));
	mend_service(x, s, *e->disabled == '\0', e->mend);
	/* It may be a copy that an editor or a package has left. */
	e->doubt = s->is_ignored ? 2 : 0;
	e->port = *s->port != '\0' ? own_port(s) : entry_port(s->name);
	strlcpy(e->address, *s->bind != '\0' ? s->bind : s->interface,
	    sizeof(e->address));
	strlcpy(e->environment, s->env, sizeof(e->environment));
	/* With this flag the arguments begin with the program's name. */
	if (!has_xinetd_word(s->flags, "NAMEINARGS")) {
		strlcpy(arguments, s->server, sizeof(arguments));
		strlcat(arguments, " ", sizeof(arguments));
	}
	strlcat(arguments, s->server_args, sizeof(arguments));
	entry_set_command(e, s->server, arguments);
	if (e->is_kpopd && *e->disabled == '\0')
		check_xinetd_service(x, s);
}

/*
 * Finds the file that xinetd reads: that of -f if it runs, otherwise the usual
 * one.
 */
static const char *
find_configuration(char line[PORT_COMMAND_LINE])
{
	char *rest = line, *word;

	while ((word = entry_word(&rest, BLANKS)) != NULL)
		if (strcmp(word, "-f") == 0 &&
		    (word = entry_word(&rest, BLANKS)) != NULL)
			return word;
	return XINETD_CONF;
}

void
check_xinetd(struct entries *all)
{
	static struct xinetd x;
	char path[PATH_MAX], line[PORT_COMMAND_LINE];

	if (port_find_process("xinetd", line) == 0 &&
	    !program_find("xinetd", path))
		return;
	x.c = all->c;
	read_xinetd_file(&x, find_configuration(line));
	for (size_t i = 0; i < x.count; i++)
		add_service(all, &x, &x.services[i]);
}
