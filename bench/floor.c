/*
 * Does only the work that no server can avoid. kpopd cannot be faster than this
 * program.
 *
 * 	bench/floor login KEYTAB     for xinetd: libkrb5's whole recvauth,
 * 	                             then POP3 without mail
 * 	bench/floor serve SPOOL      for xinetd: POP3 without a ticket, locks
 * 	                             or checks
 * 	bench/floor scan SPOOL       reads the spool once and finds its messages
 * 	bench/floor truncate FILE, also copy, overwrite
 * 	bench/floor readdir MAILDIR, also stat, read, unlink
 *
 * All modes except login and serve print the nanoseconds that they have taken.
 */
#include "config.h"

#include <sys/stat.h>

#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <krb5.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define PIECE 262144
#define BEGINNING "\nFrom "
#define BEGINNING_SIZE 6

static char piece[BEGINNING_SIZE + PIECE + 64];

/* Offsets of the messages' "From " lines, and the end of the file. */
static off_t *offsets;
static size_t count, room;
static uint64_t line_ends;

static int
open_or_die(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd == -1)
		err(1, "%s", path);
	return fd;
}

static void
note_message(off_t offset)
{
	if (count == room) {
		room = room != 0 ? room * 2 : 1024;
		if ((offsets = reallocarray(offsets, room, sizeof(*offsets))) ==
		    NULL)
			err(1, "reallocarray");
	}
	offsets[count++] = offset;
}

#ifdef __x86_64__
#include <immintrin.h>

/*
 * Counts the line ends in the n bytes at p, which are at the given offset in
 * the file. Records the offset of each "\nFrom " in these bytes. BEGINNING_SIZE
 * + 32 bytes after them must be readable.
 */
__attribute__((target("avx2,popcnt"))) static void
find_messages(const char *p, size_t n, off_t offset)
{
	const __m256i end = _mm256_set1_epi8('\n'),
		      letter = _mm256_set1_epi8('F');

	for (size_t i = 0; i < n; i += 32) {
		__m256i here = _mm256_loadu_si256((const void *)(p + i));
		__m256i next = _mm256_loadu_si256((const void *)(p + i + 1));
		unsigned ends =
		    (unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(here,
			end));
		unsigned found = ends &
		    (unsigned)_mm256_movemask_epi8(_mm256_cmpeq_epi8(next,
			letter));

		if (n - i < 32) {
			ends &= (1U << (n - i)) - 1;
			found &= (1U << (n - i)) - 1;
		}
		line_ends += (unsigned)__builtin_popcount(ends);
		for (; found != 0; found &= found - 1) {
			size_t at = i + (size_t)__builtin_ctz(found);

			if (memcmp(p + at, BEGINNING, BEGINNING_SIZE) == 0)
				note_message(offset + (off_t)at + 1);
		}
	}
}
#else
static void
find_messages(const char *p, size_t n, off_t offset)
{
	for (const char *at = p;
	     (at = memchr(at, '\n', n - (size_t)(at - p))) != NULL; at++) {
		line_ends++;
		if (memcmp(at, BEGINNING, BEGINNING_SIZE) == 0)
			note_message(offset + (at - p) + 1);
	}
}
#endif

/*
 * Stores the offsets of the spool's messages, followed by the size of the file.
 */
static void
scan(int fd)
{
	size_t kept = 0;
	off_t offset = 0;
	ssize_t n;

	note_message(0);
	while ((n = read(fd, piece + kept, PIECE)) > 0) {
		size_t have = kept + (size_t)n,
		       done = have < BEGINNING_SIZE ? 0 :
						      have - BEGINNING_SIZE + 1;

		find_messages(piece, done, offset);
		kept = have - done;
		memmove(piece, piece + done, kept);
		offset += (off_t)done;
	}
	if (n == -1)
		err(1, "read");
	note_message(offset + (off_t)kept);
	count--;
}

/* The client's input, and the output to the client. */
static char in[4096], out[65536];
static size_t in_at, in_end, out_end;

