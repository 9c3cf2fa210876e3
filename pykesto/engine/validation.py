"""Does a commit still fit what was committed since its snapshot?

First committer wins on every row written. A serializable commit also checks what was read: rows, absences, and
predicates, each against the keys that later commits changed (precision locking: Jordan, Banerjee and Batman, 1981).
A predicate conflicts if the row matched at the session's snapshot or matches now: looking at new images alone would
miss deletions and rows that moved out.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import ConcurrencyConflict, Conflict
from ..failpoints import ACTIVE, off
from ..merging import combined, differs_elsewhere
from ..store import Isolation, Reads, Writes
from .overlay import Overlay, Version
from .snapshot import BaseSnapshot

_REPORTED = 5


Rows = dict[str, dict[bytes, bytes | None]]


def validate(snapshot: BaseSnapshot, reads: Reads, writes: Writes, isolation: Isolation) -> Rows:
    """Raise ConcurrencyConflict if a commit since `snapshot` changed what this one wrote or read.

    Returns the rows to write in place of others: those that are merged with what another commit made of them. The
    overlay stands at the journal's end. Keys in conflicts are encoded; the session makes them readable.
    """
    overlay = snapshot.overlay
    merged: Rows = {}
    if overlay.version == snapshot.version:
        return merged
    found = []
    for conflict in _conflicts(snapshot, overlay, reads, writes, isolation, merged):
        found.append(conflict)
        if len(found) == _REPORTED:
            break
    if found:
        raise ConcurrencyConflict(found)
    return merged


def with_merged(rows: Rows, merged: Rows) -> Rows:
    """The rows of a commit, those that were merged in place of what the session had."""
    return {table: {**images, **merged.get(table, {})} for table, images in rows.items()}


def _conflicts(
    snapshot: BaseSnapshot, overlay: Overlay, reads: Reads, writes: Writes, isolation: Isolation, merged: Rows
) -> Iterator[Conflict]:
    tables: list[tuple[str, set[bytes]]] = [(name, set(rows)) for name, rows in writes.rows.items()]
    if ACTIVE and off("validate.writes"):
        tables.clear()
    if isolation == "serializable":
        read = [(name, keys - set(writes.rows.get(name, ()))) for name, keys in reads.keys.items()]
        tables += [] if ACTIVE and off("validate.reads") else read
    for name, keys in tables:
        for key in keys:
            newest = overlay.newest(name, key)
            if newest is not None and newest.number > snapshot.version:
                image = _merged(snapshot, writes, name, key, newest, checked=isolation == "serializable")
                if image is None:
                    yield _conflict(snapshot, name, key, newest.number)
                else:
                    merged.setdefault(name, {})[key] = image
    if isolation == "serializable" and reads.predicates and not (ACTIVE and off("validate.predicates")):
        yield from _predicate_conflicts(snapshot, overlay, reads, merged)


def _merged(
    snapshot: BaseSnapshot, writes: Writes, table: str, key: bytes, newest: Version, *, checked: bool
) -> bytes | None:
    """A row as its session and other commits made it; None: their changes do not go together.

    What is merged was read: where that is checked, others may only have changed columns that have a policy too.
    """
    merge = writes.merges.get(table) if writes.merges else None
    if merge is None or key not in merge.rows or (image := newest.image) is None:
        return None
    policies, done = merge.rows[key]
    if checked:
        seen = snapshot.get(table, key)
        if differs_elsewhere(policies, b"" if seen is None else seen.image, image):
            return None
    return combined(policies, image, done)


def _conflict(snapshot: BaseSnapshot, table: str, key: bytes, now: int) -> Conflict:
    return Conflict(table, key, snapshot.version_of(table, key), now, **snapshot.about(now))


def _predicate_conflicts(snapshot: BaseSnapshot, overlay: Overlay, reads: Reads, merged: Rows) -> Iterator[Conflict]:
    """What was asked and would now be answered otherwise. A row that is merged may differ, but must be found still."""
    changed: dict[str, set[bytes]] = {}
    for applied in overlay.since(snapshot.version):
        for table, key in applied.keys:
            changed.setdefault(table, set()).add(key)
    for predicate in reads.predicates:
        for key in changed.get(predicate.table, ()):
            before, now = snapshot.get(predicate.table, key), overlay.newest(predicate.table, key)
            assert now is not None
            images = (None if before is None else before.image, now.image)
            if ACTIVE and off("validate.before"):
                images = (None, now.image)
            found = [image is not None and predicate.matches(key, image) for image in images]
            if any(found) and not (all(found) and key in merged.get(predicate.table, ())):
                about = snapshot.about(now.number)
                yield Conflict(predicate.table, None, snapshot.version, now.number, str(predicate), **about)
                break


def refuse_other_index(overlay: Overlay, writes: Writes) -> None:
    """Raise ConcurrencyConflict if another commit gave a column an index of the other kind since this one looked."""
    for change in writes.schema:
        for index in overlay.indexes(change.table) if change.kind == "create_index" else ():
            new = change.index
            if (index.name, index.owner) == (new.name, new.owner) and index.unique != new.unique:
                raise ConcurrencyConflict(
                    message=f"another commit created an index on {index.name} with unique={index.unique}"
                )
