/* Records what a process does to the files of a directory, in the order in which it is done. For LD_PRELOAD.
 *
 * RECORD_ROOT   only what is below this directory, an absolute path
 * RECORD_TO     the file that records are appended to
 * RECORD_PAGE   a file of 4096 bytes, mapped by all processes: the lock (a pid), and the number of the next record
 *
 * A call and its record are made under one lock, so the records of all threads and processes have the order of the calls.
 * A sync has two records, one before and one after: it covers what stands before the first. Files below base/ are
 * changed through mappings too, which nobody sees; their whole content is recorded when they are synced, and when one
 * that was open for writing is closed.
 *
 * A record: size of the whole (4 bytes), kind (1), then 8 bytes each of the number, the inode, and what the kind says;
 * 4 bytes each of the sizes of two paths; the paths; the content. stress/fake_disk.py reads them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FDS = 65536, PATH_SIZE = 4096 };
static char root[PATH_SIZE];
static size_t root_size;
static int log_fd = -1;
static struct { atomic_int holder; atomic_ulong number; } *page;
static unsigned char watched[FDS]; /* 1: a file of a base that is open for writing */

__attribute__((constructor)) static void begin(void)
{
    const char *below = getenv("RECORD_ROOT"), *to = getenv("RECORD_TO"), *shared = getenv("RECORD_PAGE");
    if (!below || !to || !shared) return;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, shared, O_RDWR | O_CLOEXEC, 0);
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, to, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (at == MAP_FAILED || log_fd < 0) _exit(125);
    page = at;
    syscall(SYS_close, fd);
    root_size = (size_t)snprintf(root, sizeof root, "%s/", below);
}

static int holds(const char *path) { return page && path && strncmp(path, root, root_size) == 0; }

static void lock(void)
{
    int me = getpid(), nobody = 0, saved = errno;
    while (!atomic_compare_exchange_weak(&page->holder, &nobody, me)) {
        if (nobody && kill(nobody, 0) && errno == ESRCH) atomic_compare_exchange_strong(&page->holder, &nobody, 0);
        nobody = 0;
        usleep(20);
    }
    errno = saved;
}
static void unlock(void) { atomic_store(&page->holder, 0); }

static uint64_t record(char kind, uint64_t inode, uint64_t value, const char *path, const char *other, const void *content, size_t size)
{
    int saved = errno;
    uint32_t sizes[2] = { path ? (uint32_t)(strlen(path) - root_size) : 0, other ? (uint32_t)(strlen(other) - root_size) : 0 };
    uint64_t words[3] = { atomic_fetch_add(&page->number, 1), inode, value };
    uint32_t total = (uint32_t)(4 + 1 + sizeof words + sizeof sizes + sizes[0] + sizes[1] + size);
    struct iovec parts[] = {
        { &total, 4 }, { &kind, 1 }, { words, sizeof words }, { sizes, sizeof sizes },
        { path ? (void *)(path + root_size) : NULL, sizes[0] }, { other ? (void *)(other + root_size) : NULL, sizes[1] },
        { (void *)content, size },
    };
    if (syscall(SYS_writev, log_fd, parts, 7) != (long)total) _exit(124); /* a gap would be taken for a bug */
    errno = saved;
    return words[0];
}

/* Whether a descriptor is of a file or directory of ours; its path and its inode. */
static int ours(int fd, char *path, struct stat *status)
{
    char link[40];
    int saved = errno;
    if (!page || fd < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long size = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_SIZE - 1);
    if (size > 0) path[size] = 0;
    int found = size > 0 && strncmp(path, root, root_size - 1) == 0 && (path[root_size - 1] == '/' || !path[root_size - 1]) && fstat(fd, status) == 0;
    if (found && !path[root_size - 1]) strcpy(path + root_size - 1, "/"); /* the root itself */
    errno = saved;
    return found;
}

static int through_mappings(const char *path) { return strstr(path, "/base/") && !strstr(path, "/STAMP"); }

/* A record with the whole content of a file. */
static uint64_t whole(char kind, int fd, const char *path, const struct stat *status)
{
    uint64_t number;
    int saved = errno, own = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
    struct stat found;
    void *at = MAP_FAILED;
    if (own >= 0 && fstat(own, &found) == 0 && found.st_ino == status->st_ino && found.st_size > 0)
        at = mmap(NULL, (size_t)found.st_size, PROT_READ, MAP_SHARED, own, 0);
    number = record(kind, status->st_ino, 1, NULL, NULL, at == MAP_FAILED ? NULL : at, at == MAP_FAILED ? 0 : (size_t)found.st_size);
    if (at != MAP_FAILED) munmap(at, (size_t)found.st_size);
    if (own >= 0) syscall(SYS_close, own);
    (void)fd;
    errno = saved;
    return number;
}

