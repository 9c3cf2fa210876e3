from collections.abc import Iterator
from typing import Final, final

from typing_extensions import disjoint_base

from .records import Record
from .segment import Segment
from .segments import Segments
from .state import JournalState

@disjoint_base
class Follower: ...

@final
class Reader:
    segments: Final[Segments]
    segment: Final[Segment]
    position: Final[int]
    crc: Final[int]
    number: int
    def __init__(self, segments: Segments, segment: Segment, *, position: int, crc: int, number: int) -> None: ...
    @classmethod
    def at(cls, segments: Segments, *, position: int, crc: int, number: int, newest: int) -> Reader: ...
    def read_to(self, state: JournalState, *, until: int | None = None) -> Iterator[Record]: ...
    def gather(self, state: JournalState, follower: Follower, *, until: int, enough: int) -> None: ...
    def enter(self, number: int) -> None: ...
    def accept(self, block: bytes, limit: int, *, place: int) -> tuple[int, int, int | None]: ...
    def advance(self, record: Record) -> None: ...
