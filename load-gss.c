/*
 * Loads libgssapi, and passes kpopd's calls of GSSAPI on to it.
 *
 * load_gss runs as root in main, before it forks, and only with -p. The other
 * functions run in each process that calls GSSAPI. kpopd is not linked with the
 * library, because without -p kpopd does not use it. Otherwise each start would
 * map and relocate the library, and each fork would copy its mappings.
 *
 * The functions here have the names of the library's functions. So the files
 * that call GSSAPI are the same in kpopd, and in kpopc and the tests, which are
 * linked with the library.
 */
#include "config.h"

#include <dlfcn.h>
#include <gssapi/gssapi.h>
#include <gssapi/gssapi_ext.h>
#include <gssapi/gssapi_krb5.h>

#include "load-gss.h"

#define LIBRARY "libgssapi_krb5.so.2"

/* The functions that kpopd calls. */
#define FUNCTIONS(F)                                                           \
	F(gss_accept_sec_context)                                              \
	F(gss_acquire_cred_from)                                               \
	F(gss_delete_sec_context)                                              \
	F(gss_display_name)                                                    \
	F(gss_display_status)                                                  \
	F(gss_export_sec_context)                                              \
	F(gss_import_sec_context)                                              \
	F(gss_release_buffer)                                                  \
	F(gss_release_name)                                                    \
	F(gss_unwrap)                                                          \
	F(gss_wrap)                                                            \
	F(gss_wrap_size_limit)

/*
 * POINTER defines a pointer to a function of the library. ROW is the function's
 * name, and where its pointer is.
 */
#define POINTER(name) static __typeof__(&(name)) library_##name;
#define ROW(name) { #name, (void **)&library_##name },
FUNCTIONS(POINTER)

const char *
load_gss(void)
{
	static const struct {
		const char *name;
		void **pointer;
	} rows[] = { FUNCTIONS(ROW) };
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);

	if (library == NULL)
		return dlerror();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if ((*rows[i].pointer = dlsym(library, rows[i].name)) == NULL)
			return dlerror();
	return NULL;
}

/* Otherwise the library's own calls could come back here. */
#pragma GCC visibility push(hidden)

/* 1.2.840.113554.1.2.2 (RFC 4121 §1) */
const gss_OID gss_mech_krb5 =
    &(gss_OID_desc){ 9, "\x2a\x86\x48\x86\xf7\x12\x01\x02\x02" };

OM_uint32
gss_accept_sec_context(OM_uint32 *minor, gss_ctx_id_t *context,
    gss_cred_id_t cred, gss_buffer_t in, gss_channel_bindings_t bindings,
    gss_name_t *client, gss_OID *mech, gss_buffer_t out, OM_uint32 *flags,
    OM_uint32 *time, gss_cred_id_t *delegated)
{
	return library_gss_accept_sec_context(minor, context, cred, in,
	    bindings, client, mech, out, flags, time, delegated);
}

OM_uint32
gss_acquire_cred_from(OM_uint32 *minor, gss_name_t name, OM_uint32 time,
    gss_OID_set mechs, gss_cred_usage_t usage, gss_const_key_value_set_t store,
    gss_cred_id_t *cred, gss_OID_set *has, OM_uint32 *left)
{
	return library_gss_acquire_cred_from(minor, name, time, mechs, usage,
	    store, cred, has, left);
}

OM_uint32
gss_delete_sec_context(OM_uint32 *minor, gss_ctx_id_t *context,
    gss_buffer_t out)
{
	return library_gss_delete_sec_context(minor, context, out);
}

OM_uint32
gss_display_name(OM_uint32 *minor, gss_name_t name, gss_buffer_t out,
    gss_OID *type)
{
	return library_gss_display_name(minor, name, out, type);
}

OM_uint32
gss_display_status(OM_uint32 *minor, OM_uint32 status, int type, gss_OID mech,
    OM_uint32 *more, gss_buffer_t out)
{
	return library_gss_display_status(minor, status, type, mech, more, out);
}

OM_uint32
gss_export_sec_context(OM_uint32 *minor, gss_ctx_id_t *context,
    gss_buffer_t out)
{
	return library_gss_export_sec_context(minor, context, out);
}

OM_uint32
gss_import_sec_context(OM_uint32 *minor, gss_buffer_t in, gss_ctx_id_t *context)
{
	return library_gss_import_sec_context(minor, in, context);
}

OM_uint32
gss_release_buffer(OM_uint32 *minor, gss_buffer_t buffer)
{
	return library_gss_release_buffer(minor, buffer);
}

OM_uint32
gss_release_name(OM_uint32 *minor, gss_name_t *name)
{
	return library_gss_release_name(minor, name);
}

OM_uint32
gss_unwrap(OM_uint32 *minor, gss_ctx_id_t context, gss_buffer_t in,
    gss_buffer_t out, int *is_confidential, gss_qop_t *qop)
{
	return library_gss_unwrap(minor, context, in, out, is_confidential,
	    qop);
}

OM_uint32
gss_wrap(OM_uint32 *minor, gss_ctx_id_t context, int confidential,
    gss_qop_t qop, gss_buffer_t in, int *is_confidential, gss_buffer_t out)
{
	return library_gss_wrap(minor, context, confidential, qop, in,
	    is_confidential, out);
}

OM_uint32
gss_wrap_size_limit(OM_uint32 *minor, gss_ctx_id_t context, int confidential,
    gss_qop_t qop, OM_uint32 size, OM_uint32 *most)
{
	return library_gss_wrap_size_limit(minor, context, confidential, qop,
	    size, most);
}
#pragma GCC visibility pop
