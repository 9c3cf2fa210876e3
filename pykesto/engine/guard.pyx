"""A row as a base stores it: behind its commit's number and a checksum, which every read verifies.

It is a Tokyo Cabinet row whose first column, named by the byte FF (no column of a user's is: FF is in no UTF-8), holds
the number, big-endian, and a CRC-32C over number, key and columns.

A key has a tail there: a NUL, so that keys keep their order, and four bytes that spread it. The library's hash multiplies
by 37 and adds a byte, so that a few bytes which differ, as in keys that are numbers, have it lead to few places: of a
million such keys thirty would share one, and a row be found by reading the heads of five others. The tail is a number below
256 * 37**3 made of the key's CRC-32C, in digits of 37 but the first: it reaches each value of the hash as often.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from pykesto._stored cimport Row, stored
from pykesto._system cimport kesto_crc32c
from pykesto.codec._codec cimport row_of

from pykesto import failpoints as _failpoints
from pykesto.errors import CorruptionError
from pykesto.failpoints import off

cdef bint ACTIVE = _failpoints.ACTIVE

cdef extern from *:
    """
    #include <endian.h>
    #include <stdint.h>
    #include <string.h>
    static uint32_t kesto_big32(const char *p) { uint32_t v; memcpy(&v, p, 4); return be32toh(v); }
    static uint64_t kesto_big64(const char *p) { uint64_t v; memcpy(&v, p, 8); return be64toh(v); }
    static void kesto_put_big32(char *p, uint32_t v) { v = htobe32(v); memcpy(p, &v, 4); }
    static void kesto_put_big64(char *p, uint64_t v) { v = htobe64(v); memcpy(p, &v, 8); }
    """
    uint32_t kesto_big32(const char *at) nogil
    uint64_t kesto_big64(const char *at) nogil
    void kesto_put_big32(char *at, uint32_t value) nogil
    void kesto_put_big64(char *at, uint64_t value) nogil

cdef enum:
    PREFIX = 3
    RADIX = 37  # of Tokyo Cabinet's hash
    SPREAD = 256 * 37 * 37 * 37

TAIL_BYTES = TAIL

cdef const char *FIRST = b"\x01\xff\x0c"  # as Tokyo Cabinet writes it: size of the name, name, size of the value


cdef char *put_key(char *at, const char *key, Py_ssize_t size) noexcept nogil:
    """Write a key as a base stores it, TAIL bytes more; where it ends."""
    cdef uint32_t spread = <uint32_t>(<uint64_t>kesto_crc32c(0, key, size) * SPREAD >> 32)
    memcpy(at, key, size)
    at += size
    at[0] = 0
    at[4] = <char>(spread % RADIX)
    spread //= RADIX
    at[3] = <char>(spread % RADIX)
    spread //= RADIX
    at[2] = <char>(spread % RADIX)
    at[1] = <char>(spread // RADIX)
    return at + TAIL


cpdef bytes stored_key(bytes key):
    """The key as a base stores it.

    >>> stored_key(b"ann").hex(" ")
    '61 6e 6e 00 5a 24 19 0b'
    """
    cdef bytes made = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(key) + TAIL)
    put_key(PyBytes_AS_STRING(made), PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
    return made


def own_key(bytes stored not None):
    """The key that a base stores so."""
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(stored), max(0, PyBytes_GET_SIZE(stored) - TAIL))


# Keys are those that are stored from here on.


cdef uint32_t checksum(
    const char *number, const char *key, Py_ssize_t key_size, const char *image, Py_ssize_t size
) noexcept nogil:
    cdef uint32_t crc = kesto_crc32c(0, number, 8)
    crc = kesto_crc32c(crc, key, key_size)
    return kesto_crc32c(crc, image, size)


cdef char *put_row(
    char *at, uint64_t version, const char *key, Py_ssize_t key_size, const char *image, Py_ssize_t size
) noexcept nogil:
    """Write the row as Tokyo Cabinet stores it, HEAD bytes more than its image; where it ends."""
    memcpy(at, FIRST, PREFIX)
    kesto_put_big64(at + PREFIX, version)
    memcpy(at + HEAD, image, size)
    kesto_put_big32(at + PREFIX + 8, checksum(at + PREFIX, key, key_size, at + HEAD, size))
    return at + HEAD + size


def pack_row(bytes key not None, Row row not None):
    """The row as Tokyo Cabinet stores it."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(row.image)
    cdef bytes raw = PyBytes_FromStringAndSize(NULL, HEAD + size)
    put_row(
        PyBytes_AS_STRING(raw), row.version, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key),
        PyBytes_AS_STRING(row.image), size,
    )
    return raw


cpdef Row unpack_row(bytes key, bytes raw, table):
    """The row behind a verified checksum. `table` is where it was read, for the error."""
    return take_row(
        PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), PyBytes_AS_STRING(raw), PyBytes_GET_SIZE(raw), table
    )


cdef object take_columns(const char *key, Py_ssize_t key_size, const char *at, Py_ssize_t size, object table):
    """The columns of the row behind a verified checksum, as a dict of plain values."""
    require_sound(key, key_size, at, size, table)
    return row_of(at + HEAD, size - HEAD, None)


cdef int require_sound(
    const char *key, Py_ssize_t key_size, const char *at, Py_ssize_t size, object table
) except -1:
    size -= HEAD
    if size >= 0 and memcmp(at, FIRST, PREFIX) == 0:
        if kesto_big32(at + PREFIX + 8) == checksum(
            at + PREFIX, key, key_size, at + HEAD, size
        ) or (
            ACTIVE and off("row.checksum")
        ):
            return 0
    raise CorruptionError(
        f"the row with key {PyBytes_FromStringAndSize(key, max(0, key_size - TAIL))!r} does not match its checksum", path=None if table is None else table.path
    )


cdef object take_row(const char *key, Py_ssize_t key_size, const char *at, Py_ssize_t size, object table):
    """The row behind a verified checksum, copied from where it lies."""
    require_sound(key, key_size, at, size, table)
    return stored(kesto_big64(at + PREFIX), PyBytes_FromStringAndSize(at + HEAD, size - HEAD))
