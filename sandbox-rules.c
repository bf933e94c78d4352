/*
 * Writes the filters of sandbox.c: which system calls each process may make.
 *
 * Runs when kpopd is built, on the machine that builds it, as the user who
 * builds it. libseccomp has the numbers of the system calls of each
 * architecture, and makes the program that the kernel runs for each call. The
 * build does not ask the kernel of this machine, which may be of another
 * architecture or without seccomp. Other numbers (HOST_...) come from the
 * host's headers, by sandbox-numbers.c. kpopd contains the programs as tables.
 * It does not link libseccomp, because that would cost each connection a
 * millisecond.
 *
 * Versions of the C library differ in which of several equivalent calls they
 * make (open, openat, openat2). So the lists name all equivalent calls. A name
 * that is too new for this machine's libseccomp is skipped; the filter then
 * forbids that call.
 */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier,cert-*) */

#include <err.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sandbox-numbers.h"

/*
 * Calls that any library may make at any moment, for memory or for the time,
 * and those that end the process.
 */
#define ALWAYS                                                                 \
	"brk munmap mremap madvise futex getrandom exit exit_group "           \
	"rt_sigreturn restart_syscall clock_gettime clock_getres "             \
	"gettimeofday time getpid getppid gettid sysinfo getuid geteuid "      \
	"getgid getegid rt_sigprocmask uname sched_yield membarrier rseq "     \
	"set_robust_list "
/*
 * Calls on open descriptors. No call may copy a descriptor to another number.
 * Otherwise the client's socket, which is at 0 to 2, could get a number with
 * which sendmsg is permitted (allow_passing).
 */
#define DESCRIPTORS                                                            \
	"read readv pread64 write writev pwrite64 close close_range lseek "    \
	"fstat "
#define LOOKING                                                                \
	"stat lstat newfstatat statx access faccessat faccessat2 readlink "    \
	"readlinkat getcwd "
#define WAITING "poll ppoll select pselect6 nanosleep clock_nanosleep "
#define TALKING "recv recvfrom shutdown "
/*
 * Calls that open files. The process's user, its jail and Landlock decide which
 * files it can open.
 */
#define OPENING "open openat openat2 "
#define NAMES "link linkat unlink unlinkat rename renameat renameat2 "
/* For relay.c, which leaves a byte in a socket and waits for those after it. */
#define RELAYING "epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 "
#define CHANGING                                                               \
	"ftruncate fsync fdatasync sync_file_range sync_file_range2 "          \
	"utimensat utimes futimesat utime "

/* An option that setsockopt may set. */
struct option {
	int level, name; /* 0, 0: none */
};

/*
 * Ranges of descriptors from 3 to 1023, the highest that a process with a
 * filter may have. All 64 bits of the argument are compared with these values.
 * The kernel uses only the lower 32 bits of a descriptor. So "at least 3" would
 * also permit descriptor 0 with a higher bit set.
 */
static const struct {
	scmp_datum_t bits, value;
} descriptors[] = { { ~0ULL, 3 }, { ~3ULL, 4 }, { ~7ULL, 8 }, { ~15ULL, 16 },
	{ ~31ULL, 32 }, { ~63ULL, 64 }, { ~127ULL, 128 }, { ~255ULL, 256 },
	{ ~511ULL, 512 } };
/* The number of ranges for the descriptors below 64, and below 1024. */
enum { BELOW_64 = 5, BELOW_1024 = 9 };

