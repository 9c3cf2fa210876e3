"""Sets of values, as ranges of what they are encoded as: what a branch of a predicate leaves possible."""

from __future__ import annotations

from functools import reduce
from typing import Any

from ..codec import encode, range_of

Ranges = tuple[tuple[bytes, bytes], ...]

END = b"\xff"  # beyond every value
PRESENT: Ranges = ((b"", END),)


def only(value: Any) -> Ranges:
    """Just this value, of just this type."""
    encoded = encode(value)
    return ((encoded, encoded + b"\0"),)


def without(ranges: Ranges, taken: Ranges) -> Ranges:
    """What is in some ranges and not in others."""
    for lo, hi in taken:
        pieces = [piece for a, b in ranges for piece in ((a, min(b, lo)), (max(a, hi), b)) if piece[0] < piece[1]]
        ranges = tuple(sorted(set(pieces)))
    return ranges


def both(one: Ranges, other: Ranges) -> Ranges:
    found = [(max(a, c), min(b, d)) for a, b in one for c, d in other]
    return tuple(sorted((lo, hi) for lo, hi in found if lo < hi))


def either(one: Ranges, other: Ranges) -> Ranges:
    merged: list[tuple[bytes, bytes]] = []
    for lo, hi in sorted(one + other):
        if merged and lo <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(hi, merged[-1][1]))
        else:
            merged.append((lo, hi))
    return tuple(merged)


NONE, TRUE, FALSE = only(None), only(True), only(False)
OTHER = reduce(without, (NONE, TRUE, FALSE), PRESENT)
REFERENCES: Ranges = ((b"\xc9", b"\xca"),)
CONTAINERS: Ranges = ((b"\xc9", END),)  # references too: they may be to containers
FALSY: Ranges = reduce(either, ((range_of(zero),) for zero in (0, "", b"")), (*CONTAINERS, (b"\xc7", b"\xc8")))


def within_all(narrow: Ranges, wide: Ranges) -> bool:
    return bool(narrow) and not without(narrow, wide)
