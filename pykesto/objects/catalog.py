"""What the database knows of names: each class and each attribute has a number, which rows hold in place of the name.

Names are only ever added, in commits of their own, before the rows that use them; so what is known once stays right,
and all sessions of a handle share it. A class has a number for each version of it that objects were stored in.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..codec import decode_row, encode, encode_key, encode_row, pack_columns
from ..errors import ConcurrencyConflict, CorruptionError
from ..store import SCOPE_COLUMN, Reads, Snapshot, Store, Terms, Writes
from ._objects import is_own
from .persistent import Generic, Persistent, generic_class
from .registry import on_change, resolve

TABLE = "names"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # of one case: an index's column is part of a file's name
_TERMS = Terms(isolation="snapshot", durability="process")  # the commit that uses a name makes it durable with itself


def column_of(number: int) -> str:
    """The column of the attribute with that number."""
    text = _DIGITS[number % 36]
    while number := number // 36:
        text = _DIGITS[number % 36] + text
    return text


@dataclass(slots=True, eq=False)
class Kind:
    """A stored class, in one version."""

    number: int
    name: str
    versions: tuple[tuple[str, int], ...]  # of the class and those above it, by name, where they are above 1
    bases: tuple[str, ...]
    column: bytes  # the packed column that names it
    resolved: type[Persistent] | None = None

    @property
    def cls(self) -> type[Persistent]:
        """The class of its objects; Generic if no imported module defines it."""
        if self.resolved is None:
            self.resolved = resolve(self.name, generic_class)
        return self.resolved

    def version_of(self, cls: type[Persistent]) -> int:
        """The version of a class, or of one above it, that the objects were stored in."""
        versions = dict(self.versions)
        return max((versions[name] for name in cls._k_names if name in versions), default=1)

    def is_newer_than(self, cls: type[Persistent]) -> bool:
        """Whether code that knew more than this one stored the objects."""
        known = dict(cls._k_versions)
        return any(version > known.get(name, 1) for name, version in self.versions)


class Catalog:
    """The names of one database, read as needed."""

    def __init__(self, store: Callable[[], Store]) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._attributes: list[str] = []
        self._kinds: list[Kind] = []
        self._kind_of: dict[tuple[str, tuple[tuple[str, int], ...]], Kind] = {}
        self.columns: dict[str, str] = {}  # attribute -> column
        self.names: dict[str, str] = {}  # column -> attribute
        self.current: dict[type[Persistent], Kind] = {}  # what objects of a class are stored as from now on
        self.shells: list[Any] = []  # by number of the class: what objects not yet read are made of
        self.layouts: list[Any] = []  # likewise: what rows become
        on_change(self)

    def forget_classes(self) -> None:
        """Classes were defined: what was unknown may be known now."""
        for kind in self._kinds:
            kind.resolved = None
        self.shells[:] = self.layouts[:] = [None] * len(self.shells)
        self.current.clear()

    # Reading

    def refresh(self) -> None:
        """Read what was added since."""
        with self._lock, self._newest() as snapshot:
            self._read(snapshot)

    @contextmanager
    def _newest(self) -> Iterator[Snapshot]:
        snapshot = self._store().snapshot()
        try:
            yield snapshot
        finally:
            snapshot.close()

    def _read(self, snapshot: Snapshot) -> None:
        for row in _rows_from(snapshot, "a", len(self._attributes)):
            self._learn_attribute(row["name"])
        for row in _rows_from(snapshot, "c", len(self._kinds)):
            self._learn_class(row["name"], tuple(sorted(row["versions"].items())), row["bases"])

    def _learn_attribute(self, name: str) -> None:
        name = sys.intern(name)  # as the names are that code reads attributes by
        column = column_of(len(self._attributes))
        self._attributes.append(name)
        self.names[column] = name
        self.columns[name] = column

    def _learn_class(self, name: str, versions: tuple[tuple[str, int], ...], bases: Iterable[str]) -> None:
        number = len(self._kinds)
        column = pack_columns([(SCOPE_COLUMN.encode(), encode(number))])
        kind = Kind(number, name, versions, tuple(bases), column)
        self._kinds.append(kind)
        self._kind_of[name, versions] = kind
        self.shells.append(None)
        self.layouts.append(None)

    def name(self, column: str) -> str:
        """The attribute that a column is of."""
        if column not in self.names:
            self.refresh()
        try:
            return self.names[column]
        except KeyError:
            raise CorruptionError(f"no attribute is known by the column {column!r}") from None

    def kind(self, number: int) -> Kind:
        """The stored class with that number."""
        if number >= len(self._kinds):
            self.refresh()
        try:
            return self._kinds[number]
        except IndexError:
            raise CorruptionError(f"no class is known by the number {number}") from None

    def catch_up(self, snapshot: Snapshot) -> None:
        """Know all names that a snapshot holds."""
        with self._lock:
            if snapshot.get(TABLE, encode_key(("a", len(self._attributes)))) or snapshot.get(
                TABLE, encode_key(("c", len(self._kinds)))
            ):
                self._read(snapshot)

    def known(self) -> tuple[int, int]:
        """How many classes and attributes are known."""
        return len(self._kinds), len(self._attributes)

    def kinds(self) -> tuple[Kind, ...]:
        """All that are known here; others may have been added since."""
        return tuple(self._kinds)

    def has(self, cls: type[Persistent]) -> bool:
        """Whether objects of just this class, in its version of now, were ever stored."""
        return (cls._k_name, cls._k_versions) in self._kind_of

    def outdated(self, cls: type[Persistent]) -> list[int]:
        """The numbers of what objects of the class and those below it were stored as before their last upgrade."""
        below = [kind for kind in self._kinds if issubclass(kind.cls, cls) and not issubclass(kind.cls, Generic)]
        return [kind.number for kind in below if needs_upgrade(kind, kind.cls)]

    def numbers_of(self, names: Iterable[str]) -> list[int]:
        """The numbers of classes that are stored under these names, in any version."""
        wanted = set(names)
        return [kind.number for kind in self._kinds if kind.name in wanted]

    # Adding

    def column(self, name: str, besides: Iterable[str] = ()) -> str:
        """The column of an attribute; one that is new gets a number, and so do those `besides` it."""
        found = self.columns.get(name)
        if found is None:
            self._add([n for n in dict.fromkeys([name, *besides]) if not is_own(n)], None)
            found = self.columns[name]
        return found

    def kind_of(self, read: Kind | None, cls: type[Persistent], *, add: bool = True) -> Kind:
        """What an object of a class is stored as: never as an older version than it was read as."""
        if read is not None and read.cls is cls and read.is_newer_than(cls):
            return read
        if read is not None and issubclass(cls, Generic):
            return read
        found = self._kind_of.get((cls._k_name, cls._k_versions))
        if found is None and not add and read is not None:
            return read
        if found is None:
            self._add([of.was or name for name, of in cls._k_attributes.items() if not of.transient], cls)
            found = self._kind_of[cls._k_name, cls._k_versions]
        if not issubclass(cls, Generic):
            self.current[cls] = found
        return found

    def _add(self, attributes: list[str], cls: type[Persistent] | None) -> None:
        """Give numbers to attributes and a class. Others may be at it: then theirs are taken."""
        with self._lock:
            while True:
                with self._newest() as snapshot:
                    self._read(snapshot)
                    rows = self._missing(attributes, cls)
                    if not rows:
                        return
                    try:
                        self._store().commit(snapshot, Reads(), Writes({TABLE: rows}, []), _TERMS)
                    except ConcurrencyConflict:
                        continue
                    # What was committed is read back: nothing is taken for stored that others would not find.

    def _missing(self, attributes: list[str], cls: type[Persistent] | None) -> dict[bytes, bytes | None]:
        rows: dict[bytes, bytes | None] = {}
        names = [name for name in attributes if name not in self.columns]
        for number, name in enumerate(names, len(self._attributes)):
            rows[encode_key(("a", number))] = encode_row({"name": name})
        if cls is not None and (cls._k_name, cls._k_versions) not in self._kind_of:
            bases = [base._k_name for base in cls.__mro__[1:] if issubclass(base, Persistent) and base._k_name]
            row = {"name": cls._k_name, "versions": dict(cls._k_versions), "bases": bases}
            rows[encode_key(("c", len(self._kinds)))] = encode_row(row)
        return rows


def needs_upgrade(kind: Kind, cls: type[Persistent]) -> bool:
    """Whether an upgrade of the class, or of one above it, is to be run on objects stored so."""
    if not cls._k_versions or kind.is_newer_than(cls):
        return False
    return any(base._k_version_now > kind.version_of(base) for base in cls.__mro__ if issubclass(base, Persistent))


def _rows_from(snapshot: Snapshot, what: str, number: int) -> Iterator[dict[str, Any]]:
    for _, row in snapshot.scan(TABLE, encode_key((what, number)), encode_key((what + "\uffff",))):
        yield decode_row(row.image)
