/*
 * Reads the lines of courierpop3dsizelist, in which Courier's POP3 server keeps
 * the sizes and unique ids of a Maildir's messages.
 *
 * Runs in the session, as the owner of the mailbox; pure computation. The file
 * belongs to the user, who can write anything there.
 *
 *	/3 5 1796013626
 *	1000000003.M3P2.host:2,S 38 3:1796013626:0
 *
 * The first line has the version, which is 2 or 3. Each other line has the file
 * name, the size, and two numbers, which are the id "UID3-1796013626". If the
 * second number is 0, the id is "UID3". If the first one is 0, too, the message
 * is from a time without this file, and its id is the unique name with some
 * characters in hexadecimal.
 */
#include "config.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "uidl-courier.h"

bool
courier_is_head(const char *p, size_t n)
{
	return n >= 3 && p[0] == '/' && (p[1] == '2' || p[1] == '3') &&
	    p[2] == ' ';
}

/*
 * Returns the last blank of the n bytes at p, or NULL. The name of a file may
 * have blanks, too.
 */
static const char *
last_blank(const char *p, size_t n)
{
	return memrchr(p, ' ', n);
}

size_t
courier_name(const char *p, size_t n)
{
	const char *blank = last_blank(p, n), *colon;

	if (blank != NULL)
		blank = last_blank(p, (size_t)(blank - p));
	if (blank == NULL)
		return 0;
	colon = memchr(p, ':', (size_t)(blank - p));
	return (size_t)((colon != NULL ? colon : blank) - p);
}

/*
 * Reads a number at *p, which is advanced. Returns false if there is none, or
 * if it has more than 64 bits.
 */
static bool
read_uint64(const char **p, const char *end, uint64_t *number)
{
	const char *begin = *p;

	*number = 0;
	for (; *p < end && **p >= '0' && **p <= '9'; (*p)++) {
		if (*number > (UINT64_MAX - 9) / 10)
			return false;
		*number = *number * 10 + (uint64_t)(**p - '0');
	}
	return *p > begin;
}

/*
 * Writes the id of a message that has no number. Returns its length, or 0 if it
 * is too long.
 */
static size_t
write_name(const char *p, size_t n, char id[UIDL_SIZE])
{
	size_t at = 0;

	for (size_t i = 0; i < n; i++) {
		if (at + 3 >= UIDL_SIZE)
			return 0;
		if (p[i] < 0x21 || p[i] > 0x7e || strchr("'\"+", p[i]) != NULL)
			at += (size_t)snprintf(id + at, UIDL_SIZE - at, "+%02X",
			    (unsigned)(unsigned char)p[i]);
		else
			id[at++] = p[i];
	}
	id[at] = '\0';
	return at;
}

bool
courier_id(const char *p, size_t n, char id[UIDL_SIZE])
{
	const size_t name = courier_name(p, n);
	const char *end = p + n, *at = last_blank(p, n);
	uint64_t number, validity;
	int length;

	if (name == 0 || at == NULL)
		return false;
	at++;
	if (!read_uint64(&at, end, &number) || at == end || *at++ != ':' ||
	    !read_uint64(&at, end, &validity))
		return false;
	if (number == 0)
		return uidl_is_valid(id, write_name(p, name, id));
	length = validity != 0 ?
	    snprintf(id, UIDL_SIZE, "UID%ju-%ju", (uintmax_t)number,
		(uintmax_t)validity) :
	    snprintf(id, UIDL_SIZE, "UID%ju", (uintmax_t)number);
	return length > 0 && uidl_is_valid(id, (size_t)length);
}
