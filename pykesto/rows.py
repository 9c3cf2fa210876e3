"""Rows without a schema: a table is a mapping of keys to rows, a row a mapping of columns to values."""

from __future__ import annotations

import os
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, ClassVar

from .codec import decode as decode_value
from .codec import decode_key, decode_row, encode_key, encode_row, prefix_range
from .errors import KeyExists, UsageError
from .query import Condition, Query
from .query.expressions import KeyRange
from .session import Session
from .store import KEY_BYTES_MAX, IndexDefinition, SchemaChange, Snapshot
from .store import Row as StoredRow
from .tracked import detach, tracked

_PREFIX = "t_"  # tables of rows and those of objects are apart


def names_of_tables(stored: Iterable[str]) -> tuple[str, ...]:
    """The tables of rows among stored tables, by the names that users gave them."""
    return tuple(sorted(name.removeprefix(_PREFIX) for name in stored if name.startswith(_PREFIX)))


def new_id() -> uuid.UUID:
    """A UUID of version 7 (RFC 9562): milliseconds of the clock, then 74 random bits; sorts by time."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (
        (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | (random >> 68) << 64 | 0b10 << 62 | random & ((1 << 62) - 1)
    )
    return uuid.UUID(int=value)


class Row(MutableMapping[str, Any]):
    """One row, live in its session: after a commit it reads the new snapshot, after a rollback its changes are gone.

    Nested lists, dicts and sets are tracked: a change in place is seen. Rows equal mappings by content.
    """

    __slots__ = ("__weakref__", "_columns", "_key", "_loaded", "_state", "_table", "_version")
    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __init__(self, table: Table, key: bytes) -> None:
        self._table, self._key = table, key
        self._columns: dict[str, Any] | None = None
        self._state = "clean"  # clean, dirty, new, deleted
        self._version: int | None = None
        self._loaded = -1  # the epoch of the table in which the columns were read

    @property
    def k_key(self) -> Any:
        """The key."""
        return decode_key(self._key)

    @property
    def k_version(self) -> int | None:
        """The number of the commit that wrote this row; None before there is one."""
        self._read()
        return self._version

    def to_dict(self) -> dict[str, Any]:
        """A plain dict of plain values."""
        return decode_row(encode_row(self._read()))

    def _read(self) -> dict[str, Any]:
        """The columns; KeyError if there is no such row."""
        table = self._table
        if self._columns is None or (self._loaded != table._epoch and not table._session._closed):
            table._load(self)
        if self._state == "deleted" or self._columns is None:
            raise KeyError(self.k_key)
        return self._columns

    def _replace(self, columns: dict[str, Any] | None) -> None:
        """Have other columns; what was read out of the old ones can't be changed any more."""
        if self._columns is not None:
            detach(self._columns.values())
        self._columns = columns

    def _k_touch(self) -> None:
        """Before a change of this row, or of a container in it."""
        session = self._table._session
        session._require_writable()
        if self._state == "deleted":
            raise UsageError(f"{self._table.label}[{self.k_key!r}] is deleted")
        self._read()
        if self._state == "clean":
            self._state = "dirty"
        self._table._changed_rows[self._key] = self

    def __getitem__(self, column: str) -> Any:
        return self._read()[column]

    def __setitem__(self, column: str, value: Any) -> None:
        _require_column(column)
        self._k_touch()
        columns = self._read()
        old = columns.get(column)
        if column not in columns or old is not value:  # `row["tags"] += [...]` assigns what is there already
            columns[column] = tracked(value, self)
            detach([old])

    def __delitem__(self, column: str) -> None:
        if column not in self._read():
            raise KeyError(column)
        self._k_touch()
        del self._read()[column]

    def setdefault(self, column: str, default: Any = None) -> Any:
        if column not in self._read():
            self[column] = default
        return self[column]  # the tracked copy, so that a change of it is seen

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __eq__(self, other: object) -> bool:
        return dict(self._read()) == dict(other) if isinstance(other, Mapping) else NotImplemented

    def __repr__(self) -> str:
        shown = (
            "deleted" if self._state == "deleted" else "not loaded" if self._columns is None else repr(self._columns)
        )
        return f"<Row {self._table.label}[{self.k_key!r}] {shown}>"


