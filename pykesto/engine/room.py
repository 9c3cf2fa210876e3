"""Make room in the journal before a commit has to wait for it.

A roll to a new segment happens under commit.lock, so every process waits for it: what can be done before is done here,
in a thread of its own. The next segment's file is written with zeros, and most of this segment is synced. If it isn't
ready in time, the roll does all of that by itself.
"""

from __future__ import annotations

import logging

from ..errors import Error
from ..files import FileLock
from ..journal.segments import LARGEST_CAPACITY
from .embedded import EmbeddedStore
from .threads import Daemon

CLOSING_PATIENCE_S = 5.0

_log = logging.getLogger("pykesto")


class RoomMaker:
    """Makes room in a thread of its own, which begins with the first wish."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store
        self.daemon = Daemon("journal", self._work)

    def want(self) -> None:
        """Have room made soon. Called by commits."""
        self.daemon.want()

    def _work(self) -> None:
        try:
            self._make()
        except Error as error:
            if not self.daemon.closing:
                _log.debug("no room was made in the journal of %s: %s", self.store.layout.directory, error)

    def _make(self) -> None:
        store = self.store
        lock = FileLock(store.layout.lock("room"), mode=store.mode)
        try:
            if lock.try_acquire():
                newest = store.segments.get(store.state.segment)
                store.segments.prepare(min(LARGEST_CAPACITY, 2 * newest.header.capacity))
        finally:
            lock.release()  # a process that was forked meanwhile shares it, and would keep it
            lock.close()
        store.sync.make_durable(store.state.end)

    def close(self) -> None:
        """End the thread, when it is through with what it does."""
        self.daemon.close(CLOSING_PATIENCE_S)
