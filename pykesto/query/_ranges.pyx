"""A comparison as ranges of encoded values: what an index can answer, and what a packed row is tested with.

What it says to people is put together when somebody asks: most comparisons are never shown.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from pykesto.codec._codec cimport column_of

from pykesto.codec.terms import value_at

KEY_COLUMNS = frozenset({"k_key", "k_id"})

cdef object key_columns = KEY_COLUMNS


cdef class RangesCore:
    """The encoded value of a column is in one of some ranges lo <= value < hi, in order and apart."""

    def __init__(self, str column not None, tuple ranges not None, text not None, str kind="range", operand=None):
        self.column, self.ranges, self.kind, self.operand = column, ranges, kind, operand
        self._text = text

    @property
    def text(self):
        """In words."""
        if type(self._text) is tuple:
            form, *operands = self._text
            self._text = form.format(*operands)
        return self._text

    def on(self, str column not None):
        """The same, of another column; in the same words."""
        return type(self)(column, self.ranges, self._text, self.kind, self.operand)

    def matches(self, bytes key not None, bytes image not None):
        """Whether the packed row under the encoded key meets the condition."""
        value = encoded_at(self.column, key, image)
        return value is not None and is_in(value, self.ranges)

    def __str__(self):
        return self.text

    def __repr__(self):
        return f"{type(self).__name__}({self.column!r}, {self.ranges!r}, {self.text!r})"

    def __eq__(self, other):
        if not isinstance(other, RangesCore):
            return NotImplemented
        cdef RangesCore one = <RangesCore>other
        return (self.column, self.ranges, self.kind) == (one.column, one.ranges, one.kind)

    def __hash__(self):
        return hash((self.column, self.ranges, self.kind))


cpdef bytes encoded_at(str column, bytes key, bytes image):
    """The encoded value of a column, of the key, or of a path with dots into nested dicts; None where it is missing."""
    if column in key_columns:
        return key
    if "." in column:
        return value_at(image, column)
    cdef bytes name = column.encode()
    return column_of(
        PyBytes_AS_STRING(image), PyBytes_GET_SIZE(image), PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)
    )


cdef bint is_in(bytes value, tuple ranges) except -1:
    """Whether an encoded value is in one of the ranges."""
    for pair in ranges:
        if not less(value, <bytes?>(<tuple?>pair)[0]) and less(value, <bytes?>(<tuple>pair)[1]):
            return True
    return False
