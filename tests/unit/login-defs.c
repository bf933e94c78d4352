/*
 * Tests login-defs.c: which lines of login.defs count, and the default.
 *
 * Runs as any user.
 */
#include "config.h"

#include <sys/stat.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "login-defs.h"
#include "tests/unit/check.h"

static char path[] = "/tmp/kpopd-login-defs.XXXXXX";

/* Returns the smallest uid if login.defs has these n bytes. */
static uid_t
with_bytes(const char *text, size_t n)
{
	int fd = open(path, O_WRONLY | O_TRUNC);

	CHECK(fd != -1 && write(fd, text, n) == (ssize_t)n && close(fd) == 0);
	return login_defs_uid_min(path);
}

static uid_t
with(const char *text)
{
	return with_bytes(text, strlen(text));
}

static void
lines(void)
{
	CHECK(with("UID_MIN 500\n") == 500);
	CHECK(with("UID_MIN\t\t\t 500\n") == 500);
	CHECK(with("# text\nUID_MAX 60000\n\n  UID_MIN \"2000\" \r\n") == 2000);
	CHECK(with("UID_MIN 500\nSYS_UID_MIN 100\nSUB_UID_MIN 100000\n") ==
	    500);
	CHECK(with("UID_MINIMUM 7\nUID_MIN 4294967293\n") == 4294967293);
	/* Of two lines the last one counts, as for useradd. */
	CHECK(with("UID_MIN 500\nUID_MIN 600\n") == 600);
}

static void
odd(void)
{
	static const char *const texts[] = { "", "\n", "UID_MIN", "UID_MIN\n",
		"UID_MIN \n", "#UID_MIN 500\n", "# UID_MIN 500\n",
		"XUID_MIN 500\n", "UID_MIN=500\n", "UID_MIN 0\n",
		"UID_MIN -500\n", "UID_MIN 0x1F4\n", "UID_MIN 500 # text\n",
		"UID_MIN 500 600\n", "UID_MIN 4294967294\n",
		"UID_MIN 99999999999999999999999\n",
		"UID_MIN 500\nUID_MIN many\n" };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		CHECK(with(texts[i]) == 1000);
	/* What may be cut off from a larger number does not lower the bound. */
	CHECK(with("UID_MIN 1") == 1000);
	CHECK(with("UID_MIN 2000\nUID_MIN 200") == 2000);
	CHECK(with("UID_MIN 500\nUID_MIN 60") == 500);
	CHECK(with("UID_MIN 5000") == 5000);
	/* A NUL ends the text. */
	CHECK(with_bytes("UID_MIN 50\0000\n", 13) == 1000);
	CHECK(with_bytes("\0UID_MIN 500\n", 13) == 1000);
}

/*
 * Only 64 KiB are read. A line that continues after them may have a number that
 * is cut off. Such a number does not lower the result.
 */
static void
large(void)
{
	static char text[70000];
	const size_t most = 65536, n = strlen("UID_MIN 500\n");

	memset(text, '\n', sizeof(text));
	memcpy(text + most - n, "UID_MIN 500\n", n);
	CHECK(with_bytes(text, sizeof(text)) == 500);
	memset(text, '\n', sizeof(text));
	memcpy(text + most - n + 1, "UID_MIN 500\n", n);
	CHECK(with_bytes(text, sizeof(text)) == 1000);
	memset(text, '\n', sizeof(text));
	memcpy(text + most, "UID_MIN 500\n", n);
	CHECK(with_bytes(text, sizeof(text)) == 1000);
}

/* What is no file does not block and has no value. */
static void
others(void)
{
	CHECK(unlink(path) == 0 && login_defs_uid_min(path) == 1000);
	CHECK(login_defs_uid_min("/") == 1000);
	CHECK(mkfifo(path, 0600) == 0 && login_defs_uid_min(path) == 1000);
	CHECK(unlink(path) == 0);
}

int
main(void)
{
	int fd = mkstemp(path);

	CHECK(fd != -1 && close(fd) == 0);
	lines();
	odd();
	large();
	others();
	return 0;
}
