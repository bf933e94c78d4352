/*
 * Prints the lines of kpopd --check, as text or as JSON. Runs checks as a user.
 *
 * Runs as root in kpopd-check, and as a user in its children (check_as_user).
 * A child has no terminal: it sends its lines to kpopd-check, which encodes and
 * prints them. So a user's file that compromises a child controls no terminal.
 */
#include "config.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "clock.h"
#include "log.h"
#include "monitor-watch.h"
#include "packet.h"
#include "privsep.h"
#include "process.h"

#define TEXT 1024 /* bytes of a text with its NUL; the rest is left out */

static const char *const verdicts[] = {
	[CHECK_OK] = "ok", [CHECK_WARN] = "warn", [CHECK_FAIL] = "FAIL"
};

/*
 * A line that a child sends. The verdict comes first, and differs from each
 * kind of log_packet.
 */
struct check_packet {
	char verdict; /* an enum check_verdict */
	bool has_name, has_remedy;
	char kind[16], name[TEXT], found[TEXT], remedy[CHECK_COMMAND];
};

_Static_assert(sizeof(struct check_packet) <=
	sizeof(((struct watch *)0)->packet),
    "a line is a packet of the watch");

/* in a child: the channel to kpopd-check; -1: this process prints */
static int channel = -1;
/* From check_log_begin on, what is logged goes to kept[1], and to kept[0]. */
static int kept[2] = { -1, -1 };
static int logged_to; /* before that: see log_through */

static int kept_log = -1;       /* receives what is logged */
static struct check *log_check; /* prints it */

const char *
check_remedy(struct check *c, const char *format, ...)
{
	va_list arguments;
	int n;

	va_start(arguments, format);
	n = vsnprintf(c->remedy, sizeof(c->remedy), format, arguments);
	va_end(arguments);
	/* A part of a command may do something else. */
	return n >= 0 && (size_t)n < sizeof(c->remedy) ? c->remedy : NULL;
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

static void
print(struct check *c, enum check_verdict verdict, const char *kind,
    const char *name, const char *remedy, const char *found)
{
	if (verdict > c->worst)
		c->worst = verdict;
	if (c->json)
		print_json(verdict, kind, name, found, remedy);
	else
		print_line(verdict, kind, name, found, remedy);
	fflush(stdout);
}

/* In a child: sends a line. Ends the process if kpopd-check has ended. */
static void
send_line(enum check_verdict verdict, const char *kind, const char *name,
    const char *remedy, const char *found)
{
	struct check_packet p = { .verdict = (char)verdict,
		.has_name = name != NULL,
		.has_remedy = remedy != NULL };

	strlcpy(p.kind, kind, sizeof(p.kind));
	strlcpy(p.name, name != NULL ? name : "", sizeof(p.name));
	strlcpy(p.found, found, sizeof(p.found));
	strlcpy(p.remedy, remedy != NULL ? remedy : "", sizeof(p.remedy));
	if (packet_send(channel, &p, sizeof(p), NULL, 0) == -1)
		_exit(1);
}

static void put_check(struct check *, enum check_verdict, const char *,
    const char *, const char *, const char *, va_list)
    __attribute__((format(printf, 6, 0)));

static void
put_check(struct check *c, enum check_verdict verdict, const char *kind,
    const char *name, const char *remedy, const char *format, va_list arguments)
{
	char found[TEXT];

	vsnprintf(found, sizeof(found), format, arguments);
	if (channel != -1)
		send_line(verdict, kind, name, remedy, found);
	else
		print(c, verdict, kind, name, remedy, found);
}

void
check_ok(struct check *c, const char *kind, const char *name,
    const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	put_check(c, CHECK_OK, kind, name, NULL, format, arguments);
	va_end(arguments);
}

void
check_warn(struct check *c, const char *kind, const char *name,
    const char *remedy, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	put_check(c, CHECK_WARN, kind, name, remedy, format, arguments);
	va_end(arguments);
}

void
check_fail(struct check *c, const char *kind, const char *name,
    const char *remedy, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	put_check(c, CHECK_FAIL, kind, name, remedy, format, arguments);
	va_end(arguments);
}

/*
 * Prints the line that a child has sent. Returns false if the packet is not a
 * line.
 */
static bool
print_packet(struct check *c, const struct watch_event *e)
{
	static struct check_packet p;

	if (e->size != sizeof(p))
		return false;
	memcpy(&p, e->packet, sizeof(p));
	if (p.verdict < CHECK_OK || p.verdict > CHECK_FAIL)
		return false;
	p.kind[sizeof(p.kind) - 1] = p.name[sizeof(p.name) - 1] =
	    p.found[sizeof(p.found) - 1] = p.remedy[sizeof(p.remedy) - 1] =
		'\0';
	/* print_text encodes the other texts, but not the kind. */
	if (p.kind[strspn(p.kind, "abcdefghijklmnopqrstuvwxyz0123456789")] !=
	    '\0')
		return false;
	print(c, (enum check_verdict)p.verdict, p.kind,
	    p.has_name ? p.name : NULL, p.has_remedy ? p.remedy : NULL,
	    p.found);
	return true;
}

/*
 * Prints the lines of the child until it has ended. Prints one more line if the
 * child has not checked all.
 */
static void
print_packets(struct check *c, struct watch *w)
{
	const char *name = c->account.name;
	struct watch_event e = { .packet = NULL };

	while (watch_next(w, &e))
		if (e.packet != NULL && !print_packet(c, &e))
			watch_kill(w, e.role, WATCH_WRONG);
	/* The last event is the child's end. */
	if (e.reason == WATCH_LATE)
		check_fail(c, "user", name, NULL,
		    "a file of this user, its file system or the account "
		    "database does not answer within the %d s of a login (-t)",
		    c->o.login);
	else if (e.reason == WATCH_STOPPED)
		check_fail(c, "user", name, NULL,
		    "this user has stopped the check");
	else if (e.status != 0)
		check_fail(c, "user", name, NULL,
		    "the check as this user has failed");
}

/*
 * The child has the time of a login, because the user can make it wait, for
 * example with a FIFO.
 */
void
check_as_user(struct check *c, void (*run)(struct check *c))
{
	static struct watch w;
	int64_t deadline = clock_ms() + (int64_t)c->o.login * 1000;
	sigset_t before;
	int to_parent;

	sigprocmask(SIG_SETMASK, NULL, &before);
	watch_begin(&w);
	if (watch_fork(&w, ROLE_CHECK, deadline, &to_parent)) {
		process_leave_terminal();
		privsep_become(&c->account);
		channel = to_parent;
		run(c);
		_exit(0);
	}
	print_packets(c, &w);
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_SETMASK, &before, NULL);
}

