"""Where an object is in its life: in a session, read, detached; and how it is brought from one session to another."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Literal, cast

from ..errors import ConcurrencyConflict, Conflict, UsageError
from ._objects import CLEAN, DETACHED, STATES, attributes_of, complete, is_own
from .persistent import Persistent
from .registry import resolve

if TYPE_CHECKING:
    from .space import ObjectSpace

State = Literal["transient", "new", "clean", "dirty", "deleted", "detached"]


def is_loaded(obj: Persistent) -> bool:
    """Whether the attributes of an object are in memory, so that reading one reads nothing from the database.

    Example:
        >>> import pykesto
        >>> class Shelf(pykesto.Persistent):
        ...     label: str
        >>> pykesto.is_loaded(Shelf(label="A"))
        True
    """
    return bool(obj._k_awake)


def state_of(obj: Persistent) -> State:
    """What an object is: "transient" (in no session), "new", "clean", "dirty", "deleted", or "detached".

    Example:
        >>> import pykesto
        >>> class Crate(pykesto.Persistent):
        ...     label: str
        >>> pykesto.state_of(Crate(label="A"))
        'transient'
    """
    return cast(State, STATES[obj._k_state])


def url_of(obj: Persistent) -> str:
    """A stable name for a stored object: its class's stored name and its id, as a part of a URL.

    Example:
        >>> import pykesto
        >>> class Invoice(pykesto.Persistent):
        ...     number: int
        >>> with pykesto.temporary() as db, db.session() as s:
        ...     invoice = s.add(Invoice(number=1))
        ...     s.at_url(pykesto.url_of(invoice)) is invoice
        True
    """
    from urllib.parse import quote

    if not obj._k_key:
        raise UsageError(f"{obj!r} is not stored, so it has no URL", hint="s.add() it first")
    return f"{quote(type(obj)._k_name, safe='')}/{uuid.UUID(bytes=obj._k_key)}"


def parse_url(url: str) -> tuple[str, bytes]:
    """The stored name of the class, and the id."""
    from urllib.parse import unquote

    name, _, id = url.rpartition("/")
    try:
        return unquote(name.rpartition("/")[2]), uuid.UUID(id).bytes
    except ValueError:
        raise UsageError(f"{url!r} is no URL of an object: it is to end in CLASS/ID") from None


def at_url(space: ObjectSpace, url: str) -> Any:
    name, id = parse_url(url)
    found = space.get(id)
    return found if found is not None and isinstance(found, resolve(name, lambda _: Persistent)) else None


def detach(space: ObjectSpace, obj: Persistent) -> None:
    """Take an object out of its session."""
    if obj._k_space is not space:
        raise UsageError(f"{obj!r} is not of this session, so it can't be detached from it")
    if obj._k_state != CLEAN:
        raise UsageError(f"{obj!r} has changes that are not committed", hint="commit, or s.refresh() it, first")
    obj._k_load()
    complete(obj)
    space.part_with(obj)
    space.forget(obj._k_key or b"")
    obj._k_space, obj._k_state = None, DETACHED


def merge(space: ObjectSpace, obj: Persistent) -> Any:
    """The session's own object with the attributes of one that is detached."""
    if obj._k_space is space:
        return obj
    if obj._k_state != DETACHED:
        space.refuse_foreign(obj)
    own: Any = space.get(obj._k_key or b"")
    found = None if own is None else own.k_version
    if found != obj._k_version:
        key = uuid.UUID(bytes=obj._k_key)
        raise ConcurrencyConflict([Conflict(space.label, key, obj._k_version or 0, found or 0)])
    values = {name: _owned(space, value) for name, value in attributes_of(obj).items() if not is_own(name)}
    before = attributes_of(own)
    for name in [name for name in before if name not in values and not is_own(name)]:
        delattr(own, name)
    for name, value in values.items():
        if name not in before or before[name] != value:
            setattr(own, name, value)
    return own


def _owned(space: ObjectSpace, value: Any) -> Any:
    """A value with the session's own objects in place of others."""
    if isinstance(value, Persistent):
        return value if value._k_space is space or not value._k_key else space(value._k_key)
    if isinstance(value, dict):
        return {key: _owned(space, item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [_owned(space, item) for item in value]
        plain = next(kind for kind in (list, tuple, set, frozenset) if isinstance(value, kind))
        return plain(items)
    return value
