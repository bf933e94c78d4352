/*
 * Times POP3 sessions: the login, then each STEP.
 *
 * 	bench/client [OPTION ...] HOST PORT USER STEP ...
 *
 * 	-n SESSIONS, -j JOBS, -a kpop|gssapi|pass, -l none|tls|gssapi
 * 	-w NAMES      processes whose CPU time is counted, separated by commas
 * 	-t DIRECTORY  the directory of the users' credential caches
 *
 * The steps are
 *
 * 	STAT, LIST, UIDL, QUIT
 * 	RETR:COUNT:DEPTH  COUNT messages (0: all), DEPTH requests in flight
 * 	DELE:N            marks every Nth message
 * 	DELE:first        marks the first message
 * 	DELE:last         marks the last message
 * 	MEMORY            prints the private dirty memory, in KiB, of the
 * 	                  largest of -w's processes that runs as USER; or of
 * 	                  the largest of all of -w's, if none runs as USER
 *
 * One session prints a line for each step. The line contains the step's name,
 * its nanoseconds, the CPU nanoseconds of -w's processes, and the number of
 * bytes. If there are more sessions, the program prints only "sessions
 * NANOSECONDS CPU NUMBER" for all jobs together. CPU is that of this client, in
 * nanoseconds. The first job logs in as USER, and the other jobs log in as
 * USER1, USER2 and so on. Any answer other than +OK ends the process with an
 * error.
 */
#include "config.h"

#include <sys/stat.h>

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "line.h"

#define BATCH 64

static const char *names = "", *tickets;
static struct how how = { .password = "bench" };

/* Returns the time of a clock in nanoseconds. */
static int64_t
read_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t
now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

/*
 * Returns the text of /proc/PID/FILE, which is valid until the next call.
 * Returns an empty text if the process has ended.
 */
static const char *
proc(const char *pid, const char *file)
{
	static char text[4096];
	char path[600];
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%s/%s", pid, file);
	if ((f = fopen(path, "r")) == NULL)
		return "";
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	return text;
}

/* Returns true if the process has one of the names in -w. */
static bool
is_watched(const char *pid)
{
	char name[64];
	const char *found;
	size_t n;

	strlcpy(name, proc(pid, "comm"), sizeof(name));
	n = strcspn(name, "\n");
	name[n] = '\0';
	for (found = names; n > 0 && (found = strstr(found, name)) != NULL;
	     found++)
		if ((found == names || found[-1] == ',') &&
		    (found[n] == ',' || found[n] == '\0'))
			return true;
	return false;
}

/*
 * Calls get() for each watched process. Merges all results by combine(),
 * starting from 0. Returns the merged result.
 */
static int64_t
over_processes(int64_t (*get)(const char *pid),
    int64_t (*combine)(int64_t, int64_t))
{
	DIR *d = opendir("/proc");
	const struct dirent *e;
	int64_t result = 0;

	while (d != NULL && (e = readdir(d)) != NULL)
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' &&
		    is_watched(e->d_name)) {
			int64_t value = get(e->d_name);

			result = combine(result, value);
		}
	if (d != NULL)
		closedir(d);
	return result;
}

static int64_t
sum(int64_t a, int64_t b)
{
	return a + b;
}

