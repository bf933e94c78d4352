/* A snapshot of krb5.conf: see auth-krb5conf.c. */
#ifndef KRB5CONF_H
#define KRB5CONF_H

#include <profile.h>
#include <stdbool.h>

struct krb5conf;

/*
 * Copies all relations of a profile. Returns 0 or an error of libprofile. *c is
 * the copy, which the caller frees by krb5conf_free. *snapshot is a profile
 * that reads the copy. The caller releases *snapshot before it frees *c.
 */
long krb5conf_read(profile_t profile, struct krb5conf **c, profile_t *snapshot);

/*
 * Returns true if the snapshot has no relation, for example because there is no
 * file.
 */
bool krb5conf_is_empty(const struct krb5conf *c);

/*
 * Writes the snapshot in the form of krb5.conf(5), for a libkrb5 that reads a
 * file. Returns the text, which the caller frees, or NULL if no memory is left.
 */
char *krb5conf_text(const struct krb5conf *c);

/* Frees the snapshot. */
void krb5conf_free(struct krb5conf *c);

#endif
