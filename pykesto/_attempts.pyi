from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self, TypeVar, final

from .database import Database
from .objects import ObjectSession
from .session import Options

_R = TypeVar("_R")

@final
class Attempts:
    made: Final[int]
    def __init__(
        self,
        database: Database,
        options: Options,
        note: str | None,
        at_most: int,
        retry_for_s: float | None,
    ) -> None: ...
    def __iter__(self) -> Self: ...
    def __next__(self) -> Attempt: ...

@final
class Attempt:
    goes_on: Final[bool]
    version: Final[int | None]
    def __enter__(self) -> ObjectSession: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool: ...

def run(attempts: Attempts, fn: Callable[..., _R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> _R: ...
def refuse_late(fn: Callable[..., Any]) -> None: ...
