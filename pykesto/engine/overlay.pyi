from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final, final

from ..store import IndexDefinition
from .content import Commit
from .listed import Listed
from .manifest import Mark
from .schema import Schema

@final
class Source: ...

@final
class Version:
    number: Final[int]
    older: Final[Version | None]
    @property
    def image(self) -> bytes | None: ...

@final
class Applied:
    number: Final[int]
    about: Final[dict[str, Any]]
    time_ms: Final[int]
    @property
    def touched(self) -> tuple[tuple[str, tuple[bytes, ...]], ...]: ...
    @property
    def keys(self) -> tuple[tuple[str, bytes], ...]: ...

@final
class Table:
    rows: Final[dict[bytes, Version]]
    indexes: Final[dict[str, Listed]]

@final
class Overlay:
    mark: Final[Mark]
    version: Final[int]
    schema: Final[Schema]
    tables: Final[dict[str, Table]]
    log: Final[deque[Applied]]
    size_bytes: Final[int]
    def __init__(self, mark: Mark, schema: Mapping[str, tuple[IndexDefinition, ...]], live: list[int]) -> None: ...
    def apply(self, number: int, commit: Commit) -> None: ...
    def visible(self, table: str, key: bytes, version: int) -> Version | None: ...
    def newest(self, table: str, key: bytes) -> Version | None: ...
    def rows(self) -> int: ...
    def keys_between(self, table: str, lo: bytes | None, hi: bytes | None) -> list[bytes]: ...
    def count_keys(self, table: str, lo: bytes | None, hi: bytes | None) -> int: ...
    def indexes(self, table: str) -> tuple[IndexDefinition, ...]: ...
    def since(self, version: int) -> Iterator[Applied]: ...
