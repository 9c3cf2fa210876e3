"""Types of the application that can be stored: enums, dataclasses, namedtuples, and others by two functions.

What is stored is the type's name and a plain value. Reading makes instances of registered types alone; anything else is
an `Unknown` with that name and value, which is stored again as it was.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Any, TypeVar, overload

from ..errors import UsageError
from ._codec import add_type, encode_key

__all__ = ["register"]

_NAME_BYTES_MAX = 255
_T = TypeVar("_T", bound=type)
_names: dict[str, type] = {}


@overload
def register(
    cls: _T,
    *,
    name: str | None = None,
    dump: Callable[[Any], Any] | None = None,
    load: Callable[[Any], Any] | None = None,
    ordered: bool = False,
) -> _T: ...


@overload
def register(
    cls: None = None,
    *,
    name: str | None = None,
    dump: Callable[[Any], Any] | None = None,
    load: Callable[[Any], Any] | None = None,
    ordered: bool = False,
) -> Callable[[_T], _T]: ...


def register(
    cls: Any = None,
    *,
    name: str | None = None,
    dump: Callable[[Any], Any] | None = None,
    load: Callable[[Any], Any] | None = None,
    ordered: bool = False,
) -> Any:
    """Let instances of a class be stored, under the class's name or another; also as a decorator.

    Every process registers the same. Enums, dataclasses and namedtuples need nothing else. Of other classes `dump(x)`
    gives what is stored, and `load` makes an instance of that; with `ordered` it is a scalar, which can be a key and is
    ordered, within the class, as what is stored. `load` may give NotImplemented for what it does not know: that is
    read as an Unknown. UsageError: the class can't be registered so, or another has the name.

    - A member of an enum is stored as its value, which must be a scalar, and is ordered so. Members that are equal to
      their value (IntEnum, IntFlag, StrEnum) are the same key as that.
    - A dataclass is stored as a dict of its fields. Reading runs no `__init__`: a field that is missing gets its
      default, one that the class no longer has is left out.
    - A namedtuple is stored, and ordered, as the tuple that it is equal to.

    >>> @register
    ... class Suit(enum.Enum):
    ...     HEARTS = 1
    >>> decode(encode([Suit.HEARTS]))
    [<Suit.HEARTS: 1>]
    """
    if cls is None:
        return lambda cls: register(cls, name=name, dump=dump, load=load, ordered=ordered)
    if not isinstance(cls, type):
        raise TypeError(f"only a class can be registered, not {cls!r}")
    name = cls.__qualname__ if name is None else name
    _require_name(cls, name)
    if (dump is None) != (load is None):
        raise UsageError(f"{name}: dump and load belong together")
    if dump is not None and load is not None:
        add_type(cls, name, dump, load, False, ordered)
    else:
        _register_known_kind(cls, name, ordered)
    _names[name] = cls
    return cls


def _require_name(cls: type, name: str) -> None:
    if not name or len(name.encode()) > _NAME_BYTES_MAX:
        raise UsageError(f"a type's name has 1 to {_NAME_BYTES_MAX} bytes: {name!r}")
    other = _names.get(name, cls)
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise UsageError(
            f"{other.__module__}.{other.__qualname__} is registered as {name!r} already", hint="give another name="
        )


def _register_known_kind(cls: type, name: str, ordered: bool) -> None:
    if ordered:
        raise UsageError(f"{name}: ordered needs dump and load")
    if issubclass(cls, enum.Enum):
        _register_enum(cls, name)
    elif dataclasses.is_dataclass(cls):
        _register_dataclass(cls, name)
    elif issubclass(cls, tuple) and hasattr(cls, "_field_defaults"):
        _register_namedtuple(cls, name)
    else:
        raise UsageError(f"{name} is no enum, dataclass or namedtuple", hint="give dump= and load=")


def _register_enum(cls: type[enum.Enum], name: str) -> None:
    plain = next((base for base in (int, str, float) if issubclass(cls, base)), None)
    member_type = getattr(cls, "_member_type_", object)
    if member_type is not object and member_type is not plain:
        raise UsageError(f"{name} mixes in {member_type.__name__}", hint="give dump= and load=")
    value_of = _PLAIN.get(plain, lambda member: member.value)
    members = {}
    for member in cls.__members__.values():
        encode_key(value_of(member))  # what is no scalar is refused here
        members[value_of(member)] = member

    def load(value: Any) -> Any:
        found = members.get(value)
        if found is not None:
            return found
        try:
            return cls(value) if issubclass(cls, enum.Flag) else NotImplemented
        except ValueError:
            return NotImplemented

    add_type(cls, name, value_of, load, plain is not None, True)


# The plain value that an instance of a subclass is equal to.
_PLAIN: dict[type | None, Callable[[Any], Any]] = {
    int: int.__int__,
    str: str.__str__,
    float: float.__float__,
}


def _register_dataclass(cls: type, name: str) -> None:
    fields = tuple(field.name for field in dataclasses.fields(cls))

    def dump(instance: Any) -> dict[str, Any]:
        return {field: getattr(instance, field) for field in fields}

    def load(stored: Any) -> Any:
        if type(stored) is not dict:
            return NotImplemented
        instance: Any = object.__new__(cls)
        for field in dataclasses.fields(cls):
            if field.name in stored:
                object.__setattr__(instance, field.name, stored[field.name])
            elif field.default is not dataclasses.MISSING:
                object.__setattr__(instance, field.name, field.default)
            elif field.default_factory is not dataclasses.MISSING:
                object.__setattr__(instance, field.name, field.default_factory())
        return instance

    add_type(cls, name, dump, load, False, False)


def _register_namedtuple(cls: Any, name: str) -> None:
    def load(stored: Any) -> Any:
        if type(stored) is not tuple or len(stored) > len(cls._fields):
            return NotImplemented
        missing = cls._fields[len(stored) :]
        if any(field not in cls._field_defaults for field in missing):
            return NotImplemented
        return tuple.__new__(cls, stored + tuple(cls._field_defaults[field] for field in missing))

    add_type(cls, name, lambda instance: tuple.__getitem__(instance, slice(None)), load, True, True)
