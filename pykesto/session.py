"""A session: one snapshot, the changes made on it, and their commit.

The session knows no rows and no objects, only its parts: each keeps the changes of one table, hands them over as
packed rows when the session commits, and lets go of what it loaded when a snapshot ends.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from .codec import decode
from .errors import (
    ClosedError,
    CodecError,
    CommitUnknown,
    ConcurrencyConflict,
    Conflict,
    ReadOnlyError,
    SnapshotExpired,
    UniqueViolation,
    UsageError,
)
from .query import Condition
from .store import Durability, Isolation, Reads, SchemaChange, Snapshot, Store, Terms, Writes

_log = logging.getLogger("pykesto")


@dataclass(frozen=True, slots=True)
class Options:
    """How a session runs, unless it is told otherwise."""

    durability: Durability = "full"
    isolation: Isolation = "serializable"
    lock_timeout_s: float | None = 10.0
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """A condition that a session asked of a table, to be asked again when it commits."""

    table: str
    condition: Condition

    def matches(self, key: bytes, image: bytes) -> bool:
        return self.condition.matches(key, image)

    def __str__(self) -> str:
        return str(self.condition)


class Part(Protocol):
    """The rows of one table, or the objects, of one session."""

    @property
    def table(self) -> str: ...

    @property
    def label(self) -> str:
        """The table's name for people."""
        ...

    def changes(self) -> dict[bytes, bytes | None]:
        """Packed rows by encoded key; None deletes."""
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


