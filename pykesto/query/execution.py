"""One run of a query: an index or a scan finds keys, rows are read in batches, and come out in order as they are found.

The run is fixed when it begins: its snapshot, and the session's own changes at that moment. It reads no more rows than
what is taken from it asks for: along an index in the wanted order, or in the order of keys, it stops early.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from heapq import merge, nsmallest
from itertools import chain, islice
from typing import Any, Generic, Protocol, TypeVar

from ..store import Row, Snapshot
from ._plans import Plan, Walk, shown_index
from ._question import Question
from ._ranges import KEY_COLUMNS
from ._run import Order, all_of, core_at, groups, matcher, passing, sort_keys
from .expressions import And, Condition, Exists, Match, Not

T = TypeVar("T")

FIRST_BATCH = 32
LAST_BATCH = 1024
SCAN_WARNING = 10_000  # rows that a scan tested, to find less than a tenth

_log = logging.getLogger("pykesto")
_warned: set[tuple[str, str]] = set()


class Rows(Protocol):
    """The table of a query, as the session sees it."""

    @property
    def table(self) -> str: ...

    @property
    def label(self) -> str: ...

    def snapshot(self) -> Snapshot: ...

    def pending(self) -> Iterable[tuple[bytes, bytes | None]]: ...

    def observe(self, condition: Condition) -> None: ...

    def item(self, key: bytes, row: Row) -> Any: ...

    def key_of(self, item: Any) -> bytes: ...


class Execution(Question, Generic[T]):
    """A query, about to run, whose rows are looked at."""

    __slots__ = ()

    # Finding

    def matches(self) -> Iterator[Match]:
        """All that match, in order, within offset and limit."""
        return islice(self._ordered(self.enough), self.offset, self.enough)

    def all(self) -> list[Match]:
        """As `matches`, at once."""
        keys = self.exact_keys()
        return list(self.matches()) if keys is None else self._passing(keys, None)

    def _ordered(self, enough: int | None) -> Iterator[Match]:
        own = self._filtered(self.own(matcher(self.condition))) if self.pending else []
        if self.by_key:
            return self._in_key_order(own, enough, down=self.down)
        walk = self.walk()
        if walk is not None and self.walk_is_cheaper(walk):
            return self._along(walk, own, enough)
        return iter(self._sorted(own, enough))

    def _in_key_order(self, own: list[Match], enough: int | None, *, down: bool) -> Iterator[Match]:
        lo, hi = self.plan.keys.lo, self.plan.keys.hi
        if self.after is not None:
            key = self.after[0]
            if down:
                hi = key if hi is None else min(hi, key)
            else:
                lo = key + b"\0" if lo is None else max(lo, key + b"\0")
            own = [match for match in own if (match[0] < key if down else match[0] > key)]
        own.sort(key=lambda match: match[0], reverse=down)
        stored = self._read(self._key_batches(lo, hi, enough, down=down))
        return merge(stored, own, key=lambda match: match[0], reverse=down) if own else stored

    def _key_batches(
        self, lo: bytes | None, hi: bytes | None, enough: int | None, *, down: bool
    ) -> Iterator[list[bytes]]:
        """The keys of candidates in order, lo <= key < hi."""
        access = self.plan.access
        if access is None:
            return self.snapshot.scan_keys(self.table, lo, hi, reverse=down)
        keys = access.found()
        if lo is not None or hi is not None:
            keys = [key for key in keys if (lo is None or key >= lo) and (hi is None or key < hi)]
        if enough is not None and not self.plan.rest and not self.filters and not self.pending:
            keys = sorted(keys, reverse=down)[:enough] if down else nsmallest(enough, keys)
        else:
            sort_keys(keys, down)
        return _batches(keys)

    def _read(self, batches: Iterable[list[bytes]]) -> Iterator[Match]:
        """The matches among candidates, in their order."""
        return chain.from_iterable(self._read_some(batches))

    def _read_some(self, batches: Iterable[list[bytes]]) -> Iterator[list[Match]]:
        rest = all_of(self.plan.rest)
        for keys in batches:
            yield self._passing(keys, rest)
        self._warn_of_a_scan()

    def _passing(self, keys: list[bytes], rest: Any) -> list[Match]:
        if self.pending:
            keys = [key for key in keys if key not in self.pending]
        found = passing(keys, self.snapshot.get_many(self.table, keys), rest)
        self.tested += len(keys)
        self.found += len(found)
        return self._filtered(found)

    def _filtered(self, found: list[Match]) -> list[Match]:
        return [match for match in found if self._passes(match)] if self.filters else found

    def _passes(self, match: Match) -> bool:
        """A function's answer for an item, where errors that missing or odd attributes bring mean no match."""
        item = self.source.item(*match)
        try:
            return item is not None and all(test(item) for test in self.filters)
        except (AttributeError, TypeError, LookupError):
            return False

    # Order

    def _sorted(self, own: list[Match], enough: int | None) -> list[Match]:
        """All matches, read and sorted."""
        order = Order(self.order)
        keys = self.plan.keys
        found = order.decorated([*own, *self._read(self._key_batches(keys.lo, keys.hi, None, down=False))])
        if self.after is not None:
            place = order.of(*self.after)
            found = [one for one in found if one[0] > place]
        if enough is not None and enough * 8 < len(found):
            return [match for _, match in nsmallest(enough, found, key=_place)]
        found.sort(key=_place)
        return [match for _, match in found]

    def _along(self, walk: Walk, own: list[Match], enough: int | None) -> Iterator[Match]:
        """The matches along an index. Where rows may be missing there, they come last, in a descending order."""
        if walk.complete and not own and self.after is None:
            return self._read_along(walk, enough)
        order = Order(self.order)
        found: Iterator[tuple[bytes, Match]] = (
            (order.of(match[0], match[1].image), match) for match in self._read_along(walk, enough)
        )
        if not walk.complete:
            found = chain(found, self._without_value(order))
        if own:
            found = merge(found, sorted(order.decorated(own), key=_place), key=_place)
        if self.after is not None:
            place = order.of(*self.after)
            found = (one for one in found if one[0] > place)
        return (match for _, match in found)

    def _read_along(self, walk: Walk, enough: int | None) -> Iterator[Match]:
        column, down = self.order[0].removeprefix("-"), self.down
        covered = [*map(id, walk.covered)]
        rest = all_of([part for part in self.parts if id(part) not in covered])
        lo, hi = self._bounds(walk, column, down=down)
        entries = self.snapshot.find(self.table, walk.index, lo, hi, reverse=down)
        for keys, alone in _gathered(groups(entries, len(walk.prefix), walk.joined), enough):
            found = self._passing(keys, rest)
            if not alone:  # rows with equal values are sorted by what comes next
                found = [match for _, match in sorted(Order(self.order).decorated(found), key=_place)]
            yield from found

    def _bounds(self, walk: Walk, column: str, *, down: bool) -> tuple[bytes, bytes]:
        """Where to walk: from the item on after which the answer begins."""
        if self.after is None:
            return walk.lo, walk.hi
        core = core_at(column, *self.after)
        if not core or core[0] > _LAST_SCALAR:
            return walk.lo, walk.hi
        prefix = walk.prefix
        if down:
            return walk.lo, min(walk.hi, prefix + core + b"\x10")
        return max(walk.lo, prefix + core), walk.hi

    def _without_value(self, order: Order) -> Iterator[tuple[bytes, Match]]:
        """The matches that have no value in the first column of the order."""
        column = self.order[0].removeprefix("-")
        lacking = And((self.condition, Not(Exists(column))))
        rest = all_of([lacking])
        keys = self.plan.keys
        found = [
            match
            for batch in self._key_batches(keys.lo, keys.hi, None, down=False)
            for match in self._passing(batch, rest)
        ]
        yield from sorted(order.decorated(found), key=_place)

    # Words

    def explain(self, shown: Callable[[str], str]) -> str:
        """How the query would be run."""
        how: Plan = self.plan
        if how.access is not None:
            by = how.access.told(shown)
        elif how.keys.lo is not None or how.keys.hi is not None:
            by = f"keys in a range, about {how.expected}"
        else:
            by = f"scan of the whole table, about {how.rows} rows"
        order = self._explained_order(shown)
        rest = " and ".join(map(str, how.rest))
        return by + (f"; each row is checked: {rest}" if rest else "; no row is checked") + order

    def _explained_order(self, shown: Callable[[str], str]) -> str:
        if not self.order or self.order[0].removeprefix("-") in KEY_COLUMNS:
            return "; in the order of keys"
        names = ", ".join("-" * term.startswith("-") + shown(term.removeprefix("-")) for term in self.order)
        walk = self.walk()
        if walk is not None and self.walk_is_cheaper(walk):
            index = shown_index(self.snapshot, self.table, walk.index, shown)
            return f"; read along the index on {index!r}, in the order of {names}"
        return f"; sorted by {names}"

    def _warn_of_a_scan(self) -> None:
        """Once for each question of a table: rows were tested that an index would have spared."""
        if self.plan.access is not None or self.tested < SCAN_WARNING or self.found * 10 > self.tested:
            return
        question = (self.source.label, ", ".join(_columns_of(self.plan.rest)))
        if question[1] and question not in _warned:
            _warned.add(question)
            _log.warning(
                "a query on %s read %d rows to find %d: an index on %s would help; explain() tells",
                question[0],
                self.tested,
                self.found,
                question[1],
            )


_LAST_SCALAR = 0xCA


def _columns_of(conditions: Iterable[Condition]) -> list[str]:
    names = (getattr(condition, "column", None) for condition in conditions)
    return list(dict.fromkeys(name for name in names if isinstance(name, str)))


def _batches(keys: list[bytes]) -> Iterator[list[bytes]]:
    """In lists that grow: whoever takes a few reads a few."""
    at, size = 0, FIRST_BATCH
    while at < len(keys):
        yield keys[at : at + size]
        at, size = at + size, min(size * 2, LAST_BATCH)


def _gathered(found: Iterator[list[bytes]], enough: int | None) -> Iterator[tuple[list[bytes], bool]]:
    """Whole groups, several together, so that rows are read many at a time; and whether each is of one."""
    size = FIRST_BATCH if enough is None else max(1, min(enough, LAST_BATCH))
    keys: list[bytes] = []
    alone = True
    for group in found:
        alone = alone and len(group) == 1
        keys += group
        if len(keys) >= size:
            yield keys, alone
            keys, alone, size = [], True, min(size * 2, LAST_BATCH)
    if keys:
        yield keys, alone


def _place(one: tuple[bytes, Match]) -> bytes:
    return one[0]
