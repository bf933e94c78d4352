/* Frees what kpopd frees only by ending its process (tidy.c). */
#ifndef TIDY_H
#define TIDY_H

/* Begins to record the allocated memory and the opened files. */
void tidy_begin(void);

/* Frees and closes what was recorded and was not freed or closed since. */
void tidy_end(void);

#endif