def _require_column(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError(f"a column's name is a str, not {type(name).__name__}")
    if not name:
        raise UsageError("a column's name must not be empty")


class Table(MutableMapping[Any, Row]):
    """A table of one session: key -> Row, in key order. Comes to be when first written to.

    Keys are scalars or tuples of them; keys that are equal in Python are one key.
    """

    def __init__(self, session: Session, name: str) -> None:
        self._session = session
        self._name = name
        self._rows: weakref.WeakValueDictionary[bytes, Row] = weakref.WeakValueDictionary()
        self._changed_rows: dict[bytes, Row] = {}  # held until the session ends
        self._epoch = 0

    @property
    def table(self) -> str:
        return _PREFIX + self._name

    @property
    def label(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"<Table {self._name!r}>"

    # The mapping

    def __getitem__(self, key: Any) -> Row:
        row = self._find(encode_key(key))
        if row is None:
            raise KeyError(key)
        return row

    def _find(self, key: bytes) -> Row | None:
        """The row of the session's view under an encoded key, or None."""
        row = self._rows.get(key)
        if row is not None and row._state in {"dirty", "new", "deleted"}:
            return None if row._state == "deleted" else row
        found = self._session._get(self.table, key)
        if found is None:
            return None
        row = self._held(key)
        if row._columns is None or row._loaded != self._epoch:
            self._fill(row, found)
        return row

    def _held(self, key: bytes) -> Row:
        """The one Row object of a key, even of a deleted row."""
        row = self._rows.get(key)
        return row if row is not None else self._adopt(key)

    def _adopt(self, key: bytes) -> Row:
        row = self._rows[key] = Row(self, key)
        return row

    def _load(self, row: Row) -> None:
        """Read a row's columns from the snapshot."""
        self._fill(row, self._session._get(self.table, row._key))

    def _fill(self, row: Row, found: StoredRow | None) -> None:
        row._loaded = self._epoch
        if found is None:
            row._replace(None)
            row._version = None
        elif found.version != row._version or row._columns is None:
            row._version = found.version
            row._replace({name: tracked(value, row) for name, value in decode_row(found.image).items()})

    def __setitem__(self, key: Any, columns: Mapping[str, Any]) -> None:
        if not isinstance(columns, Mapping):
            raise TypeError(f"a row is a mapping of columns to values, not {type(columns).__name__}")
        for name in columns:
            _require_column(name)
        self._session._require_writable()
        encoded = encode_key(key)
        if len(encoded) > KEY_BYTES_MAX:
            raise UsageError(
                f"a key of {self._name!r} takes {len(encoded)} bytes; at most {KEY_BYTES_MAX} can be stored"
            )
        existing = self._find(encoded)
        row = existing if existing is not None else self._held(encoded)
        values = {name: tracked(value, row) for name, value in columns.items()}
        encode_row(values)  # what can't be stored is refused here, before anything changes
        if existing is None:
            row._state = "new" if row._version is None else "dirty"
        elif row._state == "clean":
            row._state, row._version = "dirty", self._version_of(encoded)
        row._columns, row._loaded = values, self._epoch
        self._changed_rows[encoded] = row

    def _version_of(self, key: bytes) -> int | None:
        found = self._session._get(self.table, key)
        return None if found is None else int(found.version)

    def __delitem__(self, key: Any) -> None:
        self._session._require_writable()
        row = self._find(encode_key(key))
        if row is None:
            raise KeyError(key)
        self._delete(row)

    def _delete(self, row: Row) -> None:
        row._read()
        row._state = "deleted"
        self._changed_rows[row._key] = row

    def __contains__(self, key: object) -> bool:
        return self._find(encode_key(key)) is not None

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
            raise KeyExists(self._name, key)
        self[key] = columns
        return self[key]

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
                        f"{self._name}.{index.column} has an index with unique={index.unique} already",
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

    def item(self, key: bytes, row: StoredRow) -> Row | None:
        held = self._held(key)
        if held._state == "clean" and (held._columns is None or held._loaded != self._epoch):
            self._fill(held, row)
        return None if held._state == "deleted" else held

    def value(self, encoded: bytes) -> Any:
        return decode_value(encoded)

    def delete(self, item: Row) -> None:
        self._session._require_writable()
        self._delete(item)

    def refresh(self, row: Row) -> None:
        """Drop a row's unsaved changes."""
        if row._table is not self or row._version is None:
            raise UsageError(f"{row!r} was not loaded by this session, so there is nothing to refresh it from")
        self._changed_rows.pop(row._key, None)
        row._state = "clean"
        row._replace(None)

    def set(self, item: Row, column: str, value: Any) -> None:
        item[column] = value

    def key_of(self, item: Row) -> bytes:
        return item._key

    # As a part of its session

    def require_indexes(self) -> None:
        """None: a table has the indexes that were made by hand."""

    def changes(self) -> dict[bytes, bytes | None]:
        return {
            key: None if row._state == "deleted" else encode_row(row._columns or {})
            for key, row in self._changed_rows.items()
            if row._state != "deleted" or row._version is not None
        }

    def changed(self) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
        rows = self._changed_rows.values()
        new, dirty, deleted = (tuple(r for r in rows if r._state == state) for state in ("new", "dirty", "deleted"))
        return new, dirty, deleted

    def committed(self, number: int) -> None:
        self._epoch += 1
        for row in self._changed_rows.values():
            row._version = None if row._state == "deleted" else number
            if row._state != "deleted":
                row._state = "clean"
            else:
                self._rows.pop(row._key, None)
        self._changed_rows.clear()

    def rolled_back(self) -> None:
        self._epoch += 1
        self.restore(None)

    def save(self) -> dict[bytes, tuple[Row, str, bytes]]:
        return {key: (row, row._state, encode_row(row._columns or {})) for key, row in self._changed_rows.items()}

    def restore(self, saved: dict[bytes, tuple[Row, str, bytes]] | None) -> None:
        self._undo({key: row for key, row in self._changed_rows.items() if not saved or key not in saved})
        for key, (row, state, image) in (saved or {}).items():
            row._state, row._loaded = state, self._epoch
            row._replace({name: tracked(value, row) for name, value in decode_row(image).items()})
            self._changed_rows[key] = self._rows[key] = row

    def _undo(self, changed: dict[bytes, Row]) -> None:
        for key, row in changed.items():
            del self._changed_rows[key]
            if row._version is None:
                self._rows.pop(key, None)
                row._state = "deleted"
            else:
                row._state, row._version = "clean", None
                row._replace(None)

    def readable_key(self, key: bytes) -> Any:
        return decode_key(key)
