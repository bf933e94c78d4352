/* The lines of Courier's courierpop3dsizelist: see uidl-courier.c. */
#ifndef UIDL_COURIER_H
#define UIDL_COURIER_H

#include <stdbool.h>
#include <stddef.h>

#include "uidl.h"

/*
 * Returns true if this is the first line of the file, of n bytes without its
 * line end, in a version that has unique ids.
 */
bool courier_is_head(const char *p, size_t n);

/*
 * Returns the number of bytes of the unique name with which the line of a
 * message begins, or 0 if the line does not have the form.
 */
size_t courier_name(const char *p, size_t n);

/*
 * Stores the unique id that is in the line of a message. Returns false if the
 * line does not have the form, or if this cannot be a unique id.
 */
bool courier_id(const char *p, size_t n, char id[UIDL_SIZE]);

#endif
