"""Queries over objects: by conditions, by a predicate in Python, by an example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self, TypeVar

from ..errors import UsageError
from ..query import Column, Condition, Query
from ..query.expressions import And, name_of
from .columns import STEP, AttributeColumn
from .persistent import Persistent
from .space import ObjectSpace

P = TypeVar("P", bound=Persistent)


class ObjectQuery(Query[P]):
    """The objects of a class, and of those below it, that meet conditions.

    Conditions name attributes; when the query runs they are resolved to what rows hold.
    """

    __slots__ = ("_cls", "_notes", "_space")

    def __init__(self, space: ObjectSpace, cls: type[P]) -> None:
        super().__init__(space)
        self._space, self._cls = space, cls
        self._notes: tuple[str, ...] = ()

    def _copy(self) -> Self:
        made = super()._copy()
        made._space, made._cls, made._notes = self._space, self._cls, self._notes
        return made

    def where(self, *conditions: Any) -> Self:
        """With these conditions too: made from attributes, or predicates: functions of one object, without effects.

        A predicate is run on symbols to find the conditions that it comes down to; `explain()` tells what could not
        be found out, so that each object is asked.
        """
        made: list[Any] = []
        notes = list(self._notes)
        for condition in conditions:
            if isinstance(condition, (Condition, Column)) or not callable(condition):
                made.append(condition)
                continue
            from .native import analyse  # not before it is needed: many processes only start and commit

            found = analyse(self._cls, condition)
            if found.condition is not None:
                made.append(found.condition)
            if not found.exact:
                made.append(condition)
            notes += found.reasons
        query = super().where(*made)
        query._notes = tuple(notes)
        return query

    def like(self, example: P) -> Self:
        """With the attributes that were given to an example, a transient object."""
        return self.where(*_conditions_of(example, ""))

    def explain(self) -> str:
        """How the query would be run, in words; of a predicate, what is asked of each object, and why."""
        notes = f"; each object is asked because of: {'; '.join(self._notes)}" if self._notes else ""
        return super().explain() + notes

    def _condition(self) -> Condition:
        of_class = self._space.in_classes(self._cls)
        resolver = self._space.resolver()
        return And((of_class, *(resolver.condition(condition) for condition in self._conditions)))

    def _column(self, column: str | Column) -> str:
        name = name_of(column)
        if STEP in name:
            raise UsageError(
                f"{name.removeprefix('-').replace(STEP, '.')!r} is an attribute of another object: conditions go"
                " through references, orders, groups and sums do not",
                hint="sort in Python, or begin the query at the class that has the attribute",
            )
        sign = "-" if name.startswith("-") else ""
        name = name.removeprefix("-")
        return sign + self._space.resolver().column(self._cls._k_stored.get(name, name))

    @property
    def _label(self) -> str:
        return self._cls.__name__

    def _text(self) -> str:
        return super()._text().replace(STEP, ".")

    def _shown(self, column: str) -> str:
        return self._space.readable_column(column)


def _conditions_of(example: Persistent, path: str) -> Iterator[Condition]:
    """What an example, or one within it, asks."""
    cls = type(example)._k_class
    for name in example._k_given or ():
        column = AttributeColumn(path + cls._k_stored.get(name, name))
        value = getattr(example, name)
        if isinstance(value, Persistent) and not value._k_key:
            yield from _conditions_of(value, path + column._name + STEP)
        elif isinstance(value, (list, set, frozenset)):
            for item in value:
                if isinstance(item, Persistent) and not item._k_key:
                    yield column.any(*_conditions_of(item, ""))
                else:
                    yield column.contains(item)
        else:
            yield column == value
