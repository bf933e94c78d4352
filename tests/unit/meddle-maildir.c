/*
 * Changes a Maildir at random in and between sessions: meddle-maildir [SESSIONS
 * [SEED]]. Compares each session with a model that reads the files itself, and
 * with a session that has no index.
 *
 * Runs as any user. The test renames, replaces, links, removes and delivers
 * files, as other programs do. Sometimes it delivers a second file under the
 * same unique name. It also changes files in place, with and without a new
 * mtime, and makes files readable.
 *
 * LIST, UIDL and STAT must agree with the model. RETR must send the bytes of
 * the file. DELE must remove the messages that the client has read, and no
 * other files. A file must keep its UIDL. Half of the sessions treat the
 * Maildir as a large one. In these sessions, LIST may be wrong about a message.
 * It must be right if the last session has fetched that message, or failed to
 * remove it.
 */
#include "config.h"

#include <sys/stat.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "maildir.h"
#include "tests/unit/check.h"
#include "tests/unit/drop.h"
#include "wire.h"

#define WHERE "maildir:~/Maildir"
#define SESSIONS 3000
#define ROUNDS 30 /* sessions on one Maildir */
#define MOST_FILES 40
#define NAME_SIZE 120
#define TEXT_SIZE 1000

/* A file in the model. */
struct file {
	char name[NAME_SIZE]; /* path below the Maildir */
	char unique[NAME_SIZE];
	struct stat st;
	bool readable;
	char text[TEXT_SIZE];
	uint64_t wire_size;
};

/* All files at one moment, in the order of the messages. */
struct picture {
	struct file files[MOST_FILES];
	size_t count;
};

/* What a session has done with one message. */
struct deed {
	bool fetched, marked;
	ino_t inode;
	char unique[NAME_SIZE];
	char text[TEXT_SIZE]; /* the text that the client has received */
	/*
	 * The file's mtime at RETR. It identifies a change, because give_time
	 * uses no second twice.
	 */
	time_t mtime;
};

static int top, box;
static long bad, sessions;
static long ahead; /* seconds that the coarse clock runs ahead */
static unsigned long seed;
static uint64_t state;
static bool large;       /* the session treats the Maildir as a large one */
static char story[8000]; /* the events since the last session ended */

/*
 * The linker replaces clock_gettime by this function (--wrap). If the clock
 * runs ahead, all fingerprints are stable.
 */
int __real_clock_gettime(clockid_t, struct timespec *);
int __wrap_clock_gettime(clockid_t, struct timespec *);
int
__wrap_clock_gettime(clockid_t which, struct timespec *t)
{
	int result = __real_clock_gettime(which, t);

	if (which == CLOCK_REALTIME_COARSE)
		t->tv_sec += ahead;
	return result;
}

/* Returns a random number below n. */
static unsigned
any(unsigned n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)(state >> 20) % n;
}

#define TELL(...)                                                              \
	snprintf(story + strlen(story), sizeof(story) - strlen(story),         \
	    __VA_ARGS__)

/*
 * Counts a failure. Prints the first few failures, each with the events that
 * led to it.
 */
static void
complain(const char *what)
{
	if (bad++ < 5)
		fprintf(stderr, "%s (seed %lu, %s):%s\n", what, seed,
		    large ? "large" : "small", story);
}

/* Returns the number of bytes that a text has in POP3. */
static uint64_t
count_wire_size(const char *text)
{
	size_t n = strlen(text);
	uint64_t wire_size = n;

	for (const char *p = text; *p != '\0'; p++)
		wire_size += *p == '\n';
	return wire_size + (n > 0 && text[n - 1] == '\n' ? 0 : 2);
}

/* Reads the file whose name is in *f, and fills in the other fields of *f. */
static void
look_at(struct file *f)
{
	ssize_t n;
	int fd;

	CHECK(fstatat(box, f->name, &f->st, AT_SYMLINK_NOFOLLOW) == 0);
	strcpy(f->unique, f->name + strlen("new/"));
	f->unique[strcspn(f->unique, ":")] = '\0';
	f->readable = (f->st.st_mode & S_IRUSR) != 0;
	f->text[0] = '\0';
	if (!f->readable)
		return;
	CHECK((fd = openat(box, f->name, O_RDONLY)) != -1);
	CHECK((n = read(fd, f->text, sizeof(f->text) - 1)) == f->st.st_size &&
	    close(fd) == 0);
	f->text[n] = '\0';
	f->wire_size = count_wire_size(f->text);
}

