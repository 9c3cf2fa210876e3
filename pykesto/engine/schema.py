"""The tables and their indexes, as the commits of the journal change them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..store import IndexDefinition, SchemaChange


class Schema:
    """Table -> its indexes. A table comes to be with its first row or index."""

    def __init__(self, tables: Mapping[str, tuple[IndexDefinition, ...]]) -> None:
        self.known = {table: {_name(index): index for index in indexes} for table, indexes in tables.items()}

    def apply(self, changes: Iterable[SchemaChange], rows: Mapping[str, Mapping[bytes, bytes | None]]) -> None:
        """Take in a commit: its schema changes, and the tables that it wrote to (a dropped one, only deletions)."""
        for change in changes:
            if change.kind == "create_index":
                self._create(self.known.setdefault(change.table, {}), change.index)
            elif change.kind == "drop_index":
                self.known.get(change.table, {}).pop(_name(change.index), None)
            else:
                self.known.pop(change.table, None)
        for table, images in rows.items():
            if table not in self.known and any(image is not None for image in images.values()):
                self.known[table] = {}

    def _create(self, indexes: dict[tuple[str, str], IndexDefinition], index: IndexDefinition) -> None:
        known = indexes.get(_name(index))
        if known is not None:
            index = replace(index, scope=tuple(dict.fromkeys(known.scope + index.scope)))
        indexes[_name(index)] = index

    def indexes(self, table: str) -> tuple[IndexDefinition, ...]:
        return tuple(self.known.get(table, {}).values())

    def tables(self) -> dict[str, tuple[IndexDefinition, ...]]:
        return {table: tuple(indexes.values()) for table, indexes in self.known.items()}


def _name(index: IndexDefinition) -> tuple[str, str]:
    return index.name, index.owner
