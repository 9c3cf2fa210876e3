"""Unique indexes: would two rows share a value?

Asked under commit.lock of the newest state, whatever the isolation. The final state counts, so that two rows may swap
values in one commit. Missing values, None and NaN never collide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ..codec import is_scalar_encoding, range_of
from ..codec._codec import decode_stored
from ..codec.terms import UNORDERED, component, terms, value_at
from ..errors import UniqueViolation
from ..store import SCOPE_COLUMN, IndexDefinition, Writes
from .snapshot import BaseSnapshot

Value = tuple[bytes, ...]  # one for each column: what equal values have in common


def check_unique(newest: BaseSnapshot, writes: Writes) -> None:
    """Raise UniqueViolation if, with these writes, two rows of a table would share a unique value."""
    dropped = {(c.table, c.index.name, c.index.owner) for c in writes.schema if c.kind == "drop_index"}
    for table, rows in writes.rows.items():
        for index in newest.indexes(table):
            if index.unique and (table, index.name, index.owner) not in dropped:
                for value, key in _values_in(table, index, rows).items():
                    _require_free(newest, table, index, value, key, rows)
    for change in writes.schema:
        if change.kind == "create_index" and change.index.unique:
            every: dict[bytes, bytes | None] = {key: row.image for key, row in newest.scan(change.table)}
            every |= writes.rows.get(change.table, {})
            _values_in(change.table, _with_known_scope(newest, change.table, change.index), every)


def _with_known_scope(newest: BaseSnapshot, table: str, index: IndexDefinition) -> IndexDefinition:
    """The rule as it will be: what is there already goes on to count."""
    scopes = (i.scope for i in newest.indexes(table) if (i.name, i.owner) == (index.name, index.owner))
    return replace(index, scope=index.scope + next(scopes, ()))


def _values_in(table: str, index: IndexDefinition, rows: dict[bytes, bytes | None]) -> dict[Value, bytes]:
    """The unique values in `rows`, and the key that has each; UniqueViolation if one is there twice."""
    values: dict[Value, bytes] = {}
    for key, image in rows.items():
        for value in _values_of(image, index):
            if values.setdefault(value, key) != key:
                raise _violation(table, index, image, value, values[value])
    return values


def _values_of(image: bytes | None, index: IndexDefinition) -> Iterator[Value]:
    """What no other row may have too; nothing for rows out of the rule's scope."""
    if image is None or not _in_scope(image, index) or (index.where and value_at(image, index.where) is None):
        return
    if index.kind == "each":
        yield from ((term,) for term in terms(image, index) if term != UNORDERED)
        return
    value = tuple(_same(value_at(image, column)) for column in index.columns)
    if all(value):
        yield value


def _in_scope(image: bytes, index: IndexDefinition) -> bool:
    if not index.scope:
        return True
    scope = value_at(image, SCOPE_COLUMN)
    return scope is not None and decode_stored(scope) in index.scope


def _same(encoded: bytes | None) -> bytes:
    """What values equal to this one have in common; nothing for those that collide with none."""
    if encoded is None or not is_scalar_encoding(encoded):
        return encoded or b""
    value = decode_stored(encoded)
    lo, hi = range_of(value)
    return b"" if value is None or lo == hi else lo


def _require_free(
    newest: BaseSnapshot, table: str, index: IndexDefinition, value: Value, key: bytes, rows: dict[bytes, bytes | None]
) -> None:
    for other in _candidates(newest, table, index, value):
        if other not in rows:
            row = newest.get(table, other)
            if row is not None and value in _values_of(row.image, index):
                raise _violation(table, index, rows[key], value, other)


def _candidates(newest: BaseSnapshot, table: str, index: IndexDefinition, value: Value) -> Iterator[bytes]:
    """The keys of rows that may have the value."""
    if not newest.indexed(table, index.name):
        for keys in newest.scan_keys(table):
            yield from keys
    else:
        yield from newest.keys(table, index.name, *_terms_with(index, value))


def _terms_with(index: IndexDefinition, value: Value) -> tuple[bytes, bytes]:
    """The range of the terms under which rows with that value are listed."""
    if len(value) > 1:
        term = b"".join(map(component, value))
        return term, term + b"\0"
    if index.kind == "each" or not is_scalar_encoding(value[0]):
        term = value[0] if index.is_plain or index.kind == "each" else UNORDERED
        return term, term + b"\0"
    return range_of(decode_stored(value[0]))


def _violation(table: str, index: IndexDefinition, image: bytes | None, value: Value, other: bytes) -> UniqueViolation:
    """With the encoded value that is there twice, or those of several columns."""
    if index.kind == "each" or image is None:
        return UniqueViolation(index.owner or table, index.column, value[0], other)
    found = tuple(value_at(image, column) for column in index.columns)
    return UniqueViolation(index.owner or table, index.column, found[0] if len(found) == 1 else found, other)