/* Compares two files in the order of the messages. */
static int
compare_files(const void *a, const void *b)
{
	const struct file *x = a, *y = b;
	long t = atol(x->unique), u = atol(y->unique);
	int order = strcmp(x->unique, y->unique);

	if (t != u)
		return t < u ? -1 : 1;
	if (order != 0)
		return order;
	return (x->st.st_ino > y->st.st_ino) - (x->st.st_ino < y->st.st_ino);
}

/* Stores the present state of all files in *p. */
static void
draw(struct picture *p)
{
	static const char *const parts[] = { "new", "cur" };

	p->count = 0;
	for (int i = 0; i < 2; i++) {
		int fd = openat(box, parts[i], O_RDONLY | O_DIRECTORY);
		DIR *d = fdopendir(fd);
		const struct dirent *e;

		CHECK(d != NULL);
		while ((e = readdir(d)) != NULL) {
			if (e->d_name[0] == '.')
				continue;
			CHECK(p->count < MOST_FILES);
			snprintf(p->files[p->count].name, NAME_SIZE,
			    "%s/%.100s", parts[i], e->d_name);
			look_at(&p->files[p->count++]);
		}
		closedir(d);
	}
	if (p->count > 0)
		qsort(p->files, p->count, sizeof(p->files[0]), compare_files);
}

/* Returns true if a file has this unique name and inode. */
static bool
is_same_message(const struct file *f, const char *unique, ino_t inode)
{
	return f->st.st_ino == inode && strcmp(f->unique, unique) == 0;
}

/*
 * Removes unreadable files from *p. If a file has two names, removes the second
 * name, too.
 */
static void
keep_messages(struct picture *p)
{
	size_t n = 0;

	for (size_t i = 0; i < p->count; i++) {
		const struct file *f = &p->files[i];

		if (f->readable &&
		    (n == 0 ||
			!is_same_message(f, p->files[n - 1].unique,
			    p->files[n - 1].st.st_ino)))
			p->files[n++] = *f;
	}
	p->count = n;
}

/* Returns the file with this unique name and inode, or NULL. */
static const struct file *
find(const struct picture *p, const char *unique, ino_t inode)
{
	for (size_t i = 0; i < p->count; i++)
		if (is_same_message(&p->files[i], unique, inode))
			return &p->files[i];
	return NULL;
}

/*
 * Gives a file or directory an mtime that no file has had before. Without it,
 * two changes within one tick of the kernel's clock could have the same mtime.
 * This test does not cover such changes.
 */
static void
give_time(const char *name)
{
	static long count;
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
		{ 1500000000 + count, 1 } };

	count++;
	CHECK(utimensat(box, name, times, AT_SYMLINK_NOFOLLOW) == 0);
}

/* Gives new and cur new mtimes. */
static void
give_times(void)
{
	give_time("new");
	give_time("cur");
}

/*
 * Writes a message with some lines. Returns false if the file cannot be opened
 * with these flags.
 */
static bool
put(const char *name, int flags)
{
	static int token;
	char text[TEXT_SIZE];
	int fd,
	    n = snprintf(text, sizeof(text), "Subject: x\n\ntoken %06d\n",
		token);

	if ((fd = openat(box, name, O_WRONLY | O_CREAT | flags, 0600)) == -1)
		return false;
	token++;
	for (unsigned lines = any(5); lines > 0; lines--)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "line\n");
	CHECK(write(fd, text, (size_t)n) == n && close(fd) == 0);
	give_time(name);
	return true;
}

/* Makes a name in cur from the unique name of f and random flags. */
static void
flag(const struct file *f, char name[NAME_SIZE])
{
	static const char *const flags[] = { "", "S", "RS", "F", "T" };

	snprintf(name, NAME_SIZE, "cur/%.100s:2,%s", f->unique, flags[any(5)]);
}

