"""Rows with indexes that come and go: a query must answer what a scan answers, whatever indexes there are."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pykesto

from .workload import Model, Said, Step

WORDS = ["", "a", "ab", "b", "ümlaut", "z" * 300]


class Things(Model):
    """Rows come, change and go; `colour`, `size` and `word` always have an index, `tag` now and then."""

    ROWS, COLOURS = 200, 5

    def __init__(self) -> None:
        super().__init__("things")

    @staticmethod
    def create(s: pykesto.Session, size: int) -> None:
        things = s.table("things")
        for column in ("colour", "size", "word"):
            things.create_index(column)
        chance = random.Random(size)
        for number in range(Things.ROWS * size):
            things[number] = Things.columns(chance)

    @staticmethod
    def columns(chance: random.Random) -> dict[str, Any]:
        size: Any = chance.choice([None, chance.randrange(50), chance.random() * 50, "large"])
        columns = {"colour": chance.randrange(Things.COLOURS), "size": size, "tag": chance.randrange(8)}
        return columns | ({"word": chance.choice(WORDS)} if chance.random() < 0.8 else {})

    @staticmethod
    def choose(chance: random.Random) -> Said:
        key = chance.randrange(Things.ROWS)
        return {"key": key, "columns": None if chance.random() < 0.2 else Things.columns(chance)}

    @staticmethod
    def act(s: pykesto.Session, step: Step, said: Said) -> None:
        things, key = s.table("things"), said["key"]
        if said["columns"] is not None:
            things[key] = said["columns"]
        elif key in things:
            del things[key]

    @staticmethod
    def glance(s: pykesto.Session) -> Iterator[str]:
        rows = {row.k_key: row.to_dict() for row in s.table("things").range()}
        colour, tag = random.randrange(Things.COLOURS), random.randrange(8)
        low = random.randrange(40)
        word = random.choice(WORDS)
        asked: dict[str, tuple[Any, Any]] = {
            f"colour == {colour}": (
                s.table("things").query.col("colour").equals(colour),
                lambda row: row["colour"] == colour,
            ),
            f"{low} <= size < {low + 10}": (
                s.table("things").query.col("size").ge(low).col("size").lt(low + 10),
                lambda row: isinstance(row["size"], int | float) and low <= row["size"] < low + 10,
            ),
            f"word starts with {word!r}": (
                s.table("things").query.col("word").startswith(word),
                lambda row: "word" in row and row["word"].startswith(word),
            ),
            f"tag == {tag}": (s.table("things").query.col("tag").equals(tag), lambda row: row["tag"] == tag),
        }
        for what, (query, matches) in asked.items():
            found, expected = set(query.keys()), {key for key, row in rows.items() if matches(row)}
            if found != expected:
                yield f"things: where {what} the query has {found - expected} too many, lacks {expected - found}"

    def play(self, step: Step, said: Said, version: int) -> Iterator[str]:
        if said["columns"] is not None:
            self.put(said["key"], version, **said["columns"])
        else:
            self.rows.pop(said["key"], None)
        yield from ()

    def compare(self, s: pykesto.Session) -> Iterator[str]:
        yield from super().compare(s)
        for colour in range(Things.COLOURS):
            found = set(s.table("things").query.col("colour").equals(colour).keys())
            expected = {key for key, (row, _) in self.rows.items() if row["colour"] == colour}
            if found != expected:
                yield f"things: where colour == {colour} there are {found}, the log says {expected}"
