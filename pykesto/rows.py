"""Rows without a schema: a table is a mapping of keys to rows, a row a mapping of columns to values.

What a table does for each key and row is compiled, in `_rows.pyx`.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Literal, cast

from ._rows import MERGES, PREFIX, Row, TableCore, TableSession, require_column, use_for_tables
from .codec import decode as decode_value
from .codec import decode_key, decode_row, encode_key, prefix_range
from .errors import KeyExists, UsageError
from .merging import POLICIES
from .query import Query
from .query._ranges import KEY_COLUMNS
from .query.expressions import KeyRange
from .session import Session, one_of
from .store import IndexDefinition, IndexKind, SchemaChange

__all__ = ["PREFIX", "Row", "Table", "TableSession", "names_of_tables", "new_id"]


MergePolicy = Literal["counter", "max", "min", "set_add", "last"]


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
        if prefix is not None and not isinstance(prefix, (str, bytes)):
            raise TypeError(f"a prefix is a str or bytes, not {type(prefix).__name__}")
        begin, end = prefix_range(prefix) if prefix is not None else (None, None)
        begin = begin if lo is None else max(encode_key(lo), begin or b"")
        end = end if hi is None else min(encode_key(hi), end or b"\xff")
        asked = {"lo": lo, "hi": hi, "prefix": prefix}
        text = f"range({', '.join(f'{name}={value!r:.60}' for name, value in asked.items() if value is not None)})"
        found = Query(self, KeyRange(begin, end, text)).order_by("-k_key" if reverse else "k_key")
        return iter(found)

    def insert(self, key: Any, columns: Mapping[str, Any]) -> Row:
        """Add a row under a key that must not be there: KeyExists otherwise."""
        if key in self:
            raise KeyExists(self.label, key)
        self[key] = columns
        return self[key]

    def setdefault(self, key: Any, default: Mapping[str, Any] = {}) -> Row:
        """The row of a key, once it was set to `default` if there was none."""
        row: Row | None = self.get(key)
        if row is None:
            self[key] = default
            row = self[key]
            self.set_beginning(row)
        return row

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

    # Merging

    def merge(self, column: str, policy: MergePolicy | None) -> None:
        """Let commits that change `column` of one row at the same time go together, in place of a conflict.

        The policy is stored with the next commit, for all processes. It goes for rows that a session read, or got by
        `setdefault`, and changed in columns with policies only: what it did is done to the row as another commit left
        it. What else the session made of the value that it read is then not checked.

        Args:
            policy: "counter": add what was added to a number. "max", "min": keep the greater, or lesser, of values
                that only rise, or fall. "set_add": keep what was added to a set. "last": the later commit wins.
                None: no policy any more.

        Example:
            >>> import pykesto
            >>> with pykesto.temporary() as db:
            ...     with db.transaction() as s:
            ...         s.table("pages").merge("hits", "counter")
            ...         s.table("pages")["home"] = {"hits": 0}
            ...     with db.session() as one, db.session() as other:
            ...         for session in one, other:
            ...             session.table("pages")["home"]["hits"] += 1
            ...         numbers = one.commit(), other.commit()
            ...     with db.session() as s:
            ...         s.table("pages")["home"]["hits"]
            2
        """
        require_column(column)
        if policy is not None:
            one_of("policy", policy, POLICIES)
        if self.merges().get(column) == policy:
            return
        row = _policies(self._session).setdefault(self.table)
        if policy is None:
            del row[column]
        else:
            row[column] = policy

    def merges(self) -> dict[str, str]:
        """The policies of columns: `{"hits": "counter"}`."""
        if MERGES in self._session._parts:
            row = _policies(self._session).get(self.table)
            return {} if row is None else row.to_dict()
        # That it was read is not remembered: a commit by an older policy is none the worse.
        found = self._session._begin().get(MERGES, encode_key(self.table))
        return {} if found is None else decode_row(found.image)

    # Indexes

    def create_index(
        self, *columns: str, unique: bool = False, kind: IndexKind = "value", where: str | None = None
    ) -> None:
        """Index columns from the next commit on, in every process. Does nothing if there is the same index.

        Args:
            columns: a column, a path into nested dicts (`address.city`), or several, of which the first serve alone.
            unique: no two rows may have an equal value; missing, None and NaN never collide. UniqueViolation at commit.
            kind: "value"; "each" element of a list, tuple, set or frozenset, for `contains`; the words of a "text",
                for `has_words`.
            where: leave out rows that lack this column. Serves queries with a condition on it.

        Example:
            >>> import pykesto
            >>> with pykesto.temporary() as db, db.transaction() as s:
            ...     people = s.table("people")
            ...     people.create_index("email", unique=True)
            ...     people.create_index("address.city", "age")
            ...     people.create_index("tags", kind="each")
            ...     [index.name for index in people.indexes()]
            ['email', 'address.city, age', 'tags (each)']
        """
        made = _definition(columns, unique, kind, where or "")
        for index in self.indexes():
            if index.name == made.name:
                if index.unique != unique:
                    raise UsageError(
                        f"{self.label}.{index.name} has an index with unique={index.unique} already",
                        hint="drop it first",
                    )
                return
        self._session._change_schema(SchemaChange("create_index", self.table, made))

    def drop_index(self, *columns: str, kind: IndexKind | None = None, where: str | None = None) -> None:
        """Drop the index on some columns; KeyError if there is none. `kind`, `where`: which, if there are more."""
        found = [
            index
            for index in self.indexes()
            if index.columns == columns and kind in (None, index.kind) and where in (None, index.where)
        ]
        if not found:
            raise KeyError(columns[0] if len(columns) == 1 else columns)
        if len({index.name for index in found}) > 1:
            names = " and ".join(repr(index.name) for index in found)
            raise UsageError(f"{self.label} has the indexes {names}", hint="say which, with kind= or where=")
        self._session._change_schema(SchemaChange("drop_index", self.table, found[0]))

    def indexes(self) -> tuple[IndexDefinition, ...]:
        """The indexes of the table: `.column` (a tuple for several), `.unique`, `.kind`, `.where`, `.name`."""
        found = dict.fromkeys(self._session._begin().indexes(self.table))
        for change in self._session._schema:
            if change.table == self.table and change.kind == "create_index":
                found[change.index] = None
            elif change.table == self.table:
                found = {index: None for index in found if index.name != change.index.name}
        return tuple(found)

    # As a source of queries

    @property
    def query(self) -> Query[Row]:
        """A query over all rows: `people.query.col("age").ge(18)`."""
        return Query(self)

    def require_own(self, operand: Any) -> None:
        """Rows hold values, which belong to nobody."""

    def value(self, encoded: bytes) -> Any:
        return decode_value(encoded)

    def set(self, item: Row, column: str, value: Any) -> None:
        item[column] = value


use_for_tables(Table)


class _EveryColumn(dict[str, str]):
    """The same policy for each column that there may be."""

    def get(self, column: str, default: Any = None) -> Any:
        return "last"

    __getitem__ = get

    def __contains__(self, column: object) -> bool:
        return True


class _Policies(Table):
    """The policies of all tables: that several workers declare the same when they start is no conflict."""

    def merges(self) -> dict[str, str]:
        return _EveryColumn({"": "last"})


def _policies(session: Session) -> _Policies:
    found = session._parts.get(MERGES)
    if found is None:
        found = session._parts[MERGES] = _Policies(session, MERGES, "")
    return cast(_Policies, found)


def forget_policies(table: Table) -> None:
    """Drop the policies of a table that goes away."""
    _policies(table._session).pop(table.table, None)


def _definition(columns: tuple[str, ...], unique: bool, kind: IndexKind, where: str) -> IndexDefinition:
    """An index, or UsageError."""
    for column in (*columns, where) if where else columns:
        if not isinstance(column, str):
            raise TypeError(f"a column's name is a str, not {type(column).__name__}")
        if not column:
            raise UsageError("a column's name must not be empty")
        if column in KEY_COLUMNS:
            raise UsageError(f"{column} is the key, and keys are in order anyway", hint="no index is needed")
    if not columns or len(set(columns)) < len(columns):
        raise UsageError(f"an index on {columns!r}: it needs a column, and each of several but once")
    if kind not in ("value", "each", "text"):
        raise UsageError(f"kind is {kind!r}; it must be 'value', 'each' or 'text'")
    if kind != "value" and len(columns) > 1:
        raise UsageError(f"an index on {columns!r} of {kind}: only one column can be taken apart")
    if kind == "text" and unique:
        raise UsageError("words of a text can't be unique")
    return IndexDefinition(columns[0] if len(columns) == 1 else columns, unique, kind=kind, where=where)
