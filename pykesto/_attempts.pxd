"""The attempts of a transaction, for compiled modules."""

from pykesto._database cimport DatabaseCore
from pykesto._session cimport Session


cdef class Attempts:
    cdef DatabaseCore database
    cdef object options, note, retry_for_s
    cdef int left
    cdef readonly int made
    cdef double began_s, pause_s
    cdef Attempt attempt  # the newest
    cdef Attempt next(self)
    cdef bint another(self, conflict) except -1


cdef class Attempt:
    cdef DatabaseCore database
    cdef object token, in_turn
    cdef Session session
    cdef Attempts attempts  # until the end
    cdef readonly bint goes_on
    cdef readonly object version
    cdef Session enter(self)
    cdef bint leave(self, error) except -1
    cdef int end_turn(self) except -1
    cdef int note_contention(self) except -1
