"""What Python has no call for: words of a shared page with their memory order, futexes, CRC-32C.

`pykesto.files` is the face. Nothing here knows what the words mean.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t, uint64_t

import os

from pykesto.errors import ClosedError

cdef extern from "pykesto/crc32c.h":
    uint32_t kesto_crc_software(uint32_t crc, const unsigned char *data, size_t size) nogil

cdef extern from *:
    """
    #ifdef __linux__
    #include <sys/vfs.h>
    static long kesto_file_system(const char *path)
    {
        struct statfs found;
        return statfs(path, &found) == 0 ? (long)(unsigned int)found.f_type : -1;
    }
    #include <fcntl.h>
    #include <errno.h>
    static int kesto_write_back(int fd, int64_t at, int64_t size)
    {
        int result = sync_file_range(fd, at, size,
                                     SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
        return result != 0 && errno != ENOSYS && errno != EPERM ? -1 : 0;  /* a sandbox may not have the call */
    }
    #else
    static int kesto_write_back(int fd, int64_t at, int64_t size) { (void)fd; (void)at; (void)size; return 0; }
    static long kesto_file_system(const char *path) { return 0; }
    #endif
    """
    long kesto_file_system(const char *path) nogil
    int kesto_write_back(int fd, int64_t at, int64_t size) nogil

from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

cdef enum:
    PIECE = 1 << 18  # bytes that are written back at once
    QUICK_US = 50  # a piece of which nothing was to be written
    PAUSE_US = 200  # after one of which something was, and as long as that took
    LONGEST_PAUSE_US = 20000

cdef extern from "<unistd.h>" nogil:
    int usleep(unsigned int us)
    int getpid()

cdef extern from "<pthread.h>" nogil:
    int pthread_atfork(void (*prepare)() noexcept nogil, void (*parent)() noexcept nogil, void (*child)() noexcept nogil)

cdef extern from "<sys/mman.h>":
    void *mmap(void *at, size_t size, int prot, int flags, int fd, long offset) nogil
    int munmap(void *at, size_t size) nogil
    int PROT_READ, PROT_WRITE, MAP_SHARED
    void *MAP_FAILED

def write_back(int fd, int64_t size, int64_t start=0, *, bint gently=True):
    """Have the kernel write a file's pages a little at a time, so that the sync after it holds nobody up for long.

    If it is done `gently`, most of the time the disk is left to others, who wait for their commits.

    Those from `start` to `size`, in bytes.

    It is no sync: it says nothing of metadata or the disk's cache. But a failure raises OSError: the kernel reports it
    once for each open file, so that the sync after it would say that all is well.
    """
    cdef int64_t at = start
    cdef int result = 0
    cdef int64_t took_us
    cdef int64_t piece = PIECE if gently else 4 * PIECE
    with nogil:
        while at < size:
            took_us = now_us()
            result = kesto_write_back(fd, at, piece)
            if result != 0:
                break
            took_us = now_us() - took_us
            if gently and took_us > QUICK_US:
                usleep(<unsigned int>min(PAUSE_US + took_us, LONGEST_PAUSE_US))
            at += piece
    if result != 0:
        raise OSError(errno, os.strerror(errno), "sync_file_range")


cdef int64_t now_us() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * 1000000 + now.tv_nsec // 1000


def file_system_of(path):
    """The number by which the kernel names the kind of file system that `path` is on; 0 where it has none."""
    cdef bytes name = os.fsencode(path)
    cdef const char *at = PyBytes_AS_STRING(name)
    cdef long kind
    with nogil:
        kind = kesto_file_system(at)
    if kind < 0:
        raise OSError(errno, os.strerror(errno), path)
    return kind


cdef int own_pid = getpid()


cdef void note_child() noexcept nogil:
    global own_pid
    own_pid = getpid()


pthread_atfork(NULL, NULL, note_child)


cdef int current_pid() noexcept nogil:
    """This process's pid, without a system call: each fork notes it."""
    return own_pid


def pid():
    """This process's pid, without a system call: each fork notes it."""
    return own_pid


def crc32c(bytes data, unsigned int seed=0):
    """The CRC-32C of `data`, continuing from `seed` (the sum of what came before)."""
    return kesto_crc32c(seed, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


def crc32c_software(bytes data, unsigned int seed=0):
    """The same sum by table, whatever the CPU offers: for checking one against the other."""
    return <uint32_t>~kesto_crc_software(~seed, <const unsigned char *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


@cython.final
cdef class SharedWords:
    """The 64-bit words of a file, mapped and shared with every process that maps it.

    Loads acquire and stores release; the read-modify-write calls are sequentially consistent.
    The file must not shrink while it is mapped.
    """
    def __cinit__(self, int fd, Py_ssize_t count):
        if count <= 0 or os.fstat(fd).st_size < count * 8:
            raise ValueError(f"a file of {os.fstat(fd).st_size} bytes does not hold {count} words")
        cdef void *at = mmap(NULL, count * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
        if at == MAP_FAILED:
            raise OSError(errno, os.strerror(errno), "mmap of shared words")
        self.words = <uint64_t *>at
        self.count = count

    def __dealloc__(self):
        self.unmap()

    cdef void unmap(self) noexcept:
        if self.words != NULL:
            munmap(self.words, self.count * 8)
            self.words = NULL

    cdef uint64_t *at(self, Py_ssize_t i) except NULL:
        if self.words == NULL:
            raise ClosedError("the database was closed in this process meanwhile", hint="open it again")
        if not 0 <= i < self.count:
            raise IndexError(f"word {i} of {self.count}")
        return self.words + i

    def close(self):
        """Unmap. Other processes' mappings stay."""
        self.unmap()

    def load(self, Py_ssize_t i):
        return kesto_load(self.at(i))

    def store(self, Py_ssize_t i, uint64_t value):
        kesto_store(self.at(i), value)

    def add(self, Py_ssize_t i, int64_t change):
        """Add, and return the new value (modulo 2**64)."""
        return kesto_add(self.at(i), <uint64_t>change)

    def lower(self, Py_ssize_t i, uint64_t change):
        """Subtract, but never below zero; return the new value."""
        cdef uint64_t *word = self.at(i)
        cdef uint64_t was, now
        while True:
            was = kesto_load(word)
            now = was - change if was > change else 0
            if kesto_swap(word, was, now):
                return now

    def swap(self, Py_ssize_t i, uint64_t was, uint64_t value):
        """Store `value` if the word still is `was`; return whether it did."""
        return bool(kesto_swap(self.at(i), was, value))

    def raise_to(self, Py_ssize_t i, uint64_t value):
        """Store the larger of the word and `value`."""
        cdef uint64_t *word = self.at(i)
        cdef uint64_t was = kesto_load(word)
        while was < value and not kesto_swap(word, was, value):
            was = kesto_load(word)

    def fence(self):
        """A full fence: what was stored before is seen by all before what is loaded after."""
        kesto_fence()

    def wait(self, Py_ssize_t i, uint64_t expected, double seconds):
        """Sleep while the low half of word `i` is that of `expected`, at most `seconds`; may wake early."""
        cdef uint64_t *word = self.at(i)
        cdef int64_t ns = <int64_t>(max(0.0, min(seconds, 3600.0)) * 1e9)
        with nogil:
            kesto_wait(word, <uint32_t>expected, ns)

    def wake(self, Py_ssize_t i):
        """Wake all that wait on word `i`, in every process."""
        kesto_wake(self.at(i))
