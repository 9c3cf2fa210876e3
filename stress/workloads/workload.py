"""What a workload is.

Each commit leaves a row in the table `log` beside its work, under (worker, step), that says what it did. So a history
can be checked without trusting anything but the log: played again in the order of k_version, from what was there when
the round began, it must lead to exactly what is found.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Protocol

import pykesto

Step = tuple[int, int]  # worker, number of its step: the key of its log row
Said = dict[str, Any]  # what a log row says


class Workload(Protocol):
    """One kind of transaction. As an object: what the database should hold, `play` adding a row of the log to it.

    An object is pickled between rounds.
    """

    @staticmethod
    def create(s: pykesto.Session, size: int) -> None:
        """Make what the workload works on; `size` says how much, 1 is little."""
        ...

    @staticmethod
    def choose(chance: random.Random) -> Said:
        """What to do next. A transaction that is tried again does the same."""
        ...

    @staticmethod
    def act(s: pykesto.Session, step: Step, said: Said) -> None:
        """Do it; what turns out only then is added to `said`."""
        ...

    @staticmethod
    def glance(s: pykesto.Session) -> Iterator[str]:
        """Problems of any snapshot."""
        ...

    def load(self, s: pykesto.Session) -> None:
        """Begin with what is there."""
        ...

    def play(self, step: Step, said: Said, version: int) -> Iterator[str]: ...

    def compare(self, s: pykesto.Session) -> Iterator[str]:
        """Problems of a database whose whole log was played."""
        ...


class Model:
    """What a table should hold: for each row its content and the number of the commit that wrote it."""

    def __init__(self, table: str) -> None:
        self.table = table
        self.rows: dict[Any, tuple[dict[str, Any], int]] = {}

    def load(self, s: pykesto.Session) -> None:
        self.rows = {row.k_key: (row.to_dict(), row.k_version or 0) for row in s.table(self.table).range()}

    def put(self, key: Any, version: int, **columns: Any) -> None:
        self.rows[key] = (columns, version)

    def change(self, key: Any, version: int, **columns: Any) -> None:
        self.rows[key] = (self.rows[key][0] | columns, version)

    def compare(self, s: pykesto.Session) -> Iterator[str]:
        found = {row.k_key: (row.to_dict(), row.k_version) for row in s.table(self.table).range()}
        for key in sorted(found.keys() ^ self.rows.keys(), key=repr):
            yield f"{self.table}: row {key} is {'not in the log' if key in found else 'gone'}"
        for key in sorted(found.keys() & self.rows.keys(), key=repr):
            if found[key] != self.rows[key]:
                (content, version), (expected, last) = found[key], self.rows[key]
                yield f"{self.table}: row {key} is {content} of commit {version}, its log says {expected} of {last}"
