/*
 * Fuzz target: the command tables of pop3-auth.c and pop3-trans.c, with any
 * bytes from a client.
 *
 * Input: the first byte selects the state, which is KPOP's login, POP3 mode's
 * login or TRANSACTION. The second byte selects the pieces in which the
 * client's bytes arrive. The third byte selects the results of the callbacks.
 * The client's bytes follow.
 *
 * The target checks that every command gets one answer, which begins with +OK,
 * -ERR or "+ ". A list or a message after the answer ends with a dot. Neither
 * the pieces of the input nor the case of its letters change an answer, so an
 * answer contains nothing from the client except numbers. Only QUIT removes
 * messages, and it removes only marked ones.
 */
#include "config.h"

#include <sys/mman.h>

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "fuzz/peer.h"
#include "pop3-auth.h"
#include "pop3-trans.h"
#include "store.h"
#include "wire.h"

#define COUNT 5

enum { KPOP, POP3, TRANSACTION };

static struct io io;

/* The maildrop is in memory and has its own store. */
static const struct {
	const char *text;
	size_t missing; /* bytes that are missing at RETR */
	bool changed;   /* another program has removed the message */
} mail[COUNT] = {
	{ "Subject: one\n\nbody\n.\n..\n", 0, false },
	{ "Subject: two\r\n\r\nno last end", 0, false },
	{ "", 0, false },
	{ "Subject: four\n\nshorter than it was\n", 9, false },
	{ "Subject: five\n\nnot there\n", 0, true },
};
static int mail_fd;
static unsigned char removed_marks;
static bool removed_any;
static unsigned remove_result;

static uint64_t
box_wire_size(void *box, size_t i)
{
	struct wire w;

	(void)box;
	wire_init(&w, WIRE_ALL);
	wire_put(&w, mail[i].text, strlen(mail[i].text), NULL);
	wire_end(&w, NULL);
	return w.wire_size;
}

static uint64_t
box_total(const void *box)
{
	uint64_t sum = 0;

	(void)box;
	for (size_t i = 0; i < COUNT; i++)
		sum += box_wire_size(NULL, i);
	return sum;
}

static void
box_uidl(void *box, size_t i, char id[UIDL_SIZE])
{
	(void)box;
	snprintf(id, UIDL_SIZE, "id%zu", i);
}

static enum drop_error
box_fetch(void *box, size_t i, struct span *s)
{
	off_t at = 0;

	for (size_t k = 0; k < i; k++)
		at += (off_t)strlen(mail[k].text);
	*s = (struct span){ .fd = mail_fd,
		.at = at,
		.bytes = strlen(mail[i].text) - mail[i].missing,
		.wire_size = box_wire_size(box, i) };
	return mail[i].changed ? DROP_CHANGED : DROP_OK;
}

static enum drop_error
box_remove(void *box, const unsigned char *marks, size_t *removed)
{
	(void)box;
	HOLDS(!removed_any);
	/*
	 * If a client takes no more output, nothing may be removed. So all
	 * output must have been sent before a removal, because only then is it
	 * known whether the client has taken the output.
	 */
	HOLDS(io.error == IO_OK && io.out_end == 0 &&
	    peer.said_size < peer.takes);
	removed_any = true;
	removed_marks = marks[0];
	*removed =
	    remove_result == DROP_OK ? (size_t)__builtin_popcount(marks[0]) : 0;
	return remove_result;
}

static const struct store_ops box_store = { .total = box_total,
	.wire_size = box_wire_size,
	.uidl = box_uidl,
	.fetch = box_fetch,
	.remove = box_remove };

/* Replaces mailboxes.c, which would need all formats. */
const struct store_ops *
mailboxes_store(size_t i)
{
	(void)i;
	return NULL;
}

static void
make_mail(void)
{
	mail_fd = memfd_create("mail", MFD_CLOEXEC);
	HOLDS(mail_fd != -1);
	for (size_t i = 0; i < COUNT; i++)
		HOLDS(write(mail_fd, mail[i].text, strlen(mail[i].text)) != -1);
}

/*
 * The part of AUTH that the pre-auth process does. The first byte of a token
 * decides the size of the challenge, and the last byte decides the result.
 */
static int
authenticate(void *self, bool first, const void *token, size_t n,
    const void **challenge, size_t *size)
{
	static const char words[48000];
	const unsigned char *t = token;

	(void)self;
	HOLDS(n <= 65536);
	if (n == 0)
		return first ? -1 : 1;
	*challenge = words;
	*size = t[0] * 200;
	return t[n - 1] % 4 == 0 ? 0 : t[n - 1] % 4 == 1 ? -1 : 1;
}

static int
get_authzid(void *self, const char **authzid)
{
	*authzid = *(unsigned *)self & 8 ? "bob" : "";
	return *(unsigned *)self & 16 ? -1 : 0;
}

static int
prepare_tls(void *self)
{
	return *(unsigned *)self & 32 ? -1 : 1;
}

/*
 * Runs one dialogue and stores the answers in "peer". Returns the result of
 * pop3_login. In TRANSACTION, returns 0.
 */
