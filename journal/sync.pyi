from typing import Final, final

from ..files import ProcessLock
from .segment import Segment
from .segments import Segments
from .state import JournalState

PATIENCE_S: Final[float]

@final
class GroupSync:
    segments: Final[Segments]
    state: Final[JournalState]
    sync_lock: Final[ProcessLock]
    commit_lock: Final[ProcessLock]
    def __init__(
        self,
        segments: Segments,
        state: JournalState,
        *,
        sync_lock: ProcessLock,
        commit_lock: ProcessLock,
        look_again_s: float = ...,
    ) -> None: ...
    def make_durable(self, target: int) -> None: ...
    def sync_alone(self, target: int) -> None: ...
    def not_durable(self) -> list[Segment]: ...

def write_again(segment: Segment, position: int, end: int) -> int: ...
