"""What a column adds up to. Missing values and None never count.

The least and the greatest follow the order of values across types, with NaN after all numbers. A sum is of numbers, or
of timedeltas: anything else among them is refused, by its type and row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from ..errors import UsageError
from .expressions import Column, name_of

_NUMBERS = (int, float, Decimal, Fraction, complex)

Ordered = Callable[[Any], bytes]


def total(values: Iterable[Any], column: str) -> Any:
    """The sum, 0 of nothing."""
    found: Any = None
    for value in values:
        if not isinstance(value, (*_NUMBERS, timedelta)):
            raise UsageError(
                f"the sum of {column!r}: there is a {type(value).__name__}, {value!r:.60}, among the values",
                hint="add a condition that leaves it out, such as between()",
            )
        try:
            found = value if found is None else found + value
        except TypeError as error:
            raise UsageError(
                f"the sum of {column!r}: a {type(found).__name__} and a {type(value).__name__} can't be added",
                hint="store one type of number, or add a condition that leaves the other out",
            ) from error
    return 0 if found is None else int(found) if isinstance(found, bool) else found


def mean(values: list[Any], column: str) -> Any:
    """The mean, None of nothing."""
    return total(values, column) / len(values) if values else None


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One aggregate of a group: its kind and its column ("" for count)."""

    kind: str
    column: str = ""

    def of(self, values: list[Any], ordered: Ordered) -> Any:
        """What the present values come to. `ordered` gives what a value is sorted by."""
        if self.kind == "count":
            return len(values)
        if self.kind == "sum":
            return total(values, self.column)
        if self.kind == "avg":
            return mean(values, self.column)
        return (min if self.kind == "min" else max)(values, key=ordered, default=None)


class agg:
    """Aggregates for `group_by(...).agg(...)`: count(), sum(c), min(c), max(c), avg(c).

    Example:
        >>> import pykesto
        >>> from pykesto import agg
        >>> with pykesto.temporary() as db, db.transaction() as s:
        ...     people = s.table("people")
        ...     people["ann"] = {"city": "Bonn", "age": 40}
        ...     people["bob"] = {"city": "Bonn", "age": 30}
        ...     people.query.group_by("city").agg(n=agg.count(), oldest=agg.max("age"))
        [{'city': 'Bonn', 'n': 2, 'oldest': 40}]
    """

    @staticmethod
    def count() -> Aggregate:
        return Aggregate("count")

    @staticmethod
    def sum(column: str | Column) -> Aggregate:
        return Aggregate("sum", name_of(column))

    @staticmethod
    def min(column: str | Column) -> Aggregate:
        return Aggregate("min", name_of(column))

    @staticmethod
    def max(column: str | Column) -> Aggregate:
        return Aggregate("max", name_of(column))

    @staticmethod
    def avg(column: str | Column) -> Aggregate:
        return Aggregate("avg", name_of(column))
