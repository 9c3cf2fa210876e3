"""Queries: immutable, lazy, run anew each time, over anything that is a `Source` of packed rows.

Order: by `order_by`, ties by key; by key where there is none. Indexes never change an answer, nor its order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, Self, TypeVar

from ..codec import decode, decode_key, is_scalar_encoding, range_of
from ..errors import MultipleResultsFound, NoResultFound, UsageError
from ..store import Row, Snapshot
from .expressions import (
    KEY_COLUMNS,
    Aggregate,
    All,
    And,
    Column,
    Computed,
    Condition,
    encoded_value,
    name_of,
    operands,
)
from .planner import plan

T = TypeVar("T")
Match = tuple[bytes, Row]  # an encoded key, and the packed row under it


class Source(Protocol[T]):
    """One table as a session sees it."""

    @property
    def table(self) -> str: ...

    @property
    def label(self) -> str: ...

    def snapshot(self) -> Snapshot: ...

    def require_same(self, snapshot: Snapshot) -> None:
        """Refuse to go on in a loop whose snapshot has ended."""
        ...

    def require_own(self, operand: Any) -> None:
        """Refuse an operand that belongs to another session."""
        ...

    def pending(self) -> Iterable[tuple[bytes, bytes | None]]:
        """The session's own changes: key and new image, None for a deleted row."""
        ...

    def observe(self, condition: Condition) -> None:
        """Remember that the session asked this of the table."""
        ...

    def item(self, key: bytes, row: Row) -> T | None:
        """The live row or object of a row that was found, or None if the session deleted it."""
        ...

    def value(self, encoded: bytes) -> Any:
        """A decoded value, references as objects."""
        ...

    def delete(self, item: T) -> None: ...

    def set(self, item: T, column: str, value: Any) -> None: ...

    def key_of(self, item: T) -> bytes: ...


class ColumnOf(Generic[T]):
    """A column of a query in the making: `query.col("age").ge(18)` is the query with that condition."""

    def __init__(self, query: Query[T], column: Column) -> None:
        self._query, self._column = query, column

    def __getattr__(self, name: str) -> Callable[..., Query[T]]:
        if name.startswith("_") or name in {"name", "desc"}:
            raise AttributeError(name)
        make = getattr(self._column, name)
        return lambda *operands: self._query.where(make(*operands))

    def _refuse(self, *_: object) -> Any:
        raise TypeError(
            f"write query.col({self._column.name!r}).ge(value), or query.where(col({self._column.name!r}) >= value)"
        )

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = _refuse
    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError(f"query.col({self._column.name!r}) has no truth value: use .exists()")


