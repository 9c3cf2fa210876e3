"""The session that applications get: rows, objects, and the root."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeVar, cast

from ..errors import Conflict, StaleToken, UsageError
from ..query.expressions import name_of
from ..rows import Row, TableSession
from ..tokens import OBJECTS, Edited, unpack_token
from .deletion import refers_to
from .entries import Entries
from .evolution import outdated
from .life import at_url, detach, merge
from .persistent import Persistent
from .queries import ObjectQuery
from .root import Root
from .space import TABLE, ObjectSpace

P = TypeVar("P", bound=Persistent)


class ObjectSession(TableSession):
    """A session over rows and objects. See `Database.session`."""

    _space: ObjectSpace | None = None

    @property
    def _objects(self) -> ObjectSpace:
        """Made when it is first used: many sessions only know rows."""
        if self._space is None:
            self._space = ObjectSpace(self, self._catalog)
            if not self._closed:
                self._parts[TABLE] = self._space
                self._parts[Entries.table] = self._space.entries
        return self._space

    def apply(self, token: str, changes: Mapping[str, Any] = MappingProxyType({})) -> Any:
        """Change the row or object that `token`, its `k_token` of earlier, stands for, if nobody else did since.

        Without `changes` it only looks. Returns the row, or the object.

        Raises:
            StaleToken: it was changed or deleted since; `.conflicts` says by which commit.
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
        found: Any = self._edited(edited)
        now = 0 if found is None else found.k_version or 0
        if found is None or now != edited.version:
            about = self._begin().about(now) if now else {}
            raise StaleToken([Conflict(edited.table or TABLE, edited.key, edited.version, now, **about)])
        if isinstance(found, Persistent):
            for name, value in changes.items():
                if name.startswith("_"):
                    raise UsageError(f"{name!r} is no attribute that a form may change")
                setattr(found, name, value)
        else:
            found.update(changes)
        return found

    def _edited(self, edited: Edited) -> Any:
        """The row or object that a token names, if it is there."""
        if edited.table != OBJECTS:
            return self.table(edited.table).get(edited.key)
        return self._objects.get(edited.key.bytes) if isinstance(edited.key, uuid.UUID) else None

    def add(self, obj: P) -> P:
        """Store an object, and with it all that it refers to, at the next commit. Returns it, with its `k_id` set."""
        if not isinstance(obj, Persistent):
            raise TypeError(f"{obj!r} is no Persistent object")
        self._objects.add(obj)
        return obj

    def get(self, cls: type[P], k_id: uuid.UUID | str) -> P | None:
        """The object of class `cls`, or of one below it, with that id (its str will do); None if there is none."""
        try:
            key = uuid.UUID(k_id) if isinstance(k_id, str) else k_id
        except ValueError:
            raise UsageError(f"{k_id!r} is no k_id", hint="give the UUID, or its str") from None
        if not isinstance(key, uuid.UUID):
            raise TypeError(f"k_id is a UUID or its str, not {type(k_id).__name__}")
        found = self._objects.get(key.bytes)
        if isinstance(found, cls):
            return found
        if not (isinstance(cls, type) and issubclass(cls, Persistent)):
            raise TypeError(f"{cls!r} is no Persistent class")
        return None

    def query(self, what: type[P] | P, *conditions: Any) -> ObjectQuery[P]:
        """A query over the objects of a class and of those below it; or like an example, a transient object.

        Example:
            >>> import pykesto
            >>> class Fruit(pykesto.Persistent):
            ...     name: str
            ...     grams: int = 0
            >>> with pykesto.temporary() as db, db.transaction() as s:
            ...     for name, grams in ("apple", 150), ("cherry", 8):
            ...         _ = s.add(Fruit(name=name, grams=grams))
            ...     [fruit.name for fruit in s.query(Fruit, lambda f: f.grams > 100 or f.name == "plum")]
            ...     s.query(Fruit(grams=8)).one().name
            ['apple']
            'cherry'
        """
        if isinstance(what, Persistent):
            if what._k_key:
                raise UsageError(f"{what!r} is stored, and no example", hint="give a new object, or a class")
            return ObjectQuery(self._objects, cast(type[P], type(what)._k_class)).like(what).where(*conditions)
        if not (isinstance(what, type) and issubclass(what, Persistent)):
            raise TypeError(f"{what!r} is no Persistent class, nor an example of one")
        return ObjectQuery(self._objects, what).where(*conditions)

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
        elif isinstance(item, Persistent):
            self._objects.refresh(item)
        else:
            raise TypeError(f"{item!r} is neither a row nor a Persistent object")

    # Reading ahead, and counting what is read

    @property
    def loads(self) -> int:
        """How many objects were read one by one, because they were touched. Queries, get() and prefetch() add none."""
        return self._objects.loads

    @contextmanager
    def loads_at_most(self, count: int) -> Iterator[None]:
        """A block in which no more than `count` objects are read because they were touched: UsageError for one more.

        Example:
            >>> import pykesto
            >>> class Author(pykesto.Persistent):
            ...     name: str
            >>> class Book(pykesto.Persistent):
            ...     author: Author
            >>> db = pykesto.temporary()
            >>> with db.transaction() as s:
            ...     for name in "Ann", "Bob":
            ...         _ = s.add(Book(author=Author(name=name)))
            >>> with db.session() as s:
            ...     books = list(s.query(Book))
            ...     s.prefetch(books, "author")
            ...     with s.loads_at_most(0):
            ...         sorted(book.author.name for book in books)
            ['Ann', 'Bob']
            >>> db.close()
        """
        space = self._objects
        before, space.loads_max = space.loads_max, space.loads + count
        try:
            yield
        finally:
            space.loads_max = before

    def prefetch(self, objects: Persistent | Iterable[Persistent], *paths: str) -> None:
        """Read objects, and what they refer to along paths such as "friends.address", through containers too."""
        self._objects.prefetch([objects] if isinstance(objects, Persistent) else objects, paths)

    @property
    def cache_bytes(self) -> int:
        """About how many bytes of clean objects the session holds on to; beyond, those read first are unloaded."""
        return self._objects.cache_bytes

    @cache_bytes.setter
    def cache_bytes(self, size: int) -> None:
        self._objects.cache_bytes = size

    # From one session to another

    def detach(self, obj: Persistent) -> None:
        """Take an object without unsaved changes out of the session: it is read, and stays as it is."""
        detach(self._objects, obj)

    def merge(self, obj: P) -> P:
        """This session's own object, with the attributes of one that was detached.

        ConcurrencyConflict if the object was changed or deleted since.
        """
        merged: P = merge(self._objects, obj)
        return merged

    def _upgrade(self, cls: type[Persistent], count: int) -> int:
        """Have some objects that earlier versions of a class stored written again; how many."""
        earlier = outdated(self._objects, cls)
        found = [] if earlier is None else list(earlier.limit(count))
        for obj in found:
            self._objects.touch(obj)
        return len(found)

    def at_url(self, url: str) -> Any:
        """The object that `pykesto.url_of` named so, or None. What is before CLASS/ID in the URL is left aside."""
        return at_url(self._objects, url)

    def referrers(self, obj: Persistent, attribute: Any) -> ObjectQuery[Any]:
        """The objects that refer to `obj` in an attribute, such as `Person.friends`, alone or in a container."""
        return ObjectQuery(self._objects, Persistent).where(refers_to(name_of(attribute), obj))

    @property
    def root(self) -> Root:
        """A mapping of names to values and objects, from which everything can be found."""
        return Root(self._objects)
