"""An index as one snapshot sees it: the base's entries that no newer version hides, and the overlay's that hold.

What is found is exact, so a condition that an index covers need not be looked at again. Versions that the base holds too
may go from the overlay at any time: they are left out here, so that it makes no difference when they go.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t

from pykesto._tc cimport Entry, IndexPages, PageWalk, bytes_order
from pykesto.engine.listed cimport Listed
from pykesto.engine.overlay cimport Overlay, Table, Version

cdef enum:
    FIRST_BATCH = 32
    LAST_BATCH = 1024
    LEAVES_COUNTED = 8  # by an estimate

cdef bytes FIRST_TERM = b"\x01"  # what is listed below it has no term


@cython.final
cdef class IndexView:
    """One index of one table at one version, on a base that holds all up to `base_version`. Without `pages` the table
    has nothing in the base."""

    def __init__(
        self, Overlay overlay not None, Listed listed not None, pages, str table, uint64_t base_version, uint64_t version
    ):
        self.overlay, self.listed, self.pages = overlay, listed, pages
        self.base_version, self.version = base_version, version
        self.table = overlay.tables.get(table)

    cdef bint hidden(self, const Entry *entry) except -1:
        """Whether the overlay has a version of the row for this snapshot."""
        if self.table is None or not self.table.filter.may_hold(entry.key, entry.key_size):
            return False
        cdef Version row = self.table.rows.get(PyBytes_FromStringAndSize(entry.key, entry.key_size))
        while row is not None and row.number > self.version:
            row = row.older
        return row is not None and row.number > self.base_version

    cdef list own(self, bytes lo, bytes hi):
        """The overlay's entries with lo <= term < hi that are true of the version that the snapshot sees."""
        cdef list found = []
        cdef Version newest, row
        if self.table is None or not self.table.rows:
            return found
        with self.overlay.lock:  # so that the entries are those of the versions that are looked at
            for entry in self.overlay.entries_between(self.listed, FIRST_TERM if lo is None else lo, hi):
                newest = row = self.table.rows.get(<bytes>(<tuple>entry)[1])
                while row is not None and row.number > self.version:
                    row = row.older
                if row is None or row.image is None or row.number <= self.base_version:
                    continue
                if row is not newest or row.older is not None or self.listed.dropped:
                    if (<tuple>entry)[0] not in self.listed.terms(row.image):
                        continue
                found.append(entry)
        return found

    cdef list keys(self, bytes lo, bytes hi):
        """The keys of the entries with lo <= term < hi."""
        cdef list found = [(<tuple>entry)[1] for entry in self.own(lo, hi)]
        cdef PageWalk walk
        if self.pages is not None:
            walk = PageWalk.__new__(PageWalk)
            walk.begin(self.pages, lo, hi, False)
            while walk.entry is not NULL:
                if not self.hidden(walk.entry):
                    found.append(PyBytes_FromStringAndSize(walk.entry.key, walk.entry.key_size))
                walk.step()
        return found

    cdef int64_t count(self, bytes lo, bytes hi) except -1:
        """How many entries there are with lo <= term < hi."""
        cdef int64_t found = len(self.own(lo, hi))
        cdef PageWalk walk
        if self.pages is None:
            return found
        found += self.pages.between(lo, hi, 0)
        if self.table is not None and self.table.rows:
            walk = PageWalk.__new__(PageWalk)
            walk.begin(self.pages, lo, hi, False)
            while walk.entry is not NULL:
                found -= self.hidden(walk.entry)
                walk.step()
        return found

    cdef int64_t estimate(self, bytes lo, bytes hi) except -1:
        """About how many: what the overlay hides is counted too."""
        cdef int64_t found = 0
        if self.table is not None and self.table.rows:
            found = self.listed.entries.count_between((FIRST_TERM if lo is None else lo,), (b"\xff\xff\xff" if hi is None else hi,))
        return found if self.pages is None else found + self.pages.between(lo, hi, LEAVES_COUNTED)

    cdef bint lacks(self, int64_t base_rows) except -1:
        """Whether some row may have no entry here; `base_rows` is how many the base has."""
        if (0 if self.pages is None else self.pages.total) != base_rows:
            return True
        return bool(self.overlay.entries_between(self.listed, None, FIRST_TERM))

    def batches(self, bytes lo, bytes hi, bint down):
        """The entries (term, key) with lo <= term < hi, in the order of terms, in lists that grow."""
        cdef list own = self.own(lo, hi)
        cdef list batch = []
        cdef tuple entry
        cdef Py_ssize_t at = 0, count = len(own), room = FIRST_BATCH
        cdef PageWalk walk = PageWalk.__new__(PageWalk)
        if down:
            own.reverse()
        if self.pages is not None:
            walk.begin(self.pages, lo, hi, down)
        while True:
            if walk.entry is not NULL and (at == count or goes_first(walk.entry, <bytes>(<tuple>own[at])[0], down)):
                if not self.hidden(walk.entry):
                    batch.append((
                        PyBytes_FromStringAndSize(walk.entry.term, walk.entry.term_size),
                        PyBytes_FromStringAndSize(walk.entry.key, walk.entry.key_size),
                    ))
                walk.step()
            elif at < count:
                batch.append(own[at])
                at += 1
            else:
                break
            if len(batch) >= room:
                yield batch
                batch, room = [], min(room * 2, LAST_BATCH)
        if batch:
            yield batch


cdef inline bint goes_first(const Entry *entry, bytes term, bint down) noexcept:
    cdef int order = bytes_order(entry.term, entry.term_size, PyBytes_AS_STRING(term), PyBytes_GET_SIZE(term))
    return order >= 0 if down else order <= 0


def key_batches(IndexPages pages, list own, bytes lo, bytes hi, bint down):
    """The keys of a table with lo <= key < hi, in order, in lists that grow: those of the base's key index and the
    overlay's `own`, which are in order. What is deleted, or not there yet, may be among them."""
    cdef list batch = []
    cdef bytes key
    cdef Py_ssize_t at = 0, count = len(own), room = FIRST_BATCH
    cdef PageWalk walk = PageWalk.__new__(PageWalk)
    cdef int order
    if down:
        own.reverse()
    if pages is not None:
        walk.begin(pages, lo, hi, down)
    while walk.entry is not NULL or at < count:
        order = -1
        if at < count:
            key = <bytes>own[at]
            order = 1 if walk.entry is NULL else bytes_order(
                walk.entry.key, walk.entry.key_size, PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key)
            )
            if down and walk.entry is not NULL:
                order = -order
        if order < 0:
            batch.append(PyBytes_FromStringAndSize(walk.entry.key, walk.entry.key_size))
        else:
            batch.append(key)
            at += 1
        if order <= 0:
            walk.step()
        if len(batch) >= room:
            yield batch
            batch, room = [], min(room * 2, LAST_BATCH)
    if batch:
        yield batch
