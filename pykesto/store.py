"""The narrow waist: what sessions ask of a store, and nothing more.

    snapshot() -> get, scan, find        one version of the whole database
    commit(snapshot, reads, writes)      validate and write, atomically

Tables are named by str, keys and row images are bytes whose meaning is the codec's. A version is a number that only
grows and is opaque above the waist. Everything above runs unchanged on any store.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, Protocol

from ._stored import Reads as Reads
from ._stored import Row as Row
from ._stored import Writes as Writes

Durability = Literal["full", "process"]
Isolation = Literal["serializable", "snapshot"]
IndexKind = Literal["value", "each", "text", "references"]


SCOPE_COLUMN = "_"
KEY_BYTES_MAX = 1 << 16


@dataclass(frozen=True)
class IndexDefinition:
    """An index of a table.

    `column`: a column or a path into nested values, or a tuple of several. `kind`: "value", "each" element of a list,
    tuple or set, the words of a "text", or the "references" in a value, at any depth. `where`: only rows
    that have this column.

    `unique`: no two rows have an equal value there. With a `scope` that goes for rows whose SCOPE_COLUMN is one of
    these numbers, on behalf of `owner`, and several owners may have rules of their own for one column.
    """

    column: str | tuple[str, ...]
    unique: bool = False
    owner: str = ""
    scope: tuple[int, ...] = ()
    kind: IndexKind = "value"
    where: str = ""

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns or paths, also of an index on one."""
        return (self.column,) if isinstance(self.column, str) else self.column

    @cached_property
    def is_plain(self) -> bool:
        """Whether its entries are the values of one column as they are stored."""
        return self.kind == "value" and not self.where and isinstance(self.column, str) and "." not in self.column

    @cached_property
    def name(self) -> str:
        """What names its entries: the same for all rules of one column."""
        return index_name(self.columns, self.kind, self.where)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> IndexDefinition:
        column = fields["column"]
        return cls(
            **fields | {"scope": tuple(fields["scope"]), "column": column if isinstance(column, str) else tuple(column)}
        )


@cache
def index_name(columns: tuple[str, ...], kind: IndexKind = "value", where: str = "") -> str:
    """The name of an index: `age`, `address.city`, `city, age`, `tags (each)`, `bio (text)`, `age where vip`."""
    name = ", ".join(re.sub(r"[\\,( ]", r"\\\g<0>", column) for column in columns)
    return name + ("" if kind == "value" else f" ({kind})") + (f" where {where}" if where else "")


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """Create or drop an index, or drop a table whose rows the same commit deletes.

    Creating what exists alike, or dropping what is not there, does nothing. Of an owner's rule for a column the scope
    becomes that of both.
    """

    kind: Literal["create_index", "drop_index", "drop_table"]
    table: str
    index: IndexDefinition = IndexDefinition("")

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> SchemaChange:
        return cls(fields["kind"], fields["table"], IndexDefinition.from_json(fields["index"]))


class Predicate(Protocol):
    """What a query asked of a table, kept to be asked again of rows that change. Must not run users' code."""

    @property
    def table(self) -> str: ...

    def matches(self, key: bytes, image: bytes) -> bool: ...


@dataclass(frozen=True, slots=True)
class Merge:
    """How rows of a table may be merged with what other commits made of them; see `pykesto.merging`.

    `rows` has, for rows whose session changed only columns with a policy, the policies of all its columns that have
    one, and what was done to each: an encoded operand, by the column's policy: what was added (counter, set_add), or
    the value written (max, min, last; None: the column was taken out).
    """

    rows: dict[bytes, tuple[dict[str, str], dict[str, bytes | None]]]


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms to commit: whether and what to validate, when it is done, how long to wait, and a note."""

    force: bool = False
    isolation: Isolation = "serializable"
    durability: Durability = "full"
    lock_timeout_s: float | None = 10.0
    note: str | None = None


class Snapshot(Protocol):
    """One version of the whole database. Reading takes no lock and waits for nobody."""

    @property
    def version(self) -> int: ...

    def get(self, table: str, key: bytes) -> Row | None: ...

    def scan(
        self, table: str, lo: bytes | None = None, hi: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Row]]:
        """The rows with lo <= key < hi, in key order."""
        ...

    def scan_keys(
        self, table: str, lo: bytes | None = None, hi: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[list[bytes]]:
        """The keys with lo <= key < hi, in order, in batches. Some may have no row."""
        ...

    def get_many(self, table: str, keys: list[bytes]) -> list[Row | None]:
        """The row of each key."""
        ...

    def columns_of(self, table: str, keys: list[bytes]) -> list[dict[str, Any] | None]:
        """The columns of each key's row as a dict of plain values."""
        ...

    def find(
        self, table: str, index: str, lo: bytes, hi: bytes, *, reverse: bool = False
    ) -> Iterator[list[tuple[bytes, bytes]]]:
        """The entries (term, key) of an index with lo <= term < hi, in batches, in the order of terms.

        What they say is true of the rows of this snapshot, and complete. Within a term keys are in no order.
        """
        ...

    def keys(self, table: str, index: str, lo: bytes, hi: bytes) -> list[bytes]:
        """The keys of the entries that `find` gives."""
        ...

    def keys_of_both(self, table: str, one: tuple[str, bytes, bytes], other: tuple[str, bytes, bytes]) -> list[bytes]:
        """The keys that are in each of two ranges (index, lo, hi), where no key is twice in one."""
        ...

    def count(self, table: str, index: str, lo: bytes | None = None, hi: bytes | None = None) -> int:
        """How many entries `find` would give; of the index "", how many rows have lo <= key < hi."""
        ...

    def estimate(self, table: str, index: str, lo: bytes | None = None, hi: bytes | None = None) -> int:
        """About what `count` would give, at little cost."""
        ...

    def lacks(self, table: str, index: str) -> bool:
        """Whether some row may have no entry in an index of one column."""
        ...

    def indexed(self, table: str, index: str) -> bool:
        """Whether the index of that name can be asked."""
        ...

    def indexes(self, table: str) -> tuple[IndexDefinition, ...]: ...

    def tables(self) -> tuple[str, ...]: ...

    def about(self, number: int) -> dict[str, Any]:
        """Who made a commit, when and why, as fields of a `Conflict`; empty where that is not known (any more)."""
        ...

    def close(self) -> None: ...


class Store(Protocol):
    """A database that sessions run on."""

    def snapshot(self) -> Snapshot: ...

    def commit(self, snapshot: Snapshot, reads: Reads, writes: Writes, terms: Terms) -> int:
        """Validate and write; return the commit's number. On ConcurrencyConflict nothing was written."""
        ...
