"""What a part of the journal leaves of each row: its newest image, gathered for a base.

A commit that changes no schema, and writes to tables that are known, is taken without the interpreter: as a pointer for
each row into the journal's bytes, which are kept. At the end they are sorted, and the newest of each row remains. In the
order of the keys is also how a base takes them best.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort, realloc
from libc.string cimport memcmp, memcpy

from pykesto._stored cimport Row, stored
from pykesto._tc cimport Change, apply_in_place, bytes_order
from pykesto.engine.content cimport DELETED, Commit, changes_schema, unpack_commit
from pykesto.engine.guard cimport HEAD, TAIL, put_key, put_row
from pykesto.journal.reader cimport Follower

cdef extern from "pykesto/numbers.h" nogil:
    uint32_t kesto_u32(const char *at)

cdef enum:
    LOOKS = 64  # at names of tables, for one

# What the heading of a commit that changes no schema ends with: JSON's last member, behind whatever is said of the commit.
cdef bytes _plain_end = b', "schema": []}'
cdef const char *PLAIN_END = PyBytes_AS_STRING(_plain_end)
cdef Py_ssize_t PLAIN_END_SIZE = PyBytes_GET_SIZE(_plain_end)
cdef Py_ssize_t COMPACT_BYTES = 64 << 20  # of journal, of which then only the newest images are kept


cdef bint take_pair(const char **at, const char *end, uint32_t *one, uint32_t *other) noexcept nogil:
    """Go past two numbers; false if they are not there."""
    if end - at[0] < 8:
        return False
    one[0], other[0] = kesto_u32(at[0]), kesto_u32(at[0] + 4)
    at[0] += 8
    return True


cdef int newest_last(const void *one, const void *other) noexcept nogil:
    """By table, key and version."""
    cdef const Image *a = <const Image *>one
    cdef const Image *b = <const Image *>other
    if a.table != b.table:
        return 1 if a.table > b.table else -1
    cdef int order = bytes_order(a.key, a.key_size, b.key, b.key_size)
    return order if order else (a.version > b.version) - (a.version < b.version)


cdef bint is_same_row(const Image *a, const Image *b) noexcept nogil:
    return a.table == b.table and a.key_size == b.key_size and memcmp(a.key, b.key, a.key_size) == 0


@cython.final
cdef class Newest(Follower):
    """Gathers images, for `Reader.gather`. `schema` is brought forward with the commits.

    Attributes:
        commits: how many were taken.
        unpacked: how many of them the interpreter was asked for.
    """

    def __init__(self, schema not None, *, Py_ssize_t compact_bytes=COMPACT_BYTES):
        self.schema = schema
        self.kept = []
        self.numbers = {}
        self.names = []
        self.compact_bytes = self.bytes_left = compact_bytes

    def __dealloc__(self):
        free(self.images)
        free(self.tables_seen)

    cdef int keep(self, bytes block) except -1:
        if self.bytes_left < 0:
            self.compact()
        self.bytes_left -= PyBytes_GET_SIZE(block)
        self.kept.append(block)
        return 0

    cdef int compact(self) except -1:
        """Copy the newest images, and let go of the journal's bytes."""
        cdef Py_ssize_t size = 0
        cdef Py_ssize_t i
        with nogil:
            self.settle()
            for i in range(self.count):
                size += <Py_ssize_t>self.images[i].key_size + self.images[i].image_size
        cdef bytes copy = PyBytes_FromStringAndSize(NULL, size)
        cdef char *at = PyBytes_AS_STRING(copy)
        with nogil:
            for i in range(self.count):
                memcpy(at, self.images[i].key, self.images[i].key_size)
                self.images[i].key = at
                at += self.images[i].key_size
                if self.images[i].image is not NULL:
                    memcpy(at, self.images[i].image, self.images[i].image_size)
                    self.images[i].image = at
                    at += self.images[i].image_size
        self.kept = [copy]
        self.bytes_left = max(self.compact_bytes, size)  # so that no byte is copied more than a few times
        return 0

    cdef bint take_kept(self, uint64_t number, const char *payload, Py_ssize_t size) noexcept nogil:
        cdef Py_ssize_t before = self.count
        if self.take_images(number, payload, payload + size):
            self.commits += 1
            return True
        self.count = before
        return False

    cdef bint take_images(self, uint64_t number, const char *at, const char *end) noexcept nogil:
        """Take the commit in this payload; false if more is to be known, or it is none: it is for `take` to say that."""
        cdef uint32_t tables, rows, name_size, key_size, image_size
        cdef Py_ssize_t table
        cdef int64_t heading_size
        if end - at < 12:
            return False
        heading_size = kesto_u32(at + 8)  # behind the time
        at += 12
        if heading_size < PLAIN_END_SIZE or end - at < heading_size + 4:
            return False
        at += heading_size
        if memcmp(at - PLAIN_END_SIZE, PLAIN_END, PLAIN_END_SIZE):
            return False
        tables = kesto_u32(at)
        at += 4
        while tables:
            tables -= 1
            if not take_pair(&at, end, &name_size, &rows) or end - at < name_size:
                return False
            table = self.table_named(at, name_size)
            if table < 0:
                return False
            at += name_size
            while rows:
                rows -= 1
                if not take_pair(&at, end, &key_size, &image_size):
                    return False
                if end - at < <int64_t>key_size + (0 if image_size == DELETED else image_size):
                    return False
                if not self.add(<uint32_t>table, at, key_size, at + key_size, image_size, number):
                    return False
                at += key_size + (0 if image_size == DELETED else image_size)
        return at == end

    cdef Py_ssize_t table_named(self, const char *name, Py_ssize_t size) noexcept nogil:
        """The number of a table of the schema; -1: it is for Python to find."""
        cdef Py_ssize_t table = self.latest
        cdef Py_ssize_t looks = 0
        while looks < min(self.tables_count, LOOKS):
            if table >= self.tables_count:
                table = 0
            if self.tables_seen[table].size == size and memcmp(self.tables_seen[table].name, name, size) == 0:
                self.latest = table
                return table if self.tables_seen[table].known else -1
            table += 1
            looks += 1
        return -1

    cdef int take(self, uint64_t number, const char *payload, Py_ssize_t size) except -1:
        cdef Commit commit = unpack_commit(PyBytes_FromStringAndSize(payload, size))
        cdef bint changed = changes_schema(commit, self.schema.known)
        if changed:
            self.schema.apply(commit.schema, commit.rows)
        self.kept.append(commit)
        self.bytes_left -= size
        for table, images in commit.rows.items():
            self.take_rows(number, table, <dict?>images)
        self.commits += 1
        self.unpacked += 1
        for name in self.numbers if changed else commit.rows:
            self.tables_seen[<Py_ssize_t>self.numbers[name]].known = name in self.schema.known
        return 0

    cdef int take_rows(self, uint64_t number, str name, dict images) except -1:
        cdef uint32_t table = self.number_of(name)
        for key, image in images.items():
            if not self.add(
                table, PyBytes_AS_STRING(<bytes?>key), <uint32_t>PyBytes_GET_SIZE(<bytes>key),
                NULL if image is None else PyBytes_AS_STRING(<bytes?>image),
                DELETED if image is None else <uint32_t>PyBytes_GET_SIZE(<bytes>image), number,
            ):
                raise MemoryError
        return 0

    cdef uint32_t number_of(self, str name) except? 0xFFFFFFFF:
        cdef Seen *grown
        cdef bytes encoded
        found = self.numbers.get(name)
        if found is None:
            encoded = name.encode()
            grown = <Seen *>realloc(self.tables_seen, (self.tables_count + 1) * sizeof(Seen))
            if grown is NULL:
                raise MemoryError
            self.tables_seen = grown
            grown += self.tables_count
            grown.name, grown.size, grown.known = PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded), False
            self.names.append(encoded)
            found = self.numbers[name] = self.tables_count
            self.tables_count += 1
        return found

    cdef bint add(
        self, uint32_t table, const char *key, uint32_t key_size, const char *image, uint32_t image_size, uint64_t version
    ) noexcept nogil:
        """Note a version of a row; false if there is no memory for it."""
        cdef Py_ssize_t room
        cdef Image *grown
        cdef Image *one
        if self.count == self.room:
            room = 2 * self.room + 1024
            grown = <Image *>realloc(self.images, room * sizeof(Image))
            if grown is NULL:
                return False
            self.images, self.room = grown, room
        one = &self.images[self.count]
        one.key, one.key_size, one.table, one.version = key, key_size, table, version
        one.image, one.image_size = NULL, 0
        if image_size != DELETED:
            one.image, one.image_size = image, image_size
        self.count += 1
        return True

    cdef int settle(self) noexcept nogil:
        """Keep the newest image of each row."""
        cdef Py_ssize_t kept = 0
        cdef Py_ssize_t i
        if self.count > 1:
            qsort(self.images, self.count, sizeof(Image), newest_last)
        for i in range(self.count):
            if i + 1 == self.count or not is_same_row(&self.images[i], &self.images[i + 1]):
                self.images[kept] = self.images[i]
                kept += 1
        self.count = kept
        return 0

    def tables(self):
        """What was gathered: the name of each table that was written to -> its `Images`."""
        cdef dict found = {}
        cdef list names = list(self.numbers)
        cdef Py_ssize_t start = 0
        cdef Py_ssize_t stop
        with nogil:
            self.settle()
        while start < self.count:
            stop = start
            while stop < self.count and self.images[stop].table == self.images[start].table:
                stop += 1
            found[names[self.images[start].table]] = images_from(self, start, stop)
            start = stop
        return found


