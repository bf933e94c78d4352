/* Words of the shell in the remedies of kpopd --check: see check-quote.c. */
#ifndef CHECK_QUOTE_H
#define CHECK_QUOTE_H

/* Bytes of a word of the shell with its NUL. A remedy has room for two. */
#define CHECK_WORD 200

/* A word of the shell. */
struct check_word {
	char text[CHECK_WORD];
};

/*
 * Quotes a text, so that a shell takes it for one word, whatever bytes it has.
 * Returns w->text, which is "PATH" if the word is too long.
 */
const char *check_quote(struct check_word *w, const char *text);

#endif
