/*
 * Tests every mailbox format through maildrop.c with one set of tests.
 *
 * Runs as any user. The model of a mailbox is a list of messages. Another
 * program may read, remove or add messages at any time. Each format has a
 * function that changes the mailbox in the way that such a program does. When
 * the function returns, the mailbox agrees with the model.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "maildrop-state.h"
#include "store.h"
#include "tests/unit/check.h"
#include "tests/unit/drop.h"

/*
 * A message: "stored" is what an MDA delivers to either format, and "sent" is
 * what a client gets.
 */
struct mail {
	struct text stored, sent;
};

static const struct mail mails[MOST] = {
	{ TEXT("A: 1\n\none\n"), TEXT("A: 1\r\n\r\none\r\n") },
	{ TEXT("A: 2\r\n\r\n.\r\n..\r\n"), TEXT("A: 2\r\n\r\n.\r\n..\r\n") },
	{ TEXT("A: 3\n\nnul \0 and \xff\n\n\n"),
	    TEXT("A: 3\r\n\r\nnul \0 and \xff\r\n\r\n\r\n") },
	{ TEXT("A: 4\n\n>From inside\n"),
	    TEXT("A: 4\r\n\r\n>From inside\r\n") },
	{ TEXT("A: 5\n\n"), TEXT("A: 5\r\n\r\n") },
	{ TEXT("A: 6\n\na\rb\r\n\n"), TEXT("A: 6\r\n\r\na\rb\r\n\r\n") },
};

/*
 * there[i] is true if message i is in the mailbox. seen[i] is true if a mail
 * reader has marked message i as seen.
 */
struct model {
	bool there[MOST], seen[MOST];
};

static int top;

/* The linker replaces fsync by __wrap_fsync (--wrap). */
static bool is_failing;
static int syncs;

int __real_fsync(int);
int __wrap_fsync(int);

int
__wrap_fsync(int fd)
{
	syncs++;
	errno = EIO;
	return is_failing ? -1 : __real_fsync(fd);
}

static void
put(int fd, const char *p, size_t n)
{
	CHECK(write(fd, p, n) == (ssize_t)n);
}

/* Rewrites the spool in place, as mail readers do. */
static void
write_mbox(const struct model *m)
{
	int fd = openat(top, "spool", O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd != -1);
	for (int i = 0; i < MOST; i++) {
		if (!m->there[i])
			continue;
		put(fd, "From a\n", 7);
		if (m->seen[i])
			put(fd, "Status: RO\n", 11);
		put(fd, mails[i].stored.p, mails[i].stored.n);
		put(fd, "\n", 1);
	}
	CHECK(close(fd) == 0);
}

/* Makes, removes and renames files until the Maildir agrees with the model. */
static void
write_maildir(const struct model *m)
{
	const char *const parts[] = { "Maildir", "Maildir/tmp", "Maildir/new",
		"Maildir/cur" };

	for (int k = 0; k < 4; k++)
		mkdirat(top, parts[k], 0700);
	for (int i = 0; i < MOST; i++) {
		char new[64], cur[64];
		bool is_new, is_cur;
		int fd;

		/*
		 * The time in the first name has fewer digits. The other names
		 * differ only after the time.
		 */
		snprintf(new, sizeof(new), "Maildir/new/%s.M%d.host",
		    i < 1 ? "999999999" : "1000000000", i);
		snprintf(cur, sizeof(cur), "Maildir/cur/%s:2,S",
		    strrchr(new, '/') + 1);
		is_new = faccessat(top, new, F_OK, 0) == 0;
		is_cur = faccessat(top, cur, F_OK, 0) == 0;
		if (!m->there[i]) {
			unlinkat(top, new, 0);
			unlinkat(top, cur, 0);
			continue;
		}
		if (!is_new && !is_cur) {
			CHECK((fd = openat(top, new,
				   O_WRONLY | O_CREAT | O_EXCL, 0600)) != -1);
			put(fd, mails[i].stored.p, mails[i].stored.n);
			CHECK(close(fd) == 0);
			is_new = true;
		}
		if (is_new && m->seen[i])
			CHECK(renameat(top, new, top, cur) == 0);
		if (is_cur && !m->seen[i])
			CHECK(renameat(top, cur, top, new) == 0);
	}
}

static const struct format {
	const char *word; /* the word of the format in -m */
	const char *name; /* path of the mailbox, below "top" */
	void (*write)(const struct model *m);
	bool is_marked_inside; /* mail readers write marks into the message */
} formats[] = {
	{ "mbox", "spool", write_mbox, true },
	{ "maildir", "Maildir", write_maildir, false },
};
static const struct format *format;

