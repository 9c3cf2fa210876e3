"""The bytes of a record: packed, and parsed with nothing believed.

Everything is little-endian. docs/journal.md is the specification; a test holds the two together.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from pykesto._system cimport kesto_crc32c

cdef extern from "pykesto/numbers.h" nogil:
    uint32_t kesto_u32(const char *at)
    uint64_t kesto_u64(const char *at)
    char *kesto_add32(char *at, uint32_t value)
    char *kesto_add64(char *at, uint64_t value)

RECORD_HEADER_SIZE = HEADER  # crc, previous crc, position, number, durable end, size of the payload
ALIGNMENT = ALIGN
CHECKED_FROM = PREVIOUS_CRC  # where in a record the bytes begin that its checksum covers

cdef enum:
    CRC = 0
    PREVIOUS_CRC = 4
    POSITION = 8
    NUMBER = 16
    DURABLE_END = 24
    SIZE = 32


@cython.final
@cython.no_gc
cdef class Record:
    """One record: a whole commit. `position` to `end` are its place in the journal, in bytes."""

    def __init__(self, uint64_t position, uint64_t number, uint32_t crc, uint64_t durable_end, bytes payload not None):
        self.position = position
        self.number = number
        self.crc = crc
        self.durable_end = durable_end
        self.payload = payload

    cdef uint64_t ends(self):
        return self.position + size_with(PyBytes_GET_SIZE(self.payload))

    @property
    def end(self):
        """Where the next record begins."""
        return self.ends()

    def __eq__(self, other):
        if not isinstance(other, Record):
            return NotImplemented
        return fields(self) == fields(other)

    def __hash__(self):
        return hash(fields(self))

    def __repr__(self):
        return f"Record(position={self.position}, number={self.number}, {len(self.payload)} bytes)"


cdef tuple fields(Record record):
    return record.position, record.number, record.crc, record.durable_end, record.payload


cdef uint64_t size_with(uint64_t payload_size) noexcept nogil:
    return (HEADER + payload_size + ALIGN - 1) // ALIGN * ALIGN


def record_size(uint64_t payload_size):
    """How many bytes a record with such a payload takes, padding included."""
    return size_with(payload_size)


def pack_record(
    bytes payload not None, *, uint64_t number, uint64_t position, uint64_t durable_end, uint32_t salt,
    uint32_t previous_crc,
):
    """The record's bytes, and its checksum for the next one to chain to."""
    cdef uint32_t crc = 0
    block = packed(payload, number, position, durable_end, salt, previous_crc, &crc)
    return block, crc


cdef bytes packed(
    bytes payload, uint64_t number, uint64_t position, uint64_t durable_end, uint32_t salt, uint32_t previous_crc,
    uint32_t *crc
):
    cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
    cdef Py_ssize_t whole = <Py_ssize_t>size_with(size)
    cdef bytes block = PyBytes_FromStringAndSize(NULL, whole)
    cdef char *at = PyBytes_AS_STRING(block)
    kesto_add32(at + PREVIOUS_CRC, previous_crc)
    kesto_add64(at + POSITION, position)
    kesto_add64(at + NUMBER, number)
    kesto_add64(at + DURABLE_END, durable_end)
    kesto_add64(at + SIZE, size)
    memcpy(at + HEADER, PyBytes_AS_STRING(payload), size)
    memset(at + HEADER + size, 0, whole - HEADER - size)
    crc[0] = kesto_crc32c(salt, at + PREVIOUS_CRC, HEADER - PREVIOUS_CRC + size)
    kesto_add32(at, crc[0])
    return block


cdef uint64_t claimed_size(const char *at) noexcept nogil:
    """The size of the whole record that the header at `at` claims, unverified; 0 if it is out of all bounds."""
    cdef uint64_t size = kesto_u64(at + SIZE)
    return size_with(size) if size < (<uint64_t>1 << 62) else 0


