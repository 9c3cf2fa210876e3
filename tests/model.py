"""What rows and queries mean, said in plain Python: dicts of dicts, and predicates on them.

The tests hold the product to this. Nothing here imports it but what a condition is built from.
"""

import copy
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from pykesto import col

Columns = dict[str, Any]


class Model:
    """One table as a session sees it: the committed rows, and those with the session's changes."""

    def __init__(self) -> None:
        self.committed: dict[Any, Columns] = {}
        self.rows: dict[Any, Columns] = {}

    def commit(self) -> None:
        self.committed = copy.deepcopy(self.rows)

    def rollback(self) -> None:
        self.rows = copy.deepcopy(self.committed)


class Shared:
    """Several tables as they are committed, and which rows each commit wrote: what sessions are held against."""

    def __init__(self, *tables: str) -> None:
        self.tables: dict[str, dict[Any, Columns]] = {name: {} for name in tables}
        self.commits: list[set[tuple[str, Any]]] = []

    def commit(self, rows: dict[str, dict[Any, Columns]], written: set[tuple[str, Any]]) -> None:
        """Write rows: what stands under their keys in `rows`, or nothing."""
        for table, key in written:
            self.tables[table].pop(key, None)
            if key in rows[table]:
                self.tables[table][key] = copy.deepcopy(rows[table][key])
        if written:
            self.commits.append(set(written))


class View:
    """One session on `Shared`: its snapshot with its own changes, and the rows that its commit would write."""

    def __init__(self, shared: Shared, *, serializable: bool) -> None:
        self.shared, self.serializable = shared, serializable
        self.begin()

    def begin(self) -> None:
        self.began = len(self.shared.commits)
        self.snapshot = copy.deepcopy(self.shared.tables)
        self.rows = copy.deepcopy(self.shared.tables)
        self.written: set[tuple[str, Any]] = set()

    def put(self, table: str, key: Any, columns: Columns) -> None:
        self.rows[table].pop(key, None)
        self.rows[table][key] = copy.deepcopy(columns)
        self.written.add((table, key))

    def delete(self, table: str, key: Any) -> None:
        del self.rows[table][key]
        self.written.add((table, key))
        if key not in self.snapshot[table]:
            self.written.discard((table, key))  # made and deleted: it was never there

    def refresh(self, table: str, key: Any) -> None:
        self.rows[table][key] = copy.deepcopy(self.snapshot[table][key])
        self.written.discard((table, key))

    def conflicts(self) -> bool:
        """Whether its commit must fail, if it read every row of every table."""
        since = set().union(*self.shared.commits[self.began :])
        return bool(self.written and since if self.serializable else self.written & since)

    def save(self) -> Any:
        return copy.deepcopy((self.rows, self.written))

    def restore(self, saved: Any) -> None:
        self.rows, self.written = saved


# Values

numbers = st.one_of(
    st.booleans(),
    st.integers(-3, 3),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False, width=16),
    st.sampled_from([-0.0, 0.5, 1e300, math.inf, -math.inf, float(1 << 53), Decimal("0.5"), Decimal("-7"), Decimal(2)]),
)
texts = st.text("aAbß\0é", max_size=4)
scalars = st.one_of(
    st.none(),
    numbers,
    texts,
    st.binary(max_size=3),
    st.sampled_from([date(2020, 2, 29), date(1970, 1, 1), datetime(2020, 2, 29), datetime(1970, 1, 1, 12, 30, 0, 1)]),
    st.sampled_from([time(12), timedelta(days=-1), timedelta(0, 5), UUID(int=0), UUID(int=1 << 127)]),
)
containers = st.recursive(
    st.one_of(scalars, st.sets(st.integers(0, 3)), st.frozensets(texts, max_size=2)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=2), st.tuples(numbers, texts)
    ),
    max_leaves=4,
)
keys = st.one_of(st.integers(-4, 4), st.sampled_from([1.0, True, 0.5]), texts, st.tuples(st.integers(0, 1), texts))


def family(value: Any) -> object:
    """What an ordering comparison compares with each other, and with nothing else; None where there is no order."""
    if isinstance(value, (bool, int, float, Decimal)):
        return "number"
    return type(value) if isinstance(value, (str, bytes, date, time, timedelta, UUID)) else None


