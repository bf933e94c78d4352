/* Remedies for the configuration files of root's: see check-config.c. */
#ifndef CHECK_CONFIG_H
#define CHECK_CONFIG_H

#include "check.h"

/*
 * Makes the command that mends a file which root_file_read has refused: its
 * owner, mode or type if these are wrong, or else its text, at this line if it
 * is not 0. page is the manual page of the file, as "kpopd.conf(5)".
 */
const char *check_mend_config(struct check *c, const char *path, unsigned line,
    const char *page);

#endif
