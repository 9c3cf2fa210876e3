"""Records of the journal, for compiled modules."""

from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    HEADER = 40
    ALIGN = 8


cdef struct Verified:
    uint64_t position, ends, number, durable_end
    uint32_t crc, previous_crc
    const char *payload  # in the block that it was verified in
    Py_ssize_t size


cdef class Record:
    cdef readonly uint64_t position
    cdef readonly uint64_t number
    cdef readonly uint32_t crc
    cdef readonly uint64_t durable_end
    cdef readonly bytes payload
    cdef uint64_t ends(self)


cdef uint64_t size_with(uint64_t payload_size) noexcept nogil
cdef uint64_t claimed_size(const char *at) noexcept nogil
cdef bint verify(
    Verified *found, const char *block, Py_ssize_t size, Py_ssize_t offset, uint64_t position, uint64_t room,
    uint32_t salt) noexcept nogil
cdef Record record_of(uint64_t position, uint64_t number, uint32_t crc, uint64_t durable_end, bytes payload)
cdef Record record_at(const Verified *found)
cdef bytes packed(
    bytes payload, uint64_t number, uint64_t position, uint64_t durable_end, uint32_t salt, uint32_t previous_crc,
    uint32_t *crc)
