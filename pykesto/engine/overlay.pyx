"""What was committed since the base: every version of every row that a snapshot here may still need.

One process's copy, made by following the journal. `version` is the number of the newest commit applied. Rows are
chains of versions, newest first; a version that no snapshot sees is dropped when its row is written again, so that a
row which changes all the time takes no more room than one that rests. Ordered maps of keys and of indexed values serve
scans and queries; they hold a superset (entries of older versions too), so whoever uses them looks at the visible row
again.
"""

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.ref cimport PyObject
from libc.stdint cimport uint64_t

from pykesto.engine.content cimport Commit
from pykesto.engine.ordered cimport Ordered

import threading
from bisect import bisect_left
from collections import deque

from pykesto.codec import find_column
from pykesto.engine.schema import Schema

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *of)


@cython.final
@cython.no_gc  # a chain ends, so there is no cycle to look for
cdef class Version:
    """A row as a commit left it (image None: deleted), and the version before, as far as it is kept."""

    def __dealloc__(self):
        # One after another: a row that was written while many sessions were open has a long chain, and to let each
        # version free the one before it would take a level of the stack for each.
        cdef Version rest = self.older
        cdef Version one
        self.older = None
        while rest is not None:
            one = rest
            rest = one.older
            if Py_REFCNT(<PyObject *>one) > 1:
                return
            one.older = None


@cython.final
@cython.no_gc
cdef class Applied:
    """A commit in the overlay: its number, the keys it wrote, table by table, and what it says of itself."""

    @property
    def keys(self):
        """The (table, key) pairs that it changed."""
        return tuple([(table, key) for table, keys in self.touched for key in keys])


@cython.final
cdef class Table:
    """One table's part of the overlay."""

    def __cinit__(self):
        self.rows = {}
        self.keys = Ordered()
        self.indexes = {}


