"""The tables and their indexes, as the commits of the journal change them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ..store import IndexDefinition, SchemaChange


class Schema:
    """Table -> its indexes. A table comes to be with its first row or index."""

    def __init__(self, tables: Mapping[str, tuple[IndexDefinition, ...]]) -> None:
        self._tables = {table: dict.fromkeys(indexes) for table, indexes in tables.items()}

    def apply(self, changes: Iterable[SchemaChange], rows: Mapping[str, Mapping[bytes, bytes | None]]) -> None:
        """Take in a commit: its schema changes, and the tables that it wrote to (a dropped one, only deletions)."""
        for change in changes:
            if change.kind == "create_index":
                self._tables.setdefault(change.table, {})[IndexDefinition(change.column, change.unique)] = None
            elif change.kind == "drop_index":
                indexes = self._tables.get(change.table, {})
                self._tables[change.table] = {i: None for i in indexes if i.column != change.column}
            else:
                self._tables.pop(change.table, None)
        for table, images in rows.items():
            if table not in self._tables and any(image is not None for image in images.values()):
                self._tables[table] = {}

    def indexes(self, table: str) -> tuple[IndexDefinition, ...]:
        return tuple(self._tables.get(table, ()))

    def tables(self) -> dict[str, tuple[IndexDefinition, ...]]:
        return {table: tuple(indexes) for table, indexes in self._tables.items()}
