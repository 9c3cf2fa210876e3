/* The system calls of Tokyo Cabinet, where its archive is linked: the linker sends them here (setup.py, --wrap).
 *
 * The library overlooks some failures: it takes the -1 of pwrite and pread for a count of bytes, since it compares
 * it with an unsigned size. Others kill it: it notes each error in the header, which it has unmapped when it
 * truncates the file and unlinks its log at the end of a close. So failures are noted here, for each thread, and
 * the library gets to see what it can handle.
 *
 * With the shared library (no PYKESTO_TC_ARCHIVE) nothing is ever noted.
 */
#ifndef PYKESTO_TC_IO_H
#define PYKESTO_TC_IO_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <tcutil.h>
#include <unistd.h>

/* The first failure since kesto_io_begin: the system's number, the library's, and the call. */
typedef struct {
    int error;
    int code;
    const char *call;
} kesto_failure;

static __thread kesto_failure kesto_io;

/* A file is being closed: between the library's munmap of it, which is followed by the ftruncate of its descriptor if
 * it was written, and the close of that descriptor. */
static __thread struct {
    enum { KESTO_USABLE, KESTO_UNMAPPED, KESTO_TRUNCATED } stage;
    int fd;
    int failed; /* then nothing more is done to the file and its log */
} kesto_closing;

/* The system's number for what failed since; without a note, what the last call left. */
static inline int kesto_io_errno(void) { return kesto_io.error ? kesto_io.error : errno; }

#ifdef PYKESTO_TC_ARCHIVE

/* The library ends the process where malloc fails. So some memory is held back for that: the call goes on with it, and is
 * told to have failed. What asks for more than that at once ends the process still, so what may is tried before. */
enum { KESTO_RESERVE_BYTES = 1 << 20, KESTO_COPIES = 6 };

static void *kesto_reserve;

void *__real_malloc(size_t size); /* by this name the compiler leaves out no attempt */

