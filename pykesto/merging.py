"""What two commits did to one column, made one: the policies of merges, on encoded values.

`difference` says what one session did, for its commit to take along; `combined` does it to what another commit made
of the column meanwhile. Only values of the language are looked at, so no code of users runs. What does not fit a
policy gives NotImplemented, and remains a conflict.

    counter   numbers; what was added
    max, min  values with an order among them; the greater, or lesser, if it was not taken down, or up
    set_add   sets; what was added, if nothing was taken out
    last      any value; that of the later commit
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from decimal import Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow, localcontext
from fractions import Fraction
from typing import Any
from uuid import UUID

from .codec import decode, encode, pack_columns, parse_columns

_NUMBERS = frozenset({int, float, Decimal, Fraction})
_ORDERED = _NUMBERS | {str, bytes, UUID, datetime.date, datetime.time, datetime.datetime, datetime.timedelta}
_SETS = frozenset({set, frozenset})
_EXACT = Context(prec=1000, traps=[DivisionByZero, Inexact, InvalidOperation, Overflow])


def _added(old: Any, new: Any) -> Any:
    old = 0 if old is None else old
    if type(old) not in _NUMBERS or type(new) not in _NUMBERS:
        return NotImplemented
    added = new - old
    return added if not isinstance(added, float) or math.isfinite(added) else NotImplemented


def _sum(current: Any, operand: Any) -> Any:
    current = 0 if current is None else current
    return current + operand if type(current) in _NUMBERS else NotImplemented


def _risen(old: Any, new: Any) -> Any:
    return new if type(new) in _ORDERED and (old is None or old <= new) else NotImplemented


def _fallen(old: Any, new: Any) -> Any:
    return new if type(new) in _ORDERED and (old is None or new <= old) else NotImplemented


def _greater(current: Any, operand: Any) -> Any:
    return operand if current is None else max(current, operand) if type(current) in _ORDERED else NotImplemented


def _lesser(current: Any, operand: Any) -> Any:
    return operand if current is None else min(current, operand) if type(current) in _ORDERED else NotImplemented


def _grown(old: Any, new: Any) -> Any:
    old = type(new)() if old is None else old
    return new - old if type(old) in _SETS and type(new) in _SETS and old <= new else NotImplemented


def _union(current: Any, operand: Any) -> Any:
    return operand if current is None else current | operand if type(current) in _SETS else NotImplemented


_DIFFERENCE: dict[str, Callable[[Any, Any], Any]] = {
    "counter": _added,
    "max": _risen,
    "min": _fallen,
    "set_add": _grown,
}
_COMBINED: dict[str, Callable[[Any, Any], Any]] = {"counter": _sum, "max": _greater, "min": _lesser, "set_add": _union}
POLICIES = (*_DIFFERENCE, "last")


def _applied(function: Callable[[Any, Any], Any], one: bytes | None, other: bytes) -> bytes | None:
    """`function` of two encoded values, encoded; None if it does not go for them."""
    try:
        with localcontext(_EXACT):
            result = function(None if one is None else decode(one), decode(other))
    except (TypeError, ArithmeticError):  # no order between these, or no sum
        return None
    return None if result is NotImplemented else encode(result)


def difference(policies: dict[str, str], old: bytes, new: bytes) -> dict[str, bytes | None] | None:
    """What was done to a row, by column: an operand, or None where a column was taken out; None if policies forbid it.

    `old` and `new` are packed rows, empty where there was none.
    """
    before, after = parse_columns(old), parse_columns(new)
    found: dict[str, bytes | None] = {}
    for column in {**before, **after}:
        was, now = before.get(column), after.get(column)
        if was == now:
            continue
        policy = policies.get(column.decode())
        operand = now
        if policy != "last":
            if policy not in _DIFFERENCE or now is None:
                return None  # none, or one of a later version
            operand = _applied(_DIFFERENCE[policy], was, now)
            if operand is None:
                return None
        found[column.decode()] = operand
    return found


def combined(policies: dict[str, str], current: bytes, done: dict[str, bytes | None]) -> bytes | None:
    """The packed row `current` after what was done to another version of it; None where that can't be."""
    columns = parse_columns(current)
    for name, operand in done.items():
        column = name.encode()
        if operand is None:
            columns.pop(column, None)
        elif policies[name] == "last":
            columns[column] = operand
        else:
            value = _applied(_COMBINED[policies[name]], columns.get(column), operand)
            if value is None:
                return None
            columns[column] = value
    return pack_columns(columns)


def differs_elsewhere(policies: dict[str, str], old: bytes, new: bytes) -> bool:
    """Whether two versions of a row differ in a column that has no policy."""
    before, after = parse_columns(old), parse_columns(new)
    return any(
        before.get(column) != after.get(column) and column.decode() not in policies for column in {**before, **after}
    )
