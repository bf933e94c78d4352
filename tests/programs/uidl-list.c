/*
 * Writes a line of a list of unique ids for the message in standard input:
 * uidl-list [-b] ID. With -b the line has the hash of the body.
 */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "uidl-hash.h"

int
main(int argc, char **argv)
{
	static char bytes[65536];
	char header[UIDL_HASH_TEXT + 1], body[17] = "-";
	struct uidl_hash h;
	size_t n;

	if (argc < 2)
		return 2;
	uidl_hash_begin(&h);
	while ((n = fread(bytes, 1, sizeof(bytes), stdin)) > 0)
		uidl_hash_add(&h, bytes, n);
	uidl_hash_end(&h);
	uidl_write(h.header, header);
	if (strcmp(argv[1], "-b") == 0)
		snprintf(body, sizeof(body), "%016" PRIx64, h.body);
	printf("%s %s %s\n", header, body, argv[argc - 1]);
	return 0;
}
