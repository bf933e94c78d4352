/*
 * Tests access.c: which line decides about a login, and every mistake that a
 * line may have.
 *
 * Runs as any user: that user's files seem to belong to root (owner.c).
 */
#include "config.h"

#include <sys/stat.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "access.h"
#include "account.h"
#include "address.h"
#include "root-file.h"
#include "tests/unit/check.h"

static char path[] = "/tmp/kpopd-access.XXXXXX";
static struct access_login login;
static struct access_answer answer;

/* Writes the file, with a time that is long ago: the writer has finished. */
static void
put(const char *text)
{
	struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	ssize_t n = (ssize_t)strlen(text);

	CHECK(fd != -1 && write(fd, text, (size_t)n) == n);
	CHECK(futimens(fd, times) == 0 && close(fd) == 0);
}

/* Returns the right of a login as alice by these lines. */
static enum access_right
right_of(const char *principal, const char *lines)
{
	login.principal = principal;
	login.user = "alice";
	put(lines);
	access_decide(path, &login, &answer);
	return answer.right;
}

/* Returns true if a line with this principal names a login of `principal`. */
static bool
names(const char *pattern, const char *principal)
{
	char line[256];

	snprintf(line, sizeof(line), "%s alice full\n", pattern);
	return right_of(principal, line) == ACCESS_FULL;
}

static void
patterns(void)
{
	CHECK(names("alice@R", "alice@R"));
	CHECK(!names("alice@R", "alice@RR") && !names("alice@RR", "alice@R"));
	CHECK(!names("alice@R", "alicex@R") && !names("alice@R", "a@R"));
	CHECK(names("alice/cron@R", "alice/cron@R"));
	CHECK(!names("alice@R", "alice/cron@R"));
	CHECK(!names("alice/cron@R", "alice@R"));
	CHECK(names("*@R", "alice@R") && names("*@*", "alice@R"));
	CHECK(!names("*@R", "alice/cron@R") && !names("*/*@R", "alice@R"));
	CHECK(names("*/cron@R", "alice/cron@R"));
	CHECK(names("alice/*@*", "alice/cron@R"));
	CHECK(!names("*/cron@R", "alice/cron/x@R"));
	CHECK(!names("*/cron@R", "alice/admin@R"));
	CHECK(names("*@R", "*@R"));
	/* An empty component and an empty realm are components, too. */
	CHECK(names("*/*@*", "alice/@") && !names("*@*", "alice/@"));
	/* The text escapes "/", "@" and "\"; vis(3) encodes the backslash. */
	CHECK(names("a\\134/b@R", "a\\/b@R") && !names("a/b@R", "a\\/b@R"));
	CHECK(!names("*/*@R", "a\\/b@R") && names("*@R", "a\\/b@R"));
	CHECK(names("a\\134@b@R", "a\\@b@R") && names("*@R", "a\\@b@R"));
	CHECK(!names("*@b@R", "a\\@b@R"));
	CHECK(names("a\\134\\134@R", "a\\\\@R"));
	CHECK(names("a\\040b@R", "a b@R"));
	CHECK(names("a\\134tb@R", "a\\tb@R"));
	CHECK(names("\\303\\274@R", "\xc3\xbc@R"));
	/* What a compromised pre-auth process may send as a principal. */
	CHECK(!names("alice@R", "") && !names("*@*", "alice"));
	CHECK(!names("*@*", "alice@R@S") && !names("*@R", "alice@R\\"));
}

/* Two spellings of a principal have the same right only if that is none. */
static void
cases(void)
{
	CHECK(right_of("Alice@R", "alice@R alice full\n") == ACCESS_DENIED);
	CHECK(right_of("alice@r", "alice@R alice read\n") == ACCESS_DENIED);
	CHECK(right_of("ALICE@R", "alice@R * deny\n") == ACCESS_DENIED);
	CHECK(right_of("Alice@R",
		  "alice@R alice full\n"
		  "Alice@R alice read\n") == ACCESS_READ &&
	    answer.line == 2);
	CHECK(right_of("Alice@R", "alice@R Alice full\n") == ACCESS_UNNAMED);
	/* Another spelling gets no right by a pattern, either. */
	CHECK(right_of("Alice@R",
		  "alice@R alice read\n"
		  "*@R alice full\n") == ACCESS_DENIED &&
	    answer.line == 1);
	CHECK(right_of("alice@R",
		  "alice@R alice read\n"
		  "*@R alice full\n") == ACCESS_READ);
	CHECK(right_of("bob@R",
		  "alice@R alice read\n"
		  "*@R alice full\n") == ACCESS_FULL);
}