void
check_log_begin(void)
{
	packet_make_channel(kept);
	logged_to = log_through(kept[1]);
}

/* Appends the value of a key of a log line, key="value", to text[TEXT]. */
static bool
append_value(char *text, const char *line, const char *key)
{
	const char *value = strstr(line, key);
	size_t n = strlen(text);

	if (value == NULL)
		return false;
	value += strlen(key);
	snprintf(text + n, TEXT - n, "%.*s", (int)strcspn(value, "\""), value);
	return true;
}

/*
 * Appends a log line to text[TEXT]. The values of what= and error= are enough
 * for a person.
 */
static void
append_log(char *text, const char *line)
{
	if (*text != '\0')
		strlcat(text, "; ", TEXT);
	if (append_value(text, line, "what=\"")) {
		strlcat(text, ": ", TEXT);
		append_value(text, line, " error=\"");
	} else
		strlcat(text, line, TEXT);
}

const char *
check_log_end(void)
{
	static char text[TEXT];
	union {
		struct log_packet p;
		char bytes[sizeof(struct log_packet) + 1];
	} in;
	ssize_t n;

	log_through(logged_to);
	text[0] = '\0';
	while ((n = packet_receive(kept[0], &in, sizeof(in.p))) > 0) {
		in.bytes[n] = '\0';
		append_log(text, in.p.text);
	}
	close(kept[0]);
	close(kept[1]);
	return text;
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

bool
check_in_child(struct check *c, unsigned seconds, void (*run)(struct check *c))
{
	pid_t child = fork();
	sigset_t alarms;

	if (child == 0) {
		/* The parent of kpopd-check may ignore or block it. */
		signal(SIGALRM, SIG_DFL);
		sigemptyset(&alarms);
		sigaddset(&alarms, SIGALRM);
		sigprocmask(SIG_UNBLOCK, &alarms, NULL);
		alarm(seconds);
		c->worst = CHECK_OK;
		run(c);
		_exit((int)c->worst);
	}
	return await_child(c, child);
}

void
check_print_log(void)
{
	struct log_packet packet;
	const size_t head = offsetof(struct log_packet, text);
	ssize_t n;

	while ((n = recv(kept_log, &packet, sizeof(packet) - 1,
		    MSG_DONTWAIT)) >= (ssize_t)head) {
		((char *)&packet)[n] = '\0';
		check_warn(log_check, "log", NULL, NULL, "%s %s", packet.event,
		    packet.text);
	}
}

void
check_keep_log(struct check *c)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == -1)
		return;
	log_through(pair[0]);
	kept_log = pair[1];
	log_check = c;
	log_before_end(check_print_log);
}
