"""Branches of a predicate: what must hold of an object to come along each, and the condition of them all."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from ..query import Condition
from ..query.expressions import And, Exists, InRanges, Not, Or
from .columns import STEP
from .ranges import PRESENT, Ranges, both, either, within_all


@dataclass(slots=True)
class Branch:
    """What must hold of an object for the predicate to come along here."""

    ranges: dict[str, Ranges] = field(default_factory=dict)  # by column; none: it is missing
    tests: list[Condition] = field(default_factory=list)
    reads: dict[str, Any] = field(default_factory=dict)  # what was given for each attribute
    special: bool = False  # a value is one that the predicate has at hand, so that `is` tells it

    def condition(self) -> Condition:
        parts: list[Condition] = []
        for column, ranges in self.ranges.items():
            if not ranges:
                parts.append(Not(Exists(column)))
            elif ranges == PRESENT:
                parts.append(Exists(column))
            else:
                parts.append(InRanges(column, ranges, f"{column.replace(STEP, '.')} in {len(ranges)} ranges"))
        parts += self.tests
        return parts[0] if len(parts) == 1 else And(tuple(parts))


def told_apart(branches: list[Branch], special: list[tuple[Branch, bool | None]]) -> tuple[bool, list[Branch]]:
    """Whether `is` makes a difference, and the branches where values found by it count while their equals do not."""
    wider = []
    told = False
    for branch, outcome in special:
        if outcome is False:
            told = told or any(_overlap(branch, other) for other in branches)
        elif not any(_covers(other, branch) for other in branches):
            told = True
            wider.append(branch)
    return told, wider


def _overlap(one: Branch, other: Branch) -> bool:
    return all(
        both(ranges, other.ranges[column]) or ranges == other.ranges[column]
        for column, ranges in one.ranges.items()
        if column in other.ranges
    )


def _covers(wide: Branch, narrow: Branch) -> bool:
    if any(test not in narrow.tests for test in wide.tests):
        return False
    return all(
        column in narrow.ranges and (ranges == narrow.ranges[column] or within_all(narrow.ranges[column], ranges))
        for column, ranges in wide.ranges.items()
    )


def united(branches: list[Branch]) -> Condition | None:
    """Any of the branches; those that differ in one column only are one, with the ranges of both."""
    done: list[Branch] = []
    for branch in branches:
        for other in done:
            if branch.tests == other.tests and branch.ranges.keys() == other.ranges.keys():
                differ = [c for c in branch.ranges if branch.ranges[c] != other.ranges[c]]
                missing = any(not branch.ranges[c] or not other.ranges[c] for c in differ)
                if len(differ) <= 1 and not missing:
                    for column in differ:
                        other.ranges[column] = either(branch.ranges[column], other.ranges[column])
                    break
        else:
            done.append(Branch(dict(branch.ranges), list(branch.tests)))
    if len(done) != len(branches):
        return united(done)
    if any(not branch.ranges and not branch.tests for branch in done):
        return None
    if not done:
        return InRanges("k_id", (), "nothing")
    shared = {column: ranges for column, ranges in _shared(done).items() if ranges != PRESENT}
    for branch in done:  # what is said of all branches together need not be said of each
        branch.ranges = {c: ranges for c, ranges in branch.ranges.items() if shared.get(c) != ranges}
    parts = [Branch({column: ranges}).condition() for column, ranges in shared.items()]
    if all(branch.ranges or branch.tests for branch in done):
        parts.append(done[0].condition() if len(done) == 1 else Or(tuple(branch.condition() for branch in done)))
    return None if not parts else parts[0] if len(parts) == 1 else And(tuple(parts))


def _shared(branches: list[Branch]) -> dict[str, Ranges]:
    """The columns that every branch has, and in which ranges one of them can be: what an index may serve."""
    columns = [c for c in branches[0].ranges if all(branch.ranges.get(c) for branch in branches)]
    return {column: reduce(either, (branch.ranges[column] for branch in branches)) for column in columns}
