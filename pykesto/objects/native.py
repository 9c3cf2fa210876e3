"""Native queries: a predicate in plain Python, found out by running it, and turned into conditions.

The predicate runs on a symbol in place of an object. Each attribute that it reads is in turn missing, None, True,
False, or something else, which a symbol stands for; each test of a symbol is in turn true and false.
So all its branches are run, and each branch that ends well is a conjunction of conditions. What can't be expressed is
left out of them: then more is found than wanted, and the predicate decides on each object. No byte code is read.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from ..codec import Reference, encode, family_range, is_scalar_encoding, range_of
from ..errors import CodecError, UsageError
from ..query import Column, Condition
from ..query.expressions import And, Exists, InRanges, Not, Or
from .columns import STEP
from .persistent import Persistent
from .registry import classes, with_subclasses

BRANCHES_MAX = 2000
NO_MATCH = (AttributeError, TypeError, LookupError)
Ranges = tuple[tuple[bytes, bytes], ...]

_END = b"\xff"  # beyond every value
_PRESENT: Ranges = ((b"", _END),)


def _only(value: Any) -> Ranges:
    """Just this value, of just this type."""
    encoded = encode(value)
    return ((encoded, encoded + b"\0"),)


def without(ranges: Ranges, taken: Ranges) -> Ranges:
    """What is in some ranges and not in others."""
    for lo, hi in taken:
        pieces = [piece for a, b in ranges for piece in ((a, min(b, lo)), (max(a, hi), b)) if piece[0] < piece[1]]
        ranges = tuple(sorted(set(pieces)))
    return ranges


def both(one: Ranges, other: Ranges) -> Ranges:
    found = [(max(a, c), min(b, d)) for a, b in one for c, d in other]
    return tuple(sorted((lo, hi) for lo, hi in found if lo < hi))


def either(one: Ranges, other: Ranges) -> Ranges:
    merged: list[tuple[bytes, bytes]] = []
    for lo, hi in sorted(one + other):
        if merged and lo <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
        else:
            merged.append((lo, hi))
    return tuple(merged)


_NONE, _TRUE, _FALSE = _only(None), _only(True), _only(False)
_OTHER = reduce(without, (_NONE, _TRUE, _FALSE), _PRESENT)
_REFERENCES: Ranges = ((b"\xc9", b"\xca"),)
_CONTAINERS: Ranges = ((b"\xc9", _END),)  # references too: they may be to containers
_FALSY: Ranges = reduce(either, ((range_of(zero),) for zero in (0, "", b"")), (*_CONTAINERS, (b"\xc7", b"\xc8")))


class GiveUp(BaseException):
    """A branch does what can't be followed. No Exception, so that a predicate does not catch it."""


@dataclass(slots=True)
class Branch:
    """What must hold of an object for the predicate to come along here."""

    ranges: dict[str, Ranges] = field(default_factory=dict)  # by column; none: it is missing
    tests: list[Condition] = field(default_factory=list)
    reads: dict[str, Any] = field(default_factory=dict)  # what was given for each attribute
    special: bool = False  # a value is one that the predicate has at hand, so that `is` tells it

    def condition(self) -> Condition:
        parts: list[Condition] = []
        for column, ranges in self.ranges.items():
            if not ranges:
                parts.append(Not(Exists(column)))
            elif ranges == _PRESENT:
                parts.append(Exists(column))
            else:
                parts.append(InRanges(column, ranges, f"{column.replace(STEP, '.')} in {len(ranges)} ranges"))
        parts += self.tests
        return parts[0] if len(parts) == 1 else And(tuple(parts))


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a predicate comes down to. `reasons`: what could not be turned into conditions, and why."""

    condition: Condition | None  # None: nothing is known, every object is to be asked
    exact: bool
    reasons: tuple[str, ...]


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
        left = both(self.branch.ranges.get(column, _PRESENT), ranges)
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
        ranges: Ranges = _OTHER
        value: Any = Symbol(self, column)
        if kind == 1:
            ranges, value = (), default
        elif kind <= 4 and kind:
            ranges, value = ((_NONE, None), (_TRUE, True), (_FALSE, False))[kind - 2]
        elif kind == 5:
            ranges, value = _REFERENCES, self.root
        elif kind > 5:
            self.branch.special = True
            ranges, value = self._at_hand(kind - 6, read)
        self.branch.special = self.branch.special or kind >= 5
        self.branch.ranges[column] = ranges
        if kind == 1 and not has_default:
            if STEP in column and any(_has_default(known, column.split(STEP)[-1]) for known in classes.values()):
                raise GiveUp(f"{column.replace(STEP, '.')} may have a default")
            raise AttributeError(column)
        return value

    def _at_hand(self, number: int, read: list[str]) -> tuple[Ranges, Any]:
        """One of the values that `is` may tell: those that the predicate can name, and what it read already."""
        if number < len(self.at_hand):
            value = self.at_hand[number]
            reference = isinstance(value, Persistent)
            return (_REFERENCES if reference and not value._k_key else (_equal_to(value),)), value
        column = read[number - len(self.at_hand)]
        self.narrow(column, _REFERENCES)
        return _REFERENCES, self.branch.reads[column]

    def unknown(self, reason: str) -> bool:
        """A test of which nothing is known."""
        self.doubt(reason)
        return self.fork(2) == 0

    def require(self, column: str, within: Ranges, error: type[Exception]) -> None:
        """What values of other kinds raise is raised for them."""
        if self.odd:
            within = either(within, _REFERENCES)
        if self.fork(2) == 1:
            self.narrow(column, without(_PRESENT, within))
            raise error(column)
        self.narrow(column, within)

    def ask(self, column: str, condition: Condition, within: Ranges = _PRESENT) -> bool:
        """Whether a condition on a column holds: it does, then it does not. Of other values it can't be asked."""
        holds = self.fork(2) == 0
        if isinstance(condition, InRanges):
            wanted = condition.ranges if holds else without(within, condition.ranges)
        else:
            wanted = within
            self.branch.tests.append(condition if holds else Not(condition))
            self.exact = self.exact and not self.odd
        if self.odd and wanted != _PRESENT:
            wanted, self.exact = either(wanted, _REFERENCES), False
        if wanted != _PRESENT:
            self.narrow(column, wanted)
        return holds


