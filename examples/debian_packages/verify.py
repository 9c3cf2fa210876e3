"""What a fresh process finds after the kills: recovers, and verifies from outside."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pykesto

from .model import Package, Section


@dataclass
class Found:
    """What the verification found."""

    problems: list[str] = field(default_factory=list)
    recovery_s: float = 0.0
    packages: int = 0
    acknowledged: int = 0
    logged: int = 0
    queries: int = 0
    records: int = 0
    discarded: int = 0


def verify(path: Path, acknowledged: list[Path], imported: int, answer: Any) -> None:
    """Open the database in this fresh process, verify, and put what was found into the queue `answer`."""
    found = Found()
    began = time.monotonic()
    with pykesto.open(path) as db:
        with db.session(read_only=True) as s:
            s.version  # noqa: B018 - begins the snapshot, so that all of recovery is in the time
        found.recovery_s = time.monotonic() - began
        stats = db.stats()
        found.records, found.discarded = stats.recovered_records or 0, stats.discarded_bytes or 0
        with db.session(read_only=True) as s:
            found.problems += _Verification(s, found, imported).problems(acknowledged)
        found.problems += db.check().problems
    answer.put(found)


def read_acknowledged(paths: list[Path]) -> Iterator[tuple[tuple[int, int], int]]:
    """The log keys and commit numbers that workers wrote down after their commits returned."""
    for path in paths:
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) == 3:  # the last line may be cut short: its writer was killed
                yield (int(words[0]), int(words[1])), int(words[2])


class _Verification:
    """One snapshot, scanned once, and everything compared with that scan."""

    def __init__(self, s: pykesto.Session, found: Found, imported: int) -> None:
        self.s, self.found, self.imported = s, found, imported
        self.packages = [
            obj for obj in s.query(pykesto.Persistent) if isinstance(obj, Package)
        ]  # no index: a full scan
        found.packages = len(self.packages)

    def problems(self, acknowledged: list[Path]) -> Iterator[str]:
        yield from self._nothing_lost(acknowledged)
        yield from self._nothing_in_part()
        yield from self._sums_agree()
        yield from self._queries_agree()
        yield from self._references_hold()

    def _nothing_lost(self, acknowledged: list[Path]) -> Iterator[str]:
        self.log = {row.k_key: row for row in self.s.table("log").range()}
        self.found.logged = len(self.log)
        latest: dict[int, int] = {}
        touched: dict[str, int] = {}
        for key, version in read_acknowledged(acknowledged):
            self.found.acknowledged += 1
            row = self.log.get(key)
            if row is None:
                yield f"commit {version} of worker {key[0]} was acknowledged and is gone"
            elif row.k_version != version:
                yield f"log row {key} was acknowledged with version {version} and has {row.k_version}"
            if version <= latest.get(key[0], 0):
                yield f"worker {key[0]} was given version {version} after {latest[key[0]]}"
            latest[key[0]] = version
            if row is not None:
                touched[row["package"]] = max(version, touched.get(row["package"], 0))
        for package in self.packages:
            if (package.k_version or 0) < touched.get(str(package.k_id), 0):
                yield f"k_version of {package.name} went back to {package.k_version}"

    def _nothing_in_part(self) -> Iterator[str]:
        """Each commit wrote a log row and raised one package's counter: both or neither."""
        logged = Counter(row["package"] for row in self.log.values())
        for package in self.packages:
            if package.changes != logged[str(package.k_id)]:
                yield f"{package.name} was changed {package.changes} times, the log says {logged[str(package.k_id)]}"
        added = sum(row["kind"] == "add" for row in self.log.values())
        if len(self.packages) != self.imported + added:
            yield f"there are {len(self.packages)} packages, not {self.imported} imported and {added} added"

    def _sums_agree(self) -> Iterator[str]:
        count: Counter[str] = Counter()
        size: Counter[str] = Counter()
        for package in self.packages:
            count[package.section] += 1
            size[package.section] += package.installed_size
        for section in self.s.query(Section):
            found = (count.pop(section.name, 0), size[section.name])
            if found != (section.packages, section.installed_size):
                yield f"section {section.name} says {(section.packages, section.installed_size)}, a scan says {found}"
        if count:
            yield f"sections without a counter: {sorted(count)}"

    def _queries_agree(self) -> Iterator[str]:
        sizes = sorted(package.installed_size for package in self.packages)
        rng = random.Random(1)
        samples = [("section", value, value) for value in sorted({p.section for p in self.packages})]
        samples += [("name", p.name, p.name) for p in rng.sample(self.packages, min(200, len(self.packages)))]
        samples += [("installed_size", low, low + 200) for low in rng.sample(sizes, min(50, len(sizes)))]
        by_value: dict[str, dict[Any, set[Any]]] = {"section": {}, "name": {}}
        for package in self.packages:
            for column, index in by_value.items():
                index.setdefault(getattr(package, column), set()).add(package)
        for column, low, high in samples:
            query = self.s.query(Package).where(pykesto.col(getattr(Package, column)).between(low, high))
            if f"index on {column!r}" not in query.explain():
                yield f"a query on {column} uses no index: {query.explain()}"
            if column in by_value:
                expected = by_value[column].get(low, set())
            else:
                expected = {p for p in self.packages if low <= p.installed_size <= high}
            answer = set(query)
            self.found.queries += 1
            if answer != expected:
                yield f"{column} from {low!r} to {high!r}: the index gives {len(answer)}, a scan {len(expected)}"

    def _references_hold(self) -> Iterator[str]:
        for package in self.packages:
            for dependency in package.depends:
                if not isinstance(dependency, Package):
                    yield f"{package.name} depends on {dependency!r}"
