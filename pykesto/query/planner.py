"""Which indexes serve a condition, by how many entries they are expected to give.

What an index gives is exact at its snapshot: conditions that it covers are not tested again. `rest` holds the others.
The answer never depends on what is chosen here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..codec import encode_key, prefix_range
from ..codec.terms import EVERY, PRESENT, UNORDERED
from ..store import IndexDefinition, Snapshot
from ._plans import EVERY_KEY, Both, Lookup, Plan, Walk, cheapest, conjuncts
from ._ranges import KEY_COLUMNS
from .expressions import (
    AmongReferences,
    AnyElement,
    Condition,
    Exists,
    HasWords,
    InRanges,
    KeyRange,
    Or,
    Ranges,
    Test,
)

_EVERYTHING = (EVERY,)
_LOOKED_UP = (AmongReferences, Exists, HasWords, InRanges, Test)
_MARKED = (UNORDERED, UNORDERED + b"\0")


@dataclass(frozen=True, slots=True)
class Either:
    """What any of the lookups gives."""

    parts: tuple[Access, ...]
    expected: int
    covered: tuple[Condition, ...]

    def found(self) -> list[bytes]:
        return list(dict.fromkeys(key for part in self.parts for key in part.found()))

    def count(self) -> int:
        return len(self.found())

    def told(self, shown: Callable[[str], str]) -> str:
        return " or ".join(f"({part.told(shown)})" for part in self.parts)


Access = Lookup | Both | Either


def plan(parts: list[Condition], table: str, snapshot: Snapshot) -> Plan:
    """The cheapest way that is known to the rows that meet all of some conditions."""
    keys = _key_range(parts)
    others = [part for part in parts if not _is_key_range(part)]
    access = _Planner(table, snapshot, others, keys).best()
    if (
        access is not None
        and keys is not EVERY_KEY
        and access.expected > snapshot.estimate(table, "", keys.lo, keys.hi)
    ):
        access = None  # the range of keys holds fewer rows
    covered = set(map(id, access.covered)) if access is not None else set()
    return Plan(snapshot, table, access, keys, tuple(part for part in others if id(part) not in covered))


def merged(parts: list[Condition]) -> list[Condition]:
    """The same conditions, with all ranges of one column as one."""
    found: dict[str, InRanges] = {}
    others: list[Condition] = []
    for part in parts:
        if not isinstance(part, InRanges):
            others.append(part)
        elif part.column in found:
            found[part.column] = _met(found[part.column], part)
        else:
            found[part.column] = part
    return [*found.values(), *others] if len(found) + len(others) < len(parts) else parts


def _met(one: InRanges, other: InRanges) -> InRanges:
    ranges = ((max(a, c), min(b, d)) for a, b in one.ranges for c, d in other.ranges)
    left = tuple(sorted((lo, hi) for lo, hi in ranges if lo < hi))
    # What is left of the range of a value may be a part of it: True and not 1.
    equal = any(part.kind == "equal" and set(left) <= set(part.ranges) for part in (one, other))
    return InRanges(one.column, left, f"{one} and {other}", "equal" if equal else "range")


def requires(parts: Sequence[Condition], column: str) -> bool:
    """Whether rows without the column meet no such conditions."""
    return any(
        isinstance(part, (InRanges, Test, Exists, HasWords, AnyElement)) and part.column == column for part in parts
    )


def _is_key_range(part: Condition) -> bool:
    return isinstance(part, KeyRange) or (
        isinstance(part, InRanges) and part.column in KEY_COLUMNS and len(part.ranges) == 1
    )


def _key_range(parts: list[Condition]) -> KeyRange:
    """The keys that the conditions allow."""
    lo, hi = None, None
    for part in parts:
        if _is_key_range(part):
            begin, end = (part.lo, part.hi) if isinstance(part, KeyRange) else part.ranges[0]  # type: ignore[attr-defined]
            lo = begin if lo is None else lo if begin is None else max(lo, begin)
            hi = end if hi is None else hi if end is None else min(hi, end)
    return EVERY_KEY if lo is None and hi is None else KeyRange(lo, hi)


class _Planner:
    """The lookups that conditions allow, and the choice among them."""

    def __init__(self, table: str, snapshot: Snapshot, parts: list[Condition], keys: KeyRange) -> None:
        self.table, self.snapshot, self.parts, self.keys = table, snapshot, parts, keys

    def best(self) -> Access | None:
        """The cheapest access for the conjunction of `parts`, or None: a scan is better."""
        parts = self.parts
        if not parts:
            return None
        found: list[Access] = list(self._lookups(parts))
        for part in parts:
            if isinstance(part, Or):
                found += self._either(part)
        if not found:
            return None
        best: Access = cheapest(found, self.table, self.snapshot, self.keys)
        return best

    def _either(self, condition: Or) -> Iterator[Access]:
        """A union, where each alternative has an access of its own."""
        accesses: list[Access] = []
        exact = True
        for alternative in condition.parts:
            inner = merged(conjuncts(alternative))
            access = _Planner(self.table, self.snapshot, inner, self.keys).best()
            if access is None:
                return
            accesses.append(access)
            exact = exact and len(access.covered) == len(inner)
        yield Either(tuple(accesses), sum(access.expected for access in accesses), (condition,) if exact else ())

    def _lookups(self, parts: list[Condition]) -> Iterator[Access]:
        """What each index can give."""
        columns = {part.column: None for part in parts if isinstance(part, _LOOKED_UP)}
        if not columns:
            return
        seen = set()
        for index in self.snapshot.indexes(self.table):
            if index.columns[0] in columns and index.name not in seen and self._serves(index, parts):
                seen.add(index.name)
                yield from self._through(index, parts)

    def _serves(self, index: IndexDefinition, parts: list[Condition]) -> bool:
        """Whether no row that meets the conditions can be without an entry, and the index can be asked."""
        return (not index.where or requires(parts, index.where)) and self.snapshot.indexed(self.table, index.name)

    def _through(self, index: IndexDefinition, parts: list[Condition]) -> Iterator[Access]:
        if index.kind == "each":
            yield from self._elements(index, parts)
        elif index.kind == "text":
            yield from self._texts(index, parts)
        elif index.kind == "references":
            yield from self._referring(index, parts)
        elif len(index.columns) > 1:
            yield from self._joined(index, parts)
        else:
            for part in parts:
                if isinstance(part, InRanges) and part.column == index.columns[0]:
                    yield self._lookup(index, part.ranges, (part,))
                elif isinstance(part, Exists) and part.column == index.columns[0]:
                    yield self._lookup(index, _EVERYTHING, (part,))

    def _lookup(
        self, index: IndexDefinition, ranges: Ranges, covered: tuple[Condition, ...], repeats: bool = False
    ) -> Lookup:
        return Lookup(self.snapshot, self.table, index.name, ranges, covered, repeats)

    def _elements(self, index: IndexDefinition, parts: list[Condition]) -> Iterator[Lookup]:
        """`contains` of a scalar: rows with such an element, and those that must be looked into."""
        for part in parts:
            if isinstance(part, Test) and part.kind == "contains" and part.column == index.columns[0]:
                try:
                    core = encode_key(part.operand)
                except ValueError:
                    continue  # no scalar
                marked = self.snapshot.estimate(self.table, index.name, *_MARKED) > 0
                ranges = ((core, core + b"\0"), _MARKED) if marked else ((core, core + b"\0"),)
                yield self._lookup(index, ranges, () if marked else (part,), repeats=marked)

    def _referring(self, index: IndexDefinition, parts: list[Condition]) -> Iterator[Lookup]:
        """Rows with one of some references in the column, which are then tested for where they have it."""
        for part in parts:
            if isinstance(part, AmongReferences) and part.column == index.columns[0]:
                cores = sorted(map(encode_key, part.references))
                yield self._lookup(index, tuple((core, core + b"\0") for core in cores), (), repeats=len(cores) > 1)

    def _texts(self, index: IndexDefinition, parts: list[Condition]) -> Iterator[Access]:
        """The rows that are listed under all of the words."""
        for part in parts:
            if isinstance(part, HasWords) and part.column == index.columns[0]:
                cores = map(encode_key, part.words)
                found = [self._lookup(index, ((core, core + b"\0"),), (part,)) for core in cores]
                # Several words of one row may begin alike.
                found += [self._lookup(index, (prefix_range(one),), (part,), repeats=True) for one in part.beginnings]
                found.sort(key=lambda lookup: lookup.expected)
                yield found[0] if len(found) == 1 else Both(tuple(found), found[0].expected, (part,))

    def _joined(self, index: IndexDefinition, parts: list[Condition]) -> Iterator[Lookup]:
        """Equality on the first columns, then a range on the next."""
        prefixes = [b""]
        covered: list[Condition] = []
        for column in index.columns:
            equal = next(
                (p for p in parts if isinstance(p, InRanges) and p.column == column and p.kind == "equal"), None
            )
            if equal is not None and len(prefixes) * len(equal.ranges) <= _PREFIXES_MAX:
                prefixes = [prefix + lo + b"\0" for prefix in prefixes for lo, _ in equal.ranges]
                covered.append(equal)
                continue
            part = next((p for p in parts if isinstance(p, InRanges) and p.column == column), None)
            if part is not None:
                covered.append(part)
                ranges = tuple((p + max(lo, PRESENT), p + hi) for p in prefixes for lo, hi in part.ranges)
                yield self._lookup(index, ranges, tuple(covered))
                return
            break
        if covered:
            yield self._lookup(index, tuple(map(beginning_with, prefixes)), tuple(covered))


_PREFIXES_MAX = 1000


def beginning_with(prefix: bytes) -> tuple[bytes, bytes]:
    """The terms of several columns that begin with whole ones."""
    return (prefix, prefix[:-1] + b"\x01") if prefix else EVERY


def order_walk(order: Sequence[str], parts: Sequence[Condition], table: str, snapshot: Snapshot) -> Walk | None:
    """An index whose entries are in the wanted order, as far as the first column goes."""
    column = order[0].removeprefix("-")
    for index in snapshot.indexes(table):
        if index.kind == "value" and column in index.columns and snapshot.indexed(table, index.name):
            prefix, covered = _equal_before(index, column, parts)
            if prefix is None or (index.where and not requires(parts, index.where)):
                continue
            bound = next(
                (p for p in parts if isinstance(p, InRanges) and p.column == column and len(p.ranges) == 1), None
            )
            if bound is not None:
                covered = (*covered, bound)
            lo, hi = _walk_range(prefix, bound)
            # Of several columns a row with one of them is listed; of one, a row without it is not.
            complete = bool(prefix) or requires(parts, column) or not _may_lack(index, table, snapshot)
            joined = len(index.columns) > 1
            if not complete:
                lo = max(lo, PRESENT)  # rows without a value are found otherwise, those that are listed here too
            return Walk(snapshot, table, index.name, lo, hi, covered, prefix, joined, complete)
    return None


def _may_lack(index: IndexDefinition, table: str, snapshot: Snapshot) -> bool:
    return len(index.columns) > 1 or bool(index.where) or snapshot.lacks(table, index.name)


def _equal_before(
    index: IndexDefinition, column: str, parts: Sequence[Condition]
) -> tuple[bytes | None, tuple[Condition, ...]]:
    """What terms begin with, if each column before `column` must equal one value."""
    prefix, covered = b"", []
    for name in index.columns[: index.columns.index(column)]:
        part = next(
            (
                p
                for p in parts
                if isinstance(p, InRanges) and p.column == name and p.kind == "equal" and len(p.ranges) == 1
            ),
            None,
        )
        if part is None:
            return None, ()
        prefix += part.ranges[0][0] + b"\0"
        covered.append(part)
    return prefix, tuple(covered)


def _walk_range(prefix: bytes, bound: InRanges | None) -> tuple[bytes, bytes]:
    if bound is not None:
        return prefix + max(bound.ranges[0][0], PRESENT), prefix + bound.ranges[0][1]
    return beginning_with(prefix)
