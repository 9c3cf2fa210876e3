"""The root: a few names from which everything can be found."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, MutableMapping
from typing import Any

from ..codec import encode_key
from .persistent import Persistent
from .queries import ObjectQuery
from .space import ObjectSpace

_ROOT = uuid.UUID("6b657374-6f00-4000-8000-000000000000")


class RootEntry(Persistent, name="k.Root"):
    """One name in the root, and what it stands for."""

    name: str
    value: Any


def _id_of(name: str) -> bytes:
    """The id of a name's entry. It follows from the name, so that two sessions that make one entry conflict."""
    encode_key(name)  # CodecError: what UTF-8 can't hold
    return uuid.uuid5(_ROOT, name).bytes


class Root(MutableMapping[str, Any]):
    """`session.root`: a few names, each for a value or an object. Storing an object here adds it."""

    def __init__(self, space: ObjectSpace) -> None:
        self._space = space

    def _entry(self, name: str) -> RootEntry | None:
        found = self._space.get(_id_of(name))
        return found if isinstance(found, RootEntry) else None

    def __getitem__(self, name: str) -> Any:
        entry = self._entry(name)
        if entry is None:
            raise KeyError(name)
        return entry.value

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a name in the root is a str, not {type(name).__name__}")
        if isinstance(value, Persistent):
            self._space.add(value)
        entry = self._entry(name)
        if entry is None:
            self._space.add_under(_id_of(name), RootEntry(name=name, value=value))
        else:
            entry.value = value

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]  # the tracked copy, so that a change of it is seen

    def __delitem__(self, name: str) -> None:
        entry = self._entry(name)
        if entry is None:
            raise KeyError(name)
        self._space.delete_object(entry)

    def __iter__(self) -> Iterator[str]:
        return iter([entry.name for entry in ObjectQuery(self._space, RootEntry).order_by("name")])

    def __repr__(self) -> str:
        return "<Root>"

    def __len__(self) -> int:
        return ObjectQuery(self._space, RootEntry).count()
