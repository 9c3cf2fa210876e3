/* Makes chosen calls of a process fail, as a disk, a full file system or a jumping clock would. For LD_PRELOAD.
 *
 * STRESS_IO    rules, separated by commas: CALL:CHANCE:WHAT
 *   CALL    write (and pwrite, fallocate), read (and pread), open, sync (fsync, fdatasync, msync), truncate, map, clock
 *   CHANCE  a probability for each call
 *   WHAT    the number of an errno, or `short`: a write or read does only a part, and says so
 * STRESS_PATH  only files whose path holds this text
 * STRESS_SYNCS a file of eight bytes, mapped by all processes: how many syncs of files of the journal were begun
 * STRESS_SEED  of the chances, together with the process's number
 *
 * A clock rule has CLOCK_REALTIME jump by up to a day, with that chance for each look at it.
 * Not seen: what the C library does inside itself, stores through a mapping, direct system calls.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum call { WRITE, READ, OPEN, SYNC, TRUNCATE, MAP, CLOCK, CALLS };
static const char *const names[CALLS] = { "write", "read", "open", "sync", "truncate", "map", "clock" };
enum { SHORT = -1 };

static struct { enum call call; double chance; int what; } rules[16];
static int rule_count;
static char path_part[256];
static atomic_ulong state;
static pid_t seeded_for;
static atomic_long *syncs;
static long clock_offset;

__attribute__((constructor)) static void read_rules(void)
{
    const char *text = getenv("STRESS_IO"), *part = getenv("STRESS_PATH"), *count = getenv("STRESS_SYNCS");
    snprintf(path_part, sizeof path_part, "%s", part ? part : "");
    for (; text && *text && rule_count < 16; text = strchr(text, ',') ? strchr(text, ',') + 1 : NULL) {
        char call[16], what[16];
        double chance;
        if (sscanf(text, "%15[^:]:%lf:%15[^,]", call, &chance, what) != 3) _exit(125);
        int which = 0;
        while (which < CALLS && strcmp(call, names[which])) which++;
        if (which == CALLS) _exit(125);
        rules[rule_count].call = which;
        rules[rule_count].chance = chance;
        rules[rule_count++].what = strcmp(what, "short") ? atoi(what) : SHORT;
    }
    if (count) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, count, O_RDWR | O_CLOEXEC, 0);
        void *mapped = fd < 0 ? MAP_FAILED : (void *)syscall(SYS_mmap, NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (mapped != MAP_FAILED) syncs = mapped;
        if (fd >= 0) syscall(SYS_close, fd);
    }
}

static double chance(void)
{
    if (seeded_for != getpid()) {
        const char *seed = getenv("STRESS_SEED");
        seeded_for = getpid();
        state = (unsigned long)seeded_for * 0x9E3779B97F4A7C15ul ^ (seed ? strtoul(seed, NULL, 10) : 0) ^ 88172645463325252ul;
    }
    unsigned long x = state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    state = x;
    return (double)(x >> 11) / 9007199254740992.0;
}

static int concerns(int fd, const char *path, const char *part)
{
    char link[40], found[1024];
    if (!path) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        long size = syscall(SYS_readlinkat, AT_FDCWD, link, found, sizeof found - 1);
        if (size <= 0) return 0;
        found[size] = 0;
        path = found;
    }
    return strstr(path, part) != NULL;
}

/* 0: go on; SHORT; or the errno to fail with */
static int meets(enum call call, int fd, const char *path)
{
    for (int i = 0; i < rule_count; i++)
        if (rules[i].call == call && chance() < rules[i].chance)
            return concerns(fd, path, path_part) ? rules[i].what : 0;
    return 0;
}

#define FAIL(call, fd, path) do { int e = meets(call, fd, path); if (e > 0) { errno = e; return -1; } } while (0)

static size_t less(size_t size) { return size > 1 ? 1 + (size_t)(chance() * (double)(size - 1)) : size; }

static ssize_t some(enum call call, long number, int fd, uintptr_t block, size_t size, long offset)
{
    int what = meets(call, fd, NULL);
    if (what > 0) { errno = what; return -1; }
    if (what == SHORT) size = less(size);
    return syscall(number, fd, block, size, offset);
}

ssize_t write(int fd, const void *b, size_t n) { return some(WRITE, SYS_write, fd, (uintptr_t)b, n, 0); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { return some(WRITE, SYS_pwrite64, fd, (uintptr_t)b, n, o); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { return some(WRITE, SYS_pwrite64, fd, (uintptr_t)b, n, o); }
ssize_t read(int fd, void *b, size_t n) { return some(READ, SYS_read, fd, (uintptr_t)b, n, 0); }
ssize_t pread(int fd, void *b, size_t n, off_t o) { return some(READ, SYS_pread64, fd, (uintptr_t)b, n, o); }
ssize_t pread64(int fd, void *b, size_t n, off64_t o) { return some(READ, SYS_pread64, fd, (uintptr_t)b, n, o); }

static int synced(long number, int fd)
{
    if (syncs && concerns(fd, NULL, "/journal/")) atomic_fetch_add(syncs, 1);
    FAIL(SYNC, fd, NULL);
    return (int)syscall(number, fd);
}
int fsync(int fd) { return synced(SYS_fsync, fd); }
int fdatasync(int fd) { return synced(SYS_fdatasync, fd); }
int msync(void *p, size_t n, int f) { FAIL(SYNC, -1, path_part); return (int)syscall(SYS_msync, p, n, f); }

int ftruncate(int fd, off_t n) { FAIL(TRUNCATE, fd, NULL); return (int)syscall(SYS_ftruncate, fd, n); }
int ftruncate64(int fd, off64_t n) { FAIL(TRUNCATE, fd, NULL); return (int)syscall(SYS_ftruncate, fd, n); }
int posix_fallocate(int fd, off_t o, off_t n)
{
    int what = meets(WRITE, fd, NULL);
    if (what > 0) return what;
    return syscall(SYS_fallocate, fd, 0, o, n) ? errno : 0;
}
int posix_fallocate64(int fd, off64_t o, off64_t n) { return posix_fallocate(fd, o, n); }

void *mmap(void *p, size_t n, int prot, int flags, int fd, off_t o)
{
    int what = fd < 0 ? 0 : meets(MAP, fd, NULL);
    if (what > 0) { errno = what; return MAP_FAILED; }
    return (void *)syscall(SYS_mmap, p, n, prot, flags, fd, o);
}
void *mmap64(void *p, size_t n, int prot, int flags, int fd, off64_t o) { return mmap(p, n, prot, flags, fd, o); }

#define MODE mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
static int opened(int at, const char *path, int flags, mode_t mode)
{
    FAIL(OPEN, -1, path);
    return (int)syscall(SYS_openat, at, path, flags, mode);
}
int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE return opened(at, path, flags, mode); }

static void jump(void)
{
    for (int i = 0; i < rule_count; i++)
        if (rules[i].call == CLOCK && chance() < rules[i].chance) clock_offset = (long)((chance() - 0.5) * 172800);
}
int clock_gettime(clockid_t which, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, which, now);
    if (!failed && which == CLOCK_REALTIME) {
        jump();
        now->tv_sec += clock_offset;
    }
    return failed;
}
time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
