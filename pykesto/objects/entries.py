"""The entries of containers that are larger than a row: each is a row of its own, so each may change alone.

The key of an entry is the container's id and a key within it; the row holds one value. The values refer to objects as
attributes do.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..codec import Reference, decode_key, decode_row, encode_key, encode_row
from ..errors import UsageError
from ..query.expressions import KeyRange
from ..tracked import HOLDERS
from ._objects import tracked
from .persistent import Persistent

if TYPE_CHECKING:
    from .space import ObjectSpace

TABLE = "entries"
GONE: Any = object()
_VALUE = "v"


class _Owner:
    """Whose a container within a value is."""

    def __init__(self, entries: Entries, key: bytes) -> None:
        self._entries, self._key = entries, key
        self.value: Any = None

    def _k_touch(self) -> None:
        self._entries.hold(self._key, self.value)
        self._entries.set(self._key, self.value)


class Entries:
    """A part of its session: all entries of all containers."""

    table = TABLE
    label = "entries"

    def __init__(self, space: ObjectSpace) -> None:
        self._space = space
        self._session = space._session
        self._changed: dict[bytes, Any] = {}  # by encoded key
        self._held: dict[bytes, Any] = {}  # values that can change in place
        self.ends: dict[bytes | None, int] = {}  # by id of a list: the number behind which this session appends

    def key(self, container: Persistent, key: Any) -> bytes:
        """The encoded key of an entry. An object in it stands for a reference, and is stored."""
        return encode_key((uuid.UUID(bytes=container._k_key), self._plain(key)))

    def _plain(self, key: Any) -> Any:
        if isinstance(key, Persistent):
            self._space.add(key)
            return Reference(key._k_key or b"")
        return key

    def own_key(self, key: bytes) -> Any:
        """The key within its container."""
        found = decode_key(key)[1]
        return self._space(found.id) if isinstance(found, Reference) else found

    def get(self, key: bytes) -> Any:
        """The value of an entry, or GONE."""
        if key in self._changed:
            return self._changed[key]
        row = self._session._get(TABLE, key)
        return GONE if row is None else self._value(key, row.image)

    def _value(self, key: bytes, image: bytes) -> Any:
        if key in self._held:
            return self._held[key]
        value = decode_row(image, self._space)[_VALUE]
        if type(value) in HOLDERS:
            owner = _Owner(self, key)
            value = owner.value = self._held[key] = tracked(value, owner)
        return value

    def set(self, key: bytes, value: Any) -> None:
        self._session._require_writable()
        self._session._begin()
        if value is not GONE and type(value) in HOLDERS and self._held.get(key) is not value:
            owner = _Owner(self, key)
            value = owner.value = self._held[key] = tracked(value, owner)
        elif self._held.get(key) is not value:
            self._held.pop(key, None)
        self._changed[key] = value

    def hold(self, key: bytes, value: Any) -> None:
        """Before a container in an entry's value changes: it must be the value still, and not one of earlier."""
        if self._held.get(key) is value:
            return
        if key not in self._changed and key not in self._held:
            row = self._session._get(TABLE, key)
            if row is not None and row.image == encode_row({_VALUE: value}, self._space.reference):
                self._held[key] = value
                return
        raise UsageError(
            "this container was read in an earlier snapshot or before it was replaced, and its entry has changed since",
            hint="read it again from its container",
        )

    def observe(self, container: Persistent, lo: bytes | None = None, hi: bytes | None = None) -> None:
        """Remember that the session looked at the entries with lo <= encoded key < hi."""
        begin, end = self.range_of(container)
        self._session._observe(TABLE, KeyRange(lo or begin, hi or end))

    def between(
        self,
        container: Persistent,
        lo: bytes | None = None,
        hi: bytes | None = None,
        *,
        reverse: bool = False,
        observed: bool = True,
    ) -> Iterator[tuple[bytes, Any]]:
        """The entries with lo <= encoded key < hi, in order; all of the container's without them."""
        begin, end = self.range_of(container)
        lo, hi = max(lo or begin, begin), min(hi or end, end)
        snapshot = self._session._begin()
        if observed:
            self._session._observe(TABLE, KeyRange(lo, hi))
        own = sorted((key for key in self._changed if lo <= key < hi), reverse=reverse)
        stored = iter(snapshot.scan(TABLE, lo, hi, reverse=reverse))
        found = next(stored, None)
        while found is not None or own:
            if found is None or (own and (own[0] > found[0] if reverse else own[0] < found[0])):
                key = own.pop(0)
                value = self._changed.get(key, GONE)
            else:
                key, row = found
                found = next(stored, None)
                if own and own[0] == key:
                    own.pop(0)
                value = self._changed[key] if key in self._changed else self._value(key, row.image)
            if value is not GONE:
                self._session._require_same(snapshot)
                yield key, value

    def range_of(self, container: Persistent) -> tuple[bytes, bytes]:
        """lo <= key < hi for the keys of all entries of a container."""
        return self.range_of_id(container._k_key or b"")

    def range_of_id(self, id: bytes) -> tuple[bytes, bytes]:
        key = encode_key((uuid.UUID(bytes=id),))[:-1]  # without the end of the tuple
        return key, key + b"\xff"

    def clear(self, container: Persistent) -> None:
        for key, _ in list(self.between(container)):
            self.set(key, GONE)

    # As a part of its session

    def prepare(self) -> None:
        """Nothing: objects that entries refer to are stored with the space's own changes."""

    def changes(self) -> dict[bytes, bytes | None]:
        reference = self._space.reference
        return {
            key: None if value is GONE else encode_row({_VALUE: value}, reference)
            for key, value in self._changed.items()
        }

    def merge_of(self, changes: dict[bytes, bytes | None]) -> None:
        """None: an entry is changed as a whole."""

    def require_indexes(self) -> None:
        """None: entries are found by their keys."""

    def changed(self) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
        return (), (), ()

    def committed(self, number: int) -> None:
        self.rolled_back()

    def rolled_back(self) -> None:
        self._changed.clear()
        self._held.clear()
        self.ends.clear()

    def save(self) -> dict[bytes, bytes | None]:
        return self.changes()

    def restore(self, saved: dict[bytes, bytes | None] | None) -> None:
        self.rolled_back()
        for key, image in (saved or {}).items():
            self._changed[key] = GONE if image is None else self._value(key, image)

    def readable_key(self, key: bytes) -> Any:
        return decode_key(key)

    def readable_column(self, column: Any) -> Any:
        return column
