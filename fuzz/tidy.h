/* What the end of a process clears, for those that go on: see tidy.c. */
#ifndef TIDY_H
#define TIDY_H

/* From here on it is known what is allocated and opened. */
void tidy_begin(void);

/* Frees and closes what is left of that. */
void tidy_end(void);

#endif