def _equal_to(value: Any) -> tuple[bytes, bytes]:
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
            raise AttributeError(name)  # read of a symbol's place: it is no str that has such a method
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
        if isinstance(other, Symbol):
            return bool(other == self)
        self._require_plain()
        return other is self

    def _require_plain(self, *_: Any) -> Any:
        if self._run.odd:
            raise GiveUp("objects are compared, or asked like values")
        return NotImplemented

    def _no_value(self, *_: Any) -> Any:
        self._require_plain()
        raise TypeError("an object is no such value")

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

    def __bool__(self) -> bool:
        return self._unknown("a test of what is computed from")

    def _compared(self, other: Any) -> Any:
        return Answer(lambda: self._unknown("a comparison of what is computed from"))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
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
        if isinstance(other, Root):
            return Answer(lambda: self._is_root())
        if isinstance(other, (Opaque, Answer)):
            return self._compared(other)
        try:
            condition = getattr(Column, operator)(Column(self._column), other)
        except UsageError:  # what can't be stored, or has no order, may still be compared by code of its own
            return self._compared(other)
        if isinstance(other, Persistent):
            self._run.exact = False  # one of another session is another object
        if operator == "equals":
            return Answer(lambda: self._run.ask(self._column, condition, _PRESENT))
        within = _comparable(other)
        self._run.require(self._column, within, TypeError)
        return Answer(lambda: self._run.ask(self._column, condition, within))

    def _is_root(self) -> bool:
        self._run.narrow(self._column, _REFERENCES)
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
            self._run.narrow(self._column, _FALSY)
        self._run.doubt(f"whether {self._column.replace(STEP, '.')} is true or false")
        return truth

    def _is_reference(self) -> bool:
        """Whether it is an object, which may be a container of its own kind."""
        found = self._run.fork(2) == 1
        self._run.narrow(self._column, _REFERENCES if found else without(_PRESENT, _REFERENCES))
        return found

    def __contains__(self, item: Any) -> bool:
        if self._is_reference() or isinstance(item, (Opaque, Answer, Root)):
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
            raise AttributeError(name)
        if name in ("startswith", "endswith"):
            return lambda *affix: self._affix(name, *affix)
        if name in _METHODS:
            return self._made()
        return self._run.read(self._column + STEP + name)

    def _affix(self, name: str, *affix: Any) -> Any:
        if len(affix) != 1 or not isinstance(affix[0], (str, bytes)):
            return self._made()
        condition = getattr(Column, name)(Column(self._column), affix[0])
        within = (family_range(affix[0]),)
        self._run.require(self._column, within, AttributeError)
        return Answer(lambda: self._run.ask(self._column, condition, within))


