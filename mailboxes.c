/*
 * Reads the place and format of the mailboxes, and makes the path of a user's
 * mailbox.
 *
 * Runs in every process that has the options: as root, and in the session and
 * the broker as the user. Pure computation; it accesses no mailbox.
 */
#include "config.h"

#include <limits.h>
#include <string.h>

#include "mailboxes.h"
#include "store.h"

/* The formats, as -m names them. */
static const struct {
	const char *prefix;
	const struct store_ops *store;
	bool create, quoted;
} formats[] = {
	{ "mbox:", &mbox_store, false, false },
	{ "mboxo:", &mbox_store, false, true },
	{ "maildir:", &maildir_store, false, false },
	{ "maildir+create:", &maildir_store, true, false },
};

#define FORMATS (sizeof(formats) / sizeof(formats[0]))

/*
 * Writes the template to path[PATH_MAX] with %u, %h and a leading ~ replaced,
 * and without slashes at its end. Returns 0. Returns -1 if the path is too long
 * or is not absolute, or if a % is followed by anything but u or h.
 */
static int
expand_template(const char *template, const char *user, const char *home,
    char *path)
{
	size_t at = 0, n;

	for (const char *p = template; *p != '\0'; p++) {
		const char *piece = p;

		n = 1;
		if (p[0] == '~' && p == template) {
			piece = home;
			n = strlen(home);
		} else if (p[0] == '%') {
			p++;
			if (*p != 'u' && *p != 'h')
				return -1;
			piece = *p == 'u' ? user : home;
			n = strlen(piece);
		}
		if (at + n >= PATH_MAX)
			return -1;
		memcpy(path + at, piece, n);
		at += n;
	}
	while (at > 0 && path[at - 1] == '/')
		at--;
	path[at] = '\0';
	return path[0] == '/' ? 0 : -1;
}

int
mailboxes_read(struct mailboxes *b, const char *text)
{
	char path[PATH_MAX];

	/*
	 * The text must be one line, because state.c writes it to a file of
	 * lines.
	 */
	for (const char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return -1;
	for (size_t i = 0; i < FORMATS; i++) {
		size_t n = strlen(formats[i].prefix);

		if (strncmp(text, formats[i].prefix, n) != 0)
			continue;
		*b = (struct mailboxes){
			.store = formats[i].store,
			.text = text,
			.format = formats[i].store->name,
			.template = text + n,
			.create = formats[i].create,
			.quoted = formats[i].quoted,
		};
		return expand_template(b->template, "u", "/h", path);
	}
	return -1;
}

const char *
mailboxes_path(const struct mailboxes *b, const char *user, const char *home)
{
	static char path[PATH_MAX];

	if (expand_template(b->template, user, home, path) == -1)
		return NULL;
	return path;
}

const struct store_ops *
mailboxes_store(size_t i)
{
	return i < FORMATS ? formats[i].store : NULL;
}

bool
mailboxes_are_locked(const struct mailboxes *b)
{
	return b->store->is_locked;
}

bool
mailboxes_are_outside_home(const struct mailboxes *b)
{
	return b->template[0] != '~' && strstr(b->template, "%h") == NULL;
}
