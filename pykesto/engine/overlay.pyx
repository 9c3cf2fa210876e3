"""What was committed since the base: every version of every row that a snapshot here may still need.

One process's copy, made by following the journal. `version` is the number of the newest commit applied. Rows are
chains of versions, newest first; a version that no snapshot sees is dropped when its row is written again, so that a
row which changes all the time takes no more room than one that rests. What others committed, if it is large, stays in
the journal until somebody reads it. Ordered maps of keys and of indexed values serve
scans and queries; they hold a superset (entries of older versions too), so whoever uses them looks at the visible row
again.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.ref cimport Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint32_t, uint64_t

from pykesto._locks cimport Mutex
from pykesto.engine.content cimport (
    DELETED, Commit, Cursor, changes_schema, large_number, name_taken, number, parsed_heading, skipped, taken,
    unpack_commit,
)
from pykesto.engine.keyfilter cimport KeyFilter
from pykesto.engine.listed cimport Listed
from pykesto.engine.ordered cimport Ordered
from pykesto.journal.reader cimport Follower
from pykesto.journal.records cimport Verified, size_with, verify
from pykesto.journal.segment cimport Segment

from bisect import bisect_left
from collections import deque

from pykesto import failpoints as _failpoints
from pykesto.engine.schema import Schema
from pykesto.errors import ClosedError, CorruptionError
from pykesto.failpoints import off

cdef bint ACTIVE = _failpoints.ACTIVE

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *of)
    PyObject *PyDict_SetDefault(dict of, key, default) except NULL


cdef enum:
    DELETED_ROW = -1  # instead of an image's size
    LARGE = 512  # an image that is left in the journal, if no index asks for it: to copy a smaller one costs little
    SOURCES = 16  # segments at most that rows are left in: each is a descriptor, and room on the disk
    SOURCES_BYTES = 256 << 20


@cython.final
@cython.no_gc
cdef class Source:
    """A segment that versions are left in, the last of them that of the commit `newest`."""


@cython.final
@cython.no_gc  # a chain ends, so there is no cycle to look for
cdef class Version:
    """A row as a commit left it (image None: deleted), and the version before, as far as it is kept."""

    @property
    def image(self):
        """The packed row; read from the journal when it is first asked for, and kept then."""
        return self.packed()

    cdef bytes packed(self):
        if self.source is not None:
            self.read()
        return self.held

    cdef int read(self) except -1:
        cdef Source source = self.source
        cdef Segment segment
        cdef Verified found
        cdef bytes block
        if source is None:
            return 0  # another thread was quicker
        segment = source.segment
        if segment is None:
            raise ClosedError("the database was closed in this process meanwhile")
        block = segment.get(self.position, self.record_size)
        if not verify(
            &found, PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block), 0, self.position, self.record_size, segment.salt
        ) or found.number != self.number or found.size < self.size:
            raise CorruptionError(
                "a record changed after it was written", path=segment.path, offset=segment.offset(self.position)
            )
        self.held = PyBytes_FromStringAndSize(found.payload + found.size - self.size, self.size)
        self.source = None
        return 0

    cdef bint is_deleted(self) noexcept:
        return self.size == DELETED_ROW

    cdef Py_ssize_t bytes_with(self, bytes key) noexcept:
        """How much it takes at most, beside what an object takes."""
        return PyBytes_GET_SIZE(key) + (0 if self.size == DELETED_ROW else self.size)

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
    """A commit in the overlay: its number, the keys it wrote, table by table, and what it says of itself.

    Nearly all commits write one row, and tuples would be looked at by every garbage collection.
    """

    @property
    def touched(self):
        """The (table, keys) pairs of what it wrote."""
        return self.several if self.table is None else ((self.table, (self.key,)),)

    @property
    def keys(self):
        """The (table, key) pairs that it changed."""
        return tuple([(table, key) for table, keys in self.touched for key in keys])


@cython.final
cdef class Table:
    """One table's part of the overlay. Most are only asked for single rows: what else is asked is made then."""

    def __cinit__(self):
        self.rows = {}
        self.indexes = {}  # by the names of indexes; replaced, not changed, when one is dropped

    cdef Ordered in_order(self):
        """The keys, ready to be sorted. The caller has the overlay's lock."""
        cdef Ordered made
        if self.keys is None:
            made = Ordered()
            for key in self.rows:
                made.add(key)
            self.keys = made
        return self.keys

    cdef bint may_hold(self, const char *key, Py_ssize_t size) except -1:
        """Whether the key may be here; false is certain."""
        cdef KeyFilter made = self.filter
        if made is None:
            if not self.rows:
                return False
            made = KeyFilter()
            made.resize(len(self.rows) * 2, self.rows)
            self.filter = made  # not before it holds all
        return made.may_hold(key, size)

    cdef bint was_read(self, bytes key) except -1:
        """Whether this process has read or written the row since it came here: it may well do so again."""
        cdef Version known = self.rows.get(key)
        return known is not None and known.held is not None

    cdef int note_key(self, bytes key) except -1:
        """Have a new key where it is asked for, and the filter in the right size."""
        if self.keys is not None:
            self.keys.add(key)
        if self.filter is not None:
            if self.filter.added >= self.filter.bits >> 4:
                self.filter.resize(len(self.rows) * 2, self.rows)
            else:
                self.filter.add(key)
        return 0

    cdef int note_gone(self, bytes key) except -1:
        """Forget a key that has no row any more; with the last, all that is made from keys."""
        if not self.rows:
            self.keys = self.filter = None
        elif self.keys is not None:
            self.keys.discard(key)
        return 0


