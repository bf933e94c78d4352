/*
 * Keeps a snapshot of krb5.conf, which libkrb5 then uses in place of the files.
 *
 * Runs as root when the snapshot is made. The lookups in the snapshot run in
 * every process. libkrb5's own profile checks the files at each lookup, and
 * treats a file that it cannot read as empty. So the pre-auth process would
 * lose permitted_enctypes in its jail. While an editor saves krb5.conf, a
 * session would lose auth_to_local. libkrb5's default rule could then permit
 * more principals.
 *
 * The snapshot has each relation with its values, as libprofile has merged them
 * from all files. No function here opens a file; tests/tools/walls checks that.
 */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth-krb5conf.h"

/*
 * The most names of a relation: those of its sections, and its own.
 * krb5.conf(5) has at most three levels of sections.
 */
#define DEPTH 8
#define FIRST_ROOM 16 /* relations */

struct relation {
	/* the outermost section first; ends with NULL */
	char *names[DEPTH + 1];
	char **values;
};

struct krb5conf {
	size_t count, room;
	struct relation *relations;
};

/* Returns true if both lists have the same names. */
static bool
has_names(char *const *a, const char *const *b)
{
	while (*a != NULL && *b != NULL && strcmp(*a, *b) == 0)
		a++, b++;
	return *a == NULL && *b == NULL;
}

/* Finds the relation with these names. Returns it, or NULL. */
static struct relation *
find_relation(const struct krb5conf *c, const char *const *names)
{
	for (size_t i = 0; i < c->count; i++)
		if (has_names(c->relations[i].names, names))
			return &c->relations[i];
	return NULL;
}

/*
 * Frees a list that ends with NULL. The pointer to the list may also be NULL.
 */
static void
free_list(char **list)
{
	for (char **p = list; p != NULL && *p != NULL; p++)
		free(*p);
	free(list);
}

/*
 * Copies a list that ends with NULL. *to is the copy, which the caller frees by
 * free_list; NULL after a failure. Returns 0 or ENOMEM.
 */
static long
copy_list(char *const *from, char ***to)
{
	size_t n = 0;

	while (from[n] != NULL)
		n++;
	if ((*to = calloc(n + 1, sizeof(char *))) == NULL)
		return ENOMEM;
	for (size_t i = 0; i < n; i++)
		if (((*to)[i] = strdup(from[i])) == NULL) {
			free_list(*to);
			*to = NULL;
			return ENOMEM;
		}
	return 0;
}

/*
 * Adds a relation with all its values, unless the snapshot already has it. If
 * krb5.conf has a section twice, libprofile lists the relations of the section
 * twice. Returns 0 or an error.
 */
static long
add_relation(struct krb5conf *c, profile_t profile, const char **names)
{
	struct relation r = { .values = NULL };
	char **values;
	long problem;

	if (find_relation(c, names) != NULL)
		return 0;
	if (c->count == c->room) {
		size_t room = c->room * 2 + FIRST_ROOM;
		struct relation *more =
		    reallocarray(c->relations, room, sizeof(*more));

		if (more == NULL)
			return ENOMEM;
		c->relations = more;
		c->room = room;
	}
	if ((problem = profile_get_values(profile, names, &values)) != 0)
		return problem == PROF_NO_RELATION ? 0 : problem;
	problem = copy_list(values, &r.values);
	profile_free_list(values);
	for (int i = 0; problem == 0 && names[i] != NULL; i++)
		if ((r.names[i] = strdup(names[i])) == NULL)
			problem = ENOMEM;
	c->relations[c->count++] = r;
	return problem;
}

/*
 * Adds all relations of a section and of its subsections. names[0] to
 * names[depth - 1] are the names that lead to the section. Returns 0 or an
 * error.
 */
static long
read_section(struct krb5conf *c, profile_t profile, const char **names,
    int depth)
{
	char **relations = NULL, **sections = NULL;
	long problem;

	if (depth == DEPTH)
		return PROF_SECTION_SYNTAX;
	names[depth] = NULL;
	problem = profile_get_relation_names(profile, names, &relations);
	if (problem == 0)
		problem =
		    profile_get_subsection_names(profile, names, &sections);
	names[depth + 1] = NULL;
	for (char **p = relations; problem == 0 && *p != NULL; p++) {
		names[depth] = *p;
		problem = add_relation(c, profile, names);
	}
	for (char **p = sections; problem == 0 && *p != NULL; p++) {
		names[depth] = *p;
		problem = read_section(c, profile, names, depth + 1);
	}
	profile_free_list(relations);
	profile_free_list(sections);
	return problem;
}

/*
 * Copies the values of a relation, for libprofile. Returns 0 or an error of
 * libprofile.
 */
static long
get_values(void *self, const char *const *names, char ***values)
{
	const struct relation *r = find_relation(self, names);

	return r != NULL ? copy_list(r->values, values) : PROF_NO_RELATION;
}

/* Frees what get_values has copied. */
static void
free_values(void *self, char **values)
{
	(void)self;
	free_list(values);
}

bool
krb5conf_is_empty(const struct krb5conf *c)
{
	return c->count == 0;
}

/* Writes a value in quotation marks, with the escapes that libprofile reads. */
static void
write_value(FILE *to, const char *value)
{
	static const char special[] = "\n\t\b\"\\", letters[] = "ntb\"\\";
	const char *which;

	putc('"', to);
	for (; *value != '\0'; value++)
		if ((which = strchr(special, *value)) != NULL)
			fprintf(to, "\\%c", letters[which - special]);
		else
			putc(*value, to);
	putc('"', to);
}

/*
 * Writes one value of a relation within its sections. libprofile merges
 * sections that have the same name.
 */
static void
write_relation(FILE *to, char *const *names, const char *value)
{
	int depth = 1;

	fprintf(to, "[%s]\n", names[0]);
	for (; names[depth + 1] != NULL; depth++)
		fprintf(to, "%s = {\n", names[depth]);
	fprintf(to, "%s = ", names[depth]);
	write_value(to, value);
	putc('\n', to);
	while (--depth > 0)
		fprintf(to, "}\n");
}

char *
krb5conf_text(const struct krb5conf *c)
{
	char *text;
	size_t size;
	FILE *to = open_memstream(&text, &size);
	bool failed;

	if (to == NULL)
		return NULL;
	for (size_t i = 0; i < c->count; i++)
		for (char **value = c->relations[i].values; *value != NULL;
		     value++)
			write_relation(to, c->relations[i].names, *value);
	failed = ferror(to) != 0;
	if (fclose(to) == 0 && !failed)
		return text;
	free(text);
	return NULL;
}

void
krb5conf_free(struct krb5conf *c)
{
	for (size_t i = 0; i < c->count; i++) {
		for (char **p = c->relations[i].names; *p != NULL; p++)
			free(*p);
		free_list(c->relations[i].values);
	}
	free(c->relations);
	free(c);
}

long
krb5conf_read(profile_t profile, struct krb5conf **c, profile_t *snapshot)
{
	static struct profile_vtable table = { .minor_ver = 1,
		.get_values = get_values,
		.free_values = free_values };
	const char *names[DEPTH + 1];
	long problem;

	if ((*c = calloc(1, sizeof(**c))) == NULL)
		return ENOMEM;
	problem = read_section(*c, profile, names, 0);
	if (problem == 0)
		problem = profile_init_vtable(&table, *c, snapshot);
	if (problem != 0)
		krb5conf_free(*c);
	return problem;
}