static void
flush(void)
{
	for (size_t at = 0; at < out_end;) {
		ssize_t n = write(1, out + at, out_end - at);

		if (n == -1)
			exit(1);
		at += (size_t)n;
	}
	out_end = 0;
}

static void
put(const char *data, size_t n)
{
	if (n > sizeof(out) - out_end)
		flush();
	memcpy(out + out_end, data, n);
	out_end += n;
}

__attribute__((format(printf, 1, 2))) static void
answer(const char *format, ...)
{
	char text[128];
	va_list ap;

	va_start(ap, format);
	put(text, (size_t)vsnprintf(text, sizeof(text), format, ap));
	va_end(ap);
}

/*
 * Returns the client's next line without its line end. If no line is buffered,
 * sends the answers first. Exits at the end of input.
 */
static char *
read_command(void)
{
	char *end, *line;

	while ((end = memchr(in + in_at, '\n', in_end - in_at)) == NULL) {
		ssize_t n;

		flush();
		memmove(in, in + in_at, in_end - in_at);
		in_end -= in_at;
		in_at = 0;
		n = read(0, in + in_end, sizeof(in) - in_end);
		if (n <= 0)
			exit(1);
		in_end += (size_t)n;
	}
	line = in + in_at;
	in_at = (size_t)(end - in) + 1;
	if (end > line && end[-1] == '\r')
		end--;
	*end = '\0';
	return line;
}

/*
 * Answers RETR. Does not send the "From " line. Sends CRLF for LF, and doubles
 * a dot at the beginning of a line.
 */
static void
send_message(int fd, size_t n)
{
	off_t at = offsets[n - 1], end = offsets[n] - 1;
	bool first = true;

	answer("+OK %jd octets\r\n", (intmax_t)(end - at));
	while (at < end) {
		size_t want = end - at < PIECE ? (size_t)(end - at) : PIECE;
		ssize_t got = pread(fd, piece, want, at);
		const char *p = piece, *line_end;

		while (got > 0 &&
		    (line_end = memchr(p, '\n', (size_t)(piece + got - p))) !=
			NULL) {
			if (!first) {
				if (*p == '.')
					put(".", 1);
				put(p, (size_t)(line_end - p));
				put("\r\n", 2);
			}
			first = false;
			p = line_end + 1;
		}
		if (p == piece)
			exit(1);
		at += p - piece;
	}
	put(".\r\n", 3);
}

/*
 * Answers LIST with sizes that are too small. The client does not need exact
 * sizes. It skips as many bytes as LIST reports, and looks for the message's
 * end after these bytes.
 */
static void
list(void)
{
	answer("+OK\r\n");
	for (size_t i = 1; i <= count; i++)
		answer("%zu %jd\r\n", i,
		    (intmax_t)(offsets[i] - offsets[i - 1] > 200 ?
			    offsets[i] - offsets[i - 1] - 200 :
			    0));
	put(".\r\n", 3);
}

/*
 * Speaks only the POP3 that the bench's client uses. The argument fd is the
 * spool, or -1 if there is none.
 */
static void
pop3(int fd)
{
	answer("+OK floor\r\n");
	for (;;) {
		char *line = read_command();

		if (fd != -1 && strncasecmp(line, "RETR ", 5) == 0)
			send_message(fd, strtoul(line + 5, NULL, 10));
		else if (fd != -1 && strcasecmp(line, "LIST") == 0)
			list();
		else if (strcasecmp(line, "STAT") == 0)
			answer("+OK %zu %ju\r\n", count, (uintmax_t)line_ends);
		else {
			if (fd != -1 && strncasecmp(line, "PASS ", 5) == 0)
				scan(fd);
			answer("+OK\r\n");
		}
		if (strcasecmp(line, "QUIT") == 0)
			break;
	}
	flush();
}

static void
login(const char *path)
{
	krb5_context context;
	krb5_auth_context auth = NULL;
	krb5_keytab keytab;
	krb5_ticket *ticket;
	int fd = 0;

	if (krb5_init_context(&context) != 0 ||
	    krb5_kt_resolve(context, path, &keytab) != 0 ||
	    krb5_recvauth(context, &auth, &fd, "KPOPV1.0", NULL, 0, keytab,
		&ticket) != 0)
		exit(1);
	pop3(-1);
}

