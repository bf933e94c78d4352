/* Unit tests of log.c: nothing from outside reaches syslog raw. Runs as anybody. */
#include "config.h"

#include <string.h>

#include "log.h"
#include "tests/unit/check.h"

int
main(void)
{
	struct log_text t;
	char all[256], long_one[1000];

	for (int i = 0; i < 255; i++)
		all[i] = (char)(i + 1);
	all[255] = '\0';
	for (const char *p = all; *p != '\0'; p += strlen(p) < LOG_SHOWN ? strlen(p) : LOG_SHOWN)
		for (const char *q = log_safe(&t, p); *q != '\0'; q++)
			CHECK(*q > ' ' && *q < 0x7f && *q != '"');
	CHECK(strcmp(log_safe(&t, "alice@EXAMPLE.COM"), "alice@EXAMPLE.COM") == 0);
	CHECK(strcmp(log_safe(&t, "a b\n\"\\"), "a\\040b\\012\\042\\134") == 0 ||
	    strcmp(log_safe(&t, "a b\n\"\\"), "a\\040b\\012\\042\\\\") == 0);
	CHECK(strcmp(log_words(&t, "No key \"x\"\r"), "No key \\042x\\042\\015") == 0);

	memset(long_one, 'x', sizeof(long_one) - 1);
	long_one[sizeof(long_one) - 1] = '\0';
	CHECK(strlen(log_safe(&t, long_one)) == LOG_SHOWN);
	memset(long_one, '\n', sizeof(long_one) - 1);
	CHECK(strlen(log_safe(&t, long_one)) == 4 * LOG_SHOWN);
	return 0;
}