cdef bint verify(
    Verified *found, const char *block, Py_ssize_t size, Py_ssize_t offset, uint64_t position, uint64_t room, uint32_t salt
) noexcept nogil:
    """Whether a record stands at `offset`, which is `position` of the journal; what it says, where it lies."""
    if offset < 0 or size - offset < HEADER:
        return False
    cdef const char *at = block + offset
    cdef uint64_t payload = kesto_u64(at + SIZE)
    cdef uint64_t whole = claimed_size(at)
    found.position = position
    found.ends = position + whole
    found.durable_end = kesto_u64(at + DURABLE_END)
    found.number = kesto_u64(at + NUMBER)
    found.crc = kesto_u32(at)
    found.previous_crc = kesto_u32(at + PREVIOUS_CRC)
    found.payload = at + HEADER
    found.size = <Py_ssize_t>payload
    if kesto_u64(at + POSITION) != position or whole == 0 or whole > room or found.durable_end > position:
        return False
    if payload > <uint64_t>(size - offset - HEADER):
        return False
    return kesto_crc32c(salt, at + PREVIOUS_CRC, HEADER - PREVIOUS_CRC + payload) == found.crc


cdef Record record_at(const Verified *found):
    """A copy of what was verified."""
    return record_of(
        found.position, found.number, found.crc, found.durable_end, PyBytes_FromStringAndSize(found.payload, found.size)
    )


cdef Record record_of(uint64_t position, uint64_t number, uint32_t crc, uint64_t durable_end, bytes payload):
    cdef Record record = Record.__new__(Record)
    record.position, record.number, record.crc, record.durable_end = position, number, crc, durable_end
    record.payload = payload
    return record


def parse_record(bytes block not None, Py_ssize_t offset, *, uint64_t position, uint64_t room, uint32_t salt):
    """The record at `offset` of `block`, which is `position` of the journal, and the checksum it chains to.

    None if there is no record that verifies alone, or if it ends outside `block` or after `room` bytes.
    """
    cdef Verified found
    if not verify(&found, PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block), offset, position, room, salt):
        return None
    return record_at(&found), found.previous_crc


def headers_before(bytes block not None, *, uint64_t position, uint64_t end, uint32_t crc):
    """Where in `block`, which is `position` of the journal, a header claims a record with this checksum up to `end`.

    Pairs of that place and the size of the payload. Only the headers are looked at.
    """
    cdef const char *at = PyBytes_AS_STRING(block)
    cdef Py_ssize_t last = PyBytes_GET_SIZE(block) - HEADER
    cdef Py_ssize_t here = 0
    cdef list found = []
    while here <= last:  # not for: with a named step that counts in Python's numbers
        if kesto_u32(at + here) == crc and kesto_u64(at + here + POSITION) == position + <uint64_t>here:
            if claimed_size(at + here) == end - position - <uint64_t>here:
                found.append((position + here, kesto_u64(at + here + SIZE)))
        here += ALIGN
    return found


cdef char ZEROS[4096]
memset(ZEROS, 0, sizeof(ZEROS))


def tail_of(bytes block not None, Py_ssize_t offset, *, uint64_t position, uint64_t end, uint32_t salt):
    """What lies in `block` from `offset` on, which is `position` of the journal, where no record follows the last one.

    Returns (size, durable_end): the bytes up to the last that is not zero, and the largest durable end that any record
    among them claims, wherever it stands.
    """
    cdef const char *at = PyBytes_AS_STRING(block)
    cdef Py_ssize_t last = PyBytes_GET_SIZE(block)
    cdef Py_ssize_t here
    cdef Verified found
    cdef uint64_t durable_end = 0
    while last - offset >= <Py_ssize_t>sizeof(ZEROS) and memcmp(at + last - sizeof(ZEROS), ZEROS, sizeof(ZEROS)) == 0:
        last -= sizeof(ZEROS)
    while last > offset and at[last - 1] == 0:
        last -= 1
    here = offset
    while here < last:
        if verify(
            &found, at, PyBytes_GET_SIZE(block), here, position + <uint64_t>(here - offset),
            end - position - <uint64_t>(here - offset), salt,
        ):
            durable_end = max(durable_end, found.durable_end)
        here += ALIGN
    return last - offset if last > offset else 0, durable_end