class Query(Generic[T]):
    """Rows or objects that meet a condition."""

    def __init__(self, source: Source[T], scope: Condition | None = None) -> None:
        self._source = source
        self._scope = scope
        self._conditions: tuple[Condition, ...] = ()
        self._filters: tuple[Callable[[T], bool], ...] = ()
        self._order: tuple[str, ...] = ()
        self._limit: int | None = None
        self._offset = 0
        self._after: T | None = None

    def _column(self, column: str | Column) -> str:
        """The column of a row that a name stands for. Descending orders begin with "-"."""
        return name_of(column)

    def _shown(self, column: str) -> str:
        """A column by the name that people know."""
        return column

    def _with(self, **changes: Any) -> Self:
        made = copy.copy(self)
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    # Making a query

    def col(self, name: str) -> ColumnOf[T]:
        """A column to put a condition on: `query.col("age").ge(18)`."""
        return ColumnOf(self, Column(name))

    def where(self, *conditions: Any) -> Self:
        """With these conditions too. A condition is made from `col(...)`, or a function of one item (a scan)."""
        made, filters = list(self._conditions), list(self._filters)
        for condition in conditions:
            if isinstance(condition, Condition):
                for operand in operands(condition):
                    self._source.require_own(operand)
                made.append(condition)
            elif callable(condition) and not isinstance(condition, Column):
                filters.append(condition)
            else:
                raise TypeError(f"{condition!r} is no condition: compare a column, such as col('age') >= 18")
        return self._with(_conditions=tuple(made), _filters=tuple(filters))

    def order_by(self, *columns: str | Column) -> Self:
        """Sort by columns, "-name" descending; replaces an earlier order. "k_key" is the key."""
        return self._with(_order=tuple(map(self._column, columns)))

    def limit(self, count: int | None) -> Self:
        return self._with(_limit=_natural(count, "limit"))

    def offset(self, count: int) -> Self:
        return self._with(_offset=_natural(count, "offset") or 0)

    def after(self, item: T) -> Self:
        """Only what comes after `item` in this query's order: the next page."""
        return self._with(_after=item)

    def _at_most(self, count: int) -> Self:
        return self._with(_limit=count if self._limit is None else min(count, self._limit))

    # Running it

    def __iter__(self) -> Iterator[T]:
        for key, row in self.walk():
            item = self._source.item(key, row)
            if item is not None:  # deleted since the loop began
                yield item

    def walk(self) -> Iterator[Match]:
        """The encoded keys and packed rows, fixed now; UsageError if the snapshot ends before the loop does."""
        source, snapshot = self._source, self._source.snapshot()
        for match in self._matches():
            source.require_same(snapshot)
            yield match

    def keys(self) -> list[Any]:
        """The keys, in order."""
        return [decode_key(key) for key in self._keys()]

    def count(self) -> int:
        """How many items there are."""
        return len(self._keys())

    def exists(self) -> bool:
        """Whether there is any such item."""
        return bool(self._found(any_one=True)) if self._is_plain() else bool(self._at_most(1)._keys())

    def first(self) -> T | None:
        """The first item in the query's order, or None."""
        return next(iter(self._at_most(1)), None)

    def one_or_none(self) -> T | None:
        """The only item, or None; MultipleResultsFound if there are more."""
        found = list(self._at_most(2))
        if len(found) > 1:
            raise MultipleResultsFound(f"more than one of {self._source.label} where {self._text()}")
        return found[0] if found else None

    def one(self) -> T:
        """The only item; NoResultFound or MultipleResultsFound otherwise."""
        found = self.one_or_none()
        if found is None:
            raise NoResultFound(f"none of {self._source.label} where {self._text()}")
        return found

    def select(self, *columns: str | Column) -> list[tuple[Any, ...]]:
        """The values of some columns, a tuple for each item; None where one is missing."""
        names = [self._column(column) for column in columns]
        return [tuple(self._value(*match, name) for name in names) for match in self._matches()]

    def delete(self) -> int:
        """Delete what the query finds; how many."""
        items = list(self)
        for item in items:
            self._source.delete(item)
        return len(items)

    def update(self, **values: Any) -> int:
        """Set columns of what the query finds, `col("n") + 1` computing from the old value; how many."""
        matches = [(self._source.item(*match), match) for match in self._matches()]
        for item, match in matches:
            for column, value in values.items():
                if isinstance(value, Computed):
                    value = value.compute(self._value(*match, self._column(value.column)))
                if item is not None:
                    self._source.set(item, column, value)
        return len(matches)

    def _present(self, column: str | Column) -> list[Any]:
        values = (self._value(*match, self._column(column)) for match in self._matches())
        return [value for value in values if value is not None]

    def sum(self, column: str | Column) -> Any:
        """The sum of a column's values, 0 if there are none; missing ones and None don't count."""
        return sum(self._present(column))

    def min(self, column: str | Column) -> Any:
        """The least of a column's values, or None."""
        return min(self._present(column), default=None)

    def max(self, column: str | Column) -> Any:
        """The greatest of a column's values, or None."""
        return max(self._present(column), default=None)

    def avg(self, column: str | Column) -> Any:
        """The mean of a column's values, or None."""
        values = self._present(column)
        return sum(values) / len(values) if values else None

    def distinct(self, column: str | Column) -> list[Any]:
        """The different values of a column, in value order."""
        name = self._column(column)
        encoded = (_encoded(name, match) for match in self._matches())
        found = {_sortable(name, e): e for e in encoded if e is not None}
        return [self._decoded(name, found[key]) for key in sorted(found)]

    def group_by(self, *columns: str | Column) -> Groups[T]:
        """Group items with equal values: `query.group_by("city").agg(n=agg.count())`."""
        return Groups(self, {name_of(column): self._column(column) for column in columns})

    def explain(self) -> str:
        """How the query would be run, in words."""
        how = plan(self._condition(), self._source.table, self._source.snapshot())
        by = f"index on {self._shown(how.column)!r}: {how.served}" if how.column else "scan of the whole table"
        checks = self._text() + (f" and {len(self._filters)} functions" if self._filters else "")
        order = f"; sorted by {', '.join(self._order)}" if self._order else ""
        return f"{self._source.label}: {by}; each row is checked: {checks}{order}"

    def __bool__(self) -> bool:
        raise TypeError("a query has no truth value: use .exists()")

    def __contains__(self, item: object) -> bool:
        raise TypeError("`in` on a query would run it: use .where(...).exists()")

    # The machinery

    def _condition(self) -> Condition:
        parts = ((self._scope,) if self._scope is not None else ()) + self._conditions
        return All() if not parts else parts[0] if len(parts) == 1 else And(parts)

    def _text(self) -> str:
        return " and ".join(map(str, self._conditions)) or "everything"

    def _is_plain(self) -> bool:
        return not (self._filters or self._offset or self._after is not None or self._limit is not None)

    def _found(self, *, any_one: bool = False) -> list[Match]:
        """Keys and rows of all that match, without order; of as many as the answer needs, if that can be told."""
        source, condition = self._source, self._condition()
        snapshot = source.snapshot()
        source.observe(condition)
        pending = dict(source.pending())
        how = plan(condition, source.table, snapshot)
        # A scan without own changes finds rows in the order that they are wanted in.
        enough = 1 if any_one else self._enough() if not how.column and not pending else None
        own = ((key, Row(0, image)) for key, image in pending.items() if image is not None)
        found = [match for match in own if condition.matches(match[0], match[1].image)]
        for key, row in how.candidates(snapshot):
            if enough is not None and len(found) >= enough:
                break
            if key not in pending and condition.matches(key, row.image):
                found.append((key, row))
        return [match for match in found if self._passes(match)] if self._filters else found

    def _enough(self) -> int | None:
        """How many matches in key order will do; None: all are needed."""
        if self._limit is None or self._order or self._filters or self._after is not None:
            return None
        return self._offset + self._limit

    def _passes(self, match: Match) -> bool:
        """A function's answer for an item, where errors that missing or odd attributes bring mean no match."""
        item = self._source.item(*match)
        try:
            return item is not None and all(test(item) for test in self._filters)
        except (AttributeError, TypeError, LookupError):
            return False

    def _matches(self) -> list[Match]:
        found = sorted(self._found(), key=lambda match: match[0])
        for term in reversed(self._order):
            column, descending = term.removeprefix("-"), term.startswith("-")
            found.sort(key=lambda match: _sortable(column, _encoded(column, match)), reverse=descending)
        if self._after is not None:
            found = self._beyond(found)
        end = None if self._limit is None else self._offset + self._limit
        return found[self._offset : end]

    def _beyond(self, found: list[Match]) -> list[Match]:
        assert self._after is not None
        key = self._source.key_of(self._after)
        for i, match in enumerate(found):
            if match[0] == key:
                return found[i + 1 :]
        raise UsageError("after(): the item is not in the query's answer any more")

    def _keys(self) -> list[bytes]:
        return [key for key, _ in self._matches()]

    def _value(self, key: bytes, row: Row, column: str) -> Any:
        encoded = encoded_value(column, key, row.image)
        return None if encoded is None else self._decoded(column, encoded)

    def _decoded(self, column: str, encoded: bytes) -> Any:
        return decode_key(encoded) if column in KEY_COLUMNS else self._source.value(encoded)


