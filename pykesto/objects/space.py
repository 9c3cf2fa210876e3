"""The objects of one session: identity, loading, reachability, packing.

One table holds all objects: the key is the id, a column names the class. An object that is stored takes everything
that it refers to with it.
"""

from __future__ import annotations

import functools
import uuid
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from ..codec import decode, encode, encode_key, encode_row, find_column, pack_columns, parse_columns
from ..errors import ClosedError, CodecError, UsageError
from ..query import Condition
from ..rows import new_id
from ..session import Session
from ..store import SCOPE_COLUMN, IndexDefinition, Row, SchemaChange, Snapshot
from ..tracked import detach, tracked
from .persistent import Persistent, State, classes, id_of

TABLE = "objects"
_CLASS_INDEX = IndexDefinition(SCOPE_COLUMN)


class Missing(Persistent):
    """What a reference to a deleted object gives: touching it says so."""


class ObjectSpace:
    """A part of its session, and the source of its queries over objects."""

    table = TABLE
    label = "objects"

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: weakref.WeakValueDictionary[bytes, Persistent] = weakref.WeakValueDictionary()
        self._changed: dict[bytes, Persistent] = {}  # held until the session ends

    # Adding and deleting

    def add(self, obj: Persistent) -> None:
        """Give a transient object an id; what it refers to follows at the commit."""
        state = obj._k
        if state.space is self and state.status != "deleted":
            return
        if state.space is not None:
            self._refuse_foreign(obj)
        self.add_under(encode_key(new_id()), obj)

    def add_under(self, key: bytes, obj: Persistent) -> None:
        """Add a transient object under a key; one that this session deleted there gives way."""
        state = obj._k
        self._session._require_writable()
        self._session._begin()
        deleted = self._changed.get(key)
        if deleted is not None:
            state.version = deleted._k.version
        state.space, state.status, state.key = self, "new" if state.version is None else "dirty", key
        for name, value in obj.__dict__.items():
            if not name.startswith("_v_"):
                obj.__dict__[name] = tracked(value, obj)
        self._known[state.key] = self._changed[state.key] = obj

    def _refuse_foreign(self, obj: Persistent) -> None:
        if obj._k.status == "deleted":
            raise UsageError(f"{obj!r} is deleted")
        raise UsageError(
            f"{obj!r} belongs to another session",
            hint=f"take this session's own: s.get({type(obj).__name__}, obj.k_id)",
        )

    def delete_object(self, obj: Persistent) -> None:
        state = obj._k
        if state.space is not self:
            raise UsageError(f"{obj!r} is not of this session, so it can't be deleted in it")
        self.touch(obj)
        state.status = "deleted"

    # Identity and loading

    def get(self, key: bytes) -> Persistent | None:
        """The object of this session under an encoded id, or None."""
        known = self._known.get(key)
        if known is not None and known._k.status in {"new", "dirty", "deleted"}:
            return None if known._k.status == "deleted" else known
        row = self._session._get(TABLE, key)
        return None if row is None else self._fetched(key, row)

    def _fetched(self, key: bytes, row: Row) -> Persistent:
        """An object that was asked for: it can be read after close(), even if nobody looked into it before."""
        obj = self._object(key, row.version, row.image)
        obj._k.fetched = True
        return obj

    def _object(self, key: bytes, version: int, image: bytes) -> Persistent:
        """The object of a row: the known one, or one that is not loaded, its packed row kept for when it is."""
        known = self._known.get(key)
        if known is None:
            known = object.__new__(_class_of(image))
            state = State()
            state.space, state.key, state.status, state.loaded = self, key, "clean", False
            object.__setattr__(known, "_k", state)
            self._known[key] = known
        if not known._k.loaded:
            known._k.version, known._k.image = version, image
        return known

    def referred(self, reference: bytes) -> Persistent:
        """The object that a stored reference means; it is read only when touched."""
        key = encode_key(uuid.UUID(bytes=reference))
        known = self._known.get(key)
        if known is not None:
            return known
        row = None if self._session._closed else self._session._begin().get(TABLE, key)
        if row is not None:
            return self._object(key, row.version, row.image)
        missing = self._object(key, 0, _class_column(Missing))
        missing._k.image = None
        return missing

    def load(self, obj: Persistent) -> None:
        """Fill an object from the snapshot. After close(), give back what was loaded before."""
        state = obj._k
        if self._session._closed:
            self._load_late(obj)
            return
        row = self._session._get(TABLE, state.key)
        if row is None:
            what = "the object that is referred to" if type(obj) is Missing else type(obj).__name__
            raise KeyError(f"{what}, {id_of(state.key)}, is not in the database (any more)")
        if state.attributes is not None and row.version == state.version:
            attributes = state.attributes
        else:
            detach((state.attributes or {}).values())
            attributes = self._unpacked(obj, row.image)
        obj.__dict__.update(attributes)
        state.version, state.loaded, state.image, state.attributes = row.version, True, None, None

    def _load_late(self, obj: Persistent) -> None:
        """After close(): what was loaded, or what a query or get() brought, can be read; nothing more is fetched."""
        state = obj._k
        if state.attributes is not None:
            obj.__dict__.update(state.attributes)
        elif state.image is not None and state.fetched:
            obj.__dict__.update(self._unpacked(obj, state.image))
        else:
            raise ClosedError(
                f"{obj!r} was not read before its session ended", hint="read what is needed while the session is open"
            )
        state.loaded, state.attributes = True, None

    def _unpacked(self, obj: Persistent, image: bytes) -> dict[str, Any]:
        columns = parse_columns(image)
        columns.pop(SCOPE_COLUMN.encode())
        return {name.decode(): tracked(decode(value, self.referred), obj) for name, value in columns.items()}

    def touch(self, obj: Persistent) -> None:
        """The object is about to change: load it, and remember it."""
        state = obj._k
        self._session._require_writable()
        if state.status == "deleted":
            raise UsageError(f"{obj!r} is deleted")
        obj._k_load()
        if state.status == "clean":
            self._session._begin()
            state.status = "dirty"
        self._changed[state.key] = obj

    def refresh(self, obj: Persistent) -> None:
        """Drop an object's unsaved changes."""
        state = obj._k
        if state.space is not self or state.status == "new":
            raise UsageError(f"{obj!r} was not loaded by this session, so there is nothing to refresh it from")
        self._changed.pop(state.key, None)
        state.status = "clean"
        self._forget(obj)

    def _forget(self, obj: Persistent) -> None:
        """Unload for good; what was read out of the object can't be changed any more."""
        detach(obj.__dict__.values())
        obj._k.attributes = None
        self._unload(obj)

    def _unload(self, obj: Persistent) -> None:
        kept = {name: value for name, value in obj.__dict__.items() if name.startswith("_v_")}
        obj.__dict__.clear()
        obj.__dict__.update(kept)
        obj._k.loaded, obj._k.image = False, None

    # Packing

    def _reference(self, value: Any) -> bytes | None:
        """For the codec: the id of a persistent object, which is stored with what refers to it."""
        if not isinstance(value, Persistent):
            return None
        if value._k.space is not self or value._k.status != "deleted":
            self.add(value)
        return id_of(value._k.key).bytes

    def _packed(self, obj: Persistent) -> bytes:
        """The object as a row; what it refers to is added on the way."""
        stored = {name: value for name, value in obj.__dict__.items() if not name.startswith("_v_")}
        try:
            return _class_column(type(obj)) + encode_row(stored, self._reference)
        except CodecError as error:
            raise CodecError(f"{type(obj).__name__}: {error.args[0]}", path=error.path) from error

    # As a part of its session

    def changes(self) -> dict[bytes, bytes | None]:
        found: dict[bytes, bytes | None] = {}
        while len(found) < len(self._changed):  # packing adds what is reachable
            for key, obj in list(self._changed.items())[len(found) :]:
                found[key] = None if obj._k.status == "deleted" else self._packed(obj)
        never_stored = (k for k, o in self._changed.items() if o._k.status == "deleted" and o._k.version is None)
        for key in list(never_stored):
            del found[key]
        return found

    def merge_of(self, changes: dict[bytes, bytes | None]) -> None:
        """None: attributes have no policies."""

    def require_indexes(self) -> None:
        if not self._changed:
            return
        wanted = [_CLASS_INDEX]
        for cls in {type(obj) for obj in self._changed.values()}:
            wanted += _indexes_of(cls)
        have = {(index.column, index.owner): index for index in self._session._begin().indexes(TABLE)}
        for index in wanted:
            known = have.get((index.column, index.owner))
            if known is None or not set(index.scope) <= set(known.scope):
                self._session._change_schema(SchemaChange("create_index", TABLE, index))

    def changed(self) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
        objects = self._changed.values()
        new, dirty, deleted = (
            tuple(o for o in objects if o._k.status == status) for status in ("new", "dirty", "deleted")
        )
        return new, dirty, deleted

    def committed(self, number: int) -> None:
        for obj in self._changed.values():
            state = obj._k
            if state.status == "deleted":
                self._known.pop(state.key, None)
            else:
                state.status, state.version = "clean", number
        self._changed.clear()
        self._let_go()

    def rolled_back(self) -> None:
        self.restore(None)
        self._let_go()

    def save(self) -> dict[bytes, tuple[Persistent, str, bytes]]:
        self.changes()  # adds what is reachable, which the images refer to
        return {key: (obj, obj._k.status, self._packed(obj)) for key, obj in self._changed.items()}

    def restore(self, saved: dict[bytes, tuple[Persistent, str, bytes]] | None) -> None:
        self._undo(
            {key: obj for key, obj in self._changed.items() if not saved or saved.get(key, (None,))[0] is not obj}
        )
        for key, (obj, status, image) in (saved or {}).items():
            self._forget(obj)
            obj._k.status, obj._k.loaded = status, True
            obj.__dict__.update(self._unpacked(obj, image))
            self._changed[key] = self._known[key] = obj

    def _undo(self, changed: dict[bytes, Persistent]) -> None:
        for key, obj in changed.items():
            state = obj._k
            del self._changed[key]
            if state.version is None:
                self._known.pop(key, None)
                state.space, state.status, state.key = None, "transient", b""
            else:
                state.status = "clean"
                self._forget(obj)

    def _let_go(self) -> None:
        """The snapshot is over: the next touch reads the new one, or, after close(), what was loaded here."""
        for obj in list(self._known.values()):
            state = obj._k
            if state.loaded:
                state.attributes = dict(obj.__dict__)
                self._unload(obj)

    def readable_key(self, key: bytes) -> Any:
        return id_of(key)

    # As a source of queries

    def snapshot(self) -> Snapshot:
        return self._session._begin()

    def require_same(self, snapshot: Snapshot) -> None:
        self._session._require_same(snapshot)

    def require_own(self, operand: Any) -> None:
        if isinstance(operand, Persistent) and operand._k.space is not self:
            self._refuse_foreign(operand)

    def pending(self) -> Iterable[tuple[bytes, bytes | None]]:
        return self.changes().items()

    def observe(self, condition: Condition) -> None:
        self._session._observe(TABLE, condition)

    def item(self, key: bytes, row: Row) -> Any:
        known = self._known.get(key)
        if known is not None and known._k.status != "clean":
            return None if known._k.status == "deleted" else known
        return self._fetched(key, row)

    def value(self, encoded: bytes) -> Any:
        return decode(encoded, self.referred)

    def delete(self, item: Any) -> None:
        self.delete_object(item)

    def set(self, item: Any, column: str, value: Any) -> None:
        setattr(item, column, value)

    def key_of(self, item: Any) -> bytes:
        return bytes(item._k.key)


def _indexes_of(cls: type[Persistent]) -> Iterator[IndexDefinition]:
    """The indexes that a class needs. A column has one for all classes; what is unique is a class's own rule."""
    for attribute in cls._k_attributes.values():
        if attribute.field.index:
            yield IndexDefinition(attribute.name)
        if attribute.field.unique:
            bases = [c for c in cls.__mro__ if issubclass(c, Persistent) and attribute.name in c._k_attributes]
            yield IndexDefinition(attribute.name, True, bases[-1]._k_name, (cls._k_name,))


def _class_column(cls: type[Persistent]) -> bytes:
    """The packed column that names the class."""
    return _named_class_column(cls._k_name)


@functools.cache
def _named_class_column(name: str) -> bytes:
    return pack_columns([(SCOPE_COLUMN.encode(), encode(name))])


def _class_of(image: bytes) -> type[Persistent]:
    encoded = find_column(image, SCOPE_COLUMN.encode())
    name: str = decode(encoded) if encoded is not None else ""
    cls = classes.get(name)
    if cls is None:
        raise UsageError(
            f"an object of class {name!r} is stored, but no such class is known",
            hint="import the module that defines it",
        )
    return cls
