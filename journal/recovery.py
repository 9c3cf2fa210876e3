"""Find the journal's true end after all processes went away, however they went.

What is valid in the page cache may not be on disk, so every record that is accepted and can't be proved durable is
written again, the same bytes, and synced, before anything is published. After an unclean end a new generation
begins, in a segment of its own: numbers given to commits that a power cut took are never given again. A torn tail
ends the journal; a bad record before a proven durable end is damage and is reported, never skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from ..errors import CorruptionError
from .format import ALIGNMENT, Record, SegmentHeader, generation_of, parse_record
from .reader import Reader
from .segments import FIRST_CAPACITY, Segment, Segments
from .sync import write_again


@dataclass(slots=True)
class Recovered:
    """Where the journal ends, ready to be appended to.

    Attributes:
        reader: stands at the end.
        generation: that of the next commit.
        clean: the end was synced and marked by a clean close.
        discarded: bytes of a torn tail, from commits that were never acknowledged as durable.
        records: how many records were accepted.
    """

    reader: Reader
    generation: int
    clean: bool
    discarded: int
    records: int


def recover(segments: Segments, *, position: int, crc: int, number: int) -> Recovered:
    """Recover the journal from `position`, which a base vouches for, to its true end.

    The caller is alone: nobody else is attached. May be killed at any point and run again.

    Raises:
        CorruptionError: a record before the proven durable end does not verify, or a segment is missing.
    """
    chain = _chain(segments, position)
    scan = _Scan(Reader(segments, chain[0], position=position, crc=crc, number=number), proven=position)
    for segment, successor in zip(chain, [*chain[1:], None], strict=True):
        scan.segment(segment, successor)
    last = chain[-1]
    mark = last.mark()
    scan.check_tail(last, max(scan.proven, mark.durable_end if mark else 0))
    clean = mark is not None and mark.clean and mark.durable_end == scan.reader.position
    generation = last.header.generation
    if not clean:
        generation = max(generation, generation_of(scan.reader.number)) + 1
        _begin_generation(segments, scan.reader, chain, generation, proven=scan.proven)
    return Recovered(scan.reader, generation, clean, scan.discarded, scan.records)


def create(segments: Segments) -> Recovered:
    """A new, empty journal."""
    first = segments.create(lambda salt: SegmentHeader(1, 1, salt, 0, FIRST_CAPACITY, 0))
    return Recovered(Reader(segments, first, position=0, crc=0, number=0), 1, False, 0, 0)


def is_empty(segments: Segments, number: int) -> bool:
    """Whether a segment holds no record, found without changing anything."""
    segment = segments.get(number)
    block = segment.read(segment.start, segment.header.capacity)
    return parse_record(block, 0, position=segment.start, room=len(block), salt=segment.salt) is None


def _chain(segments: Segments, position: int) -> list[Segment]:
    """The segments from the one that holds `position` to the newest."""
    numbers = segments.numbers()
    if not numbers or numbers != list(range(numbers[0], numbers[-1] + 1)):
        raise CorruptionError(f"segments of the journal are missing; there are {numbers[:20]}", path=segments.directory)
    chain = [segments.get(n) for n in numbers]
    for earlier, later in pairwise(chain):
        if not earlier.start <= later.start <= earlier.end or later.header.generation < earlier.header.generation:
            raise CorruptionError("the segment does not follow its predecessor", path=later.path, offset=0)
    while len(chain) > 1 and chain[1].start <= position:
        chain.pop(0)
    if not chain[0].start <= position <= chain[0].end:
        raise CorruptionError(f"the journal does not reach back to {position}, where the base ends", path=chain[0].path)
    return chain


class _Scan:
    """Walks records, knowing how much of what it has seen is proved to be on disk."""

    def __init__(self, reader: Reader, *, proven: int) -> None:
        self.reader = reader
        self.proven = proven
        self.records = 0
        self.discarded = 0
        self.rest = b""

    def segment(self, segment: Segment, successor: Segment | None) -> None:
        """Accept the records of a segment; all up to its successor's start must be there."""
        limit = successor.start if successor else segment.end
        block = segment.read(self.reader.position, limit - self.reader.position)
        self.rest = block[self._accept(block, segment, limit) :]
        if successor is not None:
            if self.reader.position != limit:
                raise CorruptionError(
                    "a record does not verify, and later ones exist",
                    path=segment.path,
                    offset=segment.offset(self.reader.position),
                )
            self.proven = max(self.proven, limit)  # a segment is begun after its predecessor was synced
            self.reader.enter(successor.number)

    def _accept(self, block: bytes, segment: Segment, limit: int) -> int:
        offset, reader = 0, self.reader
        while True:
            room = limit - reader.position
            parsed = parse_record(block, offset, position=reader.position, room=room, salt=segment.salt)
            if parsed is None or not self._follows(*parsed):
                return offset
            record = parsed[0]
            reader.advance(record)
            self.proven = max(self.proven, record.durable_end)
            self.records += 1
            offset += record.end - record.position

    def _follows(self, record: Record, previous_crc: int) -> bool:
        return previous_crc == self.reader.crc and record.number > self.reader.number

    def check_tail(self, segment: Segment, durable_end: int) -> None:
        """What follows the end must be a torn tail: nothing there may prove that it once was durable."""
        end = self.reader.position
        tail = self.rest.rstrip(b"\0")
        for offset in range(0, len(tail), ALIGNMENT):
            room = segment.end - end - offset
            parsed = parse_record(self.rest, offset, position=end + offset, room=room, salt=segment.salt)
            if parsed is not None:
                durable_end = max(durable_end, parsed[0].durable_end)
        if durable_end > end:
            raise CorruptionError(
                f"a record that was durable does not verify (the journal was synced up to {durable_end})",
                path=segment.path,
                offset=segment.offset(end),
            )
        self.discarded = len(tail)


def _begin_generation(
    segments: Segments, reader: Reader, chain: list[Segment], generation: int, *, proven: int
) -> None:
    """Make what was accepted durable, then start a new segment in a new generation."""
    for segment, successor in zip(chain, [*chain[1:], None], strict=True):
        begin = max(proven, segment.start)
        end = successor.start if successor else reader.position
        if begin < end:
            write_again(segment, begin, end)
        segment.sync()
    number = chain[-1].number + 1
    segments.create(lambda salt: SegmentHeader(number, generation, salt, reader.position, FIRST_CAPACITY, reader.crc))
    reader.enter(number)
