"""The terms under which an index lists a row: what the engine writes, and what queries look up.

- A plain column: the encoded value as it is stored, so that the library's own index of the column serves.
- A path into nested values: the encoded value found there; one of a container is `UNORDERED`.
- Several columns: for each the core of its value and a NUL; MISSING where there is none, UNORDERED for a container.
  A row that has none of the columns has no term.
- Each element of a list, tuple, set or frozenset, each key of a dict: its core. What else `contains` may find
  something in, such as a str, is UNORDERED: look into the row.
- Words of a text: the core of each, as `words` gives it.
- References in a value, at any depth: the core of each.

No scalar's core holds a NUL, so terms are in the order of values, column by column. What is of a registered type is
taken as it is stored, so that a row has the same terms in every process, whatever is registered there.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ..errors import CodecError
from ._codec import Reference, Unknown, decode_stored, encode, encode_key, find_column, is_scalar_encoding, range_of

UNORDERED = b"\xff"
MISSING = b"\x02"
PRESENT = b"\x03"  # what is listed under a value is not less
EVERY = (b"\x01", b"\xff\xff")  # the range of all terms

_WORD = re.compile(r"\w+")
_NO_SCALARS = (list, dict, set, frozenset)
_TEXTS = (list, tuple, set, frozenset)


class Indexed(Protocol):
    """What is indexed, and how."""

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def kind(self) -> str: ...

    @property
    def where(self) -> str: ...


def value_at(image: bytes, path: str) -> bytes | None:
    """The encoded value of a column, or of a path with dots into nested dicts; None where it is missing."""
    name, _, rest = path.partition(".")
    found = find_column(image, name.encode())
    if not rest or found is None:
        return found
    value = decode_stored(found)
    for step in rest.split("."):
        if not isinstance(value, dict) or step not in value:
            return None
        value = value[step]
    return encode(value)


def terms(image: bytes, index: Indexed) -> tuple[bytes, ...]:
    """The terms of a packed row in an index, each once. A row that can't be read, which ends a scan, has none."""
    try:
        return _terms(image, index)
    except CodecError:
        return ()


def _terms(image: bytes, index: Indexed) -> tuple[bytes, ...]:
    if index.where and value_at(image, index.where) is None:
        return ()
    if index.kind == "value":
        return _joined(image, index.columns) if len(index.columns) > 1 else _plain(image, index.columns[0])
    encoded = value_at(image, index.columns[0])
    if encoded is None:
        return ()
    value = decode_stored(encoded)
    return tuple(dict.fromkeys(_PARTS[index.kind](value)))


def _plain(image: bytes, path: str) -> tuple[bytes, ...]:
    encoded = value_at(image, path)
    if encoded is None:
        return ()
    return (encoded if "." not in path or is_scalar_encoding(encoded) else UNORDERED,)


def _joined(image: bytes, columns: tuple[str, ...]) -> tuple[bytes, ...]:
    values = [value_at(image, column) for column in columns]
    return () if all(value is None for value in values) else (b"".join(map(component, values)),)


def component(encoded: bytes | None) -> bytes:
    """One column's part of a term of several."""
    if encoded is None:
        return MISSING + b"\0"
    return (_core(decode_stored(encoded)) if is_scalar_encoding(encoded) else UNORDERED) + b"\0"


def _core(value: Any) -> bytes:
    """What equal values have in common, in order. NaNs equal nothing: they have one of their own, after all numbers."""
    return range_of(value)[0]


def _elements(value: Any) -> Iterator[bytes]:
    if not isinstance(value, (list, tuple, set, frozenset, dict)):
        yield UNORDERED
        return
    for item in value:
        encoded = encode(item)
        if is_scalar_encoding(encoded):
            yield _core(item)
        elif not isinstance(item, _NO_SCALARS):  # complex(1) equals 1, bytearray(b"a") equals b"a"
            yield UNORDERED


def texts(value: Any) -> list[str]:
    """A text, or the texts in a list, tuple or set. `value` is as `decode_stored` gives it."""
    if isinstance(value, Unknown) and value.equal:
        value = value.value
    if isinstance(value, str):
        return [value]
    if isinstance(value, _TEXTS):
        return [text for item in value if not isinstance(item, _TEXTS) for text in texts(item)]
    return []


def words(value: Any) -> list[str]:
    """The words of a text, or of the texts in a list, tuple or set, as they are compared: without regard to case."""
    return [word for text in texts(value) for word in _WORD.findall(unicodedata.normalize("NFKC", text).casefold())]


def _words(value: Any) -> Iterator[bytes]:
    return map(encode_key, words(value))


def _references(value: Any) -> Iterator[bytes]:
    if type(value) is Reference:
        yield encode_key(value)
    elif isinstance(value, dict):
        for pair in value.items():
            yield from _references(pair)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _references(item)
    elif isinstance(value, Unknown):
        yield from _references(value.value)


_PARTS: dict[str, Callable[[Any], Iterator[bytes]]] = {"each": _elements, "text": _words, "references": _references}