static int64_t
larger(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

/* Returns the process's CPU time in nanoseconds. */
static int64_t
get_cpu(const char *pid)
{
	return strtoll(proc(pid, "schedstat"), NULL, 10);
}

static uid_t
uid_of(const char *pid)
{
	const char *line = strstr(proc(pid, "status"), "\nUid:");

	return line != NULL ? (uid_t)strtoul(line + 5, NULL, 10) : (uid_t)-1;
}

/* Returns the process's private dirty memory in KiB. */
static int64_t
get_memory(const char *pid)
{
	const char *line =
	    strstr(proc(pid, "smaps_rollup"), "\nPrivate_Dirty:");

	return line != NULL ? strtoll(line + 15, NULL, 10) : 0;
}

/*
 * Returns the process's private dirty memory in KiB. Returns 0 if the process
 * does not run as USER.
 */
static int64_t
get_own_memory(const char *pid)
{
	const struct passwd *pw = getpwnam(how.user);

	return pw != NULL && uid_of(pid) == pw->pw_uid ? get_memory(pid) : 0;
}

static int64_t
memory(void)
{
	int64_t own = over_processes(get_own_memory, larger);

	return own != 0 ? own : over_processes(get_memory, larger);
}

static int64_t
cpu(void)
{
	return names[0] != '\0' ? over_processes(get_cpu, sum) : 0;
}

/* Returns the number of messages that STAT reports. */
static size_t
stat_mailbox(void)
{
	line_write("STAT");
	return strtoul(line_read_good() + 4, NULL, 10);
}

/*
 * Retrieves count messages. Sends the requests in batches. The number of
 * unanswered requests stays between depth / 2 and depth. Returns the total size
 * of the answers.
 */
static size_t
retrieve(const size_t *sizes, size_t count, size_t depth)
{
	char batch[BATCH * 24];
	size_t asked = 0, bytes = 0;

	for (size_t done = 0; done < count; done++) {
		if (asked < count && asked - done <= depth / 2) {
			size_t n = 0;

			for (; asked < count && asked - done < depth; asked++)
				n += (size_t)snprintf(batch + n,
				    sizeof(batch) - n, "RETR %zu\r\n",
				    asked + 1);
			line_send(batch, n);
		}
		line_read_good();
		bytes += line_skip(sizes[done]);
	}
	return bytes;
}

/*
 * Returns an array of the sizes that LIST reports. The caller frees the array.
 * RETR sends at least as many bytes for each message.
 */
static size_t *
list(size_t count)
{
	size_t *sizes = calloc(count + 1, sizeof(*sizes));

	if (sizes == NULL)
		err(1, "calloc");
	line_write("LIST");
	line_read_good();
	for (size_t i = 0; i < count; i++)
		if (sscanf(line_read(), "%*u %zu", &sizes[i]) != 1)
			errx(1, "LIST ends early");
	if (strcmp(line_read(), ".") != 0)
		errx(1, "LIST is too long");
	return sizes;
}

static void
print_step(const char *step, int64_t begin, int64_t begin_cpu, size_t bytes)
{
	int64_t end = now();

	printf("%s %" PRId64 " %" PRId64 " %zu\n", step, end - begin,
	    cpu() - begin_cpu, bytes);
}

static void
retrieve_step(const char *step)
{
	size_t count = 0, depth = 1, all = stat_mailbox(), bytes, *sizes;
	int64_t begin, begin_cpu;

	if (sscanf(step, "RETR:%zu:%zu", &count, &depth) != 2 ||
	    depth > BATCH || depth < 1)
		errx(2, "no step: %s", step);
	if (count == 0 || count > all)
		count = all;
	sizes = list(all);
	begin_cpu = cpu();
	begin = now();
	bytes = retrieve(sizes, count, depth);
	print_step(step, begin, begin_cpu, bytes);
	free(sizes);
}

/* Marks messages. Sends the requests in batches. This step is not timed. */
static void
delete_step(const char *which)
{
	size_t all = stat_mailbox(), every = strtoul(which, NULL, 10),
	       asked = 0;
	char command[32];

	if (strcmp(which, "first") == 0)
		every = all;
	for (size_t i = 1; i <= all; i++) {
		if (strcmp(which, "last") == 0 ?
			i < all :
			every == 0 || (i - 1) % every != 0)
			continue;
		line_send(command,
		    (size_t)snprintf(command, sizeof(command), "DELE %zu\r\n",
			i));
		if (++asked % BATCH == 0)
			for (int k = 0; k < BATCH; k++)
				line_read_good();
	}
	for (; asked % BATCH != 0; asked--)
		line_read_good();
}

static void
plain_step(const char *step)
{
	int64_t begin_cpu = cpu(), begin = now();
	size_t bytes = 0;

	line_write("%s", step);
	line_read_good();
	if (strcmp(step, "UIDL") == 0 || strcmp(step, "LIST") == 0)
		bytes = line_skip(0);
	print_step(step, begin, begin_cpu, bytes);
}

static void
do_step(const char *step)
{
	if (strncmp(step, "RETR:", 5) == 0)
		retrieve_step(step);
	else if (strncmp(step, "DELE:", 5) == 0)
		delete_step(step + 5);
	else if (strcmp(step, "MEMORY") == 0)
		printf("MEMORY %" PRId64 "\n", memory());
	else
		plain_step(step);
}

/*
 * Selects the user's tickets, which are in a file with the user's name.
 * Prepares connections.
 */
static void
prepare(void)
{
	char name[4096];

	snprintf(name, sizeof(name), "FILE:%s/%s", tickets, how.user);
	if (tickets != NULL && setenv("KRB5CCNAME", name, 1) == -1)
		err(1, "setenv");
	line_prepare(&how);
}

/* Times one session. */
static void
session(char **steps)
{
	int64_t begin = now();

	line_login(&how);
	print_step("login", begin, 0, 0);
	for (; *steps != NULL; steps++)
		do_step(*steps);
	line_close();
}

/*
 * Writes 0 to the pipe "report" and waits until all jobs are ready. Then runs n
 * sessions as the user of this job, without printing the steps. Writes the CPU
 * nanoseconds of these sessions to the pipe, and ends the process.
 */
_Noreturn static void
job(char **steps, long number, long n, int report, int go)
{
	static char user[64];
	int64_t spent = 0;
	char wait;

	if (freopen("/dev/null", "w", stdout) == NULL)
		err(1, "/dev/null");
	names = "";
	if (number > 0) {
		snprintf(user, sizeof(user), "%s%ld", how.user, number);
		how.user = user;
	}
	prepare();
	if (write(report, &spent, sizeof(spent)) != sizeof(spent) ||
	    read(go, &wait, 1) != 0)
		errx(1, "no start");
	spent = -read_clock(CLOCK_PROCESS_CPUTIME_ID);
	while (n-- > 0)
		session(steps);
	spent += read_clock(CLOCK_PROCESS_CPUTIME_ID);
	exit(write(report, &spent, sizeof(spent)) == sizeof(spent) ? 0 : 1);
}

/* Starts a job. Returns the pipe from which its reports are read. */
static int
start_job(char **steps, long number, long n, const int go[2])
{
	int report[2];
	pid_t pid;

	if (pipe(report) == -1 || (pid = fork()) == -1)
		err(1, "fork");
	if (pid == 0) {
		close(go[1]);
		job(steps, number, n, report[1], go[0]);
	}
	close(report[1]);
	return report[0];
}

/* Returns the sum of the next reports of so many jobs. */
static int64_t
read_reports(const int *from, long number)
{
	int64_t all = 0, one;

	for (long i = 0; i < number; i++) {
		if (read(from[i], &one, sizeof(one)) != sizeof(one))
			errx(1, "a job has failed");
		all += one;
	}
	return all;
}

/*
 * Runs n sessions in the given number of jobs. Prints the time until the last
 * session has ended, and the CPU time of the jobs.
 */
static void
jobs(char **steps, long number, long n)
{
	int go[2], *reports = calloc((size_t)number, sizeof(*reports));
	int64_t begin, spent;

	if (reports == NULL || pipe(go) == -1)
		err(1, "pipe");
	for (long i = 0; i < number; i++)
		reports[i] =
		    start_job(steps, i, n / number + (i < n % number), go);
	read_reports(reports, number);
	begin = now();
	close(go[1]);
	spent = read_reports(reports, number);
	printf("sessions %" PRId64 " %" PRId64 " %ld\n", now() - begin, spent,
	    n);
	free(reports);
}

/*
 * Returns the index of word in words. Ends the process if words does not
 * contain it.
 */
static int
choice(const char *word, const char *const words[3])
{
	for (int i = 0; i < 3; i++)
		if (strcmp(word, words[i]) == 0)
			return i;
	errx(2, "not %s", word);
}

int
main(int argc, char **argv)
{
	static const char *const logins[3] = { "kpop", "gssapi", "pass" };
	static const char *const layers[3] = { "none", "tls", "gssapi" };
	long n = 1, number = 1;
	int c;

	while ((c = getopt(argc, argv, "a:j:l:n:t:w:")) != -1) {
		switch (c) {
		case 'a':
			how.login = (enum login)choice(optarg, logins);
			break;
		case 'j':
			number = strtol(optarg, NULL, 10);
			break;
		case 'l':
			how.layer = (enum layer)choice(optarg, layers);
			break;
		case 'n':
			n = strtol(optarg, NULL, 10);
			break;
		case 't':
			tickets = optarg;
			break;
		case 'w':
			names = optarg;
			break;
		default:
			return 2;
		}
	}
	/*
	 * Ignore SIGPIPE, so that the process reports a broken connection
	 * instead of being killed.
	 */
	signal(SIGPIPE, SIG_IGN);
	if (argc - optind < 3)
		errx(2, "usage: client [options] host port user step ...");
	how.host = argv[optind];
	how.port = atoi(argv[optind + 1]);
	how.user = argv[optind + 2];
	if (n > 1) {
		jobs(argv + optind + 3, number, n);
		return 0;
	}
	prepare();
	session(argv + optind + 3);
	return 0;
}
