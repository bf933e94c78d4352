/* What krb5.conf says, kept: see auth-krb5conf.c. */
#ifndef KRB5CONF_H
#define KRB5CONF_H

#include <profile.h>
#include <stdbool.h>

struct krb5conf;

/*
 * Reads all that a profile says, once. Returns 0 with the copy in *s, to be
 * freed by krb5conf_free, and a profile over it in *kept, to be released
 * before that; or an error of libprofile's.
 */
long krb5conf_read(profile_t profile, struct krb5conf **s, profile_t *kept);

/* Whether the profile said nothing at all, as one without a file does. */
bool krb5conf_none(const struct krb5conf *s);

/*
 * All of it as one file of krb5.conf's form, for a libkrb5 that reads a file.
 * Returns the text, to be freed, or NULL without memory.
 */
char *krb5conf_text(const struct krb5conf *s);

void krb5conf_free(struct krb5conf *s);

#endif
