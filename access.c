/*
 * Decides by the access file what a principal may do with a user's mailbox.
 *
 * Runs as root in the monitor, for each login, and in kpopd --check. A line of
 * the file is
 *
 *	PRINCIPAL USER RIGHT [tls | layer] [from=NETWORK,...]
 *
 * kpopd.access(5) describes it. The first line that names the principal and the
 * user, and whose conditions the connection meets, decides. If no such line has
 * its conditions met, the login is denied: otherwise a client could get more
 * rights, by .k5login, from the network that the line excludes.
 *
 * Names are compared as text, byte by byte. Some KDCs issue tickets for every
 * spelling of a name in upper and lower case. So a principal that differs from
 * a line only in case is denied. Otherwise it would have the wider rights of a
 * principal that no line names.
 *
 * The principal comes from the pre-auth process. A compromised pre-auth process
 * could name any principal, with or without this file.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <vis.h>

#include "access.h"
#include "account.h"
#include "networks.h"
#include "root-file.h"

#define ANY "*" /* every user, or every text in place of a component */
#define FROM "from="

/* The conditions of a line. */
struct conditions {
	bool tls, layer, from;
	struct networks networks; /* if from is true */
};

const char *
access_path(const char *named)
{
	return named != NULL ? named : ACCESS_FILE;
}

/*
 * Returns the length of the first component of a principal's text. A backslash
 * escapes the separators "/" and "@".
 */
static size_t
component_length(const char *text)
{
	size_t n = 0;

	while (text[n] != '\0' && text[n] != '/' && text[n] != '@')
		n += text[n] == '\\' && text[n + 1] != '\0' ? 2 : 1;
	return n;
}

/* Returns true if the first n bytes of the pattern stand for any component. */
static bool
is_any(const char *pattern, size_t n)
{
	return n == 1 && pattern[0] == '*';
}

/* Compares n bytes of two names, as strncmp or strncasecmp do. */
typedef int comparison(const char *a, const char *b, size_t n);

/* Returns true if the pattern names the principal. */
static bool
names_principal(const char *pattern, const char *text, comparison *compare)
{
	for (;;) {
		size_t n = component_length(pattern),
		       m = component_length(text);

		if (!is_any(pattern, n) &&
		    (n != m || compare(pattern, text, n) != 0))
			return false;
		pattern += n;
		text += m;
		if (*pattern != *text)
			return false;
		if (*pattern == '\0')
			return true;
		pattern++;
		text++;
	}
}

/*
 * Returns true if krb5_unparse_name(3) could write the text: with a backslash
 * only in these pairs, and without what the letters mean. A pattern of another
 * form would name no principal.
 */
static bool
is_unparsed(const char *text)
{
	static const char pairs[] = "/@\\tnb0", meant[] = "\t\n\b";

	for (; *text != '\0'; text++)
		if (strchr(meant, *text) != NULL ||
		    (*text == '\\' &&
			(*++text == '\0' || strchr(pairs, *text) == NULL)))
			return false;
	return true;
}

/* Returns the mistake in a pattern of principals, or NULL. */
static const char *
find_pattern_mistake(const char *pattern)
{
	bool has_realm = false;

	if (!is_unparsed(pattern))
		return "the principal has a backslash or a control character "
		       "in another place than the log has it";
	for (const char *p = pattern;; p++) {
		size_t n = component_length(p);

		if (n == 0)
			return "the principal has an empty component";
		if (!is_any(p, n) && memchr(p, '*', n) != NULL)
			return "a * in the principal must be a whole component";
		p += n;
		if (*p == '\0')
			return has_realm ? NULL : "the principal has no realm";
		if (has_realm)
			return "the principal has more than one realm";
		has_realm = *p == '@';
	}
}

/* Reads the third word of a line. Returns the mistake, or NULL. */
static const char *
read_right(const char *word, struct access_line *line)
{
	if (word == NULL)
		return "a line is PRINCIPAL USER RIGHT, with blanks between "
		       "them";
	if (strcmp(word, "read") == 0)
		line->right = ACCESS_READ;
	else if (strcmp(word, "full") == 0)
		line->right = ACCESS_FULL;
	else if (strcmp(word, "deny") == 0)
		line->right = ACCESS_DENIED;
	else
		return "the right is not read, full or deny";
	return NULL;
}

