"""The workloads A to F of YCSB, as programs that check what they read: python -m stress.ycsb --operations 10000

A record has ten fields of 100 bytes; keys are chosen as YCSB chooses them, a few of them often (zipfian, scattered), or
the newest ones (D). A field says whose it is and which update wrote it, so that a record of another key, or a torn
one, is found; F counts, and no count may be lost. It measures nothing: `python -m benchmarks` does.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import random
import sys
import tempfile
from bisect import bisect
from collections import Counter
from itertools import accumulate
from pathlib import Path

import pykesto

FIELDS, FIELD_BYTES, SCAN_MAX = 10, 100, 100
# Shares of read, update, insert, scan, read-modify-write
MIXES = {
    "A": (50, 50, 0, 0, 0),
    "B": (95, 5, 0, 0, 0),
    "C": (100, 0, 0, 0, 0),
    "D": (95, 0, 5, 0, 0),
    "E": (0, 0, 5, 95, 0),
    "F": (50, 0, 0, 0, 50),
}
_SPAWN = multiprocessing.get_context("spawn")


def key_of(number: int) -> str:
    """Scattered over the order of keys, as YCSB's hashed order does."""
    return "user" + hashlib.blake2b(number.to_bytes(8, "big"), digest_size=8).hexdigest()


def field_of(key: str, name: str, update: int) -> bytes:
    head = f"{key} {name} {update} ".encode()
    return head + hashlib.blake2b(head).hexdigest().encode()[: FIELD_BYTES - len(head)].ljust(
        FIELD_BYTES - len(head), b"."
    )


def record(key: str) -> dict[str, bytes | int]:
    return {f"field{n}": field_of(key, f"field{n}", 0) for n in range(FIELDS)} | {"count": 0}


def require_whole(key: str, row: pykesto.Row) -> None:
    """AssertionError unless each field is one that was written to this record."""
    names = {name for name in row if name != "count"}
    assert names == {f"field{n}" for n in range(FIELDS)}, f"{key} has {sorted(names)}"
    for name in names:
        written = row[name]
        update = int(written.split(b" ")[2])
        assert written == field_of(key, name, update), f"{key} {name} holds {written!r}"


class Chooser:
    """Numbers below a bound, the first ones often: the zipfian distribution with YCSB's constant."""

    def __init__(self, records: int, chance: random.Random) -> None:
        self.chance = chance
        self._sums = list(accumulate(1 / (rank + 1) ** 0.99 for rank in range(records)))

    def __call__(self) -> int:
        return bisect(self._sums, self.chance.random() * self._sums[-1])


class Client:
    """One process's operations; each is a transaction."""

    def __init__(self, db: pykesto.Database, workload: str, records: int, number: int, chance: random.Random) -> None:
        self.db, self.workload, self.records, self.number, self.chance = db, workload, records, number, chance
        self.choose, self.done, self.inserted = Chooser(records, chance), Counter[str](), 0

    def step(self) -> None:
        (operation,) = self.chance.choices(
            (self.read, self.update, self.insert, self.scan, self.read_modify_write), MIXES[self.workload]
        )
        operation()
        self.done[operation.__name__] += 1

    def key(self) -> str:
        rank = self.choose()
        if self.workload == "D":  # the newest are read most; this client's own ones are the newest it knows
            return self.own_key(self.inserted - rank) if rank < self.inserted else key_of(self.records - 1 - rank)
        return key_of(rank)

    def own_key(self, n: int) -> str:
        return f"{key_of(self.number)}-{n:08}"

    def read(self) -> None:
        key = self.key()
        with self.db.session(read_only=True) as s:
            require_whole(key, s.table("usertable")[key])

    def update(self) -> None:
        key, name, update = self.key(), f"field{self.chance.randrange(FIELDS)}", self.chance.getrandbits(30)
        self.db.run(_set, key, name, field_of(key, name, update), attempts=1000)

    def insert(self) -> None:
        key = self.own_key(self.inserted + 1)
        with self.db.transaction() as s:
            s.table("usertable").insert(key, record(key))
        self.inserted += 1

    def scan(self) -> None:
        begin, most = self.key(), self.chance.randint(1, SCAN_MAX)
        with self.db.session(read_only=True) as s:
            keys = []
            for row in s.table("usertable").range(begin):
                require_whole(row.k_key, row)
                keys.append(row.k_key)
                if len(keys) == most:
                    break
            assert keys == sorted(keys)
            assert keys[0] == begin

    def read_modify_write(self) -> None:
        key = self.key()
        self.db.run(_count, key, attempts=1000)


def _set(s: pykesto.Session, key: str, name: str, content: bytes) -> None:
    s.table("usertable")[key][name] = content


def _count(s: pykesto.Session, key: str) -> None:
    row = s.table("usertable")[key]
    require_whole(key, row)
    row["count"] += 1


def load(db: pykesto.Database, records: int) -> None:
    with db.transaction() as s:
        for number in range(records):
            s.table("usertable")[key_of(number)] = record(key_of(number))


def work(path: Path, workload: str, records: int, number: int, operations: int, seed: int) -> Counter[str]:
    with pykesto.open(path, lock_timeout=60.0) as db:
        client = Client(db, workload, records, number, random.Random(seed))
        for _ in range(operations):
            client.step()
        return client.done


def run(path: Path, workload: str, *, records: int, operations: int, processes: int, seed: int) -> Counter[str]:
    """Load, then have processes do the operations, then look through all; AssertionError for what is wrong."""
    with pykesto.open(path) as db:
        load(db, records)
        db.checkpoint()
    each = [(path, workload, records, n, operations // processes, seed + n) for n in range(processes)]
    with _SPAWN.Pool(processes) as pool:
        done = sum(pool.starmap(work, each), Counter[str]())
    with pykesto.open(path) as db, db.session() as s:
        counted = 0
        for row in s.table("usertable").range():
            require_whole(row.k_key, row)
            counted += row["count"]
        assert counted == done["read_modify_write"]
        assert len(s.table("usertable")) == records + done["insert"]
        assert db.check().problems == ()
    return done


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stress.ycsb", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workloads", default="".join(MIXES))
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    for workload in options.workloads:
        with tempfile.TemporaryDirectory() as directory:
            done = run(
                Path(directory) / "ycsb.kesto",
                workload,
                records=options.records,
                operations=options.operations,
                processes=options.processes,
                seed=options.seed,
            )
        print(
            f"{workload}: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in done.items()), flush=True
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
