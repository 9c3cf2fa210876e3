"""What is done to copies of a database whose processes are all dead: a torn end of the journal, a flipped bit.

A torn end is what a power cut leaves: of what was written behind the last acknowledged commit any part may be missing
or garbage. A flipped bit must be reported, or do no harm; for that the copy was opened and closed before, as the last
commits before a crash can't be told from a torn write.
"""

from __future__ import annotations

import os
import random
import shutil
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pykesto

from .records import Acknowledgements

SECTOR = 512
RECORD = struct.Struct("<IIQQQQ")  # checksum, previous one, position, number, durable end, size: see docs/journal.md
HEADER_SIZE, ALIGNMENT = 4096, 8


def copy(database: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(database, target)
    return target


def tear(database: Path, records: Path, chance: random.Random) -> str:
    """Spoil sectors of the newest segment behind the newest acknowledged commit; what was done, "" if nothing."""
    newest = max((one.version for one in Acknowledgements(records).new()), default=0)
    segments = sorted((database / "journal").glob("*.kj"))
    if not segments or not newest:
        return ""
    path = segments[-1]
    records_found = list(records_of(path))
    synced = max((one.durable_end for one in records_found), default=0)  # as a later record says
    kept = [one.end for one in records_found if one.number <= newest or one.position < synced]
    begin, end = max(kept, default=HEADER_SIZE), max((one.end for one in records_found), default=HEADER_SIZE)
    if begin == end:
        return ""  # nothing was under way
    with path.open("r+b") as file:
        spoiled = [at for at in range(begin, end, SECTOR) if chance.random() < 0.5] or [begin]
        for at in spoiled:
            file.seek(at)
            file.write(chance.choice([bytes, os.urandom])(min(SECTOR - at % SECTOR, end - at)))
    return f"tore {len(spoiled)} sectors of {path.name} between bytes {begin} and {end}"


@dataclass(frozen=True)
class Record:
    """What the header of a record says; `end` is where it ends in the file, the others are positions of the journal."""

    number: int
    position: int
    durable_end: int
    end: int


def records_of(path: Path) -> Iterator[Record]:
    """The records of a segment, by their headers."""
    content, at, start = path.read_bytes(), HEADER_SIZE, None
    while at + RECORD.size <= len(content):
        _, _, position, number, durable_end, size = RECORD.unpack_from(content, at)
        start = position - at if start is None else start
        if not number or position - at != start:
            return
        at += (RECORD.size + size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT
        yield Record(number, position, durable_end, at)


def close_cleanly(database: Path) -> None:
    with pykesto.open(database, create=False):
        pass


def flip(database: Path, chance: random.Random) -> str:
    """Flip one bit of one file; say which."""
    files = sorted(path for path in database.rglob("*") if path.is_file() and path.stat().st_size)
    path = chance.choice(files)
    # Most bytes of large files are empty space; the beginning and what is written are more telling.
    size = path.stat().st_size
    at = chance.randrange(min(size, 10 ** chance.randint(2, 7)))
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        bit = chance.randrange(8)
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))
    return f"bit {bit} of byte {at} of {path.relative_to(database)}"


def read_everything(database: Path, answer: Path) -> None:
    """Write "reported" if the database says that it is damaged, in any way, else "silent". For a process of its own."""
    try:
        with pykesto.open(database, create=False) as db:
            problems = list(db.check().problems)
            with db.session(read_only=True) as s:
                for table in db.tables():
                    for row in s.table(table).range():
                        row.to_dict()
    except pykesto.Error as error:
        problems = [f"{type(error).__name__}: {error}"]
    answer.write_text("reported" if problems else "silent")