/* Reads a word after the third. Returns the mistake, or NULL. */
static const char *
read_condition(const char *word, struct conditions *conditions)
{
	static const size_t n = sizeof(FROM) - 1;
	bool *seen = NULL;

	if (strcmp(word, "tls") == 0)
		seen = &conditions->tls;
	else if (strcmp(word, "layer") == 0)
		seen = &conditions->layer;
	else if (strncmp(word, FROM, n) == 0)
		seen = &conditions->from;
	else
		return "a condition is neither tls, layer nor from";
	if (*seen)
		return "a condition is repeated";
	*seen = true;
	return seen == &conditions->from &&
		networks_read(&conditions->networks, word + n) == -1 ?
	    "from takes up to 32 addresses and networks, with commas" :
	    NULL;
}

/*
 * Decodes a name from the form that the log has. In this form a backslash, a
 * blank or a byte that is not printable is "\ooo", with three octal digits.
 * Returns false if a backslash has another meaning, or encodes a NUL.
 */
static bool
decode_name(char *name)
{
	static const char octal[] = "01234567";

	for (const char *p = name; (p = strchr(p, '\\')) != NULL; p += 4)
		if (p[1] == '\0' || strchr("0123", p[1]) == NULL ||
		    strspn(p + 1, octal) < 3 || strncmp(p + 1, "000", 3) == 0)
			return false;
	return strunvis(name, name) != -1;
}

/*
 * Returns true unless the text has a byte above 0x7f. Such a byte may be
 * invisible, as a byte order mark or a no-break space. A line with it would
 * name another principal than its author reads.
 */
static bool
is_ascii(const char *text)
{
	while (*text != '\0' && (*text & 0x80) == 0)
		text++;
	return *text == '\0';
}

/*
 * Splits a line into its words and checks them. Returns the mistake, or NULL.
 * Changes the text of the line, which *line then uses.
 */
static const char *
read_access_line(char *text, struct access_line *line,
    struct conditions *conditions)
{
	char *principal = root_file_word(&text), *user = root_file_word(&text);
	const char *mistake = read_right(root_file_word(&text), line), *word;

	*conditions = (struct conditions){ .tls = false };
	if (mistake != NULL)
		return mistake;
	if (!is_ascii(principal) || !is_ascii(user))
		return "a byte is not ASCII; the log has it as a backslash "
		       "with 3 octal digits";
	if (!decode_name(principal) || !decode_name(user))
		return "a backslash is not the beginning of 3 octal digits";
	line->principal = principal;
	line->user = user;
	if ((mistake = find_pattern_mistake(principal)) != NULL)
		return mistake;
	if (strlen(user) >= ACCOUNT_NAME)
		return "the user is too long";
	if (strcmp(user, ANY) == 0 && line->right != ACCESS_DENIED)
		return "the user * is only for deny";
	while ((word = root_file_word(&text)) != NULL)
		if (line->right == ACCESS_DENIED)
			return "deny has no condition";
		else if ((mistake = read_condition(word, conditions)) != NULL)
			return mistake;
	line->has_conditions =
	    conditions->tls || conditions->layer || conditions->from;
	return NULL;
}

/*
 * Reads the next line. Returns true, or false at the end of the file. After a
 * mistake returns false and sets f->problem.
 */
static bool
next_rule(struct root_file *f, struct access_line *line,
    struct conditions *conditions)
{
	char *text;

	if (!root_file_line(f, &text) || text == NULL)
		return false;
	line->number = f->line;
	f->problem = read_access_line(text, line, conditions);
	return f->problem == NULL;
}

