"""A sorted set in chunks: inserting moves a few hundred items, not all of them."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import Any

_CHUNK = 512


class Ordered:
    """A sorted set of comparable items. Its owner locks; `between` returns a copy."""

    def __init__(self) -> None:
        self._chunks: list[list[Any]] = []
        self._last: list[Any] = []  # the greatest item of each chunk
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def _chunk_of(self, item: Any) -> int:
        return min(bisect_left(self._last, item), len(self._chunks) - 1)

    def add(self, item: Any) -> None:
        """Add an item, if it is not there."""
        if not self._chunks:
            self._chunks, self._last, self._size = [[item]], [item], 1
            return
        i = self._chunk_of(item)
        chunk = self._chunks[i]
        at = bisect_left(chunk, item)
        if at < len(chunk) and chunk[at] == item:
            return
        insort(chunk, item)
        self._size += 1
        if len(chunk) > 2 * _CHUNK:
            self._chunks[i : i + 1] = [chunk[:_CHUNK], chunk[_CHUNK:]]
            self._last[i : i + 1] = [chunk[_CHUNK - 1], chunk[-1]]
        else:
            self._last[i] = chunk[-1]

    def discard(self, item: Any) -> None:
        """Take an item out, if it is there."""
        if not self._chunks:
            return
        i = self._chunk_of(item)
        chunk = self._chunks[i]
        at = bisect_left(chunk, item)
        if at == len(chunk) or chunk[at] != item:
            return
        del chunk[at]
        self._size -= 1
        if chunk:
            self._last[i] = chunk[-1]
        else:
            del self._chunks[i], self._last[i]

    def between(self, lo: Any = None, hi: Any = None) -> list[Any]:
        """The items with lo <= item < hi; None leaves that side open."""
        found: list[Any] = []
        if not self._chunks:
            return found
        for i in range(0 if lo is None else self._chunk_of(lo), len(self._chunks)):
            chunk = self._chunks[i]
            begin = 0 if lo is None else bisect_left(chunk, lo)
            end = len(chunk) if hi is None else bisect_left(chunk, hi)
            found += chunk[begin:end]
            if end < len(chunk):
                break
        return found
