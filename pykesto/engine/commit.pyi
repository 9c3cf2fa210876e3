from typing import final

from ..files import ProcessLock
from ..journal import GroupSync, Writer
from ..store import Reads, Terms, Writes
from .snapshot import BaseSnapshot
from .view import View

@final
class Committer:
    def __init__(self, view: View, *, commit_lock: ProcessLock, writer: Writer, sync: GroupSync) -> None: ...
    def commit(self, snapshot: BaseSnapshot, reads: Reads, writes: Writes, terms: Terms) -> int: ...