/*
 * Changes that other programs make. The argument f is a random file. It is NULL
 * if the Maildir is empty.
 */

static void
deliver(const struct file *f)
{
	static int number;
	char name[NAME_SIZE];

	(void)f;
	snprintf(name, sizeof(name), "new/%u.M%d.host", 1000 + any(5),
	    number++);
	TELL(" +%s", name);
	CHECK(put(name, O_EXCL));
	if (any(6) == 0)
		CHECK(fchmodat(box, name, 0, 0) == 0);
	give_times();
}

static void
change_flags(const struct file *f)
{
	char name[NAME_SIZE];

	flag(f, name);
	TELL(" %s>%s", f->name, name);
	renameat2(box, f->name, box, name, RENAME_NOREPLACE);
	give_times();
}

static void
take_away(const struct file *f)
{
	TELL(" -%s", f->name);
	CHECK(unlinkat(box, f->name, 0) == 0);
	give_times();
}

static void
grow(const struct file *f)
{
	int fd;

	if (!f->readable || f->st.st_size > TEXT_SIZE / 2)
		return;
	TELL(" grow %s", f->name);
	CHECK((fd = openat(box, f->name, O_WRONLY | O_APPEND)) != -1);
	CHECK(write(fd, "more\n", 5) == 5 && close(fd) == 0);
	give_time(f->name);
}

/*
 * Changes the number of lines without changing the size. If "back" is true,
 * restores the mtime.
 */
static void
rewrite(const struct file *f, bool back)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
		f->st.st_mtim };
	int fd;

	if (!f->readable)
		return;
	TELL(" rewrite%s %s", back ? " with its time" : "", f->name);
	CHECK((fd = openat(box, f->name, O_WRONLY)) != -1);
	CHECK(pwrite(fd, any(2) ? "\n" : "+", 1, (off_t)any(8)) == 1 &&
	    close(fd) == 0);
	if (back)
		CHECK(utimensat(box, f->name, times, 0) == 0);
	else
		give_time(f->name);
}

static void
rewrite_openly(const struct file *f)
{
	rewrite(f, false);
}

/*
 * Rewrites a file and restores its mtime. kpopd can notice such a change only
 * by the new ctime, and a rename would explain a new ctime, too. So the
 * function acts only if this is the only change between two logins.
 */
static bool is_last;
static int since_login;
static void
rewrite_secretly(const struct file *f)
{
	if (is_last && since_login == 1)
		rewrite(f, true);
}

static void
replace(const struct file *f)
{
	TELL(" replace %s", f->name);
	CHECK(put("tmp", O_TRUNC) && renameat(box, "tmp", box, f->name) == 0);
	give_times();
}

static void
link_it(const struct file *f)
{
	char name[NAME_SIZE];

	flag(f, name);
	TELL(" link %s %s", f->name, name);
	if (linkat(box, f->name, box, name, 0) == -1)
		CHECK(errno == EEXIST);
	give_times();
}

/* Delivers a second file under an existing unique name. */
static void
double_it(const struct file *f)
{
	char name[NAME_SIZE];

	flag(f, name);
	TELL(" double %s", name);
	put(name, O_EXCL);
	give_times();
}

/* Makes an unreadable file readable. */
static void
open_it(const struct file *f)
{
	TELL(" readable %s", f->name);
	CHECK(fchmodat(box, f->name, 0600, 0) == 0);
}

/* Makes one random change, as another program does. */
static void
meddle(void)
{
	static void (*const deeds[])(const struct file *) = { deliver, deliver,
		deliver, change_flags, change_flags, take_away, grow,
		rewrite_openly, rewrite_secretly, replace, link_it, double_it,
		open_it };
	static struct picture p;
	unsigned which = any(sizeof(deeds) / sizeof(deeds[0]));

	since_login++;
	draw(&p);
	if (p.count > MOST_FILES - 5)
		take_away(&p.files[any((unsigned)p.count)]);
	else if (p.count > 0 || which == 0)
		deeds[which](p.count > 0 ? &p.files[any((unsigned)p.count)] :
					   NULL);
}

