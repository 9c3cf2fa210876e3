"""Processes race for names: a unique index must refuse all but one."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pykesto

from .workload import Model, Said, Step


class Unique(Model):
    """Workers race for names. A row has its name until somebody releases it; no two rows have the same."""

    NAMES = [f"name-{n}" for n in range(24)]

    def __init__(self) -> None:
        super().__init__("names")
        self.holders: dict[str, Step] = {}

    @staticmethod
    def create(s: pykesto.Session, size: int) -> None:
        s.table("names").create_index("name", unique=True)

    @staticmethod
    def choose(chance: random.Random) -> Said:
        return {"name": chance.choice(Unique.NAMES), "claim": chance.random() < 0.6, "delete": chance.random() < 0.9}

    @staticmethod
    def act(s: pykesto.Session, step: Step, said: Said) -> None:
        """A claim doesn't look whether the name is free: to refuse it is the index's part."""
        names = s.table("names")
        if said["claim"]:
            names[step] = {"name": said["name"]}
            return
        row = names.query.col("name").equals(said["name"]).one_or_none()
        said["released"] = None if row is None else row.k_key
        if row is not None and said["delete"]:
            del names[row.k_key]
        elif row is not None:
            row["name"] = None  # None never collides

    @staticmethod
    def glance(s: pykesto.Session) -> Iterator[str]:
        held = [row["name"] for row in s.table("names").range() if row["name"] is not None]
        for name in sorted({name for name in held if held.count(name) > 1}):
            yield f"unique: {held.count(name)} rows are named {name}"
        query = s.table("names").query.col("name")
        for name in Unique.NAMES:
            if (found := query.equals(name).count()) != held.count(name):
                yield f"unique: the index finds {found} rows named {name}, a scan {held.count(name)}"

    def load(self, s: pykesto.Session) -> None:
        super().load(s)
        self.holders = {row["name"]: key for key, (row, _) in self.rows.items() if row["name"] is not None}

    def play(self, step: Step, said: Said, version: int) -> Iterator[str]:
        name = said["name"]
        if said["claim"]:
            if name in self.holders:
                yield f"unique: commit {version} took {name}, which row {self.holders[name]} had"
            self.put(step, version, name=name)
            self.holders[name] = step
            return
        if said["released"] is None and not said["serializable"]:
            return  # snapshot isolation: others may have claimed it since the snapshot that had nobody of that name
        released, holder = said["released"], self.holders.pop(name, None)
        if released != holder:
            yield f"unique: commit {version} found {name} in row {released}, and row {holder} had it"
        if released is not None and said["delete"]:
            self.rows.pop(released, None)
        elif released is not None:
            self.put(released, version, name=None)
