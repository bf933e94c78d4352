/*
 * Replaces functions of the C library, to make allocations fail and the wall
 * clock wrong.
 *
 * 	LD_PRELOAD=preload.so PRELOAD=FILE kpopd …
 *
 * All processes of the connection map FILE. Before that, the test writes the
 * four numbers of struct preload to it. Runs in every process of kpopd, as that
 * process's user. After the start of the process, this library makes no system
 * call except clock_gettime, because the filters forbid others.
 */
#include <sys/mman.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct preload {
	/* the number of seconds that the wall clock is ahead */
	_Atomic int64_t jump;
	/* the number of the first allocation that fails, or 0 for none */
	_Atomic int64_t fail_from;
	/* the number of allocations that fail, beginning with that one */
	_Atomic int64_t fail_many;
	/* the number of allocations so far, in all processes */
	_Atomic int64_t asked;
};

static struct preload *preload;

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t count, size_t n);
void *__libc_realloc(void *p, size_t n);

__attribute__((constructor)) static void
begin(void)
{
	const char *name = getenv("PRELOAD");
	int fd = name != NULL ? open(name, O_RDWR | O_CLOEXEC) : -1;
	void *shared = fd != -1 ?
	    mmap(NULL, sizeof(*preload), PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		0) :
	    MAP_FAILED;

	/* Exit, because a test would pass if there were no faults. */
	if (shared == MAP_FAILED)
		_exit(99);
	close(fd);
	preload = shared;
}

/*
 * Counts an allocation. If the allocation must fail, sets errno and returns 1.
 */
static int
fails(void)
{
	int64_t n;

	if (preload == NULL)
		return 0;
	n = atomic_fetch_add(&preload->asked, 1) + 1;
	if (preload->fail_from == 0 || n < preload->fail_from ||
	    n >= preload->fail_from + preload->fail_many)
		return 0;
	errno = ENOMEM;
	return 1;
}

void *
malloc(size_t n)
{
	return fails() ? NULL : __libc_malloc(n);
}

void *
calloc(size_t count, size_t n)
{
	return fails() ? NULL : __libc_calloc(count, n);
}

void *
realloc(void *p, size_t n)
{
	return fails() ? NULL : __libc_realloc(p, n);
}

/* Returns the number of seconds that a clock is ahead. */
static int64_t
jump(clockid_t clock)
{
	return preload != NULL &&
		(clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) ?
	    preload->jump :
	    0;
}

int
clock_gettime(clockid_t clock, struct timespec *t)
{
	int result = (int)syscall(SYS_clock_gettime, clock, t);

	t->tv_sec += jump(clock);
	return result;
}

time_t
time(time_t *to)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (to != NULL)
		*to = t.tv_sec;
	return t.tv_sec;
}

int
gettimeofday(struct timeval *restrict to, void *restrict zone)
{
	struct timespec t;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	*to =
	    (struct timeval){ .tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000 };
	return 0;
}
