"""What passes the waist with each read and commit: `pykesto.store` is the face."""

cimport cython
from libc.stdint cimport uint64_t


@cython.final
cdef class Row:
    """A row of one version: the number of the commit that wrote it, and its columns packed."""

    def __init__(self, uint64_t version, bytes image not None):
        self.version = version
        self.image = image

    def __eq__(self, other):
        if not isinstance(other, Row):
            return NotImplemented
        return self.version == (<Row>other).version and self.image == (<Row>other).image

    def __hash__(self):
        return hash((self.version, self.image))

    def __repr__(self):
        return f"Row(version={self.version}, image={self.image!r})"


cdef Row stored(uint64_t version, bytes image):
    """A row, made without a call through Python."""
    cdef Row row = Row.__new__(Row)
    row.version = version
    row.image = image
    return row


@cython.final
cdef class Reads:
    """What a session has seen: keys looked up (found or not), and predicates."""

    def __cinit__(self):
        self.keys = {}
        self.predicates = []

    cdef set keys_of(self, str table):
        found = self.keys.get(table)
        if found is None:
            found = self.keys[table] = set()
        return found

    def key(self, str table not None, bytes key not None):
        """Remember that a key was looked up."""
        self.keys_of(table).add(key)


@cython.final
cdef class Writes:
    """What a session wants to change: table -> key -> new image, or None to delete the row; and the schema.

    `merges`, table -> `Merge`: what can be done, in place of a conflict, where another commit changed a row too.
    """

    def __init__(self, dict rows not None, list schema not None, dict merges=None):
        self.rows = rows
        self.schema = schema
        self.merges = merges

    cdef bint any_at_all(self) except -1:
        if self.schema:
            return True
        for changes in self.rows.values():
            if changes:
                return True
        return False

    def __bool__(self):
        return self.any_at_all()
