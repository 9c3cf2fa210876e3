"""Persistent classes: plain Python objects whose attributes are stored.

A loaded object keeps its attributes in its `__dict__`, so reading one costs what it costs on any object. An object
that is not loaded has an empty `__dict__`; the first attribute that is missed there loads it. Setting an attribute
goes through `__setattr__`, which tells the session.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, dataclass_transform, get_origin, overload

from ..codec import decode_key
from ..errors import UsageError
from ..query import Column
from ..query.expressions import stand_for_references
from ..tracked import detach, tracked

_UNSET: Any = object()


class Space(Protocol):
    """The objects of one session, as an object of it sees them."""

    def load(self, obj: Persistent) -> None:
        """Fill the object's attributes from the snapshot; KeyError if it is not there."""
        ...

    def touch(self, obj: Persistent) -> None:
        """The object is about to change."""
        ...


class State:
    """What a persistent object carries besides its attributes."""

    __slots__ = ("__weakref__", "attributes", "fetched", "image", "key", "loaded", "space", "status", "version")

    def __init__(self) -> None:
        self.space: Space | None = None  # None: transient
        self.key = b""
        self.status = "transient"  # transient, new, clean, dirty, deleted
        self.loaded = True  # whether the object's __dict__ holds its attributes
        self.version: int | None = None
        self.image: bytes | None = None  # the packed row, read ahead with a reference to it
        self.fetched = False  # a query or get() gave it, not a reference
        self.attributes: dict[str, Any] | None = None  # as of an earlier snapshot, kept for after close()


@dataclass(frozen=True, slots=True)
class Field:
    """What `field()` says of an attribute."""

    index: bool = False
    unique: bool = False
    default: Any = _UNSET
    default_factory: Callable[[], Any] | None = None


def field(
    *,
    index: bool = False,
    unique: bool = False,
    default: Any = _UNSET,
    default_factory: Callable[[], Any] | None = None,
) -> Any:
    """An attribute with an index, a unique value, or a default made anew for each object.

    Args:
        index: keep an index, so that queries on the attribute need no scan. It serves comparisons, not `contains`.
        unique: no two objects of this class and those below it may have an equal value; None never collides. Implies
            an index.
        default: the value of objects that were given none; not a list, dict or set.
        default_factory: called without arguments for each such object instead.

    Example:
        >>> import pykesto
        >>> class City(pykesto.Persistent):
        ...     name: str = pykesto.field(index=True, default="")
        ...     streets: list[str] = pykesto.field(default_factory=list)
        >>> City(name="Bonn").streets
        []
    """
    if default is not _UNSET and default_factory is not None:
        raise UsageError("field() takes default or default_factory, not both")
    _refuse_mutable(default)
    return Field(index or unique, unique, default, default_factory)


def _refuse_mutable(default: Any) -> None:
    if isinstance(default, (list, dict, set, bytearray)):
        raise UsageError(
            f"a default of {default!r} would be shared by all objects", hint="use field(default_factory=...)"
        )


class Attribute:
    """A declared attribute. On the class it makes conditions; on an object it is asked when `__dict__` lacks it."""

    def __init__(self, name: str, declared: Field) -> None:
        self.name = name
        self.field = declared

    def __get__(self, obj: Persistent | None, owner: type[Persistent]) -> Any:
        if obj is None:
            return Column(self.name)
        return obj._k_missing(self.name)

    def initial(self) -> Any:
        """The default of a new object, or _UNSET."""
        return self.field.default_factory() if self.field.default_factory else self.field.default


def reference_of(value: Any) -> bytes | None:
    """The id of a stored object, for the codec; None if it is no persistent object."""
    if not isinstance(value, Persistent):
        return None
    if not value._k.key:
        raise UsageError(f"{value!r} is not stored, so nothing can refer to it", hint="s.add() it first")
    return id_of(value._k.key).bytes


stand_for_references(reference_of)


def id_of(key: bytes) -> uuid.UUID:
    found = decode_key(key)
    assert isinstance(found, uuid.UUID)
    return found


classes: dict[str, type[Persistent]] = {}  # by stored name


