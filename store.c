/*
 * Lists the mailbox formats, as -m names them.
 *
 * Runs in every process; data only. A new format is a row here and a struct
 * store_ops of its own.
 */
#include "config.h"

#include "store.h"

const struct store_format store_formats[] = {
	{ .prefix = "mbox:", .store = &mbox_store },
	{ .prefix = "mboxo:", .store = &mbox_store, .quoted = true },
	{ .prefix = "maildir:", .store = &maildir_store },
	{ .prefix = "maildir+create:", .store = &maildir_store, .create = true },
};
const size_t store_formats_count = sizeof(store_formats) / sizeof(store_formats[0]);
