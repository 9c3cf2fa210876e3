"""Symbols that stand for objects and their values while a predicate is run to find out what it asks."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from typing import Any

from ..codec import Reference, family_range, range_of
from ..errors import CodecError, UsageError
from ..query import Column, Condition
from ..query.expressions import InRanges, Not
from .branches import Branch
from .columns import STEP
from .persistent import Persistent
from .ranges import FALSE, FALSY, NONE, OTHER, PRESENT, REFERENCES, TRUE, Ranges, both, either, without
from .registry import classes, with_subclasses

_METHODS = {name for kind in (str, bytes, list, dict, set, tuple, int, float) for name in dir(kind)}


class GiveUp(BaseException):
    """A branch does what can't be followed. No Exception, so that a predicate does not catch it."""


class Told:
    """An error that each object which comes along the branch raises."""


class NoAttribute(Told, AttributeError):
    pass


class NoSuchOperation(Told, TypeError):
    pass


class Run:
    """One run of the predicate, along decisions that are given; beyond them, the first way at each fork."""

    def __init__(self, cls: type[Persistent], decisions: list[int], at_hand: list[Any], odd: bool) -> None:
        self.cls = cls
        self.at_hand = at_hand
        self.odd = odd  # there are classes whose objects can be compared or asked like values
        self.decisions = decisions
        self.widths: list[int] = []
        self.branch = Branch()
        self.exact = True
        self.impossible = False
        self.reasons: list[str] = []
        self.root = Root(self)

    def fork(self, ways: int) -> int:
        """Which way to go."""
        at = len(self.widths)
        self.widths.append(ways)
        if at == len(self.decisions):
            self.decisions.append(0)
        return self.decisions[at]

    def doubt(self, reason: str) -> None:
        self.exact = False
        if reason not in self.reasons:
            self.reasons.append(reason)

    def narrow(self, column: str, ranges: Ranges) -> None:
        left = both(self.branch.ranges.get(column, PRESENT), ranges)
        if not left:
            raise Impossible
        self.branch.ranges[column] = left

    def read(self, column: str, default: Any = None, has_default: bool = False) -> Any:
        """The value of an attribute, the same at each reading."""
        if column not in self.branch.reads:
            self.branch.reads[column] = self._first_read(column, default, has_default)
        return self.branch.reads[column]

    def _first_read(self, column: str, default: Any, has_default: bool) -> Any:
        read = [c for c, value in self.branch.reads.items() if type(value) is Symbol]
        kind = self.fork(6 + len(self.at_hand) + len(read))
        ranges: Ranges = OTHER
        value: Any = Symbol(self, column)
        if kind == 1:
            ranges, value = (), default
        elif kind <= 4 and kind:
            ranges, value = ((NONE, None), (TRUE, True), (FALSE, False))[kind - 2]
        elif kind == 5:
            ranges, value = REFERENCES, self.root
        elif kind > 5:
            self.branch.special = True
            ranges, value = self._at_hand(kind - 6, read)
        self.branch.special = self.branch.special or kind >= 5
        self.branch.ranges[column] = ranges
        if kind == 1 and not has_default:
            if STEP in column and any(_has_default(known, column.split(STEP)[-1]) for known in classes.values()):
                raise GiveUp(f"{column.replace(STEP, '.')} may have a default")
            raise NoAttribute(column)
        return value

    def _at_hand(self, number: int, read: list[str]) -> tuple[Ranges, Any]:
        """One of the values that `is` may tell: those that the predicate can name, and what it read already."""
        if number < len(self.at_hand):
            value = self.at_hand[number]
            reference = isinstance(value, Persistent)
            return (REFERENCES if reference and not value._k_key else (equal_to(value),)), value
        column = read[number - len(self.at_hand)]
        self.narrow(column, REFERENCES)
        return REFERENCES, self.branch.reads[column]

    def has_symbols(self) -> bool:
        """Whether the predicate was given anything but plain values, and objects that can do as little as the root."""
        return any(type(value) in _UNKNOWN for value in self.branch.reads.values())

    def unknown(self, reason: str) -> bool:
        """A test of which nothing is known."""
        self.doubt(reason)
        return self.fork(2) == 0

    def require(self, column: str, within: Ranges, error: type[Exception]) -> None:
        """What values of other kinds raise is raised for them."""
        if self.odd:
            within = either(within, REFERENCES)
        if self.fork(2) == 1:
            self.narrow(column, without(PRESENT, within))
            raise error(column)
        self.narrow(column, within)

    def ask(self, column: str, condition: Condition, within: Ranges = PRESENT) -> bool:
        """Whether a condition on a column holds: it does, then it does not. Of other values it can't be asked."""
        holds = self.fork(2) == 0
        if isinstance(condition, InRanges):
            wanted = condition.ranges if holds else without(within, condition.ranges)
        else:
            wanted = within
            self.branch.tests.append(condition if holds else Not(condition))
            self.exact = self.exact and not self.odd
        if self.odd and wanted != PRESENT:
            wanted, self.exact = either(wanted, REFERENCES), False
        if wanted != PRESENT:
            self.narrow(column, wanted)
        return holds


