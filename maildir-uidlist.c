/*
 * Finds the ids that another server gave the messages of a Maildir, in the file
 * that the server has left there: Dovecot's dovecot-uidlist or Courier's
 * courierpop3dsizelist.
 *
 * Runs in the session, as the owner of the mailbox. The file belongs to the
 * user, who may replace it at any time by a symlink, a FIFO, or a file of any
 * size and content. The other server may write it while it is read. Both
 * servers write a new file and rename it; Dovecot also appends lines. So the
 * bytes that are read here are always those of whole lines, perhaps without the
 * last ones.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <md5.h>

#include "file.h"
#include "log.h"
#include "maildir-records.h"
#include "maildir-uidlist.h"
#include "uidl-courier.h"
#include "uidl-dovecot.h"
#include "uidl-trace.h"
#include "volume.h"

/* The most bytes of a list: of more than a million messages. */
#define LIST_BYTES_MOST ((off_t)256 << 20)

struct uidlist;

/* One kind of list. p points to a line of n bytes, without its line end. */
struct list_kind {
	const char *file;
	/* Returns true if this is the first line of such a list. */
	bool (*is_head)(struct uidlist *l, const char *p, size_t n);
	/* Finds the unique name in a line. Returns its length, or 0. */
	size_t (*find_name)(const struct uidlist *l, const char *p, size_t n,
	    const char **name);
	/*
	 * Makes the id of the message with this record. p is NULL if the list
	 * does not have the message. Returns false if it has no id.
	 */
	bool (*make_id)(const struct uidlist *l, const char *p, size_t n,
	    const struct record *r, char id[UIDL_SIZE]);
};

/* A list in memory. */
struct uidlist {
	const struct list_kind *kind;
	const struct uidl_scheme *scheme;
	struct dovecot_head head;
	char *text;
	size_t size;
	/* [i]: the offset of the line of message i, and 1; 0: it has none */
	uint32_t *lines;
};

static bool
is_dovecot_head(struct uidlist *l, const char *p, size_t n)
{
	return dovecot_read_head(&l->head, p, n);
}

static size_t
find_dovecot_name(const struct uidlist *l, const char *p, size_t n,
    const char **name)
{
	struct dovecot_line line;

	if (!dovecot_read_line(&line, &l->head, p, n))
		return 0;
	*name = line.name.at;
	return line.name.n;
}

/*
 * Copies bytes as a unique id. Returns false if they cannot be one.
 */
static bool
copy_id(char id[UIDL_SIZE], const char *p, size_t n)
{
	if (!uidl_is_valid(p, n))
		return false;
	memcpy(id, p, n);
	id[n] = '\0';
	return true;
}

/*
 * Dovecot's P comes before the format. The unique name replaces an absent G.
 */
static bool
make_dovecot_id(const struct uidlist *l, const char *p, size_t n,
    const struct record *r, char id[UIDL_SIZE])
{
	char name[UIDL_SIZE], guid[UIDL_SIZE];
	struct dovecot_line line = { .uid = 0 };
	struct scheme_values values = { .validity = l->head.validity };

	if (p != NULL && !dovecot_read_line(&line, &l->head, p, n))
		return false;
	if (copy_id(name, r->name, r->unique))
		values.name = values.guid = name;
	if (line.uidl.at != NULL && line.uidl.n > 0)
		return copy_id(id, line.uidl.at, line.uidl.n);
	if (line.uidl.at != NULL)
		return copy_id(id, r->name, r->unique);
	if (line.guid.at != NULL)
		values.guid =
		    copy_id(guid, line.guid.at, line.guid.n) ? guid : NULL;
	values.uid = line.uid;
	return scheme_write(l->scheme, &values, id);
}

static bool
is_courier_head(struct uidlist *l, const char *p, size_t n)
{
	(void)l;
	return courier_is_head(p, n);
}

static size_t
find_courier_name(const struct uidlist *l, const char *p, size_t n,
    const char **name)
{
	(void)l;
	*name = p;
	return courier_name(p, n);
}

static bool
make_courier_id(const struct uidlist *l, const char *p, size_t n,
    const struct record *r, char id[UIDL_SIZE])
{
	(void)l;
	(void)r;
	return p != NULL && courier_id(p, n, id);
}

/* solid-pop3d keeps no list, and hashes the unique name. */
static bool
make_solid_id(const struct uidlist *l, const char *p, size_t n,
    const struct record *r, char id[UIDL_SIZE])
{
	unsigned char digest[TRACE_HASH];
	MD5_CTX md5;

	(void)l;
	(void)p;
	(void)n;
	MD5Init(&md5);
	MD5Update(&md5, (const uint8_t *)r->name, r->unique);
	MD5Final(digest, &md5);
	trace_write(digest, sizeof(digest), id);
	return true;
}

static const struct list_kind dovecot_kind = { "dovecot-uidlist",
	is_dovecot_head, find_dovecot_name, make_dovecot_id };
static const struct list_kind courier_kind = { "courierpop3dsizelist",
	is_courier_head, find_courier_name, make_courier_id };
static const struct list_kind solid_kind = { .make_id = make_solid_id };

/*
 * Logs that the list cannot be read, because of errno if why is NULL. Returns
 * the error.
 */
