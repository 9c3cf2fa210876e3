"""Counters of one hot row, in columns that merge: commits of all processes go together without conflicts."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pykesto

from .workload import Model, Said, Step


class Merged(Model):
    """Each commit adds to counters, raises a maximum, and puts its worker into a set, in one of two rows."""

    ROWS = 2

    def __init__(self) -> None:
        super().__init__("merged")

    @staticmethod
    def create(s: pykesto.Session, size: int) -> None:
        merged = s.table("merged")
        for column, policy in (("n", "counter"), ("sum", "counter"), ("most", "max"), ("workers", "set_add")):
            merged.merge(column, policy)  # type: ignore[arg-type]
        for row in range(Merged.ROWS):
            merged[row] = {"n": 0, "sum": 0, "most": 0, "workers": set()}

    @staticmethod
    def choose(chance: random.Random) -> Said:
        return {"row": chance.randrange(Merged.ROWS), "by": chance.randint(-9, 9), "most": chance.randrange(10**6)}

    @staticmethod
    def act(s: pykesto.Session, step: Step, said: Said) -> None:
        row = s.table("merged")[said["row"]]
        row["n"] += 1
        row["sum"] += said["by"]
        row["most"] = max(row["most"], said["most"])
        row["workers"].add(step[0] % 100)

    @staticmethod
    def glance(s: pykesto.Session) -> Iterator[str]:
        rows = [row.to_dict() for row in s.table("merged").range()]
        if len(rows) != Merged.ROWS or any(abs(row["sum"]) > 9 * row["n"] for row in rows):
            yield f"merged: {rows}"

    def play(self, step: Step, said: Said, version: int) -> Iterator[str]:
        row = self.rows[said["row"]][0]
        most, workers = max(row["most"], said["most"]), row["workers"] | {step[0] % 100}
        self.put(said["row"], version, n=row["n"] + 1, sum=row["sum"] + said["by"], most=most, workers=workers)
        yield from ()