/* Opens a session on the mailbox with the given name, in the current format. */
static enum drop_error
begin_at(struct maildrop *drop, const char *name)
{
	static char where[64];

	snprintf(where, sizeof(where), "%s:%%h/%s", format->word, name);
	return drop_begin(drop, where);
}

/* Opens a session on the mailbox of the current format. */
static void
begin(struct maildrop *drop)
{
	CHECK(begin_at(drop, format->name) == DROP_OK);
}

/*
 * Makes a mailbox that contains the first "count" messages. No message is
 * marked as seen. Closes the descriptors of earlier sessions, because a real
 * session closes them by ending.
 */
static struct model
fresh(int count)
{
	struct model m = { .seen = { false } };

	closefrom(top + 1);
	for (int i = 0; i < count; i++)
		m.there[i] = true;
	format->write(&(struct model){ .seen = { false } });
	format->write(&m);
	return m;
}

/*
 * Checks that a new session finds the messages of the model. Does not compare a
 * message to which a mail reader has added a Status line.
 */
static void
check(const struct model *m)
{
	struct maildrop drop;
	uint64_t wire_size = 0;
	size_t n = 0;

	begin(&drop);
	for (int i = 0; i < MOST; i++) {
		if (!m->there[i])
			continue;
		n++;
		CHECK(n <= drop.count);
		wire_size += maildrop_wire_size(&drop, n);
		if (!m->seen[i] || !format->is_marked_inside)
			drop_check_message(&drop, n, &mails[i].sent);
	}
	CHECK(drop.count == n && drop.wire_size == wire_size);
	drop_check_ids(&drop);
}

static void
every_subset_can_be_removed(void)
{
	for (unsigned subset = 0; subset < 1u << MOST; subset++) {
		struct model m = fresh(MOST);
		struct maildrop drop;
		size_t removed;

		begin(&drop);
		for (int i = 0; i < MOST; i++)
			if ((subset >> i & 1) != 0) {
				maildrop_mark(&drop, (size_t)i + 1);
				m.there[i] = false;
			}
		CHECK(maildrop_commit(&drop, &removed) == DROP_OK);
		CHECK(removed == (size_t)__builtin_popcount(subset));
		check(&m);
	}
}

static void
marks_alone_remove_nothing(void)
{
	struct model m = fresh(3);
	struct maildrop drop;
	size_t removed;

	begin(&drop);
	maildrop_mark(&drop, 2);
	check(&m);
	maildrop_reset(&drop);
	CHECK(maildrop_commit(&drop, &removed) == DROP_OK && removed == 0);
	check(&m);
}

static void
mail_that_arrives_stays(void)
{
	for (unsigned subset = 1; subset < 8; subset++) {
		struct model m = fresh(3);
		struct maildrop drop;
		size_t removed;

		begin(&drop);
		m.there[3] = m.there[4] = true;
		format->write(&m);
		CHECK(drop.count == 3);
		drop_check_message(&drop, 2, &mails[1].sent);
		for (int i = 0; i < 3; i++)
			if ((subset >> i & 1) != 0) {
				maildrop_mark(&drop, (size_t)i + 1);
				m.there[i] = false;
			}
		CHECK(maildrop_commit(&drop, &removed) == DROP_OK);
		check(&m);
	}
}

/*
 * A mail reader removes messages during the session. QUIT removes the marked
 * messages that are still there, and no others. The result reports that
 * messages were missing.
 */
static void
others_may_remove_meanwhile(void)
{
	for (unsigned theirs = 0; theirs < 16; theirs++)
		for (unsigned ours = 1; ours < 16; ours++) {
			struct model m = fresh(4);
			struct maildrop drop;
			size_t removed;
			enum drop_error error;

			begin(&drop);
			for (int i = 0; i < 4; i++) {
				if ((ours >> i & 1) != 0)
					maildrop_mark(&drop, (size_t)i + 1);
				m.there[i] = (theirs >> i & 1) == 0;
			}
			format->write(&m);
			error = maildrop_commit(&drop, &removed);
			CHECK(error ==
			    ((ours & theirs) == 0 ? DROP_OK : DROP_CHANGED));
			CHECK(removed ==
			    (size_t)__builtin_popcount(ours & ~theirs));
			for (int i = 0; i < 4; i++)
				m.there[i] &= (ours >> i & 1) == 0;
			check(&m);
		}
}

static void
removed_messages_are_not_read(void)
{
	struct model m = fresh(3);
	struct maildrop drop;
	struct span s;

	begin(&drop);
	m.there[0] = false;
	format->write(&m);
	CHECK(maildrop_begin(&drop, 1, &s) == DROP_CHANGED);
	check(&m);
}