static const struct list {
	const char *name;
	const char *calls;
	/*
	 * the process passes descriptors over sockets with these descriptors:
	 * the number of rows of descriptors[]
	 */
	unsigned passes;
	bool makes_process; /* children, which confine themselves further */
	bool makes_dotlock; /* and tests whether other processes exist */
	/*
	 * the ioctl requests that the process may make (0: none); they count
	 * the bytes in a socket's queues
	 */
	unsigned counts[2];
	struct option option;
} lists[] = {
	{ "preauth",
	    ALWAYS DESCRIPTORS LOOKING WAITING TALKING OPENING "recvmsg ", 0,
	    false, false, { 0, 0 }, { HOST_SOL_SOCKET, HOST_SO_SNDBUF } },
	{ "session",
	    ALWAYS DESCRIPTORS LOOKING WAITING TALKING OPENING NAMES CHANGING
	    "flock getdents getdents64 fstatfs fadvise64 "
	    "fadvise64_64 arm_fadvise64_64 mkdir mkdirat mknod "
	    "mknodat ",
	    BELOW_64, false, false, { HOST_SIOCOUTQ, 0 }, { 0, 0 } },
	{ "broker",
	    ALWAYS DESCRIPTORS LOOKING WAITING TALKING OPENING NAMES CHANGING
	    "recvmsg wait4 waitid socketpair clone clone3 fork vfork "
	    "setresgid setresuid setuid "
	    "setgid setreuid "
	    "getresuid getresgid getgroups "
	    "getrlimit setrlimit prlimit64 seccomp "
	    "landlock_create_ruleset landlock_add_rule "
	    "landlock_restrict_self chdir getdents getdents64 fstatfs "
	    "fadvise64 fadvise64_64 arm_fadvise64_64 "
	    "flock mkdir mkdirat mknod mknodat ",
	    0, true, true, { 0, 0 }, { 0, 0 } },
	{ "relay", ALWAYS DESCRIPTORS LOOKING WAITING TALKING OPENING RELAYING,
	    0, false, false, { HOST_SIOCOUTQ, HOST_FIONREAD },
	    { HOST_IPPROTO_TCP, HOST_TCP_NOTSENT_LOWAT } },
	{ "tls", ALWAYS DESCRIPTORS LOOKING WAITING TALKING OPENING RELAYING, 0,
	    false, false, { HOST_SIOCOUTQ, HOST_FIONREAD },
	    { HOST_IPPROTO_TCP, HOST_TCP_NOTSENT_LOWAT } },
	/*
	 * This filter also applies to its children, so it permits all that
	 * "tls" does.
	 */
	{ "keeper",
	    ALWAYS DESCRIPTORS LOOKING WAITING TALKING OPENING RELAYING
	    "accept4 socketpair recvmsg wait4 waitid clone clone3 fork vfork "
	    "pidfd_open setpgid getrlimit setrlimit prlimit64 seccomp "
	    "landlock_create_ruleset landlock_add_rule "
	    "landlock_restrict_self ",
	    BELOW_1024, true, false, { HOST_SIOCOUTQ, HOST_FIONREAD },
	    { HOST_IPPROTO_TCP, HOST_TCP_NOTSENT_LOWAT } },
	{ "refusal", ALWAYS DESCRIPTORS WAITING TALKING, 0, false, false,
	    { 0, 0 }, { 0, 0 } },
};

/* The operations of prctl in a process that makes a child. */
static const int settings[] = { HOST_PR_SET_NO_NEW_PRIVS, HOST_PR_SET_DUMPABLE,
	HOST_PR_SET_PDEATHSIG, HOST_PR_SET_SECCOMP };

/*
 * The operations that fcntl may do: flags and locks, but no copy of a
 * descriptor.
 */
static const int controls[] = { HOST_F_GETFD, HOST_F_SETFD, HOST_F_GETFL,
	HOST_F_SETFL, HOST_F_GETLK, HOST_F_SETLK, HOST_F_SETLKW,
	HOST_F_OFD_GETLK, HOST_F_OFD_SETLK, HOST_F_OFD_SETLKW };

static void
check(int result, const char *what)
{
	if (result < 0)
		errx(1, "%s: %s", what, strerror(-result));
}

static void
allow(scmp_filter_ctx filter, const char *call)
{
	int number = seccomp_syscall_resolve_name(call);

	if (number == __NR_SCMP_ERROR)
		return;
	check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0), call);
}

