"""One version of the whole database, read from a base and the overlay above it."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.time cimport time

from pykesto._stored cimport Row, stored
from pykesto._system cimport current_pid
from pykesto._tc cimport TakeRow, row_in_place, rows_in_place
from pykesto.codec._codec cimport row_of
from pykesto.engine.finding cimport IndexView
from pykesto.engine.guard cimport TAIL, put_key, stored_key, take_columns, take_row
from pykesto.engine.listed cimport Listed
from pykesto.engine.overlay cimport Overlay, Table, Version

from pykesto.engine.finding import key_batches

from datetime import datetime, timezone

from pykesto.errors import ClosedError, UsageError

cdef enum:
    KEY_ROOM = 128  # for a stored key: most are shorter


cdef object row_above(Version version):
    return stored(version.number, version.packed())


cdef object row_below(rows, bytes key):
    """The row of a base, or None."""
    cdef char room[KEY_ROOM]
    cdef Py_ssize_t size = PyBytes_GET_SIZE(key) + TAIL
    cdef bytes stored
    if size <= KEY_ROOM:
        put_key(room, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key))
        return row_in_place(rows, room, <int>size, take_row)
    stored = stored_key(key)
    return row_in_place(rows, PyBytes_AS_STRING(stored), <int>size, take_row)


cdef object columns_above(Version version):
    cdef bytes image = version.packed()
    return row_of(PyBytes_AS_STRING(image), PyBytes_GET_SIZE(image), None)


cdef class Used:
    """What snapshots use, and how many do; the view closes it when none does any more."""


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
        return self.row_of(table, key)

    cdef Row row_of(self, str table, bytes key):
        cdef Version version = self.overlay.visible(table, key, self.version)
        if version is not None:
            return None if version.is_deleted() else row_above(version)
        found = (<dict>self.base.open_tables).get(table)
        if found is None:
            found = self.base.table(table)
            if found is None:
                return None
        return row_below(found, key)

    def version_of(self, str table, bytes key not None):
        """The number of the commit that wrote the row; 0 if there is none."""
        self.refuse_unusable()
        cdef Version version = self.overlay.visible(table, key, self.version)
        cdef Row row
        if version is not None:
            return 0 if version.is_deleted() else version.number
        row = self.row_of(table, key)
        return 0 if row is None else row.version

    def scan(self, str table, lo=None, hi=None, *, bint reverse=False):
        """The rows with lo <= key < hi, in key order."""
        for keys in self.scan_keys(table, lo, hi, reverse=reverse):
            for key, row in zip(keys, self.get_many(table, keys)):
                if row is not None:
                    yield key, row

    def scan_keys(self, str table, lo=None, hi=None, *, bint reverse=False):
        """The keys with lo <= key < hi, in order, in batches. Some may have no row."""
        self.refuse_unusable()
        return key_batches(self.base.pages(table, ""), self.overlay.keys_between(table, lo, hi), lo, hi, reverse)

    def get_many(self, str table, list keys not None):
        """The row of each key, or None."""
        return self.made_of(table, keys, take_row, row_above)

    def columns_of(self, str table, list keys not None):
        """The columns of each key's row as a dict of plain values, or None."""
        return self.made_of(table, keys, take_columns, columns_above)

    cdef list made_of(self, str table, list keys, TakeRow take_below, TakeVersion take_above):
        self.refuse_unusable()
        cdef Table above = self.overlay.tables.get(table)
        cdef list found, below, filled
        cdef Version version
        cdef Py_ssize_t i, at = 0
        rows = self.base.table(table)
        if above is None or not above.rows:
            return [None] * len(keys) if rows is None else rows_in_place(rows, keys, put_key, TAIL, take_below)
        found, below = [], []
        for key in keys:
            version = self.version_in(above, <bytes?>key)
            if version is None:
                below.append(key)
                found.append(below)  # a place to fill in
            else:
                found.append(None if version.is_deleted() else take_above(version))
        if below:
            filled = [None] * len(below) if rows is None else rows_in_place(rows, below, put_key, TAIL, take_below)
            for i in range(len(found)):
                if found[i] is below:
                    found[i] = filled[at]
                    at += 1
        return found

    cdef Version version_in(self, Table above, bytes key):
        """The version in the overlay that this snapshot sees, or None."""
        if not above.may_hold(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)):
            return None
        cdef Version row = above.rows.get(key)
        while row is not None and row.number > self.version:
            row = row.older
        return row

    # Through indexes

    cdef object view_of(self, str table, str index):
        """The index of that name as this snapshot sees it, or None; the same all the time."""
        found = self.index_views.get((table, index), self)
        if found is not self:
            return found
        cdef Listed listed = self.overlay.listed(table, index)
        found = None
        if listed is not None:
            pages = self.base.pages(table, index)
            if pages is not None or not self.base.holds(table):
                rows = self.base.table(table)
                found = IndexView(self.overlay, listed, pages, rows, table, self.base.mark.version, self.version)
        self.index_views[(table, index)] = found
        return found

    cdef IndexView known_view(self, str table, str index):
        self.refuse_unusable()
        found = self.view_of(table, index)
        if found is None:
            raise UsageError(f"{table} has no index {index!r}")
        return found

    def indexed(self, str table, str index):
        """Whether the index of that name can be asked."""
        return self.view_of(table, index) is not None

    def find(self, str table, str index, bytes lo, bytes hi, *, bint reverse=False):
        """The entries (term, key) with lo <= term < hi, in the order of terms, in batches."""
        return self.known_view(table, index).batches(lo, hi, reverse)

    def keys(self, str table, str index, bytes lo, bytes hi):
        """The keys of the entries that `find` gives, in any order."""
        return self.known_view(table, index).keys(lo, hi)

    def keys_of_both(self, str table, one not None, other not None):
        """The keys that are in each of two ranges (index, lo, hi) of different indexes."""
        return self.known_view(table, one[0]).keys_of_both(
            one[1], one[2], self.known_view(table, other[0]), other[1], other[2]
        )

    def count(self, str table, str index, bytes lo=None, bytes hi=None):
        """How many entries `find` would give; of the index "", how many rows have lo <= key < hi."""
        if not index:
            return self.count_rows(table, lo, hi)
        return self.known_view(table, index).count(lo, hi)

    def estimate(self, str table, str index, bytes lo=None, bytes hi=None):
        """About what `count` would give."""
        if not index:
            pages = self.base.pages(table, index)
            return self.overlay.count_keys(table, lo, hi) + (0 if pages is None else pages.estimate(lo, hi))
        return self.known_view(table, index).estimate(lo, hi)

    cdef object count_rows(self, str table, bytes lo, bytes hi):
        self.refuse_unusable()
        rows = self.base.table(table)
        cdef Py_ssize_t found = 0 if rows is None else self.base.pages(table, "").count(lo, hi)
        cdef Version version
        for key in self.overlay.keys_between(table, lo, hi):
            version = self.overlay.visible(table, key, self.version)
            if version is not None:
                found += not version.is_deleted()
                found -= rows is not None and stored_key(<bytes>key) in rows
        return found

    def lacks(self, str table, str index):
        """Whether some row may have no entry in an index of one column."""
        return self.known_view(table, index).lacks(self.base.row_count(table))

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

cdef BaseSnapshot snapshot_of(owner, Used base, Overlay overlay, uint64_t position):
    """What is committed up to `position`, on this base and this overlay."""
    cdef BaseSnapshot snapshot = BaseSnapshot.__new__(BaseSnapshot)
    snapshot.owner = owner
    snapshot.base = base
    snapshot.overlay = overlay
    snapshot.version = overlay.version
    snapshot.position = position
    snapshot.began_s = <uint64_t>time(NULL)
    snapshot.pid = current_pid()
    snapshot.index_views = {}
    return snapshot
