/*
 * Tests exposure.c: when a warning about a key is repeated, and which groups
 * are warned about.
 *
 * Runs as any user. The linker replaces stat by a function below (--wrap),
 * which reports the status of a key; log_event is this file's own.
 */
#include "config.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "exposure.h"
#include "log.h"
#include "tests/unit/check.h"

static char directory[] = "/tmp/kpopd-exposure.XXXXXX";
static struct stat key;
static unsigned warnings;

int __wrap_stat(const char *, struct stat *);
int
__wrap_stat(const char *path, struct stat *st)
{
	(void)path;
	*st = key;
	return 0;
}

void
log_event(int priority, const char *event, const char *format, ...)
{
	(void)priority, (void)event, (void)format;
	warnings++;
}

const char *
log_words(struct log_text *t, const char *text)
{
	strlcpy(t->text, text, sizeof(t->text));
	return t->text;
}

/* Returns how often n connections warn. */
static unsigned
warn(int n)
{
	const struct exposure_place place = { .state = directory,
		.least_user = 1000 };

	for (warnings = 0; n > 0; n--)
		exposure_warn(&place, "keytab", "/key");
	return warnings;
}

static void
groups(void)
{
	const struct {
		gid_t gid;
		mode_t mode;
		bool is_exposed;
	} cases[] = { { 0, 0660, false }, { 99, 0640, false },
		{ 99, 0660, true }, { 100, 0640, true }, { 999, 0640, false },
		{ 1000, 0640, true }, { 0, 0604, true }, { 0, 0602, true } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		key = (struct stat){ .st_mode = S_IFREG | cases[i].mode,
			.st_gid = cases[i].gid };
		unlink("exposed.keytab");
		CHECK(warn(1) == cases[i].is_exposed);
	}
}

/* A change of the key, at a time of which the clock has not come yet. */
static void
future(void)
{
	key = (struct stat){ .st_mode = S_IFREG | 0644 };
	clock_gettime(CLOCK_REALTIME, &key.st_ctim);
	key.st_ctim.tv_sec += 1000000;
	unlink("exposed.keytab");
	CHECK(warn(3) == 1);
}

/* A change warns once, and so does an hour. */
static void
repeats(void)
{
	struct timespec times[2];

	key = (struct stat){ .st_mode = S_IFREG | 0644 };
	unlink("exposed.keytab");
	CHECK(warn(3) == 1);
	clock_gettime(CLOCK_REALTIME, &times[1]);
	times[1].tv_sec -= 100;
	times[0] = times[1];
	CHECK(utimensat(AT_FDCWD, "exposed.keytab", times, 0) == 0);
	CHECK(warn(3) == 0);
	key.st_ctim = times[1];
	key.st_ctim.tv_sec++;
	CHECK(warn(3) == 1 && warn(3) == 0);
	times[1].tv_sec -= 3600;
	CHECK(utimensat(AT_FDCWD, "exposed.keytab", times, 0) == 0);
	CHECK(warn(3) == 1);
}

int
main(void)
{
	CHECK(mkdtemp(directory) != NULL && chdir(directory) == 0);
	groups();
	repeats();
	future();
	CHECK(unlink("exposed.keytab") == 0 && rmdir(directory) == 0);
	return 0;
}
