/*
 * Keeps the list of the messages in a Maildir from session to session, as an
 * index.
 *
 * Runs in the session, as the owner of the mailbox.
 *
 * The index contains a record for each message, in the order of the messages.
 * Its note contains the fingerprints of new and cur.
 *
 *	new and cur are unchanged   the list is current, no name is read
 *	otherwise                   the names are read; a file is opened only
 *	                            if the list has no record with its unique
 *	                            name and inode, or if the Maildir is small
 *	                            and the record may be out of date
 *
 * If a program changes the content of a file, the times of new and cur stay the
 * same. Therefore each login to a small Maildir compares the status of every
 * file. In a larger Maildir the session notices the change when it fetches the
 * message. Then the session computes the message's size again and corrects the
 * record in the index.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "maildir-files.h"
#include "maildir-records.h"

size_t maildir_small = 256;

#define KIND "maildir3"
/* The size of a record whose name has n bytes. */
#define RECORD_SIZE(n) ((offsetof(struct record, name) + (n) + 8) & ~(size_t)7)

/*
 * Copies record i of a list. Returns false if record i does not exist or is not
 * valid.
 */
static bool
get_record(struct index *list, size_t i, struct record *r)
{
	const void *p = index_get(list, i);
	size_t size = index_record_size(list);

	if (p == NULL || size > sizeof(*r))
		return false;
	memcpy(r, p, size);
	/*
	 * After a power failure a record may be all zeros, because the disk may
	 * have the new header of the index, but the old version of the record's
	 * block.
	 */
	return r->length > 0 &&
	    r->length < size - offsetof(struct record, name) &&
	    r->name[r->length] == '\0' && r->unique <= r->length &&
	    r->directory < NAMES_DIRECTORIES;
}

/*
 * Puts the record of message i into the list. Afterwards the total size in the
 * note may be wrong. So this function first marks the fingerprints as not
 * stable, and the next login adds the sizes up again.
 */
static void
put_distrusted(struct maildir *m, size_t i, const struct record *r)
{
	struct note note = m->note;

	note.seen[0].stable = 0;
	if (!m->is_distrusted) {
		index_save(m->list, &note, sizeof(note));
		m->is_distrusted = true;
	}
	index_put(m->list, i, r);
	/* On a shared file system the record is only in memory now. */
	if (index_is_in_memory(m->list))
		index_save(m->list, &note, sizeof(note));
}

void
records_correct(struct maildir *m, size_t i, const struct record *r)
{
	const void *kept = index_get(m->list, i);

	if (kept == NULL || memcmp(kept, r, index_record_size(m->list)) != 0)
		put_distrusted(m, i, r);
}

void
records_distrust(struct maildir *m, size_t i, struct record *r)
{
	r->listed = 0;
	put_distrusted(m, i, r);
}

enum drop_error
records_read_names(struct maildir *m, struct names *l, struct index *list)
{
	enum drop_error error = names_read(l, m->dirs);
	struct names known = { 0 };
	struct record r;

	if (error != DROP_OK || names_is_proven(l))
		return error;
	for (size_t i = 0; list != NULL && get_record(list, i, &r); i++)
		if (strchr(r.name, '/') == NULL)
			names_add(&known, r.name, (ino_t)r.listed, r.directory);
	error = names_insist(l, m->dirs, &known);
	names_free(&known);
	return error;
}

/*
 * The list of an earlier session, with a cursor that advances together with the
 * new names. List and names are in the same order.
 */
struct earlier {
	struct index *list; /* NULL: there is none */
	/* the cursor: all records before it have earlier unique names */
	size_t at;
};

/* Moves the cursor to the first record whose unique name is not before u. */
static void
move_to(struct earlier *old, const struct unique *u)
{
	struct record r = { 0 };

	for (; get_record(old->list, old->at, &r); old->at++) {
		const struct unique v = record_unique(&r);

		if (unique_compare(&v, u) >= 0)
			break;
	}
}

