"""Queries: immutable, lazy, run anew each time, over anything that is a `Source` of packed rows.

Order: by `order_by`, ties by key; by key where there is none. Indexes never change an answer, nor its order. How one
runs is in `execution`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Generic, Protocol, Self, TypeVar

from ..codec import decode_key
from ..errors import MultipleResultsFound, NoResultFound, UsageError
from ..store import Row, Snapshot
from ._query import QueryCore, natural
from ._ranges import KEY_COLUMNS, encoded_at
from ._run import core_at, core_of
from .aggregates import Aggregate, mean, total
from .arithmetic import Arithmetic, computed
from .expressions import (
    Column,
    Condition,
    HasWords,
    Match,
    encoded,
    name_of,
    no_truth,
    stored_value,
)
from .search import Hit, Wanted, scores, snippet

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

    def item(self, key: bytes, row: Row) -> T | None:
        """The live row or object of a row that was found, or None if the session deleted it."""
        ...

    def value(self, encoded: bytes) -> Any:
        """A decoded value, references as objects."""
        ...

    def delete(self, item: T) -> None: ...

    def set(self, item: T, column: str, value: Any) -> None: ...

    def key_of(self, item: T) -> bytes: ...


class Query(QueryCore[T]):
    """Rows or objects that meet a condition.

    Example:
        >>> import pykesto
        >>> from pykesto import col
        >>> with pykesto.temporary() as db, db.transaction() as s:
        ...     s.table("people")["ann"] = {"name": "Ann", "age": 40}
        ...     query = s.table("people").query.where(col("age") >= 18).order_by("-age").limit(10)
        ...     [row["name"] for row in query]
        ['Ann']
    """

    __slots__ = ()

    def _column(self, column: str | Column) -> str:
        """The column of a row that a name stands for. Descending orders begin with "-"."""
        return name_of(column)

    @property
    def _label(self) -> str:
        """What is asked, by the name that people know."""
        return self._source.label

    def _shown(self, column: str) -> str:
        """A column by the name that people know."""
        return column

    def _at_most(self, count: int) -> Self:
        return self.limit(count if self._limit is None else min(count, self._limit))

    # Running it

    def walk(self) -> Iterator[Match]:
        """The encoded keys and packed rows, fixed now; UsageError if the snapshot ends before the loop does."""
        source, snapshot = self._source, self._source.snapshot()
        for match in self._matches():
            source.require_same(snapshot)
            yield match

    def keys(self) -> list[Any]:
        """The keys, in order."""
        return [decode_key(key) for key in self._execution().all_keys()]

    def exists(self) -> bool:
        """Whether there is any such item."""
        found = self if self._offset or self._after is not None else self._in_order(())
        return next(iter(found._matches()), None) is not None

    def first(self) -> T | None:
        """The first item in the query's order, or None."""
        return next(iter(self._at_most(1)), None)

    def one_or_none(self) -> T | None:
        """The only item, or None; MultipleResultsFound if there are more."""
        found = list(self._at_most(2))
        if len(found) > 1:
            raise MultipleResultsFound(f"more than one of {self._label} where {self._text()}")
        return found[0] if found else None

    def one(self) -> T:
        """The only item; NoResultFound or MultipleResultsFound otherwise."""
        found = self.one_or_none()
        if found is None:
            raise NoResultFound(f"none of {self._label} where {self._text()}")
        return found

    def select(self, *columns: str | Column) -> list[tuple[Any, ...]]:
        """The values of some columns, a tuple for each item; None where one is missing."""
        names = [self._column(column) for column in columns]
        return [tuple([self._value(*match, name) for name in names]) for match in self._execution().all()]

    def search(
        self, column: str | Column, text: str, *, width: int = 160, mark: tuple[str, str] = ("[", "]")
    ) -> list[Hit[T]]:
        """What has all of some words in a text column, as `has_words` has it: the best first, within offset and limit.

        A word counts for more the more often a text has it, the shorter the text is, and the fewer rows have it. Ties
        go by key.

        Args:
            width: of a snippet, in characters.
            mark: what comes before and after each word in a snippet.

        UsageError: there is no word in `text`; or the query has an order of its own.

        Example:
            >>> import pykesto
            >>> with pykesto.temporary() as db, db.transaction() as s:
            ...     notes = s.table("notes")
            ...     notes[1] = {"text": "A small boat."}
            ...     notes[2] = {"text": "Boats, and a boat."}
            ...     [(hit.item.k_key, hit.snippet) for hit in notes.query.search("text", "boat*")]
            [(2, '[Boats], and a [boat].'), (1, 'A small [boat].')]
        """
        if self._order or self._after is not None:
            raise UsageError(
                "search() has an order of its own: by how well a text fits",
                hint="leave order_by() and after() out, or ask .col(...).has_words(...)",
            )
        natural(width, "width")
        condition = Column(name_of(column)).has_words(text)
        wanted = Wanted(condition.words, condition.beginnings)
        matches = list(self.where(condition)._in_full()._matches())
        values = [self._stored(*match, self._column(column)) for match in matches]
        found = zip(scores(values, wanted, self._rows_with(condition)), matches, values, strict=True)
        ranked = sorted(found, key=lambda one: (-one[0], one[1][0]))
        stop = None if self._limit is None else self._offset + self._limit
        hits = ((self._source.item(*match), score, value) for score, match, value in ranked[self._offset : stop])
        return [
            Hit(item, score, snippet(value, wanted, width, mark)) for item, score, value in hits if item is not None
        ]

    def _rows_with(self, condition: HasWords) -> dict[str, int]:
        """How many rows of all have each word, or one that begins so."""
        names = [*condition.words, *(f"{one}*" for one in condition.beginnings)]
        every = self._of_all()
        return {name: every.where(Column(condition.column).has_words(name)).count() for name in names}

    def _stored(self, key: bytes, row: Row, column: str) -> Any:
        value = encoded_at(column, key, row.image)
        return None if value is None else stored_value(column, value)

    def delete(self) -> int:
        """Delete what the query finds; how many."""
        items = list(self)
        for item in items:
            self._source.delete(item)
        return len(items)

    def update(self, **values: Any) -> int:
        """Set columns of what the query finds, `col("n") + 1` computing from the old value; how many.

        Where there is no old value, or None, nothing is computed and the column stays as it is. UsageError, before
        anything is changed: something can't be computed.
        """
        for column, value in values.items():
            if isinstance(value, Condition):
                raise TypeError(f"update of {column!r}: {value} is a condition, not a value")
        matches = list(self._matches())
        changes = [self._computed(match, values) for match in matches]
        for match, columns in zip(matches, changes, strict=True):
            item = self._source.item(*match)
            if item is not None:
                for column, value in columns.items():
                    self._source.set(item, column, value)
        return len(matches)

    def _computed(self, match: Match, values: dict[str, Any]) -> dict[str, Any]:
        """What `update` sets."""
        found = {}
        for column, value in values.items():
            if isinstance(value, Arithmetic):
                try:
                    value = computed(value, lambda old: self._value(*match, self._column(old)))
                except (TypeError, ArithmeticError) as error:
                    raise UsageError(f"update of {column!r} in {decode_key(match[0])!r}: {error}") from error
                if value is None:
                    continue
            found[column] = value
        return found

    def _present(self, column: str | Column) -> list[Any]:
        """A column's values, but None."""
        name = self._column(column)
        values = (self._value(*match, name) for match in self._matches())
        return [value for value in values if value is not None]

    def sum(self, column: str | Column) -> Any:
        """The sum of a column's values, 0 if there are none; missing ones and None don't count.

        UsageError if a value is neither a number nor a timedelta, or two can't be added.
        """
        return total(self._present(column), name_of(column))

    def avg(self, column: str | Column) -> Any:
        """The mean of a column's values, or None; otherwise as `sum`."""
        return mean(self._present(column), name_of(column))

    def min(self, column: str | Column) -> Any:
        """The least of a column's values in the order of values across types, or None; None itself doesn't count."""
        return self._extreme(self._column(column))

    def max(self, column: str | Column) -> Any:
        """The greatest of a column's values in the order of values across types (NaN after all numbers), or None."""
        return self._extreme(f"-{self._column(column)}")

    def _extreme(self, term: str) -> Any:
        """The first value that is not None in an order."""
        name = term.removeprefix("-")
        if self._limit is not None or self._offset or self._after is not None:
            found = min if name == term else max
            return found(self._present(Column(name)), key=self._sorted_by, default=None)
        present = Column(name).ne(None)
        best = next(iter(self._in_order((term,))._execution(present).matches()), None)
        return None if best is None else self._value(*best, name)

    def _sorted_by(self, value: Any) -> bytes:
        return core_of(encoded(value))

    def distinct(self, column: str | Column) -> list[Any]:
        """The different values of a column, None among them, in value order."""
        name = self._column(column)
        found: dict[bytes, bytes] = {}
        for key, row in self._matches():
            value = encoded_at(name, key, row.image)
            if value is not None:
                found.setdefault(core_at(name, key, row.image), value)
        return [self._decoded(name, found[core]) for core in sorted(found)]

    def group_by(self, *columns: str | Column) -> Groups[T]:
        """Group items with equal values: `query.group_by("city").agg(n=agg.count())`."""
        return Groups(self, {name_of(column): self._column(column) for column in columns})

    def explain(self) -> str:
        """How the query would be run, in words: what index, how many entries it is expected to give, what is checked
        row by row, and how the answer comes into its order."""
        checks = self._text() + (f" and {len(self._filters)} functions" if self._filters else "")
        return f"{self._label}: {self._execution(watch=False).explain(self._shown)}; the question: {checks}"

    def __repr__(self) -> str:
        terms = ("-" * term.startswith("-") + self._shown(term.removeprefix("-")) for term in self._order)
        order = f" order by {', '.join(terms)}" if self._order else ""
        limit = "" if self._limit is None else f" limit {self._limit}"
        offset = f" offset {self._offset}" if self._offset else ""
        return f"<{type(self).__name__} {self._label} where {self._text()}{order}{limit}{offset}>"

    def __bool__(self) -> bool:
        no_truth("a query")

    def __contains__(self, item: object) -> bool:
        no_truth("`in` on a query")

    # The machinery

    def _text(self) -> str:
        return " and ".join(map(str, self._conditions)) or "everything"

    def _matches(self) -> Iterator[Match]:
        """All that match, in order."""
        return self._execution().matches()

    def _value(self, key: bytes, row: Row, column: str) -> Any:
        value = encoded_at(column, key, row.image)
        return None if value is None else self._decoded(column, value)

    def _decoded(self, column: str, value: bytes) -> Any:
        return decode_key(value) if column in KEY_COLUMNS else self._source.value(value)