static int
talk(int state, unsigned manner, unsigned parts, const uint8_t *data,
    size_t size)
{
	unsigned char marks[COUNT / 8 + 1] = { 0 };
	struct maildrop drop = {
		.store = &box_store, .marks = marks, .count = COUNT
	};
	struct pop3_preauth preauth = { .self = &parts,
		.principal = state == KPOP ? "alice@KPOPD.TEST" : NULL,
		.has_gssapi = (parts & 1) != 0,
		.has_tls = (parts & 2) != 0,
		.needs_tls = (parts & 4) != 0,
		.prepare_tls = prepare_tls,
		.authenticate = authenticate,
		.get_authzid = get_authzid };
	char user[33];
	int result;

	peer_begin(&io, data, size, manner);
	if (state != TRANSACTION) {
		memset(user, 'x', sizeof(user));
		result = pop3_login(&io, &preauth, user, sizeof(user));
		HOLDS(result == -1 || memchr(user, '\0', sizeof(user)) != NULL);
		io_flush(&io);
		return result;
	}
	for (size_t i = 1; i <= COUNT; i++)
		drop.wire_size += maildrop_wire_size(&drop, i);
	removed_any = false;
	remove_result = parts % 6;
	io_limits(&io, 600000, 60000);
	pop3_serve(&io, &drop);
	io_flush(&io);
	return 0;
}

/* The answers that were not checked yet. */
struct answers {
	const char *at, *end;
};

/*
 * Stores the next line, without its CRLF, in line[]. Returns false at the end
 * of the answers. Sets *is_partial if a line without an end is left.
 */
static bool
next_line(struct answers *a, char *line, size_t size, bool *is_partial)
{
	const char *lf = a->at < a->end ?
	    memchr(a->at, '\n', (size_t)(a->end - a->at)) :
	    NULL;
	size_t n;

	*is_partial = lf == NULL && a->at < a->end;
	if (lf == NULL)
		return false;
	n = (size_t)(lf - a->at);
	HOLDS(n > 0 && lf[-1] == '\r');
	if (n > size)
		n = size;
	memcpy(line, a->at, n - 1);
	line[n - 1] = '\0';
	a->at = lf + 1;
	return true;
}

/* The words of a command. */
struct command {
	char words[5][POP3_LINE + 1];
	int count;
	bool none; /* the line is not a command: it is too long or has a NUL */
};

/*
 * Splits the client's next whole line into words. Returns false if there is no
 * whole line.
 */
static bool
next_command(struct input *in, struct command *c)
{
	const uint8_t *lf =
	    in->left > 0 ? memchr(in->at, '\n', in->left) : NULL;
	size_t n, used, k = 0;
	bool inside = false;

	if (lf == NULL)
		return false;
	n = used = (size_t)(lf + 1 - in->at);
	n -= n > 1 && lf[-1] == '\r' ? 2 : 1;
	*c = (struct command){ .none = used > POP3_LINE ||
		    memchr(in->at, '\0', n) != NULL };
	for (size_t i = 0; i < n && !c->none; i++) {
		bool blank = in->at[i] == ' ' || in->at[i] == '\t';

		if (!blank && !inside) {
			k = 0;
			c->count++;
		}
		inside = !blank;
		if (inside && c->count <= 5)
			c->words[c->count - 1][k++] = (char)in->at[i];
	}
	input_take(in, &used);
	return true;
}

/*
 * Returns true if the command has the given name, at least "least" and at most
 * "most" arguments.
 */
static bool
is(const struct command *c, const char *name, int least, int most)
{
	return !c->none && strcasecmp(c->words[0], name) == 0 &&
	    c->count >= least + 1 && c->count <= most + 1;
}

/*
 * Returns true if TRANSACTION has a command of this name, with any number of
 * arguments.
 */
static bool
is_known(const struct command *c)
{
	const struct pop3_command *known = pop3_trans_commands;

	while (known->name != NULL && !is(c, known->name, 0, INT_MAX - 1))
		known++;
	return known->name != NULL;
}

/*
 * Returns the message number that the word contains. Returns 0 if the word is
 * not the number of an unmarked message.
 */
static unsigned
number(const char *word, unsigned marks)
{
	unsigned n = 0;

	for (; *word == '0'; word++)
		;
	if (word[0] >= '1' && word[0] <= '0' + COUNT && word[1] == '\0')
		n = (unsigned)(word[0] - '0');
	return n > 0 && (marks >> (n - 1) & 1) == 0 ? n : 0;
}

/* Returns true if a +OK to the command is followed by lines. */
static bool
has_more(const struct command *c)
{
	return is(c, "CAPA", 0, 0) || is(c, "LIST", 0, 0) ||
	    is(c, "UIDL", 0, 0) || is(c, "AUTH", 0, 0) || is(c, "RETR", 1, 1) ||
	    is(c, "TOP", 2, 2);
}

/*
 * Skips all lines up to the final dot. Returns false if the answers end before
 * a dot.
 */
static bool
skip_list(struct answers *a)
{
	char line[128];
	bool is_partial;

	while (next_line(a, line, sizeof(line), &is_partial)) {
		if (strcmp(line, ".") == 0)
			return true;
		HOLDS(line[0] != '.' || line[1] == '.');
	}
	return false;
}