class Session:
    """One unit of work. Made by `Database.session`; a context manager that rolls back what was not committed.

    Use by two threads at once is a UsageError; moving it from thread to thread is fine.
    """

    def __init__(
        self, store: Callable[[], Store], options: Options, *, note: str | None = None, managed: bool = False
    ) -> None:
        self._store_of = store
        self._store: Store | None = None
        self._options = options
        self._note = note
        self._managed = managed  # transaction(), run() and their like commit by themselves
        self._snapshot: Snapshot | None = None
        self._release: weakref.finalize[Any, Any] | None = None
        self._reads = Reads()
        self._schema: list[SchemaChange] = []
        self._parts: dict[str, Part] = {}
        self._closed = False
        self._doomed = False  # after CommitUnknown only close() works
        self._using = threading.Lock()
        self._hooks: dict[str, list[Callable[[], Any]]] = {
            "before_commit": [],
            "after_commit": [],
            "after_rollback": [],
        }

    # The snapshot

    @property
    def version(self) -> int:
        """The snapshot's number: that of the newest commit it sees. Begins a snapshot."""
        return self._begin().version

    @property
    def in_transaction(self) -> bool:
        """Whether a snapshot has begun that was neither committed nor rolled back."""
        return self._snapshot is not None

    def _begin(self) -> Snapshot:
        """The snapshot, begun at the first use."""
        if self._snapshot is None:
            self._require_usable()
            self._store = self._store_of()
            self._snapshot = snapshot = self._store.snapshot()
            self._release = weakref.finalize(self, snapshot.close)
        return self._snapshot

    def _require_same(self, snapshot: Snapshot) -> None:
        if self._snapshot is not snapshot:
            self._require_usable()
            raise UsageError(
                "a loop goes on after its snapshot ended", hint="finish loops before commit() and rollback()"
            )

    def _require_usable(self) -> None:
        if self._closed:
            raise ClosedError("the session is closed", hint="begin a new one")
        if self._doomed:
            raise UsageError("the session's commit is unknown; only close() works now")

    def _require_writable(self) -> None:
        self._require_usable()
        if self._options.read_only:
            raise ReadOnlyError("the session is read-only", hint="use db.session() on a handle that may write")

    def _end_snapshot(self) -> None:
        if self._release is not None:
            self._release()
        self._snapshot, self._release = None, None
        self._reads = Reads()
        self._schema = []

    # Reading, for the parts

    def _get(self, table: str, key: bytes) -> Any:
        """A row of the snapshot, and remember that it was read."""
        snapshot = self._begin()
        self._reads.key(table, key)
        return snapshot.get(table, key)

    def _observe(self, table: str, condition: Condition) -> None:
        self._begin()
        self._reads.predicates.append(Observed(table, condition))

    def _change_schema(self, change: SchemaChange) -> None:
        self._require_writable()
        self._begin()
        self._schema.append(change)

    # Ending

    def commit(self, force: bool = False, durability: Durability | None = None) -> int:
        """Write all changes at once and return the commit's number.

        Args:
            force: check nothing that others committed since (unique indexes are still checked).
            durability: "full" returns when the commit is on stable storage, "process" when it survives any process.

        Raises:
            ConcurrencyConflict: another commit changed what this one read or wrote; nothing was written, and the
                session keeps its snapshot and changes.
            UniqueViolation, LockTimeout, StorageError: likewise nothing was written.
            CommitUnknown: nobody can know; only close() works now.
        """
        if self._managed:
            raise UsageError(
                "the surrounding transaction commits at its end", hint="leave out s.commit(), or use db.session()"
            )
        return self._commit(force=force, durability=durability)

    def _commit(self, *, force: bool = False, durability: Durability | None = None) -> int:
        number = self._write(force=force, durability=durability)
        self._run_hooks("after_commit")
        return number

    def _write(self, *, force: bool = False, durability: Durability | None = None) -> int:
        """All of a commit but what is called after it."""
        self._require_usable()
        options = self._options
        wanted = one_of("durability", durability or options.durability, ("full", "process"))
        with _Alone(self._using):
            self._run_hooks("before_commit")
            snapshot = self._begin()
            writes = self._writes()
            if writes:
                self._require_writable()
            number = self._written(
                snapshot, writes, Terms(force, options.isolation, wanted, options.lock_timeout_s, self._note)
            )
            self._doomed = True  # until all parts know: an interrupt here must not leave changes to be written again
            self._end_snapshot()
            for part in list(self._parts.values()):
                part.committed(number)
            self._doomed = False
        return number

    def _writes(self) -> Writes:
        rows = {part.table: changes for part in self._parts.values() if (changes := part.changes())}
        for part in list(self._parts.values()):
            part.require_indexes()
        return Writes(rows, list(self._schema))

    def _written(self, snapshot: Snapshot, writes: Writes, terms: Terms) -> int:
        assert self._store is not None
        try:
            return self._store.commit(snapshot, self._reads, writes, terms)
        except CommitUnknown:
            self._doomed = True
            raise
        except SnapshotExpired:
            raise
        except ConcurrencyConflict as error:
            raise ConcurrencyConflict([self._readable(c) for c in error.conflicts]) from None
        except UniqueViolation as error:
            part = self._parts.get(error.table, self._parts.get("objects"))
            assert part is not None
            label = part.label if part.table == error.table else error.table
            raise UniqueViolation(label, error.column, _value(error.value), part.readable_key(error.key)) from None

    def _readable(self, conflict: Conflict) -> Conflict:
        """A conflict with the table's name and the key as the user knows them."""
        part = self._parts.get(conflict.table)
        if part is None:
            return conflict
        key = None if conflict.key is None else part.readable_key(conflict.key)
        return Conflict(part.label, key, conflict.read_version, conflict.current_version, conflict.detail)

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """A block whose changes are undone if an exception leaves it; the exception goes on up. Blocks nest.

        Example:
            >>> import pykesto
            >>> with pykesto.temporary() as db, db.transaction() as s:
            ...     people = s.table("people")
            ...     people["ann"] = {"age": 40}
            ...     try:
            ...         with s.savepoint():
            ...             people["ann"]["age"] = "forty"
            ...             raise ValueError
            ...     except ValueError:
            ...         print(people["ann"]["age"])
            40
        """
        self._begin()
        saved = {name: part.save() for name, part in self._parts.items()}
        schema = list(self._schema)
        try:
            yield
        except BaseException:
            for name, part in self._parts.items():
                part.restore(saved.get(name))
            self._schema = schema
            raise

    def rollback(self) -> None:
        """Undo all changes; the next use begins a new snapshot."""
        if self._closed:
            raise ClosedError("the session is closed")
        if self._doomed:
            raise UsageError("the session's commit is unknown; only close() works now")
        self._end_snapshot()
        for part in list(self._parts.values()):
            part.rolled_back()
        self._run_hooks("after_rollback")

    def close(self) -> None:
        """End the session; changes that were not committed are gone. What was loaded stays readable."""
        if not self._closed:
            self._closed = True
            self._end_snapshot()

    def __enter__(self) -> Self:
        self._require_usable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and not self._closed and not self._doomed and any(map(_has_changes, self._parts.values())):
            _log.warning("a session with changes was left without commit() or rollback(); they are gone")
        self.close()

    # What changed, and who wants to know

    def _changed(self, which: int) -> tuple[Any, ...]:
        return tuple(item for part in self._parts.values() for item in part.changed()[which])

    @property
    def new(self) -> tuple[Any, ...]:
        """Rows and objects that the commit will create."""
        return self._changed(0)

    @property
    def dirty(self) -> tuple[Any, ...]:
        """Rows and objects that the commit will change."""
        return self._changed(1)

    @property
    def deleted(self) -> tuple[Any, ...]:
        """Rows and objects that the commit will delete."""
        return self._changed(2)

    def before_commit(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` at the start of each commit; an exception in it stops the commit."""
        self._hooks["before_commit"].append(fn)

    def after_commit(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` after each commit that succeeded."""
        self._hooks["after_commit"].append(fn)

    def after_rollback(self, fn: Callable[[], Any]) -> None:
        """Call `fn()` after each rollback."""
        self._hooks["after_rollback"].append(fn)

    def _run_hooks(self, name: str) -> None:
        for fn in self._hooks[name]:
            fn()


class _Alone:
    """Holds off a second thread, which is told so."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise UsageError("the session is used by another thread at this moment", hint="one session for each thread")

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> Any:
    """`value`, or UsageError if it is none of those allowed."""
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}; it must be one of {', '.join(map(repr, allowed))}")
    return value


def _has_changes(part: Part) -> bool:
    return any(part.changed())


def _value(encoded: Any) -> Any:
    """An encoded value or key for people: decoded if it can be."""
    try:
        return decode(encoded)
    except CodecError:
        return encoded
