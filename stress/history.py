"""Histories of list-append transactions: what each process tried, read and was told, and when.

A value is appended to a key once in a whole history, so whoever reads a list knows which transactions came before, in
which order. A file of a history is one process's own, JSON lines, appended with one write each, so that they outlive
a kill:

    {"begin": 17, "process": 3, "operations": [["read", "x", [1, 2]], ["append", "x", 7]]}    before it commits
    {"ok": 42}      it committed at 42
    {"failed": 42}  certainly nothing was written

Times are nanoseconds of one clock of the machine. A transaction without a second line has an unknown outcome.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "failed", "unknown"]
Operation = tuple[str, str, Any]  # ("append", key, value) or ("read", key, [values])
PATTERN = "history-*.jsonl"


@dataclass(slots=True)
class Transaction:
    """`end` is None while nobody was told how it ended."""

    process: int
    begin: int
    operations: list[Operation]
    end: int | None = None
    status: Status = "unknown"
    where: str = ""

    def __str__(self) -> str:
        parts = (f"{kind} {key} {value}" for kind, key, value in self.operations)
        place = f" of process {self.process}" + (f", {self.where}" if self.where else "")
        return f"{'' if self.status == 'ok' else self.status + ' '}transaction{place}: {'; '.join(parts)}"


class Recorder:
    """Writes the history of one process."""

    def __init__(self, directory: Path, process: int) -> None:
        self.process = process
        path = directory / PATTERN.replace("*", str(process))
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def about_to_commit(self, begin: int, operations: list[Operation]) -> None:
        self._write({"begin": begin, "process": self.process, "operations": operations})

    def ended(self, status: Literal["ok", "failed"]) -> None:
        self._write({status: time.monotonic_ns()})

    def _write(self, fields: dict[str, Any]) -> None:
        os.write(self.file, json.dumps(fields, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        os.close(self.file)


@dataclass
class HistoryFile:
    """One file that may still grow; each reading goes on where the last one ended."""

    path: Path
    position: int = 0
    lines: int = 0
    transactions: list[Transaction] = field(default_factory=list)

    def read_to(self, size: int) -> None:
        with self.path.open("rb") as file:
            file.seek(self.position)
            text = file.read(size - self.position)
        whole = text[: text.rfind(b"\n") + 1]  # the rest is being written, or its writer was killed
        self.position += len(whole)
        for line in whole.splitlines():
            self.lines += 1
            self._take(json.loads(line))

    def _take(self, fields: dict[str, Any]) -> None:
        if "begin" in fields:
            operations = [(kind, str(key), value) for kind, key, value in fields["operations"]]
            where = f"{self.path.name} line {self.lines}"
            self.transactions.append(Transaction(fields["process"], fields["begin"], operations, where=where))
        elif self.transactions:
            last = self.transactions[-1]
            last.status, last.end = ("ok", fields["ok"]) if "ok" in fields else ("failed", fields["failed"])


class History:
    """All files of a directory, while they grow."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.files: dict[Path, HistoryFile] = {}

    def transactions(self) -> list[Transaction]:
        """All that there is by now, such that whoever wrote what one of them read is among them.

        A writer's line is there before anyone can read what it wrote. So first the sizes of all files are noted, and
        what lies beyond them counts only as what may have been appended.
        """
        sizes = {path: path.stat().st_size for path in self._paths()}
        for path, size in sizes.items():
            self.files.setdefault(path, HistoryFile(path)).read_to(size)
        found = [one for file in self.files.values() for one in file.transactions]
        for path in self._paths():
            known = self.files.get(path, HistoryFile(path))
            later = HistoryFile(path, known.position, known.lines)
            later.read_to(path.stat().st_size)
            found += map(_only_appends, later.transactions)
        return found

    def _paths(self) -> list[Path]:
        return sorted(self.directory.glob(PATTERN))


def _only_appends(one: Transaction) -> Transaction:
    appends = [operation for operation in one.operations if operation[0] == "append"]
    return Transaction(one.process, one.begin, appends, where=one.where)


def load(paths: Iterable[Path]) -> list[Transaction]:
    """The transactions of finished histories: files, or directories of them."""
    found: list[Transaction] = []
    for path in paths:
        for one in sorted(path.glob(PATTERN)) if path.is_dir() else [path]:
            file = HistoryFile(one)
            file.read_to(one.stat().st_size)
            found += file.transactions
    return found
