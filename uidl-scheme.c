/*
 * Has the schemes by which other servers make their unique ids, and makes ids
 * from a format.
 *
 * Runs in main, as root, and in the session, as the owner of the mailbox; pure
 * computation.
 *
 * A format is that of Dovecot's setting pop3_uidl_format up to version 2.3:
 *
 *	%u %v        the IMAP uid of the message, the mailbox's uidvalidity
 *	%08Xu        the same as eight digits of lower-case hexadecimal
 *	%m %f %g     the hash of the header, the file name, the GUID
 *	%%           a percent sign
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "uidl-scheme.h"

#define FORMAT_MOST 64 /* bytes of a format */
#define WIDTH_MOST 20
#define DOVECOT "dovecot:"

static const struct uidl_scheme schemes[] = {
	{ SCHEME_NONE, SCHEME_BOTH, "none", NULL },
	{ SCHEME_FORMAT, SCHEME_BOTH, "dovecot", "%08Xu%08Xv" },
	{ SCHEME_FORMAT, SCHEME_MBOX, "uw", "%08Xv%08Xu" },
	{ SCHEME_COURIER, SCHEME_MAILDIR, "courier", NULL },
	{ SCHEME_POPA3D, SCHEME_MBOX, "popa3d", NULL },
	{ SCHEME_SOLID, SCHEME_BOTH, "solid-pop3d", NULL },
	{ SCHEME_X_UIDL, SCHEME_BOTH, "qpopper", NULL },
	{ SCHEME_X_UIDL, SCHEME_BOTH, "mailutils", NULL },
};

/* A variable in a format. */
struct variable {
	char letter; /* '%': a percent sign; otherwise one of "uvmfg" */
	int width;   /* the least digits; 0: as many as the number has */
	bool is_hex;
};

/*
 * Reads the variable after a percent sign. Returns its end, or NULL if this is
 * not a variable that kpopd can compute.
 */
static const char *
read_variable(const char *p, struct variable *v)
{
	char *end;

	*v = (struct variable){ .letter = '\0' };
	if (*p == '0') {
		unsigned long width = strtoul(p, &end, 10);

		if (width == 0 || width > WIDTH_MOST)
			return NULL;
		v->width = (int)width;
		p = end;
	}
	if (*p == 'X') {
		v->is_hex = true;
		p++;
	}
	v->letter = *p;
	if (*p == '\0' || strchr("uvmfg%", *p) == NULL)
		return NULL;
	/* Only numbers have a width and a base. */
	if ((v->width > 0 || v->is_hex) && *p != 'u' && *p != 'v')
		return NULL;
	return p + 1;
}

/*
 * Returns true if the format has only characters that an id may have, only
 * known variables, and a variable that names the message.
 */
static bool
is_format(const char *format)
{
	bool names_message = false;
	struct variable v;

	if (strlen(format) > FORMAT_MOST)
		return false;
	for (const char *p = format; *p != '\0';) {
		if (*p < 0x21 || *p > 0x7e)
			return false;
		if (*p++ != '%')
			continue;
		if ((p = read_variable(p, &v)) == NULL)
			return false;
		names_message |= v.letter != 'v' && v.letter != '%';
	}
	return names_message;
}

int
scheme_read(struct uidl_scheme *s, const char *text)
{
	const size_t n = strlen(DOVECOT);

	if (strncmp(text, DOVECOT, n) == 0) {
		*s = (struct uidl_scheme){ SCHEME_FORMAT, SCHEME_BOTH, text,
			text + n };
		if (!is_format(s->format))
			return -1;
		if (scheme_uses(s, "m"))
			s->mailboxes &= ~(unsigned)SCHEME_MAILDIR;
		if (scheme_uses(s, "f"))
			s->mailboxes &= ~(unsigned)SCHEME_MBOX;
		return s->mailboxes != 0 ? 0 : -1;
	}
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++)
		if (strcmp(text, schemes[i].text) == 0) {
			*s = schemes[i];
			return 0;
		}
	return -1;
}

bool
scheme_uses(const struct uidl_scheme *s, const char *variables)
{
	struct variable v;

	if (s->format == NULL)
		return false;
	for (const char *p = s->format; *p != '\0';) {
		if (*p++ != '%')
			continue;
		if ((p = read_variable(p, &v)) == NULL)
			return false;
		if (strchr(variables, v.letter) != NULL)
			return true;
	}
	return false;
}

/* Writes the number of a variable to `to`. Returns NULL if it is unknown. */
static const char *
write_number(const struct variable *v, uint32_t number, char to[WIDTH_MOST + 1])
{
	snprintf(to, WIDTH_MOST + 1, v->is_hex ? "%0*jx" : "%0*ju", v->width,
	    (uintmax_t)number);
	return number == 0 ? NULL : to;
}

/*
 * Returns the text of a variable, which may be in number[]. Returns NULL if the
 * value is unknown.
 */
static const char *
variable_text(const struct variable *v, const struct scheme_values *values,
    char number[WIDTH_MOST + 1])
{
	switch (v->letter) {
	case 'u':
		return write_number(v, values->uid, number);
	case 'v':
		return write_number(v, values->validity, number);
	case 'm':
		return values->md5;
	case 'f':
		return values->name;
	case 'g':
		return values->guid;
	default:
		return "%";
	}
}

bool
scheme_write(const struct uidl_scheme *s, const struct scheme_values *v,
    char id[UIDL_SIZE])
{
	char number[WIDTH_MOST + 1];
	size_t at = 0;

	for (const char *p = s->format; *p != '\0';) {
		const char *piece = p;
		struct variable variable;
		size_t n = 1;

		if (*p++ == '%') {
			if ((p = read_variable(p, &variable)) == NULL)
				return false;
			piece = variable_text(&variable, v, number);
			if (piece == NULL)
				return false;
			n = strlen(piece);
		}
		if (n >= UIDL_SIZE - at)
			return false;
		memcpy(id + at, piece, n);
		at += n;
	}
	id[at] = '\0';
	return uidl_is_valid(id, at);
}
