"""What the processes of a run write down, each in files of its own, so that it outlives them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pykesto


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A step that its worker knows the end of. `version` is 0 if it was refused or rolled back: nothing was written.

    `number` 0 is a transaction that is recorded elsewhere, and only counted here.
    """

    kind: str  # of the process: worker, fork, storm, web
    worker: int
    number: int
    version: int
    conflicts: int
    took_us: int
    at_ms: int

    @property
    def step(self) -> tuple[int, int]:
        return self.worker, self.number


class Lines:
    """The whole lines of all files of a name, read on from where the last reading ended."""

    def __init__(self, directory: Path, pattern: str) -> None:
        self.directory, self.pattern = directory, pattern
        self._read: dict[Path, int] = {}

    def new(self) -> Iterator[tuple[Path, bytes]]:
        for path in sorted(self.directory.glob(self.pattern)):
            begin = self._read.get(path, 0)
            if path.stat().st_size == begin:
                continue
            with path.open("rb") as file:
                file.seek(begin)
                text = file.read()
            whole = text[: text.rfind(b"\n") + 1]  # the rest is being written, or its writer was killed
            self._read[path] = begin + len(whole)
            for line in whole.splitlines():
                yield path, line


class Acknowledgements:
    """What the workers of a round were told, in files acknowledged-KIND-NUMBER."""

    def __init__(self, directory: Path) -> None:
        self._lines = Lines(directory, "acknowledged-*")

    def new(self) -> Iterator[Acknowledged]:
        for path, line in self._lines.new():
            _, kind, worker = path.name.split("-")
            yield Acknowledged(kind, int(worker), *map(int, line.split()))


class Notes:
    """A file that one process appends to, a line with each write."""

    def __init__(self, path: Path) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def write(self, line: str) -> None:
        os.write(self.file, line.encode() + b"\n")


def tell(records: Path, who: str, *problems: str) -> None:
    """Report problems, if there are any: the run fails with them."""
    if not problems:
        return
    notes = Notes(records / f"problems-{who}")
    for problem in problems:
        notes.write(json.dumps(problem))
    os.close(notes.file)


def problems(lines: Lines) -> list[str]:
    return [f"{path.name.removeprefix('problems-')}: {json.loads(line)}" for path, line in lines.new()]


def sizes(db: pykesto.Database) -> dict[str, Any]:
    """What is drawn over time."""
    stats = db.stats()
    return {
        "journal_bytes": stats.journal_bytes,
        "overlay_bytes": stats.overlay_bytes,
        "overlay_rows": stats.overlay_rows,
    }
