/*
 * Makes the remedy for a configuration file of root's that kpopd refuses.
 *
 * Runs as root in kpopd-check.
 */
#include "config.h"

#include <sys/stat.h>

#include "check-config.h"
#include "check-quote.h"

const char *
check_mend_config(struct check *c, const char *path, unsigned line,
    const char *page)
{
	struct check_word w;
	struct stat st, target;

	check_quote(&w, path);
	if (lstat(path, &st) == -1 || stat(path, &target) == -1)
		return check_remedy(c, "ls -l %s", w.text);
	if (st.st_uid != 0 || target.st_uid != 0)
		return check_remedy(c, "chown %sroot:root %s",
		    st.st_uid != 0 ? "-h " : "", w.text);
	if (!S_ISREG(target.st_mode))
		return check_remedy(c, "mv -bT %s %s.old", w.text, w.text);
	if ((target.st_mode & (S_IWGRP | S_IWOTH)) != 0)
		return check_remedy(c, "chmod 644 %s", w.text);
	if (target.st_size == 0)
		return check_remedy(c, "echo '# %s' >%s", page, w.text);
	if (line > 0)
		return check_remedy(c, "vi +%u %s", line, w.text);
	return check_remedy(c, "vi %s", w.text);
}
