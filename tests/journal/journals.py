"""A journal by itself, as one process of the engine would hold it: everything but what the records mean."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pykesto.files import FileLock, ProcessLock, SharedWords
from pykesto.journal import GroupSync, JournalState, Reader, Record, Recovered, Segments, Writer, create, recover
from pykesto.journal.state import WORDS

_COMMIT_LOCK, _SYNC_LOCK = WORDS, WORDS + 4


def counting() -> Callable[[], int]:
    """Salts 1, 2, 3... where a test wants no chance."""
    last = 0

    def salt() -> int:
        nonlocal last
        last += 1
        return last

    return salt


class Journal:
    """The parts of a journal in a folder, put together. Recovers, and begins `state` anew, when it is opened."""

    def __init__(self, folder: Path, *, first: bool = True, salts: Callable[[], int] | None = None) -> None:
        self.folder = folder
        (folder / "journal").mkdir(exist_ok=True)
        fd = os.open(folder / "words", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(fd, (WORDS + 8) * 8)
            self.words = SharedWords(fd, WORDS + 8)
        finally:
            os.close(fd)
        self.state = JournalState(self.words, 0)
        self.segments = Segments(folder / "journal", **({"random": salts} if salts else {}))
        self.commit_lock = ProcessLock(FileLock(folder / "commit.lock"), self.words, _COMMIT_LOCK)
        self.sync_lock = ProcessLock(FileLock(folder / "sync.lock"), self.words, _SYNC_LOCK)
        self.sync = GroupSync(self.segments, self.state, sync_lock=self.sync_lock, commit_lock=self.commit_lock)
        self.writer = Writer(self.segments, self.state, self.sync)
        self.recovered = self._begin() if first else None
        self.reader = self.recovered.reader if self.recovered else self.reader_from_start()

    def _begin(self) -> Recovered:
        if not self.segments.numbers():
            found = create(self.segments)
        else:
            found = recover(self.segments, position=0, crc=0, number=0)
        reader = found.reader
        self.state.begin(
            end=reader.position, segment=reader.segment.number, generation=found.generation, clean=found.clean
        )
        return found

    def append(self, payload: bytes, *, durable: bool = False) -> Record:
        """Append one record, after what others have appended."""
        with self.commit_lock.held(10):
            for _ in self.reader.read_to(self.state):
                pass
            written: list[Record] = []
            self.writer.append(self.reader, payload, written)
            (record,) = written
        if durable:
            self.sync.make_durable(record.end)
        return record

    def reader_from_start(self) -> Reader:
        return Reader.at(self.segments, position=0, crc=0, number=0, newest=self.state.segment)

    def records(self) -> list[Record]:
        """All of them, up to the published end."""
        return list(self.reader_from_start().read_to(self.state))

    def payloads(self) -> list[bytes]:
        return [record.payload for record in self.records()]

    def close(self, *, clean: bool = False) -> None:
        """Go away: as the last process does that closes, or as all do that are killed."""
        if clean:
            self.sync.make_durable(self.state.end)
            self.segments.get(self.state.segment).write_mark(self.state.end, clean=True)
        self.commit_lock.close()
        self.sync_lock.close()
        self.segments.close()
        self.words.close()

    def segment_path(self) -> Path:
        return self.segments.path(self.reader.segment.number)
