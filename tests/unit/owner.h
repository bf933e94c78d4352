/* Files seem to belong to another user: see owner.c. */
#ifndef TESTS_UNIT_OWNER_H
#define TESTS_UNIT_OWNER_H

#include <sys/types.h>

/* The owner that fstat reports, and the one that lstat reports; 0 at first. */
extern uid_t owner_of_file, owner_of_link;
/* A path at which lstat reports no file; NULL: none. */
extern const char *owner_hidden_path;

#endif