/*
 * Searches the records from the cursor on for this unique name and inode. If a
 * record has both, stores it in *r and returns true.
 */
static bool
find_earlier(const struct earlier *old, const struct unique *u, ino_t inode,
    struct record *r)
{
	struct record there = { 0 };

	for (size_t i = old->at; get_record(old->list, i, &there); i++) {
		const struct unique v = record_unique(&there);

		if (unique_compare(&v, u) != 0)
			break;
		if (there.listed == inode) {
			*r = there;
			return true;
		}
	}
	return false;
}

/*
 * Returns true if the file of this name still matches the record, and stores
 * the file's ctime in the record. Also returns true if no file has this name
 * any more. In this case another program has just renamed or removed the file,
 * and the next login examines it.
 */
static bool
confirm(const struct maildir *m, int directory, const char *name,
    struct record *r)
{
	struct stat st;

	if (fstatat(m->dirs[directory], name, &st, AT_SYMLINK_NOFOLLOW) == -1)
		return errno == ENOENT;
	if (!S_ISREG(st.st_mode) ||
	    !files_is_as_counted(r, &st, directory, name))
		return false;
	r->ctime = fingerprint_ns(&st.st_ctim);
	return true;
}

/*
 * Makes a new list for names of at most `longest` bytes, and copies the first
 * m->count records of the earlier list.
 */
static void
begin_list(struct maildir *m, struct index *earlier, size_t longest)
{
	struct record r = { 0 };

	m->list = index_new(m->state, KIND, RECORD_SIZE(longest));
	for (size_t i = 0; i < m->count && get_record(earlier, i, &r); i++)
		index_put(m->list, i, &r);
}

/*
 * Appends a record to m->list. At first m->list is the earlier list, and equal
 * records stay as they are. Makes a new list if a record replaces a different
 * one, or if a name is too long for the records of the earlier list.
 */
static void
put_record(struct maildir *m, const struct names *l, struct index *earlier,
    const struct record *r)
{
	const void *there;

	m->note.wire_size += r->wire_size;
	if (m->list == earlier) {
		size_t size = index_record_size(earlier);

		there = index_get(earlier, m->count);
		if (there != NULL && memcmp(there, r, size) == 0) {
			m->count++;
			return;
		}
		if (m->count < index_count(earlier) ||
		    RECORD_SIZE(l->longest) > size)
			begin_list(m, earlier, l->longest);
	}
	index_put(m->list, m->count++, r);
}

/*
 * Copies record i of a list. Returns true if it exists and has this unique
 * name.
 */
static bool
get_same_unique(struct index *list, size_t i, const struct unique *u,
    struct record *r)
{
	struct unique v;

	if (list == NULL || !get_record(list, i, r))
		return false;
	v = record_unique(r);
	return unique_compare(&v, u) == 0;
}

/*
 * Returns true if the names contain the file of this record, under this unique
 * name.
 */
static bool
is_file_listed(const struct names *l, const struct unique *u,
    const struct record *r)
{
	for (const struct entry *e = names_find(l, u); names_has(l, e, u); e++)
		if (e->inode == r->listed || e->inode == r->inode)
			return true;
	return false;
}

/*
 * Gives a message the ordinal that the earlier list has for its file. A new
 * file gets the ordinal 0, unless another file with the same unique name has
 * this ordinal. In that case the new file gets an ordinal that no message of
 * this unique name has in the earlier or the new list. The order of the inodes
 * must not decide the ordinal. If it did, a new file could get the UIDL of
 * another message. A client that has fetched the other message would then not
 * fetch the new one.
 */
static void
choose_ordinal(const struct maildir *m, const struct names *l,
    const struct unique *u, const struct earlier *old, struct record *r)
{
	struct record other = { 0 };
	bool is_taken = false;
	uint32_t next = 1;

	r->ordinal = 0;
	for (size_t i = old->at; get_same_unique(old->list, i, u, &other);
	     i++) {
		if (other.inode == r->inode)
			r->ordinal = other.ordinal;
		else if (other.ordinal == 0)
			is_taken |= is_file_listed(l, u, &other);
		if (other.ordinal >= next)
			next = other.ordinal + 1;
	}
	if (r->ordinal != 0)
		is_taken = false;
	for (size_t k = m->count;
	     k-- > 0 && get_same_unique(m->list, k, u, &other);) {
		is_taken |= other.ordinal == r->ordinal;
		if (other.ordinal >= next)
			next = other.ordinal + 1;
	}
	if (is_taken)
		r->ordinal = next;
}

