"""Snapshots, for compiled modules."""

from libc.stdint cimport uint64_t

from pykesto._stored cimport Row
from pykesto._tc cimport TakeRow
from pykesto.engine.finding cimport IndexView
from pykesto.engine.overlay cimport Overlay, Table, Version


ctypedef object (*TakeVersion)(Version version)  # makes something of it


cdef class Used:
    cdef readonly Py_ssize_t users


cdef class BaseSnapshot:
    cdef readonly Used base
    cdef readonly Overlay overlay
    cdef readonly uint64_t version
    cdef readonly uint64_t position
    cdef readonly uint64_t began_s
    cdef readonly int pid
    cdef readonly object owner
    cdef readonly bint closed
    # In a list of the view's, oldest first.
    cdef BaseSnapshot before
    cdef BaseSnapshot after
    cdef int refuse_unusable(self) except -1
    cpdef Row get(self, str table, bytes key)
    cdef dict index_views
    cdef object view_of(self, str table, str index)
    cdef IndexView known_view(self, str table, str index)
    cdef Row row_of(self, str table, bytes key)
    cdef object count_rows(self, str table, bytes lo, bytes hi)
    cdef list made_of(self, str table, list keys, TakeRow take_below, TakeVersion take_above)
    cdef Version version_in(self, Table above, bytes key)


cdef BaseSnapshot snapshot_of(owner, Used base, Overlay overlay, uint64_t position)
