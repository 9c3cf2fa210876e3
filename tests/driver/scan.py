"""What each condition and order of a query means, in Python: the answer that a scan of a dict of rows gives."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from decimal import Decimal

Row = dict[bytes, bytes]
Test = Callable[[bytes], bool]


def cut(value: bytes) -> bytes:
    """The library compares most values as C strings."""
    return value.split(b"\0")[0]


def number(value: bytes) -> Decimal:
    """The number that the library reads: 0 for what is none."""
    found = re.match(rb"[\x01-\x20]*([+-]?)(inf)?([0-9]*)(\.[0-9]*)?", cut(value), re.I)
    assert found
    sign, infinite, whole, fraction = found.groups()
    size = Decimal("Infinity") if infinite else Decimal(f"{(whole or b'0').decode()}{(fraction or b'.').decode()}0")
    return -size if sign == b"-" else size


def tokens(value: bytes) -> set[bytes]:
    return {word for word in re.split(rb"[\x01-\x20,]+", cut(value)) if word}


def text(value: bytes) -> str:
    """As full-text search compares, for the letters that the tests use."""
    plain = unicodedata.normalize("NFD", cut(value).decode(errors="ignore").lower())
    return re.sub(r"\s+", " ", "".join(c for c in plain if not unicodedata.combining(c)))


def expression(value: bytes, operand: str) -> bool:
    """Full-text expressions: || binds closest, the rest is and, !! turns one round."""
    units: list[tuple[bool, list[str]]] = []
    operator = "&&"
    for part in re.findall(r'"[^"]*"|[^ "]+', text(operand.encode())):
        if part in ("&&", "||", "!!"):
            operator = part
            continue
        word = part.strip('"')
        if operator == "||":
            units[-1][1].append(word)
        else:
            units.append((operator == "&&", [word]))
        operator = "&&"
    return all(any(word in text(value) for word in words) == sign for sign, words in units)


CONDITIONS: dict[str, Callable[..., Test]] = {
    "equals": lambda operand: lambda value: value == operand,
    "includes": lambda operand: lambda value: operand in cut(value),
    "startswith": lambda operand: lambda value: cut(value).startswith(operand),
    "endswith": lambda operand: lambda value: cut(value).endswith(operand),
    "one_of": lambda operands: lambda value: value in operands,
    "all_words": lambda words: lambda value: set(words) <= tokens(value),
    "any_word": lambda words: lambda value: bool(set(words) & tokens(value)),
    "matches": lambda pattern: lambda value: bool(re.search(pattern, cut(value))),
    "num_equals": lambda operand: lambda value: number(value) == operand,
    "num_gt": lambda operand: lambda value: number(value) > operand,
    "num_ge": lambda operand: lambda value: number(value) >= operand,
    "num_lt": lambda operand: lambda value: number(value) < operand,
    "num_le": lambda operand: lambda value: number(value) <= operand,
    "num_between": lambda a, b: lambda value: min(a, b) <= number(value) <= max(a, b),
    "num_one_of": lambda operands: lambda value: number(value) in operands,
    "fts_phrase": lambda operand: lambda value: text(operand.encode()) in text(value),
    "fts_all": lambda words: lambda value: all(text(word.encode()) in text(value) for word in words),
    "fts_any": lambda words: lambda value: any(text(word.encode()) in text(value) for word in words),
    "fts": lambda operand: lambda value: expression(value, operand),
}


def matching(rows: dict[bytes, Row], name: bytes, test: Test, negate: bool) -> set[bytes]:
    """The keys of the rows that meet a condition; turned round, rows that lack the column do too."""
    values = {key: key if not name else row.get(name) for key, row in rows.items()}
    return {key for key, value in values.items() if (value is not None and test(value)) != negate}


def places(rows: dict[bytes, Row], keys: Iterable[bytes], name: bytes, numeric: bool, descending: bool) -> list[object]:
    """What keys are sorted by: None where the row lacks the column, which comes last."""
    read = number if numeric else bytes
    values = [key if not name else rows[key].get(name) for key in keys]
    having = sorted((read(value) for value in values if value is not None), reverse=descending)
    return [*having, *[None for value in values if value is None]]
