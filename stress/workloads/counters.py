"""Counters that everybody adds to, one of them hot; and a total that must be their sum."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pykesto

from .workload import Model, Said, Step


class Counters(Model):
    """Each commit adds to one counter and to the total of its group."""

    COUNTERS, GROUPS = 40, 4

    def __init__(self) -> None:
        super().__init__("counters")

    @staticmethod
    def create(s: pykesto.Session, size: int) -> None:
        for group in range(Counters.GROUPS):
            s.table("counters")[group, "total"] = {"n": 0}

    @staticmethod
    def choose(chance: random.Random) -> Said:
        number = 0 if chance.random() < 0.3 else chance.randrange(Counters.COUNTERS)
        return {"counter": number, "by": chance.randint(1, 9)}

    @staticmethod
    def act(s: pykesto.Session, step: Step, said: Said) -> None:
        counters, group = s.table("counters"), said["counter"] % Counters.GROUPS
        for key in ((group, said["counter"]), (group, "total")):
            if key in counters:
                counters[key]["n"] += said["by"]
            else:
                counters[key] = {"n": said["by"]}

    @staticmethod
    def glance(s: pykesto.Session) -> Iterator[str]:
        sums = dict.fromkeys(range(Counters.GROUPS), 0)
        totals = dict(sums)
        for (group, which), row in s.table("counters").items():
            (totals if which == "total" else sums)[group] += row["n"]
        if sums != totals:
            yield f"counters: the groups add up to {sums}, their totals are {totals}"

    def play(self, step: Step, said: Said, version: int) -> Iterator[str]:
        group = said["counter"] % Counters.GROUPS
        for key in ((group, said["counter"]), (group, "total")):
            self.put(key, version, n=self.rows.get(key, ({"n": 0}, 0))[0]["n"] + said["by"])
        yield from ()
