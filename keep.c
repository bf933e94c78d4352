/*
 * Describes the options and files with which a kpopd-tls does TLS, and names
 * the socket of a kept kpopd-tls.
 *
 * Runs as root, in main, the listener, the monitor and kpopd-tls. A kept
 * kpopd-tls has read the certificate and the key some time ago. The monitor
 * looks at the files now. If the two descriptions are equal, the kept kpopd-tls
 * does what a new one would do. STATE/tls.works contains the description with
 * which TLS worked last.
 */
#include "config.h"

#include <sys/stat.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "keep.h"
#include "log.h"

#define SOCKET "tls.sock"

/*
 * Appends to text, an array of `size` bytes, a line that differs if the file is
 * changed or replaced. Returns 0, or -1 (logged) if the file is missing.
 */
static int
add_fingerprint(char *text, size_t size, const char *file)
{
	size_t used = strlen(text);
	struct log_text path;
	struct stat st;

	if (stat(file, &st) == -1) {
		log_failed("looking for %s", log_words(&path, file));
		return -1;
	}
	snprintf(text + used, size - used, "%ju %ju %jd %jd.%09ld %jd.%09ld\n",
	    (uintmax_t)st.st_dev, (uintmax_t)st.st_ino, (intmax_t)st.st_size,
	    (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec,
	    (intmax_t)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	return 0;
}

int
keep_describe(struct keep_setup *s, const char *const arguments[KEEP_ARGUMENTS])
{
	struct log_text path;

	/* Two descriptions are compared with all their bytes. */
	*s = (struct keep_setup){ .options = "" };
	for (int i = 0; i < KEEP_ARGUMENTS; i++) {
		strlcat(s->options, arguments[i], sizeof(s->options));
		if (strlcat(s->options, "\n", sizeof(s->options)) >=
		    sizeof(s->options)) {
			log_failed_at(LOG_ERR, "a path is too long",
			    "describing the certificate %s",
			    log_words(&path, arguments[0]));
			return -1;
		}
	}
	for (int i = 0; i < 2; i++)
		if (add_fingerprint(s->files, sizeof(s->files), arguments[i]) ==
		    -1)
			return -1;
	return 0;
}

int
keep_address(struct sockaddr_un *address, const char *state)
{
	int n;

	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = snprintf(address->sun_path, sizeof(address->sun_path), "%s/" SOCKET,
	    state);
	return n < (int)sizeof(address->sun_path) ? 0 : -1;
}
