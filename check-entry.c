/*
 * Keeps the entries of the superservers, and reads their files.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include <sys/stat.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check-entry.h"
#include "check-program.h"

#define BLANKS " \t\r"

struct entry *
entry_add(struct entries *s, enum superserver by, const char *place)
{
	struct entry *e;

	if (s->count == ENTRIES_MOST)
		return NULL;
	e = &s->all[s->count++];
	*e = (struct entry){ .by = by };
	strlcpy(e->place, place, sizeof(e->place));
	return e;
}

/* Returns the part of a path after its last slash. */
static const char *
last_component(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

void
entry_set_command(struct entry *e, const char *program, const char *arguments)
{
	char *rest = e->text, *word;

	strlcpy(e->program, program, sizeof(e->program));
	strlcpy(e->text, arguments, sizeof(e->text));
	while (e->count < ENTRY_WORDS - 1 &&
	    (word = entry_word(&rest, BLANKS)) != NULL)
		e->words[e->count++] = word;
	e->words[e->count] = NULL;
	/* tcpd(8) starts the program that its first word names. */
	if (strcmp(last_component(program), "tcpd") == 0 && e->count > 0)
		strlcpy(e->program, e->words[0], sizeof(e->program));
	e->is_kpopd = strcmp(last_component(e->program), "kpopd") == 0;
}

bool
entry_has_systemd(void)
{
	struct stat st;

	/* This directory exists if systemd is the first process. */
	return lstat("/run/systemd/system", &st) == 0 && S_ISDIR(st.st_mode);
}

const char *
entry_restart(enum superserver by)
{
	static char text[64];
	const char *name = "xinetd";
	char path[PATH_MAX];

	if (by == BY_INETD && program_find("inetutils-inetd", path))
		name = "inetutils-inetd";
	else if (by == BY_INETD && program_find("rlinetd", path))
		name = "rlinetd";
	else if (by == BY_INETD && program_find("inetd", path))
		name = "openbsd-inetd";
	if (entry_has_systemd())
		snprintf(text, sizeof(text), "systemctl restart %s", name);
	else
		snprintf(text, sizeof(text), "service %s restart", name);
	return text;
}

char *
entry_word(char **text, const char *separators)
{
	char *word = *text + strspn(*text, separators);

	if (*word == '\0')
		return NULL;
	*text = word + strcspn(word, separators);
	if (**text != '\0')
		*(*text)++ = '\0';
	return word;
}

char *
entry_line(char **text)
{
	char *line = *text;

	if (*line == '\0')
		return NULL;
	*text += strcspn(line, "\n");
	if (**text != '\0')
		*(*text)++ = '\0';
	return line;
}

unsigned
entry_port(const char *text)
{
	struct servent *service;
	char *end;
	unsigned long number = strtoul(text, &end, 10);

	if (*text >= '0' && *text <= '9' && *end == '\0')
		return number <= 65535 ? (unsigned)number : 0;
	service = getservbyname(text, "tcp");
	return service != NULL ? ntohs((uint16_t)service->s_port) : 0;
}

bool
entry_is_root(const char *user)
{
	struct passwd *pw = getpwnam(user);

	return strcmp(user, "0") == 0 || (pw != NULL && pw->pw_uid == 0);
}

const char *
entry_read(const char *path, char text[ENTRY_FILE_MOST])
{
	/* Without O_NONBLOCK the open of a FIFO would wait. */
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	size_t had = 0;
	ssize_t n = 0;

	*text = '\0';
	if (fd == -1)
		return strerror(errno);
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode)) {
		close(fd);
		return "it is not a regular file";
	}
	while (had < ENTRY_FILE_MOST - 1 &&
	    (n = read(fd, text + had, ENTRY_FILE_MOST - 1 - had)) > 0)
		had += (size_t)n;
	close(fd);
	for (size_t i = 0; i < had; i++)
		if (text[i] == '\0')
			text[i] = '?';
	text[had] = '\0';
	return n == -1                 ? "it cannot be read" :
	    had == ENTRY_FILE_MOST - 1 ? "it is too large" :
					 NULL;
}
