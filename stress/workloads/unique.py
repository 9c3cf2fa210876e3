"""Processes race for names: a unique index must refuse all but one."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pykesto

from .workload import Said, Step


class Unique:
    """Workers race for names. A row has its name until somebody releases it; no two rows have the same."""

    NAMES = [f"name-{n}" for n in range(24)]

    def __init__(self) -> None:
        self.rows: dict[Step, str | None] = {}
        self.holders: dict[str, Step] = {}
        self.versions: dict[Step, int] = {}

    @staticmethod
    def create(s: pykesto.Session) -> None:
        s.table("names").create_index("name", unique=True)

    @staticmethod
    def choose(chance: random.Random) -> Said:
        return {"name": chance.choice(Unique.NAMES), "claim": chance.random() < 0.6}

    @staticmethod
    def act(s: pykesto.Session, step: Step, said: Said) -> None:
        """A claim doesn't look whether the name is free: to refuse it is the index's part."""
        if said["claim"]:
            s.table("names")[step] = {"name": said["name"]}
            return
        row = s.table("names").query.col("name").equals(said["name"]).one_or_none()
        said["released"] = None if row is None else row.k_key
        if row is not None:
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

    def play(self, step: Step, said: Said, version: int) -> Iterator[str]:
        name = said["name"]
        if said["claim"]:
            if name in self.holders:
                yield f"unique: commit {version} took {name}, which row {self.holders[name]} had"
            self.rows[step], self.holders[name], self.versions[step] = name, step, version
            return
        if said["released"] is None and not said["serializable"]:
            return  # snapshot isolation: others may have claimed it since the snapshot that had nobody of that name
        released, holder = said["released"], self.holders.pop(name, None)
        if released != holder:
            yield f"unique: commit {version} found {name} in row {released}, and row {holder} had it"
        if released is not None:
            self.rows[released], self.versions[released] = None, version

    def compare(self, s: pykesto.Session) -> Iterator[str]:
        found = {row.k_key: row for row in s.table("names").range()}
        for step in sorted(found.keys() ^ self.rows.keys()):
            yield f"unique: row {step} is {'not in the log' if step in found else 'gone'}"
        for step in sorted(found.keys() & self.rows.keys()):
            name, version = found[step]["name"], found[step].k_version
            if (name, version) != (self.rows[step], self.versions[step]):
                expected = f"{self.rows[step]} of commit {self.versions[step]}"
                yield f"unique: row {step} has {name} of commit {version}, its log says {expected}"
