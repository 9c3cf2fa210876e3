"""Persistent classes: plain Python objects whose attributes are stored.

An object that was read has its attributes where any object has them, and its class has nothing that a plain class has
not: a read costs what it costs on any object. Until then it is of its class's shell, which loads at the first touch.
Setting an attribute goes through `__setattr__`, which tells the session.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, dataclass_transform, overload

from ..errors import UsageError
from ..query.expressions import stand_for_references
from ..tokens import OBJECTS, Edited, pack_token
from ._objects import (
    CLEAN,
    DICT,
    STATES,
    Reference,
    Stored,
    delete_attribute,
    get_attribute,
    have_places_of,
    set_attribute,
    uuid_of,
)
from .columns import AttributeColumn
from .fields import UNSET, Field, declared, field
from .registry import register, watch_stores


class Identity:
    """`obj.k_id`: the object's id, a UUID of version 7 given by `add`. On the class it makes conditions."""

    @overload
    def __get__(self, obj: None, owner: type[Persistent]) -> AttributeColumn: ...
    @overload
    def __get__(self, obj: Persistent, owner: type[Persistent]) -> uuid.UUID: ...
    def __get__(self, obj: Persistent | None, owner: type[Persistent]) -> AttributeColumn | uuid.UUID:
        if obj is None:
            return AttributeColumn("k_id")
        if not obj._k_key:
            raise AttributeError(f"{obj!r} has no k_id until it is added to a session")
        return uuid_of(obj._k_key)


