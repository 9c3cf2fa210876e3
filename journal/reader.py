"""Follow the journal: from a known place to its published end.

What lies before the published end was written whole, so a record there that does not verify is damage, never a
torn tail. Nothing beyond a segment's true end, which its successor's header holds, is ever read.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import CorruptionError
from .format import RECORD_HEADER_SIZE, Record, parse_record, payload_size_at, record_size
from .segments import Segment, SegmentGone, Segments
from .state import JournalState

CHUNK = 1 << 20


class Reader:
    """A place in the journal: the segment, the position, and the checksum and number of the record before it."""

    def __init__(self, segments: Segments, segment: Segment, *, position: int, crc: int, number: int) -> None:
        self.segments = segments
        self.segment = segment
        self.position, self.crc, self.number = position, crc, number

    @classmethod
    def at(cls, segments: Segments, *, position: int, crc: int, number: int, newest: int) -> Reader:
        """A reader at `position`, which lies in segment `newest` or before; SegmentGone if it is no longer kept."""
        wanted = [n for n in segments.numbers() if n <= newest]
        while wanted:
            segment = segments.get(wanted.pop())
            if segment.start <= position:
                return cls(segments, segment, position=position, crc=crc, number=number)
        raise SegmentGone(f"the journal no longer reaches back to {position}")

    def read_to(self, state: JournalState, *, until: int | None = None) -> Iterator[Record]:
        """The records from here to the published end, or to `until`, where one ends; the reader moves on with each."""
        end = state.end if until is None else min(state.end, until)
        newest = state.segment  # after `end`: a roll stores the segment first
        while self.position < end:
            limit = self._limit(newest, end)
            if self.position < limit:
                yield from self._records(limit)
            else:
                self.enter(self.segment.number + 1)

    def _limit(self, newest: int, end: int) -> int:
        """Where this segment's records end: at its successor's start, if it has one."""
        if self.segment.number < newest:
            return min(end, self.segments.get(self.segment.number + 1).start)
        return end

    def enter(self, number: int) -> None:
        """Go on in the segment that follows."""
        segment = self.segments.get(number)
        if segment.start != self.position or segment.header.previous_crc != self.crc:
            raise CorruptionError(
                f"the segment does not follow its predecessor, which ends at {self.position}", path=segment.path
            )
        self.segment = segment

    def _records(self, limit: int) -> Iterator[Record]:
        size = CHUNK
        while self.position < limit:
            block = self.segment.read(self.position, min(size, limit - self.position))
            offset = 0
            while offset + RECORD_HEADER_SIZE <= len(block):
                record = self._next(block, offset, limit)
                if record is None:
                    break
                offset += record.end - record.position
                yield record
            if offset == 0:
                size = self._whole_size(block, limit)

    def _next(self, block: bytes, offset: int, limit: int) -> Record | None:
        """The record at `offset`, or None if more bytes are needed to have it whole."""
        size = record_size(payload_size_at(block, offset))
        if size > limit - self.position:
            raise self._damage("a record ends beyond the journal's end")
        if offset + size > len(block):
            return None
        parsed = parse_record(block, offset, position=self.position, room=size, salt=self.segment.salt)
        if parsed is None:
            raise self._damage("the record does not verify")
        record, previous_crc = parsed
        if previous_crc != self.crc or record.number <= self.number:
            raise self._damage("the record does not follow the one before it")
        self.advance(record)
        return record

    def advance(self, record: Record) -> None:
        self.position, self.crc, self.number = record.end, record.crc, record.number

    def _whole_size(self, block: bytes, limit: int) -> int:
        """How much to read for a record larger than a chunk."""
        if len(block) < RECORD_HEADER_SIZE:
            raise self._damage("the file ends inside a record")
        size = record_size(payload_size_at(block, 0))
        if len(block) >= min(size, limit - self.position):
            raise self._damage("the record does not verify")
        return size

    def _damage(self, what: str) -> CorruptionError:
        return CorruptionError(what, path=self.segment.path, offset=self.segment.offset(self.position))
