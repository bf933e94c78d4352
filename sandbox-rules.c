/*
 * Writes the filters of sandbox.c: which system calls each process may make.
 *
 * Runs when kpopd is built, as the user who builds it. libseccomp has the
 * numbers of this architecture's system calls, and makes the program that the
 * kernel runs for each call. kpopd contains these programs as tables. It does
 * not link libseccomp, because that would cost each connection a millisecond.
 *
 * Versions of the C library differ in which of several equivalent calls they
 * make (open, openat, openat2). So the lists name all equivalent calls. A name
 * that libseccomp does not know is too new for this machine, and is skipped.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <err.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/net.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/*
 * Calls that any library may make at any moment, for memory or for the time,
 * and those that end the process.
 */
#define ALWAYS                                                                 \
	"brk munmap mremap madvise futex futex_time64 getrandom exit "         \
	"exit_group rt_sigreturn "                                             \
	"sigreturn restart_syscall clock_gettime clock_gettime64 "             \
	"clock_getres clock_getres_time64 gettimeofday time "                  \
	"getpid getppid gettid sysinfo  getuid getuid32 geteuid geteuid32 "    \
	"getgid getgid32 getegid getegid32 "                                   \
	"rt_sigprocmask sigprocmask uname sched_yield membarrier rseq "        \
	"set_robust_list "
/*
 * Calls on open descriptors. No call may copy a descriptor to another number;
 * otherwise another file could replace the client's socket at 0 to 2.
 */
#define DESCRIPTORS                                                            \
	"read readv pread64 write writev pwrite64 close close_range lseek "    \
	"_llseek "                                                             \
	"fstat fstat64 "
#define LOOKING                                                                \
	"stat stat64 lstat lstat64 newfstatat fstatat64 statx access "         \
	"faccessat faccessat2 "                                                \
	"readlink readlinkat getcwd "
#define WAITING                                                                \
	"poll ppoll ppoll_time64 select _newselect pselect6 pselect6_time64 "  \
	"nanosleep "                                                           \
	"clock_nanosleep clock_nanosleep_time64 "
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
	"ftruncate ftruncate64 fsync fdatasync sync_file_range "               \
	"sync_file_range2 arm_sync_file_range "                                \
	"utimensat utimensat_time64 utimes futimesat utime "

/* An option that setsockopt may set. */
struct option {
	int level, name; /* 0, 0: none */
};

static const struct list {
	const char *name;
	const char *calls;
	/* the process passes descriptors to the broker over a socket */
	bool passes_files;
	/*
	 * the process makes a child, which confines itself further, and tests
	 * whether other processes exist
	 */
	bool makes_process;
	/*
	 * the ioctl requests that the process may make (0: none); they count
	 * the bytes in a socket's queues
	 */
	unsigned counts[2];
	struct option option;
} lists[] = {
	{ "preauth",
	    ALWAYS DESCRIPTORS LOOKING WAITING TALKING OPENING
	    "recvmsg getpeername ",
	    false, false, { 0, 0 }, { SOL_SOCKET, SO_SNDBUF } },
	{ "session",
	    ALWAYS DESCRIPTORS LOOKING WAITING TALKING OPENING NAMES CHANGING
	    "flock getdents getdents64 fstatfs fstatfs64 mkdir mkdirat mknod "
	    "mknodat ",
	    true, false, { SIOCOUTQ, 0 }, { 0, 0 } },
	{ "broker",
	    ALWAYS DESCRIPTORS LOOKING WAITING TALKING OPENING NAMES CHANGING
	    "recvmsg wait4 waitpid waitid socketpair clone clone3 fork vfork "
	    "setresgid setresgid32 setresuid setresuid32 setuid setuid32 "
	    "setgid setgid32 setreuid setreuid32 "
	    "getresuid getresuid32 getresgid getresgid32 getgroups getgroups32 "
	    "getrlimit ugetrlimit setrlimit prlimit64 seccomp "
	    "landlock_create_ruleset landlock_add_rule "
	    "landlock_restrict_self chdir getdents getdents64 fstatfs "
	    "fstatfs64 flock mkdir mkdirat mknod mknodat ",
	    false, true, { 0, 0 }, { 0, 0 } },
	{ "relay", ALWAYS DESCRIPTORS LOOKING WAITING TALKING OPENING RELAYING,
	    false, false, { SIOCOUTQ, FIONREAD },
	    { IPPROTO_TCP, TCP_NOTSENT_LOWAT } },
	{ "tls", ALWAYS DESCRIPTORS LOOKING WAITING TALKING OPENING RELAYING,
	    false, false, { SIOCOUTQ, FIONREAD },
	    { IPPROTO_TCP, TCP_NOTSENT_LOWAT } },
	{ "refusal", ALWAYS DESCRIPTORS WAITING TALKING, false, false, { 0, 0 },
	    { 0, 0 } },
};

/* The operations of prctl in a process that makes a child. */
static const int settings[] = { PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE,
	PR_SET_PDEATHSIG, PR_GET_SECCOMP };

