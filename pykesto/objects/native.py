"""Native queries: a predicate in plain Python, found out by running it, and turned into conditions.

The predicate runs on a symbol in place of an object. Each attribute that it reads is in turn missing, None, True,
False, or something else, which a symbol stands for; each test of a symbol is in turn true and false.
So all its branches are run, and each branch that ends well is a conjunction of conditions. What can't be expressed is
left out of them: then more is found than wanted, and the predicate decides on each object. No byte code is read.
"""

from __future__ import annotations

import opcode
import re
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..query import Condition
from .branches import Branch, told_apart, united
from .naming import functions_of, identities, names_in
from .persistent import Persistent
from .ranges import REFERENCES, both
from .registry import classes, with_subclasses
from .symbols import GiveUp, Impossible, Impure, Run, Symbol, Told

BRANCHES_MAX = 2000
_TELLING = {"type", "callable", "vars", "dir"}
_PATTERNS = {opcode.opmap["MATCH_MAPPING"], opcode.opmap["MATCH_SEQUENCE"]}
NO_MATCH = (AttributeError, TypeError, LookupError)
_OURS = __package__ + "."
_COMPARING = {"__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__add__", "__sub__", "__mul__", "__mod__"}
_ASKING = {"__bool__", "__len__", "__contains__", "__getitem__", "__iter__", "__call__", "__getattr__"}
_ASKING |= {"__getattribute__"}


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a predicate comes down to. `reasons`: what could not be turned into conditions, and why."""

    condition: Condition | None  # None: nothing is known, every object is to be asked
    exact: bool
    reasons: tuple[str, ...]


def analyse(cls: type[Persistent], predicate: Callable[[Any], Any]) -> Analysis:
    """The conditions that a predicate comes down to; what it answers is a part of what they find."""
    for fn in functions_of(predicate):
        if telling := sorted(_telling(fn.__code__)):
            return Analysis(None, False, (f"it uses {telling[0]}, which tells of a symbol that it is one",))
    at_hand, hidden = identities(predicate)
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
    told, wider = told_apart(branches, special)
    if told:
        reasons["`is` tells values apart"] = None
    condition = united(branches + wider)
    return Analysis(condition, exact and not told and condition is not None, tuple(reasons))


def _has_own(cls: type[Persistent], names: set[str]) -> bool:
    """Whether a class has a method of one of these names that other objects have not."""
    return any(_found(cls, name) not in (_found(Persistent, name), _found(object, name)) for name in names)


def _found(cls: type, name: str) -> Any:
    return next((vars(above)[name] for above in cls.__mro__ if name in vars(above)), None)


def _hidden(branch: Branch) -> Iterator[Branch]:
    """Where a value may be an object that the predicate can get at, we can't tell how."""
    for column in [column for column, value in branch.reads.items() if type(value) is Symbol]:
        if left := both(branch.ranges.get(column, ()), REFERENCES):
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


def _telling(code: types.CodeType) -> Iterator[str]:
    """What a function does that a symbol can't answer as a value would, and can't refuse."""
    if not _PATTERNS.isdisjoint(code.co_code[::2]):
        yield "a pattern of a container"
    for name in names_in(code):
        if name in _TELLING or name.startswith("__"):
            yield name
    for constant in code.co_consts:
        if isinstance(constant, str) and constant.startswith("__"):  # hasattr(p.tags, "__len__")
            yield constant
        elif isinstance(constant, types.CodeType):
            yield from _telling(constant)


_OF_A_VALUE = re.compile(r"'(NoneType|bool|int|float|str|bytes|list|dict|set|tuple|Root)'")
_OF_A_SYMBOL = re.compile(r"\b(Symbol|Opaque|Answer)\b")


def _is_of_the_object(error: Exception, run: Run) -> bool:
    """Whether the object would raise this, too: a symbol may have been given to what wants a str, and says so."""
    if isinstance(error, (Told, LookupError)) or not run.has_symbols():
        return True
    text = str(error)
    return _OF_A_VALUE.search(text) is not None and _OF_A_SYMBOL.search(text) is None


def _outcome(run: Run, predicate: Callable[[Any], Any]) -> bool | None:
    """Whether the predicate holds on this way; None: it may."""
    try:
        return bool(predicate(run.root))
    except NO_MATCH as error:
        if _is_of_the_object(error, run):
            return False
        run.doubt(f"it raises {type(error).__name__} of a symbol")
        return None
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