def _comparable(operand: Any) -> Ranges:
    """The values that have an order with an operand."""
    lo, hi = family_range(operand)
    return ((lo, b"\xbc" if hi == b"\xbb" else hi),)  # NaN can be asked, too


def _ever_declared() -> set[str]:
    return {name for known in classes.values() for name in dir(known)}


_OURS = __package__ + "."
_COMPARING = {"__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__add__", "__sub__", "__mul__", "__mod__"}
_ASKING = {"__bool__", "__len__", "__contains__", "__getitem__", "__iter__", "__call__", "__getattr__"}
_ASKING |= {"__getattribute__"}
_METHODS = {name for kind in (str, bytes, list, dict, set, tuple, int, float) for name in dir(kind)}


def analyse(cls: type[Persistent], predicate: Callable[[Any], Any]) -> Analysis:
    """The conditions that a predicate comes down to; what it answers is a part of what they find."""
    if any("type" in _names(fn.__code__) for fn in _functions(predicate)):
        return Analysis(None, False, ("it calls type(), which tells of a symbol that it is one",))
    at_hand, hidden = _identities(predicate)
    odd = any(_has_own(known, _COMPARING) for known in classes.values() if not known.__module__.startswith(_OURS))
    odd = odd or any(_has_own(known, _COMPARING | _ASKING) for known in with_subclasses(cls))
    branches: list[Branch] = []
    special: list[tuple[Branch, bool | None]] = []
    reasons: dict[str, None] = {}
    exact = True
    for count, run in enumerate(_runs(cls, at_hand, odd)):
        if count >= BRANCHES_MAX:
            return Analysis(None, False, (f"it has more than {BRANCHES_MAX} branches",))
        outcome = _outcome(run, predicate)
        if run.impossible:
            continue
        reasons |= dict.fromkeys(run.reasons)
        if run.branch.special:
            special.append((run.branch, outcome))
        elif outcome is not False:
            exact = exact and run.exact and outcome is True
            branches.append(run.branch)
        if hidden and outcome is not None:
            special += ((branch, not outcome) for branch in _hidden(run.branch))
    told, wider = _told_apart(branches, special)
    if told:
        reasons["`is` tells values apart"] = None
    condition = _united(branches + wider)
    return Analysis(condition, exact and not told and condition is not None, tuple(reasons))


def _has_own(cls: type[Persistent], names: set[str]) -> bool:
    """Whether a class has a method of one of these names that other objects have not."""
    return any(_found(cls, name) not in (_found(Persistent, name), _found(object, name)) for name in names)


def _found(cls: type, name: str) -> Any:
    return next((vars(above)[name] for above in cls.__mro__ if name in vars(above)), None)


def _told_apart(branches: list[Branch], special: list[tuple[Branch, bool | None]]) -> tuple[bool, list[Branch]]:
    """Whether `is` makes a difference, and the branches where values found by it count while their equals do not."""
    wider = []
    told = False
    for branch, outcome in special:
        if outcome is False:
            told = told or any(_overlap(branch, other) for other in branches)
        elif not any(_covers(other, branch) for other in branches):
            told = True
            wider.append(branch)
    return told, wider


def _overlap(one: Branch, other: Branch) -> bool:
    return all(
        both(ranges, other.ranges[column]) or ranges == other.ranges[column]
        for column, ranges in one.ranges.items()
        if column in other.ranges
    )


def _covers(wide: Branch, narrow: Branch) -> bool:
    if any(test not in narrow.tests for test in wide.tests):
        return False
    return all(
        column in narrow.ranges and (ranges == narrow.ranges[column] or _within(narrow.ranges[column], ranges))
        for column, ranges in wide.ranges.items()
    )


def _within(narrow: Ranges, wide: Ranges) -> bool:
    return bool(narrow) and not without(narrow, wide)


def _hidden(branch: Branch) -> Iterator[Branch]:
    """Where a value may be an object that the predicate can get at, we can't tell how."""
    for column in [column for column, value in branch.reads.items() if type(value) is Symbol]:
        if left := both(branch.ranges.get(column, ()), _REFERENCES):
            yield Branch(branch.ranges | {column: left}, list(branch.tests))


def _runs(cls: type[Persistent], at_hand: list[Any], odd: bool) -> Iterator[Run]:
    """A run for each way through the predicate; each is to be made before the next is asked for."""
    decisions: list[int] = []
    while True:
        run = Run(cls, decisions, at_hand, odd)
        yield run
        decisions = decisions[: len(run.widths)]
        while decisions and decisions[-1] == run.widths[len(decisions) - 1] - 1:
            decisions.pop()
        if not decisions:
            return
        decisions[-1] += 1


