"""What the demo's processes do: import packages, link them, and run transactions until they are killed."""

from __future__ import annotations

import os
import random
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pykesto

from .index import dependencies, fields
from .model import Package, Section
from .progress import Tally

BATCH = 250


class Acknowledged:
    """A file that a process writes to after each commit that returned: what must never be lost."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, *words: object) -> None:
        os.write(self.fd, (" ".join(map(str, words)) + "\n").encode())


def import_packages(path: Path, records: list[str], ids: Path, tally: Tally) -> None:
    """Store the records as packages, a batch in each transaction, and note the ids that they got."""
    note = Acknowledged(ids)
    with pykesto.open(path) as db:
        for begin in range(0, len(records), BATCH):
            batch = records[begin : begin + BATCH]
            stored = db.run(_store, batch)
            for name, k_id in stored:
                note.write(name, k_id)
            tally.add("done", len(batch))
            tally.add("commits")


def _store(s: pykesto.Session, batch: list[str]) -> list[tuple[str, uuid.UUID]]:
    stored = []
    for record in batch:
        attributes = fields(record)
        attributes["wants"] = attributes.pop("depends", "")
        package = s.add(Package(**attributes))
        stored.append((package.name, package.k_id))
    return stored


def link_packages(path: Path, names: list[str], ids: dict[str, uuid.UUID], tally: Tally) -> None:
    """Turn each package's Depends into references to the packages meant.

    Each process changes packages of its own and refers to those of others, which it reads while they change. That they
    exist is all that matters, so a check of what is written is enough: snapshot isolation.
    """
    with pykesto.open(path) as db:
        for begin in range(0, len(names), BATCH):
            batch = names[begin : begin + BATCH]
            with db.transaction(isolation="snapshot") as s:
                _link(s, batch, ids)
            tally.add("done", len(batch))
            tally.add("commits")


def _link(s: pykesto.Session, names: list[str], ids: dict[str, uuid.UUID]) -> None:
    for name in names:
        package = s.get(Package, ids[name])
        assert package is not None
        targets = [next((c for c in choices if c in ids), None) for choices in dependencies(package.wants)]
        package.depends = [s.get(Package, ids[target]) for target in targets if target is not None]
        del package.wants


def count_sections(db: pykesto.Database) -> int:
    """Make the section counters from the packages, in one transaction."""
    with db.transaction() as s:
        groups = s.query(Package).group_by("section").agg(n=pykesto.agg.count(), size=pykesto.agg.sum("installed_size"))
        for group in groups:
            s.add(Section(name=group["section"], packages=group["n"], installed_size=group["size"]))
    return len(groups)


class Worker:
    """Runs transactions of several kinds until it is killed. Each leaves a row in `log`, in the same commit."""

    def __init__(
        self, path: Path, number: int, ids: list[uuid.UUID], acknowledged: Path, tally: Tally, seed: int
    ) -> None:
        self.db = pykesto.open(path)
        self.number, self.ids, self.tally = number, ids, tally
        self.acknowledged = Acknowledged(acknowledged)
        self.random = random.Random(seed)
        self.count = 0
        self.sections = self._section_names()

    def _section_names(self) -> list[str]:
        with self.db.session(read_only=True) as s:
            return [section.name for section in s.query(Section)]

    def run(self) -> None:
        kinds: list[Callable[[], None]] = [
            self.resize,
            self.resize,
            self.move,
            self.add,
            self.follow,
            self.look,
            self.audit,
        ]
        while True:
            self.random.choice(kinds)()

    def change(self, fn: Callable[..., Any], *args: Any) -> None:
        """Run a transaction with its log row, counting conflicts, and acknowledge it once it is durable."""
        self.count += 1
        key = (self.number, self.count)
        for attempt in self.db.attempts(1000):
            self.tally.add("conflicts")
            with attempt as s:
                s.table("log")[key] = {"kind": fn.__name__, "package": str(fn(s, *args))}
        self.tally.add("conflicts", -1)  # the last attempt met none
        self.acknowledged.write(self.number, self.count, attempt.version)
        self.tally.add("commits")

    def resize(self) -> None:
        self.change(resize, self.random.choice(self.ids), self.random.randint(-100, 100))

    def move(self) -> None:
        self.change(move, self.random.choice(self.ids), self.random.choice(self.sections))

    def add(self) -> None:
        self.change(
            add, f"demo-{self.number}-{self.count}", self.random.choice(self.sections), self.random.randint(1, 9999)
        )

    def follow(self) -> None:
        """Read a package and what it depends on, three levels deep, at one version."""
        with self.db.session(read_only=True) as s:
            package = s.get(Package, self.random.choice(self.ids))
            level = [] if package is None else [package]
            for _ in range(3):
                level = [dependency for p in level for dependency in p.depends][:20]
                self.tally.add("reads", len(level))

    def look(self) -> None:
        """Two indexed queries, and each answer holds what it must."""
        size = self.random.randint(1, 50_000)
        with self.db.session(read_only=True) as s:
            for package in s.query(Package).where(Package.installed_size.between(size, size + 5)).limit(20):
                expect(
                    size <= package.installed_size <= size + 5, f"{package.name} is not between {size} and {size + 5}"
                )
                again = s.query(Package).where(Package.name == package.name).one()
                expect(again is package, f"{package.name} was found as another object")
                self.tally.add("reads", 2)

    def audit(self) -> None:
        """A section's counters agree with its packages in every snapshot, whatever others do meanwhile."""
        with self.db.session(read_only=True) as s:
            section = s.query(Section).where(Section.name == self.random.choice(self.sections)).one()
            if section.packages <= 2000:
                packages = s.query(Package).where(Package.section == section.name)
                found = (packages.count(), packages.sum("installed_size"))
                expect(
                    found == (section.packages, section.installed_size),
                    f"section {section.name} counts {(section.packages, section.installed_size)}, but has {found}",
                )
                self.tally.add("checks")


def expect(condition: bool, what: str) -> None:
    if not condition:
        raise SystemExit(f"demo: a worker found that {what}")


def _section(s: pykesto.Session, name: str) -> Section:
    return s.query(Section).where(Section.name == name).one()


def resize(s: pykesto.Session, k_id: uuid.UUID, by: int) -> uuid.UUID:
    """Change a package's size, and its section's total with it."""
    package = s.get(Package, k_id)
    assert package is not None
    package.installed_size += by
    package.changes += 1
    _section(s, package.section).installed_size += by
    return k_id


def move(s: pykesto.Session, k_id: uuid.UUID, to: str) -> uuid.UUID:
    """Put a package into another section."""
    package = s.get(Package, k_id)
    assert package is not None
    old, new = _section(s, package.section), _section(s, to)
    old.packages -= 1
    old.installed_size -= package.installed_size
    new.packages += 1
    new.installed_size += package.installed_size
    package.section = to
    package.changes += 1
    return k_id


def add(s: pykesto.Session, name: str, section: str, size: int) -> uuid.UUID:
    """A new package, counted in its section."""
    package = s.add(Package(name=name, section=section, installed_size=size, changes=1))
    counted = _section(s, section)
    counted.packages += 1
    counted.installed_size += size
    return package.k_id


def run_worker(path: Path, number: int, ids: list[uuid.UUID], acknowledged: Path, tally: Tally, seed: int) -> None:
    Worker(path, number, ids, acknowledged, tally, seed).run()
