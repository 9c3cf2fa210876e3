"""The classes that may be instantiated, by the names they are stored under.

Nothing is imported because data names it: a stored class that no imported module defines gives `Generic` objects,
which keep what they do not understand.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import UsageError

if TYPE_CHECKING:
    from .persistent import Persistent

classes: dict[str, type[Persistent]] = {}  # by stored name, former names included
_generic: dict[str, type[Persistent]] = {}
_listeners: weakref.WeakSet[Any] = weakref.WeakSet()


def register(cls: type[Persistent], formerly: tuple[str, ...]) -> None:
    """Let objects stored under the class's name, and its former names, be of this class.

    Within one module a later class takes the place of an earlier one: a class statement may be run again.
    """
    known = classes.get(cls._k_name)
    if known is not None and known._k_name == cls._k_name and known.__module__ != cls.__module__:
        raise UsageError(
            f"{known.__module__}.{known.__qualname__} and {cls.__module__}.{cls.__qualname__} would both be stored as"
            f" {cls._k_name!r}",
            hint='give one of them another name: class P(Persistent, name="...")',
        )
    classes[cls._k_name] = cls
    for name in formerly:
        other = classes.get(name)
        if other is not None and other._k_name == name and other.__module__ != cls.__module__:
            raise UsageError(f"{cls._k_name!r} can't have been {name!r}: that is {other.__module__}.{name} now")
        classes[name] = cls
    for listener in _listeners:
        listener.forget_classes()


def on_change(listener: Any) -> None:
    """Call `listener.forget_classes()` when a class is registered, as long as the listener lives."""
    _listeners.add(listener)


def resolve(name: str, make: Callable[[str], type[Persistent]]) -> type[Persistent]:
    """The class of objects stored under a name; one that `make(name)` gives if no module that is imported has it."""
    found = classes.get(name) or _generic.get(name)
    if found is None:
        found = _generic[name] = make(name)
    return found


def with_subclasses(cls: type[Persistent]) -> list[type[Persistent]]:
    """The class and all classes below it that are known now."""
    below = [known for known in dict.fromkeys(classes.values()) if known is not cls and issubclass(known, cls)]
    return [cls, *below]


def stored_names(cls: type[Persistent]) -> list[str]:
    """The names under which objects of the class and of those below it are stored."""
    return [name for name, known in classes.items() if issubclass(known, cls)]


_watched = False


def watch_stores() -> None:
    """A class has something to say before or after its objects are stored or deleted."""
    global _watched
    _watched = True


def stores_are_watched() -> bool:
    return _watched


_blobs = False


def note_blob() -> None:
    """A blob was made in this process, so who refers to it is to be counted."""
    global _blobs
    _blobs = True


def blobs_are_made() -> bool:
    return _blobs