def _outcome(run: Run, predicate: Callable[[Any], Any]) -> bool | None:
    """Whether the predicate holds on this way; None: it may."""
    try:
        return bool(predicate(run.root))
    except NO_MATCH:
        return False
    except Impossible:
        run.impossible = True
        return False
    except GiveUp as reason:
        run.doubt(str(reason))
        return None
    except RecursionError:
        run.doubt("it recurs")
        return None
    except Impure:
        raise
    except Exception as error:  # noqa: BLE001  the object on which it is raised will raise it
        run.doubt(f"it raises {type(error).__name__}")
        return None


def _identities(predicate: Callable[[Any], Any]) -> tuple[list[Any], bool]:
    """What `is` may compare with: objects and values that the predicate can name, and whether there is more behind."""
    found: list[Any] = []
    hidden = False
    for value in _at_hand(predicate):
        if isinstance(value, Persistent) or _is_scalar(value):
            if not any(value is known for known in found) and not isinstance(value, (bool, type(None))):
                found.append(value)
        elif not isinstance(value, types.BuiltinFunctionType):
            hidden = True
    return found, hidden


def _is_scalar(value: Any) -> bool:
    try:
        return is_scalar_encoding(encode(value))
    except CodecError:
        return False


def _functions(predicate: Callable[[Any], Any]) -> list[types.FunctionType]:
    """The predicate and the functions that it can name, and those that they can."""
    found: list[types.FunctionType] = []
    todo: list[Any] = [predicate]
    while todo:
        fn = todo.pop()
        if isinstance(fn, types.FunctionType) and fn not in found:
            found.append(fn)
            todo += _around(fn)
    return found


def _around(fn: types.FunctionType) -> Iterator[Any]:
    """The values of the variables around a function that it names, and its defaults."""
    yield from fn.__defaults__ or ()
    yield from (fn.__kwdefaults__ or {}).values()
    for cell in fn.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue
    yield from (fn.__globals__[name] for name in _names(fn.__code__) if name in fn.__globals__)


def _at_hand(predicate: Callable[[Any], Any]) -> Iterator[Any]:
    """The values that a predicate can name: defaults, and variables around it."""
    functions = _functions(predicate)
    if not functions:
        yield predicate
    for fn in functions:
        yield from (value for value in _around(fn) if not isinstance(value, types.FunctionType))


def _names(code: types.CodeType) -> set[str]:
    """The global names and attributes that a function names, and those within it."""
    return set(code.co_names).union(*(_names(inner) for inner in code.co_consts if isinstance(inner, types.CodeType)))


def _united(branches: list[Branch]) -> Condition | None:
    """Any of the branches; those that differ in one column only are one, with the ranges of both."""
    done: list[Branch] = []
    for branch in branches:
        for other in done:
            if branch.tests == other.tests and branch.ranges.keys() == other.ranges.keys():
                differ = [c for c in branch.ranges if branch.ranges[c] != other.ranges[c]]
                missing = any(not branch.ranges[c] or not other.ranges[c] for c in differ)
                if len(differ) <= 1 and not missing:
                    for column in differ:
                        other.ranges[column] = either(branch.ranges[column], other.ranges[column])
                    break
        else:
            done.append(Branch(dict(branch.ranges), list(branch.tests)))
    if len(done) != len(branches):
        return _united(done)
    if any(not branch.ranges and not branch.tests for branch in done):
        return None
    if not done:
        return InRanges("k_id", (), "nothing")
    shared = {column: ranges for column, ranges in _shared(done).items() if ranges != _PRESENT}
    for branch in done:  # what is said of all branches together need not be said of each
        branch.ranges = {c: ranges for c, ranges in branch.ranges.items() if shared.get(c) != ranges}
    parts = [Branch({column: ranges}).condition() for column, ranges in shared.items()]
    if all(branch.ranges or branch.tests for branch in done):
        parts.append(done[0].condition() if len(done) == 1 else Or(tuple(branch.condition() for branch in done)))
    return None if not parts else parts[0] if len(parts) == 1 else And(tuple(parts))


def _shared(branches: list[Branch]) -> dict[str, Ranges]:
    """The columns that every branch has, and in which ranges one of them can be: what an index may serve."""
    columns = [c for c in branches[0].ranges if all(branch.ranges.get(c) for branch in branches)]
    return {column: reduce(either, (branch.ranges[column] for branch in branches)) for column in columns}
