"""Classes that know nothing of databases, made persistent: plain ones, dataclasses, attrs classes."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from ..errors import UsageError
from ._objects import DICT, is_own, set_attribute, tracked
from .fields import UNSET, Field
from .persistent import Persistent

C = TypeVar("C", bound=type)


@overload
def persistent(cls: C, /) -> C: ...
@overload
def persistent(
    cls: None = None, /, *, name: str | None = None, formerly: tuple[str, ...] = (), version: int | None = None
) -> Callable[[C], C]: ...
def persistent(cls: Any = None, /, **told: Any) -> Any:
    """Make a class persistent whose base is not `Persistent`: a plain class, a dataclass, an attrs class.

    Gives a class below it, in its place. Its own constructor is kept, and so are frozen fields and attrs' validators.
    Its objects compare and hash by identity. `dataclasses.field(metadata={"pykesto": pykesto.field(index=True)})` says
    more of a field. What `Persistent` takes as arguments of the class statement it takes, too. A class below one that
    was a dataclass has the same decorators.

    Example:
        >>> import dataclasses, pykesto
        >>> @pykesto.persistent
        ... @dataclasses.dataclass
        ... class Song:
        ...     title: str
        ...     plays: int = 0
        >>> with pykesto.temporary() as db, db.transaction() as s:
        ...     _ = s.add(Song("Help!", plays=3))
        ...     s.query(Song).where(Song.plays > 1).one().title
        'Help!'
    """
    if cls is None:
        return lambda cls: persistent(cls, **told)
    if not isinstance(cls, type):
        raise TypeError(f"{cls!r} is no class")
    if issubclass(cls, Persistent):
        if told:
            raise UsageError(f"{cls.__name__} is Persistent already", hint="say it in the class statement")
        return _below(cls)
    fields = dict(_fields(cls))
    base = _without_slots(cls)
    inside: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__eq__": object.__eq__,
        "__hash__": object.__hash__,
        "__dict__": DICT,
        **fields,
    }
    if any("__setattr__" in above.__dict__ for above in base.__mro__[:-1]):
        inside["__setattr__"] = _setting_as(base)
    told.setdefault("name", cls.__qualname__.replace("<locals>.", ""))
    return types.new_class(cls.__name__, (base, Persistent), told, lambda ns: ns.update(inside))


def _below(cls: Any) -> Any:
    """A class below a persistent one, with what its own decorators declared."""
    if cls._k_awaits_decorator:
        own: dict[str, Any] = {"__eq__": object.__eq__, "__hash__": object.__hash__}
        if "__setattr__" in cls.__dict__:
            own["__setattr__"] = _setting_as(cls)
        for name, value in own.items():
            setattr(cls, name, value)
        cls._k_awaits_decorator = False
        cls._k_declare(dict(_fields(cls)))
    return cls


def _fields(cls: type) -> Iterator[tuple[str, Field]]:
    """What a class declares, as `field()` would have it."""
    if dataclasses.is_dataclass(cls):
        for one in dataclasses.fields(cls):
            factory = None if one.default_factory is dataclasses.MISSING else one.default_factory
            default = UNSET if one.default is dataclasses.MISSING else one.default
            yield one.name, _field(one.metadata, default, factory)
    elif hasattr(cls, "__attrs_attrs__"):
        for one in cls.__attrs_attrs__:
            factory = getattr(one.default, "factory", None)
            none = factory is not None or repr(one.default) == "NOTHING"
            yield one.name, _field(one.metadata, UNSET if none else one.default, factory)
    else:
        for above in reversed(cls.__mro__):
            for name in inspect.get_annotations(above):
                value = getattr(cls, name, UNSET)
                if not name.startswith("_") and not callable(value):
                    yield name, value if isinstance(value, Field) else Field(default=value)


def _field(metadata: Any, default: Any, factory: Callable[[], Any] | None) -> Field:
    said = metadata.get("pykesto")
    of = said if isinstance(said, Field) else Field()
    return dataclasses.replace(of, default=default, default_factory=factory)


def _without_slots(cls: type) -> type:
    """The class, or one like it without slots: what is stored has its attributes in a `__dict__`."""
    slots = cls.__dict__.get("__slots__")
    if any(above.__dict__.get("__slots__") for above in cls.__mro__[1:]):
        raise UsageError(f"{cls.__name__} has a base with __slots__", hint="leave them out: objects need a __dict__")
    if slots is None:
        return cls
    slots = {slots} if isinstance(slots, str) else set(slots)
    leave = slots | {"__slots__", "__dict__", "__weakref__", "__getstate__", "__setstate__"}
    made = type(cls)(cls.__name__, cls.__bases__, {k: v for k, v in cls.__dict__.items() if k not in leave})
    for method in made.__dict__.values():
        for cell in getattr(inspect.unwrap(method) if callable(method) else method, "__closure__", None) or ():
            if _content(cell) is cls:
                cell.cell_contents = made  # what super() without arguments looks at
    return made


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _setting_as(base: type) -> Callable[[Any, str, Any], None]:
    """`__setattr__` that tells the session, and then does what the class's own does."""

    def set_as_declared(self: Any, name: str, value: Any) -> None:
        if name.startswith(("_k", "k_")) or is_own(name):
            set_attribute(self, name, value)
            return
        self._k_touch()
        plain(self, name, value if self._k_space is None else tracked(value, self))

    plain: Any = base.__setattr__
    return set_as_declared
