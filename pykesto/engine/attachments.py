"""The databases that this process has attached to: one attachment each, however many handles there are.

Handles survive a fork: the child abandons what it inherited, closing descriptors and releasing nothing, and attaches
anew when a handle is used. While a fork is under way no attachment begins or ends and no Tokyo Cabinet writer is open.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..errors import LockTimeout
from ..files import pid
from ..store import Reads, Snapshot, Terms, Writes
from .checkpoint import Checkpointer, Outcome
from .embedded import EmbeddedStore
from .layout import Layout
from .room import RoomMaker

TURN_PATIENCE_S = 1.0


class Attachment:
    """An embedded store with its background checkpoints; a `Store`."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store
        self.checkpointer = Checkpointer(store)
        self.room = RoomMaker(store)
        self.handles = 0
        # As they are, not through methods: every transaction calls both.
        self.snapshot: Callable[[], Snapshot] = store.view.snapshot
        self.commit: Callable[[Snapshot, Reads, Writes, Terms], int] = store.committer.commit
        store.on_filling = self.room.want
        store.on_full = self.checkpointer.help
        store.on_schema = self.checkpointer.want  # queries can use an index when a base has it

    @property
    def usable(self) -> bool:
        return not self.store.closed and self.store.pid == pid()

    def take_turn(self) -> None:
        """Have other commits let this thread's next one pass; without it if that takes long.

        A thread that has it already, for another task of an event loop perhaps, must not wait for itself.
        """
        if not self.store.turn_lock.is_mine():
            with suppress(LockTimeout):
                self.store.turn_lock.acquire(TURN_PATIENCE_S)

    def end_turn(self) -> None:
        """Let the others go on, if this thread's commit has not done so."""
        self.store.turn_lock.let_go()

    def checkpoint(self, wait_s: float | None) -> Outcome:
        return self.checkpointer.now(wait_s)

    def close(self) -> None:
        """Detach; in a thread of its own if this is a signal handler that interrupted what close would wait for."""
        if self.store.is_interrupted():
            self.store.view.end_sessions()
            threading.Thread(target=self._close_later, name="pykesto close").start()
        else:
            self._close()

    def _close_later(self) -> None:
        with _lock:  # no fork meanwhile
            self._close()

    def _close(self) -> None:
        self.room.close()
        self.checkpointer.close()
        self.store.close()


_attachments: dict[str, Attachment] = {}
_lock = threading.RLock()


def attach(path: Path, *, create: bool, mode: int, network: bool = False) -> Attachment:
    """This process's attachment to the database at `path`, made if need be. Each call is one handle to `detach`."""
    with _lock:
        found = _attachments.get(os.path.realpath(path))
        if found is None or not found.usable:
            store = EmbeddedStore(
                Layout(Path(os.path.abspath(path))), create_missing=create, mode=mode, network=network
            )
            found = _attachments[os.path.realpath(path)] = Attachment(store)
        found.handles += 1
        return found


def detach(attachment: Attachment) -> None:
    """Give one handle back; the last one closes."""
    with _lock:
        attachment.handles -= 1
        if attachment.handles == 0:
            for path in [p for p, a in _attachments.items() if a is attachment]:
                del _attachments[path]
            if attachment.usable:
                attachment.close()


def _close_all() -> None:
    with _lock:
        for attachment in list(_attachments.values()):
            if attachment.usable:
                attachment.close()
        _attachments.clear()


def _before_fork() -> None:
    _lock.acquire()
    for attachment in _attachments.values():
        attachment.checkpointer.gate.shut()


def _after_fork_in_parent() -> None:
    for attachment in _attachments.values():
        attachment.checkpointer.gate.reopen()
    _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    for attachment in _attachments.values():
        attachment.store.abandon()
    _attachments.clear()
    _lock = threading.RLock()


def _register(before: Callable[[], None], in_parent: Callable[[], None], in_child: Callable[[], None]) -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=before, after_in_parent=in_parent, after_in_child=in_child)


_register(_before_fork, _after_fork_in_parent, _after_fork_in_child)
atexit.register(_close_all)