class Identity:
    """`obj.k_id`: the object's id, a UUID of version 7 given by `add`. On the class it makes conditions."""

    @overload
    def __get__(self, obj: None, owner: type[Persistent]) -> Column: ...
    @overload
    def __get__(self, obj: Persistent, owner: type[Persistent]) -> uuid.UUID: ...
    def __get__(self, obj: Persistent | None, owner: type[Persistent]) -> Column | uuid.UUID:
        if obj is None:
            return Column("k_id")
        if not obj._k.key:
            raise AttributeError(f"{obj!r} has no k_id until it is added to a session")
        return id_of(obj._k.key)


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class Persistent:
    """The base of classes whose objects are stored. Any attribute may be set; annotations are optional.

    The constructor takes keywords, unless the class has its own `__init__`; none runs on load. Attributes that begin
    with `_v_` are not stored. Objects compare and hash by identity.

    Example:
        >>> import pykesto
        >>> class Traveller(pykesto.Persistent):
        ...     name: str
        ...     age: int = 0
        >>> Traveller(name="Ann").age
        0
    """

    __slots__ = ("__dict__", "__weakref__", "_k")

    _k: State
    _k_name: ClassVar[str]
    _k_attributes: ClassVar[dict[str, Attribute]] = {}

    def __init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._k_name = name or cls.__qualname__.replace("<locals>.", "")
        _register(cls)
        own = {attribute: Attribute(attribute, declared) for attribute, declared in _declared(cls)}
        for attribute, descriptor in own.items():
            if attribute.startswith(("k_", "_k")):
                raise UsageError(f"{cls.__name__}.{attribute}: names that begin with k_ are reserved")
            setattr(cls, attribute, descriptor)
        inherited: dict[str, Attribute] = {}
        for base in reversed(cls.__mro__[1:]):
            inherited |= base.__dict__.get("_k_attributes", {})
        cls._k_attributes = inherited | own

    def __new__(cls, *args: Any, **kwargs: Any) -> Persistent:
        obj = super().__new__(cls)
        object.__setattr__(obj, "_k", State())
        for name, attribute in cls._k_attributes.items():
            value = attribute.initial()
            if value is not _UNSET:
                obj.__dict__[name] = value
        return obj

    def __init__(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            setattr(self, name, value)

    k_id = Identity()

    @property
    def k_version(self) -> int | None:
        """The number of the commit that last wrote this object; None before there is one."""
        self._k_load()
        return self._k.version

    def _k_load(self) -> None:
        if not self._k.loaded and self._k.space is not None:
            self._k.space.load(self)

    def _k_missing(self, name: str) -> Any:
        """An attribute that `__dict__` lacks: load if that was not done, else it is unset."""
        if not self._k.loaded:
            self._k_load()
            if name in self.__dict__:
                return self.__dict__[name]
        attribute = type(self)._k_attributes.get(name)
        value = _UNSET if attribute is None or self._k.status == "transient" else attribute.initial()
        if value is _UNSET:
            raise AttributeError(f"{type(self).__name__} object has no attribute {name!r}", name=name, obj=self)
        return value  # stored before the attribute was declared

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("_k", "__")):
            raise AttributeError(name)
        return self._k_missing(name)

    def _k_touch(self) -> None:
        """Before a change of this object, or of a container in it."""
        if self._k.space is not None:
            self._k.space.touch(self)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("k_") or name == "_k":
            raise AttributeError(f"{name} is reserved")
        if name.startswith("_v_") or self._k.space is None:
            self._k_set(name, value)
            return
        self._k_touch()
        old = self.__dict__.get(name)
        if old is None or old is not value:  # `obj.tags += [...]` assigns what is there already
            self._k_set(name, tracked(value, self))
            detach([old])

    def _k_set(self, name: str, value: Any) -> None:
        """Set past our own descriptors, which have no `__set__`, but through a class's properties."""
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        self._k_load()
        if name not in self.__dict__:
            raise AttributeError(f"{type(self).__name__} object has no attribute {name!r}", name=name, obj=self)
        self._k_touch()
        del self.__dict__[name]

    def __repr__(self) -> str:
        state = self._k
        shown = f" {id_of(state.key)}" if state.key else ""
        return f"<{type(self).__name__}{shown} {state.status}{'' if state.loaded else ', not loaded'}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"{self!r} belongs to a database: pass its k_id, and s.get() it on the other side")


def _register(cls: type[Persistent]) -> None:
    known = classes.get(cls._k_name)
    if known is not None and known.__module__ != cls.__module__:
        raise UsageError(
            f"{known.__module__}.{known.__qualname__} and {cls.__module__}.{cls.__qualname__} would both be stored as"
            f" {cls._k_name!r}",
            hint='give one of them another name: class P(Persistent, name="...")',
        )
    classes[cls._k_name] = cls


def _declared(cls: type) -> Iterator[tuple[str, Field]]:
    """What the class itself declares, by annotation or field(); ClassVars, methods and such are plain."""
    annotations = inspect.get_annotations(cls)
    for name, annotation in annotations.items():
        if name.startswith("_") or _is_class_variable(annotation):
            continue
        value = cls.__dict__.get(name, _UNSET)
        _refuse_mutable(value)
        yield name, value if isinstance(value, Field) else Field(default=value)
    for name, value in list(cls.__dict__.items()):
        if isinstance(value, Field) and name not in annotations:
            yield name, value


def _is_class_variable(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.startswith(("ClassVar", "typing.ClassVar", "t.ClassVar"))
    return annotation is ClassVar or get_origin(annotation) is ClassVar


def with_subclasses(cls: type[Persistent]) -> list[type[Persistent]]:
    """The class and all classes below it that are known now."""
    found = [cls]
    for known in classes.values():
        if known is not cls and issubclass(known, cls):
            found.append(known)
    return found
