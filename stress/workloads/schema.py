"""Indexes are made and dropped on rows that others change meanwhile; tables come and go with theirs."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pykesto

from .workload import Said, Step


class Schema:
    """An index of `things` that comes and goes, and three tables that are filled and emptied, each in one commit."""

    TABLES, ROWS = 3, 20

    def __init__(self) -> None:
        self.filled_by: dict[int, int | None] = {}

    @staticmethod
    def create(s: pykesto.Session, size: int) -> None:
        """All is made by the steps."""

    @staticmethod
    def choose(chance: random.Random) -> Said:
        return {"what": chance.choice(["index", "drop index", "fill", "empty"]), "number": chance.randrange(3)}

    @staticmethod
    def act(s: pykesto.Session, step: Step, said: Said) -> None:
        things, table = s.table("things"), s.table(f"scratch-{said['number']}")
        if said["what"] == "index":
            things.create_index("tag")
        elif said["what"] == "drop index":
            if "tag" in {index.column for index in things.indexes()}:
                things.drop_index("tag")
        elif said["what"] == "fill":
            table.create_index("n")
            for n in range(Schema.ROWS):
                table[n] = {"n": n, "step": list(step)}
        else:
            said["emptied"] = table.query.delete()

    @staticmethod
    def _rows(s: pykesto.Session, number: int) -> list[tuple[int, list[int], int | None]]:
        return [(row["n"], row["step"], row.k_version) for row in s.table(f"scratch-{number}").range()]

    @staticmethod
    def glance(s: pykesto.Session) -> Iterator[str]:
        for number in range(Schema.TABLES):
            rows = Schema._rows(s, number)
            of_one = {(*step, version) for _, step, version in rows}
            if rows and ([n for n, *_ in rows] != list(range(Schema.ROWS)) or len(of_one) > 1):
                yield f"schema: scratch-{number} was filled in part: {rows}"
            found = s.table(f"scratch-{number}").query.col("n").ge(0).count()
            if found != len(rows):
                yield f"schema: a query finds {found} rows in scratch-{number}, a scan {len(rows)}"

    def load(self, s: pykesto.Session) -> None:
        for number in range(self.TABLES):
            self.filled_by[number] = next((version for *_, version in self._rows(s, number)), None)

    def play(self, step: Step, said: Said, version: int) -> Iterator[str]:
        if said["what"] == "fill":
            self.filled_by[said["number"]] = version
        elif said["what"] == "empty" and said["emptied"]:
            self.filled_by[said["number"]] = None
        yield from ()

    def compare(self, s: pykesto.Session) -> Iterator[str]:
        for number, expected in self.filled_by.items():
            found = next((version for *_, version in self._rows(s, number)), None)
            if found != expected:
                yield f"schema: scratch-{number} is of commit {found}, its log says {expected}"
