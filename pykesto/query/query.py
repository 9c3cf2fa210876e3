"""Queries: immutable, lazy, run anew each time, over anything that is a `Source` of packed rows.

Order: by `order_by`, ties by key; by key where there is none. Indexes never change an answer, nor its order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, Protocol, Self, TypeVar

from ..codec import decode, decode_key, is_scalar_encoding, range_of
from ..errors import MultipleResultsFound, NoResultFound, UsageError
from ..store import Snapshot
from .expressions import Aggregate, All, And, Column, Computed, Condition, col, encoded_value, operands
from .planner import Plan, plan

T = TypeVar("T")


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

    def item(self, key: bytes) -> T | None:
        """The live row or object, or None if the session deleted it."""
        ...

    def column(self, name: str) -> Column: ...

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

    def _with(self, **changes: Any) -> Self:
        made = copy.copy(self)
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    # Making a query

    def col(self, name: str) -> ColumnOf[T]:
        """A column to put a condition on: `query.col("age").ge(18)`."""
        return ColumnOf(self, self._source.column(name))

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
        return self._with(_order=tuple(c.name if isinstance(c, Column) else c for c in columns))

    def limit(self, count: int | None) -> Self:
        return self._with(_limit=_natural(count, "limit"))

    def offset(self, count: int) -> Self:
        return self._with(_offset=_natural(count, "offset") or 0)

    def after(self, item: T) -> Self:
        """Only what comes after `item` in this query's order: the next page."""
        return self._with(_after=item)

    # Running it

    def __iter__(self) -> Iterator[T]:
        for key in self.walk():
            item = self._source.item(key)
            if item is not None:  # deleted since the loop began
                yield item

    def walk(self) -> Iterator[bytes]:
        """The encoded keys, fixed now; UsageError if the snapshot ends before the loop does."""
        source, snapshot = self._source, self._source.snapshot()
        for key in self._keys():
            source.require_same(snapshot)
            yield key

    def keys(self) -> list[Any]:
        """The keys, in order."""
        return [decode_key(key) for key in self._keys()]

    def count(self) -> int:
        return len(self._keys())

    def exists(self) -> bool:
        return bool(self.limit(1)._keys())

    def first(self) -> T | None:
        return next(iter(self.limit(1)), None)

    def one_or_none(self) -> T | None:
        """The only item, or None; MultipleResultsFound if there are more."""
        found = list(self._with(_limit=2 if self._limit is None else min(2, self._limit)))
        if len(found) > 1:
            raise MultipleResultsFound(f"more than one of {self._source.label} where {self._text()}")
        return found[0] if found else None

    def one(self) -> T:
        """The only item; NoResultFound or MultipleResultsFound otherwise."""
        found = self.one_or_none()
        if found is None:
            raise NoResultFound(f"none of {self._source.label} where {self._text()}")
        return found

    def select(self, *columns: str) -> list[tuple[Any, ...]]:
        """The values of some columns, a tuple for each item; None where one is missing."""
        return [tuple(self._values(image, column) for column in columns) for _, image in self._matches()]

    def delete(self) -> int:
        """Delete what the query finds; how many."""
        items = list(self)
        for item in items:
            self._source.delete(item)
        return len(items)

    def update(self, **values: Any) -> int:
        """Set columns of what the query finds, `col("n") + 1` computing from the old value; how many."""
        matches = [(self._source.item(key), image) for key, image in self._matches()]
        for item, image in matches:
            for column, value in values.items():
                if isinstance(value, Computed):
                    value = value.compute(self._values(image, value.column))
                if item is not None:
                    self._source.set(item, column, value)
        return len(matches)

    def _present(self, column: str) -> list[Any]:
        encoded = (encoded_value(column, image) for _, image in self._matches())
        return [value for value in (self._source.value(e) for e in encoded if e is not None) if value is not None]

    def sum(self, column: str) -> Any:
        return sum(self._present(column))

    def min(self, column: str) -> Any:
        return min(self._present(column), default=None)

    def max(self, column: str) -> Any:
        return max(self._present(column), default=None)

    def avg(self, column: str) -> Any:
        values = self._present(column)
        return sum(values) / len(values) if values else None

    def distinct(self, column: str) -> list[Any]:
        """The different values of a column, in value order."""
        found = {_sortable(e): e for _, image in self._matches() if (e := encoded_value(column, image)) is not None}
        return [self._source.value(found[key]) for key in sorted(found)]

    def group_by(self, *columns: str) -> Groups[T]:
        return Groups(self, columns)

    def explain(self) -> str:
        """How the query would be run, in words."""
        how = self._plan()
        by = f"index on {how.column!r}: {how.served}" if how.column else "scan of the whole table"
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

    def _plan(self) -> Plan:
        return plan(self._condition(), self._source.table, self._source.snapshot())

    def _found(self) -> list[tuple[bytes, bytes]]:
        """Keys and images of all that match, without order."""
        source, condition = self._source, self._condition()
        snapshot = source.snapshot()
        source.observe(condition)
        pending = dict(source.pending())
        found = [(key, image) for key, image in pending.items() if image is not None and condition.matches(key, image)]
        for key in plan(condition, source.table, snapshot).candidates(snapshot):
            if key not in pending:
                row = snapshot.get(source.table, key)
                if row is not None and condition.matches(key, row.image):
                    found.append((key, row.image))
        return [match for match in found if self._passes(match[0])] if self._filters else found

    def _passes(self, key: bytes) -> bool:
        """A function's answer for an item, where errors that missing or odd attributes bring mean no match."""
        item = self._source.item(key)
        try:
            return item is not None and all(test(item) for test in self._filters)
        except (AttributeError, TypeError, LookupError):
            return False

    def _matches(self) -> list[tuple[bytes, bytes]]:
        found = sorted(self._found())
        for term in reversed(self._order):
            column, descending = term.removeprefix("-"), term.startswith("-")
            if column == "k_key":
                found.sort(key=lambda match: match[0], reverse=descending)
            else:
                found.sort(key=lambda match: _sortable(encoded_value(column, match[1])), reverse=descending)
        if self._after is not None:
            found = self._beyond(found)
        end = None if self._limit is None else self._offset + self._limit
        return found[self._offset : end]

    def _beyond(self, found: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        assert self._after is not None
        key = self._source.key_of(self._after)
        for i, match in enumerate(found):
            if match[0] == key:
                return found[i + 1 :]
        raise UsageError("after(): the item is not in the query's answer any more")

    def _keys(self) -> list[bytes]:
        return [key for key, _ in self._matches()]

    def _values(self, image: bytes, column: str) -> Any:
        encoded = encoded_value(column, image)
        return None if encoded is None else self._source.value(encoded)


class Groups(Generic[T]):
    """A query's items, grouped by the values of some columns."""

    def __init__(self, query: Query[T], columns: tuple[str, ...]) -> None:
        self._query, self._columns = query, columns

    def agg(self, **aggregates: Aggregate) -> list[dict[str, Any]]:
        """A dict for each group, in value order: the columns, and the aggregates over present values."""
        query = self._query
        groups: dict[tuple[bytes, ...], list[bytes]] = {}
        for _, image in query._matches():
            key = tuple(_sortable(encoded_value(column, image)) for column in self._columns)
            groups.setdefault(key, []).append(image)
        return [self._summary(groups[key], aggregates) for key in sorted(groups)]

    def _summary(self, images: list[bytes], aggregates: dict[str, Aggregate]) -> dict[str, Any]:
        row = {column: self._query._values(images[0], column) for column in self._columns}
        for name, aggregate in aggregates.items():
            if not aggregate.column:
                row[name] = aggregate.compute(images)
            else:
                values = (self._query._values(image, aggregate.column) for image in images)
                row[name] = aggregate.compute([value for value in values if value is not None])
        return row


def _natural(count: int | None, what: str) -> int | None:
    if count is not None and (not isinstance(count, int) or count < 0):
        raise UsageError(f"{what} is {count!r}; it must be a whole number from 0")
    return count


def _sortable(encoded: bytes | None) -> bytes:
    """What to sort by: missing first, equal numbers of different types alike."""
    if encoded is None:
        return b""
    return range_of(decode(encoded))[0] if is_scalar_encoding(encoded) else encoded


__all__ = ["ColumnOf", "Groups", "Query", "Source", "col"]
