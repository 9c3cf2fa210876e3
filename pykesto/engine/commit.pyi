from collections.abc import Callable
from typing import final

from ..files import ProcessLock
from ..journal import GroupSync, Writer
from ..store import Reads, Snapshot, Terms, Writes
from .view import View

@final
class Committer:
    def __init__(
        self,
        view: View,
        *,
        turn_lock: ProcessLock,
        commit_lock: ProcessLock,
        writer: Writer,
        sync: GroupSync,
        on_schema: Callable[[], object],
        on_filling: Callable[[], object],
        on_full: Callable[[], object],
    ) -> None: ...
    def commit(self, snapshot: Snapshot, reads: Reads, writes: Writes, terms: Terms) -> int: ...
