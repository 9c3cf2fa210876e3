"""Append records at the journal's published end. The caller holds commit.lock.

A record is visible to others only after `append` returns, and durable only after `GroupSync.make_durable`.
A record that was written but not published, because its writer died, is overwritten by the next one.
"""

from __future__ import annotations

from ..errors import CommitUnknown, StorageError
from ..failpoints import ACTIVE, hit
from ..files import sync_directory
from .format import RECORD_HEADER_SIZE, Record, SegmentHeader, next_number, pack_record, record_size
from .reader import Reader
from .segments import LARGEST_CAPACITY, Segment, SegmentGone, Segments
from .state import JournalState
from .sync import GroupSync


class Writer:
    """Appends to the journal of one process."""

    def __init__(self, segments: Segments, state: JournalState, sync: GroupSync) -> None:
        self.segments, self.state, self.sync = segments, state, sync

    def append(self, reader: Reader, payload: bytes, written: list[Record] | None = None) -> Record:
        """Append one record after `reader`, which stands at the published end, and publish it.

        It is put into `written` before it is published: whatever exception comes, the caller knows that it may be
        there.

        Raises:
            StorageError: nothing was written (no space for a new segment, a failed write that could be undone).
            CommitUnknown: it can't be known whether recovery will find the record.
        """
        self._prepare(reader, record_size(len(payload)))
        state = self.state
        number = next_number(reader.number, state.generation)
        block, crc = pack_record(
            payload,
            number=number,
            position=reader.position,
            durable_end=state.durable_end,
            salt=reader.segment.salt,
            previous_crc=reader.crc,
        )
        record = Record(reader.position, number, crc, state.durable_end, payload)
        if ACTIVE:
            hit("journal.append")
        try:
            reader.segment.write(reader.position, block)
        except StorageError as error:
            self._withdraw(reader, error)
            raise
        except BaseException as error:  # an interrupt, after bytes may have gone out
            raise CommitUnknown("interrupted while the commit was being written") from error
        if written is not None:
            written.append(record)
        if ACTIVE:
            hit("journal.written")
        state.publish(record.end)
        if ACTIVE:
            hit("journal.published")
        reader.advance(record)
        return record

    def _prepare(self, reader: Reader, size: int) -> None:
        """See that the newest segment has room for `size` bytes and does not say that it is closed."""
        if self.state.rolling:
            self._adopt(reader)
        while reader.segment.number < self.state.segment:
            reader.enter(reader.segment.number + 1)  # rolled by one that appended nothing
        if self.state.clean:
            # Synced before the first append: else a power cut that takes this append leaves a mark that vouches
            # for its absence, and its number would be given again.
            reader.segment.write_mark(reader.position, clean=False)
            self.state.taken_back()
        if reader.position + size > reader.segment.end:
            self._roll(reader, size)

    def _roll(self, reader: Reader, size: int) -> None:
        """Go on in a new segment. Its existence vouches for its predecessor, which is synced first."""
        self.sync.sync_alone(self.state.end)
        number = reader.segment.number + 1
        capacity = max(size, min(LARGEST_CAPACITY, reader.segment.header.capacity * 2))
        self.state.roll_begins()
        try:
            self.segments.create(
                lambda salt: SegmentHeader(number, self.state.generation, salt, reader.position, capacity, reader.crc)
            )
        except StorageError as error:
            if self.segments.path(number).exists():  # renamed, but its directory could not be synced
                self.state.poison(error.errno or 0)
            raise
        if ACTIVE:
            hit("journal.roll")
        self._enter(reader, number)

    def _enter(self, reader: Reader, number: int) -> None:
        self.state.publish_segment(number)
        self.state.roll_ends()
        reader.enter(number)

    def _adopt(self, reader: Reader) -> None:
        """A segment whose maker died before publishing it: nothing was appended since, so it still fits."""
        number = self.state.segment + 1
        try:
            self.segments.get(number)
        except SegmentGone:
            self.state.roll_ends()
            return
        try:
            sync_directory(self.segments.directory)
        except StorageError as error:
            self.state.poison(error.errno or 0)
            raise
        self._enter(reader, number)

    def _withdraw(self, reader: Reader, error: StorageError) -> None:
        """A write failed half-way: make sure that recovery will not find a whole record there."""
        segment: Segment = reader.segment
        try:
            segment.write(reader.position, bytes(RECORD_HEADER_SIZE))
        except StorageError:
            self.state.poison(error.errno or 0)
            raise CommitUnknown(f"the commit could be neither written nor withdrawn: {error}") from error