@dataclass_transform(kw_only_default=True, field_specifiers=(field,))
class Persistent(Stored):
    """The base of classes whose objects are stored. Any attribute may be set; annotations are optional.

    The constructor takes keywords, unless the class has its own `__init__`; none runs on load. Attributes that begin
    with `_v_` are not stored. Objects compare and hash by identity.

    Args of the class statement:
        name: what objects are stored under; the class's qualified name if it is not given.
        formerly: names under which objects of this class were stored before.
        version: of the class, for `upgrade`; one more than the highest `from_version` if it is not given.
        extent: False lets `Database.collect` remove objects of the class that nothing refers to.

    Example:
        >>> import pykesto
        >>> class Traveller(pykesto.Persistent):
        ...     name: str
        ...     age: int = 0
        >>> Traveller(name="Ann").age
        0
    """

    __slots__ = ("__dict__",)
    __dict__ = DICT

    _k_class: ClassVar[type[Persistent]]
    _k_name: ClassVar[str] = ""
    _k_names: ClassVar[tuple[str, ...]] = ()  # that, and former names
    _k_version_now: ClassVar[int] = 1
    _k_versions: ClassVar[tuple[tuple[str, int], ...]] = ()  # above 1, of the class and those above it, by stored name
    _k_attributes: ClassVar[dict[str, Field]] = {}
    _k_initial: ClassVar[tuple[tuple[str, Any, Callable[[], Any] | None], ...]] = ()
    _k_awaits_decorator: ClassVar[bool] = False
    _k_transient: ClassVar[frozenset[str]] = frozenset()
    _k_stored: ClassVar[dict[str, str]] = {}  # attributes that are stored under a former name
    _k_renamed: ClassVar[dict[str, str]] = {}  # and the other way
    _k_extent: ClassVar[bool] = True
    _k_added: ClassVar[Callable[[Any], None] | None] = None  # called when an object has got its id
    _k_deleted: ClassVar[Callable[[Any], None] | None] = None  # called when an object is about to be deleted
    _k_weak: ClassVar[frozenset[str]] = frozenset()
    _k_merges: ClassVar[dict[str, str]] = {}  # policies, by the name that an attribute is stored under
    _k_hooks: ClassVar[dict[str, tuple[str, ...]]] = {}  # names of methods, by event
    _k_watches_loads: ClassVar[bool] = False
    _k_watches_stores: ClassVar[bool] = False
    _k_upgrades: ClassVar[dict[int, Callable[[Any], Any]]] = {}

    def __init_subclass__(
        cls,
        *,
        name: str | None = None,
        formerly: str | tuple[str, ...] = (),
        version: int | None = None,
        extent: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init_subclass__(**kwargs)
        if "_k_shell_of" in cls.__dict__:
            return
        if cls.__dict__.get("__slots__"):
            raise UsageError(f"{cls.__name__} has __slots__", hint="leave them out: objects need a __dict__")
        for reserved in cls.__dict__:
            if reserved.startswith("k_"):
                raise UsageError(f"{cls.__name__}.{reserved}: names that begin with k_ are reserved")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"the name that a class is stored under is a str, not {type(name).__name__}")
        cls._k_class = cls
        cls._k_name = name or cls.__qualname__.replace("<locals>.", "")
        # A dataclass looks at the class for defaults: what stands for attributes in conditions comes after that.
        cls._k_awaits_decorator = any(
            issubclass(above, Persistent) and hasattr(above, "__dataclass_fields__") for above in cls.__mro__[1:]
        )
        cls._k_declare(dict(declared(cls)))
        formerly = (formerly,) if isinstance(formerly, str) else tuple(formerly)
        cls._k_names = (cls._k_name, *formerly)
        cls._k_extent = extent
        cls._k_find_upgrades(version)
        cls._k_find_hooks()
        register(cls, formerly)

    @classmethod
    def _k_declare(cls, own: dict[str, Field]) -> None:
        """Have these attributes, beside those that are inherited."""
        for attribute, of in own.items():
            if attribute.startswith(("k_", "_k")):
                raise UsageError(f"{cls.__name__}.{attribute}: names that begin with k_ are reserved")
            if not cls._k_awaits_decorator:
                setattr(cls, attribute, AttributeColumn(of.was or attribute))
        every: dict[str, Field] = {}
        for base in reversed(cls.__mro__[1:]):
            every |= base.__dict__.get("_k_attributes", {})
        every |= own
        cls._k_attributes = every
        cls._k_initial = tuple((n, f.default, f.default_factory) for n, f in every.items() if f.has_default)
        cached = {n for base in cls.__mro__ for n, of in base.__dict__.items() if isinstance(of, cached_property)}
        cls._k_transient = frozenset(n for n, f in every.items() if f.transient) | cached
        cls._k_weak = frozenset(n for n, f in every.items() if f.weak)
        cls._k_merges = {f.was or n: f.merge for n, f in every.items() if f.merge}
        cls._k_stored = {n: f.was for n, f in every.items() if f.was}
        cls._k_renamed = {f.was: n for n, f in every.items() if f.was}

    @classmethod
    def _k_find_upgrades(cls, version: int | None) -> None:
        own = {fn._k_from_version: fn for fn in cls.__dict__.values() if hasattr(fn, "_k_from_version")}
        cls._k_upgrades = own
        cls._k_version_now = version if version is not None else max(own, default=0) + 1
        if own and cls._k_version_now <= max(own):
            raise UsageError(f"{cls.__name__} has version {version}, and an upgrade from version {max(own)}")
        above = [
            base for base in cls.__mro__ if "_k_version_now" in base.__dict__ and base.__dict__["_k_version_now"] > 1
        ]
        cls._k_versions = tuple(sorted((base._k_name, base._k_version_now) for base in above))  # type: ignore[attr-defined]

    @classmethod
    def _k_above(cls) -> list[type]:
        """The class and the persistent classes above it."""
        return [base for base in cls.__mro__ if "_k_version_now" in base.__dict__]

    @classmethod
    def _k_find_hooks(cls) -> None:
        hooks: dict[str, dict[str, None]] = {}
        for base in reversed(cls.__mro__):
            for name, method in base.__dict__.items():
                for event in getattr(method, "_k_events", ()):
                    hooks.setdefault(event, {})[name] = None
        cls._k_hooks = {event: tuple(names) for event, names in hooks.items()}
        cls._k_watches_loads = "after_load" in hooks or bool(cls._k_versions)
        checks = any(of.check is not None for of in cls._k_attributes.values())
        cls._k_watches_stores = checks or bool(hooks.keys() - {"after_load"})
        if cls._k_watches_stores:
            watch_stores()

    @classmethod
    def _k_make_shell(cls) -> type[Persistent]:
        """The class of the objects of this class that are not read yet."""
        inside = {
            "__slots__": (),
            "__getattribute__": get_attribute,
            "__module__": cls.__module__,
            "__qualname__": cls.__qualname__,
            "__doc__": cls.__doc__,
            "_k_shell_of": cls,
            "_k_initial": None,
        }
        # Made below Persistent and then put below its class, whose __init_subclass__ is about classes of the user's.
        shell = type.__new__(type(cls), cls.__name__, (Persistent,), inside)
        shell.__bases__ = (cls,)
        have_places_of(cls, shell)
        shell._k_shell = cls._k_shell = shell  # type: ignore[attr-defined]
        return shell

    __setattr__ = set_attribute
    __delattr__ = delete_attribute

    k_id = Identity()

    @property
    def k_version(self) -> int | None:
        """The number of the commit that last wrote this object; None before there is one."""
        self._k_load()
        return self._k_version

    @property
    def k_token(self) -> str:
        """A URL-safe text that stands for this version of the object: what `session.apply` takes; fit for an ETag.

        Raises:
            UsageError: the object has changes that are not committed, or belongs to no session.
        """
        space = self._k_space
        if space is None or self._k_state != CLEAN or not self._k_key:
            raise UsageError(f"{self!r} has no version that is stored", hint="commit first")
        edited = Edited(OBJECTS, uuid.UUID(bytes=self._k_key), self.k_version or 0)
        return pack_token(edited, space._session._options.token_key)

    def __repr__(self) -> str:
        shown = f" {uuid.UUID(bytes=self._k_key)}" if self._k_key else ""
        unread = ", not loaded" if self._k_state == CLEAN and not self._k_awake else ""
        return f"<{type(self).__name__}{shown} {STATES[self._k_state]}{unread}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"{self!r} belongs to a database: pass its k_id, and s.get() it on the other side")


Persistent._k_class = Persistent


class Generic(Persistent, name="k.Generic"):
    """An object of a class that no imported module defines. Its attributes can be read and set, and are kept."""


class Missing(Persistent, name="k.Missing"):
    """What a reference to an object that is not there gives where its id does not tell the class."""


def generic_class(name: str) -> type[Persistent]:
    """The class of the objects of an unknown class; it is not registered."""
    made: type[Persistent] = type.__new__(
        type, name, (Persistent,), {"_k_shell_of": Generic, "__doc__": Generic.__doc__}
    )
    made.__bases__ = (Generic,)
    made._k_class, made._k_name = made, name
    return made


def reference_of(value: Any) -> bytes | None:
    """The id of a stored object, for the codec; None if it is no persistent object."""
    if not isinstance(value, Persistent):
        return None
    if not value._k_key:
        raise UsageError(f"{value!r} is not stored, so nothing can refer to it", hint="s.add() it first")
    return value._k_key


stand_for_references(reference_of)
__all__ = ["Generic", "Missing", "Persistent", "UNSET", "generic_class", "reference_of", "Reference"]
