"""Full text: the rows that have some words, the best first, each with the place where they stand.

A word counts for more the more often a text has it, the shorter the text is, and the fewer rows have the word (BM25,
with the mean length of the texts found). All of that is asked of the session's snapshot and its own changes, so it is
the same with an index and without.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..codec.terms import texts, words

T = TypeVar("T")

_SATURATION = 1.2  # how soon one more of a word tells nothing new
_LENGTH_WEIGHT = 0.75
_TOKEN = re.compile(r"[\w\u0300-\u036f]+")  # a word where it stands, with accents of their own


@dataclass(frozen=True, slots=True)
class Hit(Generic[T]):
    """A row or object that was found: how well it fits, and a part of its text with the words marked."""

    item: T
    score: float
    snippet: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """The words of a search; of `beginnings` any word that begins so."""

    words: tuple[str, ...]
    beginnings: tuple[str, ...]

    def named(self, word: str) -> list[str]:
        """What a word of a text is counted as."""
        found = [word] if word in self.words else []
        return found + [f"{one}*" for one in self.beginnings if word.startswith(one)]

    def counted(self, value: Any) -> tuple[Counter[str], int]:
        """How often a text has each, and how many words it has."""
        every = words(value)
        return Counter(name for word in every for name in self.named(word)), len(every)


def scores(values: Sequence[Any], wanted: Wanted, rows_with: dict[str, int]) -> list[float]:
    """How well each value's text fits. `rows_with`: how many rows have each word; "boat*": one that begins so."""
    counted = [wanted.counted(text) for text in values]
    mean = sum(length for _, length in counted) / max(len(counted), 1) or 1.0
    most = max(1, *rows_with.values())
    weights = {name: 1 + math.log(most / max(count, 1)) for name, count in rows_with.items()}
    return [
        sum(weights[name] * _saturated(count, length / mean) for name, count in found.items())
        for found, length in counted
    ]


def _saturated(count: int, length: float) -> float:
    return count * (_SATURATION + 1) / (count + _SATURATION * (1 - _LENGTH_WEIGHT + _LENGTH_WEIGHT * length))


def snippet(value: Any, wanted: Wanted, width: int, mark: tuple[str, str]) -> str:
    """The part of a text of about `width` characters that has most of the words, with each between the marks."""
    text = max(texts(value), key=lambda one: len(wanted.counted(one)[0]), default="")
    places = [(m.start(), m.end(), names) for m in _TOKEN.finditer(text) if (names := _names(m.group(), wanted))]
    begin, end = _window(text, places, width)
    parts, at = ["… " if begin else ""], begin
    for first, last, _ in places:
        if begin <= first and last <= end:
            parts += [text[at:first], mark[0], text[first:last], mark[1]]
            at = last
    return "".join([*parts, text[at:end], " …" if end < len(text) else ""])


def _names(token: str, wanted: Wanted) -> set[str]:
    return {name for word in words(token) for name in wanted.named(word)}


_Place = tuple[int, int, set[str]]  # begin and end of a word, and what it counts as


def _window(text: str, places: list[_Place], width: int) -> tuple[int, int]:
    """Where to cut a text: around most of the words, and between words."""
    size = len(text)
    if size <= width:
        return 0, size
    near = max((_near(places, number, width) for number in range(len(places))), key=_worth, default=[])
    first, last = (near[0][0], max(end for _, end, _ in near)) if near else (0, 0)
    begin = max(0, min(first - (width - (last - first)) // 2, size - width))
    while begin and begin < first and not text[begin - 1].isspace():
        begin += 1
    end = min(begin + width, size)
    while end < size and end > last and not text[end].isspace():
        end -= 1
    return begin, max(end, min(size, last))


def _near(places: list[_Place], number: int, width: int) -> list[_Place]:
    return [place for place in places[number : number + width] if place[1] <= places[number][0] + width]


def _worth(near: list[_Place]) -> tuple[int, int]:
    """Different words first."""
    return len({name for _, _, names in near for name in names}), len(near)