/* Opens a session. The argument "from" is its state directory. */
static void
begin(struct maildrop *drop, const char *from)
{
	CHECK(renameat(top, from, top, "state") == 0 &&
	    drop_begin(drop, WHERE) == DROP_OK);
	CHECK(renameat(top, "state", top, from) == 0);
}

/* Returns true if STAT reports the sum of the sizes in LIST. */
static bool
stat_is_list(const struct maildrop *drop)
{
	uint64_t sum = 0;

	for (size_t n = 1; n <= drop->count; n++)
		sum += maildrop_wire_size(drop, n);
	return sum == drop->wire_size;
}

/*
 * The files that the last session has fetched or failed to remove, in the state
 * in which it found them. If such a file is still in that state, the next
 * session must list its right size.
 */
static struct picture noticed;

static void
notice(const struct file *f)
{
	if (f != NULL && noticed.count < MOST_FILES)
		noticed.files[noticed.count++] = *f;
}

/* Returns true if a session has noticed the file in its present state. */
static bool
was_noticed(const struct file *f)
{
	for (size_t i = 0; i < noticed.count; i++) {
		const struct file *g = &noticed.files[i];

		if (is_same_message(f, g->unique, g->st.st_ino) &&
		    f->st.st_size == g->st.st_size &&
		    f->st.st_mtim.tv_sec == g->st.st_mtim.tv_sec &&
		    f->st.st_mtim.tv_nsec == g->st.st_mtim.tv_nsec &&
		    strcmp(f->text, g->text) == 0)
			return true;
	}
	return false;
}

/* The ids that the last session reported. */
static struct {
	char unique[NAME_SIZE], id[UIDL_SIZE];
	ino_t inode;
} known[MOST_FILES];
static size_t known_count;

/*
 * Returns true if message n of the model has the same id as before. A new
 * message must have its unique name as the id, unless another file has the same
 * unique name.
 */
static bool
is_right_id(const struct picture *model, size_t n, const char *id)
{
	const struct file *f = &model->files[n];
	bool has_double = (n > 0 && strcmp(f->unique, f[-1].unique) == 0) ||
	    (n + 1 < model->count && strcmp(f->unique, f[1].unique) == 0);

	for (size_t i = 0; i < known_count; i++)
		if (is_same_message(f, known[i].unique, known[i].inode))
			return strcmp(id, known[i].id) == 0;
	return strcmp(id, f->unique) == 0 || (has_double && id[0] == ':');
}

/*
 * Compares the ids of a session with those of the last session, and stores them
 * for the next one.
 */
static void
check_ids(struct maildrop *drop, const struct picture *model)
{
	static char ids[MOST_FILES][UIDL_SIZE];

	for (size_t n = 0; n < model->count; n++) {
		maildrop_uidl(drop, n + 1, ids[n]);
		if (!is_right_id(model, n, ids[n]))
			complain("UIDL is wrong");
		for (size_t k = 0; k < n; k++)
			if (strcmp(ids[k], ids[n]) == 0)
				complain("two messages have one id");
	}
	for (known_count = 0; known_count < model->count; known_count++) {
		strcpy(known[known_count].unique,
		    model->files[known_count].unique);
		strcpy(known[known_count].id, ids[known_count]);
		known[known_count].inode = model->files[known_count].st.st_ino;
	}
}

/*
 * Compares the list of a session with the model and with a session without an
 * index. Returns false if the numbers of messages differ.
 */
