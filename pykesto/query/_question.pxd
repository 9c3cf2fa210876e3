"""Questions, for compiled modules."""

from pykesto.query._plans cimport Plan, Walk


cdef class Question:
    cdef readonly object source, condition, snapshot, offset, limit
    cdef readonly tuple filters, order
    cdef readonly tuple after  # the key and image of the item behind which the answer begins
    cdef readonly str table
    cdef readonly dict pending
    cdef readonly list parts
    cdef readonly Plan plan
    cdef public Py_ssize_t tested, found  # rows that were looked at, and those that were right
    cdef tuple place_of(self, bytes key)
    cdef object count_stored(self)
    cdef object difference(self)
    cpdef list exact_keys(self)
    cdef list exact_in_key_order(self)
    cdef list exact_along(self)
    cpdef Walk walk(self)
    cpdef bint walk_is_cheaper(self, Walk walk) except -1
