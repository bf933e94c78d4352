/* The header of the PROXY protocol: see proxy.c. */
#ifndef PROXY_H
#define PROXY_H

#include "address.h"
#include "io.h"

/*
 * Reads one header of version 1 or 2, and no byte after it. Returns 0 with the
 * client's address in *client, or -1 (logged) if there is no valid header. The
 * address is "" if the proxy has opened the connection for itself, or does not
 * send an IP address of the client.
 */
int proxy_read(struct io *io, struct address_text *client);

#endif