# Conditions

_ABSENT = object()


@dataclass(frozen=True)
class Meaning:
    """A condition of the product, and what it should say of a row."""

    condition: Any
    holds: Callable[[Columns], bool]
    text: str

    def __repr__(self) -> str:
        return self.text


def _meaning(text: str, condition: Any, column: str, test: Callable[[Any], bool]) -> Meaning:
    """A missing column meets no condition."""
    return Meaning(condition, lambda row: row.get(column, _ABSENT) is not _ABSENT and test(row[column]), text)


def holds_item(found: Any, item: Any) -> bool:
    try:
        return bool(item in found)
    except (TypeError, ValueError):  # a number that is no byte is in no bytes
        return False


_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


def ordered(column: str, name: str, operand: Any) -> Meaning:
    def test(value: Any) -> bool:
        return family(value) == family(operand) and bool(_COMPARE[name](value, operand))

    return _meaning(f"{column}.{name}({operand!r})", getattr(col(column), name)(operand), column, test)


def between(column: str, lo: Any, hi: Any) -> Meaning:
    def test(value: Any) -> bool:
        return family(value) == family(lo) == family(hi) and bool(lo <= value <= hi)

    return _meaning(f"{column}.between({lo!r}, {hi!r})", col(column).between(lo, hi), column, test)


def conditions_on(column: str) -> st.SearchStrategy[Meaning]:
    """Every kind of condition on one column."""

    def made(name: str, test: Callable[[Any, Any], bool]) -> Callable[[Any], Meaning]:
        def make(operand: Any) -> Meaning:
            condition = getattr(col(column), name)(operand)
            return _meaning(f"{column}.{name}({operand!r})", condition, column, lambda value: test(value, operand))

        return make

    def without(name: str, test: Callable[[Any], bool]) -> st.SearchStrategy[Meaning]:
        return st.builds(lambda: _meaning(f"{column}.{name}()", getattr(col(column), name)(), column, test))

    orderable = scalars.filter(lambda value: value is not None)
    patterns = st.sampled_from(["a", "^A", "b$", "", "[ßé]"])
    return st.one_of(
        st.builds(made("equals", lambda value, operand: bool(value == operand)), containers),
        st.builds(made("ne", lambda value, operand: bool(value != operand)), containers),
        st.builds(ordered, st.just(column), st.sampled_from(["lt", "le", "gt", "ge"]), orderable),
        st.builds(between, st.just(column), orderable, orderable),
        st.builds(between, st.just(column), numbers, numbers),
        st.builds(made("in_", lambda value, operands: value in operands), st.lists(containers, max_size=3)),
        st.builds(
            made("startswith", lambda value, prefix: isinstance(value, type(prefix)) and value.startswith(prefix)),
            st.one_of(texts, st.binary(max_size=2)),
        ),
        st.builds(
            made("endswith", lambda value, suffix: isinstance(value, type(suffix)) and value.endswith(suffix)),
            st.one_of(texts, st.binary(max_size=2)),
        ),
        st.builds(made("contains", holds_item), st.one_of(scalars, texts)),
        st.builds(
            made("matches", lambda value, pattern: isinstance(value, str) and bool(re.search(pattern, value))), patterns
        ),
        without("is_none", lambda value: value is None),
        without("exists", lambda value: True),
    )


def _and(one: Meaning, other: Meaning) -> Meaning:
    return Meaning(
        one.condition & other.condition, lambda row: one.holds(row) and other.holds(row), f"({one} & {other})"
    )


def _or(one: Meaning, other: Meaning) -> Meaning:
    return Meaning(
        one.condition | other.condition, lambda row: one.holds(row) or other.holds(row), f"({one} | {other})"
    )


def _not(one: Meaning) -> Meaning:
    return Meaning(~one.condition, lambda row: not one.holds(row), f"~{one}")


def conditions(*columns: str) -> st.SearchStrategy[Meaning]:
    """Conditions on any of the columns, combined."""
    return st.recursive(
        st.one_of(*map(conditions_on, columns)),
        lambda inner: st.one_of(st.builds(_and, inner, inner), st.builds(_or, inner, inner), st.builds(_not, inner)),
        max_leaves=3,
    )
