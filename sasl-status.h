/* The text of an error of GSSAPI: see sasl-status.c. */
#ifndef SASL_STATUS_H
#define SASL_STATUS_H

#include <gssapi/gssapi.h>

#include "log.h"

/*
 * Writes the text of an error of the Kerberos mechanism to *t, encoded for a
 * log line. Returns t->text.
 */
const char *sasl_status(struct log_text *t, OM_uint32 major, OM_uint32 minor);

#endif
