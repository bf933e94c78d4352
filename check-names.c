/*
 * Compares the names by which clients may know this host with the principals of
 * the keytab.
 *
 * Runs as root in a child of kpopd-check, because DNS may not answer.
 */
#include "config.h"

#include <sys/socket.h>

#include <netinet/in.h>

#include <ctype.h>
#include <ifaddrs.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "auth-internal.h"
#include "auth-keytab.h"
#include "check-keys.h"

#define SECONDS 10 /* for DNS */
#define NAMES_MOST 48
#define ADDRESSES_MOST 32
#define LIST 512 /* bytes of a list of names with its NUL */

/* A name of this host. */
struct host_name {
	char name[NI_MAXHOST]; /* in lower case */
	bool is_in_keytab;     /* the keytab has pop/NAME or pop3/NAME */
	bool is_own;           /* it leads to this host */
};

/* The names. */
struct names {
	struct check *c;
	struct host_name list[NAMES_MOST];
	int count;
	struct in_addr addresses[ADDRESSES_MOST]; /* of the interfaces */
	int address_count;
	int served; /* the host's own for which clients find a key */
};

/*
 * Adds a name in lower case, unless the list has it. Returns its place, or NULL
 * if the name is not listed.
 */
static struct host_name *
list_name(struct names *n, const char *name)
{
	char lower[NI_MAXHOST];
	struct host_name *h = n->list;

	strlcpy(lower, name, sizeof(lower));
	for (char *p = lower; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	if (*lower == '\0' || host_is_local(lower))
		return NULL;
	for (; h < n->list + n->count; h++)
		if (strcmp(h->name, lower) == 0)
			return h;
	if (n->count == NAMES_MOST)
		return NULL;
	strlcpy(h->name, lower, sizeof(h->name));
	n->count++;
	return h;
}

/* Adds a name that leads to this host. */
static void
add_own_name(struct names *n, const char *name)
{
	struct host_name *h = list_name(n, name);

	if (h != NULL)
		h->is_own = true;
}

/* Adds the host of a key. */
static bool
add_key_host(void *self, const krb5_keytab_entry *key)
{
	const krb5_data *host = key->principal->data + 1;
	char name[NI_MAXHOST];
	struct host_name *h;

	snprintf(name, sizeof(name), "%.*s", (int)host->length, host->data);
	if ((h = list_name(self, name)) != NULL)
		h->is_in_keytab = true;
	return true;
}

/* Adds the names of an address, by DNS or /etc/hosts. */
static void
add_address(struct names *n, const struct sockaddr *a)
{
	const struct sockaddr_in *in = (const void *)a;
	const struct sockaddr_in6 *in6 = (const void *)a;
	const struct hostent *found = NULL;

	if (a->sa_family == AF_INET)
		found =
		    gethostbyaddr(&in->sin_addr, sizeof(in->sin_addr), AF_INET);
	else if (a->sa_family == AF_INET6)
		found = gethostbyaddr(&in6->sin6_addr, sizeof(in6->sin6_addr),
		    AF_INET6);
	if (found == NULL)
		return;
	add_own_name(n, found->h_name);
	for (char **alias = found->h_aliases; *alias != NULL; alias++)
		add_own_name(n, *alias);
}

/* Returns true for an address that no other host can reach. */
static bool
is_own(const struct sockaddr *a)
{
	const struct sockaddr_in *in = (const void *)a;
	const struct sockaddr_in6 *in6 = (const void *)a;

	if (a->sa_family == AF_INET)
		return ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	return a->sa_family != AF_INET6 ||
	    IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr) ||
	    IN6_IS_ADDR_LINKLOCAL(&in6->sin6_addr);
}

/* Adds the addresses of the interfaces, and their names. */
static void
add_interfaces(struct names *n)
{
	struct ifaddrs *all;

	if (getifaddrs(&all) == -1)
		return;
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		if (i->ifa_addr == NULL || is_own(i->ifa_addr))
			continue;
		add_address(n, i->ifa_addr);
		if (i->ifa_addr->sa_family == AF_INET &&
		    n->address_count < ADDRESSES_MOST)
			n->addresses[n->address_count++] =
			    ((const struct sockaddr_in *)(const void *)
				    i->ifa_addr)
				->sin_addr;
	}
	freeifaddrs(all);
}

/* Returns true if the list has the name as one of this host. */
static bool
has_own_name(const struct names *n, const char *name)
{
	for (int i = 0; i < n->count; i++)
		if (strcasecmp(n->list[i].name, name) == 0)
			return n->list[i].is_own;
	return false;
}

/* Returns true if a line of /etc/hosts is about this host. */
static bool
is_about_host(const struct names *n, const struct hostent *line)
{
	bool found = has_own_name(n, line->h_name);

	for (char **p = line->h_aliases; *p != NULL; p++)
		found = found || has_own_name(n, *p);
	for (int i = 0; i < n->address_count; i++)
		found = found ||
		    (line->h_addrtype == AF_INET &&
			memcmp(line->h_addr_list[0], &n->addresses[i],
			    sizeof(n->addresses[i])) == 0);
	return found;
}