static int64_t
now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void
sync_or_die(int fd)
{
	if (fsync(fd) == -1)
		err(1, "fsync");
}

static void
truncate_it(const char *path)
{
	int fd = open_or_die(path, O_RDWR);

	if (ftruncate(fd, 0) == -1)
		err(1, "ftruncate");
	sync_or_die(fd);
}

/* Copies all bytes of one file to another through this process. */
static void
move(int from, int to)
{
	off_t at = 0;
	ssize_t n;

	while ((n = pread(from, piece, PIECE, at)) > 0) {
		if (pwrite(to, piece, (size_t)n, at) != n)
			err(1, "pwrite");
		at += n;
	}
	if (n == -1)
		err(1, "pread");
}

/*
 * Copies path to path.copy. Does not remove the copy, because on some disks a
 * removal takes longer than the copying.
 */
static void
copy(const char *path)
{
	char name[4096];
	int from = open_or_die(path, O_RDONLY), to;

	snprintf(name, sizeof(name), "%s.copy", path);
	to = open_or_die(name, O_WRONLY | O_CREAT | O_EXCL);
	move(from, to);
	sync_or_die(to);
}

static void
overwrite(const char *path)
{
	int fd = open_or_die(path, O_RDWR);

	move(fd, fd);
}

static void
visit_none(int dir, const char *name)
{
	(void)dir, (void)name;
}

static void
visit_stat(int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, 0) == -1)
		err(1, "%s", name);
}

static void
visit_read(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd == -1 || fstat(fd, &st) == -1)
		err(1, "%s", name);
	while (read(fd, piece, PIECE) > 0)
		;
	close(fd);
}

static void
visit_unlink(int dir, const char *name)
{
	if (unlinkat(dir, name, 0) == -1)
		err(1, "%s", name);
}

/*
 * Calls visit() for every message of a Maildir. If "sync" is true, syncs the
 * Maildir's directories.
 */
static void
walk(const char *path, void (*visit)(int dir, const char *name), bool sync)
{
	static const char *const parts[] = { "new", "cur" };

	for (int i = 0; i < 2; i++) {
		char name[4096];
		const struct dirent *e;
		DIR *d;

		snprintf(name, sizeof(name), "%s/%s", path, parts[i]);
		if ((d = opendir(name)) == NULL)
			err(1, "%s", name);
		while ((e = readdir(d)) != NULL)
			if (e->d_name[0] != '.')
				visit(dirfd(d), e->d_name);
		if (sync)
			sync_or_die(dirfd(d));
		closedir(d);
	}
}

static bool
do_timed(const char *what, const char *path)
{
	if (strcmp(what, "scan") == 0)
		scan(open_or_die(path, O_RDONLY));
	else if (strcmp(what, "truncate") == 0)
		truncate_it(path);
	else if (strcmp(what, "copy") == 0)
		copy(path);
	else if (strcmp(what, "overwrite") == 0)
		overwrite(path);
	else if (strcmp(what, "readdir") == 0)
		walk(path, visit_none, false);
	else if (strcmp(what, "stat") == 0)
		walk(path, visit_stat, false);
	else if (strcmp(what, "read") == 0)
		walk(path, visit_read, false);
	else if (strcmp(what, "unlink") == 0)
		walk(path, visit_unlink, true);
	else
		return false;
	return true;
}

int
main(int argc, char **argv)
{
	int64_t begin = now();

	if (argc != 3)
		errx(2, "usage: floor what path");
	if (strcmp(argv[1], "login") == 0)
		login(argv[2]);
	else if (strcmp(argv[1], "serve") == 0)
		pop3(open_or_die(argv[2], O_RDONLY));
	else if (do_timed(argv[1], argv[2]))
		printf("%" PRId64 "\n", now() - begin);
	else
		errx(2, "floor does no %s", argv[1]);
	return 0;
}
