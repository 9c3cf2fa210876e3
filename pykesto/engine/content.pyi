from typing import Any, Final, final

from ..store import SchemaChange

IMAGE_BYTES_MAX: Final[int]

@final
class Commit:
    rows: Final[dict[str, dict[bytes, bytes | None]]]
    schema: Final[tuple[SchemaChange, ...]]
    about: Final[dict[str, Any]]
    time_ms: Final[int]
    def __init__(
        self,
        rows: dict[str, dict[bytes, bytes | None]],
        schema: tuple[SchemaChange, ...] = (),
        about: dict[str, Any] = {},
        time_ms: int = 0,
    ) -> None: ...
    def __eq__(self, other: object, /) -> bool: ...

def pack_commit(commit: Commit) -> bytes: ...
def unpack_commit(payload: bytes) -> Commit: ...
def changes_schema(commit: Commit, known: dict[str, Any]) -> bool: ...
