"""Methods that are called when an object is loaded, stored or deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from ..errors import UsageError
from ._objects import attributes_of

Event = Literal["after_load", "before_store", "after_store", "before_delete", "after_delete"]
EVENTS = ("after_load", "before_store", "after_store", "before_delete", "after_delete")
M = TypeVar("M", bound=Callable[..., Any])


def on(*events: Event) -> Callable[[M], M]:
    """Have a method of a persistent class called when something happens to an object.

    Args:
        events: "after_load": its attributes were read. "before_store": a commit is about to write it; the method may
            still change it, and an exception stops the commit. "after_store": the commit succeeded. "before_delete"
            and "after_delete" alike; what "before_delete" raises stops the deletion.

    Example:
        >>> import pykesto
        >>> class Account(pykesto.Persistent):
        ...     cents: int = 0
        ...     @pykesto.on("before_store")
        ...     def _balanced(self):
        ...         if self.cents < 0:
        ...             raise ValueError("the account is overdrawn")
        >>> with pykesto.temporary() as db, db.session() as s:
        ...     _ = s.add(Account(cents=-1))
        ...     s.commit()
        Traceback (most recent call last):
        ValueError: the account is overdrawn
    """
    for event in events:
        if event not in EVENTS:
            raise UsageError(f"{event!r} is no event; there are {', '.join(EVENTS)}")

    def mark(method: M) -> M:
        method._k_events = (*getattr(method, "_k_events", ()), *events)  # type: ignore[attr-defined]
        return method

    return mark


def tell(obj: Any, event: str) -> None:
    """Call what an object's class has for an event."""
    for name in type(obj)._k_hooks.get(event, ()):
        getattr(obj, name)()


def require_checks(obj: Any) -> None:
    """UsageError if a value does not pass its field's check; or what the check raises."""
    for name, of in type(obj)._k_attributes.items():
        if of.check is not None and name in (attributes := attributes_of(obj)) and of.check(attributes[name]) is False:
            raise UsageError(f"{obj!r}: {name} is {attributes[name]!r}, which its check refuses")
