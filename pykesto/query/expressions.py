"""Conditions on columns, tested on packed rows.

A comparison is a range of encoded values: the codec keeps byte order equal to value order, so a test needs no decoding,
and an index lookup is the same range. Equality is Python's; an ordering comparison matches only values of the
operand's family. A missing column meets no condition, `ne` included; `~c` is the exact complement of `c`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, ClassVar, NoReturn
from uuid import UUID

from ..codec import (
    Reference,
    decode,
    decode_key,
    encode,
    encode_row,
    family_range,
    is_scalar_encoding,
    prefix_range,
    range_of,
)
from ..codec._codec import decode_stored
from ..codec.terms import EVERY, words
from ..errors import CodecError, UsageError
from ..store import Row
from ._ranges import KEY_COLUMNS, RangesCore, encoded_at
from .arithmetic import Arithmetic

Match = tuple[bytes, Row]  # an encoded key, and the packed row under it

_reference: Callable[[Any], bytes | None] | None = None


def stand_for_references(reference: Callable[[Any], bytes | None]) -> None:
    """Let objects among operands stand for references to them: `reference` gives an object's id, or None."""
    global _reference
    _reference = reference


def encoded(value: Any) -> bytes:
    """The bytes of an operand or value, in which references stand for objects."""
    if isinstance(value, (Arithmetic, Condition)):
        raise TypeError(
            f"a column is compared with a value, not with {value}: for two columns of a row give where() a function"
        )
    return encode(value, _reference)


def no_truth(what: str) -> NoReturn:
    raise TypeError(f"{what} has no truth value: combine conditions with & | ~, use between(), contains(), exists()")


class Condition:
    """A test of a row. Combine with `&`, `|`, `~`."""

    __slots__ = ()

    def matches(self, key: bytes, image: bytes) -> bool:
        """Whether the packed row under the encoded key meets the condition."""
        raise NotImplementedError

    def __and__(self, other: object) -> Condition:
        return And((self, _condition(other, "&")))

    def __rand__(self, other: object) -> Condition:
        return And((_condition(other, "&"), self))

    def __or__(self, other: object) -> Condition:
        return Or((self, _condition(other, "|")))

    def __ror__(self, other: object) -> Condition:
        return Or((_condition(other, "|"), self))

    def __invert__(self) -> Condition:
        return Not(self)

    def __bool__(self) -> NoReturn:
        no_truth(f"the condition {self}")

    def __contains__(self, item: object) -> NoReturn:
        no_truth(f"`in` on the condition {self}")


def _condition(value: object, operator: str) -> Condition:
    if isinstance(value, Condition):
        return value
    raise TypeError(
        f"{value!r} is no condition; put parentheses around each side of {operator}: (col('a') >= 18) {operator} (...)"
    )


@dataclass(frozen=True, slots=True)
class And(Condition):
    parts: tuple[Condition, ...]

    def matches(self, key: bytes, image: bytes) -> bool:
        return all(part.matches(key, image) for part in self.parts)

    def __str__(self) -> str:
        return "(" + " and ".join(map(str, self.parts)) + ")"


@dataclass(frozen=True, slots=True)
class Or(Condition):
    parts: tuple[Condition, ...]

    def matches(self, key: bytes, image: bytes) -> bool:
        return any(part.matches(key, image) for part in self.parts)

    def __str__(self) -> str:
        return "(" + " or ".join(map(str, self.parts)) + ")"


@dataclass(frozen=True, slots=True)
class Not(Condition):
    part: Condition

    def matches(self, key: bytes, image: bytes) -> bool:
        return not self.part.matches(key, image)

    def __str__(self) -> str:
        return f"not {self.part}"


@dataclass(frozen=True, slots=True)
class All(Condition):
    """Every row."""

    def matches(self, key: bytes, image: bytes) -> bool:
        return True

    def __str__(self) -> str:
        return "every row"


@dataclass(frozen=True, slots=True)
class KeyRange(Condition):
    """The encoded key is in lo <= key < hi; None leaves a side open. `text` says what was asked for."""

    lo: bytes | None
    hi: bytes | None
    text: str = "key in a range"

    def matches(self, key: bytes, image: bytes) -> bool:
        return (self.lo is None or key >= self.lo) and (self.hi is None or key < self.hi)

    def __str__(self) -> str:
        return self.text


def decoded_value(path: str, encoded: bytes) -> Any:
    """What `encoded_at` gave, with references as `Reference`."""
    return decode_key(encoded) if path in KEY_COLUMNS else decode(encoded)


