"""Follow the journal: from a known place to its published end.

What lies before the published end was written whole, so a record there that does not verify is damage, never a
torn tail. Nothing beyond a segment's true end, which its successor's header holds, is ever read.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

from pykesto.journal.records cimport HEADER, Record, Verified, claimed_size, record_at, verify
from pykesto.journal.segment cimport Segment
from pykesto.journal.state cimport JournalState

from pykesto.errors import CorruptionError
from pykesto.journal.segments import SegmentGone

cdef enum:
    CHUNK = 1 << 18  # stays in the cache of a processor


cdef class Follower:
    """Takes in record after record as a reader follows the journal."""

    cdef int take(self, uint64_t number, const char *payload, Py_ssize_t size) except -1:
        """Take in the payload of the next record; it stays where it is during this call only."""
        raise NotImplementedError

    cdef int keep(self, bytes block) except -1:
        """Hold on to the bytes that the payloads that `take_kept` gets next lie in."""
        raise NotImplementedError

    cdef bint take_kept(self, uint64_t number, const char *payload, Py_ssize_t size) noexcept nogil:
        """As `take`, without the interpreter; false if it is needed: then `take` gets the payload."""
        return False


@cython.final
cdef class Reader:
    """A place in the journal: the segment, the position, and the checksum and number of the record before it."""

    def __init__(self, segments, Segment segment not None, *, uint64_t position, uint32_t crc, uint64_t number):
        self.segments = segments
        self.segment = segment
        self.position = position
        self.crc = crc
        self.number = number

    @classmethod
    def at(cls, segments, *, uint64_t position, uint32_t crc, uint64_t number, uint64_t newest):
        """A reader at `position`, which lies in segment `newest` or before; SegmentGone if it is no longer kept."""
        wanted = [n for n in segments.numbers() if n <= newest]
        while wanted:
            segment = segments.get(wanted.pop())
            if segment.start <= position:
                return cls(segments, segment, position=position, crc=crc, number=number)
        raise SegmentGone(f"the journal no longer reaches back to {position}")

    def read_to(self, JournalState state not None, *, until=None):
        """The records from here to the published end, or to `until`, where one ends; the reader moves on with each."""
        cdef uint64_t end = state.published_end()
        if until is not None:
            end = min(end, <uint64_t>until)
        cdef uint64_t newest = state.segment  # after `end`: a roll stores the segment first
        cdef uint64_t limit = 0
        cdef Py_ssize_t offset
        cdef Verified found
        cdef bytes block
        while self.position < end:
            block, offset = self.block(newest, end, &limit), 0
            while self.next_of(&found, block, &offset, limit):
                yield record_at(&found)

    cdef int follow(self, JournalState state, Follower follower) except -1:
        """Hand over the payloads from here to the published end, where they lie; the reader moves on with each."""
        cdef uint64_t end = state.published_end()
        cdef uint64_t newest = state.newest_segment()
        cdef uint64_t limit = 0
        cdef Py_ssize_t offset
        cdef Verified found
        cdef bytes block
        try:
            while self.position < end:
                block, offset = self.block(newest, end, &limit), 0
                follower.segment = self.segment
                while self.next_of(&found, block, &offset, limit):
                    follower.position = found.position
                    follower.take(found.number, found.payload, found.size)
        finally:
            follower.segment = None
        return 0

    def gather(self, JournalState state not None, Follower follower not None, *, uint64_t until, uint64_t enough):
        """As `follow`, to `until`, where a record ends, or to the first end of one that is not before `enough`.

        The follower keeps what it is given, a block at a time. Mostly without the interpreter, which others may have.
        """
        cdef uint64_t end = min(state.published_end(), until)
        cdef uint64_t newest = state.newest_segment()
        cdef uint64_t limit = 0
        cdef Py_ssize_t offset, size
        cdef Verified found
        cdef Step step = DONE
        cdef bint taken = True
        cdef bytes block
        cdef const char *at
        cdef uint32_t salt
        while self.position < end and self.position < enough:
            block, offset, step = self.block(newest, end, &limit), 0, DONE
            follower.keep(block)
            at, size, salt = PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block), self.segment.salt
            while step == DONE and self.position < enough:
                with nogil:
                    taken = True
                    while taken and self.position < enough:
                        step = self.step(&found, at, size, &offset, limit, salt)
                        if step != DONE:
                            break
                        taken = follower.take_kept(found.number, found.payload, found.size)
                if not taken:
                    follower.take(found.number, found.payload, found.size)
            self.refuse(step)

    cdef bytes block(self, uint64_t newest, uint64_t end, uint64_t *limit):
        """The bytes from here on, with one whole record at least, and where the records of their segment end."""
        limit[0] = self.limit(newest, end)
        while self.position >= limit[0]:  # a segment may have no record
            self.enter(self.segment.number + 1)
            limit[0] = self.limit(newest, end)
        cdef uint64_t asked = min(<uint64_t>CHUNK, limit[0] - self.position)
        cdef bytes block = self.segment.get(self.position, asked)
        if PyBytes_GET_SIZE(block) < HEADER:
            raise self.damage("the file ends inside a record")
        cdef uint64_t size = claimed_size(PyBytes_AS_STRING(block))
        if size == 0 or size > limit[0] - self.position:
            raise self.damage("a record ends beyond the journal's end")
        if size > asked:
            block = self.segment.get(self.position, size)
        if <uint64_t>PyBytes_GET_SIZE(block) < size:
            raise self.damage("the file ends inside a record")
        return block

    cdef uint64_t limit(self, uint64_t newest, uint64_t end) except? 0xFFFFFFFFFFFFFFFF:
        """Where this segment's records end: at its successor's start, if it has one."""
        if self.segment.number < newest:
            return min(end, <uint64_t>self.segments.get(self.segment.number + 1).start)
        return end

    def enter(self, uint64_t number):
        """Go on in the segment that follows."""
        cdef Segment segment = self.segments.get(number)
        if segment.start != self.position or segment.header.previous_crc != self.crc:
            raise CorruptionError(
                f"the segment does not follow its predecessor, which ends at {self.position}", path=segment.path
            )
        self.segment = segment

    cdef bint next_of(self, Verified *found, bytes block, Py_ssize_t *offset, uint64_t limit) except -1:
        """Verify the record at `offset` and go past it; False if more bytes are needed to have it whole."""
        return self.refuse(
            self.step(found, PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block), offset, limit, self.segment.salt)
        )

    cdef Step step(
        self, Verified *found, const char *at, Py_ssize_t size, Py_ssize_t *offset, uint64_t limit, uint32_t salt
    ) noexcept nogil:
        cdef Py_ssize_t left = size - offset[0]
        if left < HEADER:
            return MORE
        cdef uint64_t whole = claimed_size(at + offset[0])
        if whole == 0 or whole > limit - self.position:
            return BEYOND
        if whole > <uint64_t>left:
            return MORE
        if not verify(found, at, size, offset[0], self.position, whole, salt):
            return UNSOUND
        if found.previous_crc != self.crc or found.number <= self.number:
            return ASTRAY
        offset[0] += <Py_ssize_t>whole
        self.position, self.crc, self.number = found.ends, found.crc, found.number
        return DONE

    cdef bint refuse(self, Step step) except -1:
        """Whether a step was made; CorruptionError if it could not be."""
        if step == BEYOND:
            raise self.damage("a record ends beyond the journal's end")
        if step == UNSOUND:
            raise self.damage("the record does not verify")
        if step == ASTRAY:
            raise self.damage("the record does not follow the one before it")
        return step == DONE

    def accept(self, bytes block not None, uint64_t limit, *, uint64_t place):
        """Go past the records of `block`, which begins here, up to the first that does not verify or follow.

        Returns (records, durable_end, crc): how many stand at `place` or after it, the largest durable end that any of
        them claims, and the checksum of the record that ends at `place`, None if none does.
        """
        cdef const char *at = PyBytes_AS_STRING(block)
        cdef Py_ssize_t offset = 0
        cdef uint64_t records = 0
        cdef uint64_t durable_end = 0
        cdef Verified found
        crc = None
        while True:
            if not verify(
                &found, at, PyBytes_GET_SIZE(block), offset, self.position, limit - self.position, self.segment.salt
            ) or found.previous_crc != self.crc or found.number <= self.number:
                return records, durable_end, crc
            offset += <Py_ssize_t>(found.ends - found.position)
            records += found.position >= place
            durable_end = max(durable_end, found.durable_end)
            self.position, self.crc, self.number = found.ends, found.crc, found.number
            if self.position == place:
                crc = self.crc

    cdef int go_past(self, Record record) except -1:
        self.position, self.crc, self.number = record.ends(), record.crc, record.number
        return 0

    def advance(self, Record record not None):
        """Stand behind a record."""
        self.go_past(record)

    cdef object damage(self, str what):
        return CorruptionError(what, path=self.segment.path, offset=self.segment.offset(self.position))
