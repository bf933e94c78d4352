/*
 * Opens maildrops on files in memory, and checks each message.
 *
 * Runs in fuzz targets. Each call opens a new maildrop, as a session does.
 * tidy.c frees the memory and closes the descriptors afterwards.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fuzz/box.h"
#include "lock.h"
#include "wire.h"

int box_ahead;

int __real_clock_gettime(clockid_t, struct timespec *);
int __wrap_clock_gettime(clockid_t, struct timespec *);
int
__wrap_clock_gettime(clockid_t which, struct timespec *t)
{
	int result = __real_clock_gettime(which, t);

	t->tv_sec += box_ahead;
	return result;
}

enum drop_error
box_open(struct maildrop *drop, const char *where)
{
	static struct lock_plan locks;
	static int state = -1;
	struct mailboxes boxes;
	int top = fuzz_directory();

	if (state == -1) {
		int fd;

		/*
		 * Make no dotlock, because a dotlock would take more time than
		 * everything else.
		 */
		HOLDS(lock_plan_read(&locks, "fcntl,flock") == 0 &&
		    mkdirat(top, "state", 0700) == 0);
		HOLDS((fd = openat(top, "state",
			   O_RDONLY | O_DIRECTORY | O_CLOEXEC)) != -1);
		/* The copy stays open, because tidy.c does not record fcntl. */
		HOLDS((state = fcntl(fd, F_DUPFD_CLOEXEC, 0)) != -1);
	}
	HOLDS(mailboxes_read(&boxes, where) == 0);
	return maildrop_open(drop, &boxes,
	    mailboxes_path(&boxes, "user", fuzz_directory_name()), state,
	    &locks);
}

void
box_discard_index(void)
{
	unlinkat(fuzz_directory(), "state/index", 0);
}

/* Returns the number of dots that a client removes. */
static size_t
stuffed(const char *text, size_t n)
{
	size_t dots = 0;

	for (size_t i = 0; i < n; i++)
		dots += text[i] == '.' && (i == 0 || text[i - 1] == '\n');
	return dots;
}

/*
 * Reads the stored bytes in pieces, and checks how wire.c converts these bytes.
 */
static void
read_message(struct shown *s)
{
	struct span left = s->span;
	char *wired;
	size_t put = 0;
	ssize_t got;
	struct wire w;

	HOLDS(left.bytes < 1 << 24);
	s->text = malloc((size_t)left.bytes + 1);
	wired = malloc(2 * (size_t)left.bytes + 3);
	HOLDS(s->text != NULL && wired != NULL);
	wire_init(&w, WIRE_ALL);
	while ((got = maildrop_read(&left, s->text + s->size, 509)) > 0) {
		put +=
		    wire_put(&w, s->text + s->size, (size_t)got, wired + put);
		s->size += (size_t)got;
	}
	put += wire_end(&w, wired + put);
	HOLDS(got == 0 && s->size == s->span.bytes);
	HOLDS(put - stuffed(wired, put) == s->wire_size);
	HOLDS(w.wire_size == s->wire_size && s->span.wire_size == s->wire_size);
}

/* Fills *s with message n, and checks it. */
static void
show(struct maildrop *drop, size_t n, struct shown *s)
{
	struct stat st;

	*s = (struct shown){ .wire_size = maildrop_wire_size(drop, n) };
	HOLDS(maildrop_begin(drop, n, &s->span) == DROP_OK &&
	    fstat(s->span.fd, &st) == 0);
	s->inode = st.st_ino;
	maildrop_uidl(drop, n, s->id);
	HOLDS(memchr(s->id, '\0', sizeof(s->id)) != NULL && s->id[0] != '\0');
	for (const char *p = s->id; *p != '\0'; p++)
		HOLDS(*p >= 0x21 && *p <= 0x7e);
	read_message(s);
}

static int
compare_ids(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

struct shown *
box_show(struct maildrop *drop)
{
	struct shown *all = calloc(drop->count + 1, sizeof(*all));
	const char **ids = calloc(drop->count + 1, sizeof(*ids));
	uint64_t wire_size = 0;

	HOLDS(all != NULL && ids != NULL);
	for (size_t i = 0; i < drop->count; i++) {
		show(drop, i + 1, &all[i]);
		ids[i] = all[i].id;
		wire_size += all[i].wire_size;
	}
	HOLDS(wire_size == drop->wire_size);
	qsort(ids, drop->count, sizeof(*ids), compare_ids);
	for (size_t i = 1; i < drop->count; i++)
		HOLDS(strcmp(ids[i - 1], ids[i]) != 0);
	return all;
}

void
box_mark(struct maildrop *drop, uint32_t random, unsigned char *marks)
{
	/*
	 * Mark either no message, all messages, or a random half or eighth of
	 * the messages.
	 */
	static const unsigned out_of[] = { 0, 1, 2, 8 };
	unsigned sparse = out_of[random & 3];

	memset(marks, 0, drop->count / 8 + 1);
	for (size_t i = 0; i < drop->count && sparse > 0; i++)
		if (fuzz_random(&random) % sparse == 0) {
			marks[i / 8] |= (unsigned char)(1 << i % 8);
			maildrop_mark(drop, i + 1);
		}
}
