"""One version of the whole database, read from a base and the overlay above it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Protocol

from ..errors import ClosedError, UsageError
from ..store import IndexDefinition, Row
from .base import Base
from .overlay import Overlay, Version


class Owner(Protocol):
    """The attachment that a snapshot belongs to."""

    pid: int

    def require_open(self) -> None: ...

    def end(self, snapshot: BaseSnapshot) -> None: ...


class BaseSnapshot:
    """A snapshot of the embedded store. Reading takes no lock that a writer holds while it waits.

    `close` gives up the pins; it may be called again, from any thread.
    """

    def __init__(self, owner: Owner, base: Base, overlay: Overlay, *, position: int) -> None:
        self.base, self.overlay = base, overlay
        self.version = overlay.version
        self.position = position
        self.began_s = int(time.time())
        self.pid = owner.pid
        self.owner = owner
        self.closed = False

    def require_usable(self) -> None:
        """Refuse a snapshot that pins nothing here: of the parent of a fork, or of a closed database."""
        if self.pid != os.getpid():
            raise UsageError(
                "the session was begun before a fork, in the parent", hint="begin a new session in this process"
            )
        self.owner.require_open()
        if self.closed:
            raise ClosedError("the session's snapshot has ended")

    def get(self, table: str, key: bytes) -> Row | None:
        self.require_usable()
        version = self.overlay.visible(table, key, self.version)
        if version is None:
            return self.base.get(table, key)
        return _row(version)

    def scan(
        self, table: str, lo: bytes | None = None, hi: bytes | None = None, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, Row]]:
        self.require_usable()
        overlay_keys = self.overlay.keys_between(table, lo, hi)
        if reverse:
            overlay_keys.reverse()
        base_keys = self.base.keys(table, lo, hi, reverse=reverse)
        for key in _merged(base_keys, iter(overlay_keys), reverse=reverse):
            row = self.get(table, key)
            if row is not None:
                yield key, row

    def find(self, table: str, column: str, lo: bytes, hi: bytes) -> Iterator[bytes]:
        entries = self.overlay.index_between(table, column, lo, hi)
        if entries is None:  # dropped since the query was planned
            yield from (key for key, _ in self.scan(table))
            return
        self.require_usable()
        seen = set()
        for _, key in entries:
            if key not in seen:
                seen.add(key)
                yield key
        for _, key in self.base.find(table, column, lo, hi):
            # A row with a visible version in the overlay is found by that one's entry, or not at all.
            if key not in seen and self.overlay.visible(table, key, self.version) is None:
                yield key

    def indexed(self, table: str, column: str) -> bool:
        return self.overlay.indexed(table, column) and self.base.indexed(table, column)

    def indexes(self, table: str) -> tuple[IndexDefinition, ...]:
        return self.overlay.indexes(table)

    def tables(self) -> tuple[str, ...]:
        return tuple(self.overlay.schema.tables())

    def close(self) -> None:
        self.owner.end(self)


def _row(version: Version) -> Row | None:
    return None if version.image is None else Row(version.number, version.image)


def _merged(one: Iterator[bytes], other: Iterator[bytes], *, reverse: bool) -> Iterator[bytes]:
    """Two ordered streams as one, each key once."""
    a, b = next(one, None), next(other, None)
    while a is not None or b is not None:
        if a == b:
            yield a  # type: ignore[misc]
            a, b = next(one, None), next(other, None)
        elif b is None or (a is not None and (a > b if reverse else a < b)):
            assert a is not None
            yield a
            a = next(one, None)
        else:
            yield b
            b = next(other, None)
