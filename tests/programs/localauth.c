/*
 * A localauth plugin of libkrb5 that permits mallory@KPOPD.TEST to log in as
 * every user.
 *
 * Runs in the session, as the user.
 */
#include <krb5/localauth_plugin.h>

#include <string.h>

krb5_error_code localauth_test_initvt(krb5_context, int, int,
    krb5_plugin_vtable);

/*
 * Returns 0 if the principal is mallory. For any other principal, returns that
 * other rules must decide.
 */
static krb5_error_code
authorize(krb5_context context, krb5_localauth_moddata data,
    krb5_const_principal who, const char *user)
{
	char *text;
	krb5_error_code problem = krb5_unparse_name(context, who, &text);

	(void)data, (void)user;
	if (problem != 0)
		return problem;
	if (strcmp(text, "mallory@KPOPD.TEST") != 0)
		problem = KRB5_PLUGIN_NO_HANDLE;
	krb5_free_unparsed_name(context, text);
	return problem;
}

krb5_error_code
localauth_test_initvt(krb5_context context, int major, int minor,
    krb5_plugin_vtable table)
{
	krb5_localauth_vtable v = (krb5_localauth_vtable)table;

	(void)context, (void)minor;
	if (major != 1)
		return KRB5_PLUGIN_VER_NOTSUPP;
	v->name = "test";
	v->userok = authorize;
	return 0;
}
