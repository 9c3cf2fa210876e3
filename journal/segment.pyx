"""One open segment: bytes in, bytes out, synced.

A commit writes under commit.lock, so a small write keeps the GIL: another thread that took it would keep every
process waiting for as long as Python lets it run.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint64_t

import os

from pykesto.errors import StorageError
from pykesto.files import read_at, translated, write_at
from pykesto.journal import format as _format
from pykesto.journal.format import Mark, mark_offset, pack_mark, parse_mark

cdef extern from "<unistd.h>" nogil:
    ssize_t pread(int fd, void *to, size_t size, long offset)
    ssize_t pwrite(int fd, const void *content, size_t size, long offset)
    int fdatasync(int fd)
    int close(int fd)

cdef uint64_t HEADER_BYTES = _format.HEADER_SIZE
cdef size_t SMALL = 1 << 16
cdef size_t AT_ONCE = 1 << 30  # Linux moves no more than twice that, less a page, in one call


cdef object failed(str what, object path):
    """The exception for the errno of the call that failed."""
    cdef int error = errno
    return StorageError(f"can't {what} {path}: {os.strerror(error)}", errno=error, path=str(path))


@cython.final
cdef class Segment:
    """One open segment. The last reference to it closes it: a thread may still sync one that another has let go."""

    def __cinit__(self):
        self.fd = -1

    def __init__(self, path, int fd, header):
        self.path = path
        self.fd = fd
        self.header = header
        self.number = header.number
        self.start = header.start
        self.salt = header.salt
        self.end = header.start + header.capacity

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)

    def offset(self, uint64_t position):
        """Where in the file a position of the journal is."""
        return HEADER_BYTES + position - self.start

    cdef bytes get(self, uint64_t position, uint64_t size):
        cdef bytes block = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>size)
        cdef char *at = PyBytes_AS_STRING(block)
        cdef long offset = <long>(HEADER_BYTES + position - self.start)
        cdef size_t done = 0
        cdef ssize_t got = 0
        while done < size:
            if size - done <= SMALL:
                got = pread(self.fd, at + done, size - done, offset + done)
            else:
                with nogil:
                    got = pread(self.fd, at + done, min(size - done, AT_ONCE), offset + done)
            if got < 0 and errno != EINTR:
                raise failed("read", self.path)
            if got == 0:
                break
            if got > 0:
                done += got
        return block if done == size else block[:done]

    cdef int put(self, uint64_t position, bytes content) except -1:
        cdef const char *at = PyBytes_AS_STRING(content)
        cdef size_t size = PyBytes_GET_SIZE(content)
        cdef long offset = <long>(HEADER_BYTES + position - self.start)
        cdef size_t done = 0
        cdef ssize_t got = 0
        while done < size:
            if size - done <= SMALL:
                got = pwrite(self.fd, at + done, size - done, offset + done)
            else:
                with nogil:
                    got = pwrite(self.fd, at + done, min(size - done, AT_ONCE), offset + done)
            if got < 0 and errno != EINTR:
                raise failed("write", self.path)
            if got > 0:
                done += got
        return 0

    def read(self, uint64_t position, uint64_t size):
        """`size` bytes from a position of the journal on, or fewer where the file ends."""
        return self.get(position, size)

    def write(self, uint64_t position, bytes content not None):
        """Write all of `content` at a position of the journal."""
        self.put(position, content)

    def sync(self):
        """fdatasync. A failure is final: the kernel forgets it, and the next call would say success."""
        cdef int result
        while True:
            with nogil:
                result = fdatasync(self.fd)
            if result == 0:
                return
            if errno != EINTR:
                raise failed("sync", self.path)

    def mark(self):
        """The newest valid mark, or None."""
        with translated("read", self.path):
            return parse_mark(read_at(self.fd, _format.HEADER_SIZE, 0), self.salt)

    def write_mark(self, uint64_t durable_end, *, bint clean):
        """Write and sync a mark beside the last one."""
        last = self.mark()
        mark = Mark(last.sequence + 1 if last else 1, durable_end, clean)
        try:
            write_at(self.fd, pack_mark(mark, self.salt), mark_offset(mark.sequence))
        except OSError as error:
            raise StorageError(
                f"can't write {self.path}: {error.strerror}", errno=error.errno, path=str(self.path)
            ) from error
        self.sync()