static bool
check_list(struct maildrop *drop, const struct picture *model)
{
	struct maildrop fresh;

	unlinkat(top, "fresh/index", 0);
	begin(&fresh, "fresh");
	if (drop->count != model->count || fresh.count != model->count) {
		TELL(" %zu messages, %zu without an index, not %zu",
		    drop->count, fresh.count, model->count);
		complain("other messages than there are");
		return false;
	}
	for (size_t n = 1; n <= model->count; n++) {
		const struct file *f = &model->files[n - 1];
		char id[UIDL_SIZE];
		bool second = n > 1 && strcmp(f->unique, f[-1].unique) == 0;

		maildrop_uidl(&fresh, n, id);
		if (second ? id[0] != ':' : strcmp(id, f->unique) != 0)
			complain("UIDL is wrong without an index");
		if (maildrop_wire_size(&fresh, n) != f->wire_size)
			complain("LIST is wrong without an index");
		if (maildrop_wire_size(drop, n) != f->wire_size &&
		    (!large || was_noticed(f)))
			complain("LIST is wrong");
	}
	check_ids(drop, model);
	if (!stat_is_list(drop) || !stat_is_list(&fresh))
		complain("STAT is not what LIST adds up to");
	return true;
}

/*
 * Reads the message in the way RETR does. If "disturb" is true, changes the
 * Maildir during the reading. Returns false if the client would not get the
 * final dot.
 */
static bool
read_it(struct maildrop *drop, size_t n, struct span *s, char text[TEXT_SIZE],
    bool disturb)
{
	static char sent[3 * TEXT_SIZE];
	const uint64_t wire_size = s->wire_size;
	size_t k = 0;
	ssize_t got;
	struct wire w;

	wire_init(&w, WIRE_ALL);
	while ((got = maildrop_read(s, text + k, 7)) > 0) {
		wire_put(&w, text + k, (size_t)got, sent);
		k += (size_t)got;
		if (disturb && k > 20) {
			meddle();
			disturb = false;
		}
	}
	wire_end(&w, sent);
	text[k] = '\0';
	return got == 0 && w.wire_size == wire_size &&
	    maildrop_end(drop, n, s, wire_size);
}

/* Retrieves message n and compares it with the file. */
static void
fetch(struct maildrop *drop, size_t n, struct deed *deed)
{
	static struct picture before, after;
	const bool disturb = any(8) == 0;
	const struct file *f, *g;
	enum drop_error error;
	struct span s;

	draw(&before);
	f = find(&before, deed->unique, deed->inode);
	TELL(" RETR %zu", n);
	if ((error = maildrop_begin(drop, n, &s)) != DROP_OK) {
		if (f != NULL && f->readable)
			complain("RETR is refused");
		return;
	}
	if (f == NULL || !f->readable) {
		complain("RETR of a message that is not there");
		return;
	}
	if (s.wire_size != f->wire_size ||
	    maildrop_wire_size(drop, n) != s.wire_size || !stat_is_list(drop))
		complain("RETR has other bytes than LIST or STAT afterwards");
	notice(f);
	if (!read_it(drop, n, &s, deed->text, disturb)) {
		if (!disturb)
			complain("RETR without its dot");
		return;
	}
	draw(&after);
	g = find(&after, deed->unique, deed->inode);
	if (strcmp(deed->text, g != NULL && g->readable ? g->text : f->text) !=
	    0)
		complain("RETR sent other bytes than the file contains");
	deed->fetched = true;
	deed->mtime = f->st.st_mtim.tv_sec;
}

/*
 * Checks a removal. All marked messages that the client has read must be
 * removed, and no other file. The result that the session reports must be
 * right.
 */
static void
check_removal(struct maildrop *drop, const struct picture *before,
    const struct deed *deeds, enum drop_error error, size_t removed)
{
	static struct picture after;
	size_t gone = 0;

	draw(&after);
	for (size_t n = 0; n < drop->count; n++) {
		const struct deed *d = &deeds[n];
		const struct file *f = find(before, d->unique, d->inode),
				  *g = find(&after, d->unique, d->inode);

		if (f == NULL)
			continue;
		if (!d->marked && g == NULL)
			complain("a message is gone that was not deleted");
		if (d->marked && d->fetched && f->readable) {
			if (g == NULL && strcmp(f->text, d->text) != 0)
				complain("a message is gone that the client "
					 "has not seen so");
			if (g != NULL && strcmp(f->text, d->text) == 0 &&
			    f->st.st_mtim.tv_sec == d->mtime)
				complain("a deleted message is still there");
		}
		if (d->marked && g != NULL) {
			if (error == DROP_OK)
				complain("+OK, and a deleted message is still "
					 "there");
			notice(g->readable ? g : NULL);
		}
		gone += d->marked && g == NULL;
	}
	for (size_t i = 0; i < before->count; i++) {
		const struct file *f = &before->files[i];
		bool ours = false;

		for (size_t n = 0; n < drop->count; n++)
			ours |= deeds[n].marked &&
			    is_same_message(f, deeds[n].unique, deeds[n].inode);
		if (!ours && faccessat(box, f->name, F_OK, 0) == -1)
			complain("a file is gone that was none of the deleted "
				 "messages");
	}
	if (gone != removed)
		complain("another number of messages is gone than QUIT claims");
	if (error != DROP_OK && error != DROP_CHANGED)
		complain("QUIT failed");
}

