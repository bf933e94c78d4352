/*
 * Renames the functions that tests replace by the linker's --wrap. On a 32-bit
 * machine those with a file offset or a time of 64 bits have other names.
 *
 * tests/tools/check-32 includes this file before each source, and changes the
 * names in Makefile.am in the same way.
 */
#define __wrap_open __wrap_open64
#define __wrap_openat __wrap_openat64
#define __wrap___openat_2 __wrap___openat64_2
#define __wrap_fstat __wrap___fstat64_time64
#define __wrap_pread __wrap_pread64
#define __wrap___pread_chk __wrap___pread64_chk
#define __wrap_pwrite __wrap_pwrite64
#define __wrap_ftruncate __wrap_ftruncate64
#define __wrap_time __wrap___time64
#define __wrap_clock_gettime __wrap___clock_gettime64
#define __wrap_ioctl __wrap___ioctl_time64
#define __real_open __real_open64
#define __real_openat __real_openat64
#define __real_fstat __real___fstat64_time64
#define __real_pread __real_pread64
#define __real_pwrite __real_pwrite64
#define __real_ftruncate __real_ftruncate64
#define __real_time __real___time64
#define __real_clock_gettime __real___clock_gettime64
#define __real_ioctl __real___ioctl_time64
