/*
 * A check for the unit tests. A failed check prints its place and its
 * condition. It works in builds with and without NDEBUG.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(what)                                                            \
	do {                                                                   \
		if (!(what)) {                                                 \
			fprintf(stderr, "%s:%d: not true: %s\n", __FILE__,     \
			    __LINE__, #what);                                  \
			exit(1);                                               \
		}                                                              \
	} while (0)

#endif
