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
#include <glob.h>
#include <regex.h>
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

/* Descriptors that were opened since a call began, as far as they fit, and are open still. */
typedef struct {
    int count;
    int numbers[64];
} kesto_descriptors;

static __thread kesto_descriptors kesto_opened;

static inline void kesto_io_begin(void)
{
    errno = 0;
    kesto_io.error = 0;
    kesto_closing.stage = KESTO_USABLE;
    kesto_closing.failed = 0;
}

static void kesto_note(const char *call, int code)
{
    if (!kesto_io.error) {
        kesto_io.error = errno;
        kesto_io.call = call;
        kesto_io.code = code;
    }
}

#ifdef PYKESTO_TC_ARCHIVE

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

static void kesto_note_opened(int fd)
{
    if (fd >= 0 && kesto_opened.count < (int)(sizeof kesto_opened.numbers / sizeof *kesto_opened.numbers))
        kesto_opened.numbers[kesto_opened.count++] = fd;
}

static void kesto_note_closed(int fd)
{
    for (int i = kesto_opened.count - 1; i >= 0; i--)
        if (kesto_opened.numbers[i] == fd) {
            kesto_opened.numbers[i] = kesto_opened.numbers[--kesto_opened.count];
            return;
        }
}

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
        kesto_note_opened(result); \
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

/* A file that grows has room ahead, of which each page is faulted in for itself: not sixteen and more around it, which
 * nothing is in yet. What it holds already is read ahead as ever. */
static void kesto_advise(void *start, size_t size, int fd, off_t offset)
{
    struct stat status;
    const int error = errno;
    const off_t page = sysconf(_SC_PAGESIZE);
    if (fd >= 0 && fstat(fd, &status) == 0) {
        off_t held = (status.st_size - offset + page - 1) / page * page;
        held = held < 0 ? 0 : held;
        if ((size_t)held < size)
            (void)madvise((char *)start + held, size - (size_t)held, MADV_RANDOM);
    }
    errno = error;
}

/* The library takes an index that it can't map for none. */
#define KESTO_MMAP(name) \
    void *__real_##name(void *start, size_t size, int protection, int flags, int fd, off_t offset); \
    void *__wrap_##name(void *start, size_t size, int protection, int flags, int fd, off_t offset) \
    { \
        void *result = __real_##name(start, size, protection, flags, fd, offset); \
        if (result == MAP_FAILED) \
            kesto_note("mmap", TCEMMAP); \
        else if (protection & PROT_WRITE) \
            kesto_advise(result, size, fd, offset); \
        return result; \
    }
KESTO_MMAP(mmap)
KESTO_MMAP(mmap64)

/* Calls that allocate by themselves: the library takes what they can't do for a text that does not match, a directory
 * that holds nothing. */
#define KESTO_ALLOCATING(name, failure, parameters, arguments) \
    int __real_##name parameters; \
    int __wrap_##name parameters \
    { \
        int result = __real_##name arguments; \
        if (result == failure) { \
            errno = ENOMEM; \
            kesto_note("malloc", TCEMISC); \
        } \
        return result; \
    }
KESTO_ALLOCATING(regcomp, REG_ESPACE, (regex_t * regex, const char *text, int flags), (regex, text, flags))
KESTO_ALLOCATING(regexec, REG_ESPACE,
                 (const regex_t *regex, const char *text, size_t count, regmatch_t *matches, int flags),
                 (regex, text, count, matches, flags))
KESTO_ALLOCATING(glob, GLOB_NOSPACE, (const char *pattern, int flags, int (*failed)(const char *, int), glob_t *found),
                 (pattern, flags, failed, found))
#ifdef __GLIBC__
KESTO_ALLOCATING(glob64, GLOB_NOSPACE,
                 (const char *pattern, int flags, int (*failed)(const char *, int), glob64_t *found),
                 (pattern, flags, failed, found))
#endif

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
    kesto_note_closed(fd);
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
