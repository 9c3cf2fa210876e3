"""A sorted set that is written far more often than it is read.

Items gather unsorted and are sorted in when somebody looks, so that following the journal costs next to nothing while
no query needs the order.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any

_FEW = 64


class Ordered:
    """A sorted set of comparable, hashable items. Its owner locks; `between` returns a copy."""

    def __init__(self) -> None:
        self._all: set[Any] = set()
        # In order, and not yet sorted in: one tuple, so that an interrupt never leaves an item in both.
        self._items: tuple[list[Any], list[Any]] = [], []
        self._gone: set[Any] = set()  # not in `_all` any more, but still among the items

    def __len__(self) -> int:
        return len(self._all)

    def add(self, item: Any) -> None:
        """Add an item, if it is not there."""
        if item in self._all:
            return
        self._all.add(item)
        if item in self._gone:
            self._gone.remove(item)
        else:
            self._items[1].append(item)

    def discard(self, item: Any) -> None:
        """Take an item out, if it is there."""
        if item in self._all:
            self._all.remove(item)
            self._gone.add(item)
            if len(self._gone) > len(self._all) + _FEW:
                self._items, self._gone = (sorted(self._all), []), set()

    def _in_order(self) -> list[Any]:
        """All items in order, those that are gone among them."""
        ordered, new = self._items
        if not new:
            return ordered
        if len(new) < _FEW:
            made = ordered.copy()
            for item in new:
                insort(made, item)
        else:
            made = sorted(ordered + new)  # two sorted runs and a few items: timsort merges them
        self._items = made, []
        return made

    def between(self, lo: Any = None, hi: Any = None) -> list[Any]:
        """The items with lo <= item < hi, in order; None leaves that side open."""
        ordered = self._in_order()
        begin = 0 if lo is None else bisect_left(ordered, lo)
        end = len(ordered) if hi is None else bisect_left(ordered, hi)
        found = ordered[begin:end]
        return [item for item in found if item not in self._gone] if self._gone else found
