"""A filter of keys, for compiled modules."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy


cdef inline uint64_t rest_of(const char *key, Py_ssize_t size) noexcept nogil:
    """Fewer than eight bytes, without a call."""
    cdef uint32_t low, high
    if size >= 4:
        memcpy(&low, key, 4)
        memcpy(&high, key + size - 4, 4)
        return low | <uint64_t>high << 32
    return <unsigned char>key[0] | <uint64_t><unsigned char>key[size >> 1] << 8 | <uint64_t><unsigned char>key[size - 1] << 16


cdef inline uint64_t hash_of(const char *key, Py_ssize_t size) noexcept nogil:
    cdef uint64_t mix = 0x9E3779B97F4A7C15, spread = 0xD6E8FEB86659FD93  # odd, with bits all over
    cdef uint64_t found = <uint64_t>size * mix
    cdef uint64_t part
    while size >= 8:
        memcpy(&part, key, 8)
        found = (found ^ part) * spread
        found ^= found >> 32
        key += 8
        size -= 8
    if size:
        part = rest_of(key, size)
        found = (found ^ part) * spread
    found ^= found >> 32
    return found * mix >> 17


cdef class KeyFilter:
    cdef uint64_t *words
    cdef Py_ssize_t bits
    cdef readonly Py_ssize_t added
    cdef int add(self, bytes key) except -1
    cdef int resize(self, Py_ssize_t bits, keys) except -1
    cdef bint may_hold(self, const char *key, Py_ssize_t size) noexcept