cdef Images images_from(Newest newest, Py_ssize_t start, Py_ssize_t stop):
    cdef Images images = Images.__new__(Images)
    images.newest, images.start, images.stop = newest, start, stop
    return images


def images_of(dict rows not None):
    """The same of rows that are there already: key -> `Row`, or None for one that is deleted."""
    cdef Newest newest = Newest(())
    cdef Row one
    newest.kept.append(rows.copy())
    for key, row in rows.items():
        one = row
        newest.take_rows(0 if one is None else one.version, "", {key: None if one is None else one.image})
    return newest.tables().get("") or images_from(newest, 0, 0)


@cython.final
cdef class Images:
    """The newest images of one table's rows, ascending by their keys."""

    def __len__(self):
        return self.stop - self.start

    def items(self):
        """Pairs of a key and its `Row`, or None if it was deleted."""
        cdef Py_ssize_t i
        for i in range(self.start, self.stop):
            yield self.item(&self.newest.images[i])

    cdef tuple item(self, const Image *one):
        key = PyBytes_FromStringAndSize(one.key, one.key_size)
        if one.image is NULL:
            return key, None
        return key, stored(one.version, PyBytes_FromStringAndSize(one.image, one.image_size))

    def apply(self, table, Py_ssize_t at, Py_ssize_t count):
        """Put so many, from the one at `at` on, into a table of a base, or take them out of it."""
        cdef Py_ssize_t first = min(self.start + max(0, at), self.stop)
        cdef Py_ssize_t number = min(max(0, count), self.stop - first)
        cdef const Image *images = self.newest.images + first
        cdef Change *changes = <Change *>calloc(number + 1, sizeof(Change))
        cdef char *rows = NULL
        cdef Py_ssize_t size = 1
        cdef Py_ssize_t i
        for i in range(number):
            size += <Py_ssize_t>images[i].key_size + TAIL
            size += 0 if images[i].image is NULL else HEAD + <Py_ssize_t>images[i].image_size
        rows = <char *>malloc(size)
        try:
            if changes is NULL or rows is NULL:
                raise MemoryError
            with nogil:
                pack_changes(changes, images, number, rows)
            apply_in_place(table, changes, number)
        finally:
            free(rows)
            free(changes)


cdef int pack_changes(Change *changes, const Image *images, Py_ssize_t count, char *at) noexcept nogil:
    """The changes of a table that bring these images in: keys and rows as they are stored, which stand at `at` on."""
    cdef Py_ssize_t i
    for i in range(count):
        changes[i].key, changes[i].key_size = at, <int>images[i].key_size + TAIL
        at = put_key(at, images[i].key, images[i].key_size)
        if images[i].image is not NULL:
            changes[i].row, changes[i].row_size = at, HEAD + <int>images[i].image_size
            at = put_row(
                at, images[i].version, changes[i].key, changes[i].key_size, images[i].image, images[i].image_size
            )
    return 0
