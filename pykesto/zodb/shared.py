"""What all instances of a storage in a process share: the database, the lock of commits, and oids at hand."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from .. import Database, Session, open
from ..files import FileLock, ProcessLock, SharedWords, open_file, translated
from .records import p64, set_state, state

_OIDS_AT_ONCE = 64  # a process asks for so many; what it does not use is lost, of 2**64
_LOCK_WORDS = 4


class Shared:
    """One storage in one process. Threads share it; a forked child goes on with it."""

    def __init__(self, path: str | os.PathLike[str], *, lock_timeout: float | None, options: dict[str, Any]) -> None:
        self.db: Database = open(path, **options)
        self.path = Path(self.db.path)
        self.lock_timeout = lock_timeout
        self.full = options.get("durability", "full") == "full"
        self._threads = threading.Lock()
        self._next = self._end = 0
        self._pid = self._pid_of_oids = 0
        self._words: SharedWords | None = None
        self._lock: ProcessLock | None = None

    def commit_lock(self) -> ProcessLock:
        """From the vote to the end of a commit one transaction of all processes has it, so that no vote is in vain."""
        with self._threads:
            if self._lock is None or self._pid != os.getpid():
                self._close_lock()  # a forked child shares the parent's file, and so its lock
                file = FileLock(self.path / "zodb.lock")
                self._words = _mapped(self.path / "zodb.lock")
                self._lock, self._pid = ProcessLock(file, self._words, 0), os.getpid()
            return self._lock

    def new_oid(self) -> bytes:
        with self._threads:
            if self._next == self._end or self._pid_of_oids != os.getpid():
                self._next = self.db.run(_take_oids, attempts=1000)
                self._end, self._pid_of_oids = self._next + _OIDS_AT_ONCE, os.getpid()
            self._next += 1
            return p64(self._next)

    def wait_until_durable(self) -> None:
        """Everything that was committed is on stable storage when this returns, unless durability is "process"."""
        if self.full:
            with self.db.session(read_only=True) as s:
                _ = s.version
                s.commit()

    def _close_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()
        if self._words is not None:
            self._words.close()
        self._lock = self._words = None

    def close(self) -> None:
        with self._threads:
            self._close_lock()
        self.db.close()


def _mapped(path: Path) -> SharedWords:
    fd = open_file(path)
    try:
        with translated("allocate", path):
            os.posix_fallocate(fd, 0, _LOCK_WORDS * 8)
        with translated("map", path):
            return SharedWords(fd, _LOCK_WORDS)
    finally:
        os.close(fd)


def _take_oids(s: Session) -> int:
    """Take the next numbers for this process; the last that was taken before."""
    given = state(s, "oids")
    set_state(s, "oids", given + _OIDS_AT_ONCE)
    return given


def note_oids(s: Session, highest: int) -> None:
    """Oids that came from elsewhere are not given out again."""
    if highest > state(s, "oids"):
        set_state(s, "oids", highest)
