"""Lists, dicts, sets and bytearrays that tell their owner when they are changed in place.

They are instances of, and equal to, the plain ones. Plain containers that are put in are copied, at any depth, so that
no value is shared by two owners without saying so.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from .codec import register_container
from .errors import CodecError, UsageError


class Owner(Protocol):
    """What holds tracked containers: a row or an object."""

    def _k_touch(self) -> None:
        """Called before a change; may refuse it by raising."""
        ...


def tracked(value: Any, owner: Owner) -> Any:
    """`value`, or a tracked copy of it if it is a list, dict, set or bytearray, or a tuple that holds one."""
    try:
        kind = type(value)
        if kind is list or kind is TrackedList:
            return TrackedList(owner, value)
        if kind is dict or kind is TrackedDict:
            return TrackedDict(owner, value)
        if kind is set or kind is TrackedSet:
            return TrackedSet(owner, value)
        if kind is bytearray or kind is TrackedBytearray:
            return TrackedBytearray(owner, value)
        if kind is tuple and any(type(item) in HOLDERS for item in value):
            return tuple(tracked(item, owner) for item in value)
        return value
    except RecursionError:
        raise CodecError("a container nested too deep, or within itself, can't be stored") from None


class _Nobody:
    """Owns the containers of values that were replaced: a change of one would be lost."""

    def _k_touch(self) -> None:
        raise UsageError(
            "this container was read in an earlier snapshot, and its row or object has changed since",
            hint="read it again from its row or object",
        )


_NOBODY = _Nobody()


def detach(values: Iterable[Any]) -> None:
    """Let containers, at any depth, refuse to be changed from now on."""
    for value in values:
        if isinstance(value, (TrackedList, TrackedDict, TrackedSet, TrackedBytearray)):
            value._owner = _NOBODY
        if isinstance(value, (TrackedList, tuple)):
            detach(value)
        elif isinstance(value, TrackedDict):
            detach(value.values())


def _touch(container: TrackedList | TrackedDict | TrackedSet | TrackedBytearray) -> None:
    """Tell the owner before a change. That may load it anew, which may have detached this very container."""
    owner = container._owner
    owner._k_touch()
    if container._owner is not owner:
        container._owner._k_touch()


def _telling(name: str, base: type) -> Callable[..., Any]:
    """The method of a plain container, run after the owner was told; items that go in are tracked."""
    plain = getattr(base, name)

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        _touch(self)
        result = plain(self, *args, **kwargs)
        in_place = name.startswith("__i") and result is not NotImplemented
        return self if in_place else result

    method.__name__ = name
    method.__doc__ = plain.__doc__
    return method


class TrackedList(list[Any]):
    """A list of a row or object."""

    __slots__ = ("_owner",)

    def __new__(cls, *args: Any) -> Any:
        return list(*args) if len(args) == 1 else super().__new__(cls)  # as dataclasses.asdict() makes others like one

    def __init__(self, owner: Owner, items: Iterable[Any]) -> None:
        super().__init__(tracked(item, owner) for item in items)
        self._owner = owner

    def append(self, item: Any) -> None:
        _touch(self)
        super().append(tracked(item, self._owner))

    def insert(self, index: Any, item: Any) -> None:
        _touch(self)
        super().insert(index, tracked(item, self._owner))

    def extend(self, items: Iterable[Any]) -> None:
        _touch(self)
        super().extend([tracked(item, self._owner) for item in items])

    def __setitem__(self, index: Any, item: Any) -> None:
        _touch(self)
        value = [tracked(i, self._owner) for i in item] if isinstance(index, slice) else tracked(item, self._owner)
        super().__setitem__(index, value)

    def __iadd__(self, items: Iterable[Any]) -> Any:  # type: ignore[misc]
        self.extend(items)
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (list(self),)

    __delitem__ = _telling("__delitem__", list)
    __imul__ = _telling("__imul__", list)
    clear = _telling("clear", list)
    pop = _telling("pop", list)
    remove = _telling("remove", list)
    reverse = _telling("reverse", list)
    sort = _telling("sort", list)


class TrackedDict(dict[Any, Any]):
    """A dict of a row or object."""

    __slots__ = ("_owner",)

    def __new__(cls, *args: Any) -> Any:
        return dict(*args) if len(args) == 1 else super().__new__(cls)  # as dataclasses.asdict() makes others like one

    def __init__(self, owner: Owner, items: dict[Any, Any]) -> None:
        super().__init__((key, tracked(value, owner)) for key, value in items.items())
        self._owner = owner

    def __setitem__(self, key: Any, value: Any) -> None:
        _touch(self)
        super().__setitem__(key, tracked(value, self._owner))

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **kwargs: Any) -> None:
        for key, value in dict(*args, **kwargs).items():
            self[key] = value

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        self.update(other)
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (dict(self),)

    __delitem__ = _telling("__delitem__", dict)
    clear = _telling("clear", dict)
    pop = _telling("pop", dict)
    popitem = _telling("popitem", dict)


class TrackedSet(set[Any]):
    """A set of a row or object. Its items are hashable, so nothing in it changes in place."""

    __slots__ = ("_owner",)

    def __new__(cls, *args: Any) -> Any:
        return set(*args) if len(args) == 1 else super().__new__(cls)  # as dataclasses.asdict() makes others like one

    def __init__(self, owner: Owner, items: Iterable[Any]) -> None:
        super().__init__(items)
        self._owner = owner

    def __reduce_ex__(self, protocol: Any) -> Any:
        return set, (set(self),)

    def __repr__(self) -> str:
        return repr(set(self))

    # What set makes of a set is of its class, which would need an owner: these give plain sets.
    def copy(self) -> set[Any]:
        return set(self)

    def __or__(self, other: Any) -> Any:
        return set(self) | other

    def __and__(self, other: Any) -> Any:
        return set(self) & other

    def __sub__(self, other: Any) -> Any:
        return set(self) - other

    def __xor__(self, other: Any) -> Any:
        return set(self) ^ other

    def union(self, *others: Any) -> set[Any]:
        return set(self).union(*others)

    def intersection(self, *others: Any) -> set[Any]:
        return set(self).intersection(*others)

    def difference(self, *others: Any) -> set[Any]:
        return set(self).difference(*others)

    def symmetric_difference(self, other: Any) -> set[Any]:
        return set(self).symmetric_difference(other)

    add = _telling("add", set)
    clear = _telling("clear", set)
    difference_update = _telling("difference_update", set)
    discard = _telling("discard", set)
    intersection_update = _telling("intersection_update", set)
    pop = _telling("pop", set)
    remove = _telling("remove", set)
    symmetric_difference_update = _telling("symmetric_difference_update", set)
    update = _telling("update", set)
    __iand__ = _telling("__iand__", set)
    __ior__ = _telling("__ior__", set)
    __isub__ = _telling("__isub__", set)
    __ixor__ = _telling("__ixor__", set)


class TrackedBytearray(bytearray):
    """A bytearray of a row or object."""

    __slots__ = ("_owner",)

    def __new__(cls, *args: Any) -> Any:
        return (
            bytearray(*args) if len(args) == 1 else super().__new__(cls)
        )  # as dataclasses.asdict() makes others like one

    def __init__(self, owner: Owner, content: bytearray) -> None:
        super().__init__(content)
        self._owner = owner

    def __reduce_ex__(self, protocol: Any) -> Any:
        return bytearray, (bytes(self),)

    def __repr__(self) -> str:
        return repr(bytearray(self))

    def copy(self) -> bytearray:
        return bytearray(self)

    __delitem__ = _telling("__delitem__", bytearray)
    __iadd__ = _telling("__iadd__", bytearray)
    __imul__ = _telling("__imul__", bytearray)
    __setitem__ = _telling("__setitem__", bytearray)
    append = _telling("append", bytearray)
    clear = _telling("clear", bytearray)
    extend = _telling("extend", bytearray)
    insert = _telling("insert", bytearray)
    pop = _telling("pop", bytearray)
    remove = _telling("remove", bytearray)
    reverse = _telling("reverse", bytearray)


# What `tracked` looks into, and what needs no tracking, as it can't change.
HOLDERS = frozenset(
    {list, dict, set, bytearray, tuple, TrackedList, TrackedDict, TrackedSet, TrackedBytearray},
)
PLAIN = frozenset(
    {
        *(type(None), bool, int, float, complex, str, bytes, range, decimal.Decimal, fractions.Fraction, uuid.UUID),
        *(datetime.date, datetime.time, datetime.datetime, datetime.timedelta),
    }
)

register_container(TrackedList, list)
register_container(TrackedDict, dict)
register_container(TrackedSet, set)
register_container(TrackedBytearray, bytearray)
