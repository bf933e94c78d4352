/*
 * Fuzz target: opens Maildirs with any names and kinds of files.
 *
 * Input: the first byte selects the messages to remove. The files follow. Each
 * file consists of one byte for the kind, the name, and a NUL. The target
 * writes the file's name into each file.
 *
 * kpopd must list exactly the messages that an independent implementation of
 * the rules finds. RETR must send the size in LIST. The ids must be unique and
 * valid. A second session must report the same, even if another program has
 * changed all flags meanwhile. A removal must remove the marked messages and
 * nothing else.
 */
#include "config.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz/box.h"
#include "fuzz/tidy.h"

#define MOST 24 /* most files in a Maildir */
#define WHERE "maildir:%h/Maildir"

/* Bits of the byte for the kind. */
enum { CUR = 1, DOTTED = 2 };
enum kind { FILES, LINKED, FIFO, SYMLINK, SUBDIRECTORY, ALIKE };

struct file {
	char name[NAME_MAX + 1];
	int directory;
	ino_t inode;
	bool message; /* the file must be listed as a message */
	bool there;   /* the file system has permitted its name */
};

static int dirs[2] = { -1, -1 };
static struct file files[MOST];
static size_t count;

/*
 * Makes and opens the directories "new" and "cur". Only the first call does
 * this.
 */
static void
open_directories(void)
{
	static const char *const parts[] = { "Maildir/new", "Maildir/cur" };
	int top = fuzz_directory();

	if (dirs[0] != -1)
		return;
	HOLDS(mkdirat(top, "Maildir", 0700) == 0);
	for (int i = 0; i < 2; i++) {
		HOLDS(mkdirat(top, parts[i], 0700) == 0);
		dirs[i] = fcntl(openat(top, parts[i],
				    O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		    F_DUPFD_CLOEXEC, 0);
	}
}

/* Returns the bytes of a name before the colon. */
static size_t
unique_size(const char *name)
{
	return strcspn(name, ":");
}

static bool
same_unique(const struct file *a, const struct file *b)
{
	return unique_size(a->name) == unique_size(b->name) &&
	    memcmp(a->name, b->name, unique_size(a->name)) == 0;
}

/*
 * Returns true if the rules make the file a message. It must be a regular file,
 * its name must not begin with a dot, and the name must not contain control
 * characters. If one file has two names with the same unique name, only one of
 * these counts.
 */
static bool
is_message(const struct file *f, enum kind kind)
{
	if (f->name[0] == '.' ||
	    (kind != FILES && kind != LINKED && kind != ALIKE))
		return false;
	for (const char *p = f->name; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	for (const struct file *other = files; other < f; other++)
		if (other->message && other->inode == f->inode &&
		    same_unique(other, f))
			return false;
	return true;
}

/* Makes a regular file that contains its name. Returns false if that fails. */
static bool
make_regular(const struct file *f)
{
	int fd = openat(dirs[f->directory], f->name,
	    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd == -1)
		return false;
	HOLDS(write(fd, f->name, strlen(f->name)) != -1 && close(fd) == 0);
	return true;
}

/*
 * Makes a file of the given kind. A link leads to the previous file. Returns
 * false if the file cannot be made.
 */
static bool
make(const struct file *f, enum kind kind)
{
	const struct file *before = f > files ? f - 1 : NULL;

	switch (kind) {
	case LINKED:
		return before != NULL && before->there &&
		    linkat(dirs[before->directory], before->name,
			dirs[f->directory], f->name, 0) == 0;
	case FIFO:
		return mkfifoat(dirs[f->directory], f->name, 0600) == 0;
	case SYMLINK:
		return symlinkat("/etc/passwd", dirs[f->directory], f->name) ==
		    0;
	case SUBDIRECTORY:
		return mkdirat(dirs[f->directory], f->name, 0700) == 0;
	default:
		return make_regular(f);
	}
}

/* Makes the next file of the input. */
static void
next_file(struct input *in)
{
	unsigned byte = input_byte(in);
	enum kind kind = (byte >> 2 & 7) % 6;
	const uint8_t *end = memchr(in->at, '\0', in->left);
	size_t n = end != NULL ? (size_t)(end + 1 - in->at) : in->left;
	struct file *f = &files[count];
	const uint8_t *name = input_take(in, &n);
	struct stat st;

	*f = (struct file){ .directory = byte & CUR };
	/* The name begins with the unique name of the previous file. */
	if (kind == ALIKE && count > 0)
		memcpy(f->name, f[-1].name, unique_size(f[-1].name));
	for (size_t i = 0, k = strlen(f->name); i < n && k < NAME_MAX; i++)
		if (name[i] != '/' && name[i] != '\0')
			f->name[k++] = (char)name[i];
	if (f->name[0] == '\0' || strcmp(f->name, ".") == 0 ||
	    strcmp(f->name, "..") == 0 || !make(f, kind))
		return;
	HOLDS(fstatat(dirs[f->directory], f->name, &st, AT_SYMLINK_NOFOLLOW) ==
	    0);
	f->inode = st.st_ino;
	/*
	 * A hard link to a FIFO is not a regular file, so it is not a message.
	 */
	f->message = S_ISREG(st.st_mode) && is_message(f, kind);
	f->there = true;
	count++;
}

/* Returns the number of files that must be listed. */
static size_t
messages(void)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++)
		n += files[i].message;
	return n;
}