static ssize_t written(int fd, const void *block, size_t size, long offset, int appends)
{
    char path[PATH_SIZE];
    struct stat status;
    if (fd == log_fd || !ours(fd, path, &status))
        return appends ? syscall(SYS_write, fd, block, size) : syscall(SYS_pwrite64, fd, block, size, offset);
    lock();
    if (appends) offset = fcntl(fd, F_GETFL) & O_APPEND ? lseek(fd, 0, SEEK_END) : lseek(fd, 0, SEEK_CUR);
    ssize_t done = appends ? syscall(SYS_write, fd, block, size) : syscall(SYS_pwrite64, fd, block, size, offset);
    if (done > 0) record('W', status.st_ino, (uint64_t)offset, NULL, NULL, block, (size_t)done);
    unlock();
    return done;
}
ssize_t write(int fd, const void *b, size_t n) { return written(fd, b, n, 0, 1); }
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) { return written(fd, b, n, o, 0); }
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) { return written(fd, b, n, o, 0); }

static int resized(char kind, int fd, uint64_t size, uint64_t from)
{
    char path[PATH_SIZE];
    struct stat status;
    int known = ours(fd, path, &status);
    if (known) lock();
    long done = kind == 'T' ? syscall(SYS_ftruncate, fd, size) : syscall(SYS_fallocate, fd, 0, from, size - from);
    if (known && done == 0) record(kind, status.st_ino, size, NULL, NULL, NULL, 0);
    if (known) unlock();
    return (int)done;
}
int ftruncate(int fd, off_t n) { return resized('T', fd, (uint64_t)n, 0); }
int ftruncate64(int fd, off64_t n) { return resized('T', fd, (uint64_t)n, 0); }
int posix_fallocate(int fd, off_t o, off_t n) { return resized('A', fd, (uint64_t)(o + n), (uint64_t)o) ? errno : 0; }
int posix_fallocate64(int fd, off64_t o, off64_t n) { return posix_fallocate(fd, o, n); }

static int synced(long number, int fd)
{
    char path[PATH_SIZE];
    struct stat status;
    if (!ours(fd, path, &status)) return (int)syscall(number, fd);
    lock();
    uint64_t begun = through_mappings(path) && S_ISREG(status.st_mode) ? whole('B', fd, path, &status) : record('B', status.st_ino, 0, NULL, NULL, NULL, 0);
    unlock();
    int done = (int)syscall(number, fd);
    lock();
    if (done == 0) record('E', status.st_ino, begun, NULL, NULL, NULL, 0);
    unlock();
    return done;
}
int fsync(int fd) { return synced(SYS_fsync, fd); }
int fdatasync(int fd) { return synced(SYS_fdatasync, fd); }

int close(int fd)
{
    char path[PATH_SIZE];
    struct stat status;
    if (fd >= 0 && fd < FDS && watched[fd]) {
        watched[fd] = 0;
        if (ours(fd, path, &status)) {
            lock();
            whole('C', fd, path, &status);
            unlock();
        }
    }
    return (int)syscall(SYS_close, fd);
}

#define MODE mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
static int opened(int at, const char *path, int flags, mode_t mode)
{
    struct stat status;
    int writes = holds(path) && (flags & (O_ACCMODE | O_CREAT | O_TRUNC));
    if (!writes) return (int)syscall(SYS_openat, at, path, flags, mode);
    lock();
    int saved = errno, existed = lstat(path, &status) == 0;
    errno = saved;
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    if (fd >= 0 && fstat(fd, &status) == 0) {
        if (fd < FDS) watched[fd] = (unsigned char)through_mappings(path);
        if (!existed || through_mappings(path)) record('O', status.st_ino, !existed, path, NULL, NULL, 0);
        if (flags & O_TRUNC) record('T', status.st_ino, 0, NULL, NULL, NULL, 0);
    }
    unlock();
    return fd;
}
int open(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return opened(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE return opened(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE return opened(at, path, flags, mode); }

int rename(const char *from, const char *to)
{
    int known = holds(from) && holds(to);
    if (known) lock();
    int done = (int)syscall(SYS_rename, from, to);
    if (known && done == 0) record('R', 0, 0, from, to, NULL, 0);
    if (known) unlock();
    return done;
}

static int removed(char kind, const char *path)
{
    int known = holds(path);
    if (known) lock();
    int done = (int)syscall(kind == 'U' ? SYS_unlink : SYS_rmdir, path);
    if (known && done == 0) record(kind, 0, 0, path, NULL, NULL, 0);
    if (known) unlock();
    return done;
}
int unlink(const char *path) { return removed('U', path); }
int rmdir(const char *path) { return removed('D', path); }

int mkdir(const char *path, mode_t mode)
{
    struct stat status;
    int known = holds(path);
    if (known) lock();
    int done = (int)syscall(SYS_mkdir, path, mode);
    if (known && done == 0 && lstat(path, &status) == 0) record('M', status.st_ino, 0, path, NULL, NULL, 0);
    if (known) unlock();
    return done;
}
