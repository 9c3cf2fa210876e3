"""The files of the journal: one directory of numbered, preallocated segments.

A segment is prepared under a temporary name, synced, renamed, and the directory synced, before any record goes in:
an append then changes no metadata and needs no space. Segments are never recycled, as a lagging reader may have one
open, and are removed from the front only.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..errors import CorruptionError, FormatError, StorageError
from ..failpoints import ACTIVE, off
from ..files import Mutex, fill_with_zeros, open_file, read_at, remove, sync_directory, translated, write_at
from .format import HEADER_SIZE, SegmentHeader, pack_header, parse_header
from .segment import Segment

FIRST_CAPACITY = 128 << 10
LARGEST_CAPACITY = 16 << 20
SUFFIX = ".kj"
_SPARE, _UNFINISHED_SPARE = "spare.new", "spare.part"


class SegmentGone(Exception):
    """The segment was removed: no base and no live snapshot needed it."""


class Segments:
    """The directory of segments, and those that this process has open."""

    def __init__(
        self, directory: Path, *, mode: int = 0o600, random: Callable[[], int] = lambda: secrets.randbits(32)
    ) -> None:
        self.directory = directory
        self.mode = mode
        self.random = random  # salts
        self._open: dict[int, Segment] = {}
        self._lock = Mutex()  # a signal handler may close what it interrupts

    def is_used_here(self) -> bool:
        """Whether this thread is in the midst of opening or closing a segment."""
        return self._lock.is_mine()

    def path(self, number: int) -> Path:
        return self.directory / f"{number:012d}{SUFFIX}"

    def numbers(self) -> list[int]:
        """The numbers of all segments there are, ascending."""
        with translated("list", self.directory):
            names = os.listdir(self.directory)
        return sorted(
            int(name[: -len(SUFFIX)]) for name in names if name.endswith(SUFFIX) and name[: -len(SUFFIX)].isdigit()
        )

    def get(self, number: int) -> Segment:
        """The segment, opened if need be; SegmentGone if it is there no more."""
        with self._lock:
            segment = self._open.get(number)
            if segment is None:
                segment = self._open[number] = self._load(number)
            return segment

    def _load(self, number: int) -> Segment:
        path = self.path(number)
        try:
            fd = open_file(path)
        except StorageError as error:
            if error.errno == errno.ENOENT:
                raise SegmentGone(f"{path} was removed") from error
            raise
        try:
            with translated("read", path):
                header = parse_header(read_at(fd, HEADER_SIZE, 0))
        except StorageError:
            os.close(fd)
            raise
        if isinstance(header, SegmentHeader) and header.number == number:
            return Segment(path, fd, header)
        os.close(fd)
        if isinstance(header, int):
            raise FormatError(f"{path} has journal format {header}", path=path, hint="use a newer pykesto")
        raise CorruptionError("the header of the segment is damaged", path=path, offset=0)

    def prepare(self, capacity: int) -> None:
        """In the background: have a file of zeros at hand, so that the next roll need not write one.

        One process at a time: the caller holds checkpoint.lock.
        """
        spare, unfinished = self.directory / _SPARE, self.directory / _UNFINISHED_SPARE
        if spare.exists():
            return
        remove(unfinished)
        fd = open_file(unfinished, create=True, exclusive=True, mode=self.mode)
        try:
            with translated("allocate", unfinished):
                fill_with_zeros(fd, HEADER_SIZE + capacity)
                os.fsync(fd)
                os.rename(unfinished, spare)
        finally:
            os.close(fd)
            remove(unfinished)

    def _take_spare(self, temporary: Path, capacity: int) -> int | None:
        """The descriptor of the file that was prepared, renamed to `temporary`; None if there is none so large."""
        with translated("rename", self.directory / _SPARE):
            try:
                os.rename(self.directory / _SPARE, temporary)
            except FileNotFoundError:
                return None
        fd = open_file(temporary)
        if os.fstat(fd).st_size >= HEADER_SIZE + capacity:
            return fd
        os.close(fd)
        remove(temporary)
        return None

    def create(self, header: SegmentHeader) -> Segment:
        """Make a segment, durable and empty, and open it. It may get more capacity than asked for."""
        path = self.path(header.number)
        temporary = path.with_suffix(".new")
        remove(temporary)
        fd = self._take_spare(temporary, header.capacity)
        prepared = fd is not None
        if fd is None:
            fd = open_file(temporary, create=True, exclusive=True, mode=self.mode)
        try:
            with translated("allocate", temporary):
                if prepared:
                    header = replace(header, capacity=os.fstat(fd).st_size - HEADER_SIZE)
                else:
                    fill_with_zeros(fd, HEADER_SIZE + header.capacity)
                write_at(fd, pack_header(header), 0)
                if not (ACTIVE and off("segment.sync")):
                    os.fsync(fd)
                os.rename(temporary, path)
            sync_directory(self.directory)
        except BaseException:
            os.close(fd)
            remove(temporary)
            raise
        segment = Segment(path, fd, header)
        with self._lock:
            self._open[header.number] = segment
        return segment

    def let_go_before(self, number: int) -> None:
        """Keep those no longer open that this process needs no more."""
        with self._lock:
            for old in [n for n in list(self._open) if n < number]:
                self._open.pop(old, None)

    def remove_before(self, position: int) -> int:
        """Remove the segments that hold nothing at or after `position`; the newest stays. Return how many."""
        numbers = self.numbers()
        while numbers and self.get(numbers.pop()).start > position:
            pass
        for number in numbers:
            remove(self.path(number))
        return len(numbers)

    def size(self) -> int:
        """Bytes that the segments take on disk."""
        total = 0
        for number in self.numbers():
            try:
                total += self.path(number).stat().st_size
            except FileNotFoundError:
                continue  # removed since it was listed
        return total

    def abandon(self) -> None:
        """In a forked child: a thread of the parent may have held the lock, and is not here to let it go."""
        self._lock = Mutex()

    def close(self) -> None:
        with self._lock:
            self._open.clear()
