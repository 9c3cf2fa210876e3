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
from ..failpoints import ACTIVE, hit, off
from ..files import crc32c
from .format import SegmentHeader, generation_of
from .reader import Reader
from .records import CHECKED_FROM, RECORD_HEADER_SIZE, headers_before, parse_record, tail_of
from .segment import Segment
from .segments import FIRST_CAPACITY, Segments
from .sync import write_again

_LOOK_BYTES = 4096
_PIECE_BYTES = 1 << 18  # of records; a larger one is read whole
_BACK_BYTES = 1 << 16  # a multiple of the alignment
_CHANCES = 100  # that a record in a segment is one that a broken recovery loses


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
    scan = _Scan(segments, chain[0], Place(position, crc, number))
    last = chain[-1]
    mark = last.mark()
    for segment, successor in pairwise(chain):
        scan.segment(segment, successor)
    if mark is not None and mark.clean:
        scan.last_segment(last, up_to=mark.durable_end)  # a clean close says that nothing follows
    if mark is None or not mark.clean or scan.reader.position != mark.durable_end or scan.goes_on(last):
        scan.last_segment(last, up_to=last.end)
    scan.require_place()
    if ACTIVE:
        hit("recovery.accept")
    scan.check_tail(last, max(scan.proven, mark.durable_end if mark else 0))
    clean = mark is not None and mark.clean and mark.durable_end == scan.reader.position
    generation = last.header.generation
    if ACTIVE and off("recovery.generation"):
        clean = True
    if not clean:
        generation = max(generation, generation_of(scan.reader.number)) + 1
        _begin_generation(segments, scan.reader, chain, generation, proven=scan.proven)
    return Recovered(scan.reader, generation, clean, scan.discarded, scan.records)


def create(segments: Segments, *, start: int = 0, previous_crc: int = 0, generation: int = 1) -> Recovered:
    """A new, empty journal; that of a copy goes on from where the copied base ends."""
    first = segments.create(SegmentHeader(1, generation, segments.random(), start, FIRST_CAPACITY, previous_crc))
    reader = Reader(segments, first, position=start, crc=previous_crc, number=0)
    return Recovered(reader, generation, False, 0, 0)


def is_empty(segments: Segments, number: int) -> bool:
    """Whether a segment holds no record, found without changing anything."""
    segment = segments.get(number)
    block = segment.read(segment.start, segment.header.capacity)
    return parse_record(block, 0, position=segment.start, room=len(block), salt=segment.salt) is None


def _chain(segments: Segments, position: int) -> list[Segment]:
    """The segments from the one that holds `position` to the newest.

    Those before are not looked at: they were removed, or were to be, and after a power cut a file that was being
    removed may be there without its content.
    """
    numbers = segments.numbers()
    if not numbers:
        raise CorruptionError("the journal has no segment", path=segments.directory)
    chain = [segments.get(numbers.pop())]
    while chain[0].start > position:
        later = chain[0]
        if not numbers or numbers.pop() != later.number - 1:
            raise CorruptionError(
                f"the segment before it is missing; a base needs the journal from {position} on", path=later.path
            )
        earlier = segments.get(later.number - 1)
        if not earlier.start <= later.start <= earlier.end or later.header.generation < earlier.header.generation:
            raise CorruptionError("the segment does not follow its predecessor", path=later.path, offset=0)
        chain.insert(0, earlier)
    if position > chain[0].end:
        raise CorruptionError(f"the journal ends before {position}, where the base ends", path=chain[0].path)
    return chain


@dataclass(frozen=True, slots=True)
class Place:
    """Where a base says that it ends: a position, and the checksum and number of the record that ends there."""

    position: int
    crc: int
    number: int