static void
seen_messages_can_be_removed(void)
{
	for (unsigned subset = 1; subset < 8; subset++) {
		struct model m = fresh(3);
		struct maildrop drop;
		size_t removed;

		begin(&drop);
		for (int i = 0; i < 3; i++)
			m.seen[i] = (subset >> i & 1) != 0;
		format->write(&m);
		maildrop_mark(&drop, 1);
		maildrop_mark(&drop, 3);
		m.there[0] = m.there[2] = false;
		CHECK(maildrop_commit(&drop, &removed) == DROP_OK &&
		    removed == 2);
		check(&m);
	}
}

static void
ids_stay(void)
{
	char ids[MOST][UIDL_SIZE], id[UIDL_SIZE];
	struct model m = fresh(MOST);
	struct maildrop drop;

	begin(&drop);
	for (size_t n = 1; n <= MOST; n++)
		maildrop_uidl(&drop, n, ids[n - 1]);
	for (unsigned subset = 1; subset < 1u << MOST; subset++) {
		size_t n = 0;

		for (int i = 0; i < MOST; i++) {
			m.there[i] = (subset >> i & 1) != 0;
			m.seen[i] = (subset >> (i + 1) % MOST & 1) != 0;
		}
		format->write(&m);
		begin(&drop);
		for (int i = 0; i < MOST; i++) {
			if (!m.there[i])
				continue;
			maildrop_uidl(&drop, ++n, id);
			CHECK(strcmp(id, ids[i]) == 0);
		}
		CHECK(drop.count == n);
	}
}

static void
absent_is_empty(void)
{
	struct maildrop drop;

	CHECK(begin_at(&drop, "none") == DROP_OK);
	CHECK(drop.count == 0 && drop.wire_size == 0);
	CHECK(faccessat(top, "none", F_OK, 0) == -1);
	CHECK(begin_at(&drop, "no/where") == DROP_FAILED);
}

/* A session that may only read removes nothing, and still reads everything. */
static void
read_only_removes_nothing(void)
{
	struct model m = fresh(MOST);
	struct maildrop drop;
	char where[64];
	size_t removed;

	snprintf(where, sizeof(where), "%s:%%h/%s", format->word, format->name);
	CHECK(drop_begin_read_only(&drop, where) == DROP_OK);
	CHECK(drop.count == MOST && drop.read_only);
	for (size_t n = 1; n <= MOST; n++) {
		drop_check_message(&drop, n, &mails[n - 1].sent);
		maildrop_mark(&drop, n);
	}
	CHECK(maildrop_commit(&drop, &removed) == DROP_DENIED && removed == 0);
	check(&m);
}

/*
 * A new state directory is synced. Without the sync, a power failure could lose
 * the directory and the journal in it.
 */
static void
state_is_on_the_disk(void)
{
	struct mailboxes boxes;
	char path[64] = "", here[64];
	int user, state = -1;

	CHECK(mkdirat(top, "user", 0700) == 0 &&
	    (user = openat(top, "user", O_RDONLY | O_DIRECTORY)) != -1);
	snprintf(here, sizeof(here), "/proc/self/fd/%d", top);
	CHECK(readlink(here, path, sizeof(path) - 1) > 0);
	CHECK(mailboxes_read(&boxes, "mbox:%h/spool") == 0);
	is_failing = true;
	CHECK(maildrop_state_open(&boxes, mailboxes_path(&boxes, "user", path),
		  user, &state) == DROP_FAILED);
	/*
	 * The next session finds the directory, but cannot know whether it was
	 * synced. So it syncs the directory, too.
	 */
	syncs = 0;
	CHECK(maildrop_state_open(&boxes, mailboxes_path(&boxes, "user", path),
		  user, &state) == DROP_FAILED &&
	    syncs == 1);
	is_failing = false;
	CHECK(maildrop_state_open(&boxes, mailboxes_path(&boxes, "user", path),
		  user, &state) == DROP_OK &&
	    syncs == 2);
	CHECK(faccessat(state, "mailbox", F_OK, 0) == 0);
	CHECK(maildrop_state_open(&boxes, mailboxes_path(&boxes, "user", path),
		  user, &state) == DROP_OK &&
	    syncs == 2);
}

int
main(void)
{
	top = drop_directory();
	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		format = &formats[i];
		every_subset_can_be_removed();
		marks_alone_remove_nothing();
		read_only_removes_nothing();
		mail_that_arrives_stays();
		others_may_remove_meanwhile();
		removed_messages_are_not_read();
		seen_messages_can_be_removed();
		ids_stay();
		absent_is_empty();
	}
	state_is_on_the_disk();
	for (size_t i = 0; mailboxes_store(i) != NULL; i++)
		CHECK(strlen(mailboxes_store(i)->name) <= STORE_NAME);
	return drop_clean_up();
}