/*
 * Adds the names of a line of /etc/hosts. gethostbyaddr finds only the first
 * line of an address.
 */
static void
add_hosts_line(struct names *n, const struct hostent *line)
{
	if (!is_about_host(n, line))
		return;
	add_own_name(n, line->h_name);
	for (char **p = line->h_aliases; *p != NULL; p++)
		add_own_name(n, *p);
}

/* Returns true if an address is one of this host's. */
static bool
is_address_here(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool is_here = fd != -1 && bind(fd, a->ai_addr, a->ai_addrlen) == 0;

	if (fd != -1)
		close(fd);
	return is_here;
}

/* Returns true if a name leads to an address of this host. */
static bool
leads_here(const char *name)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	bool is_here = false;

	if (getaddrinfo(name, NULL, &hints, &found) != 0)
		return false;
	for (const struct addrinfo *a = found; a != NULL; a = a->ai_next)
		is_here = is_here || is_address_here(a);
	freeaddrinfo(found);
	return is_here;
}

/* Returns true if a full name begins with this name and a dot. */
static bool
extends(const char *full, const char *name)
{
	size_t length = strlen(name);

	return strncasecmp(full, name, length) == 0 && full[length] == '.';
}

/* Returns the full name of a short one, from the list; NULL: none. */
static const char *
find_full_name(const struct names *n, const char *name)
{
	if (strchr(name, '.') != NULL)
		return name;
	for (int i = 0; i < n->count; i++)
		if (extends(n->list[i].name, name))
			return n->list[i].name;
	return NULL;
}

/*
 * Returns true if a name leads to this host, or may be the full name of a host
 * that knows only its short one.
 */
static bool
is_name_here(const char *name, const char *host)
{
	return (strchr(host, '.') == NULL && extends(name, host)) ||
	    leads_here(name);
}

/* Finds the names of the keytab that lead to this host. */
static void
mark_own_names(struct names *n, const char *host)
{
	for (struct host_name *h = n->list; h < n->list + n->count; h++)
		h->is_own = h->is_own || is_name_here(h->name, host);
}

/* Collects the names: the host's own, those of its addresses, and aliases. */
static void
collect_names(struct names *n)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	struct addrinfo *found;
	const struct hostent *line;
	char host[NI_MAXHOST];

	if (gethostname(host, sizeof(host)) == 0)
		add_own_name(n, host);
	add_own_name(n, host_full_name(host));
	if (getaddrinfo(host, NULL, &hints, &found) == 0) {
		for (struct addrinfo *a = found; a != NULL; a = a->ai_next)
			add_address(n, a->ai_addr);
		freeaddrinfo(found);
	}
	add_interfaces(n);
	sethostent(0);
	while ((line = gethostent()) != NULL)
		add_hosts_line(n, line);
	endhostent();
	mark_own_names(n, host);
}

bool
host_has_name(const char *name)
{
	static struct names n;
	char host[NI_MAXHOST];

	if (n.count == 0)
		collect_names(&n);
	return has_own_name(&n, name) ||
	    is_name_here(name, host_full_name(host));
}

/*
 * Writes the host for which a client asks if its user names this one, by the
 * rules of this host's krb5.conf.
 */
static void
write_canonical(struct names *n, const char *name, char host[NI_MAXHOST])
{
	krb5_principal p;

	strlcpy(host, name, NI_MAXHOST);
	if (krb5_sname_to_principal(n->c->auth->context, name, "pop",
		KRB5_NT_SRV_HST, &p) != 0)
		return;
	if (p->length == 2)
		snprintf(host, NI_MAXHOST, "%.*s", (int)p->data[1].length,
		    p->data[1].data);
	krb5_free_principal(n->c->auth->context, p);
}

/* Returns true if the keytab has a key for this host. */
static bool
is_in_keytab(const struct names *n, const char *host)
{
	for (int i = 0; i < n->count; i++)
		if (strcmp(n->list[i].name, host) == 0)
			return n->list[i].is_in_keytab;
	return false;
}

/*
 * Makes the remedy: a line for this name in /etc/hosts, with an address that
 * does not lead to another name. The file stays the same one, because it may be
 * a mount of a container.
 */
static const char *
mend_hosts(struct names *n, const char *name)
{
	const char *full = find_full_name(n, name);
	int length = full != NULL ? (int)strcspn(full, ".") : 0;

	if (full == NULL || !keys_is_plain(full) || strpbrk(full, "/@") != NULL)
		return "write into /etc/hosts the line 127.0.1.1 HOST.DOMAIN "
		       "HOST, with the names of this host, and remove them "
		       "from the line of 127.0.0.1";
	return check_remedy(n->c,
	    "h=$(sed -E ':a;/^(127|::1)/s/[[:space:]]+(%s|%.*s)([[:space:]]|$)/"
	    "\\2/;ta' /etc/hosts && echo '127.0.1.1 %s %.*s') && "
	    "printf '%%s\\n' \"$h\" >/etc/hosts",
	    full, length, full, full, length, full);
}