class Groups(Generic[T]):
    """A query's items, grouped by the values of some columns."""

    def __init__(self, query: Query[T], columns: dict[str, str]) -> None:
        self._query, self._columns = query, columns  # by the names that they have in the answer

    def agg(self, **aggregates: Aggregate) -> list[dict[str, Any]]:
        """A dict for each group, in value order: the columns, and the aggregates over present values."""
        for name, aggregate in aggregates.items():
            if not isinstance(aggregate, Aggregate):
                raise TypeError(f"{name} is {aggregate!r}; give an aggregate, such as agg.count()")
            if name in self._columns:
                raise UsageError(f"{name!r} is a column of the groups already", hint="give the aggregate another name")
        groups: dict[tuple[bytes, ...], list[Match]] = {}
        columns = list(self._columns.values())
        for key, row in self._query._matches():
            values = tuple(core_at(column, key, row.image) for column in columns)
            groups.setdefault(values, []).append((key, row))
        return [self._summary(groups[values], aggregates) for values in sorted(groups)]

    def _summary(self, matches: list[Match], aggregates: dict[str, Aggregate]) -> dict[str, Any]:
        query = self._query
        row = {name: query._value(*matches[0], column) for name, column in self._columns.items()}
        for name, aggregate in aggregates.items():
            column = query._column(aggregate.column) if aggregate.column else ""
            values = (query._value(*match, column) if column else match for match in matches)
            row[name] = aggregate.of([value for value in values if value is not None], query._sorted_by)
        return row
