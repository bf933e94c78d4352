/*
 * Answers what logins may do by an access file: access-ask FILE.
 *
 * Each line of standard input is a login: principal, user, the client's address
 * with its port ("-" if it is not known), and the layer: "none", "layer" or
 * "tls". The words are separated by tabs. The answer is a line with the right.
 * tests/programs/access-storm.py runs it.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "access.h"
#include "address.h"

/* Prints what the login in this line may do. Returns false if it is none. */
static bool
answer_line(const char *file, char *line)
{
	static const char *const rights[] = { [ACCESS_UNNAMED] = "unnamed",
		[ACCESS_READ] = "read",
		[ACCESS_FULL] = "full",
		[ACCESS_DENIED] = "deny",
		[ACCESS_MISTAKE] = "mistake" };
	const char *principal = strsep(&line, "\t"),
		   *user = strsep(&line, "\t"), *from = strsep(&line, "\t"),
		   *layer = strsep(&line, "\n");
	struct access_login login = { .principal = principal, .user = user };
	struct sockaddr_storage address;
	struct access_answer answer;

	if (layer == NULL)
		return false;
	login.has_tls = strcmp(layer, "tls") == 0;
	login.has_layer = strcmp(layer, "none") != 0;
	if (strcmp(from, "-") != 0) {
		if (address_read(from, &address) == -1)
			return false;
		login.from = &address;
	}
	access_decide(file, &login, &answer);
	return puts(rights[answer.right]) >= 0 && fflush(stdout) == 0;
}

int
main(int argc, char **argv)
{
	char line[4096];

	if (argc != 2)
		return 2;
	while (fgets(line, sizeof(line), stdin) != NULL)
		if (!answer_line(argv[1], line))
			return 1;
	return 0;
}
