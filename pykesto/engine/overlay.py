"""What was committed since the base: every version of every row that a snapshot here may still need.

One process's copy, made by following the journal. `version` is the number of the newest commit applied. Rows are
chains of versions, newest first. Ordered maps of keys and of indexed values serve scans and queries; they hold a
superset (entries of older versions too), so whoever uses them looks at the visible row again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ..codec import find_column
from ..store import IndexDefinition, SchemaChange
from .content import Commit
from .manifest import Mark
from .ordered import Ordered
from .schema import Schema


@dataclass(slots=True)
class Version:
    """A row as a commit left it (image None: deleted), and the version before, as far as it is kept."""

    number: int
    image: bytes | None
    older: Version | None


@dataclass(frozen=True, slots=True)
class Applied:
    """A commit in the overlay: its number, the keys it changed, and what it says of itself."""

    number: int
    keys: tuple[tuple[str, bytes], ...]
    about: dict[str, Any]


@dataclass(slots=True)
class Table:
    """One table's part of the overlay."""

    rows: dict[bytes, Version] = field(default_factory=dict)
    keys: Ordered = field(default_factory=Ordered)
    indexes: dict[str, Ordered] = field(default_factory=dict)


class Overlay:
    """All versions since `mark`, of all tables."""

    def __init__(self, mark: Mark, schema: dict[str, tuple[IndexDefinition, ...]]) -> None:
        self.mark = mark  # nothing before it is here
        self.version = mark.version
        self.schema = Schema(schema)
        self.tables: dict[str, Table] = {}
        self.log: deque[Applied] = deque()
        self.bytes = 0
        self._lock = threading.RLock()  # around the ordered maps, which readers copy from
        for table, indexes in schema.items():
            for index in indexes:
                self._build_index(table, index.column)

    def table(self, name: str) -> Table:
        found = self.tables.get(name)
        if found is None:
            found = self.tables[name] = Table()
        return found

    # Applying commits

    def apply(self, number: int, commit: Commit) -> None:
        """Take in the commit `number`, the next in the journal."""
        with self._lock:
            self.schema.apply(commit.schema, commit.rows)
            for change in commit.schema:
                self._change_maps(change)
            for name, rows in commit.rows.items():
                table = self.table(name)
                for key, image in rows.items():
                    self._put(table, key, Version(number, image, table.rows.get(key)))
            keys = tuple((name, key) for name, rows in commit.rows.items() for key in rows)
            self.log.append(Applied(number, keys, commit.about))
        self.version = number

    def _put(self, table: Table, key: bytes, version: Version) -> None:
        table.rows[key] = version
        table.keys.add(key)
        self.bytes += len(key) + len(version.image or b"")
        for column, entries in table.indexes.items():
            if (value := column_value(version.image, column)) is not None:
                entries.add((value, key))

    def _change_maps(self, change: SchemaChange) -> None:
        """Keep an ordered map for each index. A dropped table needs no more: the commit deletes its rows."""
        if change.kind == "create_index":
            self._build_index(change.table, change.index.column)
        elif change.kind == "drop_index":
            if all(index.column != change.index.column for index in self.indexes(change.table)):
                self.table(change.table).indexes.pop(change.index.column, None)
        else:
            self.table(change.table).indexes.clear()

    def _build_index(self, name: str, column: str) -> None:
        table, entries = self.table(name), Ordered()
        if column in table.indexes:
            return  # one map serves all rules for a column
        for key, newest in table.rows.items():
            for version in _chain(newest):
                if (value := column_value(version.image, column)) is not None:
                    entries.add((value, key))
        table.indexes[column] = entries

    # Reading

    def visible(self, table: str, key: bytes, version: int) -> Version | None:
        """The newest version of the row that is not newer than `version`; None: look in the base."""
        found = self.tables.get(table)
        row = found.rows.get(key) if found else None
        while row is not None and row.number > version:
            row = row.older
        return row

    def newest(self, table: str, key: bytes) -> Version | None:
        return self.visible(table, key, self.version)

    def keys_between(self, table: str, lo: bytes | None, hi: bytes | None) -> list[bytes]:
        with self._lock:
            found = self.tables.get(table)
            return found.keys.between(lo, hi) if found else []

    def index_between(self, table: str, column: str, lo: bytes, hi: bytes) -> list[tuple[bytes, bytes]] | None:
        """The (value, key) entries with lo <= value < hi; None if there is no such index (any more)."""
        with self._lock:
            found = self.tables.get(table)
            entries = found.indexes.get(column) if found else None
            return None if entries is None else entries.between((lo,), (hi,))

    def indexed(self, table: str, column: str) -> bool:
        found = self.tables.get(table)
        return found is not None and column in found.indexes

    def indexes(self, table: str) -> tuple[IndexDefinition, ...]:
        return self.schema.indexes(table)

    def since(self, version: int) -> Iterator[Applied]:
        """The commits after `version`, newest first."""
        for applied in reversed(self.log):
            if applied.number <= version:
                return
            yield applied

    # Forgetting

    def forget(self, mark: Mark) -> None:
        """Drop what the base at `mark` holds: every version up to it. No snapshot on an older base may be left."""
        with self._lock:
            while self.log and self.log[0].number <= mark.version:
                for name, key in self.log.popleft().keys:
                    self._forget_key(self.tables[name], key, mark.version)
            self.mark = mark

    def _forget_key(self, table: Table, key: bytes, version: int) -> None:
        newest = table.rows.get(key)
        if newest is None:
            return
        kept = [v for v in _chain(newest) if v.number > version]
        gone = [v for v in _chain(newest) if v.number <= version]
        if kept:
            kept[-1].older = None
        else:
            del table.rows[key]
            table.keys.discard(key)
        for column, entries in table.indexes.items():
            stay = {column_value(v.image, column) for v in kept}
            for value in {column_value(v.image, column) for v in gone} - stay - {None}:
                entries.discard((value, key))
        self.bytes -= sum(len(key) + len(v.image or b"") for v in gone)


def _chain(version: Version | None) -> Iterator[Version]:
    while version is not None:
        yield version
        version = version.older


def column_value(image: bytes | None, column: str) -> bytes | None:
    """The encoded value of a column, or None where there is none, or no row."""
    return None if image is None else find_column(image, column.encode())
