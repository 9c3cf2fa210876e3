"""The objects of one session: adding, deleting, and their place in its commit and queries.

One table holds all objects: the key is the id, the first column names the class. An object that is stored takes
everything that it refers to with it. Loading and packing are in `_objects`.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

from ..codec import decode, decode_key, find_column, range_of
from ..errors import UsageError
from ..failpoints import ACTIVE, off
from ..merging import difference
from ..query import Condition, Query
from ..query.expressions import InRanges, Not
from ..session import Session
from ..store import SCOPE_COLUMN, IndexDefinition, Merge, SchemaChange, Snapshot
from ._objects import CLEAN, DELETED, DIRTY, NEW, TRANSIENT, UNHINTED, UNSTORED, Space, attributes_of, shell_of
from .catalog import Catalog
from .columns import Late, Resolver, has_unknown
from .deletion import count_owners, require_unreferenced, settle_references
from .entries import Entries
from .events import require_checks, tell
from .evolution import bring_up_to_date, outdated
from .persistent import Missing, Persistent
from .registry import classes, stored_names, stores_are_watched, with_subclasses

TABLE = "objects"
_CLASS_INDEX = IndexDefinition(SCOPE_COLUMN)
_OWN = __package__ + ".root"
_CONTAINERS = (list, tuple, set, frozenset, dict)
Saved = dict[bytes, tuple[Persistent, int, bytes]]


class ObjectSpace(Space):
    """A part of its session, and the source of its queries over objects."""

    table = TABLE
    label = "objects"

    def __init__(self, session: Session, catalog: Catalog) -> None:
        super().__init__(session, catalog, TABLE)
        self._caught_up = -1
        self._tells = False
        self.entries = Entries(self)  # of large containers
        self._upgraded: dict[bytes, Persistent] = {}  # that are not written
        self._sending: dict[bytes, bytes | None] = {}  # of this commit: what may be merged
        self._asked: set[type[Persistent]] = set()  # classes whose outdated objects were read for a query
        self._stored: list[tuple[Persistent, str]] = []  # what is to be told of the commit

    # Adding and deleting

    def refuse_foreign(self, obj: Persistent) -> NoReturn:
        if obj._k_state == DELETED:
            raise UsageError(f"{obj!r} is deleted")
        raise UsageError(
            f"{obj!r} belongs to another session",
            hint=f"take this session's own: s.get({type(obj).__name__}, obj.k_id)",
        )

    def delete_object(self, obj: Persistent) -> None:
        if obj._k_space is not self:
            raise UsageError(f"{obj!r} is not of this session, so it can't be deleted in it")
        if obj._k_state == DELETED:
            return
        self.touch(obj)
        tell(obj, "before_delete")
        if type(obj)._k_deleted is not None:
            obj._k_deleted()  # type: ignore[misc]
        obj._k_state = DELETED
        settle_references(self, obj)

    def drop(self, obj: Persistent) -> None:
        """Delete an object that nothing refers to: there is nobody to tell."""
        self.touch(obj)
        obj._k_state = DELETED

    # Weak references

    def weakened(self, value: Any) -> Any:
        if isinstance(value, Persistent):
            if value._k_space is not self and value._k_key is None:
                raise UsageError(f"{value!r} is not stored, so nothing can refer to it weakly", hint="s.add() it first")
            return uuid.UUID(bytes=value._k_key)
        if isinstance(value, (list, tuple, set, frozenset)):
            return [self.weakened(item) for item in value]
        return value

    def strong(self, value: Any) -> Any:
        if isinstance(value, uuid.UUID):
            known: Any = self.known(value.bytes)
            if known is not None and known._k_state != CLEAN:
                return None if known._k_state == DELETED else known
            return None if self.lookup(self.row_key(value.bytes)) is None else self(value.bytes)
        if isinstance(value, list):
            return [found for item in value if (found := self.strong(item)) is not None]
        return value

    # Identity and loading

    def prefetch(self, objects: Iterable[Any], paths: Iterable[str]) -> None:
        """Read objects, and what they refer to along paths of attributes."""
        objects = [obj for obj in objects if isinstance(obj, Persistent)]
        for obj in objects:
            if not obj._k_awake and obj._k_space is self:
                row = self.lookup(self.row_key(obj._k_key or b""))
                if row is not None:
                    self.read(obj._k_key or b"", row)
        further: dict[str, list[str]] = {}
        for path in paths:
            first, _, rest = path.partition(".")
            further.setdefault(first, []).extend([rest] if rest else [])
        for name, rests in further.items():
            found = {id(i): i for obj in objects if obj._k_awake for i in _referred(attributes_of(obj).get(name))}
            self.prefetch(found.values(), rests)

    def filled(self, obj: Persistent) -> None:
        if bring_up_to_date(self, obj) and obj._k_state == CLEAN:
            self._upgraded[obj._k_key or b""] = obj
        tell(obj, "after_load")

    def get(self, id: bytes) -> Persistent | None:
        """The object of this session under an id, or None."""
        known: Any = self.known(id)
        if known is not None and known._k_state != CLEAN and not (ACTIVE and off("objects.known")):
            return None if known._k_state == DELETED else known
        row = self.lookup(self.row_key(id))
        return None if row is None else self.read(id, row)

    def shell_for(self, id: bytes, number: int) -> Any:
        """The shell of an object's class, where the id alone does not tell it: the row does."""
        if number == UNHINTED:
            row = None if self._session._closed else self._session._begin().get(TABLE, self.row_key(id))
            return shell_of(Missing if row is None else self._catalog.kind(_number_of(row.image)).cls)
        shell = shell_of(self._catalog.kind(number).cls)
        self._catalog.shells[number] = shell
        return shell

    def refuse_missing(self, obj: Persistent) -> NoReturn:
        raise KeyError(
            f"the {type(obj).__name__} that is referred to, {uuid.UUID(bytes=obj._k_key)}, is not in the database"
            " (any more)"
        )

    def refresh(self, obj: Persistent) -> None:
        """Drop an object's unsaved changes."""
        if obj._k_space is not self or obj._k_state == NEW:
            raise UsageError(f"{obj!r} was not loaded by this session, so there is nothing to refresh it from")
        self._changed.pop(obj._k_key or b"", None)
        obj._k_state = CLEAN
        self.unload(obj)

    # As a part of its session

    def prepare(self) -> None:
        """Call the methods for events, check values, and references to what is deleted."""
        count_owners(self)
        done: set[bytes] = set()
        while stores_are_watched():
            self.changes()  # adds what is reachable
            todo = [(id, obj) for id, obj in self._changed.items() if id not in done and type(obj)._k_watches_stores]
            if not todo:
                break
            for id, obj in todo:
                done.add(id)
                if obj._k_state != DELETED:
                    tell(obj, "before_store")
                    require_checks(obj)
        deleted = [obj for obj in self._changed.values() if obj._k_state == DELETED]
        if deleted and not (ACTIVE and off("objects.referred")):
            require_unreferenced(self, deleted)

    def changes(self) -> dict[bytes, bytes | None]:
        found: dict[bytes, bytes | None] = {}
        done = 0
        while True:
            if self.entries._changed:
                self.entries.changes()  # adds what entries refer to
            todo = list(self._changed.values())[done:]
            if not todo or (ACTIVE and done and off("objects.reached")):
                return found
            found |= self.packed(todo)  # adds what is reachable
            done += len(todo)

    def merge_of(self, changes: dict[bytes, bytes | None]) -> Merge | None:
        """By the policies of their attributes."""
        rows = {}
        self._sending.clear()
        for id, obj in self._changed.items():
            merges = type(obj)._k_merges
            if merges and obj._k_state == DIRTY:
                key = self.row_key(id)
                policies = {self._catalog.column(name): policy for name, policy in merges.items()}
                before = self._session._begin().get(TABLE, key)
                done = None if before is None else difference(policies, before.image, changes[key] or b"")
                if done is not None:
                    rows[key] = policies, done
                    self._sending[id] = changes[key]
        return Merge(rows) if rows else None

    def require_indexes(self) -> None:
        if not self._changed:
            return
        wanted = [_CLASS_INDEX]
        for cls in {type(obj)._k_class for obj in self._changed.values()}:
            wanted += self._indexes_of(cls)
        have = {(index.name, index.owner): index for index in self._session._begin().indexes(TABLE)}
        for index in wanted:
            known = have.get((index.name, index.owner))
            if known is None or not set(index.scope) <= set(known.scope):
                self._session._change_schema(SchemaChange("create_index", TABLE, index))

    def _indexes_of(self, cls: type[Persistent]) -> Iterator[IndexDefinition]:
        """The indexes that a class needs. A column has one for all classes; what is unique is a class's own rule."""
        for name, of in cls._k_attributes.items():
            if of.index and not of.transient:
                column = self._catalog.column(of.was or name)
                yield IndexDefinition(column, kind="value" if of.index is True else of.index)
                if of.on_delete:
                    yield IndexDefinition(column, kind="references")
                if of.unique:
                    bases = [c for c in cls.__mro__ if issubclass(c, Persistent) and name in c._k_attributes]
                    scope = tuple(self._catalog.numbers_of(cls._k_names))
                    yield IndexDefinition(column, True, bases[-1]._k_name, scope)

    def changed(self) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
        objects = self._changed.values()
        new, dirty, deleted = (tuple(o for o in objects if o._k_state == state) for state in (NEW, DIRTY, DELETED))
        return new, dirty, deleted

    def committed(self, number: int) -> None:
        watched = [obj for obj in self._changed.values() if type(obj)._k_watches_stores] if stores_are_watched() else []
        stored = [(obj, "after_delete" if obj._k_state == DELETED else "after_store") for obj in watched]
        self.settle_changed(number)
        self._sent = {id: image for id, image in self._sent.items() if self.known(id) is not None} | self._sending
        self.sleep()
        if watched and not self._tells:
            self._tells = True
            self._session.after_commit(self._tell_stored)
        self._stored += stored

    def _tell_stored(self) -> None:
        stored, self._stored = self._stored, []
        for obj, event in stored:
            tell(obj, event)

    def rolled_back(self) -> None:
        self.restore(None)
        self.sleep()

    def save(self) -> Saved:
        self.changes()  # adds what is reachable, which the images refer to
        return {id: (obj, obj._k_state, self.pack(obj)) for id, obj in self._changed.items()}

    def restore(self, saved: Saved | None) -> None:
        for id, obj in list(self._changed.items()):
            if not saved or saved.get(id, (None,))[0] is not obj:
                self._undo(id, obj)
        for id, (obj, state, image) in (saved or {}).items():
            self.unload(obj)
            obj._k_state = state
            self.fill(obj, image, obj._k_version)
            self._changed[id] = obj
            self.know(obj)

    def _undo(self, id: bytes, obj: Persistent) -> None:
        del self._changed[id]
        if obj._k_version is None:
            self.forget(id)
            obj._k_space, obj._k_state, obj._k_key = None, TRANSIENT, None
        else:
            obj._k_state = CLEAN
            self.unload(obj)

    def readable_key(self, key: bytes) -> Any:
        return decode_key(key)

    def readable_column(self, column: str) -> str:
        """The attribute that a column is of."""
        found: str = self._catalog.names.get(column, column)
        return found.removeprefix(UNSTORED)

    # As a source of queries

    def snapshot(self) -> Snapshot:
        snapshot: Snapshot = self._session._begin()
        if self._caught_up != self.epoch:
            self._catalog.catch_up(snapshot)
            self._caught_up = self.epoch
        return snapshot

    def require_same(self, snapshot: Snapshot) -> None:
        self._session._require_same(snapshot)

    def require_own(self, operand: Any) -> None:
        if isinstance(operand, Persistent) and operand._k_space is not self:
            self.refuse_foreign(operand)

    def pending(self) -> Iterable[tuple[bytes, bytes | None]]:
        upgraded = {}
        for id, obj in list(self._upgraded.items()):
            if obj._k_state == CLEAN:
                if not obj._k_awake:  # what was undone, or unloaded, is read and upgraded anew
                    self.wake(obj)
                upgraded[self.row_key(id)] = self.pack(obj)
        return (upgraded | self.changes()).items()

    def read_outdated(self, cls: type[Persistent]) -> None:
        """Have what earlier versions of a class stored in memory, upgraded: queries see it as they see changes."""
        if cls not in self._asked:
            self._asked.add(cls)
            earlier = outdated(self, cls)
            for obj in earlier if earlier is not None else ():
                self.wake(obj) if not obj._k_awake else None

    def sleep(self) -> None:
        super().sleep()
        self._upgraded.clear()
        self._asked.clear()
        self._sending.clear()

    def observe(self, condition: Condition) -> None:
        """Remember what was asked; `condition` may be one that was resolved."""
        if self._session._options.read_only:
            return
        kinds, attributes = self._catalog.known()
        self._session._observe(TABLE, Late(condition, kinds, attributes, has_unknown(condition)))

    def in_classes(self, cls: type[Persistent]) -> Condition:
        """The objects of a class and of those below it."""
        self.snapshot()
        if cls is Persistent:  # those of classes that no module defines, too
            inner = self._catalog.numbers_of(n for n, known in classes.items() if known.__module__ == _OWN)
            return Not(InRanges(SCOPE_COLUMN, tuple(map(range_of, inner)), "class Persistent"))
        self.read_outdated(cls)
        if (self._changed or self._upgraded) and not all(map(self._catalog.has, with_subclasses(cls))):
            self.pending()  # gives numbers to what is new
        numbers = self._catalog.numbers_of(stored_names(cls))
        return InRanges(SCOPE_COLUMN, tuple(map(range_of, numbers)), f"class {cls._k_name}", "class")

    def resolver(self) -> Resolver:
        self.snapshot()
        return Resolver(self._column_of, self._find)

    def _column_of(self, name: str) -> str | None:
        found: str | None = self._catalog.columns.get(name)
        if found is None and (self._changed or self._upgraded):
            self.pending()  # names what is new
            found = self._catalog.columns.get(name)
        return found

    def _find(self, condition: Condition) -> list[bytes]:
        """The ids of all objects that meet a condition."""
        resolved = self.resolver().condition(condition)
        return [self.id_of(key) for key, _ in Query(self, resolved)._matches()]

    def value(self, encoded: bytes) -> Any:
        return decode(encoded, self)

    def delete(self, item: Any) -> None:
        self.delete_object(item)

    def set(self, item: Any, column: str, value: Any) -> None:
        setattr(item, column, value)

    def key_of(self, item: Any) -> bytes:
        return self.row_key(item._k_key)


def _referred(value: Any) -> list[Any]:
    """The objects in the value of an attribute."""
    if isinstance(value, Persistent):
        return [value]
    items = value.values() if isinstance(value, dict) else value
    return [one for item in items for one in _referred(item)] if isinstance(value, _CONTAINERS) else []


def _number_of(image: bytes) -> int:
    number: int = decode(find_column(image, SCOPE_COLUMN.encode()) or b"")
    return number
