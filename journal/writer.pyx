"""Append records at the journal's published end. The caller holds commit.lock.

A record is visible to others only after `append` returns, and durable only after `GroupSync.make_durable`.
A record that was written but not published, because its writer died, is overwritten by the next one.
"""

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

from pykesto.journal.reader cimport Reader
from pykesto.journal.records cimport HEADER, Record, packed, record_of, size_with
from pykesto.journal.state cimport JournalState, next_number

from pykesto import failpoints as _failpoints
from pykesto.errors import CommitUnknown, StorageError
from pykesto.files import sync_directory
from pykesto.journal.format import SegmentHeader
from pykesto.failpoints import hit, off
from pykesto.journal import segments as _segments
from pykesto.journal.segments import SegmentGone

cdef bint ACTIVE = _failpoints.ACTIVE


@cython.final
cdef class Writer:
    """Appends to the journal of one process."""
    def __init__(self, segments, JournalState state not None, sync):
        self.segments = segments
        self.state = state
        self.sync = sync

    cpdef Record append(self, Reader reader, bytes payload, list written=None):
        """Append one record after `reader`, which stands at the published end, and publish it.

        It is put into `written` before it is published: whatever exception comes, the caller knows that it may be
        there.

        Raises:
            StorageError: nothing was written (no space for a new segment, a failed write that could be undone).
            CommitUnknown: it can't be known whether recovery will find the record.
        """
        cdef JournalState state = self.state
        self.prepare(reader, size_with(PyBytes_GET_SIZE(payload)))
        cdef uint64_t number = next_number(reader.number, state.current_generation())
        cdef uint64_t durable_end = 0 if ACTIVE and off("record.claims") else state.known_durable_end()
        cdef uint32_t crc = 0
        cdef bytes block = packed(
            payload, number, reader.position, durable_end, reader.segment.salt, reader.crc, &crc
        )
        cdef Record record = record_of(reader.position, number, crc, durable_end, payload)
        if ACTIVE:
            hit("journal.append")
        try:
            reader.segment.put(reader.position, block)
        except StorageError as error:
            self.withdraw(reader, error)
            raise
        except BaseException as error:  # an interrupt, after bytes may have gone out
            raise CommitUnknown("interrupted while the commit was being written") from error
        if written is not None:
            written.append(record)
        if ACTIVE:
            hit("journal.written")
        state.publish(record.ends())
        state.count_commit()
        if ACTIVE:
            hit("journal.published")
        reader.go_past(record)
        return record

    cdef int prepare(self, Reader reader, uint64_t size) except -1:
        """See that the newest segment has room for `size` bytes and does not say that it is closed."""
        cdef JournalState state = self.state
        if state.is_rolling():
            self.adopt(reader)
        while reader.segment.number < state.newest_segment():
            reader.enter(reader.segment.number + 1)  # rolled by one that appended nothing
        if state.is_clean():
            # Synced before the first append: else a power cut that takes this append leaves a mark that vouches
            # for its absence, and its number would be given again.
            if not (ACTIVE and off("mark.withdrawn")):
                reader.segment.write_mark(reader.position, clean=False)
            self.state.taken_back()
        if reader.position + size > reader.segment.end:
            self.roll(reader, size)
        return 0

    cdef int roll(self, Reader reader, uint64_t size) except -1:
        """Go on in a new segment. Its existence vouches for its predecessor, which is synced first."""
        if not (ACTIVE and off("roll.sync")):
            self.sync.sync_alone(self.state.end)
        number = reader.segment.number + 1
        capacity = max(size, min(_segments.LARGEST_CAPACITY, reader.segment.header.capacity * 2))
        generation, start, crc = self.state.generation, reader.position, reader.crc
        self.state.roll_begins()
        try:
            self.segments.create(SegmentHeader(number, generation, self.segments.random(), start, capacity, crc))
        except StorageError as error:
            if self.segments.path(number).exists():  # renamed, but its directory could not be synced
                self.state.poison(error.errno or 0)
            raise
        if ACTIVE:
            hit("journal.roll")
        self.enter(reader, number)
        return 0

    cdef int enter(self, Reader reader, number) except -1:
        self.state.publish_segment(number)
        self.state.roll_ends()
        reader.enter(number)
        return 0

    cdef int adopt(self, Reader reader) except -1:
        """A segment whose maker died before publishing it: nothing was appended since, so it still fits."""
        number = self.state.segment + 1
        try:
            self.segments.get(number)
        except SegmentGone:
            self.state.roll_ends()
            return 0
        try:
            sync_directory(self.segments.directory)
        except StorageError as error:
            self.state.poison(error.errno or 0)
            raise
        self.enter(reader, number)
        return 0

    cdef int withdraw(self, Reader reader, error) except -1:
        """A write failed half-way: make sure that recovery will not find a whole record there."""
        try:
            reader.segment.put(reader.position, bytes(HEADER))
        except StorageError:
            self.state.poison(error.errno or 0)
            raise CommitUnknown(f"the commit could be neither written nor withdrawn: {error}") from error
        return 0
