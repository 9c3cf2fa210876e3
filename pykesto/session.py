"""Sessions: how one runs, and what it asks of its parts. The session itself is compiled, in `_session.pyx`."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, field
from typing import Any, Protocol

from ._session import Observed, Savepoint, Session, one_of
from .errors import UsageError
from .store import Durability, Isolation, Merge, Terms

__all__ = ["Observed", "Options", "Part", "Savepoint", "Session", "one_of"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a session runs, unless it is told otherwise; `terms` are those of its commits."""

    durability: Durability = "full"
    isolation: Isolation = "serializable"
    lock_timeout_s: float | None = 10.0
    read_only: bool = False
    token_key: bytes | None = field(default=None, repr=False)
    terms: Terms = field(init=False)

    def __post_init__(self) -> None:
        one_of("durability", self.durability, ("full", "process"))
        one_of("isolation", self.isolation, ("serializable", "snapshot"))
        if self.lock_timeout_s is not None and not self.lock_timeout_s >= 0:
            raise UsageError(f"lock_timeout is {self.lock_timeout_s!r}; it must be seconds from 0, or None for ever")
        if self.token_key is not None and not (isinstance(self.token_key, bytes) and len(self.token_key) >= 16):
            raise UsageError("token_key is a secret of at least 16 bytes", hint="secrets.token_bytes(32)")
        terms = Terms(isolation=self.isolation, durability=self.durability, lock_timeout_s=self.lock_timeout_s)
        object.__setattr__(self, "terms", terms)


class Part(Protocol):
    """The rows of one table, or the objects, of one session."""

    @property
    def _changed(self) -> Sized:
        """What differs from the snapshot; empty if nothing does."""
        ...

    @property
    def table(self) -> str: ...

    @property
    def label(self) -> str:
        """The table's name for people."""
        ...

    def prepare(self) -> None:
        """A commit begins: the last chance to change something."""
        ...

    def changes(self) -> dict[bytes, bytes | None]:
        """Packed rows by encoded key; None deletes. Once committed the store may keep it: it changes no more."""
        ...

    def merge_of(self, changes: dict[bytes, bytes | None]) -> Merge | None:
        """How these changes may be merged with those of others."""
        ...

    def require_indexes(self) -> None:
        """Have the session create indexes that the changes ask for and that are not there."""
        ...

    def changed(self) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
        """What is new, dirty, deleted, for people."""
        ...

    def committed(self, number: int) -> None: ...

    def rolled_back(self) -> None: ...

    def save(self) -> Any:
        """The changes as they are now, for `restore`."""
        ...

    def restore(self, saved: Any) -> None:
        """Undo what was changed since `save` (None: since the snapshot began)."""
        ...

    def readable_key(self, key: bytes) -> Any: ...

    def readable_column(self, column: Any) -> Any: ...
