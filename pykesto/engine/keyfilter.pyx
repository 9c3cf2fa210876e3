"""A set of keys that is asked with bytes in place: it says no, or perhaps.

Nearly all that a query meets in a base has no newer version above it, and that is told here without making an object.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.stdlib cimport calloc, free

cdef enum:
    FIRST_BITS = 1 << 12
    BITS_A_KEY = 16


@cython.final
cdef class KeyFilter:
    """Keys only come; whoever owns it makes a new one when most have gone."""

    def __cinit__(self):
        self.bits = FIRST_BITS
        self.words = <uint64_t *>calloc(self.bits // 64, 8)
        if self.words is NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self.words)

    cdef int add(self, bytes key) except -1:
        """Take in a key. Its owner calls `resize` when there are more keys than a sixteenth of the bits."""
        cdef uint64_t at = hash_of(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)) & <uint64_t>(self.bits - 1)
        self.words[at >> 6] |= <uint64_t>1 << (at & 63)
        self.added += 1
        return 0

    cdef int resize(self, Py_ssize_t keys_expected, keys) except -1:
        """Hold just these keys, with room for so many."""
        cdef Py_ssize_t bits = FIRST_BITS
        while bits < keys_expected * BITS_A_KEY:
            bits *= 2
        cdef uint64_t *words = <uint64_t *>calloc(bits // 64, 8)
        if words is NULL:
            raise MemoryError
        free(self.words)
        self.words, self.bits, self.added = words, bits, 0
        for key in keys:
            self.add(key)
        return 0

    cdef bint may_hold(self, const char *key, Py_ssize_t size) noexcept:
        """Whether the key may be here; false is certain."""
        cdef uint64_t at = hash_of(key, size) & <uint64_t>(self.bits - 1)
        return self.words[at >> 6] >> (at & 63) & 1