@cython.final
cdef class Overlay:
    """All versions since `mark`, of all tables."""

    def __init__(self, mark, schema, list live not None):
        """`live`: the versions of this process's snapshots, ascending; its owner keeps it."""
        self.live = live
        self.mark = mark  # nothing before it is here
        self.version = mark.version
        self.schema = Schema(schema)
        self.known = self.schema.known
        self.tables = {}
        self.log = deque()
        self.size_bytes = 0
        self.lock = threading.RLock()  # around the ordered maps, which readers copy from
        for table, indexes in schema.items():
            for index in indexes:
                self.build_index(table, index.column)
        self.note_unique()

    cdef Table table(self, str name):
        cdef Table found = self.tables.get(name)
        if found is None:
            found = self.tables[name] = Table()
        return found

    cdef note_unique(self):
        """Know which tables have a rule to check."""
        self.unique_tables = {
            table for table, indexes in self.schema.tables().items() if any(index.unique for index in indexes)
        }

    # Applying commits

    cpdef apply(self, uint64_t number, Commit commit):
        """Take in the commit `number`, the next in the journal."""
        cdef Table table
        cdef Applied applied = Applied.__new__(Applied)
        applied.number, applied.about, applied.time_ms = number, commit.about, commit.time_ms
        applied.touched = tuple([(name, tuple(rows)) for name, rows in commit.rows.items()])
        with self.lock:
            if commit.schema or not self.knows_all(commit.rows):
                self.schema.apply(commit.schema, commit.rows)
            for change in commit.schema:
                self.change_maps(change)
            if commit.schema:
                self.note_unique()
            for name, rows in commit.rows.items():
                table = self.table(name)
                for key, image in (<dict?>rows).items():
                    self.put(table, key, image, number)
            self.log.append(applied)
        self.version = number

    cdef bint knows_all(self, dict tables) except -1:
        """Whether all of these tables have come to be."""
        for name in tables:
            if name not in self.known:
                return False
        return True

    cdef put(self, Table table, bytes key, bytes image, uint64_t number):
        cdef Version version = Version.__new__(Version)
        version.number, version.image, version.older = number, image, table.rows.get(key)
        table.rows[key] = version
        if version.older is None:
            table.keys.add(key)
        elif version.older.older is not None:
            self.prune(table, key, version)
        self.size_bytes += PyBytes_GET_SIZE(key) + (0 if image is None else PyBytes_GET_SIZE(image))
        if image is not None:
            for column, entries in table.indexes.items():
                value = column_value(image, column)
                if value is not None:
                    (<Ordered>entries).add((value, key))

    cdef prune(self, Table table, bytes key, Version newest):
        """Drop the version before the last one, if no snapshot sees it."""
        cdef Version last = newest.older
        cdef Version gone = last.older
        cdef Py_ssize_t at = bisect_left(self.live, last.number) - 1
        if at >= 0 and <uint64_t>self.live[at] >= gone.number:
            return
        last.older = gone.older
        self.size_bytes -= PyBytes_GET_SIZE(key) + (0 if gone.image is None else PyBytes_GET_SIZE(gone.image))
        if table.indexes:
            self.forget_entries(table, key, [gone.image], images(newest, None))

    cdef change_maps(self, change):
        """Keep an ordered map for each index. A dropped table needs no more: the commit deletes its rows."""
        if change.kind == "create_index":
            self.build_index(change.table, change.index.column)
        elif change.kind == "drop_index":
            if all([index.column != change.index.column for index in self.indexes(change.table)]):
                self.table(change.table).indexes.pop(change.index.column, None)
        else:
            self.table(change.table).indexes.clear()

    cdef build_index(self, str name, str column):
        cdef Table table = self.table(name)
        cdef Ordered entries = Ordered()
        cdef Version version
        if column in table.indexes:
            return  # one map serves all rules for a column
        for key, newest in table.rows.items():
            version = newest
            while version is not None:
                value = column_value(version.image, column)
                if value is not None:
                    entries.add((value, key))
                version = version.older
        table.indexes[column] = entries

    # Reading

    cpdef Version visible(self, str table, bytes key, uint64_t version):
        """The newest version of the row that is not newer than `version`; None: look in the base."""
        cdef Table found = self.tables.get(table)
        if found is None:
            return None
        cdef Version row = found.rows.get(key)
        while row is not None and row.number > version:
            row = row.older
        return row

    def newest(self, str table, bytes key):
        """The newest version of the row; None: look in the base."""
        return self.visible(table, key, self.version)

    cdef bint is_untouched(self, str table, keys, uint64_t version) except -1:
        """Whether no commit after `version` wrote any of these rows."""
        cdef Table found = self.tables.get(table)
        cdef Version row
        if found is None:
            return True
        for key in keys:
            row = found.rows.get(key)
            if row is not None and row.number > version:
                return False
        return True

    def rows(self):
        """How many rows are here."""
        return sum([len((<Table>table).rows) for table in self.tables.values()])

    def keys_between(self, str table, lo, hi):
        """The keys with lo <= key < hi, in order."""
        with self.lock:
            found = self.tables.get(table)
            return [] if found is None else (<Table>found).keys.between(lo, hi)

    def index_between(self, str table, str column, lo, hi):
        """The (value, key) entries with lo <= value < hi; None if there is no such index (any more)."""
        with self.lock:
            found = self.tables.get(table)
            entries = None if found is None else (<Table>found).indexes.get(column)
            return None if entries is None else (<Ordered>entries).between((lo,), (hi,))

    def indexed(self, str table, str column):
        """Whether there is a map of the values of a column."""
        found = self.tables.get(table)
        return found is not None and column in (<Table>found).indexes

    def indexes(self, str table):
        """The indexes of a table as of the newest commit."""
        return self.schema.indexes(table)

    def since(self, uint64_t version):
        """The commits after `version`, newest first."""
        for applied in reversed(self.log):
            if (<Applied>applied).number <= version:
                return
            yield applied

    # Forgetting

    cdef bint forget_some(self, mark, Py_ssize_t at_most) except -1:
        """Drop what the base at `mark` holds, of commits with about `at_most` rows; return whether all is dropped.

        No snapshot on an older base may be left. Bit by bit, so that nobody waits while a whole batch is let go.
        """
        cdef uint64_t version = mark.version
        cdef Applied applied
        cdef Table table
        with self.lock:
            while self.log and (<Applied>self.log[0]).number <= version:
                if at_most <= 0:
                    return False
                applied = self.log.popleft()
                for name, keys in applied.touched:
                    table = self.tables[name]
                    at_most -= len(keys)
                    for key in keys:
                        self.forget_key(table, key, version)
            self.mark = mark
        return True

    cdef forget_key(self, Table table, bytes key, uint64_t version):
        cdef Version newest = table.rows.get(key)
        cdef Version kept = None
        cdef Version gone = newest
        while gone is not None and gone.number > version:
            kept, gone = gone, gone.older
        if gone is None:
            return
        if table.indexes:
            self.forget_entries(table, key, images(gone, None), images(newest, gone))
        if kept is not None:
            kept.older = None
        else:
            del table.rows[key]
            table.keys.discard(key)
        while gone is not None:
            self.size_bytes -= PyBytes_GET_SIZE(key) + (0 if gone.image is None else PyBytes_GET_SIZE(gone.image))
            gone = gone.older

    cdef forget_entries(self, Table table, bytes key, list gone, list kept):
        """Drop the index entries of images that are gone, but for those that others of the row have too."""
        for column, entries in table.indexes.items():
            stay = {column_value(image, column) for image in kept}
            for value in {column_value(image, column) for image in gone} - stay - {None}:
                (<Ordered>entries).discard((value, key))


cdef list images(Version version, Version until):
    cdef list found = []
    while version is not until:
        found.append(version.image)
        version = version.older
    return found


def column_value(bytes image, str column):
    """The encoded value of a column, or None where there is none, or no row."""
    return None if image is None else find_column(image, column.encode())
