"""The tables and their indexes, as the commits of the journal change them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..store import IndexDefinition, SchemaChange


class Schema:
    """Table -> its indexes. A table comes to be with its first row or index."""

    def __init__(self, tables: Mapping[str, tuple[IndexDefinition, ...]]) -> None:
        self._tables = {table: {_name(index): index for index in indexes} for table, indexes in tables.items()}

    def apply(self, changes: Iterable[SchemaChange], rows: Mapping[str, Mapping[bytes, bytes | None]]) -> None:
        """Take in a commit: its schema changes, and the tables that it wrote to (a dropped one, only deletions)."""
        for change in changes:
            if change.kind == "create_index":
                self._create(self._tables.setdefault(change.table, {}), change.index)
            elif change.kind == "drop_index":
                self._tables.get(change.table, {}).pop(_name(change.index), None)
            else:
                self._tables.pop(change.table, None)
        for table, images in rows.items():
            if table not in self._tables and any(image is not None for image in images.values()):
                self._tables[table] = {}

    def _create(self, indexes: dict[tuple[str, str], IndexDefinition], index: IndexDefinition) -> None:
        known = indexes.get(_name(index))
        if known is not None:
            index = replace(index, scope=tuple(dict.fromkeys(known.scope + index.scope)))
        indexes[_name(index)] = index

    def has_all(self, tables: Iterable[str]) -> bool:
        """Whether all of these tables have come to be."""
        return self._tables.keys() >= set(tables)

    def indexes(self, table: str) -> tuple[IndexDefinition, ...]:
        return tuple(self._tables.get(table, {}).values())

    def tables(self) -> dict[str, tuple[IndexDefinition, ...]]:
        return {table: tuple(indexes.values()) for table, indexes in self._tables.items()}


def _name(index: IndexDefinition) -> tuple[str, str]:
    return index.column, index.owner