/*
 * Permits sending over open sockets. socket and connect fail, but do not end
 * the process, because libraries try sockets that they do not need.
 */
static void
allow_sockets(scmp_filter_ctx filter)
{
	/*
	 * sendto is permitted only without an address, so it sends only to the
	 * other end of the socket.
	 */
	check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(send), 0),
	    "send");
	check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(sendto), 1,
		  SCMP_CMP(4, SCMP_CMP_EQ, 0, 0)),
	    "sendto");
	check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(HOST_EACCES),
		  SCMP_SYS(socket), 0),
	    "socket");
	check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(HOST_EACCES),
		  SCMP_SYS(connect), 0),
	    "connect");
}

/*
 * Permits sendmsg(2), which passes descriptors. The message may contain an
 * address, which a filter cannot see. So the call is not permitted on the
 * client's socket (0 to 2). The only flag is MSG_NOSIGNAL, because MSG_FASTOPEN
 * would connect a socket to that address.
 */
static void
allow_passing(scmp_filter_ctx filter, unsigned ranges)
{
	for (unsigned i = 0; i < ranges; i++)
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW,
			  SCMP_SYS(sendmsg), 2,
			  SCMP_CMP(0, SCMP_CMP_MASKED_EQ, descriptors[i].bits,
			      descriptors[i].value),
			  SCMP_CMP(2, SCMP_CMP_MASKED_EQ, 0xffffffff,
			      HOST_MSG_NOSIGNAL)),
		    "sendmsg");
}

/* Permits calls that every process may make, but only with some arguments. */
static void
allow_partly(scmp_filter_ctx filter)
{
	/* No memory becomes executable. */
	static const int maps[] = { SCMP_SYS(mmap), SCMP_SYS(mprotect) };

	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++)
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, maps[i], 1,
			  SCMP_CMP(2, SCMP_CMP_MASKED_EQ, HOST_PROT_EXEC, 0)),
		    "mmap");
	/*
	 * The handler of SIGSYS cannot be changed. The kernel uses only the
	 * lower 32 bits of the number. So "unequal" in place of "less than"
	 * would also permit SIGSYS with a higher bit set.
	 */
	check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(rt_sigaction),
		  1, SCMP_CMP(0, SCMP_CMP_LT, HOST_SIGSYS, 0)),
	    "sigaction");
	for (size_t i = 0; i < sizeof(controls) / sizeof(controls[0]); i++)
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fcntl),
			  1,
			  SCMP_CMP(1, SCMP_CMP_EQ, (scmp_datum_t)controls[i],
			      0)),
		    "fcntl");
}

static void
allow_counts(scmp_filter_ctx filter, const unsigned counts[2])
{
	for (size_t i = 0; i < 2 && counts[i] != 0; i++)
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(ioctl),
			  1, SCMP_CMP(1, SCMP_CMP_EQ, counts[i], 0)),
		    "ioctl");
}

/*
 * Compares the lower 32 bits of an argument, because the kernel uses only these
 * bits of an int.
 */
#define IS(argument, value)                                                    \
	SCMP_CMP(argument, SCMP_CMP_MASKED_EQ, 0xffffffff,                     \
	    (scmp_datum_t)(value))

static void
allow_option(scmp_filter_ctx filter, const struct option *option)
{
	if (option->name == 0)
		return;
	check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(setsockopt), 2,
		  IS(1, option->level), IS(2, option->name)),
	    "setsockopt");
}

/* Permits what the broker needs for the dotlock. */
static void
allow_dotlock(scmp_filter_ctx filter)
{
	check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1,
		  IS(1, 0)),
	    "kill");
	/*
	 * fchmod may set only the dotlock's mode. A setuid or setgid file would
	 * give away the rights of the user or of the spool's group.
	 */
	check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(fchmod), 1,
		  IS(1, 0644)),
	    "fchmod");
}

/* Permits what a child needs to confine itself. */
static void
allow_process(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++)
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(prctl),
			  1, IS(0, settings[i])),
		    "prctl");
}

