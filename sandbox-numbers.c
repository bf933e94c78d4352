/*
 * Has the numbers of the host that kpopd is built for, for sandbox-rules.
 *
 * Never runs. The host's compiler compiles it to assembler, and the Makefile
 * takes the lines "number NAME VALUE" from that. So a cross-build, too, has the
 * numbers of the host and not those of the machine that builds.
 */
#define _GNU_SOURCE /* NOLINT(bugprone-reserved-identifier,cert-*) */

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/sockios.h>
#include <signal.h>

/*
 * The architecture, as the kernel and libseccomp number it. s390x is missing
 * because its C library uses socketcall, whose arguments no filter sees. mips64
 * is missing because of its signals (sandbox.c) and because its system calls
 * have numbers from 5000 on (sandbox-rules.c: write_names).
 */
#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define ARCHITECTURE AUDIT_ARCH_PPC64LE
#elif defined(__powerpc64__)
#define ARCHITECTURE AUDIT_ARCH_PPC64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCHITECTURE AUDIT_ARCH_RISCV64
#else
#error "add the AUDIT_ARCH_ of this architecture, if libseccomp has it"
#endif

#define IS_BIG_ENDIAN (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)

/*
 * Writes the line of one number, in an .ascii directive. The number is an int
 * of 32 bits, so a large one becomes negative. %c leaves out the "$" or "#"
 * that some assemblers have before a constant.
 */
#define NUMBER(name)                                                           \
	__asm__ volatile("\n.ascii \"number " #name " %c0\"" ::"i"((int)(name)))

void numbers(void);

void
numbers(void)
{
	NUMBER(ARCHITECTURE);
	NUMBER(EACCES);
	NUMBER(FIONREAD);
	NUMBER(F_GETFD);
	NUMBER(F_GETFL);
	NUMBER(F_GETLK);
	NUMBER(F_OFD_GETLK);
	NUMBER(F_OFD_SETLK);
	NUMBER(F_OFD_SETLKW);
	NUMBER(F_SETFD);
	NUMBER(F_SETFL);
	NUMBER(F_SETLK);
	NUMBER(F_SETLKW);
	NUMBER(IPPROTO_TCP);
	NUMBER(IS_BIG_ENDIAN);
	NUMBER(MSG_NOSIGNAL);
	NUMBER(PROT_EXEC);
	NUMBER(PR_SET_DUMPABLE);
	NUMBER(PR_SET_NO_NEW_PRIVS);
	NUMBER(PR_SET_PDEATHSIG);
	NUMBER(PR_SET_SECCOMP);
	NUMBER(SIGSYS);
	NUMBER(SIOCOUTQ);
	NUMBER(SOL_SOCKET);
	NUMBER(SO_SNDBUF);
	NUMBER(TCP_NOTSENT_LOWAT);
}
