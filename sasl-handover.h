/* The packet that hands a security layer over, from sasl.c to relay-sasl.c. */
#ifndef SASL_HANDOVER_H
#define SASL_HANDOVER_H

#include <stdint.h>

#include "relay-gss.h"

struct sasl_handover {
	uint32_t layer;       /* RELAY_GSS_INTEGRITY or _CONFIDENTIALITY */
	uint32_t text_size;   /* bytes of text in a token for the client */
	uint32_t unread_size; /* bytes that the client has sent after AUTH */
	/* The unread bytes, then the exported context. */
	char data[RELAY_GSS_TOKEN + RELAY_GSS_TOKEN];
};

#endif
