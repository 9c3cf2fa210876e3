"""The embedded store: one process's attachment to a database directory.

However many handles a process opens, it attaches once: Tokyo Cabinet allows one handle of a file in a process. The
first process to attach is alone and recovers; one that joins later maps the control page and follows the journal.

Locks, in the order in which they are taken:
    attach.lock      while attaching and detaching
    turn.lock        while a transaction runs again that met a conflict; others let it pass, but not for ever
    checkpoint.lock  while bringing a base forward
    commit.lock      while validating and appending
    view             this process's own state: base, overlay, reader, pins
    sync.lock        while syncing the journal; never waited for with commit.lock held
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import ClosedError, LockTimeout
from ..files import FileLock, ProcessLock
from ..journal import GroupSync, JournalState, Recovered, Segments, Writer
from .commit import Committer
from .control import (
    CHECKPOINT_LOCK_WORDS,
    COMMIT_LOCK_WORDS,
    JOURNAL_WORDS,
    SYNC_LOCK_WORDS,
    TURN_LOCK_WORDS,
    Control,
)
from .layout import Layout
from .recovery import recover_database
from .view import View

ATTACH_TIMEOUT_S = 60.0


class EmbeddedStore:
    """One process's attachment to the database in `layout.directory`. Threads share it; a forked child may not."""

    def __init__(self, layout: Layout, *, create_missing: bool, mode: int, network: bool = False) -> None:
        self.on_schema: Callable[[], object] = lambda: None  # called when indexes or tables came or went
        self.on_filling: Callable[[], object] = lambda: None  # called when the newest segment fills
        self.on_full: Callable[[], object] = lambda: None  # called by who commits while memory is full
        self.layout, self.mode = layout, mode
        self.pid = os.getpid()
        self.closed = False
        self.recovered: Recovered | None = None  # what the first attacher found
        self._locks: list[FileLock] = []
        if not network:
            layout.refuse_network()
        if create_missing:
            layout.create(mode)
        else:
            layout.require()
        self._attach(create_missing)

    # Attaching

    def _attach(self, create_missing: bool) -> None:
        attach = self._lock("attach")
        try:
            attach.acquire(ATTACH_TIMEOUT_S)
            alive = self._lock("alive")
            first = alive.try_acquire()
            self.control = Control(self.layout, mode=self.mode)
            if first:
                self.control.rebuild()
            else:
                alive.acquire(ATTACH_TIMEOUT_S, shared=True)
                self.control.require()
            self._open_parts()
            if first:
                self.recovered = recover_database(
                    self.layout, self.control, self.segments, self.state, mode=self.mode, create_missing=create_missing
                )
                alive.acquire(ATTACH_TIMEOUT_S, shared=True)
            slot, slot_lock = self.control.take_slot(self.mode)
            self._locks.append(slot_lock)
            self.view.use_slot(slot)
        except BaseException:
            self._let_go()
            raise
        attach.release()

    def _lock(self, name: str) -> FileLock:
        lock = FileLock(self.layout.lock(name), mode=self.mode)
        self._locks.append(lock)
        return lock

    def _process_lock(self, name: str, first_word: int, *, burst: int = 32) -> ProcessLock:
        file = FileLock(self.layout.lock(name), mode=self.mode)
        return ProcessLock(file, self.control.words, first_word, burst=burst)

    def _open_parts(self) -> None:
        words = self.control.words
        self.state = JournalState(words, JOURNAL_WORDS)
        self.segments = Segments(self.layout.journal, mode=self.mode)
        self.commit_lock = self._process_lock("commit", COMMIT_LOCK_WORDS)
        self.sync_lock = self._process_lock("sync", SYNC_LOCK_WORDS)
        self.checkpoint_lock = self._process_lock("checkpoint", CHECKPOINT_LOCK_WORDS)
        self.turn_lock = self._process_lock("turn", TURN_LOCK_WORDS, burst=8)
        self.sync = GroupSync(self.segments, self.state, sync_lock=self.sync_lock, commit_lock=self.commit_lock)
        self.view = View(self.layout, self.segments, self.state, self.control)
        writer = Writer(self.segments, self.state, self.sync)
        self.committer = Committer(
            self.view,
            turn_lock=self.turn_lock,
            commit_lock=self.commit_lock,
            writer=writer,
            sync=self.sync,
            on_schema=lambda: self.on_schema(),
            on_filling=lambda: self.on_filling(),
            on_full=lambda: self.on_full(),
        )

    @contextmanager
    def checkpointing(self, wait_s: float | None, *, optional: bool = False) -> Iterator[bool]:
        """Hold checkpoint.lock, so that no base changes; if it is `optional` and not free, go on without.

        A thread of this process that is at work is waited for as long as it takes; LockTimeout is about others.
        """
        while True:
            block = self.checkpoint_lock.tried() if optional else self.checkpoint_lock.held(wait_s)
            try:
                got = block.__enter__()
                break
            except LockTimeout as error:
                if error.holder_pid != self.pid:
                    raise
        try:
            yield got
        finally:
            block.__exit__()

    # Detaching

    def is_interrupted(self) -> bool:
        """Whether this thread has what a close waits for others to have: a signal handler asks."""
        locks = (self.commit_lock, self.sync_lock, self.checkpoint_lock)
        return any(lock.is_used_here() for lock in locks) or self.view.is_used_here() or self.segments.is_used_here()

    def close(self) -> None:
        """Detach. The last process to do so syncs and marks a clean end. Sessions in this process end."""
        if self.closed or self.pid != os.getpid():
            return
        self.closed = True
        self.view.end_sessions()
        attach, alive = self._locks[0], self._locks[1]
        try:
            attach.acquire(ATTACH_TIMEOUT_S)
        except LockTimeout:
            self._let_go()  # someone is stopped while attaching: leave as a killed process would
            return
        try:
            if alive.try_acquire():
                with self.commit_lock.held(ATTACH_TIMEOUT_S):  # a thread of this process may be in the midst of one
                    self._close_cleanly()
        finally:
            self._let_go()

    def _close_cleanly(self) -> None:
        """The last one out: everything is synced, and says so."""
        if self.state.poisoned:
            return
        self.sync.sync_alone(self.state.end)
        if not self.state.clean and not self.state.rolling:
            self.segments.get(self.state.segment).write_mark(self.state.end, clean=True)

    def _let_go(self) -> None:
        """Close every descriptor. In a forked child this must not release what the parent holds, and does not."""
        if hasattr(self, "view"):
            self.view.close()
        self.recovered = None  # it holds a descriptor of the journal
        for lock in reversed(self._locks):
            lock.close()
        for name in ("commit_lock", "sync_lock", "checkpoint_lock", "turn_lock", "segments", "control"):
            if hasattr(self, name):
                getattr(self, name).close()

    def abandon(self) -> None:
        """In a forked child: the parent goes on with all of this. The driver abandons its handles by itself."""
        self.closed = True
        self.view.abandon()
        self.segments.abandon()
        self._let_go()

    def require_open(self) -> None:
        if self.closed:
            raise ClosedError(f"the database {self.layout.directory} is closed in this process")