class _Scan:
    """Walks records, knowing how much of what it has seen is proved to be on disk.

    It begins at the base's mark if the record that the mark names ends there. If not, it begins where the mark's
    segment begins, so that a journal which does not lead up to the mark, as that of an older copy would not, is found
    out.
    """

    def __init__(self, segments: Segments, first: Segment, place: Place) -> None:
        self.reader = Reader(segments, first, position=first.start, crc=first.header.previous_crc, number=0)
        if _leads_to(first, place):
            self.reader = Reader(segments, first, position=place.position, crc=place.crc, number=place.number)
        self.place = place
        self.proven = max(place.position, first.start)
        self.records = 0
        self.discarded = 0
        self._block = b""
        self._met = False
        if self.reader.position == place.position:
            self._look(self.reader.crc)

    def _look(self, crc: int) -> None:
        """At the base's mark, which names the number of the commit there even where no record is left to do so."""
        self._met = crc == self.place.crc
        self.reader.number = max(self.reader.number, self.place.number)

    def require_place(self) -> None:
        if not self._met:
            raise CorruptionError(
                f"no record ends at {self.place.position}, where the base says that it ends",
                path=self.reader.segment.path,
            )

    def segment(self, segment: Segment, successor: Segment) -> None:
        """Accept the records of a segment; all up to its successor's start must be there."""
        self._accept(segment, successor.start)
        if self.reader.position != successor.start:
            raise CorruptionError(
                "a record does not verify, and later ones exist",
                path=segment.path,
                offset=segment.offset(self.reader.position),
            )
        self.proven = max(self.proven, successor.start)  # a segment is begun after its predecessor was synced
        self.reader.enter(successor.number)

    def last_segment(self, segment: Segment, *, up_to: int) -> None:
        """Accept the records of the newest segment, as many as there are before `up_to`."""
        if self.reader.position <= up_to <= segment.end:
            self._accept(segment, up_to)

    def goes_on(self, segment: Segment) -> bool:
        """Whether anything was written where the records end, whatever a mark says: a later one may be damaged."""
        end = self.reader.position
        return bool(segment.read(end, min(_LOOK_BYTES, segment.end - end)).strip(b"\0"))

    def _accept(self, segment: Segment, limit: int) -> None:
        """Accept records up to `limit`, a piece at a time; `_block` is what there is between the last one and it."""
        piece, whole = _PIECE_BYTES, False
        while not whole:
            begin = self.reader.position
            self._block = segment.read(begin, min(piece, limit - begin))
            whole = len(self._block) < piece or begin + piece >= limit
            if ACTIVE and any(off("recovery.tail") for _ in range(_CHANCES)):
                return
            records, durable_end, crc = self.reader.accept(self._block, limit, place=self.place.position)
            self.records += records
            self.proven = max(self.proven, durable_end)
            if crc is not None:
                self._look(crc)
            if self.reader.position == begin:
                piece = limit - begin  # a larger record, or none
        self._block = self._block[self.reader.position - begin :]

    def check_tail(self, segment: Segment, durable_end: int) -> None:
        """What follows the end must be a torn tail: nothing there may prove that it once was durable."""
        end = self.reader.position
        size, claimed = tail_of(self._block, 0, position=end, end=segment.end, salt=segment.salt)
        durable_end = max(durable_end, claimed)
        if durable_end > end:
            raise CorruptionError(
                f"a record that was durable does not verify (the journal was synced up to {durable_end})",
                path=segment.path,
                offset=segment.offset(end),
            )
        self.discarded = size


def _leads_to(segment: Segment, place: Place) -> bool:
    """Whether the record that a base names ends where the base says. It is looked for from there backwards.

    Its checksum covers that of the record before it, so it stands for all that led up to it.
    """
    after = place.position
    while after > segment.start:
        begin = max(segment.start, after - _BACK_BYTES)
        block = segment.read(begin, min(after + RECORD_HEADER_SIZE, place.position) - begin)
        for found, size in headers_before(block, position=begin, end=place.position, crc=place.crc):
            if _checksum(segment, found + CHECKED_FROM, RECORD_HEADER_SIZE - CHECKED_FROM + size) == place.crc:
                return True
        after = begin
    return False


def _checksum(segment: Segment, position: int, size: int) -> int:
    """That of a record, read a little at a time: a record may be as large as a segment."""
    found, end = segment.salt, position + size
    while position < end:
        part = segment.read(position, min(_BACK_BYTES, end - position))
        if not part:
            break
        found, position = crc32c(part, found), position + len(part)
    return found


def _begin_generation(
    segments: Segments, reader: Reader, chain: list[Segment], generation: int, *, proven: int
) -> None:
    """Make what was accepted durable, then start a new segment in a new generation."""
    for segment, successor in zip(chain, [*chain[1:], None], strict=True):
        begin = max(proven, segment.start)
        end = successor.start if successor else reader.position
        if ACTIVE and off("recovery.rewrite"):
            continue
        if begin < end:
            write_again(segment, begin, end)
        segment.sync()
    number = chain[-1].number + 1
    segments.create(SegmentHeader(number, generation, segments.random(), reader.position, FIRST_CAPACITY, reader.crc))
    if ACTIVE:
        hit("recovery.segment")
    reader.enter(number)
