"""What a workload is.

Each commit leaves a row in the table `log` beside its work, under (worker, step), that says what it did. So a history
can be checked without trusting anything but the log: played again in the order of k_version it must lead to exactly
what is found.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Protocol

import pykesto

Step = tuple[int, int]  # worker, number of its step: the key of its log row
Said = dict[str, Any]  # what a log row says


class Workload(Protocol):
    """One kind of transaction. As an object: what the log says the database should hold, `play` adding a row to it."""

    @staticmethod
    def create(s: pykesto.Session) -> None: ...

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

    def play(self, step: Step, said: Said, version: int) -> Iterator[str]: ...

    def compare(self, s: pykesto.Session) -> Iterator[str]:
        """Problems of a database whose whole log was played."""
        ...