/*
 * Adds the message of an entry, unless the list already contains the entry's
 * file under another full name.
 */
static void
add_message(struct maildir *m, const struct names *l, const struct entry *e,
    const struct earlier *old, struct record *r)
{
	const struct unique u = names_unique(l, e);
	struct record before = { 0 };

	/* Records with the same unique name are adjacent. */
	for (size_t k = m->count;
	     k-- > 0 && get_same_unique(m->list, k, &u, &before);)
		if (before.inode == r->inode)
			return;
	choose_ordinal(m, l, &u, old, r);
	r->time = e->time;
	r->directory = (uint8_t)e->directory;
	r->length = (uint16_t)strlen(u.name);
	r->unique = (uint16_t)u.n;
	memset(r->name, 0, sizeof(r->name));
	memcpy(r->name, u.name, r->length);
	put_record(m, l, old->list, r);
}

/*
 * Copies record i of the earlier list. Returns true if the record has the
 * entry's inode, directory and full name.
 */
static bool
is_record_of(struct index *list, size_t i, const struct names *l,
    const struct entry *e, struct record *r)
{
	return get_record(list, i, r) && r->listed == e->inode &&
	    r->directory == e->directory &&
	    strcmp(r->name, names_name(l, e)) == 0;
}

/*
 * Starts the list with the first records of the earlier list, up to the first
 * record that does not match the name at the same position. Returns the number
 * of these records. Sets the cursor to the first record that can belong to one
 * of the remaining names.
 */
static size_t
start_list(struct maildir *m, const struct names *l, struct earlier *old)
{
	const bool small = l->count <= maildir_small;
	struct record r = { 0 };

	memcpy(m->note.seen, l->seen, sizeof(l->seen));
	m->note.wire_size = 0;
	m->count = 0;
	m->list = old->list != NULL ?
	    old->list :
	    index_new(m->state, KIND, RECORD_SIZE(l->longest));
	while (old->list != NULL && m->count < l->count &&
	    is_record_of(old->list, m->count, l, &l->list[m->count], &r) &&
	    (!small || confirm(m, r.directory, r.name, &r))) {
		m->note.wire_size += r.wire_size;
		m->count++;
	}
	for (old->at = m->count; old->at > 0 && m->count < l->count;
	     old->at--) {
		const struct unique u = names_unique(l, &l->list[m->count]);
		struct unique v;

		if (!get_record(old->list, old->at - 1, &r))
			break;
		v = record_unique(&r);
		if (unique_compare(&v, &u) != 0)
			break;
	}
	return m->count;
}

/*
 * Finds the record of an entry in the earlier list, if that record still
 * describes the file. Otherwise opens the file and makes a record.
 */
static enum files_finding
find_record(struct maildir *m, const struct names *l, const struct entry *e,
    struct earlier *old, struct record *r)
{
	const struct unique u = names_unique(l, e);
	const bool small = l->count <= maildir_small;

	if (old->list != NULL) {
		move_to(old, &u);
		if (find_earlier(old, &u, e->inode, r) &&
		    (!small || confirm(m, e->directory, u.name, r)))
			return FILES_FOUND;
	}
	return files_examine(m, l, e, r);
}

/*
 * Makes the list of the messages from the names. Opens a file if the earlier
 * list has no record for it.
 */
