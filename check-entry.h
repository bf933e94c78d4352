/* The entries of superservers: see check-entry.c. */
#ifndef CHECK_ENTRY_H
#define CHECK_ENTRY_H

#include <stdbool.h>
#include <stddef.h>

#include "check.h"

#define ENTRIES_MOST 256
#define ENTRY_WORDS 64            /* words of a command line with its NULL */
#define ENTRY_FILE_MOST (1 << 16) /* bytes of a file with its NUL */

enum superserver { BY_XINETD, BY_INETD, BY_SYSTEMD };

/* One service of a superserver. */
struct entry {
	enum superserver by;
	char place[256];    /* "/etc/inetd.conf:12", "kpopd.socket" */
	char disabled[128]; /* why it is not started; "": it is enabled */
	unsigned port;      /* 0: it has none */
	/* entries with different addresses can have one port */
	char address[64];
	char program[512];
	bool is_kpopd;
	/* the command line, NULL at its end; the words are in text */
	char *words[ENTRY_WORDS];
	int count;
	char text[2048];
	char environment[512]; /* words NAME=VALUE */
	bool is_active;        /* systemd listens for it */
	/* of systemd, for all connections; "": one for each connection */
	char service[128];
	/* 0; more: another entry is rather the one that is meant to be used */
	unsigned doubt;
	/*
	 * the command that enables it if it is disabled, or disables it, before
	 * the superserver is restarted; "": none is known
	 */
	char mend[CHECK_COMMAND];
};

/* The services of all superservers. */
struct entries {
	struct check *c;
	struct entry all[ENTRIES_MOST];
	size_t count;
};

/* Adds an entry. Returns NULL if there is no room. */
struct entry *entry_add(struct entries *s, enum superserver by,
    const char *place);

/*
 * Sets the program and the words of an entry. arguments begins with the name
 * of the program. Finds out whether the program, or the one that tcpd(8)
 * starts, is kpopd.
 */
void entry_set_command(struct entry *e, const char *program,
    const char *arguments);

/*
 * Returns the command that restarts xinetd or inetd, so that it reads its files
 * again.
 */
const char *entry_restart(enum superserver by);

/* Returns true if systemd is the first process. */
bool entry_has_systemd(void);

/*
 * Splits the next word off *text: the bytes up to one of the separators.
 * Returns NULL if there is no other word.
 */
char *entry_word(char **text, const char *separators);

/* Returns the next line of *text, without its line feed; NULL at the end. */
char *entry_line(char **text);

/*
 * Returns the TCP port that a number or a name of services(5) means; 0 if it
 * means none.
 */
unsigned entry_port(const char *text);

/* Returns true if the user of this name or number is root. */
bool entry_is_root(const char *user);

/*
 * Reads a regular file to text, as a string; each NUL is replaced. Returns
 * NULL, or why the file cannot be read.
 */
const char *entry_read(const char *path, char text[ENTRY_FILE_MOST]);

/*
 * Add the entries of one superserver, if it is installed, and print what is
 * wrong with those that start kpopd. Each is in the file of its name.
 */
void check_xinetd(struct entries *s);
void check_inetd(struct entries *s);
void check_systemd(struct entries *s);

#endif
