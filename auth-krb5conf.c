/*
 * krb5.conf as it was when it was read: a profile that no file changes any more.
 *
 * Read as root, before anybody else is served; used by all. libkrb5's own
 * profile looks at its files again whenever it is asked, and goes on as if
 * they were empty when it cannot see them: in the pre-auth process's jail
 * permitted_enctypes would be gone, and in the session, while somebody saves
 * krb5.conf, auth_to_local, for which a wider rule holds. This one has each
 * relation with its values, as libprofile put them together from all files.
 */
#include "config.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth-krb5conf.h"

/* Sections in sections; krb5.conf(5) has at most three. */
#define DEPTH 8

struct relation {
	char *names[DEPTH + 1]; /* from the outermost section; NULL ends them */
	char **values;
};

struct krb5conf {
	size_t count, room;
	struct relation *relations;
};

static bool
is_same(char *const *a, const char *const *b)
{
	while (*a != NULL && *b != NULL && strcmp(*a, *b) == 0)
		a++, b++;
	return *a == NULL && *b == NULL;
}

static struct relation *
find(const struct krb5conf *s, const char *const *names)
{
	for (size_t i = 0; i < s->count; i++)
		if (is_same(s->relations[i].names, names))
			return &s->relations[i];
	return NULL;
}

static void
free_list(char **list)
{
	for (char **p = list; p != NULL && *p != NULL; p++)
		free(*p);
	free(list);
}

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
			return ENOMEM;
		}
	return 0;
}

/* One relation with all its values. A section that is written twice brings it twice. */
static long
add(struct krb5conf *s, profile_t profile, const char **names)
{
	struct relation r = { .values = NULL };
	char **values;
	long problem;

	if (find(s, names) != NULL)
		return 0;
	if (s->count == s->room) {
		size_t room = s->room * 2 + 16;
		struct relation *more = reallocarray(s->relations, room, sizeof(*more));

		if (more == NULL)
			return ENOMEM;
		s->relations = more;
		s->room = room;
	}
	if ((problem = profile_get_values(profile, names, &values)) != 0)
		return problem == PROF_NO_RELATION ? 0 : problem;
	problem = copy_list(values, &r.values);
	profile_free_list(values);
	for (int i = 0; problem == 0 && names[i] != NULL; i++)
		if ((r.names[i] = strdup(names[i])) == NULL)
			problem = ENOMEM;
	s->relations[s->count++] = r;
	return problem;
}

/* All that is in a section, names[depth - 1] being the innermost. */
static long
read_section(struct krb5conf *s, profile_t profile, const char **names, int depth)
{
	char **relations = NULL, **sections = NULL;
	long problem;

	if (depth == DEPTH)
		return PROF_SECTION_SYNTAX;
	names[depth] = NULL;
	problem = profile_get_relation_names(profile, names, &relations);
	if (problem == 0)
		problem = profile_get_subsection_names(profile, names, &sections);
	names[depth + 1] = NULL;
	for (char **p = relations; problem == 0 && *p != NULL; p++) {
		names[depth] = *p;
		problem = add(s, profile, names);
	}
	for (char **p = sections; problem == 0 && *p != NULL; p++) {
		names[depth] = *p;
		problem = read_section(s, profile, names, depth + 1);
	}
	profile_free_list(relations);
	profile_free_list(sections);
	return problem;
}

static long
get_values(void *self, const char *const *names, char ***values)
{
	const struct relation *r = find(self, names);

	return r != NULL ? copy_list(r->values, values) : PROF_NO_RELATION;
}

static void
free_values(void *self, char **values)
{
	(void)self;
	free_list(values);
}

bool
krb5conf_none(const struct krb5conf *s)
{
	return s->count == 0;
}

/* In quotation marks, as libprofile reads them. */
static void
write_value(FILE *to, const char *value)
{
	static const char plain[] = "\n\t\b\"\\", letters[] = "ntb\"\\";
	const char *which;

	putc('"', to);
	for (; *value != '\0'; value++)
		if ((which = strchr(plain, *value)) != NULL)
			fprintf(to, "\\%c", letters[which - plain]);
		else
			putc(*value, to);
	putc('"', to);
}

/* One value in its sections, which libprofile joins with those of the same names. */
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
krb5conf_text(const struct krb5conf *s)
{
	char *text;
	size_t size;
	FILE *to = open_memstream(&text, &size);
	bool failed;

	if (to == NULL)
		return NULL;
	for (size_t i = 0; i < s->count; i++)
		for (char **value = s->relations[i].values; *value != NULL; value++)
			write_relation(to, s->relations[i].names, *value);
	failed = ferror(to) != 0;
	if (fclose(to) == 0 && !failed)
		return text;
	free(text);
	return NULL;
}

void
krb5conf_free(struct krb5conf *s)
{
	for (size_t i = 0; i < s->count; i++) {
		for (char **p = s->relations[i].names; *p != NULL; p++)
			free(*p);
		free_list(s->relations[i].values);
	}
	free(s->relations);
	free(s);
}

long
krb5conf_read(profile_t profile, struct krb5conf **s, profile_t *kept)
{
	static struct profile_vtable table = { .minor_ver = 1,
		.get_values = get_values, .free_values = free_values };
	const char *names[DEPTH + 1];
	long problem;

	if ((*s = calloc(1, sizeof(**s))) == NULL)
		return ENOMEM;
	problem = read_section(*s, profile, names, 0);
	if (problem == 0)
		problem = profile_init_vtable(&table, *s, kept);
	if (problem != 0)
		krb5conf_free(*s);
	return problem;
}