/*
 * The operations that fcntl may do: flags and locks, but no copy of a
 * descriptor. The last three are locks on 32-bit machines.
 */
static const int controls[] = { F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK,
	F_SETLK, F_SETLKW,
	/* F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, which need _GNU_SOURCE */
	36, 37, 38, 12, 13, 14 };

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
	check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(13), SCMP_SYS(socket), 0),
	    "socket");
	check(seccomp_rule_add(filter, SCMP_ACT_ERRNO(13), SCMP_SYS(connect),
		  0),
	    "connect");
}

/*
 * The descriptors from 3 to 63, the highest that a process may have. All 64
 * bits of the argument are compared with these values. The kernel uses only the
 * lower 32 bits of a descriptor. So "at least 3" would also permit descriptor 0
 * with a higher bit set.
 */
static const struct {
	scmp_datum_t bits, value;
} descriptors[] = { { ~0ULL, 3 }, { ~3ULL, 4 }, { ~7ULL, 8 }, { ~15ULL, 16 },
	{ ~15ULL, 32 }, { ~15ULL, 48 } };

/*
 * Permits a socket call on i386, where the C library makes it through
 * socketcall(2) with this number. The filter compares only the number, because
 * the call's arguments are in memory, which no filter can read.
 */
static void
allow_multiplexed(scmp_filter_ctx filter, scmp_datum_t number)
{
	check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socketcall), 1,
		  SCMP_CMP(0, SCMP_CMP_EQ, number, 0)),
	    "socketcall");
}

/*
 * Permits sendmsg(2), which passes descriptors. The message may contain an
 * address, which a filter cannot see. So the call is not permitted on the
 * client's socket (0 to 2). The only flag is MSG_NOSIGNAL, because MSG_FASTOPEN
 * would connect a socket to that address.
 */
static void
allow_passing(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < sizeof(descriptors) / sizeof(descriptors[0]);
	     i++)
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW,
			  SCMP_SYS(sendmsg), 2,
			  SCMP_CMP(0, SCMP_CMP_MASKED_EQ, descriptors[i].bits,
			      descriptors[i].value),
			  SCMP_CMP(2, SCMP_CMP_MASKED_EQ, 0xffffffff,
			      MSG_NOSIGNAL)),
		    "sendmsg");
	allow_multiplexed(filter, SYS_SENDMSG);
}

/* Permits calls that every process may make, but only with some arguments. */
static void
allow_partly(scmp_filter_ctx filter)
{
	/* No memory becomes executable. */
	static const int maps[] = { SCMP_SYS(mmap), SCMP_SYS(mmap2),
		SCMP_SYS(mprotect) };
	static const int actions[] = { SCMP_SYS(rt_sigaction),
		SCMP_SYS(sigaction) };
	static const int calls[] = { SCMP_SYS(fcntl), SCMP_SYS(fcntl64) };

	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++)
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, maps[i], 1,
			  SCMP_CMP(2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)),
		    "mmap");
	/*
	 * The handler of SIGSYS cannot be changed. The kernel uses only the
	 * lower 32 bits of the number. So "unequal" in place of "less than"
	 * would also permit SIGSYS with a higher bit set.
	 */
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, actions[i], 1,
			  SCMP_CMP(0, SCMP_CMP_LT, SIGSYS, 0)),
		    "sigaction");
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		for (size_t k = 0; k < sizeof(controls) / sizeof(controls[0]);
		     k++)
			check(seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i],
				  1,
				  SCMP_CMP(1, SCMP_CMP_EQ,
				      (scmp_datum_t)controls[k], 0)),
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
	allow_multiplexed(filter, SYS_SETSOCKOPT);
}

/* Permits what the broker needs for its child and its dotlock. */
static void
allow_process(scmp_filter_ctx filter)
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
	while (fread(&step, sizeof(step), 1, file) == 1)
		write_step(&step);
	printf("};\n\n");
	fclose(file);
}

static void
write_filter(const struct list *list)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
	char *copy = strdup(list->calls), *rest = copy;

	if (filter == NULL || copy == NULL)
		errx(1, "memory");
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
	if (list->passes_files)
		allow_passing(filter);
	if (list->makes_process)
		allow_process(filter);
	write_program(filter, list->name);
	seccomp_release(filter);
	free(copy);
}

/* Writes the names of all calls by their numbers, for the log. */
static void
write_names(void)
{
	printf("static const char *const call_names[] = {\n");
	for (int i = 0; i < 600; i++) {
		char *name =
		    seccomp_syscall_resolve_num_arch(seccomp_arch_native(), i);

		if (name != NULL)
			printf("\t[%d] = \"%s\",\n", i, name);
		free(name);
	}
	printf("};\n");
}

int
main(void)
{
	printf("/* Made by sandbox-rules. */\n\n");
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		write_filter(&lists[i]);
	write_names();
	return fflush(stdout) == 0 && !ferror(stdout) ? 0 : 1;
}
