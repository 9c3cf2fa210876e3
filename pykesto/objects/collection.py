"""Find objects that nothing reaches, and remove them, while others work.

An object is reached from the root, from the objects of classes with an extent, and along references. First all rows
are followed at one snapshot; then, in the transaction that deletes, what was written since. Ids are kept in a file in
order, and beside them, in memory, a byte for each object and a stack.
"""

from __future__ import annotations

import mmap
import tempfile
import uuid
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..codec import Reference, decode, decode_key, decode_row, find_column
from ..query.expressions import All
from ..store import SCOPE_COLUMN, Snapshot
from .entries import TABLE as ENTRIES
from .persistent import Persistent
from .space import TABLE, ObjectSpace

if TYPE_CHECKING:
    from .session import ObjectSession

ID_BYTES = 16
BATCH = 5000
_SCOPE = SCOPE_COLUMN.encode()


@dataclass(frozen=True, slots=True)
class Collected:
    """What `Database.collect` found: how many objects there are, how many nothing reaches, and ids of some of these."""

    objects: int
    unreachable: int
    some: tuple[uuid.UUID, ...]


class Marks:
    """All objects of a snapshot, in the order of their ids, and which of them are reached."""

    def __init__(self, space: ObjectSpace, snapshot: Snapshot) -> None:
        self._space = space
        self._file = tempfile.TemporaryFile(prefix="pykesto.")  # noqa: SIM115  closed by close()
        count = 0
        for key, _ in snapshot.scan(TABLE):
            self._file.write(space.id_of(key))
            count += 1
        self._file.flush()
        self.count = count
        self.reached = bytearray(count)
        self._ids = mmap.mmap(self._file.fileno(), 0) if count else b""

    def close(self) -> None:
        if self.count:
            self._ids.close()  # type: ignore[union-attr]
        self._file.close()

    def id(self, at: int) -> bytes:
        return bytes(self._ids[at * ID_BYTES : (at + 1) * ID_BYTES])

    def place(self, id: bytes) -> int:
        """Where an id is; -1 if it is not there."""
        lo, hi = 0, self.count
        while lo < hi:
            middle = (lo + hi) // 2
            found = self.id(middle)
            if found == id:
                return middle
            lo, hi = (middle + 1, hi) if found < id else (lo, middle)
        return -1

    def follow(self, snapshot: Snapshot, begin: Iterator[bytes]) -> None:
        """Mark these objects, and all that they reach."""
        stack = array("q")

        def reach(id: bytes) -> None:
            at = self.place(id)
            if at >= 0 and not self.reached[at]:
                self.reached[at] = 1
                stack.append(at)

        for id in begin:
            reach(id)
            for found in references(self._space, snapshot, id):  # of what was reached before, too: it may be new
                reach(found)
            while stack:
                for found in references(self._space, snapshot, self.id(stack.pop())):
                    reach(found)

    def unreached(self) -> Iterator[bytes]:
        return (self.id(at) for at in range(self.count) if not self.reached[at])


def references(space: ObjectSpace, snapshot: Snapshot, id: bytes) -> list[bytes]:
    """The ids that an object refers to, in its attributes and, of a large container, in its entries."""
    found: list[bytes] = []
    row = snapshot.get(TABLE, space.row_key(id))
    if row is None:
        return found
    decode_row(row.image, found.append)
    if space._catalog.kind(_number(row.image)).name.startswith("k."):
        lo, hi = space.entries.range_of_id(id)
        for key, entry in snapshot.scan(ENTRIES, lo, hi):
            decode_row(entry.image, found.append)
            own = decode_key(key)[1]
            if isinstance(own, Reference):
                found.append(own.id)
    return found


def _number(image: bytes) -> int:
    number: int = decode(find_column(image, _SCOPE) or b"")
    return number


def _roots(space: ObjectSpace, snapshot: Snapshot, since: int, *, from_root_only: bool) -> Iterator[bytes]:
    """The ids of the objects written after a version that are reached by themselves."""
    kept: dict[int, bool] = {}
    for key, row in snapshot.scan(TABLE):
        if row.version <= since:
            continue
        number = _number(row.image)
        if number not in kept:
            kind = space._catalog.kind(number)
            kept[number] = kind.name == "k.Root" or (not from_root_only and kind.cls._k_extent)
        if kept[number]:
            yield space.id_of(key)


def _written(space: ObjectSpace, snapshot: Snapshot, since: int) -> Iterator[bytes]:
    """The ids of all objects that were written, or had an entry written, after a version."""
    for key, row in snapshot.scan(TABLE):
        if row.version > since:
            yield space.id_of(key)
    for key, row in snapshot.scan(ENTRIES):
        if row.version > since:
            yield decode_key(key)[0].bytes


def mark(session: ObjectSession, *, from_root_only: bool) -> tuple[Marks, int]:
    """What is reached in the session's snapshot, and that snapshot's number."""
    space = session._objects
    snapshot = space.snapshot()
    marks = Marks(space, snapshot)
    marks.follow(snapshot, _roots(space, snapshot, -1, from_root_only=from_root_only))
    return marks, session.version


def sweep(session: ObjectSession, marks: Marks, since: int, count: int) -> int:
    """Delete some objects that are not reached; how many. What was written since counts as reached."""
    space = session._objects
    snapshot = space.snapshot()
    marks.follow(snapshot, _written(space, snapshot, since))
    session._observe(TABLE, All())  # whoever writes an object meanwhile may refer to one of these
    session._observe(ENTRIES, All())
    deleted = 0
    for id in marks.unreached():
        obj: Any = space.get(id)
        if obj is not None and deleted < count:
            _delete(space, obj)
            deleted += 1
    return deleted


def _delete(space: ObjectSpace, obj: Persistent) -> None:
    if type(obj)._k_deleted is not None:
        obj._k_deleted()  # type: ignore[misc]
    space.drop(obj)


def collect(
    run: Callable[[Callable[[ObjectSession], Any]], Any], reader: ObjectSession, *, dry_run: bool, from_root_only: bool
) -> Collected:
    """Mark with one session, sweep with others."""
    with reader:
        marks, since = mark(reader, from_root_only=from_root_only)
    try:
        lost = [uuid.UUID(bytes=id) for id, _ in zip(marks.unreached(), range(100), strict=False)]
        unreachable = marks.reached.count(0)
        while not dry_run and run(lambda s: sweep(s, marks, since, BATCH)):
            pass
        return Collected(marks.count, unreachable, tuple(lost))
    finally:
        marks.close()
