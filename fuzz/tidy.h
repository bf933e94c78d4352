/* Frees what kpopd leaves to the end of its process: see tidy.c. */
#ifndef TIDY_H
#define TIDY_H

/* Begins to record the memory that is allocated and the files opened. */
void tidy_begin(void);

/* Frees and closes all that was recorded and is left. */
void tidy_end(void);

#endif