/* Returns the condition that the login does not meet, or NULL. */
static const char *
find_unmet(const struct conditions *c, const struct access_login *login)
{
	if (login->is_supposed)
		return NULL;
	if (c->tls && !login->has_tls)
		return "the connection has no TLS";
	if (c->layer && !login->has_layer)
		return "the connection has neither TLS nor a layer of GSSAPI";
	if (c->from && login->from == NULL)
		return "the address of the client is not known";
	if (c->from && !networks_include(&c->networks, login->from))
		return "the address of the client is in no network of "
		       "the line";
	return NULL;
}

/* What the lines that were read have decided. */
struct search {
	bool is_decided;
	/* A line differs from the principal only in upper and lower case. */
	bool is_other_case;
};

/*
 * Returns why the line does not give its right to the login, or NULL. After a
 * line that differs only in case, a pattern gives no right. Otherwise it could
 * give another spelling of the principal more than the earlier line gives.
 */
static const char *
find_obstacle(const struct access_line *line, const struct conditions *c,
    const struct access_login *login, struct search *search)
{
	if (line->right == ACCESS_DENIED)
		return "the line denies the principal";
	if (!names_principal(line->principal, login->principal, strncmp))
		search->is_other_case = true;
	if (search->is_other_case &&
	    strcmp(line->principal, login->principal) != 0)
		return "the principal differs from the line in upper and lower "
		       "case";
	return find_unmet(c, login);
}

/*
 * Changes the answer if the line names the login and no earlier line has
 * decided. If no line decides, the first line that names the login gives the
 * reason to deny it.
 */
static void
apply_line(const struct access_line *line, const struct conditions *conditions,
    const struct access_login *login, struct search *search,
    struct access_answer *answer)
{
	const char *why;

	if (search->is_decided ||
	    (strcmp(line->user, ANY) != 0 &&
		strcmp(line->user, login->user) != 0) ||
	    !names_principal(line->principal, login->principal, strncasecmp))
		return;
	why = find_obstacle(line, conditions, login, search);
	search->is_decided = why == NULL || line->right == ACCESS_DENIED;
	if (search->is_decided || answer->right == ACCESS_UNNAMED) {
		answer->line = line->number;
		answer->right = why == NULL ? line->right : ACCESS_DENIED;
		strlcpy(answer->why, why != NULL ? why : "",
		    sizeof(answer->why));
	}
}

/* Stores the mistake that the file has, if it has one. */
static void
report_mistake(const struct root_file *f, struct access_answer *answer)
{
	if (f->problem == NULL)
		return;
	answer->right = ACCESS_MISTAKE;
	answer->line = f->line;
	strlcpy(answer->why, f->problem, sizeof(answer->why));
}

/*
 * Finds the line of the file in memory that decides about the login. Reads all
 * lines, and frees the file.
 */
static void
decide_and_free(struct root_file *f, const struct access_login *login,
    struct access_answer *answer)
{
	struct access_line line;
	struct conditions conditions;
	struct search search = { .is_decided = false };

	*answer = (struct access_answer){ .right = ACCESS_UNNAMED };
	while (next_rule(f, &line, &conditions))
		apply_line(&line, &conditions, login, &search, answer);
	report_mistake(f, answer);
	root_file_free(f);
}

void
access_load(struct root_file *f, const char *named)
{
	root_file_read(f, access_path(named), ACCESS_KIB, named == NULL);
}

void
access_find(const struct root_file *f, const struct access_login *login,
    struct access_answer *answer)
{
	struct root_file copy;

	root_file_copy(&copy, f);
	decide_and_free(&copy, login, answer);
}

void
access_decide(const char *named, const struct access_login *login,
    struct access_answer *answer)
{
	struct root_file f;

	access_load(&f, named);
	decide_and_free(&f, login, answer);
}

void
access_each(const struct root_file *f,
    void (*each)(void *self, const struct access_line *line), void *self,
    struct access_answer *answer)
{
	struct root_file copy;
	struct access_line line;
	struct conditions conditions;

	*answer = (struct access_answer){ .right = ACCESS_UNNAMED };
	root_file_copy(&copy, f);
	while (next_rule(&copy, &line, &conditions))
		each(self, &line);
	report_mistake(&copy, answer);
	root_file_free(&copy);
}