static void
order(void)
{
	CHECK(right_of("a@R", "# nothing\n") == ACCESS_UNNAMED);
	CHECK(right_of("a@R", "b@R alice full\na@R bob full\n") ==
	    ACCESS_UNNAMED);
	CHECK(right_of("a@R",
		  "\n# x\na@R alice read\na@R alice full\n*@* * deny\n") ==
		ACCESS_READ &&
	    answer.line == 3 && answer.why[0] == '\0');
	CHECK(right_of("a@R", "*@R * deny\na@R alice full\n") ==
		ACCESS_DENIED &&
	    answer.line == 1);
	CHECK(right_of("a@R", "a@R * deny\n") == ACCESS_DENIED);
	/* A user's name may be any text. */
	login.user = "a b";
	put("a@R a\\040b full\n");
	access_decide(path, &login, &answer);
	CHECK(answer.right == ACCESS_FULL);
	/* An unknown user is named by no line but those for every user. */
	login.user = "";
	put("a@R alice full\n");
	access_decide(path, &login, &answer);
	CHECK(answer.right == ACCESS_UNNAMED);
}

/* Returns the right of a@R by one line with this right and conditions. */
static enum access_right
right_if(const char *conditions)
{
	char line[256];

	snprintf(line, sizeof(line), "a@R alice %s\n", conditions);
	return right_of("a@R", line);
}

static void
conditions(void)
{
	struct sockaddr_storage from;

	CHECK(right_if("full tls") == ACCESS_DENIED);
	CHECK(right_if("full layer") == ACCESS_DENIED);
	login.has_layer = true;
	CHECK(right_if("full layer") == ACCESS_FULL);
	CHECK(right_if("full tls") == ACCESS_DENIED);
	login.has_tls = true;
	CHECK(right_if("read tls layer") == ACCESS_READ);
	CHECK(right_if("full from=0.0.0.0/0,::/0,local") == ACCESS_DENIED);
	CHECK(address_read("192.0.2.7:4711", &from) == 0);
	login.from = &from;
	CHECK(right_if("full from=192.0.2.0/24") == ACCESS_FULL);
	CHECK(right_if("full from=192.0.2.6,10.0.0.0/8") == ACCESS_DENIED);
	CHECK(right_if("full from=2001:db8::/32") == ACCESS_DENIED);
	CHECK(address_read("[2001:db8::7]:1", &from) == 0);
	CHECK(right_if("full tls from=2001:db8::/32") == ACCESS_FULL);
	CHECK(right_if("full from=2001:db8::/61,2001:db8:0:8::/63") ==
	    ACCESS_FULL);
	CHECK(right_if("full from=2001:db8:0:8::/61") == ACCESS_DENIED);
	CHECK(right_if("full from=0.0.0.0/0,local") == ACCESS_DENIED);
	/* No network of IPv6 has IPv4 addresses, but those of IPv4 in IPv6. */
	CHECK(right_if("full from=::/0") == ACCESS_FULL);
	CHECK(address_read("192.0.2.7:4711", &from) == 0);
	CHECK(right_if("full from=::/0,::1/64,::fffe:0:0/95") == ACCESS_DENIED);
	CHECK(right_if("full from=::ffff:192.0.2.0/120") == ACCESS_FULL);
	CHECK(right_if("full from=::ffff:192.0.2.8/128") == ACCESS_DENIED);
	CHECK(right_if("full from=0.0.0.0/0") == ACCESS_FULL);
	from = (struct sockaddr_storage){ .ss_family = AF_UNIX };
	CHECK(right_if("full from=0.0.0.0/0,::/0") == ACCESS_DENIED);
	CHECK(right_if("full from=::1,local") == ACCESS_FULL);
	from.ss_family = AF_UNSPEC;
	CHECK(right_if("full from=0.0.0.0/0,::/0,local") == ACCESS_DENIED);
	/* The reason is that of the first line that names the login. */
	CHECK(right_of("a@R",
		  "a@R alice full from=10.0.0.1\n"
		  "a@R alice full from=10.0.0.2\n") == ACCESS_DENIED &&
	    answer.line == 1);
	CHECK(right_of("a@R",
		  "a@R alice full from=10.0.0.1\n"
		  "a@R * deny\n") == ACCESS_DENIED &&
	    answer.line == 2);
	CHECK(right_of("a@R",
		  "a@R alice full from=10.0.0.1\n"
		  "a@R alice read\n") == ACCESS_READ &&
	    answer.line == 2 && answer.why[0] == '\0');
	login = (struct access_login){ .principal = NULL };
}