/*
 * A model of TRANSACTION. Returns the marks as they must be after the command.
 */
static unsigned
marks_after(const struct command *c, unsigned marks)
{
	unsigned n;

	if (is(c, "RSET", 0, 0))
		return 0;
	if (is(c, "DELE", 1, 1) && (n = number(c->words[1], marks)) != 0)
		return marks | 1U << (n - 1);
	return marks;
}

/*
 * Checks that each command of TRANSACTION has one answer, in the order of the
 * commands. Checks that only DELE and RSET change the marks.
 */
static void
check_transaction(struct input in)
{
	struct answers a = { peer.said, peer.said + peer.said_size };
	struct command c;
	char line[600], deleted[40];
	unsigned marks = 0;
	int nonsense = 0;
	bool is_partial, left = false, all = peer.takes == SIZE_MAX;

	HOLDS(!next_line(&a, line, sizeof(line), &is_partial) ?
		!all :
		strcmp(line, "+OK 5 messages") == 0);
	while (!left && nonsense < POP3_NONSENSE && next_command(&in, &c)) {
		bool is_answered =
			 next_line(&a, line, sizeof(line), &is_partial),
		     good;

		if (!is_answered) {
			HOLDS(!all);
			break;
		}
		good = strncmp(line, "+OK ", 4) == 0;
		HOLDS((good || strncmp(line, "-ERR ", 5) == 0) &&
		    strlen(line) < 510);
		HOLDS(!c.none || !good);
		/* If a message is sent only in part, no dot follows. */
		if (good && has_more(&c) && !skip_list(&a)) {
			HOLDS(!all ||
			    (!is(&c, "LIST", 0, 1) &&
				number(c.words[1], marks) == 4));
			break;
		}
		snprintf(deleted, sizeof(deleted), "+OK message %u deleted",
		    number(c.words[1], marks));
		HOLDS(!is(&c, "DELE", 1, 1) ||
		    good == (number(c.words[1], marks) != 0));
		HOLDS(!is(&c, "DELE", 1, 1) || !good ||
		    strcmp(line, deleted) == 0);
		nonsense = is_known(&c) ? 0 : nonsense + 1;
		left = is(&c, "QUIT", 0, 0);
		if (!left)
			marks = marks_after(&c, marks);
	}
	/*
	 * If the client has not taken the answer to a DELE, that DELE's mark
	 * may be set or not. box_remove checks that nothing is removed in that
	 * case.
	 */
	if (all) {
		HOLDS(a.at == a.end && removed_any == (left && marks != 0));
		HOLDS(!removed_any || removed_marks == marks);
	}
}

/*
 * Checks how AUTHORIZATION's answers begin. Nothing else is checked, because
 * after AUTH some lines of the client are tokens.
 */
static void
check_login(void)
{
	struct answers a = { peer.said, peer.said + peer.said_size };
	char line[600];
	bool is_partial, in_list = false;

	for (int n = 0; next_line(&a, line, sizeof(line), &is_partial); n++) {
		HOLDS(n > 0 || strcmp(line, "+OK kpopd at your service") == 0);
		if (in_list)
			in_list = strcmp(line, ".") != 0;
		else
			HOLDS(strncmp(line, "+OK ", 4) == 0 ||
			    strncmp(line, "-ERR ", 5) == 0 ||
			    strncmp(line, "+ ", 2) == 0);
		if (strstr(line, "+OK capa") == line ||
		    strstr(line, "+OK mech") == line)
			in_list = true;
	}
	HOLDS((!in_list && !is_partial) || peer.takes != SIZE_MAX);
}

/*
 * Repeats the dialogue. Changes the case of all letters, and sends the bytes in
 * other pieces. Checks that the answers are the same.
 */
static void
check_again(int state, unsigned manner, unsigned parts, const uint8_t *data,
    size_t size)
{
	size_t said = peer.said_size;
	char *before = malloc(said + 1);
	uint8_t *other = malloc(size + 1);

	HOLDS(before != NULL && other != NULL && peer.takes == SIZE_MAX);
	memcpy(before, peer.said, said);
	for (size_t i = 0; i < size; i++)
		other[i] = (uint8_t)(islower(data[i]) ? toupper(data[i]) :
							tolower(data[i]));
	talk(state, manner ^ 3, parts, other, size);
	HOLDS(peer.said_size == said && memcmp(peer.said, before, said) == 0);
	free(before);
	free(other);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	int state = input_byte(&in) % 3;
	unsigned manner = input_byte(&in), parts = input_byte(&in);

	if (mail_fd == 0)
		make_mail();
	talk(state, manner, parts, in.at, in.left);
	if (state == TRANSACTION)
		check_transaction(in);
	else
		check_login();
	/*
	 * Not all dialogues can be repeated: the case of a token's letters
	 * matters, and after STLS the pieces matter.
	 */
	if (peer.takes == SIZE_MAX &&
	    (state == TRANSACTION || (state == KPOP && (parts & 2) == 0)))
		check_again(state, manner, parts, in.at, in.left);
	return 0;
}
