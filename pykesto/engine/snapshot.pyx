"""One version of the whole database, read from a base and the overlay above it."""

cimport cython
from libc.stdint cimport uint64_t
from libc.time cimport time

from pykesto._stored cimport Row, stored
from pykesto._system cimport current_pid
from pykesto.engine.guard cimport unpack_row
from pykesto.engine.overlay cimport Overlay, Version

from datetime import datetime, timezone

from pykesto.errors import ClosedError, UsageError

@cython.final
cdef class BaseSnapshot:
    """A snapshot of the embedded store. Reading takes no lock that a writer holds while it waits.

    `close` gives up the pins; it may be called again, from any thread.
    """

    cdef int refuse_unusable(self) except -1:
        if self.pid != current_pid():
            raise UsageError(
                "the session was begun before a fork, in the parent", hint="begin a new session in this process"
            )
        if self.owner.closed:
            self.owner.require_open()
        if self.closed:
            raise ClosedError("the session's snapshot has ended")
        return 0

    def require_usable(self):
        """Refuse a snapshot that pins nothing here: of the parent of a fork, or of a closed database."""
        self.refuse_unusable()

    cpdef Row get(self, str table, bytes key):
        """The row, or None."""
        self.refuse_unusable()
        cdef Version version = self.overlay.visible(table, key, self.version)
        if version is not None:
            return None if version.image is None else stored(version.number, version.image)
        found = (<dict>self.base.open_tables).get(table)
        if found is None:
            found = self.base.table(table)
            if found is None:
                return None
        cdef bytes raw = found.get_raw(key)
        return None if raw is None else unpack_row(key, raw, found)

    def scan(self, str table, lo=None, hi=None, *, bint reverse=False):
        """The rows with lo <= key < hi, in key order."""
        self.refuse_unusable()
        cdef list overlay_keys = self.overlay.keys_between(table, lo, hi)
        cdef Row row
        if reverse:
            overlay_keys.reverse()
        base_keys = self.base.keys(table, lo, hi, reverse=reverse)
        for key in merged(base_keys, overlay_keys, reverse) if overlay_keys else base_keys:
            row = self.get(table, key)
            if row is not None:
                yield key, row

    def find(self, str table, str column, bytes lo not None, bytes hi not None):
        """Keys of rows whose encoded value in an indexed column may be in lo <= value < hi: a superset, each once."""
        entries = self.overlay.index_between(table, column, lo, hi)
        if entries is None:  # dropped since the query was planned
            for key, _ in self.scan(table):
                yield key
            return
        self.refuse_unusable()
        cdef set seen = set()
        for _, key in entries:
            if key not in seen:
                seen.add(key)
                yield key
        for _, key in self.base.find(table, column, lo, hi):
            # A row with a visible version in the overlay is found by that one's entry, or not at all.
            if key not in seen and self.overlay.visible(table, key, self.version) is None:
                yield key

    def indexed(self, str table, str column):
        """Whether `find` can serve this column."""
        return self.overlay.indexed(table, column) and self.base.indexed(table, column)

    def indexes(self, str table):
        """The indexes of a table."""
        return self.overlay.indexes(table)

    def tables(self):
        """The tables that there are, by their stored names."""
        return tuple(self.overlay.schema.tables())

    def about(self, uint64_t number):
        """Who made a commit, when and why, as fields of a `Conflict`; empty if that is not in memory any more."""
        for applied in self.overlay.since(number - 1):
            if applied.number == number:
                made = datetime.fromtimestamp(applied.time_ms / 1000, timezone.utc) if applied.time_ms else None
                return {"note": applied.about.get("note"), "pid": applied.about.get("pid"), "time": made}
        return {}

    def close(self):
        """Give up the pins."""
        self.owner.end(self)


def merged(base_keys, list overlay_keys, bint reverse):
    """Two ordered streams as one, each key once."""
    one, other = iter(base_keys), iter(overlay_keys)
    a, b = next(one, None), next(other, None)
    while a is not None or b is not None:
        if a == b:
            yield a
            a, b = next(one, None), next(other, None)
        elif b is None or (a is not None and (a > b if reverse else a < b)):
            yield a
            a = next(one, None)
        else:
            yield b
            b = next(other, None)


cdef BaseSnapshot snapshot_of(owner, base, Overlay overlay, uint64_t position):
    """What is committed up to `position`, on this base and this overlay."""
    cdef BaseSnapshot snapshot = BaseSnapshot.__new__(BaseSnapshot)
    snapshot.owner = owner
    snapshot.base = base
    snapshot.overlay = overlay
    snapshot.version = overlay.version
    snapshot.position = position
    snapshot.began_s = <uint64_t>time(NULL)
    snapshot.pid = current_pid()
    return snapshot
