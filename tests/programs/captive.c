/*
 * Makes system calls in another process, as an attacker could who has
 * compromised that process.
 *
 * 	captive PID "CALL WORD …" …
 *
 * A word that begins with a digit or "-" is a number. Any other word is a
 * string. Prints the result of each call. If the call fails, prints the
 * negative errno. If the call ends the process, prints nothing. If it does not,
 * the process continues where it was. Supports only x86-64, and exits with 77
 * on other machines. Runs as root, from tests.
 *
 * gdb cannot be used, because it also writes the other registers. Also, gdb
 * fails if the processor has registers that gdb does not support.
 */
#include "config.h"

#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __x86_64__

#define WORDS 7        /* most words: a call and its arguments */
#define RED_ZONE 128   /* bytes below the stack pointer, reserved by the ABI */
#define SYSCALL 0x050f /* the instruction "syscall", as a number */
#define INSTRUCTION 2  /* size of that instruction */
#define ATTEMPTS 100   /* to meet the process in a system call */
#define ATTEMPT_US 20000

static pid_t pid;
static struct user_regs_struct before;

/*
 * Writes a string to the process's memory below *stack, and moves *stack down.
 * Returns the string's address.
 */
static unsigned long long
lend(const char *text, unsigned long long *stack)
{
	size_t n = (strlen(text) + sizeof(long)) / sizeof(long);

	*stack -= n * sizeof(long);
	for (size_t i = 0; i < n; i++) {
		long word = 0;
		size_t left = strlen(text) + 1 - i * sizeof(long);

		memcpy(&word, text + i * sizeof(long),
		    left < sizeof(long) ? left : sizeof(long));
		if (ptrace(PTRACE_POKEDATA, pid,
			(void *)(uintptr_t)(*stack + i * sizeof(long)),
			(void *)word) == -1)
			err(1, "PTRACE_POKEDATA");
	}
	return *stack;
}

/* Returns the registers that make the call in text. */
static struct user_regs_struct
prepare(char *text)
{
	struct user_regs_struct r = before;
	unsigned long long *const places[WORDS] = { &r.rax, &r.rdi, &r.rsi,
		&r.rdx, &r.r10, &r.r8, &r.r9 };
	unsigned long long stack = (r.rsp - RED_ZONE) & ~(sizeof(long) - 1);
	char *rest = text, *word = strtok_r(text, " ", &rest);
	int number =
	    word != NULL ? seccomp_syscall_resolve_name(word) : __NR_SCMP_ERROR;

	if (number < 0)
		errx(1, "%s: no such system call", text);
	/*
	 * The process may have been stopped in a call. The kernel must not
	 * restart that call.
	 */
	r.orig_rax = (unsigned long long)-1;
	r.rip -= INSTRUCTION;
	r.rax = (unsigned long long)number;
	for (int i = 1;
	     i < WORDS && (word = strtok_r(NULL, " ", &rest)) != NULL; i++)
		*places[i] = isdigit((unsigned char)word[0]) || word[0] == '-' ?
		    (unsigned long long)strtoll(word, NULL, 0) :
		    lend(word, &stack);
	return r;
}

/*
 * Attaches to the process while it waits in a system call, and stores its
 * registers. Tries for a while, because a process may just have returned from a
 * system call.
 */
static void
attach(void)
{
	for (int i = 0; i < ATTEMPTS; i++) {
		int status;
		long code;

		if (ptrace(PTRACE_ATTACH, pid, NULL, NULL) == -1 ||
		    waitpid(pid, &status, 0) == -1 ||
		    ptrace(PTRACE_GETREGS, pid, NULL, &before) == -1)
			err(1, "process %d", (int)pid);
		errno = 0;
		code = ptrace(PTRACE_PEEKTEXT, pid,
		    (void *)(uintptr_t)(before.rip - INSTRUCTION), NULL);
		if (errno == 0 && (code & 0xffff) == SYSCALL)
			return;
		ptrace(PTRACE_DETACH, pid, NULL, NULL);
		usleep(ATTEMPT_US);
	}
	errx(1, "process %d is not waiting in a system call", (int)pid);
}

/* Makes the call and prints its result. Returns 0 if the process has ended. */
static int
make_call(char *text)
{
	struct user_regs_struct r = prepare(text);
	int status;

	if (ptrace(PTRACE_SETREGS, pid, NULL, &r) == -1 ||
	    ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == -1)
		err(1, "ptrace");
	if (waitpid(pid, &status, 0) == -1)
		err(1, "waitpid");
	if (!WIFSTOPPED(status))
		return 0;
	if (WSTOPSIG(status) == SIGSYS) {
		/* The signal of the single step comes after SIGSYS. */
		if (ptrace(PTRACE_CONT, pid, NULL, (void *)SIGSYS) == 0 &&
		    waitpid(pid, &status, 0) == pid && WIFSTOPPED(status))
			ptrace(PTRACE_DETACH, pid, NULL, NULL);
		return 0;
	}
	if (WSTOPSIG(status) != SIGTRAP ||
	    ptrace(PTRACE_GETREGS, pid, NULL, &r) == -1)
		errx(1, "the process was stopped by signal %d",
		    WSTOPSIG(status));
	printf("%lld\n", (long long)r.rax);
	return 1;
}

int
main(int argc, char **argv)
{
	if (argc < 3)
		errx(1, "usage: captive PID \"CALL WORD ...\" ...");
	pid = (pid_t)strtol(argv[1], NULL, 10);
	attach();
	for (int i = 2; i < argc; i++)
		if (!make_call(argv[i]))
			return 0;
	if (ptrace(PTRACE_SETREGS, pid, NULL, &before) == -1 ||
	    ptrace(PTRACE_DETACH, pid, NULL, NULL) == -1)
		err(1, "detaching");
	return 0;
}

#else

int
main(void)
{
	warnx("only x86-64 is supported");
	return 77;
}

#endif