@cython.final
cdef class Overlay(Follower):
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
        self.sources = deque()
        self.size_bytes = 0
        self.lock = Mutex()  # around the ordered maps, which readers copy from
        for table, indexes in schema.items():
            for index in indexes:
                self.build_index(table, index)
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
        note_touched(applied, commit.rows)
        self.lock.enter()
        try:
            if changes_schema(commit, self.known):
                self.schema.apply(commit.schema, commit.rows)
            if commit.schema:
                for change in commit.schema:
                    if not (ACTIVE and off("overlay.indexes")):
                        self.change_maps(change)
                self.note_unique()
            for name, rows in commit.rows.items():
                table = self.table(name)
                for key, image in (<dict?>rows).items():
                    self.put(table, key, version_of(number, image))
            self.end(applied)
        finally:
            self.lock.leave()

    cdef int take(self, uint64_t number, const char *payload, Py_ssize_t size) except -1:
        """Take in the commit `number` as the journal has it. Of one row nothing is made but what stays."""
        cdef Applied applied = Applied.__new__(Applied)
        cdef Version version = Version.__new__(Version)
        cdef const char *image = NULL
        cdef Table table
        applied.number = version.number = number
        try:
            version.size = single_row(applied, payload, size, &image)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptionError(f"a record of the journal holds no commit: {error}") from error
        if applied.key is None:
            self.apply(number, unpack_commit(PyBytes_FromStringAndSize(payload, size)))
            return 0
        self.lock.enter()
        try:
            table = self.table(applied.table)
            if version.size >= LARGE and not table.indexes and not table.was_read(applied.key):
                version.source = self.source_here()
            if version.source is not None:
                version.source.newest = number
                version.position, version.record_size = self.position, size_with(size)
            elif not version.is_deleted():
                version.held = PyBytes_FromStringAndSize(image, version.size)
            if applied.table not in self.known:
                self.schema.apply((), {applied.table: {applied.key: None if version.is_deleted() else b""}})
            self.put(table, applied.key, version)
            self.end(applied)
        finally:
            self.lock.leave()
        return 0

    cdef Source source_here(self):
        """Where the record that is being taken in can be left; None if as much of the journal is needed for that as may be."""
        cdef Segment segment = self.segment
        cdef uint64_t size
        if segment is None or self.latest is not None and self.latest.segment is segment:
            return None if segment is None else self.latest
        size = segment.end - segment.start
        if len(self.sources) >= SOURCES or self.sources_bytes + size > SOURCES_BYTES:
            return None
        self.latest = Source.__new__(Source)
        self.latest.segment = segment
        self.sources.append(self.latest)
        self.sources_bytes += size
        return self.latest

    cdef int forget_sources(self, uint64_t version) except -1:
        """Let go of segments in which no version after this one was left."""
        cdef Source source
        while self.sources and (<Source>self.sources[0]).newest <= version:
            source = self.sources.popleft()
            self.sources_bytes -= source.segment.end - source.segment.start
            if source is self.latest:
                self.latest = None
        return 0

    cdef int let_go(self) except -1:
        """Close what rows would be read from: nobody may read here any more."""
        for source in self.sources:
            (<Source>source).segment = None
        self.sources.clear()
        self.latest = None
        return 0

    cdef int read_rows(self, str table) except -1:
        """Have all versions of a table's rows in memory."""
        cdef Table found = self.tables.get(table)
        cdef Version version
        if found is not None:
            for newest in list(found.rows.values()):
                version = newest
                while version is not None:
                    version.packed()
                    version = version.older
        return 0

    cdef int end(self, Applied applied) except -1:
        """A commit is in."""
        self.log.append(applied)
        self.version = applied.number
        return 0

    cdef int put(self, Table table, bytes key, Version version) except -1:
        cdef Version older = <Version>PyDict_SetDefault(table.rows, key, version)
        table.newest = version.number
        if older is version:
            table.note_key(key)
        else:
            version.older = older
            table.rows[key] = version
            if older.older is None:
                table.chains += 1
            else:
                self.prune(table, key, version)
        self.size_bytes += version.bytes_with(key)
        if table.indexes:
            for listed in table.indexes.values():
                (<Listed>listed).add(version.packed(), key)
        return 0

    cdef prune(self, Table table, bytes key, Version newest):
        """Drop the version before the last one, if no snapshot sees it."""
        cdef Version last = newest.older
        cdef Version gone = last.older
        cdef Py_ssize_t at = bisect_left(self.live, last.number) - 1
        if at >= 0 and <uint64_t>self.live[at] >= gone.number and not (ACTIVE and off("overlay.versions")):
            return
        last.older = gone.older
        self.size_bytes -= gone.bytes_with(key)
        if table.indexes:
            self.forget_entries(table, key, [gone.packed()], images(newest, None))

    cdef change_maps(self, change):
        """Keep an ordered map for each index. A dropped table needs no more: the commit deletes its rows."""
        cdef Table table = self.table(change.table)
        if change.kind == "create_index":
            self.build_index(change.table, change.index)
        else:
            # A snapshot that has looked goes on with what is dropped here.
            names = {index.name for index in self.indexes(change.table)} if change.kind == "drop_index" else set()
            for name, listed in table.indexes.items():
                if name not in names:
                    (<Listed>listed).dropped = True
            table.indexes = {name: listed for name, listed in table.indexes.items() if name in names}

    cdef build_index(self, str table_name, definition):
        cdef Table table = self.table(table_name)
        cdef Listed listed
        cdef Version version
        cdef str name = definition.name
        if name in table.indexes:
            return  # one map serves all rules with these entries
        listed = Listed(definition)
        for key, newest in table.rows.items():
            version = newest
            while version is not None:
                listed.add(version.packed(), key)
                version = version.older
        table.indexes[name] = listed

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
            return [] if found is None or not (<Table>found).rows else (<Table>found).in_order().between(lo, hi)

    cpdef Py_ssize_t count_keys(self, str table, lo, hi) except -1:
        """How many keys there are with lo <= key < hi, at most."""
        with self.lock:
            found = self.tables.get(table)
            if found is None:
                return 0
            if lo is None and hi is None:
                return len((<Table>found).rows)
            return (<Table>found).in_order().count_between(b"" if lo is None else lo, b"\xff\xff\xff" if hi is None else hi)

    cdef Listed listed(self, str table, str index):
        """The map of an index, or None."""
        found = self.tables.get(table)
        return None if found is None else (<Table>found).indexes.get(index)

    cdef list entries_between(self, Listed listed, lo, hi):
        """The (term, key) entries with lo <= term < hi, None leaving a side open."""
        with self.lock:
            return listed.entries.between(None if lo is None else (lo,), None if hi is None else (hi,))

    def indexes(self, str table):
        """The indexes of a table as of the newest commit."""
        return self.schema.indexes(table)

    def since(self, uint64_t version):
        """The commits after `version`, newest first."""
        for applied in reversed(self.log):
            if (<Applied>applied).number <= version:
                return
            yield applied

    cdef list keys_since(self, str table, uint64_t version):
        """The keys that commits after `version` wrote in a table, each once."""
        cdef set found = set()
        with self.lock:
            for applied in self.since(version):
                for name, keys in (<Applied>applied).touched:
                    if name == table:
                        found.update(keys)
        return list(found)

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
                if applied.table is not None:
                    at_most -= 1
                    self.forget_key(self.tables[applied.table], applied.key, version)
                    continue
                for name, keys in applied.several:
                    table = self.tables[name]
                    at_most -= len(keys)
                    for key in keys:
                        self.forget_key(table, key, version)
            self.mark = mark
            self.forget_sources(version)
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
            table.chains -= newest.older is None
        else:
            table.chains -= newest.older is not None
            del table.rows[key]
            table.note_gone(key)
        while gone is not None:
            self.size_bytes -= gone.bytes_with(key)
            gone = gone.older

    cdef forget_entries(self, Table table, bytes key, list gone, list kept):
        """Drop the index entries of images that are gone, but for those that others of the row have too."""
        for listed in table.indexes.values():
            (<Listed>listed).discard(key, gone, kept)


