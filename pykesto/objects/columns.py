"""Attributes in conditions: `Person.age >= 18`, `Person.pal.name == "Ann"`, `Person.friends.any(Person.age < 18)`.

Rows hold numbers for names, and ids for objects. So a condition is made with names, and resolved when its query runs:
names become columns, and a condition on objects that are referred to becomes one on the references to those found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar

from ..codec import Reference, decode, encode, parse_columns, range_of
from ..query import Column, Condition
from ..query._ranges import KEY_COLUMNS, encoded_at
from ..query.expressions import AmongReferences, And, InRanges, Test
from ..store import SCOPE_COLUMN
from ._objects import UNSTORED, Attribute, Stored, freeze

STEP = "\x1f"  # in a column's name: what follows is an attribute of the object referred to
_FEW = 64  # so many references are looked up in an index, each by itself


class AttributeColumn(Column, Attribute):
    """An attribute of a class in conditions. An attribute of it is one of the object that it refers to.

    To an object that has nothing of its name it gives what is still to be made of the object's row.
    """

    __slots__ = ()
    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return AttributeColumn(self._name + STEP + name)

    @property
    def name(self) -> Any:
        """The attribute of that name, as any other."""
        return AttributeColumn(self._name + STEP + "name")

    def any(self, *conditions: Condition) -> Condition:
        """A list, tuple, set or dict that refers to an object which meets the conditions."""
        if not conditions or not all(isinstance(one, Condition) for one in conditions):
            raise TypeError("any() takes conditions on what is referred to, such as Person.age >= 18")
        return AnyOf(self._name, conditions[0] if len(conditions) == 1 else And(conditions))

    def __repr__(self) -> str:
        return f"col({self._name.replace(STEP, '.')!r})"


freeze(AttributeColumn)  # it stands in classes, in the way of what objects have


@dataclass(frozen=True, slots=True)
class AnyOf(Condition):
    """The column refers, in a container, to an object that meets a condition. Resolved before it is tested."""

    column: str
    inner: Condition

    def __str__(self) -> str:
        return f"any of {self.column} has {self.inner}"


@dataclass(frozen=True, slots=True)
class RefersTo(Condition):
    """The column's value is a reference to one of some objects."""

    column: str
    references: frozenset[bytes]
    text: str

    def matches(self, key: bytes, image: bytes) -> bool:
        return encoded_at(self.column, key, image) in self.references

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class ContainsAny(AmongReferences):
    """The column's value is a container with a reference to one of some objects in it; `itself`: or is one."""

    column: str
    references: frozenset[Reference]
    text: str
    itself: bool = False

    def matches(self, key: bytes, image: bytes) -> bool:
        encoded = encoded_at(self.column, key, image)
        value = None if encoded is None else decode(encoded)
        if isinstance(value, dict):
            value = value.values()
        elif not isinstance(value, (list, tuple, set, frozenset)):
            return self.itself and type(value) is Reference and value in self.references
        return any(type(item) is Reference and item in self.references for item in value)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Late(Condition):
    """A condition as it is checked when a session commits: rows with names that were unknown then count."""

    condition: Condition
    kinds: int  # how many classes and attributes were known
    attributes: int
    unknown: bool  # the condition is on an attribute that was not

    def matches(self, key: bytes, image: bytes) -> bool:
        if decode(encoded_at(SCOPE_COLUMN, key, image) or b"") >= self.kinds or self.condition.matches(key, image):
            return True
        return self.unknown and any(
            name != SCOPE_COLUMN.encode() and int(name, 36) >= self.attributes for name in parse_columns(image)
        )

    def __str__(self) -> str:
        return str(self.condition)


class Resolver:
    """Turns conditions with names of attributes into ones that rows can be tested with.

    Args:
        column: the column of an attribute, None if it was never stored.
        find: the ids of the objects that meet a condition.
    """

    def __init__(self, column: Callable[[str], str | None], find: Callable[[Condition], Iterable[bytes]]) -> None:
        self._column, self._find = column, find

    def column(self, name: str) -> str:
        """The column of an attribute, or of a path into a dict there."""
        if name in KEY_COLUMNS or name == SCOPE_COLUMN:
            return name
        first, dot, rest = name.partition(".")
        found = self._column(first)
        if found is None:
            found = UNSTORED + first
        return found + dot + rest

    def condition(self, condition: Condition) -> Condition:
        """The same condition, on columns."""
        name = getattr(condition, "column", None)
        if isinstance(name, str):
            first, step, rest = name.partition(STEP)
            if step:
                return self._through(first, _on(condition, rest), str(condition))
            if isinstance(condition, AnyOf):
                return self._any_of(condition)
            if isinstance(condition, Test) and isinstance(condition.operand, Stored):
                return replace(condition, column=self.column(name), operand=Reference(condition.operand._k_key or b""))
            return _on(condition, self.column(name))
        return self._parts(condition)

    def _parts(self, condition: Condition) -> Condition:
        """A condition on others, with each of them resolved."""
        changed: dict[str, Any] = {}
        for name in _fields(condition):
            value = getattr(condition, name)
            if isinstance(value, Condition):
                changed[name] = self.condition(value)
            elif isinstance(value, tuple) and value and all(isinstance(one, Condition) for one in value):
                changed[name] = tuple(map(self.condition, value))
        return replace(condition, **changed) if changed else condition  # type: ignore[type-var]

    def _through(self, first: str, inner: Condition, text: str) -> Condition:
        references = [Reference(id) for id in self._find(inner)]
        column, text = self.column(first), text.replace(STEP, ".")
        if len(references) <= _FEW:
            return InRanges(column, tuple(map(range_of, references)), text, "equal")
        return RefersTo(column, frozenset(map(encode, references)), text)

    def _any_of(self, condition: AnyOf) -> Condition:
        references = frozenset(Reference(id) for id in self._find(condition.inner))
        return ContainsAny(self.column(condition.column), references, str(condition).replace(STEP, "."))


def _on(condition: Condition, column: str) -> Condition:
    """The same condition, on another column."""
    if isinstance(condition, InRanges):
        return condition.on(column)
    return replace(condition, column=column)  # type: ignore[type-var]


def has_unknown(condition: Condition) -> bool:
    """Whether a resolved condition is on an attribute that was never stored."""
    if getattr(condition, "column", "").startswith(UNSTORED):
        return True
    for name in _fields(condition):
        value = getattr(condition, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Condition) and has_unknown(inner):
                return True
    return False


def _fields(condition: Any) -> list[str]:
    return [part.name for part in fields(condition)] if is_dataclass(condition) else []