static enum drop_error
refuse_foreign_list(const struct uidlist *l, const char *why)
{
	enum drop_error error = why != NULL ? DROP_DENIED : store_error(errno);

	log_failed_at(LOG_ERR, why, "reading the file %s in the Maildir",
	    l->kind->file);
	return error;
}

/* Reads the open list as it is now. */
static enum drop_error
read_open_list(struct uidlist *l, int fd)
{
	struct stat st;

	if (fstat(fd, &st) == -1)
		return refuse_foreign_list(l, NULL);
	if (!S_ISREG(st.st_mode))
		return refuse_foreign_list(l, "it is not a regular file");
	if (st.st_size > LIST_BYTES_MOST)
		return refuse_foreign_list(l, "it is too large");
	if ((l->text = malloc((size_t)st.st_size + 1)) == NULL)
		fatal("malloc");
	l->size = (size_t)st.st_size;
	return file_read(fd, l->text, l->size, 0) == 0 ?
	    DROP_OK :
	    refuse_foreign_list(l, NULL);
}

/* Reads the list, which may be absent. */
static enum drop_error
read_foreign_list(const struct maildir *m, struct uidlist *l)
{
	enum drop_error error;
	int fd;

	if (l->kind->file == NULL || m->base == -1)
		return DROP_OK;
	fd = volume_open(m->base, l->kind->file,
	    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd == -1)
		return errno == ENOENT ? DROP_OK : refuse_foreign_list(l, NULL);
	error = read_open_list(l, fd);
	close(fd);
	return error;
}

/*
 * Compares the unique name of message i with another one. Returns a number less
 * than, equal to or greater than 0.
 */
static int
compare_message(struct maildir *m, size_t i, const struct unique *with)
{
	struct unique there;
	struct record r;

	records_get(m, i, &r);
	there = record_unique(&r);
	return unique_compare(&there, with);
}

/*
 * Returns the index of the message with this unique name, or SIZE_MAX. If files
 * have the same unique name, returns the first one. `likely` is the index where
 * the message probably is, because lists have nearly the order of the messages.
 */
static size_t
find_unique(struct maildir *m, const char *name, size_t n, size_t likely)
{
	size_t low = 0, high = m->count;
	struct unique wanted;

	if (n > NAME_MAX)
		return SIZE_MAX;
	wanted = unique_of(name, n);
	if (likely < m->count && compare_message(m, likely, &wanted) == 0 &&
	    (likely == 0 || compare_message(m, likely - 1, &wanted) < 0))
		return likely;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (compare_message(m, middle, &wanted) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < m->count && compare_message(m, low, &wanted) == 0 ?
	    low :
	    SIZE_MAX;
}

/*
 * Finds the message of each line. Of two lines of a message the last one
 * counts, as for Dovecot. A last line without its line end is incomplete and
 * does not count.
 */
static void
match_lines(struct maildir *m, struct uidlist *l)
{
	const char *p = l->text, *end = l->text + l->size, *lf, *name;
	size_t likely = 0;
	bool is_first = true;

	for (; p < end && (lf = memchr(p, '\n', (size_t)(end - p))) != NULL;
	     p = lf + 1) {
		size_t n = (size_t)(lf - p), found;

		if (is_first && !l->kind->is_head(l, p, n))
			return;
		if (!is_first && (n = l->kind->find_name(l, p, n, &name)) > 0 &&
		    (found = find_unique(m, name, n, likely)) != SIZE_MAX) {
			l->lines[found] = (uint32_t)(p - l->text) + 1;
			likely = found + 1;
		}
		is_first = false;
	}
}

/* Makes the id of message i. Returns false if it has none. */
static bool
make_id(struct maildir *m, const struct uidlist *l, size_t i,
    char id[UIDL_SIZE])
{
	const char *p = NULL;
	struct record r;
	size_t n = 0;

	records_get(m, i, &r);
	/* The other server has not seen two files with one unique name. */
	if (r.ordinal != 0)
		return false;
	if (l->lines[i] != 0) {
		p = l->text + l->lines[i] - 1;
		n = (size_t)((const char *)memchr(p, '\n',
				 l->size - (size_t)(p - l->text)) -
		    p);
	}
	return l->kind->make_id(l, p, n, &r, id);
}

enum drop_error
uidlist_ids(void *box, const struct uidl_scheme *scheme, store_put_id *put,
    void *to)
{
	struct maildir *m = box;
	struct uidlist l = { .kind = &dovecot_kind, .scheme = scheme };
	enum drop_error error;
	char id[UIDL_SIZE];

	if (scheme->source == SCHEME_COURIER)
		l.kind = &courier_kind;
	else if (scheme->source == SCHEME_SOLID)
		l.kind = &solid_kind;
	if ((l.lines = calloc(m->count + 1, sizeof(*l.lines))) == NULL)
		fatal("lines of %zu messages", m->count);
	error = read_foreign_list(m, &l);
	if (error == DROP_OK && l.text != NULL)
		match_lines(m, &l);
	for (size_t i = 0; error == DROP_OK && i < m->count; i++)
		if (make_id(m, &l, i, id))
			put(to, i, id);
	free(l.text);
	free(l.lines);
	return error;
}
