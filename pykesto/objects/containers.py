"""Dicts, sets and counters for millions of entries. Changes of different entries do not conflict.

They are objects of their own, referred to as any other. Each entry is a row. `len` counts, so it takes time, and
conflicts with entries that others add or remove; `if container:` looks at one entry.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, MutableMapping, MutableSet, ValuesView
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ._objects import DELETED, new_id
from .entries import GONE
from .persistent import Persistent

if TYPE_CHECKING:
    from .entries import Entries


class _Container(Persistent, name="k.Container", extent=False):
    """What all containers share. Before one is added to a session its entries are in memory."""

    def __init__(self) -> None:
        self.__dict__["_v_early"] = []

    def _k_added(self) -> None:
        """The container has an id now: its entries get theirs."""
        for change in self.__dict__.pop("_v_early", ()):
            change()

    def _k_deleted(self) -> None:
        self._entries.clear(self)

    @property
    def _entries(self) -> Entries:
        if self._k_space is None:
            raise UsageError(
                f"{self!r} is in no session, so its entries can't be looked at", hint="s.add() it, or what refers to it"
            )
        found: Entries = self._k_space.entries  # type: ignore[attr-defined]
        return found

    def _change(self, change: Any) -> None:
        """Do it, or put it off until there is an id."""
        if self._k_space is None:
            self.__dict__.setdefault("_v_early", []).append(change)
        else:
            change()

    def _write(self, key: bytes, value: Any) -> None:
        if self._k_state == DELETED:
            raise UsageError(f"{self!r} is deleted")
        self._entries.set(key, value)

    def _items(self, **bounds: Any) -> Iterator[tuple[bytes, Any]]:
        return self._entries.between(self, **bounds)

    def _between(self, lo: Any, hi: Any, *, reverse: bool) -> Iterator[tuple[bytes, Any]]:
        """The entries with lo <= key < hi."""
        ends = [None if end is None else self._entries.key(self, end) for end in (lo, hi)]
        return self._items(lo=ends[0], hi=ends[1], reverse=reverse)

    def __len__(self) -> int:
        return sum(1 for _ in self._items())

    def __bool__(self) -> bool:
        return next(iter(self._items()), None) is not None

    def clear(self) -> None:
        """Remove all entries."""
        self._entries.clear(self)

    __eq__ = object.__eq__
    __hash__ = object.__hash__


class PersistentDict(_Container, MutableMapping[Any, Any], name="k.Dict", extent=False):
    """A dict in key order. Keys are scalars, tuples of them, or objects; values are anything that can be stored.

    Example:
        >>> import pykesto
        >>> with pykesto.temporary() as db, db.transaction() as s:
        ...     s.root["ages"] = ages = pykesto.PersistentDict({"bob": 30, "ann": 40, "eve": 20})
        ...     list(ages), ages["ann"], list(ages.range("b", "f"))
        (['ann', 'bob', 'eve'], 40, [('bob', 30), ('eve', 20)])
    """

    def __init__(self, items: Any = ()) -> None:
        super().__init__()
        self.update(items)

    def __getitem__(self, key: Any) -> Any:
        value = self._entries.get(self._entries.key(self, key))
        if value is GONE:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self._change(lambda: self._write(self._entries.key(self, key), value))

    def __delitem__(self, key: Any) -> None:
        encoded = self._entries.key(self, key)
        if self._entries.get(encoded) is GONE:
            raise KeyError(key)
        self._write(encoded, GONE)

    def __contains__(self, key: object) -> bool:
        return self._entries.get(self._entries.key(self, key)) is not GONE

    def __iter__(self) -> Iterator[Any]:
        return (self._entries.own_key(key) for key, _ in self._items())

    def __reversed__(self) -> Iterator[Any]:
        return (self._entries.own_key(key) for key, _ in self._items(reverse=True))

    def items(self) -> ItemsView[Any, Any]:
        """The pairs of key and value, in key order."""
        return _Items(self)

    def values(self) -> ValuesView[Any]:
        """The values, in key order."""
        return _Values(self)

    def copy(self) -> dict[Any, Any]:
        """A plain dict of the entries."""
        return dict(self.items())

    def __ior__(self, other: Any) -> PersistentDict:
        self.update(other)
        return self

    def range(self, lo: Any = None, hi: Any = None, *, reverse: bool = False) -> Iterator[tuple[Any, Any]]:
        """The pairs of key and value with lo <= key < hi, in key order."""
        return ((self._entries.own_key(key), value) for key, value in self._between(lo, hi, reverse=reverse))

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]  # the tracked copy, so that a change of it is seen


class _Items(ItemsView[Any, Any]):
    """Reads keys and values together, in place of each by itself."""

    _mapping: PersistentDict

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping.range()

    def __reversed__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping.range(reverse=True)


class _Values(ValuesView[Any]):
    _mapping: PersistentDict

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._items())

    def __reversed__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._items(reverse=True))


class PersistentSet(_Container, MutableSet[Any], name="k.Set", extent=False):
    """A set, in order. Its items are scalars, tuples of them, or objects."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__()
        self.update(items)

    @classmethod
    def _from_iterable(cls, items: Iterable[Any]) -> set[Any]:
        return set(items)  # what operators give is a plain set

    def add(self, item: Any) -> None:
        self._change(lambda: self._write(self._entries.key(self, item), None))

    def update(self, *others: Iterable[Any]) -> None:
        """Add all items of others."""
        for items in others:
            for item in list(items):
                self.add(item)

    def difference_update(self, *others: Iterable[Any]) -> None:
        """Discard all items of others."""
        for items in others:
            for item in list(items):
                self.discard(item)

    def copy(self) -> set[Any]:
        """A plain set of the items."""
        return set(self)

    def __reversed__(self) -> Iterator[Any]:
        return (self._entries.own_key(key) for key, _ in self._items(reverse=True))

    def discard(self, item: Any) -> None:
        encoded = self._entries.key(self, item)
        if self._entries.get(encoded) is not GONE:
            self._write(encoded, GONE)

    def __contains__(self, item: object) -> bool:
        return self._entries.get(self._entries.key(self, item)) is not GONE

    def __iter__(self) -> Iterator[Any]:
        return (self._entries.own_key(key) for key, _ in self._items())

    def range(self, lo: Any = None, hi: Any = None, *, reverse: bool = False) -> Iterator[Any]:
        """The items with lo <= item < hi, in order."""
        return (self._entries.own_key(key) for key, _ in self._between(lo, hi, reverse=reverse))


class PersistentCounter(_Container, name="k.Counter", extent=False):
    """A number that any number of sessions add to at once, without conflicts. `value` adds up what they added.

    Example:
        >>> import pykesto
        >>> db = pykesto.temporary()
        >>> with db.transaction() as s:
        ...     s.root["visits"] = pykesto.PersistentCounter()
        >>> with db.session() as one, db.session() as other:
        ...     for s in one, other:
        ...         s.root["visits"].add(1)
        ...     _ = one.commit(), other.commit()
        >>> with db.session() as s:
        ...     s.root["visits"].value
        2
        >>> db.close()
    """

    def __init__(self, value: Any = 0) -> None:
        super().__init__()
        if value:
            self.add(value)

    def add(self, amount: Any = 1) -> None:
        self._change(lambda: self._write(self._entries.key(self, new_id(0)), amount))

    @property
    def value(self) -> Any:
        return sum(value for _, value in self._items())

    def compact(self) -> None:
        """Put one entry in place of all: conflicts with another session that does so, and with none that adds."""
        entries = list(self._items(observed=False))
        for key, _ in entries:
            self._write(key, GONE)
        self.add(sum(value for _, value in entries))

    def __repr__(self) -> str:
        return Persistent.__repr__(self)
