"""Rows without a schema: a table is a mapping of keys to rows, a row a mapping of columns to values.

What a table does for each key and row is compiled, in `_rows.pyx`.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

from ._rows import PREFIX, Row, TableCore
from .codec import decode as decode_value
from .codec import decode_key, encode_key, prefix_range
from .errors import KeyExists, UsageError
from .query import Condition, Query
from .query.expressions import KeyRange
from .store import IndexDefinition, SchemaChange, Snapshot

__all__ = ["PREFIX", "Row", "Table", "names_of_tables", "new_id"]


def names_of_tables(stored: Iterable[str]) -> tuple[str, ...]:
    """The tables of rows among stored tables, by the names that users gave them."""
    return tuple(sorted(name.removeprefix(PREFIX) for name in stored if name.startswith(PREFIX)))


def new_id() -> uuid.UUID:
    """A UUID of version 7 (RFC 9562): milliseconds of the clock, then 74 random bits; sorts by time."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (
        (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | (random >> 68) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
    )
    return uuid.UUID(int=value)


class Table(TableCore, MutableMapping[Any, Row]):
    """A table of one session: key -> Row, in key order. Comes to be when first written to.

    Keys are scalars or tuples of them; keys that are equal in Python are one key.

    Example:
        >>> import pykesto
        >>> with pykesto.temporary() as db, db.transaction() as s:
        ...     people = s.table("people")
        ...     people["ann"] = {"name": "Ann", "age": 40}
        ...     people["ann"]["age"] += 1
        ...     people["ann"].to_dict()
        {'name': 'Ann', 'age': 41}
    """

    __slots__ = ()

    def __len__(self) -> int:
        return self.query.count()

    def __iter__(self) -> Iterator[Any]:
        return (decode_key(key) for key, _ in self.query.walk())

    def __bool__(self) -> bool:
        return self.query.exists()

    def range(self, lo: Any = None, hi: Any = None, prefix: Any = None, reverse: bool = False) -> Iterator[Row]:
        """The rows with lo <= key < hi, or whose str or bytes key starts with `prefix`, in key order."""
        begin, end = prefix_range(prefix) if prefix is not None else (None, None)
        begin = begin if lo is None else max(encode_key(lo), begin or b"")
        end = end if hi is None else min(encode_key(hi), end or b"\xff")
        found = Query(self, KeyRange(begin, end)).order_by("-k_key" if reverse else "k_key")
        return iter(found)

    def insert(self, key: Any, columns: Mapping[str, Any]) -> Row:
        """Add a row under a key that must not be there: KeyExists otherwise."""
        if key in self:
            raise KeyExists(self.label, key)
        self[key] = columns
        return self[key]

    def setdefault(self, key: Any, default: Mapping[str, Any] = {}) -> Row:
        """The row of a key, once it was set to `default` if there was none."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: Any, *default: Any) -> Any:
        """Delete a row and return what it was, a plain dict; `default`, or KeyError, if there is none."""
        row = self.get(key)
        if row is None:
            if default:
                return default[0]
            raise KeyError(key)
        found = row.to_dict()
        self.delete(row)
        return found

    def popitem(self) -> tuple[Any, Any]:
        """Delete the first row and return its key and what it was; KeyError if there is none."""
        for key in self:
            return key, self.pop(key)
        raise KeyError(f"{self!r} is empty")

    def add(self, columns: Mapping[str, Any]) -> uuid.UUID:
        """Add a row under a new UUID of version 7, and return that. Never conflicts."""
        key = new_id()
        self[key] = columns
        return key

    def add_many(self, rows: Iterable[Mapping[str, Any]]) -> list[uuid.UUID]:
        """`add` each; the new keys in order."""
        return [self.add(columns) for columns in rows]

    # Indexes

    def create_index(self, *columns: str, unique: bool = False) -> None:
        """Index a column from the next commit on, in every process. Does nothing if there is the same index.

        `unique`: no two rows may have an equal value; missing and None never collide. UniqueViolation at commit.
        """
        if len(columns) != 1 or "." in columns[0]:
            raise UsageError(f"an index on {columns!r}: only indexes on one plain column are supported so far")
        for index in self.indexes():
            if index.column == columns[0]:
                if index.unique != unique:
                    raise UsageError(
                        f"{self.label}.{index.column} has an index with unique={index.unique} already",
                        hint="drop it first",
                    )
                return
        self._session._change_schema(SchemaChange("create_index", self.table, IndexDefinition(columns[0], unique)))

    def drop_index(self, column: str) -> None:
        """Drop the index of a column; KeyError if there is none."""
        if all(index.column != column for index in self.indexes()):
            raise KeyError(column)
        self._session._change_schema(SchemaChange("drop_index", self.table, IndexDefinition(column)))

    def indexes(self) -> tuple[IndexDefinition, ...]:
        """The indexes of the table: `.column`, `.unique`."""
        found = dict.fromkeys(self._session._begin().indexes(self.table))
        for change in self._session._schema:
            if change.table == self.table and change.kind == "create_index":
                found[change.index] = None
            elif change.table == self.table:
                found = {index: None for index in found if index.column != change.index.column}
        return tuple(found)

    # As a source of queries

    @property
    def query(self) -> Query[Row]:
        """A query over all rows: `people.query.col("age").ge(18)`."""
        return Query(self)

    def snapshot(self) -> Snapshot:
        return self._session._begin()

    def require_same(self, snapshot: Snapshot) -> None:
        self._session._require_same(snapshot)

    def require_own(self, operand: Any) -> None:
        """Rows hold values, which belong to nobody."""

    def pending(self) -> Iterable[tuple[bytes, bytes | None]]:
        return self.changes().items()

    def observe(self, condition: Condition) -> None:
        self._session._observe(self.table, condition)

    def value(self, encoded: bytes) -> Any:
        return decode_value(encoded)

    def set(self, item: Row, column: str, value: Any) -> None:
        item[column] = value
