from typing import Final, final

from .reader import Reader
from .records import Record
from .segments import Segments
from .state import JournalState
from .sync import GroupSync

@final
class Writer:
    segments: Final[Segments]
    state: Final[JournalState]
    sync: Final[GroupSync]
    def __init__(self, segments: Segments, state: JournalState, sync: GroupSync) -> None: ...
    def append(self, reader: Reader, payload: bytes, written: list[Record] | None = None) -> Record: ...
