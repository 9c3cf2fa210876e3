"""What a class says of its attributes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_origin

from ..errors import UsageError
from ..merging import POLICIES
from ..rows import MergePolicy
from . import _objects

UNSET: Any = _objects.UNSET
Index = bool | Literal["each", "text", "references"]
OnDelete = Literal["restrict", "nullify", "cascade"]


@dataclass(frozen=True, slots=True)
class Field:
    """What `field()` says of an attribute."""

    index: Index = False
    unique: bool = False
    default: Any = UNSET
    default_factory: Callable[[], Any] | None = None
    transient: bool = False
    on_delete: OnDelete | None = None
    was: str = ""
    check: Callable[[Any], Any] | None = None
    weak: bool = False
    merge: MergePolicy | None = None

    @property
    def has_default(self) -> bool:
        return self.default is not UNSET or self.default_factory is not None


def field(
    *,
    index: Index = False,
    unique: bool = False,
    default: Any = UNSET,
    default_factory: Callable[[], Any] | None = None,
    transient: bool = False,
    on_delete: OnDelete | None = None,
    was: str = "",
    check: Callable[[Any], Any] | None = None,
    weak: bool = False,
    merge: MergePolicy | None = None,
) -> Any:
    """An attribute with an index, a unique value, or a default made anew for each object.

    Args:
        index: keep an index, so that queries on the attribute need no scan. True: of its values, for comparisons and
            orders. "each": of the elements of a list, tuple or set, for `contains`; "text": of words, for `has_words`;
            "references": of the objects that it refers to, for `any` and `session.referrers`.
        unique: no two objects of this class and those below it may have an equal value; None never collides. Implies
            an index.
        default: the value of objects that were given none; not a list, dict or set.
        default_factory: called without arguments for each such object instead.
        transient: never stored; loaded objects have the default.
        on_delete: what deleting the object that this attribute refers to does, whether alone or in a list, tuple or
            set: "restrict" refuses the deletion, "nullify" sets None or removes the item, "cascade" deletes the
            object that refers, too. Implies indexes of values and of references. None: the reference dangles; touching
            it is a KeyError.
        was: the name that the attribute had when it was first stored; it goes on being stored under that.
        weak: the attribute refers to an object, or has a list or set of them, without storing them with it; what was
            deleted is None when the object is loaded, or not in the container. Queries see a weak reference as a UUID.
        check: called with each value before it is stored; what it raises, or an answer of False, refuses the commit.
        merge: commits that change only such attributes of one object at the same time go together, in place of a
            conflict. "counter": add what was added to a number. "max", "min": keep the greater, or lesser, of values
            that only rise, or fall. "set_add": keep what was added to a set. "last": the later commit wins.

    Example:
        >>> import pykesto
        >>> class City(pykesto.Persistent):
        ...     name: str = pykesto.field(index=True, default="")
        ...     streets: list[str] = pykesto.field(default_factory=list)
        >>> City(name="Bonn").streets
        []
    """
    if default is not UNSET and default_factory is not None:
        raise UsageError("field() takes default or default_factory, not both")
    if on_delete not in (None, "restrict", "nullify", "cascade"):
        raise UsageError(f"on_delete is {on_delete!r}; it must be one of 'restrict', 'nullify', 'cascade'")
    if merge is not None and merge not in POLICIES:
        raise UsageError(f"merge is {merge!r}; it must be one of {', '.join(map(repr, POLICIES))}")
    if index not in (True, False, "each", "text", "references"):
        raise UsageError(f"index is {index!r}; it must be True, False, 'each', 'text' or 'references'")
    if isinstance(index, str) and (unique or on_delete is not None):
        raise UsageError(f"an index of {index} goes neither with unique nor with on_delete, which has its own")
    for what, function in ("default_factory", default_factory), ("check", check):
        if function is not None and not callable(function):
            raise TypeError(f"{what} is a function, not {type(function).__name__}")
    if not isinstance(was, str):
        raise TypeError(f"was is the former name, a str, not {type(was).__name__}")
    refuse_mutable(default)
    return Field(
        index or unique or on_delete is not None,
        unique,
        default,
        default_factory,
        transient,
        on_delete,
        was,
        check,
        weak,
        merge,
    )


def refuse_mutable(default: Any) -> None:
    if isinstance(default, (list, dict, set, bytearray)):
        raise UsageError(
            f"a default of {default!r} would be shared by all objects", hint="use field(default_factory=...)"
        )


def declared(cls: type) -> Iterator[tuple[str, Field]]:
    """What the class itself declares, by annotation or field(); ClassVars, methods and such are plain."""
    annotations = inspect.get_annotations(cls)
    for name, annotation in annotations.items():
        if name.startswith("_") or _is_class_variable(annotation):
            continue
        value = cls.__dict__.get(name, UNSET)
        refuse_mutable(value)
        yield name, value if isinstance(value, Field) else Field(default=value)
    for name, value in list(cls.__dict__.items()):
        if isinstance(value, Field) and name not in annotations:
            yield name, value


def _is_class_variable(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return re.match(r"(\w+\.)*ClassVar\b", annotation) is not None
    return annotation is ClassVar or get_origin(annotation) is ClassVar
