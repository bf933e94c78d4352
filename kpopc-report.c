/*
 * Keeps what a probe finds out, and prints it as a monitoring plugin does: one
 * line, and the exit status.
 *
 * Runs as the caller. The processes of a probe share the memory of the report.
 * The obstacle may contain text of a server or a KDC, so it is printed encoded.
 * The rules of the line and of the status are those of the Monitoring Plugins
 * Development Guidelines.
 */
#include "config.h"

#include <sys/mman.h>
#include <sys/socket.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vis.h>

#include "address.h"
#include "clock.h"
#include "kpopc.h"

/*
 * Characters that a text must not contain: "|" begins the performance data, and
 * the others may mean something to a web page or a shell that gets the text.
 */
#define SPECIAL "|<>&`$"

static const char *const phases[] = {
	[PHASE_TICKET] = "ticket",
	[PHASE_CONNECT] = "connect",
	[PHASE_TLS] = "tls",
	[PHASE_LOGIN] = "login",
	[PHASE_STAT] = "stat",
	[PHASE_QUIT] = "quit",
};

#define PHASES (sizeof(phases) / sizeof(phases[0]))

struct report {
	enum phase phase;
	enum verdict on_failure;
	int64_t since;         /* when the phase began, in ms of clock_ms */
	int64_t spent[PHASES]; /* ms in each phase */
	uint64_t messages, bytes;
	char user[LINE_USER + 1];
	struct address_text from;
};

/* Without report_begin nothing reads the report. */
static struct report unread, *report = &unread;

void
report_begin(void)
{
	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (report == MAP_FAILED)
		report_give_up("no memory");
	report->on_failure = VERDICT_CRITICAL;
	report->since = clock_ms();
}

void
report_enter(enum phase phase)
{
	int64_t now = clock_ms();

	report->spent[report->phase] += now - report->since;
	report->since = now;
	report->phase = phase;
}

void
report_rate(enum verdict verdict)
{
	report->on_failure = verdict;
}

void
report_connection(int fd)
{
	struct sockaddr_storage a;
	socklen_t size = sizeof(a);

	if (getsockname(fd, (struct sockaddr *)&a, &size) == -1 ||
	    address_write(&a, &report->from) == -1)
		strlcpy(report->from.text, "?", sizeof(report->from.text));
}

void
report_user(const char *user)
{
	strlcpy(report->user, user, sizeof(report->user));
}

void
report_maildrop(uint64_t messages, uint64_t bytes)
{
	report->messages = messages;
	report->bytes = bytes;
}

/* Begins the line. */
static void
print_verdict(enum verdict verdict)
{
	static const char *const names[] = {
		[VERDICT_OK] = "OK",
		[VERDICT_WARNING] = "WARNING",
		[VERDICT_CRITICAL] = "CRITICAL",
		[VERDICT_UNKNOWN] = "UNKNOWN",
	};

	printf("KPOP %s - ", names[verdict]);
}

/*
 * Prints a text of less than REPORT_TEXT bytes, and encodes what could break
 * the line.
 */
static void
print_encoded(const char *text)
{
	static char safe[4 * REPORT_TEXT + 1];

	/* The text may be encoded already, so leave its backslashes. */
	strsnvis(safe, sizeof(safe), text,
	    VIS_OCTAL | VIS_TAB | VIS_NL | VIS_NOSLASH, SPECIAL);
	fputs(safe, stdout);
}

/*
 * Ends the line. Returns the exit status, which is VERDICT_UNKNOWN if the line
 * could not be written.
 */
static int
finish_line(enum verdict verdict)
{
	putchar('\n');
	return fflush(stdout) == 0 && !ferror(stdout) ? (int)verdict :
							VERDICT_UNKNOWN;
}

/* Prints a duration, given in milliseconds, in seconds. */
static void
print_seconds(int64_t ms)
{
	printf("%" PRId64 ".%03d", ms / 1000, (int)(ms % 1000));
}

/* Prints a limit of the performance data. */
static void
print_limit(double seconds)
{
	if (seconds > 0)
		printf("%g", seconds);
	putchar(';');
}

/* Prints the performance data: the times of the whole and of each phase. */
static void
print_times(const struct options *o, int64_t total)
{
	fputs(" | time=", stdout);
	print_seconds(total);
	fputs("s;", stdout);
	print_limit(o->warning);
	print_limit(o->critical);
	putchar('0');
	for (size_t i = 0; i < PHASES; i++) {
		if (i == PHASE_TLS && !o->tls)
			continue;
		printf(" %s=", phases[i]);
		print_seconds(report->spent[i]);
		fputs("s;;;0", stdout);
	}
}

/* Prints the address that the server's log has, if there is a connection. */
static void
print_address(void)
{
	if (report->from.text[0] != '\0')
		printf(", from %s", report->from.text);
}

/* Returns the phase that took the longest time. */
static size_t
slowest_phase(void)
{
	size_t slowest = 0;

	for (size_t i = 1; i < PHASES; i++)
		if (report->spent[i] > report->spent[slowest])
			slowest = i;
	return slowest;
}

/* Compares the time of a probe with the limits. */
static enum verdict
rate_time(const struct options *o, int64_t ms)
{
	double seconds = (double)ms / 1000;

	if (o->critical > 0 && seconds > o->critical)
		return VERDICT_CRITICAL;
	return o->warning > 0 && seconds > o->warning ? VERDICT_WARNING :
							VERDICT_OK;
}

int
report_result(const struct options *o)
{
	int64_t total = 0;
	enum verdict verdict;

	/* Adds the time of the last phase. */
	report_enter(report->phase);
	for (size_t i = 0; i < PHASES; i++)
		total += report->spent[i];
	verdict = rate_time(o, total);
	print_verdict(verdict);
	if (verdict != VERDICT_OK) {
		size_t slowest = slowest_phase();

		fputs("took ", stdout);
		print_seconds(total);
		fputs(" s, of these ", stdout);
		print_seconds(report->spent[slowest]);
		printf(" s for %s: ", phases[slowest]);
	}
	printf("%" PRIu64 " messages, %" PRIu64 " bytes, login as ",
	    report->messages, report->bytes);
	print_encoded(report->user);
	print_address();
	print_times(o, total);
	return finish_line(verdict);
}

int
report_obstacle(const char *obstacle)
{
	print_verdict(report->on_failure);
	printf("%s: ", phases[report->phase]);
	print_encoded(obstacle);
	print_address();
	return finish_line(report->on_failure);
}

void
report_give_up(const char *reason)
{
	print_verdict(VERDICT_UNKNOWN);
	print_encoded(reason);
	exit(finish_line(VERDICT_UNKNOWN));
}