/*
 * Reports a name that leads back to localhost. Clients on other hosts may have
 * a better DNS or /etc/hosts, and others do not look the name up.
 */
static void
warn_of_localhost(struct names *n, const struct host_name *h)
{
	n->served += h->is_own && h->is_in_keytab;
	check_warn(n->c, "name", h->name,
	    h->is_own ? mend_hosts(n, h->name) :
			"correct the PTR record of its address in the DNS",
	    "its address leads back to localhost, by /etc/hosts or the DNS: "
	    "clients that look up its canonical name here ask for "
	    "pop/localhost, for which there must be no key");
}

/*
 * Checks one name. Some clients ask for the name as their user has given it,
 * others for its canonical name. A short name is always extended.
 */
static void
check_name(struct names *n, const struct host_name *h)
{
	struct check *c = n->c;
	char other[NI_MAXHOST], principal[sizeof("pop/") + NI_MAXHOST];
	bool is_short = strchr(h->name, '.') == NULL, other_is_in;

	write_canonical(n, h->name, other);
	if (host_is_local(other)) {
		warn_of_localhost(n, h);
		return;
	}
	other_is_in = is_in_keytab(n, other);
	n->served += h->is_own && other_is_in;
	snprintf(principal, sizeof(principal), "pop/%s",
	    h->is_in_keytab || is_short ? other : h->name);
	if (other_is_in && (h->is_in_keytab || is_short))
		check_ok(c, "name", h->name, "the keytab has a key for %s",
		    other);
	else if (other_is_in)
		check_warn(c, "name", h->name, remedy_add_key(c, principal),
		    "the keytab has no key for this name: only clients that "
		    "look up its canonical name, %s, can log in by it",
		    other);
	else if (h->is_in_keytab && !is_short)
		check_warn(c, "name", h->name, remedy_add_key(c, principal),
		    "clients that look up its canonical name ask for %s, for "
		    "which the keytab has no key",
		    other);
	else
		check_warn(c, "name", h->name, remedy_add_key(c, principal),
		    "the keytab has no key for %s: clients cannot log in by "
		    "this name, unless the KDC has it as an alias",
		    is_short ? other : h->name);
}

/* Writes the keytab's names. Returns true if one is a name of this host. */
static bool
list_keytab(const struct names *n, char list[LIST])
{
	bool has_own = false;

	*list = '\0';
	for (int i = 0; i < n->count; i++) {
		const struct host_name *h = &n->list[i];

		if (!h->is_in_keytab)
			continue;
		has_own = has_own || h->is_own;
		if (*list != '\0')
			strlcat(list, ", ", LIST);
		strlcat(list, h->name, LIST);
	}
	return has_own;
}

/*
 * Reports that no name of this host leads to a key. With -s or -x clients may
 * know another name, which leads to a balancer.
 */
static void
fail_without_name(struct names *n)
{
	struct check *c = n->c;
	char host[NI_MAXHOST], principal[sizeof("pop/") + NI_MAXHOST];
	char list[LIST];
	bool has_own = list_keytab(n, list);
	const char *remedy;

	snprintf(principal, sizeof(principal), "pop/%s", host_full_name(host));
	remedy = remedy_add_key(c, principal);
	if (has_own)
		check_fail(c, "name", host, remedy,
		    "no name of this host leads to a key of the keytab: no "
		    "client can log in");
	else if (c->o.service != NULL || c->o.proxies.count > 0)
		check_warn(c, "name", host, remedy,
		    "the keytab has no key for a name of this host, but for "
		    "%s: clients can log in only if this name leads them to a "
		    "balancer, and that here",
		    list);
	else
		check_fail(c, "name", host, remedy,
		    "the keytab has no key for a name of this host, but for "
		    "%s: clients of this host cannot log in. If this is the "
		    "name of a balancer, set the option service (-s)",
		    list);
}

/* Child: checks all names. */
static void
check_all_names(struct check *c)
{
	static struct names n;

	n.c = c;
	keys_visit(c, KEYS_OF_SERVICE, add_key_host, &n);
	/* check_keytab has printed why there are no keys. */
	if (n.count == 0)
		return;
	collect_names(&n);
	for (int i = 0; i < n.count; i++)
		check_name(&n, &n.list[i]);
	if (n.served == 0)
		fail_without_name(&n);
}

void
check_names(struct check *c)
{
	if (c->auth != NULL && !check_in_child(c, SECONDS, check_all_names))
		check_warn(c, "name", NULL, NULL,
		    "the names of this host were not found within %d s; DNS "
		    "may not answer",
		    SECONDS);
}
