/*
 * Prints the lines of kpopd --check, as text or as JSON.
 *
 * Runs as root in kpopd-check, and as a user in its child (check_as_user).
 */
#include "config.h"

#include <sys/wait.h>

#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "process.h"

#define TEXT 1024 /* bytes of a text with its NUL; the rest is left out */

static const char *const verdicts[] = {
	[CHECK_OK] = "ok", [CHECK_WARN] = "warn", [CHECK_FAIL] = "FAIL"
};

const char *
check_remedy(struct check *c, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(c->remedy, sizeof(c->remedy), format, arguments);
	va_end(arguments);
	return c->remedy;
}

/*
 * Prints a text. Prints each byte that could change what a terminal shows, or
 * begin another line, as a backslash and three octal digits. A backslash stays
 * as it is, because remedies have some.
 */
static void
print_text(const char *text)
{
	for (const char *p = text; *p != '\0' && p < text + TEXT; p++)
		if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
			printf("\\%03o", (unsigned char)*p);
		else
			putchar(*p);
}

/* Prints ,"key":"text" for JSON (RFC 8259). */
static void
print_member(const char *key, const char *text)
{
	printf(",\"%s\":\"", key);
	for (const char *p = text; *p != '\0' && p < text + TEXT; p++)
		if (*p == '"' || *p == '\\')
			printf("\\%c", *p);
		else if ((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e)
			printf("\\u00%02x", (unsigned char)*p);
		else
			putchar(*p);
	putchar('"');
}

static void
print_json(enum check_verdict verdict, const char *kind, const char *name,
    const char *found, const char *remedy)
{
	printf("{\"verdict\":\"%s\"", verdicts[verdict]);
	print_member("kind", kind);
	if (name != NULL)
		print_member("name", name);
	print_member("found", found);
	if (remedy != NULL)
		print_member("remedy", remedy);
	printf("}\n");
}

static void
print_line(enum check_verdict verdict, const char *kind, const char *name,
    const char *found, const char *remedy)
{
	printf("%-4s  %s", verdicts[verdict], kind);
	if (name != NULL) {
		putchar(' ');
		print_text(name);
	}
	printf(": ");
	print_text(found);
	if (remedy != NULL) {
		printf(". Remedy: ");
		print_text(remedy);
	}
	putchar('\n');
}

static void print(struct check *c, enum check_verdict verdict, const char *kind,
    const char *name, const char *remedy, const char *format, va_list arguments)
    __attribute__((format(printf, 6, 0)));

static void
print(struct check *c, enum check_verdict verdict, const char *kind,
    const char *name, const char *remedy, const char *format, va_list arguments)
{
	char found[TEXT];

	if (verdict > c->worst)
		c->worst = verdict;
	vsnprintf(found, sizeof(found), format, arguments);
	if (c->json)
		print_json(verdict, kind, name, found, remedy);
	else
		print_line(verdict, kind, name, found, remedy);
	fflush(stdout);
}

void
check_ok(struct check *c, const char *kind, const char *name,
    const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print(c, CHECK_OK, kind, name, NULL, format, arguments);
	va_end(arguments);
}

void
check_warn(struct check *c, const char *kind, const char *name,
    const char *remedy, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print(c, CHECK_WARN, kind, name, remedy, format, arguments);
	va_end(arguments);
}

void
check_fail(struct check *c, const char *kind, const char *name,
    const char *remedy, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	print(c, CHECK_FAIL, kind, name, remedy, format, arguments);
	va_end(arguments);
}

/* Child: becomes the account's user, and runs the check. */
static _Noreturn void
run_as_user(struct check *c, void (*run)(struct check *c))
{
	const struct account *a = &c->account;

	c->worst = CHECK_OK;
	if (initgroups(a->name, a->gid) == -1 ||
	    setresgid(a->gid, a->gid, a->gid) == -1 ||
	    setresuid(a->uid, a->uid, a->uid) == -1)
		check_fail(c, "user", a->name, NULL,
		    "this process cannot become the user: %m");
	else
		run(c);
	_exit((int)c->worst);
}

/*
 * Waits for a child, whose exit status is the worst of its verdicts. Returns
 * false if the child did not end by itself, or if there is none (-1).
 */
static bool
await_child(struct check *c, pid_t child)
{
	int status;

	if (child == -1 || process_wait(child, &status, 0) == -1 ||
	    !WIFEXITED(status) || WEXITSTATUS(status) > CHECK_FAIL)
		return false;
	if (WEXITSTATUS(status) > (int)c->worst)
		c->worst = (enum check_verdict)WEXITSTATUS(status);
	return true;
}

void
check_as_user(struct check *c, void (*run)(struct check *c))
{
	pid_t child = fork();

	if (child == 0)
		run_as_user(c, run);
	if (!await_child(c, child))
		check_fail(c, "user", c->account.name, NULL,
		    "the check as the user did not end");
}

bool
check_in_child(struct check *c, unsigned seconds, void (*run)(struct check *c))
{
	pid_t child = fork();

	if (child == 0) {
		alarm(seconds);
		c->worst = CHECK_OK;
		run(c);
		_exit((int)c->worst);
	}
	return await_child(c, child);
}
