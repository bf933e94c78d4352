/* What krb5.conf says, kept: see settings.c. */
#ifndef SETTINGS_H
#define SETTINGS_H

#include <profile.h>
#include <stdbool.h>

struct settings;

/*
 * Reads all that a profile says, once. Returns 0 with the copy in *s, to be
 * freed by settings_free, and a profile over it in *kept, to be released
 * before that; or an error of libprofile's.
 */
long settings_read(profile_t profile, struct settings **s, profile_t *kept);

/* Whether the profile said nothing at all, as one without a file does. */
bool settings_none(const struct settings *s);

/*
 * All of it as one file of krb5.conf's form, for a libkrb5 that reads a file.
 * Returns the text, to be freed, or NULL without memory.
 */
char *settings_text(const struct settings *s);

void settings_free(struct settings *s);

#endif