/* Runs one session, with changes before, during and after each step. */
static void
session(void)
{
	static struct picture model, before;
	static struct deed deeds[MOST_FILES];
	struct maildrop drop;
	enum drop_error error;
	size_t removed;

	ahead = any(4) > 0 ? 3600 : 0;
	TELL(" | %s:", ahead > 0 ? "old" : "new");
	closefrom(box + 1);
	draw(&model);
	keep_messages(&model);
	begin(&drop, "kept");
	since_login = 0;
	sessions++;
	if (!check_list(&drop, &model))
		return;
	noticed.count = 0;
	memset(deeds, 0, sizeof(deeds));
	for (size_t n = 0; n < drop.count; n++) {
		strcpy(deeds[n].unique, model.files[n].unique);
		deeds[n].inode = model.files[n].st.st_ino;
	}
	for (size_t n = 0; n < drop.count; n++) {
		if (any(12) == 0)
			meddle();
		if (any(3) == 0)
			fetch(&drop, n + 1, &deeds[n]);
		if (any(5) == 0) {
			TELL(" DELE %zu", n + 1);
			maildrop_mark(&drop, n + 1);
			deeds[n].marked = true;
		}
	}
	for (unsigned k = any(3) == 0 ? 1 + any(3) : 0; k > 0; k--)
		meddle();
	draw(&before);
	error = maildrop_commit(&drop, &removed);
	check_removal(&drop, &before, deeds, error, removed);
}

/* Makes an empty Maildir without an index. */
static void
renew(void)
{
	static struct picture p;

	draw(&p);
	for (size_t i = 0; i < p.count; i++)
		CHECK(unlinkat(box, p.files[i].name, 0) == 0);
	give_times();
	unlinkat(top, "kept/index", 0);
	noticed.count = known_count = 0;
}

/* Makes the Maildir and the state directories, and becomes an ordinary user. */
static void
make_directories(void)
{
	/* Become another user, because the superuser could read all files. */
	if (geteuid() == 0)
		CHECK(fchown(top, 12345, 12345) == 0 && seteuid(12345) == 0);
	CHECK(mkdirat(top, "Maildir", 0700) == 0 &&
	    mkdirat(top, "Maildir/new", 0700) == 0 &&
	    mkdirat(top, "Maildir/cur", 0700) == 0 &&
	    mkdirat(top, "kept", 0700) == 0 &&
	    mkdirat(top, "fresh", 0700) == 0);
	CHECK((box = openat(top, "Maildir", O_RDONLY | O_DIRECTORY)) != -1);
}

int
main(int argc, char **argv)
{
	const long wanted = argc > 1 ? atol(argv[1]) : SESSIONS;
	const size_t small = maildir_small;

	top = drop_directory();
	make_directories();
	for (seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
	     sessions < wanted; seed++) {
		state = 88172645463325252ULL + seed * 2654435761ULL;
		large = seed % 2 == 0;
		maildir_small = large ? 0 : small;
		renew();
		for (int i = 0; i < ROUNDS; i++) {
			story[0] = '\0';
			for (unsigned k = any(5); k > 0; k--) {
				is_last = k == 1;
				meddle();
			}
			is_last = false;
			session();
		}
	}
	CHECK(seteuid(getuid()) == 0);
	printf(
	    "sessions on a Maildir that others change: %ld points, %ld bad\n",
	    sessions, bad);
	return drop_clean_up() != 0 || bad > 0;
}
