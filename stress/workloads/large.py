"""Commits of many rows and of large values, among the small ones of others."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

import pykesto

from .workload import Said, Step


class Large:
    """A batch is written in one commit and replaced in one: of many rows, or of few large ones."""

    BATCHES = 3

    def __init__(self) -> None:
        self.versions: dict[int, int] = {}

    @staticmethod
    def create(s: pykesto.Session, size: int) -> None:
        for batch in range(Large.BATCHES):
            Large.write(s, batch, rows=10, row_bytes=10, fill=0)

    @staticmethod
    def write(s: pykesto.Session, batch: int, *, rows: int, row_bytes: int, fill: int) -> None:
        table = s.table("batches")
        for row in list(table.range((batch,), (batch + 1,))):
            if row.k_key[1] >= rows:
                del table[row.k_key]
        content = bytes([fill]) * row_bytes
        for number in range(rows):
            table[batch, number] = {"rows": rows, "content": content, "crc": zlib.crc32(content)}

    @staticmethod
    def choose(chance: random.Random) -> Said:
        rows = int(10 ** chance.uniform(1, 3.3))
        row_bytes = chance.choice([10, 200, 20_000_000 // rows if chance.random() < 0.1 else 1000])
        return {
            "batch": chance.randrange(Large.BATCHES),
            "rows": rows,
            "row_bytes": min(row_bytes, 1_500_000),
            "fill": chance.randrange(256),
        }

    @staticmethod
    def act(s: pykesto.Session, step: Step, said: Said) -> None:
        Large.write(s, said["batch"], rows=said["rows"], row_bytes=said["row_bytes"], fill=said["fill"])

    @staticmethod
    def glance(s: pykesto.Session) -> Iterator[str]:
        for batch in range(Large.BATCHES):
            rows = list(s.table("batches").range((batch,), (batch + 1,)))
            said = {row["rows"] for row in rows}
            versions = {row.k_version for row in rows}
            if said != {len(rows)} or len(versions) != 1:
                yield f"large: batch {batch} has {len(rows)} rows of commits {versions}, and says {said}"
            if any(zlib.crc32(row["content"]) != row["crc"] for row in rows[:: max(1, len(rows) // 20)]):
                yield f"large: a row of batch {batch} does not match its checksum"

    def load(self, s: pykesto.Session) -> None:
        for batch in range(self.BATCHES):
            self.versions[batch] = s.table("batches")[batch, 0].k_version or 0

    def play(self, step: Step, said: Said, version: int) -> Iterator[str]:
        self.versions[said["batch"]] = version
        yield from ()

    def compare(self, s: pykesto.Session) -> Iterator[str]:
        for batch, expected in self.versions.items():
            found = s.table("batches")[batch, 0].k_version
            if found != expected:
                yield f"large: batch {batch} is of commit {found}, its log says {expected}"
