/* What the access file lets a principal do: see access.c. */
#ifndef ACCESS_H
#define ACCESS_H

#include <sys/socket.h>

#include <stdbool.h>

#define ACCESS_KIB 1024 /* the most that the file may have */
#define ACCESS_WHY 128  /* bytes of a reason with its NUL */

enum access_right {
	ACCESS_UNNAMED, /* no line names the principal and the user */
	ACCESS_READ,    /* the principal may log in, but remove nothing */
	ACCESS_FULL,    /* the principal may do all that the user may do */
	ACCESS_DENIED,  /* the principal may not log in */
	/* the file cannot be used, so nothing is known about the principal */
	ACCESS_MISTAKE,
};

struct root_file;

/* A principal that wants to log in as a user. */
struct access_login {
	/* in the text form of krb5_unparse_name, with the realm */
	const char *principal;
	const char *user; /* the account's own name */
	/* the client's address, or NULL if it is not known */
	const struct sockaddr_storage *from;
	bool has_tls;
	bool has_layer; /* TLS, or integrity or confidentiality of GSSAPI */
	/* There is no connection, and every condition counts as met. */
	bool is_supposed;
};

struct access_answer {
	enum access_right right;
	/* of the line that decided; 0: the whole file is wrong, or no line */
	unsigned line;
	char why[ACCESS_WHY]; /* ACCESS_DENIED, ACCESS_MISTAKE: the reason */
};

/* Returns the path of the access file, which may be named by an option. */
const char *access_path(const char *named);

/*
 * Root: finds what the login may do. The whole file is read, and a mistake in
 * any line gives ACCESS_MISTAKE. named is the path of the file; NULL: the
 * default, which may be absent.
 */
void access_decide(const char *named, const struct access_login *login,
    struct access_answer *answer);

/*
 * Root, kpopd --check: does the same in two steps. access_load reads the file
 * into memory; root_file_free frees it. access_find needs no right to the file
 * any more, and may be called repeatedly.
 */
void access_load(struct root_file *f, const char *named);
void access_find(const struct root_file *f, const struct access_login *login,
    struct access_answer *answer);

/* A line of the file. */
struct access_line {
	unsigned number;
	/* The pattern of principals, in the text form of krb5_unparse_name. */
	const char *principal;
	const char *user; /* "*": every user */
	enum access_right right;
	bool has_conditions;
};

/*
 * kpopd --check: calls the function `each` for each line of the file that
 * access_load has read, until the first mistake. Sets answer->right to
 * ACCESS_UNNAMED, or to ACCESS_MISTAKE with line and why. The strings of a line
 * are valid during the call.
 */
void access_each(const struct root_file *f,
    void (*each)(void *self, const struct access_line *line), void *self,
    struct access_answer *answer);

#endif
