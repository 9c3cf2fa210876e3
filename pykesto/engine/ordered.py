"""A sorted set that is written far more often than it is read.

Items gather unsorted and are sorted in when somebody looks, so that following the journal costs next to nothing while
no query needs the order.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any

_FEW = 64  # so many are put in one by one; more are sorted in at once


class Ordered:
    """A sorted set of comparable, hashable items. Its owner locks; `between` returns a copy."""

    def __init__(self) -> None:
        self._all: set[Any] = set()
        self._sorted: list[Any] = []
        self._new: list[Any] = []  # in `_all`, not yet in `_sorted`
        self._gone: set[Any] = set()  # not in `_all` any more, still in `_sorted` or `_new`

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
            self._new.append(item)

    def discard(self, item: Any) -> None:
        """Take an item out, if it is there."""
        if item in self._all:
            self._all.remove(item)
            self._gone.add(item)
            if len(self._gone) > len(self._all) + _FEW:
                self._sorted, self._new = sorted(self._all), []
                self._gone.clear()

    def _sort(self) -> None:
        if len(self._new) <= _FEW:
            for item in self._new:
                insort(self._sorted, item)
        else:
            self._sorted += self._new
            self._sorted.sort()
        self._new = []

    def between(self, lo: Any = None, hi: Any = None) -> list[Any]:
        """The items with lo <= item < hi, in order; None leaves that side open."""
        self._sort()
        begin = 0 if lo is None else bisect_left(self._sorted, lo)
        end = len(self._sorted) if hi is None else bisect_left(self._sorted, hi)
        found = self._sorted[begin:end]
        return [item for item in found if item not in self._gone] if self._gone else found
