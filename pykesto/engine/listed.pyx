"""The overlay's part of one index: the entries (term, key) of every version of every row above the base.

A superset for any snapshot: entries of older and newer versions are among them. A row without a value in an index of
one column is noted under LACKING, so that it can be told whether all rows have an entry.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from pykesto.codec._codec cimport column_of
from pykesto.engine.ordered cimport Ordered

from pykesto.codec.terms import terms as terms_of
from pykesto.errors import CodecError

cdef tuple LACKING = (b"",)


@cython.final
cdef class Hidden:
    """The entries of a base's index that belong to rows written since, by commits up to `version`."""

    def __cinit__(self):
        self.entries = Ordered()


@cython.final
cdef class Listed:
    """One map for all rules with the same entries."""

    def __init__(self, definition):
        self.definition = definition
        self.entries = Ordered()
        self.column = definition.columns[0].encode() if definition.is_plain else None
        self.notes_lacking = definition.kind == "value" and len(definition.columns) == 1 and not definition.where

    cdef tuple terms(self, bytes image):
        """The terms of a row."""
        if self.column is None:
            return terms_of(image, self.definition)
        cdef bytes value
        try:
            value = column_of(
                PyBytes_AS_STRING(image), PyBytes_GET_SIZE(image),
                PyBytes_AS_STRING(self.column), PyBytes_GET_SIZE(self.column),
            )
        except CodecError:
            return ()
        return () if value is None else (value,)

    cdef int add(self, bytes image, bytes key) except -1:
        """List a version of a row; None is a deleted one."""
        if image is None:
            return 0
        cdef tuple found = self.terms(image)
        if not found and self.notes_lacking:
            found = LACKING
        for term in found:
            self.entries.add((term, key))
        return 0

    cdef int discard(self, bytes key, list gone, list kept) except -1:
        """Drop the entries of images that are gone, but not those that images kept have too."""
        cdef set left = set()
        for image in gone:
            if image is not None:
                left.update(self.terms(image) or LACKING)
        for image in kept:
            if image is not None:
                left.difference_update(self.terms(image) or LACKING)
        for term in left:
            self.entries.discard((term, key))
        return 0