def equal_to(value: Any) -> tuple[bytes, bytes]:
    return range_of(Reference(value._k_key or b"") if isinstance(value, Persistent) else value)


def _has_default(cls: type[Persistent], name: str) -> bool:
    return name in cls._k_attributes and cls._k_attributes[name].has_default


class Impossible(GiveUp):
    """No object comes along this branch."""


class Impure(UsageError):
    """The predicate does more than tell."""


class Root:
    """Stands for the object."""

    def __init__(self, run: Run) -> None:
        self.__dict__["_run"] = run

    @property
    def __class__(self) -> Any:
        raise GiveUp("the object's class is asked for")

    @__class__.setter
    def __class__(self, cls: Any) -> None:
        raise Impure("a native query must not change objects")

    def __getattr__(self, name: str) -> Any:
        run, cls = self._run, self._run.cls
        if name == "k_id":
            return Symbol(run, "k_id")
        declared = cls._k_attributes.get(name)
        if declared is None and name in _METHODS and name not in _ever_declared():
            raise NoAttribute(name)  # read of a symbol's place: it is no str that has such a method
        if declared is None and any(hasattr(known, name) for known in with_subclasses(cls)):
            return self._of_class(name)
        if declared is not None and declared.default_factory is not None:
            run.doubt(f"{name} has a default that is made anew")
        default = declared.default if declared is not None else None
        has_default = declared is not None and declared.has_default
        if declared is not None and declared.transient:
            raise GiveUp(f"{name} is not stored")
        if has_default and declared is not None and declared.default_factory is not None:
            default = Opaque(run, name)
        return run.read(cls._k_stored.get(name, name), default, has_default)

    def _of_class(self, name: str) -> Any:
        """A method, property or constant of the class, if all classes below it have the same."""
        found = {id(inspect.getattr_static(known, name, None)) for known in with_subclasses(self._run.cls)}
        of_class = inspect.getattr_static(self._run.cls, name, None)
        if len(found) > 1:
            raise GiveUp(f"{name} differs between classes")
        if isinstance(of_class, property) and of_class.fget is not None:
            return of_class.fget(self)
        if isinstance(of_class, types.FunctionType):
            return types.MethodType(of_class, self)
        raise GiveUp(f"{name} is of the class")

    def __setattr__(self, name: str, value: Any) -> None:
        raise Impure("a native query must not change objects", hint="loop over its answer")

    def __eq__(self, other: object) -> bool:
        if type(other) is Symbol:
            return bool(other == self)
        self._require_plain()
        return other is self

    def _require_plain(self, *_: Any) -> Any:
        if self._run.odd:
            raise GiveUp("objects are compared, or asked like values")
        return NotImplemented

    def _no_value(self, *_: Any) -> Any:
        self._require_plain()
        raise NoSuchOperation("an object is no such value")

    def __bool__(self) -> bool:
        self._require_plain()
        return True

    def __hash__(self) -> int:
        raise GiveUp("the object is hashed")

    __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _require_plain
    __mod__ = __rmod__ = __truediv__ = __rtruediv__ = _require_plain
    __len__ = __iter__ = __contains__ = __getitem__ = __call__ = __index__ = __int__ = __float__ = _no_value

    def __repr__(self) -> str:
        raise GiveUp("the object is shown")


class Opaque:
    """A value of which nothing is known but that it was made from an attribute."""

    def __init__(self, run: Run, column: str) -> None:
        self._run, self._column = run, column

    def _unknown(self, what: str) -> bool:
        return self._run.unknown(f"{what} {self._column.replace(STEP, '.')}")

    def _made(self, *_: Any, **__: Any) -> Any:
        return Opaque(self._run, self._column)

    def _lost(self, *_: Any) -> Any:
        raise GiveUp(f"a plain value is needed of {self._column.replace(STEP, '.')}")

    __class__ = property(_lost)  # what isinstance() asks for

    def __bool__(self) -> bool:
        return self._unknown("a test of what is computed from")

    def _compared(self, other: Any) -> Any:
        return Answer(lambda: self._unknown("a comparison of what is computed from"))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            self._lost()
        return self._made()

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _compared
    __call__ = __getitem__ = _made
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _made
    __mod__ = __rmod__ = __floordiv__ = __rfloordiv__ = __neg__ = __pos__ = __abs__ = __pow__ = __rpow__ = _made
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __invert__ = _made
    __hash__ = __len__ = __iter__ = __int__ = __float__ = __index__ = __str__ = __repr__ = __format__ = _lost
    __contains__ = _lost


