"""Objects that were stored by earlier versions of their class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..codec import range_of
from ..errors import UsageError
from ..query import Query
from ..query.expressions import InRanges
from ..store import SCOPE_COLUMN
from ._objects import attributes_of, complete, is_own, put_attribute, tracked
from .catalog import needs_upgrade
from .persistent import Persistent

if TYPE_CHECKING:
    from .space import ObjectSpace

M = TypeVar("M", bound=Callable[..., Any])


def upgrade(*, from_version: int) -> Callable[[M], M]:
    """Have a method bring an object from a version of its class to the next one.

    It runs when an object that was stored so is loaded, and changes it in memory; the object is written when
    something else changes it, or by `Database.upgrade`. Objects of newer code are left as they are. A class has version
    1, or one more than the highest `from_version`. The method should change nothing but its object.

    Example:
        >>> import pykesto
        >>> class Subscriber(pykesto.Persistent):
        ...     first: str
        ...     last: str
        ...     @pykesto.upgrade(from_version=1)
        ...     def _split_name(self):
        ...         self.first, self.last = self.name.split()
        ...         del self.name
    """
    if not isinstance(from_version, int) or from_version < 1:
        raise UsageError(f"from_version is {from_version!r}; it must be a whole number from 1")

    def mark(method: M) -> M:
        method._k_from_version = from_version  # type: ignore[attr-defined]
        return method

    return mark


def bring_up_to_date(space: ObjectSpace, obj: Persistent) -> bool:
    """Run the upgrades that an object that was just read lacks; whether there were any."""
    cls, kind = type(obj)._k_class, obj._k_kind
    if kind is None or not needs_upgrade(kind, cls):
        return False
    complete(obj)
    obj._k_space = None  # nobody needs to hear of these changes
    try:
        for base in reversed([base for base in cls.__mro__ if issubclass(base, Persistent)]):
            for version in range(kind.version_of(base), base._k_version_now):
                step = base.__dict__.get("_k_upgrades", {}).get(version)
                if step is not None:
                    step(obj)
    finally:
        obj._k_space = space
    for name, value in attributes_of(obj).items():
        if not is_own(name):
            put_attribute(obj, name, tracked(value, obj))
    return True


def outdated(space: ObjectSpace, cls: type[Persistent]) -> Query[Any] | None:
    """The objects of a class and of those below it that were stored by earlier versions; None if there are no such."""
    snapshot = space.snapshot()
    numbers = space._catalog.outdated(cls)
    if not numbers or not any(_has_any(space, snapshot, number) for number in numbers):
        return None
    return Query(space, InRanges(SCOPE_COLUMN, tuple(map(range_of, numbers)), f"earlier {cls._k_name}", "class"))


def _has_any(space: ObjectSpace, snapshot: Any, number: int) -> bool:
    if not snapshot.indexed(space.table, SCOPE_COLUMN):
        return True
    return next(iter(snapshot.find(space.table, SCOPE_COLUMN, *range_of(number))), None) is not None
