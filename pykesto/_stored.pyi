from typing import Final, final

from .store import Merge, Predicate, SchemaChange

@final
class Row:
    version: Final[int]
    image: Final[bytes]
    def __init__(self, version: int, image: bytes) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...

@final
class Reads:
    keys: Final[dict[str, set[bytes]]]
    predicates: Final[list[Predicate]]
    def __new__(cls) -> Reads: ...
    def key(self, table: str, key: bytes) -> None: ...

@final
class Writes:
    rows: Final[dict[str, dict[bytes, bytes | None]]]
    schema: Final[list[SchemaChange]]
    merges: Final[dict[str, Merge] | None]
    def __init__(
        self,
        rows: dict[str, dict[bytes, bytes | None]],
        schema: list[SchemaChange],
        merges: dict[str, Merge] | None = None,
    ) -> None: ...
    def __bool__(self) -> bool: ...
