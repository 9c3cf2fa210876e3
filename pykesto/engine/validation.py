"""Does a commit still fit what was committed since its snapshot?

First committer wins on every row written. A serializable commit also checks what was read: rows, absences, and
predicates, each against the keys that later commits changed (precision locking: Jordan, Banerjee and Batman, 1981).
A predicate conflicts if the row matched at the session's snapshot or matches now: looking at new images alone would
miss deletions and rows that moved out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..codec import decode, is_scalar_encoding, range_of
from ..errors import ConcurrencyConflict, Conflict, UniqueViolation
from ..failpoints import ACTIVE, off
from ..merging import combined, differs_elsewhere
from ..store import SCOPE_COLUMN, IndexDefinition, Isolation, Reads, Writes
from .overlay import Overlay, column_value
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
                image = _merged(snapshot, writes, name, key, newest.image, checked=isolation == "serializable")
                if image is None:
                    yield _conflict(snapshot, name, key, newest.number)
                else:
                    merged.setdefault(name, {})[key] = image
    if isolation == "serializable" and reads.predicates and not (ACTIVE and off("validate.predicates")):
        yield from _predicate_conflicts(snapshot, overlay, reads, merged)


def _merged(
    snapshot: BaseSnapshot, writes: Writes, table: str, key: bytes, newest: bytes | None, *, checked: bool
) -> bytes | None:
    """A row as its session and other commits made it; None: their changes do not go together.

    What is merged was read: where that is checked, others may only have changed columns that have a policy too.
    """
    merge = writes.merges.get(table) if writes.merges else None
    if merge is None or newest is None or key not in merge.rows:
        return None
    policies, done = merge.rows[key]
    if checked:
        seen = snapshot.get(table, key)
        if differs_elsewhere(policies, b"" if seen is None else seen.image, newest):
            return None
    return combined(policies, newest, done)


def _conflict(snapshot: BaseSnapshot, table: str, key: bytes, now: int) -> Conflict:
    seen = snapshot.get(table, key)
    return Conflict(table, key, seen.version if seen else 0, now, **snapshot.about(now))


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
            if (index.column, index.owner) == (new.column, new.owner) and index.unique != new.unique:
                raise ConcurrencyConflict(
                    message=f"another commit created an index on {index.column} with unique={index.unique}"
                )


def check_unique(newest: BaseSnapshot, writes: Writes) -> None:
    """Raise UniqueViolation if, with these writes, two rows of a table would share a unique value.

    `newest` is the newest snapshot, so the answer holds whatever the isolation; the final state counts, so that
    two rows may swap values in one commit.
    """
    dropped = {(c.table, c.index.column, c.index.owner) for c in writes.schema if c.kind == "drop_index"}
    for table, rows in writes.rows.items():
        for index in newest.indexes(table):
            if index.unique and (table, index.column, index.owner) not in dropped:
                _check_index(newest, table, index, rows)
    for change in writes.schema:
        if change.kind == "create_index" and change.index.unique:
            every: dict[bytes, bytes | None] = {key: row.image for key, row in newest.scan(change.table)}
            every |= writes.rows.get(change.table, {})
            _check_among(change.table, _with_known_scope(newest, change.table, change.index), every)


def _with_known_scope(newest: BaseSnapshot, table: str, index: IndexDefinition) -> IndexDefinition:
    """The rule as it will be: what is there already goes on to count."""
    scopes = (i.scope for i in newest.indexes(table) if (i.column, i.owner) == (index.column, index.owner))
    return replace(index, scope=index.scope + next(scopes, ()))


def _check_index(newest: BaseSnapshot, table: str, index: IndexDefinition, rows: dict[bytes, bytes | None]) -> None:
    for lo, hi in _check_among(table, index, rows):
        for other in _keys_with(newest, table, index, lo, hi):
            if other not in rows:
                raise UniqueViolation(index.owner or table, index.column, lo, other)


def _unique_value(image: bytes | None, index: IndexDefinition) -> bytes | None:
    """The encoded value that the rule is about; None for rows out of its scope."""
    value = column_value(image, index.column)
    if value is None or not index.scope:
        return value
    scope = column_value(image, SCOPE_COLUMN)
    return value if scope is not None and decode(scope) in index.scope else None


def _check_among(
    table: str, index: IndexDefinition, rows: dict[bytes, bytes | None]
) -> dict[tuple[bytes, bytes], bytes]:
    """The unique values in `rows`, as ranges of what equals them; UniqueViolation if one is there twice."""
    values: dict[tuple[bytes, bytes], bytes] = {}
    for key, image in rows.items():
        encoded = _unique_value(image, index)
        if encoded is None or (value := decode(encoded)) is None:
            continue  # missing and None never collide
        equal = range_of(value) if is_scalar_encoding(encoded) else (encoded, encoded + b"\0")
        if values.setdefault(equal, key) != key:
            raise UniqueViolation(index.owner or table, index.column, encoded, values[equal])
    return values


def _keys_with(newest: BaseSnapshot, table: str, index: IndexDefinition, lo: bytes, hi: bytes) -> Iterator[bytes]:
    """The keys of rows whose unique value is in lo <= value < hi."""
    indexed = newest.indexed(table, index.column)
    keys = newest.find(table, index.column, lo, hi) if indexed else (key for key, _ in newest.scan(table))
    for key in keys:
        row = newest.get(table, key)
        value = _unique_value(row.image, index) if row else None
        if value is not None and lo <= value < hi:
            yield key