static enum drop_error
list_messages(struct maildir *m, struct names *l, struct index *earlier)
{
	struct earlier old = { .list = earlier };
	size_t unread = 0;
	int error = 0;

	for (size_t i = start_list(m, l, &old); i < l->count; i++) {
		const struct entry *e = &l->list[i];
		struct record r = { 0 };
		enum files_finding found = find_record(m, l, e, &old, &r);

		if (found == FILES_TROUBLE) {
			log_failed("reading the Maildir");
			return DROP_FAILED;
		}
		if (found == FILES_UNREADABLE) {
			error = errno;
			unread++;
		}
		if (found == FILES_FOUND || found == FILES_UNREADABLE)
			add_message(m, l, e, &old, &r);
		else if (found == FILES_NOT_A_MESSAGE) {
			/*
			 * The times of new and cur do not change when a file
			 * becomes readable. So the next login must read the
			 * names again.
			 */
			l->skipped++;
			m->note.seen[0].stable = 0;
		}
	}
	if (m->count < index_count(m->list))
		index_truncate(m->list, m->count);
	if (unread > 0)
		log_event(LOG_ERR, "failed",
		    "what=\"reading messages of the Maildir\" files=%zu "
		    "error=\"%s\"",
		    unread, strerror(error));
	if (l->skipped > 0)
		log_event(LOG_WARNING, "skipped",
		    "files=%zu reason=\"not a regular file, "
		    "not readable, or a control character in the name\"",
		    l->skipped);
	return DROP_OK;
}

struct index *
records_load(struct maildir *m)
{
	struct index *list = index_load(m->state, KIND);

	if (list == NULL || index_record_size(list) < RECORD_SIZE(1) ||
	    index_record_size(list) > sizeof(struct record))
		return NULL;
	memcpy(&m->note, index_note(list), sizeof(m->note));
	return list;
}

enum drop_error
records_update(struct maildir *m, struct index *old)
{
	struct names l = { 0 };
	enum drop_error error = records_read_names(m, &l, old);

	if (error == DROP_OK)
		error = list_messages(m, &l, old);
	names_free(&l);
	m->is_distrusted = false;
	m->note.directory = m->directory;
	m->note.top = m->dirs[0] != -1 || m->dirs[1] != -1 ?
	    m->top :
	    (struct identity){ 0 };
	if (error == DROP_OK)
		index_save(m->list, &m->note, sizeof(m->note));
	return error;
}

/*
 * Returns true if all files match their records and the note contains the sum
 * of their sizes.
 */
static bool
is_confirmed_by_all(const struct maildir *m, struct index *list)
{
	struct record r = { 0 };
	uint64_t wire_size = 0;
	struct stat st;
	size_t i;

	for (i = 0; i < index_count(list); i++) {
		if (!get_record(list, i, &r) ||
		    !files_has(m, r.directory, r.name, &r, &st) ||
		    !files_is_as_counted(&r, &st, r.directory, r.name))
			return false;
		wire_size += r.wire_size;
	}
	return wire_size == m->note.wire_size;
}

bool
records_are_current(const struct maildir *m, struct index *list)
{
	return names_is_current(m->dirs, m->note.seen) &&
	    (index_count(list) > maildir_small || is_confirmed_by_all(m, list));
}

/*
 * Replaces the damaged list by a new list. Ends the process if new and cur may
 * have changed, or if the new list differs, because the client already has the
 * numbers of the messages.
 */
static void
remake_list(struct maildir *m)
{
	struct index *damaged = m->list;
	struct note was = m->note;
	size_t count = m->count;

	log_event(LOG_NOTICE, "index",
	    "error=\"damaged, the mailbox is read again\"");
	index_discard(m->state);
	if (!names_is_current(m->dirs, was.seen) ||
	    records_update(m, NULL) != DROP_OK || m->count != count ||
	    m->note.wire_size != was.wire_size) {
		errno = EIO;
		fatal(
		    "making the damaged index again: the mailbox has changed");
	}
	index_free(damaged);
}

void
records_get(struct maildir *m, size_t i, struct record *r)
{
	if (get_record(m->list, i, r))
		return;
	remake_list(m);
	if (!get_record(m->list, i, r))
		fatal("the index that was made again is damaged, too");
}
