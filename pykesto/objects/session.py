"""The session that applications get: rows, objects, and the root."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from types import MappingProxyType
from typing import Any, TypeVar, cast

from ..codec import encode_key, range_of
from ..errors import Conflict, StaleToken, UsageError
from ..query import Query
from ..query.expressions import Condition, InRanges, Not
from ..rows import PREFIX, Row, Table
from ..session import Session
from ..store import SCOPE_COLUMN
from ..tokens import unpack_token
from .persistent import Persistent, with_subclasses
from .space import TABLE, ObjectSpace

P = TypeVar("P", bound=Persistent)
_ROOT = uuid.UUID("6b657374-6f00-4000-8000-000000000000")


class ObjectSession(Session):
    """A session over rows and objects. See `Database.session`."""

    _space: ObjectSpace | None = None

    @property
    def _objects(self) -> ObjectSpace:
        """Made when it is first used: many sessions only know rows."""
        if self._space is None:
            self._space = ObjectSpace(self)
            if not self._closed:
                self._parts[TABLE] = self._space
        return self._space

    def table(self, name: str) -> Table:
        """The table of rows of that name; it comes to be when it is first written to."""
        if not isinstance(name, str):
            raise TypeError(f"a table's name is a str, not {type(name).__name__}")
        if not name:
            raise UsageError("a table's name must not be empty")
        self._require_usable()
        stored = PREFIX + name
        found = self._parts.get(stored)
        if found is None:
            found = self._parts[stored] = Table(self, name)
        return cast(Table, found)

    def apply(self, token: str, changes: Mapping[str, Any] = MappingProxyType({})) -> Row:
        """Change the row that `token`, its `k_token` of earlier, stands for, if nobody else did since.

        Without `changes` it only looks. Returns the row.

        Raises:
            StaleToken: the row was changed or deleted since; `.conflicts` says by which commit.
            UsageError: `token` is none, or not signed as it must be.

        Example:
            >>> import pykesto
            >>> with pykesto.temporary() as db:
            ...     with db.transaction() as s:
            ...         s.table("pages")["home"] = {"text": "Hello"}
            ...     with db.session() as s:
            ...         token = s.table("pages")["home"].k_token
            ...     with db.transaction() as s:
            ...         row = s.apply(token, {"text": "Good morning"})
            ...     with db.transaction() as s:
            ...         s.apply(token, {"text": "Good evening"})
            Traceback (most recent call last):
            pykesto.errors.StaleToken: another commit changed pages['home'] ...
        """
        edited = unpack_token(token, self._options.token_key)
        row: Row | None = self.table(edited.table).get(edited.key)
        now = 0 if row is None else row.k_version or 0
        if row is None or now != edited.version:
            about = self._begin().about(now) if now else {}
            raise StaleToken([Conflict(edited.table, edited.key, edited.version, now, **about)])
        row.update(changes)
        return row

    def add(self, obj: P) -> P:
        """Store an object, and with it all that it refers to, at the next commit. Returns it, with its `k_id` set."""
        if not isinstance(obj, Persistent):
            raise TypeError(f"{obj!r} is no Persistent object")
        self._objects.add(obj)
        return obj

    def get(self, cls: type[P], k_id: uuid.UUID | str) -> P | None:
        """The object of class `cls`, or of one below it, with that id (its str will do); None if there is none."""
        key = uuid.UUID(k_id) if isinstance(k_id, str) else k_id
        if not isinstance(key, uuid.UUID):
            raise TypeError(f"k_id is a UUID or its str, not {type(k_id).__name__}")
        found = self._objects.get(encode_key(key))
        return found if isinstance(found, cls) else None

    def query(self, cls: type[P], *conditions: Any) -> Query[P]:
        """A query over the objects of a class and of those below it."""
        if not (isinstance(cls, type) and issubclass(cls, Persistent)):
            raise TypeError(f"{cls!r} is no Persistent class")
        found: Query[P] = Query(self._objects, _of_class(cls))
        return found.where(*conditions) if conditions else found

    def delete(self, item: Persistent | Row) -> None:
        """Delete an object, or a row, at the next commit."""
        if isinstance(item, Row):
            if item._table._session is not self:
                raise UsageError(
                    f"{item!r} belongs to another session", hint="take this session's own: s.table(...)[key]"
                )
            item._table.delete(item)
        elif isinstance(item, Persistent):
            self._objects.delete_object(item)
        else:
            raise TypeError(f"{item!r} is neither a row nor a Persistent object")

    def refresh(self, item: Persistent | Row) -> None:
        """Drop the unsaved changes of an object or a row."""
        if isinstance(item, Row):
            self.table(item._table.label).refresh(item)
        else:
            self._objects.refresh(item)

    @property
    def root(self) -> Root:
        """A mapping of names to values and objects, from which everything can be found."""
        return Root(self)


def _of_class(cls: type[Persistent]) -> Condition:
    if cls is Persistent:
        return Not(_in_classes((RootEntry,)))
    return _in_classes(with_subclasses(cls))


def _in_classes(classes: Iterable[type[Persistent]]) -> InRanges:
    names = [known._k_name for known in classes]
    return InRanges(SCOPE_COLUMN, tuple(map(range_of, names)), f"class {names[0]}", "class")


class RootEntry(Persistent, name="k.Root"):
    """One name in the root, and what it stands for."""

    name: str
    value: Any


def _key_of(name: str) -> bytes:
    """The key of a name's entry. It follows from the name, so that two sessions that make one entry conflict."""
    return encode_key(uuid.uuid5(_ROOT, name))


class Root(MutableMapping[str, Any]):
    """`session.root`: a few names, each for a value or an object. Storing an object here adds it."""

    def __init__(self, session: ObjectSession) -> None:
        self._session = session

    def _entry(self, name: str) -> RootEntry | None:
        found = self._session._objects.get(_key_of(name))
        return found if isinstance(found, RootEntry) else None

    def __getitem__(self, name: str) -> Any:
        entry = self._entry(name)
        if entry is None:
            raise KeyError(name)
        return entry.value

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a name in the root is a str, not {type(name).__name__}")
        entry = self._entry(name)
        if entry is None:
            self._session._objects.add_under(_key_of(name), RootEntry(name=name, value=value))
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
        self._session.delete(entry)

    def __iter__(self) -> Iterator[str]:
        return iter([entry.name for entry in self._session.query(RootEntry).order_by("name")])

    def __len__(self) -> int:
        return self._session.query(RootEntry).count()