class Groups(Generic[T]):
    """A query's items, grouped by the values of some columns."""

    def __init__(self, query: Query[T], columns: dict[str, str]) -> None:
        self._query, self._columns = query, columns  # by the names that they have in the answer

    def agg(self, **aggregates: Aggregate) -> list[dict[str, Any]]:
        """A dict for each group, in value order: the columns, and the aggregates over present values."""
        query = self._query
        groups: dict[tuple[bytes, ...], list[Match]] = {}
        for match in query._matches():
            key = tuple(_sortable(column, _encoded(column, match)) for column in self._columns.values())
            groups.setdefault(key, []).append(match)
        return [self._summary(groups[key], aggregates) for key in sorted(groups)]

    def _summary(self, matches: list[Match], aggregates: dict[str, Aggregate]) -> dict[str, Any]:
        value = self._query._value
        row = {name: value(*matches[0], column) for name, column in self._columns.items()}
        for name, aggregate in aggregates.items():
            if not aggregate.column:
                row[name] = aggregate.compute(matches)
            else:
                column = self._query._column(aggregate.column)
                values = (value(*match, column) for match in matches)
                row[name] = aggregate.compute([v for v in values if v is not None])
        return row


def _natural(count: int | None, what: str) -> int | None:
    if count is not None and (not isinstance(count, int) or count < 0):
        raise UsageError(f"{what} is {count!r}; it must be a whole number from 0")
    return count


def _encoded(column: str, match: Match) -> bytes | None:
    return encoded_value(column, match[0], match[1].image)


def _sortable(column: str, encoded: bytes | None) -> bytes:
    """What to sort by: missing first, equal numbers of different types alike."""
    if encoded is None:
        return b""
    if column in KEY_COLUMNS:
        return encoded
    return range_of(decode(encoded))[0] if is_scalar_encoding(encoded) else encoded