static void
write_step(const struct sock_filter *step)
{
	printf("\t{ 0x%04x, %u, %u, 0x%08x },\n", step->code, step->jt,
	    step->jf, step->k);
}

/* libseccomp writes the numbers in the host's order of bytes. */
static void
order_bytes(struct sock_filter *step)
{
	const uint16_t one = 1;
	bool is_big_endian = *(const unsigned char *)&one == 0;

	if (is_big_endian == HOST_IS_BIG_ENDIAN)
		return;
	step->code = __builtin_bswap16(step->code);
	step->k = __builtin_bswap32(step->k);
}

/*
 * Writes the filter in the kernel's form, which libseccomp can write only to a
 * file. The first instructions permit the call number -1, which does nothing. A
 * tracer that suppresses a call changes its number to -1; the tests inject
 * faults with strace in this way.
 */
static void
write_program(scmp_filter_ctx filter, const char *name)
{
	static const struct sock_filter skipped[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xffffffff, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	FILE *file = tmpfile();
	struct sock_filter step;

	if (file == NULL)
		err(1, "tmpfile");
	check(seccomp_export_bpf(filter, fileno(file)), "seccomp_export_bpf");
	rewind(file);
	printf("static const struct sock_filter %s_filter[] = {\n", name);
	for (size_t i = 0; i < sizeof(skipped) / sizeof(skipped[0]); i++)
		write_step(&skipped[i]);
	while (fread(&step, sizeof(step), 1, file) == 1) {
		order_bytes(&step);
		write_step(&step);
	}
	printf("};\n\n");
	fclose(file);
}

/* The host's architecture, as libseccomp numbers it. */
#define HOST ((uint32_t)HOST_ARCHITECTURE)

/* Replaces this machine's architecture in the filter by the host's. */
static void
choose_architecture(scmp_filter_ctx filter)
{
	if (HOST == seccomp_arch_native())
		return;
	/*
	 * Remove the one architecture before adding the other, because no
	 * filter has two orders of bytes.
	 */
	check(seccomp_arch_remove(filter, seccomp_arch_native()),
	    "architecture");
	check(seccomp_arch_add(filter, HOST), "libseccomp for the host");
}

static void
write_filter(const struct list *list)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	char *copy = strdup(list->calls), *rest = copy;

	if (filter == NULL || copy == NULL)
		errx(1, "memory");
	choose_architecture(filter);
	check(seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH,
		  SCMP_ACT_KILL_PROCESS),
	    "architecture");
	/*
	 * 2: the filter searches a binary tree instead of comparing one number
	 * after the other.
	 */
	check(seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2),
	    "optimization");
	for (const char *call = strtok_r(copy, " ", &rest); call != NULL;
	     call = strtok_r(NULL, " ", &rest))
		allow(filter, call);
	allow_partly(filter);
	allow_sockets(filter);
	allow_counts(filter, list->counts);
	allow_option(filter, &list->option);
	allow_passing(filter, list->passes);
	if (list->makes_process)
		allow_process(filter);
	if (list->makes_dotlock)
		allow_dotlock(filter);
	write_program(filter, list->name);
	seccomp_release(filter);
	free(copy);
}

/* Writes the names of the calls with numbers below 600, for the log. */
static void
write_names(void)
{
	printf("static const char *const call_names[] = {\n");
	for (int i = 0; i < 600; i++) {
		char *name = seccomp_syscall_resolve_num_arch(HOST, i);

		if (name != NULL)
			printf("\t[%d] = \"%s\",\n", i, name);
		free(name);
	}
	printf("};\n");
}

int
main(void)
{
	/*
	 * 3: what a kernel since 4.14 has. Otherwise libseccomp would ask the
	 * kernel of this machine.
	 */
	check(seccomp_api_set(3), "seccomp_api_set");
	printf("/* Made by sandbox-rules. */\n\n");
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		write_filter(&lists[i]);
	write_names();
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
