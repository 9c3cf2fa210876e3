"""Which index serves a condition."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..store import Row, Snapshot
from .expressions import KEY_COLUMNS, And, Condition, InRanges, KeyRange

_EVERY_KEY = KeyRange(None, None)


@dataclass(frozen=True, slots=True)
class Plan:
    """How candidates are found: by ranges of one index, or (no column) by a scan of the table, or of some keys."""

    table: str
    column: str = ""
    ranges: tuple[tuple[bytes, bytes], ...] = ()
    served: str = ""
    keys: KeyRange = _EVERY_KEY

    def candidates(self, snapshot: Snapshot) -> Iterator[tuple[bytes, Row]]:
        """A superset of the rows that match, each once; a scan's in key order."""
        if not self.column:
            yield from snapshot.scan(self.table, self.keys.lo, self.keys.hi)
            return
        for key in self._found_keys(snapshot):
            row = snapshot.get(self.table, key)
            if row is not None:
                yield key, row

    def _found_keys(self, snapshot: Snapshot) -> Iterator[bytes]:
        seen: set[bytes] = set()
        for lo, hi in self.ranges:
            for key in snapshot.find(self.table, self.column, lo, hi):
                if len(self.ranges) == 1 or key not in seen:
                    seen.add(key)
                    yield key


def plan(condition: Condition, table: str, snapshot: Snapshot) -> Plan:
    """The best index for a condition that all rows must meet: equality before a range before a scan."""
    parts = list(_conjuncts(condition))
    for part in parts:
        if isinstance(part, InRanges) and part.column in KEY_COLUMNS and len(part.ranges) == 1:
            return Plan(table, keys=KeyRange(*part.ranges[0]))
    usable = [part for part in parts if isinstance(part, InRanges) and snapshot.indexed(table, part.column)]
    if not usable:
        return Plan(table, keys=next((part for part in parts if isinstance(part, KeyRange)), _EVERY_KEY))
    best = min(usable, key=_cost)
    return Plan(table, best.column, best.ranges, str(best))


def _conjuncts(condition: Condition) -> Iterator[Condition]:
    if isinstance(condition, And):
        for part in condition.parts:
            yield from _conjuncts(part)
    else:
        yield condition


def _cost(part: InRanges) -> tuple[int, int]:
    """A class is a wide condition, so its index comes last."""
    width = 2 if part.kind == "class" else 0 if part.kind == "equal" else 1
    return width, len(part.ranges)
