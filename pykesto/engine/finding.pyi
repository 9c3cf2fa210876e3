from collections.abc import Iterator
from typing import final

from ..tc import IndexPages, Table
from .listed import Listed
from .overlay import Overlay

@final
class IndexView:
    def __init__(
        self,
        overlay: Overlay,
        listed: Listed,
        pages: IndexPages | None,
        rows: Table | None,
        table: str,
        base_version: int,
        version: int,
    ) -> None: ...
    def batches(self, lo: bytes | None, hi: bytes | None, down: bool) -> Iterator[list[tuple[bytes, bytes]]]: ...

@final
class KeySet:
    def __new__(cls, pages: IndexPages, lo: bytes | None, hi: bytes | None) -> KeySet: ...

@final
class OwnWalk: ...

@final
class RankWalk: ...

def key_batches(
    pages: IndexPages | None, own: list[bytes], lo: bytes | None, hi: bytes | None, down: bool
) -> Iterator[list[bytes]]: ...