/* Returns true if the line is a mistake, after a line that permits a@R. */
static bool
is_mistake(const char *line, const char *why)
{
	char text[1024];

	snprintf(text, sizeof(text), "a@R alice full\n%s\n", line);
	return right_of("a@R", text) == ACCESS_MISTAKE && answer.line == 2 &&
	    strncmp(answer.why, why, strlen(why)) == 0;
}

static void
mistakes(void)
{
	static const char few[] = "a line is PRINCIPAL USER RIGHT";
	char line[2 * ACCOUNT_NAME + 64], name[ACCOUNT_NAME + 1];

	CHECK(is_mistake("a@R", few) && is_mistake("a@R alice", few));
	CHECK(is_mistake("a@R alice write", "the right is not read"));
	CHECK(is_mistake("a@R alice Full", "the right is not read"));
	CHECK(is_mistake("a alice full", "the principal has no realm"));
	CHECK(is_mistake("a@ alice full", "the principal has an empty"));
	CHECK(is_mistake("@R alice full", "the principal has an empty"));
	CHECK(is_mistake("a//b@R alice full", "the principal has an empty"));
	CHECK(is_mistake("a@R@S alice full", "the principal has more than"));
	CHECK(is_mistake("a@R/S alice full", "the principal has more than"));
	CHECK(is_mistake("a*@R alice full", "a * in the principal"));
	CHECK(is_mistake("a@*.R alice deny", "a * in the principal"));
	CHECK(is_mistake("a@R\\134 alice full", "the principal has a backsl"));
	CHECK(is_mistake("a\\q@R alice full", "a backslash is not"));
	CHECK(is_mistake("a@R al\\q full", "a backslash is not"));
	CHECK(is_mistake("a@R * full", "the user * is only for deny"));
	CHECK(is_mistake("*@* * read", "the user * is only for deny"));
	CHECK(is_mistake("a@R alice deny tls", "deny has no condition"));
	CHECK(is_mistake("a@R alice full tls tls", "a condition is repeated"));
	CHECK(is_mistake("a@R alice full from=::1 from=::2",
	    "a condition is repeated"));
	CHECK(is_mistake("a@R alice full ssl", "a condition is neither"));
	CHECK(is_mistake("a@R alice full from", "a condition is neither"));
	CHECK(is_mistake("a@R alice full # no comment", "a condition is"));
	CHECK(is_mistake("a@R alice full from=", "from takes up to 32"));
	CHECK(is_mistake("a@R alice full from=example.org", "from takes"));
	CHECK(is_mistake("a@R alice full from=10.0.0.0/33", "from takes"));
	CHECK(is_mistake("a@R alice full from=::1%lo", "from takes"));
	CHECK(is_mistake("a@R alice full from=::1,", "from takes"));
	CHECK(is_mistake("a@R alice full from=00000000000000000000000000000000"
			 "000000000000000000000000000000000000000000000::1",
	    "from takes"));
	CHECK(is_mistake("a@R alice full from=::1,::1,::1,::1,::1,::1,::1,::1,"
			 "::1,::1,::1,::1,::1,::1,::1,::1,::1,::1,::1,::1,"
			 "::1,::1,::1,::1,::1,::1,::1,::1,::1,::1,::1,::1,::1",
	    "from takes up to 32"));
	CHECK(is_mistake("a@R alice full\r", "a carriage return"));
	memset(name, 'l', ACCOUNT_NAME);
	name[ACCOUNT_NAME] = '\0';
	snprintf(line, sizeof(line), "a@R %s full", name);
	CHECK(is_mistake(line, "the user is too long"));
	CHECK(is_mistake("a@R \\000 full", "a backslash is not"));
	CHECK(is_mistake("a\\\\b@R alice full", "a backslash is not"));
	CHECK(is_mistake("a@R K\\alice full", "a backslash is not"));
	CHECK(is_mistake("a@R al\\13 full", "a backslash is not"));
	CHECK(is_mistake("a@R al\\456 full", "a backslash is not"));
	/* A byte order mark, and a no-break space from a web page. */
	CHECK(is_mistake("\xef\xbb\xbf"
			 "a@R * deny",
	    "a byte is not ASCII"));
	CHECK(is_mistake("a@R\xc2\xa0 * deny", "a byte is not ASCII"));
	CHECK(is_mistake("a@R alice\xc2\xa0 deny", "a byte is not ASCII"));
	/* krb5_unparse_name writes neither of these. */
	CHECK(is_mistake("al\\134ice@R * deny", "the principal has a backsl"));
	CHECK(is_mistake("a\\011b@R * deny", "the principal has a backsl"));
}