class Answer:
    """What a comparison gives: asked when its truth is."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        self._ask = ask
        self._said: bool | None = None

    @property
    def __class__(self) -> Any:
        raise GiveUp("the class of a comparison is asked for")

    @__class__.setter
    def __class__(self, cls: Any) -> None:
        raise Impure("a native query must not change objects")

    def __bool__(self) -> bool:
        if self._said is None:
            self._said = self._ask()
        return self._said

    def _joined(self, other: Any) -> Any:
        raise GiveUp("comparisons are joined by & | ^ or compared")

    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __eq__ = __ne__ = _joined
    __hash__ = None  # type: ignore[assignment]
    __add__ = __radd__ = __lt__ = __gt__ = __le__ = __ge__ = __int__ = __index__ = _joined


class Symbol(Opaque):
    """A value that is neither missing, None, True nor False."""

    def _compare(self, operator: str, other: Any) -> Any:
        if type(other) is Root:
            return Answer(lambda: self._is_root())
        if type(other) in _UNKNOWN:
            return self._compared(other)
        try:
            condition = getattr(Column, operator)(Column(self._column), other)
        except UsageError:  # what can't be stored, or has no order, may still be compared by code of its own
            return self._compared(other)
        if isinstance(other, Persistent):
            self._run.exact = False  # one of another session is another object
        if operator == "equals":
            return Answer(lambda: self._run.ask(self._column, condition, PRESENT))
        within = _comparable(other)
        self._run.require(self._column, within, NoSuchOperation)
        return Answer(lambda: self._run.ask(self._column, condition, within))

    def _is_root(self) -> bool:
        self._run.narrow(self._column, REFERENCES)
        return self._unknown("a comparison with the object itself of")

    def __eq__(self, other: object) -> Any:
        return self._compare("equals", other)

    def __ne__(self, other: object) -> Any:
        equal = self._compare("equals", other)
        return Answer(lambda: not equal)

    def __lt__(self, other: Any) -> Any:
        return self._compare("lt", other)

    def __le__(self, other: Any) -> Any:
        return self._compare("le", other)

    def __gt__(self, other: Any) -> Any:
        return self._compare("gt", other)

    def __ge__(self, other: Any) -> Any:
        return self._compare("ge", other)

    def __hash__(self) -> int:
        raise GiveUp(f"{self._column.replace(STEP, '.')} is hashed, or looked up in a set or dict")

    def __bool__(self) -> bool:
        truth = self._run.fork(2) == 0
        if not truth:
            self._run.narrow(self._column, FALSY)
        self._run.doubt(f"whether {self._column.replace(STEP, '.')} is true or false")
        return truth

    def _is_reference(self) -> bool:
        """Whether it is an object, which may be a container of its own kind."""
        found = self._run.fork(2) == 1
        self._run.narrow(self._column, REFERENCES if found else without(PRESENT, REFERENCES))
        return found

    def __contains__(self, item: Any) -> bool:
        if self._is_reference() or type(item) in (Root, *_UNKNOWN):
            return self._unknown("what is contained in")
        try:
            condition = Column(self._column).contains(item)
        except CodecError:
            return self._unknown("what is contained in")
        return self._run.ask(self._column, condition)

    def __getitem__(self, key: Any) -> Any:
        if type(key) is not str or not key or "." in key or self._is_reference():
            return self._made()
        return self._run.read(f"{self._column}.{key}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            self._lost()
        if name in ("startswith", "endswith"):
            return lambda *affix: self._affix(name, *affix)
        if name in _METHODS:
            return self._made()
        return self._run.read(self._column + STEP + name)

    def _affix(self, name: str, *affix: Any) -> Any:
        if len(affix) != 1 or type(affix[0]) not in (str, bytes):
            return self._made()
        condition = getattr(Column, name)(Column(self._column), affix[0])
        within = (family_range(affix[0]),)
        self._run.require(self._column, within, NoAttribute)
        return Answer(lambda: self._run.ask(self._column, condition, within))


_UNKNOWN = (Opaque, Symbol, Answer)


def _comparable(operand: Any) -> Ranges:
    """The values that have an order with an operand."""
    lo, hi = family_range(operand)
    return ((lo, b"\xbc" if hi == b"\xbb" else hi),)  # NaN can be asked, too


def _ever_declared() -> set[str]:
    return {name for known in classes.values() for name in dir(known)}
