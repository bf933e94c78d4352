/* Ids that other servers gave a Maildir's messages: see maildir-uidlist.c. */
#ifndef MAILDIR_UIDLIST_H
#define MAILDIR_UIDLIST_H

#include "maildir.h"

/* The sources that uidlist_ids reads (store.h: id_sources). */
#define UIDLIST_SOURCES                                                        \
	(1u << SCHEME_FORMAT | 1u << SCHEME_SOLID | 1u << SCHEME_COURIER)

/* As old_ids of store.h. */
enum drop_error uidlist_ids(void *box, const struct uidl_scheme *scheme,
    store_put_id *put, void *to);

#endif
