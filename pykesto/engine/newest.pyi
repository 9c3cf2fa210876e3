from collections.abc import Iterator
from typing import Final, final

from .. import tc
from ..journal.reader import Follower
from ..store import Row
from .schema import Schema

@final
class Newest(Follower):
    schema: Final[Schema]
    commits: Final[int]
    unpacked: Final[int]
    def __init__(self, schema: Schema, *, compact_bytes: int = ...) -> None: ...
    def tables(self) -> dict[str, Images]: ...

@final
class Images:
    def __len__(self) -> int: ...
    def items(self) -> Iterator[tuple[bytes, Row | None]]: ...
    def apply(self, table: tc.Table, at: int, count: int) -> None: ...

def images_of(rows: dict[bytes, Row | None]) -> Images: ...
