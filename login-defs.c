/*
 * Reads UID_MIN, the smallest uid of users, from login.defs as useradd(8) does.
 *
 * Runs as root, when the options are read: in main, and in the listener at
 * SIGHUP. The file is root's. The value is not read when kpopd is built,
 * because the package may have been built on a machine with another value.
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
 * Returns the number in value, which is the part of a UID_MIN line after the
 * name. The number is decimal, perhaps in quotes. If the value is anything
 * else, returns the default, as useradd(8) does.
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
 * Returns the part of a line after the name UID_MIN, or NULL if the line does
 * not have this name. Blanks may precede the name.
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
 * The last line with the name counts. A line has no end if the file is
 * incomplete, or longer than what is read. The number in such a line can only
 * raise the result, because the number may be cut off.
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