/* A mistake in any line counts, also after the line that decides. */
static void
whole_file(void)
{
	static char large[(ACCESS_KIB << 10) + 2];

	memset(large, '#', sizeof(large) - 2);
	large[sizeof(large) - 2] = '\n';
	CHECK(right_of("a@R", large) == ACCESS_MISTAKE && answer.line == 0);
	CHECK(right_of("a@R", large + 1) == ACCESS_UNNAMED);
	CHECK(right_of("a@R", "") == ACCESS_MISTAKE && answer.line == 0);
	CHECK(right_of("a@R", "a@R alice full") == ACCESS_MISTAKE);
	CHECK(right_of("a@R", "a@R * deny\nx\n") == ACCESS_MISTAKE &&
	    answer.line == 2);
	CHECK(chmod(path, 0646) == 0);
	access_decide(path, &login, &answer);
	CHECK(answer.right == ACCESS_MISTAKE && answer.line == 0);
	CHECK(unlink(path) == 0);
	access_decide(path, &login, &answer);
	CHECK(answer.right == ACCESS_MISTAKE && answer.line == 0);
}

static unsigned lines_seen;

static void
see_line(void *self, const struct access_line *line)
{
	static const enum access_right rights[] = { ACCESS_READ,
		ACCESS_DENIED };

	CHECK(self == &lines_seen);
	CHECK(line->right == rights[lines_seen++] &&
	    line->number == 2 * lines_seen);
	CHECK(strcmp(line->principal, "a@R") == 0);
	CHECK(strcmp(line->user, line->right == ACCESS_READ ? "b" : "*") == 0);
}

static void
each_line(void)
{
	struct root_file f;

	put("#\na@R b read tls\n\na@R * deny\n");
	access_load(&f, path);
	access_each(&f, see_line, &lines_seen, &answer);
	CHECK(answer.right == ACCESS_UNNAMED && lines_seen == 2);
	/* The file in memory can be read again, and by a login. */
	lines_seen = 0;
	access_each(&f, see_line, &lines_seen, &answer);
	CHECK(answer.right == ACCESS_UNNAMED && lines_seen == 2);
	login = (struct access_login){ .principal = "a@R", .user = "b" };
	access_find(&f, &login, &answer);
	CHECK(answer.right == ACCESS_DENIED && answer.line == 4);
	login.is_supposed = true;
	access_find(&f, &login, &answer);
	CHECK(answer.right == ACCESS_READ && answer.line == 2);
	root_file_free(&f);
	put("x\n");
	access_load(&f, path);
	access_each(&f, see_line, &lines_seen, &answer);
	CHECK(answer.right == ACCESS_MISTAKE && answer.line == 1 &&
	    lines_seen == 2);
	root_file_free(&f);
}

/* address_read reads what address_write writes, and nothing else. */
static void
addresses(void)
{
	static const char *const right[] = { "192.0.2.1:0", "10.0.0.1:65535",
		"[::1]:4711", "[2001:db8::1]:1" };
	static const char *const wrong[] = { "", "local", "192.0.2.1", "::1",
		"192.0.2.1:", "192.0.2.1:65536", "192.0.2.1:x", "[::1]", "[]:1",
		"[::1:1", "::1]:1", "[192.0.2.1]:1", "2001:db8::1:1", ":1", "[",
		"[:1", "192.0.2.1 :1" };
	struct sockaddr_storage a;
	struct address_text t;

	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++)
		CHECK(address_read(right[i], &a) == 0 &&
		    address_write(&a, &t) == 0 &&
		    strcmp(t.text, right[i]) == 0);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		CHECK(address_read(wrong[i], &a) == -1);
}

int
main(void)
{
	CHECK(mkstemp(path) != -1);
	patterns();
	cases();
	order();
	conditions();
	mistakes();
	each_line();
	addresses();
	whole_file();
	return 0;
}
