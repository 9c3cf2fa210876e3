"""What deleting an object does to those that refer to it, where their class says so, and who refers to it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..codec import Reference, decode_row
from ..errors import UsageError
from ..query import Condition
from ._objects import DELETED, attributes_of
from .columns import ContainsAny
from .fields import OnDelete
from .persistent import Persistent
from .registry import blobs_are_made, classes

if TYPE_CHECKING:
    from .space import ObjectSpace


def refers_to(stored: str, obj: Persistent) -> Condition:
    """The attribute is a reference to the object, or a container with one in it."""
    return ContainsAny(stored, frozenset([Reference(obj._k_key or b"")]), f"{stored} refers to {obj!r}", itself=True)


def declared(*policies: OnDelete) -> Iterator[tuple[type[Persistent], str, OnDelete]]:
    """The attributes with one of these policies: class that declares it, name, policy."""
    for cls in dict.fromkeys(classes.values()):
        for name, of in cls._k_attributes.items():
            above = any(name in base.__dict__.get("_k_attributes", {}) for base in cls.__mro__[1:])
            if of.on_delete in policies and not above:
                yield cls, name, of.on_delete


def referrers(space: ObjectSpace, cls: type[Persistent], name: str, obj: Persistent) -> list[Any]:
    """The objects of a class that refer to another one in an attribute."""
    from .queries import ObjectQuery

    return list(ObjectQuery(space, cls).where(refers_to(cls._k_stored.get(name, name), obj)))


def settle_references(space: ObjectSpace, obj: Persistent) -> None:
    """Delete what is to go with an object, and take references to it away where that was asked for."""
    for cls, name, policy in declared("nullify", "cascade"):
        for referrer in referrers(space, cls, name, obj):
            if policy == "cascade":
                space.delete_object(referrer)
            else:
                setattr(referrer, name, _bereft(getattr(referrer, name), obj))


def _bereft(value: Any, obj: Persistent) -> Any:
    """The value of an attribute without an object."""
    if value is obj:
        return None
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if item is not obj}
    return type(value)(item for item in value if item is not obj) if type(value) is tuple else _bereft_plain(value, obj)


def _bereft_plain(value: Any, obj: Persistent) -> Any:
    left = [item for item in value if item is not obj]
    return set(left) if isinstance(value, set) else frozenset(left) if isinstance(value, frozenset) else left


def require_unreferenced(space: ObjectSpace, deleted: list[Persistent]) -> None:
    """UsageError if an object that is to be deleted is referred to where that forbids it."""
    for cls, name, _ in declared("restrict"):
        for obj in deleted:
            for referrer in referrers(space, cls, name, obj)[:1]:
                raise UsageError(
                    f"{type(obj).__name__} {uuid.UUID(bytes=obj._k_key)} can't be deleted: {referrer!r} refers to it"
                    f" in {name!r}, which says on_delete='restrict'",
                    hint="delete that one too, or let it refer to another",
                )


# Blobs, which go with their last owner


def count_owners(space: ObjectSpace) -> None:
    """Tell blobs who refers to them now and did not, and the other way; without an owner they are deleted."""
    if not blobs_are_made() and not space._catalog.numbers_of(["k.Blob"]):
        return
    done: set[bytes] = set()
    while True:
        space.changes()  # adds what is reachable
        numbers = set(space._catalog.numbers_of(["k.Blob"]))
        todo = [(id, obj) for id, obj in space._changed.items() if id not in done]
        if not todo:
            return
        for id, obj in todo:
            done.add(id)
            if type(obj)._k_name != "k.Blob":
                _count_owner(space, obj, numbers)


def _count_owner(space: ObjectSpace, obj: Persistent, numbers: set[int]) -> None:
    before = _blobs_of_row(space, obj, numbers)
    after: set[bytes] = set()
    if obj._k_state != DELETED:
        after = {id for value in attributes_of(obj).values() for id in _blobs_in(value)}
    for id in after - before:
        blob = space(id)
        blob.owners += 1
    for id in before - after:
        blob = space(id)
        if blob._k_state != DELETED:
            blob.owners -= 1
            if not blob.owners:
                space.delete_object(blob)


def _blobs_of_row(space: ObjectSpace, obj: Persistent, numbers: set[int]) -> set[bytes]:
    """The ids of the blobs that the object's stored row refers to."""
    row = space._session._begin().get(space.table, space.row_key(obj._k_key or b"")) if obj._k_version else None
    found: set[bytes] = set()
    if row is not None:
        decode_row(row.image, lambda id: found.add(id) if number_in(id) in numbers else None)
    return found


def _blobs_in(value: Any) -> Iterator[bytes]:
    if isinstance(value, Persistent):
        if type(value)._k_name == "k.Blob" and value._k_key:
            yield value._k_key
    elif isinstance(value, (list, tuple, set, frozenset, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _blobs_in(item)


def number_in(id: bytes) -> int:
    """The number of the class that an id hints at."""
    return (id[6] & 0xF) << 8 | id[7] if id[6] >> 4 == 7 else -1
