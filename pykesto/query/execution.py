"""One run of a query: an index or a scan finds keys, rows are read in batches, and come out in order as they are found.

The run is fixed when it begins: its snapshot, and the session's own changes at that moment. It reads no more rows than
what is taken from it asks for: along an index in the wanted order, or in the order of keys, it stops early.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from heapq import merge, nsmallest
from itertools import chain, islice
from typing import Any, Generic, Protocol, TypeVar

from ..errors import UsageError
from ..failpoints import ACTIVE, off
from ..store import Row, Snapshot
from ._run import Order, all_of, columns_of, core_at, groups, keys_along, matcher, passing
from .expressions import KEY_COLUMNS, And, Condition, Exists, Match, Not
from .planner import EVERY_KEY, Plan, Walk, conjuncts, merged, order_walk, plan, shown_index

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


class Execution(Generic[T]):
    """A query, about to run.

    Args:
        observed: what the session remembers to have asked; None if it is only to be explained.
        window: offset and limit.
        after: the item behind which the answer begins.
    """

    def __init__(
        self,
        source: Rows,
        condition: Condition,
        *,
        observed: Condition | None,
        filters: tuple[Callable[[T], bool], ...],
        order: tuple[str, ...],
        window: tuple[int, int | None],
        after: T | None,
    ) -> None:
        self.source, self.condition, self.filters, self.order = source, condition, filters, order
        self.offset, self.limit = window
        self.table = source.table
        self.snapshot = source.snapshot()
        if observed is not None:
            source.observe(observed)
        self.pending = {} if ACTIVE and off("query.pending") else dict(source.pending())
        self.parts = merged(conjuncts(condition))
        self.plan = plan(self.parts, self.table, self.snapshot)
        self.tested = self.found = 0
        self.after = None if after is None else self._place_of(source.key_of(after))

    def _place_of(self, key: bytes) -> tuple[bytes, bytes]:
        """The key and image of the item after which to go on."""
        image = self.pending.get(key) if key in self.pending else None
        row = None if key in self.pending else self.snapshot.get(self.table, key)
        image = row.image if row is not None else image
        if image is None or not self.condition.matches(key, image):
            raise UsageError("after(): the item is not in the query's answer any more")
        return key, image

    # Counting

    def count(self) -> int:
        """How many matches there are, from the index alone where that tells it."""
        if self.filters or self.after is not None or self.plan.rest:
            return sum(1 for _ in self.matches())
        count = self._count_stored()
        if self.pending:
            count += self._difference()
        if self.limit is None:
            return max(0, count - self.offset)
        return max(0, min(count - self.offset, self.limit))

    def _count_stored(self) -> int:
        access, keys = self.plan.access, self.plan.keys
        if access is None:
            return self.snapshot.count(self.table, "", keys.lo, keys.hi)
        if keys.lo is None and keys.hi is None:
            return access.count()
        return sum(1 for key in access.found() if keys.matches(key, b""))

    def _difference(self) -> int:
        """What the session's own changes add to the count, and take from it."""
        test = matcher(self.condition)
        keys = list(self.pending)
        stored = passing(keys, self.snapshot.get_many(self.table, keys), test)
        return len(self._own(test)) - len(stored)

    def _own(self, test: Any) -> list[Match]:
        """The session's own rows that match."""
        images = ((key, Row(0, image)) for key, image in self.pending.items() if image is not None)
        return [match for match in images if test.matches(match[0], match[1].image)]

    # Finding

    def matches(self) -> Iterator[Match]:
        """All that match, in order, within offset and limit."""
        stop = None if self.limit is None else self.offset + self.limit
        return islice(self._ordered(stop), self.offset, stop)

    def all(self) -> list[Match]:
        """As `matches`, at once."""
        keys = self._exact_keys()
        return list(self.matches()) if keys is None else self._passing(keys, None)

    def all_keys(self) -> list[bytes]:
        """The keys of all that match, in order."""
        keys = self._exact_keys()
        return [key for key, _ in self.matches()] if keys is None else keys

    def dicts(self) -> list[dict[str, Any]]:
        """The columns of all that match, in order."""
        keys = self._exact_keys()
        if keys is None:
            return [columns_of(row) for _, row in self.matches()]
        return [columns for columns in self.snapshot.columns_of(self.table, keys) if columns is not None]

    def _exact_keys(self) -> list[bytes] | None:
        """The keys of all that match, in order, where indexes alone tell them; None where rows must be looked at."""
        if self.pending or self.filters or self.after is not None:
            return None
        stop = None if self.limit is None else self.offset + self.limit
        by_key = not self.order or self.order[0] in _BY_KEY
        keys = self._exact_in_key_order() if by_key else self._exact_along(stop)
        return keys if keys is None or (not self.offset and stop is None) else keys[self.offset : stop]

    def _exact_in_key_order(self) -> list[bytes] | None:
        access, allowed = self.plan.access, self.plan.keys
        if access is None or self.plan.rest:
            return None
        keys = access.found()
        if allowed is not EVERY_KEY:
            keys = [key for key in keys if allowed.matches(key, b"")]
        keys.sort(reverse=bool(self.order) and self.order[0].startswith("-"))
        return keys

    def _exact_along(self, enough: int | None) -> list[bytes] | None:
        if len(self.order) > 1:
            return None
        walk = order_walk(self.order, self.parts, self.table, self.snapshot)
        if walk is None or not walk.complete or len(walk.covered) < len(self.parts):
            return None
        if not self._walk_is_cheaper(walk, enough):
            return None
        entries = self.snapshot.find(self.table, walk.index, walk.lo, walk.hi, reverse=self.order[0].startswith("-"))
        return keys_along(entries, len(walk.prefix), walk.joined, sys.maxsize if enough is None else enough)

    def _ordered(self, enough: int | None) -> Iterator[Match]:
        own = self._filtered(self._own(matcher(self.condition))) if self.pending else []
        if not self.order or self.order[0] in _BY_KEY:
            return self._in_key_order(own, enough, down=bool(self.order) and self.order[0].startswith("-"))
        walk = order_walk(self.order, self.parts, self.table, self.snapshot)
        if walk is not None and self._walk_is_cheaper(walk, enough):
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
            keys.sort(reverse=down)
        return _batches(keys)

    def _read(self, batches: Iterable[list[bytes]]) -> Iterator[Match]:
        """The matches among candidates, in their order."""
        rest = all_of(self.plan.rest)
        for keys in batches:
            yield from self._passing(keys, rest)
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

    def _walk_is_cheaper(self, walk: Walk, enough: int | None) -> bool:
        """Reading along the index until there is enough, rather than all that matches and sorting that."""
        down = self.order[0].startswith("-")
        if not walk.complete and not (down and enough is not None and self.after is None):
            return False
        covered = {id(part) for part in walk.covered}
        if enough is None or all(id(part) in covered for part in self.parts):
            reads = walk.entries if enough is None else min(enough, walk.entries)
        else:
            share = self.plan.expected / max(self.plan.rows, 1)
            reads = min(walk.entries, round(enough / max(share, 1e-9)))
        return reads <= self.plan.expected

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
        column, down = self.order[0].removeprefix("-"), self.order[0].startswith("-")
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
        enough = None if self.limit is None else self.offset + self.limit
        walk = order_walk(self.order, self.parts, self.table, self.snapshot)
        if walk is not None and self._walk_is_cheaper(walk, enough):
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
_BY_KEY = ("k_key", "k_id", "-k_key", "-k_id")


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
