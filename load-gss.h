/* Loads libgssapi while kpopd runs: see load-gss.c. */
#ifndef LOAD_GSS_H
#define LOAD_GSS_H

/*
 * Loads the library. Only afterwards may this process and its children call
 * GSSAPI; an earlier call ends the process by SIGSEGV. Returns NULL, or the
 * dynamic linker's text about what is wrong.
 */
const char *load_gss(void);

#endif