/*
 * Finds the file of a message, and checks that no other message had that file.
 * Returns false if no file belongs to the message.
 */
static bool
see(const struct shown *s, bool *seen)
{
	for (size_t i = 0; i < count; i++)
		if (files[i].message && !seen[i] &&
		    files[i].inode == s->inode) {
			seen[i] = true;
			return true;
		}
	return false;
}

/*
 * Returns true if the file's unique name is a valid id, so that kpopd uses the
 * name unchanged.
 */
static bool
is_id(const struct file *f)
{
	size_t n = unique_size(f->name);

	for (size_t i = 0; i < n; i++)
		if (f->name[i] < 0x21 || f->name[i] > 0x7e)
			return false;
	return n >= 1 && n <= 70;
}

/*
 * Checks that each message is listed once, and that each valid unique name is
 * the id of a message.
 */
static void
check_messages(const struct shown *shown, size_t n)
{
	bool seen[MOST] = { false };

	HOLDS(n == messages());
	for (size_t i = 0; i < n; i++)
		HOLDS(see(&shown[i], seen));
	for (const struct file *f = files; f < files + count; f++) {
		size_t i = 0;

		if (!f->message || !is_id(f))
			continue;
		while (i < n &&
		    (strlen(shown[i].id) != unique_size(f->name) ||
			memcmp(shown[i].id, f->name, strlen(shown[i].id)) != 0))
			i++;
		HOLDS(i < n);
	}
}

/*
 * Renames all messages, as a program does that marks messages as seen. Does not
 * rename a message if the new name exists or is too long.
 */
static void
change_flags(void)
{
	for (size_t i = 0; i < count; i++) {
		struct file *f = &files[i];
		char name[2 * NAME_MAX];

		snprintf(name, sizeof(name), "%.*s:2,%zuS",
		    (int)unique_size(f->name), f->name, i);
		if (!f->message || strlen(name) > NAME_MAX ||
		    renameat2(dirs[f->directory], f->name, dirs[1], name,
			RENAME_NOREPLACE) == -1)
			continue;
		f->directory = 1;
		strcpy(f->name, name);
	}
}

/* Returns true if the file still exists. */
static bool
is_there(const struct file *f)
{
	struct stat st;

	return fstatat(dirs[f->directory], f->name, &st, AT_SYMLINK_NOFOLLOW) ==
	    0 &&
	    st.st_ino == f->inode;
}

/* Returns true if a marked message has the file's inode. */
static bool
is_marked(const struct shown *shown, size_t n, const unsigned char *marks,
    const struct file *f)
{
	for (size_t i = 0; i < n; i++)
		if (shown[i].inode == f->inode &&
		    (marks[i / 8] >> i % 8 & 1) != 0)
			return true;
	return false;
}

/* Marks and removes messages. Checks that the right files are gone. */
static void
check_removal(struct maildrop *drop, const struct shown *shown, uint32_t random)
{
	unsigned char marks[MOST / 8 + 1];
	size_t removed, gone = 0;

	box_mark(drop, random, marks);
	HOLDS(maildrop_commit(drop, &removed) == DROP_OK &&
	    removed == drop->marked);
	for (size_t i = 0; i < count; i++) {
		bool there = is_there(&files[i]);

		HOLDS(there || is_marked(shown, drop->count, marks, &files[i]));
		/*
		 * When a message is removed, its second name is removed, too.
		 * The second name does not count as a message.
		 */
		gone += !there && files[i].message;
	}
	HOLDS(gone == removed);
}

/* Removes all files. */
static void
clear(void)
{
	for (size_t i = 0; i < count; i++)
		if (unlinkat(dirs[files[i].directory], files[i].name, 0) == -1)
			unlinkat(dirs[files[i].directory], files[i].name,
			    AT_REMOVEDIR);
	count = 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint32_t random = input_byte(&in);
	struct maildrop drop, again;
	struct shown *shown, *later;

	tidy_begin();
	box_discard_index();
	open_directories();
	while (in.left > 0 && count < MOST)
		next_file(&in);
	/*
	 * The input decides whether fingerprints are stable. If they are, the
	 * session notices another program's changes by the times. If they are
	 * not, the session always reads the names again.
	 */
	box_ahead = (random & 0x40) != 0 ? 10 : 0;
	HOLDS(box_open(&drop, WHERE) == DROP_OK);
	shown = box_show(&drop);
	check_messages(shown, drop.count);
	if ((random & 0x80) != 0) {
		box_ahead = 0;
		change_flags();
	}
	HOLDS(box_open(&again, WHERE) == DROP_OK && again.count == drop.count);
	later = box_show(&again);
	check_messages(later, again.count);
	check_removal(&drop, shown, random);
	clear();
	tidy_end();
	return 0;
}
