"""A row as a store keeps it: `pykesto.store` is the face."""

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
