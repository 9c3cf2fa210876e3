"""What a function can name: the values around it, and in the functions that it can name."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from typing import Any

from ..codec import encode, is_scalar_encoding
from ..errors import CodecError
from .persistent import Persistent


def identities(predicate: Callable[[Any], Any]) -> tuple[list[Any], bool]:
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


def functions_of(predicate: Callable[[Any], Any]) -> list[types.FunctionType]:
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
    yield from (fn.__globals__[name] for name in names_in(fn.__code__) if name in fn.__globals__)


def _at_hand(predicate: Callable[[Any], Any]) -> Iterator[Any]:
    """The values that a predicate can name: defaults, and variables around it."""
    functions = functions_of(predicate)
    if not functions:
        yield predicate
    for fn in functions:
        yield from (value for value in _around(fn) if not isinstance(value, types.FunctionType))


def names_in(code: types.CodeType) -> set[str]:
    """The global names and attributes that a function names, and those within it."""
    return set(code.co_names).union(*(names_in(inner) for inner in code.co_consts if isinstance(inner, types.CodeType)))