def stored_value(path: str, encoded: bytes) -> Any:
    """What an index of words takes them from."""
    return decode_key(encoded) if path in KEY_COLUMNS else decode_stored(encoded)


def name_of(column: str | Column) -> str:
    """The name of a column that is given by its name, or as what stands for it."""
    if isinstance(column, Column):
        return column._name
    if not isinstance(column, str):
        raise TypeError(f"a column is a str or col(...), not {type(column).__name__}")
    if column in ("", "-"):
        raise UsageError("a column's name must not be empty")
    return column


Ranges = tuple[tuple[bytes, bytes], ...]


class InRanges(RangesCore, Condition):
    """The encoded value is in one of some ranges lo <= value < hi, in order and apart. What an index can answer.

    `kind`: "equal" if what is in one range is equal, and the range begins with its core; "class"; or "range".
    `text`: in words, or a form for `str.format` and what goes into it.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Test(Condition):
    """The decoded value passes a test of ours."""

    column: str
    test: Callable[[Any], bool]
    text: str
    operand: Any = None
    kind: str = ""  # "contains": what an index of each element can answer

    def matches(self, key: bytes, image: bytes) -> bool:
        value = encoded_at(self.column, key, image)
        return value is not None and self.test(decoded_value(self.column, value))

    def __str__(self) -> str:
        return self.text


class AmongReferences(Condition):
    """A condition that only values with one of some references in them meet: an index of references finds these."""

    __slots__ = ()
    column: str
    references: frozenset[Reference]


@dataclass(frozen=True, slots=True)
class HasWords(Condition):
    """A text, or the texts in a list, tuple or set, have all of these words; the last ones may be beginnings."""

    column: str
    words: tuple[str, ...]
    beginnings: tuple[str, ...]

    def matches(self, key: bytes, image: bytes) -> bool:
        value = encoded_at(self.column, key, image)
        found = set() if value is None else set(words(stored_value(self.column, value)))
        return found.issuperset(self.words) and all(
            any(word.startswith(beginning) for word in found) for beginning in self.beginnings
        )

    def __str__(self) -> str:
        return f"{self.column} has the words {' '.join([*self.words, *(f'{one}*' for one in self.beginnings)])}"


@dataclass(frozen=True, slots=True)
class AnyElement(Condition):
    """Some dict in a list or tuple meets a condition, whose columns are its keys."""

    column: str
    inner: Condition

    def matches(self, key: bytes, image: bytes) -> bool:
        found = encoded_at(self.column, key, image)
        value = None if found is None else decoded_value(self.column, found)
        if not isinstance(value, (list, tuple)):
            return False
        return any(isinstance(item, dict) and self.inner.matches(key, _row_of(item)) for item in value)

    def __str__(self) -> str:
        return f"any of {self.column} has {self.inner}"


def _row_of(element: dict[Any, Any]) -> bytes:
    return encode_row({name: value for name, value in element.items() if isinstance(name, str) and name})


def operands(condition: Condition) -> Iterator[Any]:
    """The values that a condition compares with, as they were given."""
    if isinstance(condition, (And, Or)):
        for part in condition.parts:
            yield from operands(part)
    elif isinstance(condition, Not):
        yield from operands(condition.part)
    elif isinstance(condition, AnyElement):
        yield from operands(condition.inner)
    elif isinstance(condition, (InRanges, Test)):
        yield condition.operand


@dataclass(frozen=True, slots=True)
class Exists(Condition):
    column: str

    def matches(self, key: bytes, image: bytes) -> bool:
        return encoded_at(self.column, key, image) is not None

    def __str__(self) -> str:
        return f"{self.column} exists"


SIMPLE = frozenset({int, str, bool, float, bytes, type(None), date, datetime, UUID, Decimal})


def _equal(column: str, value: Any) -> Condition:
    if type(value) in SIMPLE:
        pair = range_of(value)
        return InRanges(column, (pair,) if pair[0] < pair[1] else (), ("{} == {!r}", column, value), "equal", value)
    operand_bytes = encoded(value)
    if is_scalar_encoding(operand_bytes):
        try:
            lo, hi = _equal_range(operand_bytes)
        except CodecError:  # a tuple with a NaN in it
            lo = hi = b""
        return InRanges(column, ((lo, hi),) if lo < hi else (), f"{column} == {value!r}", "equal", value)
    operand = decode(operand_bytes)  # a copy, in which references stand for objects
    return Test(column, lambda found: bool(found == operand), f"{column} == {value!r}", value)


def _require_text(value: object, what: str) -> None:
    if not isinstance(value, (str, bytes)):
        raise TypeError(f"{what} takes a str or bytes, not {type(value).__name__}")


def _around(ranges: Ranges) -> Ranges:
    """All values but those in the range."""
    (lo, hi) = ranges[0] if ranges else (EVERY[0], EVERY[0])
    return ((EVERY[0], lo), (hi, EVERY[1]))


def _equal_range(operand: bytes) -> tuple[bytes, bytes]:
    return range_of(decode(operand))


_OPEN: Any = object()  # no bound on that side; None is an operand


def _ordering(
    column: str,
    form: str,
    *,
    lo: Any = _OPEN,
    hi: Any = _OPEN,
    after_lo: bool = False,
    with_hi: bool = False,
) -> Condition:
    """lo <(=) value <(=) hi, in the operands' family. `after_lo`: strictly greater; `with_hi`: up to and with hi.

    `form`: how to say so, with {0} for the column, {1} for lo and {2} for hi.
    """
    begin, end = _bound(column, hi if lo is _OPEN else lo)
    text: Any = (form, column, lo, hi)
    if not (lo is _OPEN or type(lo) in SIMPLE) or not (hi is _OPEN or type(hi) in SIMPLE):
        text = form.format(column, lo, hi)  # now: what others may change
    if lo is not _OPEN and hi is not _OPEN and _bound(column, hi) != (begin, end):
        return InRanges(column, (), text)  # operands of two families: nothing is between them
    equal = [None if operand is _OPEN else _range_of(operand) for operand in (lo, hi)]
    if any(one is not None and one[0] == one[1] for one in equal):
        return InRanges(column, (), text)  # an operand that equals nothing, NaN, is not less than anything either
    if equal[0] is not None:
        begin = equal[0][1 if after_lo else 0]
    if equal[1] is not None:
        end = equal[1][1 if with_hi else 0]
    return InRanges(column, ((begin, end),) if begin < end else (), text)


def _range_of(value: Any) -> tuple[bytes, bytes]:
    return range_of(value) if type(value) in SIMPLE else _equal_range(encoded(value))


def _bound(column: str, value: Any) -> tuple[bytes, bytes]:
    if type(value) in SIMPLE:
        return family_range(value)
    operand = encoded(value)
    if not is_scalar_encoding(operand):
        raise UsageError(f"{column} can't be ordered against {value!r}: only scalars and tuples of them have an order")
    return family_range(decode(operand))


class Column(Arithmetic):
    """A column in a condition: `col("age") >= 18`, `col("name").startswith("A")`, `col("tags").contains("bot")`."""

    __slots__ = ("_name",)
    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __init__(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a column's name is a str, not {type(name).__name__}")
        if not name:
            raise UsageError("a column's name must not be empty")
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def equals(self, value: Any) -> Condition:
        """Equal as Python sees it: 1, 1.0 and True are, "1" and b"1" are not."""
        return _equal(self._name, value)

    eq = equals

    def ne(self, value: Any) -> Condition:
        """Present and not equal."""
        equal = self.equals(value)
        if not isinstance(equal, InRanges):
            return And((Exists(self._name), Not(equal)))
        return InRanges(self._name, _around(equal.ranges), f"{self._name} != {value!r}", operand=value)

    def gt(self, value: Any) -> Condition:
        return _ordering(self._name, "{0} > {1!r}", lo=value, after_lo=True)

    def ge(self, value: Any) -> Condition:
        return _ordering(self._name, "{0} >= {1!r}", lo=value)

    def lt(self, value: Any) -> Condition:
        return _ordering(self._name, "{0} < {2!r}", hi=value)

    def le(self, value: Any) -> Condition:
        return _ordering(self._name, "{0} <= {2!r}", hi=value, with_hi=True)

    def between(self, lo: Any, hi: Any) -> Condition:
        """lo <= value <= hi, both ends included."""
        return _ordering(self._name, "{1!r} <= {0} <= {2!r}", lo=lo, hi=hi, with_hi=True)

    def in_(self, values: Iterable[Any]) -> Condition:
        """Equal to one of `values`."""
        if isinstance(values, (str, bytes)):
            raise TypeError(f"in_() takes a list of values, not the {type(values).__name__} {values!r:.60}")
        parts = tuple(self.equals(value) for value in values)
        text = f"{self._name} in {len(parts)} values"
        if all(isinstance(part, InRanges) for part in parts):
            ranges = {r for part in parts if isinstance(part, InRanges) for r in part.ranges}
            return InRanges(self._name, tuple(sorted(ranges)), text, "equal")
        return Or(parts)

    def startswith(self, prefix: str | bytes) -> Condition:
        _require_text(prefix, "startswith()")
        return InRanges(self._name, (prefix_range(prefix),), f"{self._name} starts with {prefix!r}")

    def endswith(self, suffix: str | bytes) -> Condition:
        _require_text(suffix, "endswith()")
        kind = type(suffix)
        return Test(
            self._name,
            lambda found: isinstance(found, kind) and found.endswith(suffix),  # type: ignore[arg-type]
            f"{self._name} ends with {suffix!r}",
        )

    def contains(self, item: Any) -> Condition:
        """Python's `in`: an item of a list, tuple or set, a key of a dict, a part of a str or bytes."""
        operand = decode(encoded(item))

        def contains(found: Any) -> bool:
            try:
                return operand in found
            except (TypeError, ValueError):
                return False  # no container, or one that can hold no such thing: 300 in b"..." is a ValueError

        return Test(self._name, contains, f"{self._name} contains {item!r}", item, "contains")

    def any(self, *conditions: Condition) -> Condition:
        """A list or tuple with a dict that meets all conditions: `col("lines").any(col("price") > 10)`."""
        if not conditions or not all(isinstance(one, Condition) for one in conditions):
            raise TypeError("any() takes conditions on the keys of a dict, such as col('price') > 10")
        return AnyElement(self._name, conditions[0] if len(conditions) == 1 else And(conditions))

    def has_words(self, text: str) -> HasWords:
        """A text with all of these words, in any order, without regard to case; "begin*" is the beginning of one.

        Looks at str, and at the strs in a list, tuple or set. An index `create_index(column, kind="text")` serves it.
        """
        if not isinstance(text, str):
            raise TypeError(f"words are a str, not {type(text).__name__}")
        whole: list[str] = []
        beginnings: list[str] = []
        for part in text.split():
            found = words(part)
            if found and part.endswith("*"):
                beginnings.append(found.pop())
            whole += found
        if not whole and not beginnings:
            raise UsageError(f"there is no word in {text!r}")
        return HasWords(self._name, tuple(dict.fromkeys(whole)), tuple(dict.fromkeys(beginnings)))

    def matches(self, pattern: str | bytes | re.Pattern[Any]) -> Condition:
        """re.search finds `pattern` in the value."""
        try:
            compiled: re.Pattern[Any] = re.compile(pattern)
        except re.error as error:
            raise UsageError(f"{pattern!r:.200} is no regular expression: {error}") from error
        kind = type(compiled.pattern)

        def found(value: Any) -> bool:
            return isinstance(value, kind) and compiled.search(value) is not None

        return Test(self._name, found, f"{self._name} matches {pattern!r}")

    def is_none(self) -> Condition:
        """Present, and None."""
        return self.equals(None)

    def exists(self) -> Condition:
        """Present, even None."""
        return Exists(self._name)

    def desc(self) -> str:
        """For order_by: descending."""
        return f"-{self._name}"

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return self.equals(value)

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return self.ne(value)

    def __gt__(self, value: Any) -> Condition:
        return self.gt(value)

    def __ge__(self, value: Any) -> Condition:
        return self.ge(value)

    def __lt__(self, value: Any) -> Condition:
        return self.lt(value)

    def __le__(self, value: Any) -> Condition:
        return self.le(value)

    def __neg__(self) -> str:
        return self.desc()

    def __bool__(self) -> NoReturn:
        no_truth(f"the column {self._name!r}")

    def __contains__(self, item: object) -> NoReturn:
        no_truth(f"`in` on the column {self._name!r}")

    def _of(self, old: Callable[[Any], Any]) -> Any:
        return old(self)

    def _refuse(self, *_: object) -> NoReturn:
        no_truth(f"the column {self._name!r}")

    __and__ = __rand__ = __or__ = __ror__ = __invert__ = _refuse

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"the column {self._name!r} can't be iterated over: it stands for a value in each row")

    def __repr__(self) -> str:
        return f"col({self._name!r})"


def col(name: Any) -> Any:
    """A column by its name, or the column that a class attribute stands for.

    Example:
        >>> from pykesto import col
        >>> str((col("age") >= 18) & ~col("tags").contains("bot"))
        "(age >= 18 and not tags contains 'bot')"
    """
    return name if isinstance(name, Column) else Column(name)