cdef Version version_of(uint64_t number, bytes image):
    cdef Version version = Version.__new__(Version)
    version.number, version.held = number, image
    version.size = DELETED_ROW if image is None else PyBytes_GET_SIZE(image)
    return version


cdef Py_ssize_t single_row(
    Applied applied, const char *payload, Py_ssize_t size, const char **image
) except? -2:
    """The size of the image of the only row that a payload writes, at whose end it stands; what else it says goes into
    `applied`. No key: it does more."""
    cdef Cursor cursor
    cursor.at, cursor.end = payload, payload + size
    applied.time_ms = large_number(&cursor)
    schema, applied.about = parsed_heading(taken(&cursor, number(&cursor)))
    if schema or number(&cursor) != 1:
        return DELETED_ROW
    cdef uint32_t name_size = number(&cursor)
    cdef uint32_t rows = number(&cursor)
    applied.table = name_taken(&cursor, name_size)
    if rows != 1:
        return DELETED_ROW
    cdef uint32_t key_size = number(&cursor)
    cdef uint32_t image_size = number(&cursor)
    cdef bytes key = taken(&cursor, key_size)
    if image_size != DELETED:
        image[0] = skipped(&cursor, image_size)
    if cursor.at != cursor.end:
        raise ValueError(f"{cursor.end - cursor.at} bytes are left over")
    applied.key = key
    return DELETED_ROW if image_size == DELETED else <Py_ssize_t>image_size


cdef int note_touched(Applied applied, dict rows) except -1:
    """Note what a commit wrote: most often one row."""
    if len(rows) == 1:
        for name, keys in rows.items():
            if len(<dict?>keys) == 1:
                applied.table = name
                for applied.key in <dict>keys:
                    return 0
    applied.several = tuple([(name, keys_of(keys)) for name, keys in rows.items()])
    return 0


cdef tuple keys_of(dict rows):
    """As `tuple(rows)`, which makes one that is too large first."""
    cdef tuple found = PyTuple_New(len(rows))
    cdef Py_ssize_t at = 0, i = 0
    cdef PyObject *key
    while PyDict_Next(rows, &at, &key, NULL):
        Py_INCREF(<object>key)
        PyTuple_SET_ITEM(found, i, <object>key)
        i += 1
    return found


cdef list images(Version version, Version until):
    cdef list found = []
    while version is not until:
        found.append(version.packed())
        version = version.older
    return found
