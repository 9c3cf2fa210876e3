"""A list for millions of items: each is a row under its place, and places are made between any two others.

A place is bytes: a number, in order of appending, and then whatever sets it apart from others that were made at once.
What a change depends on is what it looked at: the items up to that index, or back from the end for a negative one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, MutableSequence
from itertools import islice
from operator import index as to_index
from typing import Any

from .containers import _Container
from .entries import GONE

FIRST = 1 << 62  # the number of a list's first item: there is as much room before it as behind
_NUMBER = struct.Struct(">Q")
_COUNT = struct.Struct(">I")

_Entry = tuple[bytes, Any]  # encoded key, value


class PersistentList(_Container, MutableSequence[Any], name="k.List", extent=False):
    """A list of any length. Reaching an item by its index counts up to it, from the nearer end for a negative one.

    Whether sessions that change a list at once conflict:

    - `append`, `extend` and `insert(0, ...)` never do: all items are there, in either order.
    - What names an index or a slice (`l[2]`, `l[2:4] = ...`, `del`, `insert`, `pop`) does with changes of the items
      that it counted, and with none of later ones; from the end for `l[-1]`, `pop()` and `l[-3:]`.
    - What looks at all items (`len`, a whole loop, `remove`, `index`, `sort`, `reverse`, slices with other steps)
      does with each change.

    Example:
        >>> import pykesto
        >>> with pykesto.temporary() as db, db.transaction() as s:
        ...     s.root["queue"] = queue = pykesto.PersistentList("abc")
        ...     queue[1:2] = ["x", "y"]
        ...     queue.sort(reverse=True)
        ...     del queue[-1]
        ...     list(queue), queue[:2]
        (['y', 'x', 'c'], ['y', 'x'])
    """

    def __init__(self, items: Iterable[Any] = ()) -> None:
        super().__init__()
        self.extend(items)

    # Reading

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._items())

    def __reversed__(self) -> Iterator[Any]:
        return (value for _, value in self._items(reverse=True))

    def __contains__(self, value: object) -> bool:
        return any(item is value or item == value for item in self)

    def index(self, value: Any, start: int = 0, stop: int | None = None) -> int:
        """The index of the first item that equals `value`; ValueError if there is none."""
        items = list(self)
        start, stop, _ = slice(start, stop).indices(len(items))
        return items.index(value, start, stop)

    def count(self, value: Any) -> int:
        """How many items equal `value`."""
        return sum(1 for item in self if item is value or item == value)

    def copy(self) -> list[Any]:
        """A plain list of the items."""
        return list(self)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            return self._at(index)[1]
        if index.step in (None, 1) and index.stop is None and index.start is not None and index.start < 0:
            return [value for _, value in reversed(self._last(-index.start))]
        return [value for _, value in self._first(index)[index]]

    def _at(self, index: Any) -> _Entry:
        at = to_index(index)
        found = self._last(-at) if at < 0 else self._take(at + 1)
        if len(found) != (-at if at < 0 else at + 1):
            raise IndexError(f"{at}: the list has {len(found)} items")
        return found[-1]

    def _take(self, count: int) -> list[_Entry]:
        """The first entries; that these are they is remembered as what the session read."""
        found = list(islice(self._items(observed=False), count))
        self._observe(hi=found[-1][0] + b"\0" if len(found) == count and found else None)
        return found

    def _last(self, count: int) -> list[_Entry]:
        """The last entries, the very last first."""
        found = list(islice(self._items(reverse=True, observed=False), count))
        self._observe(lo=found[-1][0] if len(found) == count else None)
        return found

    def _observe(self, lo: bytes | None = None, hi: bytes | None = None) -> None:
        self._entries.observe(self, lo, hi)

    def _first(self, index: slice) -> list[_Entry]:
        """As many entries as a slice needs to be cut out of, and to know what comes after it."""
        start, stop = index.start or 0, index.stop
        if index.step in (None, 1) and stop is not None and start >= 0 and stop >= 0:
            return self._take(max(start, stop) + 1)
        return list(self._items())

    # Changing

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(index, slice):
            self._replace(index, list(value))
        else:
            self._write(self._at(index)[0], value)

    def _replace(self, index: slice, values: list[Any]) -> None:
        entries = self._first(index)
        start, stop, step = index.indices(len(entries))
        if step == 1:
            stop = max(start, stop)
            keys = [key for key, _ in entries[start:stop]]
            last = keys[-1] if keys else entries[start - 1][0] if start else None
            extra, values = values[len(keys) :], values[: len(keys)]
            after = entries[stop][0] if stop < len(entries) else None
            self._put_between(extra, last, after)
        else:
            keys = [key for key, _ in entries[index]]
            if len(keys) != len(values):
                raise ValueError(
                    f"attempt to assign sequence of size {len(values)} to extended slice of size {len(keys)}"
                )
        for key, value in zip(keys, values, strict=False):
            self._write(key, value)
        for key in keys[len(values) :]:
            self._write(key, GONE)

    def __delitem__(self, index: Any) -> None:
        entries = self._first(index)[index] if isinstance(index, slice) else [self._at(index)]
        for key, _ in entries:
            self._write(key, GONE)

    def append(self, value: Any) -> None:
        self._change(lambda: self._append([value]))

    def extend(self, values: Iterable[Any]) -> None:
        added = list(values)
        self._change(lambda: self._append(added))

    def _append(self, values: list[Any]) -> None:
        """Not observed: where two sessions append at once, either order will do."""
        number = self._entries.ends.get(self._k_key)
        if number is None:
            last = next(iter(self._items(reverse=True, observed=False)), None)
            number = FIRST - 1 if last is None else number_of(self._entries.own_key(last[0]))
        for number, value in enumerate(values, number + 1):  # noqa: B020
            self._put(_NUMBER.pack(number), value)
        self._entries.ends[self._k_key] = number

    def insert(self, index: Any, value: Any) -> None:
        """Put a value before the item at an index."""
        at = to_index(index)
        self._change(lambda: self._insert(at, value))

    def _insert(self, at: int, value: Any) -> None:
        if at == 0:  # not observed, as at the end
            before, after = None, next((key for key, _ in self._items(observed=False)), None)
        elif at > 0:
            found = self._take(at + 1)
            before, after = (
                (found[at - 1][0] if len(found) >= at else None),
                (found[at][0] if len(found) > at else None),
            )
        else:
            found = self._last(1 - at)
            after = found[min(-at, len(found)) - 1][0] if found else None
            before = found[-at][0] if len(found) > -at else None
        self._put_between([value], before, after)

    def _put_between(self, values: list[Any], before: bytes | None, after: bytes | None) -> None:
        if after is None:
            self._append(values)
        elif values:
            own = self._entries.own_key
            place = place_between(None if before is None else own(before), own(after))
            for count, value in enumerate(values):
                self._put(place + _COUNT.pack(count), value)

    def _put(self, place: bytes, value: Any) -> None:
        self._write(self._entries.key(self, place + os.urandom(6)), value)

    def sort(self, *, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        """Put the items in order, as list.sort does. Only those that move are written."""
        self._rearrange(lambda items: items.sort(key=key, reverse=reverse))

    def reverse(self) -> None:
        """Put the items the other way round."""
        self._rearrange(list.reverse)

    def _rearrange(self, change: Callable[[list[Any]], None]) -> None:
        entries = list(self._items())
        items = [value for _, value in entries]
        change(items)
        for (key, old), new in zip(entries, items, strict=True):
            if new is not old:
                self._write(key, new)

    def __imul__(self, times: int) -> PersistentList:
        items = list(self)
        if to_index(times) <= 0:
            self.clear()
        else:
            self.extend(items * (times - 1))
        return self


def number_of(place: bytes) -> int:
    """The number that a place begins with."""
    found: int = _NUMBER.unpack(place[:8])[0]
    return found


def place_between(before: bytes | None, after: bytes) -> bytes:
    """Bytes that sort, whatever follows them, behind `before` and before `after`."""
    if before is None:
        return _NUMBER.pack(number_of(after) - 1)
    out = bytearray()
    for at in range(max(len(before), len(after)) + 1):
        low = before[at] if at < len(before) else 0
        high = after[at] if at < len(after) else 256
        if bytes(out) < after[: len(out)]:
            high = 256
        if high - low > 1:
            return bytes(out) + bytes([(low + high) // 2])
        out.append(low)
    return bytes(out) + b"\x80"
