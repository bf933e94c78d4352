/*
 * Tests sendauth.c: if no KRB-ERROR can be made, the client gets no answer,
 * because an empty answer would mean that the AP-REQ is accepted.
 *
 * Runs as any user.
 */
#include "config.h"

#include <sys/socket.h>

#include <errno.h>
#include <krb5.h>
#include <string.h>
#include <unistd.h>

#include "auth-start.h"
#include "clock.h"
#include "sendauth.h"
#include "tests/unit/check.h"

krb5_error_code __wrap_krb5_mk_error(krb5_context, const krb5_error *,
    krb5_data *);

krb5_error_code
__wrap_krb5_mk_error(krb5_context context, const krb5_error *error,
    krb5_data *answer)
{
	(void)context, (void)error, (void)answer;
	return ENOMEM;
}

static const char hello[] = "\0\0\0\x13KRB5_SENDAUTH_V1.0\0\0\0\0\x09KPOPV1.0";

/* Sends the hello and n bytes. The answer must be that to the hello only. */
static void
refuse_silently(struct auth *a, const void *ap_req, size_t n)
{
	static struct io io;
	static struct auth_peer peer;
	char answer[64];
	int ends[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	CHECK(write(ends[1], hello, sizeof(hello)) == sizeof(hello));
	CHECK(write(ends[1], ap_req, n) == (ssize_t)n);
	io_init(&io, ends[0], clock_ms() + 10000);
	CHECK(sendauth_serve(&io, a, &peer) == -1);
	CHECK(io_flush(&io) == 0 && close(ends[0]) == 0);
	CHECK(read(ends[1], answer, sizeof(answer)) == 1 && answer[0] == 0);
	CHECK(read(ends[1], answer, sizeof(answer)) <= 0);
	CHECK(close(ends[1]) == 0);
}

int
main(void)
{
	char path[] = "/tmp/kpopd-sendauth.XXXXXX";
	static const char text[] = "[libdefaults]\ndefault_realm = A.TEST\n";
	int fd = mkstemp(path);
	struct auth *a;

	CHECK(fd != -1 &&
	    write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(close(fd) == 0 && setenv("KRB5_CONFIG", path, 1) == 0);
	CHECK((a = auth_prepare()) != NULL && unlink(path) == 0);
	/* An AP-REQ of no bytes, and one that is no AP-REQ. */
	refuse_silently(a, "\0\0\0\0", 4);
	refuse_silently(a, "\0\0\0\x04none", 8);
	auth_free(a);
	return 0;
}