static void kesto_hold_back(void)
{
    void *none = NULL, *block = __real_malloc(KESTO_RESERVE_BYTES);
    if (!__atomic_compare_exchange_n(&kesto_reserve, &none, block, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        free(block);
}

#endif

/* Whether a row of this size can be stored: the library makes some copies of it. */
static int kesto_has_room(int64_t size)
{
#ifdef PYKESTO_TC_ARCHIVE
    void *block;
    if (size * KESTO_COPIES < KESTO_RESERVE_BYTES)
        return 1;
    block = __real_malloc((size_t)size * KESTO_COPIES);
    free(block);
    return block != NULL;
#else
    return size >= 0;
#endif
}

/* Whether a call may begin: not while there is not even the memory to hold back. */
static inline int kesto_io_ready(void)
{
#ifdef PYKESTO_TC_ARCHIVE
    if (!kesto_reserve)
        kesto_hold_back();
    return kesto_reserve != NULL;
#else
    return 1;
#endif
}

static inline void kesto_io_begin(void)
{
    errno = 0;
    kesto_io.error = 0;
    kesto_closing.stage = KESTO_USABLE;
    kesto_closing.failed = 0;
}

#ifdef PYKESTO_TC_ARCHIVE

static void kesto_note(const char *call, int code)
{
    if (!kesto_io.error) {
        kesto_io.error = errno;
        kesto_io.call = call;
        kesto_io.code = code;
    }
}

/* Note a failure; what to tell the library: it must not see one while its file is unmapped. */
static int kesto_failed(const char *call, int code)
{
    kesto_note(call, code);
    if (kesto_closing.stage == KESTO_USABLE)
        return -1;
    kesto_closing.failed = 1;
    return 0;
}

/* After a failure the library goes on: where it could not read the length that a log gives, it cuts the file to 0. */
static int kesto_stopped(void)
{
    if (!kesto_io.error)
        return 0;
    errno = kesto_io.error;
    return 1;
}

#define KESTO_ALLOCATE(name, parameters, arguments) \
    void *__real_##name parameters; \
    void *__wrap_##name parameters \
    { \
        void *block = __real_##name arguments; \
        if (!block) { \
            void *reserve = __atomic_exchange_n(&kesto_reserve, NULL, __ATOMIC_RELAXED); \
            errno = ENOMEM; \
            kesto_note("malloc", TCEMISC); \
            free(reserve); \
            if (reserve) \
                block = __real_##name arguments; \
        } \
        return block; \
    }
KESTO_ALLOCATE(malloc, (size_t size), (size))
KESTO_ALLOCATE(calloc, (size_t count, size_t size), (count, size))
KESTO_ALLOCATE(realloc, (void *old, size_t size), (old, size))

#define KESTO_RETRY(result, call) \
    do \
        result = call; \
    while (result < 0 && errno == EINTR)

/* Each of these may be called by either name: with a 64 where the library was built for large files. */

/* pwrite and pread: all of it, or 0 for an error. */
#define KESTO_PWRITE(name) \
    ssize_t __real_##name(int fd, const void *data, size_t size, int64_t at); \
    ssize_t __wrap_##name(int fd, const void *data, size_t size, int64_t at) \
    { \
        size_t done = 0; \
        while (done < size) { \
            ssize_t some; \
            KESTO_RETRY(some, __real_##name(fd, (const char *)data + done, size - done, at + (int64_t)done)); \
            if (some <= 0) { \
                if (some == 0) \
                    errno = EIO; \
                kesto_note("pwrite", TCEWRITE); \
                return 0; \
            } \
            done += (size_t)some; \
        } \
        return (ssize_t)done; \
    }
KESTO_PWRITE(pwrite)
KESTO_PWRITE(pwrite64)

#define KESTO_PREAD(name) \
    ssize_t __real_##name(int fd, void *data, size_t size, int64_t at); \
    ssize_t __wrap_##name(int fd, void *data, size_t size, int64_t at) \
    { \
        size_t done = 0; \
        while (done < size) { \
            ssize_t some; \
            KESTO_RETRY(some, __real_##name(fd, (char *)data + done, size - done, at + (int64_t)done)); \
            if (some < 0) { \
                kesto_note("pread", TCEREAD); \
                return 0; \
            } \
            if (some == 0) \
                break; \
            done += (size_t)some; \
        } \
        return (ssize_t)done; \
    }
KESTO_PREAD(pread)
KESTO_PREAD(pread64)

/* The library lengthens a file before it stores into a mapping of it. A store into a hole is SIGBUS on a full disk, so the
 * blocks are allocated here. */
static int kesto_lengthen(int fd, int64_t from, int64_t to)
{
    do
        errno = posix_fallocate(fd, from, to - from);
    while (errno == EINTR);
    return errno ? kesto_failed("posix_fallocate", TCETRUNC) : 0;
}

#define KESTO_FTRUNCATE(name) \
    int __real_##name(int fd, int64_t size); \
    int __wrap_##name(int fd, int64_t size) \
    { \
        int result; \
        struct stat status; \
        if (kesto_closing.stage == KESTO_UNMAPPED) { \
            kesto_closing.stage = KESTO_TRUNCATED; \
            kesto_closing.fd = fd; \
        } \
        if (kesto_stopped()) \
            return kesto_closing.stage == KESTO_USABLE ? -1 : 0; \
        if (kesto_closing.stage == KESTO_USABLE && fstat(fd, &status) == 0 && status.st_size < size) \
            return kesto_lengthen(fd, status.st_size, size); \
        KESTO_RETRY(result, __real_##name(fd, size)); \
        return result < 0 ? kesto_failed("ftruncate", TCETRUNC) : result; \
    }
KESTO_FTRUNCATE(ftruncate)
KESTO_FTRUNCATE(ftruncate64)

/* The library takes a log or an index that it can't open for none. */
#define KESTO_OPEN(name) \
    int __real_##name(const char *path, int flags, ...); \
    int __wrap_##name(const char *path, int flags, ...) \
    { \
        int result; \
        va_list rest; \
        va_start(rest, flags); \
        mode_t mode = flags & O_CREAT ? (mode_t)va_arg(rest, int) : 0; \
        va_end(rest); \
        KESTO_RETRY(result, __real_##name(path, flags, mode)); \
        if (result < 0 && errno != ENOENT) \
            kesto_note("open", errno == EACCES ? TCENOPERM : errno == ENOTDIR ? TCENOFILE : TCEOPEN); \
        return result; \
    }
KESTO_OPEN(open)
KESTO_OPEN(open64)

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size)
{
    size_t done = 0;
    if (kesto_stopped())
        return kesto_closing.stage == KESTO_USABLE ? -1 : (ssize_t)size;
    while (done < size) {
        ssize_t some;
        KESTO_RETRY(some, __real_write(fd, (const char *)data + done, size - done));
        if (some < 0)
            return kesto_failed("write", TCEWRITE) < 0 ? -1 : (ssize_t)size;
        done += (size_t)some;
    }
    return (ssize_t)size;
}

ssize_t __real_read(int fd, void *data, size_t size);
ssize_t __wrap_read(int fd, void *data, size_t size)
{
    ssize_t some = -1;
    if (!kesto_closing.failed) {
        KESTO_RETRY(some, __real_read(fd, data, size));
        if (some > 0 || size == 0)
            return some;
        if (some < 0 && kesto_failed("read", TCEREAD) < 0)
            return -1;
        if (some == 0) {
            if (kesto_closing.stage == KESTO_USABLE)
                return 0;
            errno = EIO; /* a log cut short */
            kesto_failed("read", TCEREAD);
        }
    }
    memset(data, 0, size);
    return (ssize_t)size;
}

int __real_fsync(int fd);
int __wrap_fsync(int fd)
{
    int result;
    KESTO_RETRY(result, __real_fsync(fd));
    return result < 0 ? kesto_failed("fsync", TCESYNC) : result;
}

int __real_msync(void *start, size_t size, int flags);
int __wrap_msync(void *start, size_t size, int flags)
{
    int result = __real_msync(start, size, flags);
    return result < 0 ? kesto_failed("msync", TCEMMAP) : result;
}

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to)
{
    int result = __real_rename(from, to);
    return result < 0 ? kesto_failed("rename", TCERENAME) : result;
}

int __real_unlink(const char *path);
int __wrap_unlink(const char *path)
{
    if (kesto_closing.failed)
        return 0; /* its log may be all there is to mend it */
    int result = __real_unlink(path);
    return result < 0 && errno != ENOENT ? kesto_failed("unlink", TCEUNLINK) : result;
}

/* The library takes an index that it can't map for none. */
#define KESTO_MMAP(name) \
    void *__real_##name(void *start, size_t size, int protection, int flags, int fd, off_t offset); \
    void *__wrap_##name(void *start, size_t size, int protection, int flags, int fd, off_t offset) \
    { \
        void *result = __real_##name(start, size, protection, flags, fd, offset); \
        if (result == MAP_FAILED) \
            kesto_note("mmap", TCEMMAP); \
        return result; \
    }
KESTO_MMAP(mmap)
KESTO_MMAP(mmap64)

int __real_munmap(void *start, size_t size);
int __wrap_munmap(void *start, size_t size)
{
    int result = __real_munmap(start, size);
    if (result == 0)
        kesto_closing.stage = KESTO_UNMAPPED;
    else
        kesto_note("munmap", TCEMMAP);
    return result;
}

int __real_close(int fd);
int __wrap_close(int fd)
{
    if (__real_close(fd) < 0 && errno != EINTR)
        kesto_note("close", TCECLOSE);
    if (kesto_closing.stage == KESTO_UNMAPPED || (kesto_closing.stage == KESTO_TRUNCATED && kesto_closing.fd == fd)) {
        kesto_closing.stage = KESTO_USABLE;
        kesto_closing.failed = 0;
    }
    return 0; /* the descriptor is gone in any case */
}

#endif
#endif
