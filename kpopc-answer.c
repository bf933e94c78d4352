/*
 * Judges and prints the server's answers.
 *
 * Runs as the caller. The text may come from an attacker, so nothing is printed
 * unencoded.
 */
#include "config.h"

#include <err.h>
#include <string.h>
#include <vis.h>

#include "kpopc.h"

static struct progress unshared;
struct progress *progress = &unshared;

const char *
answer_printable(const char *text, size_t n)
{
	static char safe[4 * TEXT_MAX + 1];

	n = strnlen(text, n < TEXT_MAX ? n : TEXT_MAX);
	strvisx(safe, text, n, VIS_OCTAL | VIS_TAB | VIS_NL);
	return safe;
}

bool
answer_is_good(const char *answer)
{
	return strncmp(answer, "+OK", 3) == 0;
}

bool
answer_is_refusal(const char *answer)
{
	return strncmp(answer, "-ERR", 4) == 0;
}

void
answer_give_up(const char *answer)
{
	errx(EXIT_REFUSED, "the server answered: %s",
	    answer_printable(answer, TEXT_MAX));
}

const char *
answer_expect_good(const char *answer)
{
	if (!answer_is_good(answer))
		answer_give_up(answer);
	return answer;
}
