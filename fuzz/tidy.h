/*
 * Frees memory and closes files that kpopd leaves to the end of its process
 * (tidy.c).
 */
#ifndef TIDY_H
#define TIDY_H

/* Begins to record the allocated memory and the opened files. */
void tidy_begin(void);

/*
 * Frees and closes all that was recorded and has not been freed or closed
 * since.
 */
void tidy_end(void);

#endif
