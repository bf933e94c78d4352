/*
 * Reads the smallest uid of users from login.defs, as useradd(8) has it.
 *
 * Runs as root, in main, when the options are read. The file is root's. A
 * package may have been built on a machine with another value, so it is read
 * here and not when kpopd is built.
 */
#include "config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account.h"
#include "login-defs.h"

#define TEXT_MOST 65536 /* bytes of the file that are read, at most */
#define DEFAULT_UID_MIN 1000

/*
 * Returns the value of a line whose name is UID_MIN: a decimal number, perhaps
 * in quotes. If it is anything else, returns the default, as useradd(8) does.
 */
static uid_t
parse_uid_min(char *value)
{
	const char *problem;
	long long number;
	size_t digits;

	value += strspn(value, " \t\"");
	digits = strspn(value, "0123456789");
	if (value[digits + strspn(value + digits, " \t\r\"")] != '\0')
		return DEFAULT_UID_MIN;
	value[digits] = '\0';
	number = strtonum(value, 1, ACCOUNT_UID_MOST, &problem);
	return problem == NULL ? (uid_t)number : DEFAULT_UID_MIN;
}

/*
 * Returns the value in a line if its name is UID_MIN, else NULL. Blanks may
 * come first.
 */
static char *
find_value(char *line)
{
	static const char name[] = "UID_MIN";
	const size_t n = sizeof(name) - 1;

	while (*line == ' ' || *line == '\t')
		line++;
	return *line == *name && strncmp(line, name, n) == 0 &&
		(line[n] == ' ' || line[n] == '\t') ?
	    line + n :
	    NULL;
}

/*
 * The last line with the name counts. If a line has no end, because the file is
 * incomplete or longer than what is read, its number may be cut off, so it does
 * not lower the result.
 */
uid_t
login_defs_uid_min(const char *path)
{
	static char text[TEXT_MOST + 1];
	char *value;
	uid_t uid_min = DEFAULT_UID_MIN, number;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	ssize_t n = fd != -1 ? read(fd, text, TEXT_MOST) : -1;

	if (fd != -1)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	for (char *line = text, *end; line != NULL; line = end) {
		if ((end = strchr(line, '\n')) != NULL)
			*end++ = '\0';
		if ((value = find_value(line)) == NULL)
			continue;
		number = parse_uid_min(value);
		if (end != NULL || number > uid_min)
			uid_min = number;
	}
	return uid_min;
}
