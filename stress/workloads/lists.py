"""Transactions that append to lists and read them: their history shows which level of isolation was kept.

They have no row in the log: each writes what it is about to commit to the history of its process, and then how it
ended. `stress.check_history` judges that.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import pykesto

from ..history import Operation, Recorder

THINK_CHANCE, THINK_S = 0.2, 0.003
LISTS, LENGTH_MAX = 12, 10  # then all go on with lists that are not there yet: phantoms are as likely as conflicts
VALUES_OF_A_WORKER = 10_000_000
Key = tuple[int, int, int]  # round, generation, number


def think(chance: random.Random) -> None:
    """Now and then let others go on in the midst of a transaction, as on a machine of many processors."""
    if chance.random() < THINK_CHANCE:
        time.sleep(chance.uniform(0, THINK_S))


def name(key: Key) -> str:
    return ".".join(map(str, key))


def group(key: Key) -> str:
    return f"{key[0]}.{key[1]}.{key[2] % 3}"


def read_all(s: pykesto.Session, number: int) -> list[Operation]:
    """The lists of a round, as operations of a transaction that reads them all."""
    rows = s.table("lists").range((number,), (number + 1,))
    return [("read", name(row.k_key), list(row["values"])) for row in rows]


class Lists:
    """The list transactions of one worker."""

    def __init__(self, round_number: int, worker: int, recorder: Recorder, chance: random.Random) -> None:
        self.round, self.recorder, self.chance = round_number, recorder, chance
        self.value = worker * VALUES_OF_A_WORKER
        self.generation = 0

    def transact(self, db: pykesto.Database) -> int:
        """Run one; its number, 0 if it wrote nothing. An unknown outcome is the caller's to handle."""
        begin, operations = time.monotonic_ns(), []
        with db.session() as s:
            for _ in range(self.chance.randint(1, 5)):
                operations += self._operate(s.table("lists"))
                think(self.chance)
            self.recorder.about_to_commit(begin, operations)
            try:
                number = s.commit()
            except pykesto.CommitUnknown:
                raise
            except (pykesto.ConcurrencyConflict, pykesto.StorageError, pykesto.LockTimeout):
                self.recorder.ended("failed")
                raise
        self.recorder.ended("ok")
        return number if any(kind == "append" for kind, *_ in operations) else 0

    def _operate(self, table: Any) -> list[Operation]:
        key = (self.round, self.generation, self.chance.randrange(LISTS))
        ways: list[tuple[Callable[[Any, Key], list[Operation]], int]] = [
            (self._append, 45),
            (self._read, 25),
            (self._scan, 15),
            (self._query, 15),
        ]
        (way,) = self.chance.choices([way for way, _ in ways], [weight for _, weight in ways])
        return way(table, key)

    def _append(self, table: Any, key: Key) -> list[Operation]:
        self.value += 1
        if key in table:
            values = table[key]["values"]
            values.append(self.value)
            self._look_at_length(key, len(values))
        else:
            table[key] = {"values": [self.value], "group": group(key)}
        return [("append", name(key), self.value)]

    def _read(self, table: Any, key: Key) -> list[Operation]:
        row = table.get(key)
        return self._reads([key], {} if row is None else {key: list(row["values"])})

    def _scan(self, table: Any, key: Key) -> list[Operation]:
        """A range of keys: those that are not there were read as empty."""
        last = self.chance.randrange(key[2] + 1, LISTS + 1)
        found = {row.k_key: list(row["values"]) for row in table.range(key, (*key[:2], last))}
        return self._reads([(*key[:2], number) for number in range(key[2], last)], found)

    def _query(self, table: Any, key: Key) -> list[Operation]:
        rows = table.query.col("group").equals(group(key))
        found = {row.k_key: list(row["values"]) for row in rows}
        numbers = [number for number in range(LISTS) if number % 3 == key[2] % 3]
        return self._reads([(*key[:2], number) for number in numbers], found)

    def _reads(self, keys: list[Key], found: dict[Key, list[int]]) -> list[Operation]:
        for key, values in found.items():
            self._look_at_length(key, len(values))
        return [("read", name(key), found.get(key, [])) for key in keys]

    def _look_at_length(self, key: Key, length: int) -> None:
        if length >= LENGTH_MAX:
            self.generation = max(self.generation, key[1] + 1)
