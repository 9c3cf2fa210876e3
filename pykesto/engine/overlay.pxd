"""The overlay, for compiled modules."""

from libc.stdint cimport uint64_t

from pykesto._locks cimport Mutex
from pykesto.engine.content cimport Commit
from pykesto.engine.keyfilter cimport KeyFilter
from pykesto.engine.listed cimport Listed
from pykesto.engine.ordered cimport Ordered
from pykesto.journal.reader cimport Follower
from pykesto.journal.segment cimport Segment


cdef class Source:
    cdef Segment segment
    cdef uint64_t newest


cdef class Version:
    cdef readonly uint64_t number
    cdef readonly Version older
    cdef bytes held  # the image, once it is in memory
    cdef Source source  # until then: where it is read from
    cdef uint64_t position
    cdef Py_ssize_t record_size
    cdef Py_ssize_t size  # of the image; DELETED_ROW: there is none
    cdef bytes packed(self)
    cdef int read(self) except -1
    cdef bint is_deleted(self) noexcept
    cdef Py_ssize_t bytes_with(self, bytes key) noexcept


cdef class Applied:
    cdef readonly uint64_t number
    cdef str table  # of the only row that it wrote, None if it wrote several
    cdef bytes key
    cdef tuple several
    cdef readonly dict about
    cdef readonly uint64_t time_ms


cdef class Table:
    cdef readonly dict rows
    cdef Ordered keys  # None until somebody asks for an order
    cdef readonly dict indexes
    cdef KeyFilter filter  # None until somebody asks it
    cdef Py_ssize_t chains  # rows with several versions
    cdef uint64_t newest  # the number of the newest version
    cdef Ordered in_order(self)
    cdef bint may_hold(self, const char *key, Py_ssize_t size) except -1
    cdef bint was_read(self, bytes key) except -1
    cdef int note_key(self, bytes key) except -1
    cdef int note_gone(self, bytes key) except -1


cdef class Overlay(Follower):
    cdef readonly object mark
    cdef readonly uint64_t version
    cdef readonly object schema
    cdef readonly dict tables
    cdef readonly object log
    cdef readonly Py_ssize_t size_bytes
    cdef Mutex lock
    cdef set unique_tables
    cdef list live
    cdef dict known
    cdef object sources  # oldest first
    cdef uint64_t sources_bytes
    cdef Source latest
    cdef Source source_here(self)
    cdef int forget_sources(self, uint64_t version) except -1
    cdef int let_go(self) except -1
    cdef int read_rows(self, str table) except -1
    cdef Table table(self, str name)
    cdef int put(self, Table table, bytes key, Version version) except -1
    cdef int end(self, Applied applied) except -1
    cdef prune(self, Table table, bytes key, Version newest)
    cdef change_maps(self, change)
    cdef build_index(self, str table_name, definition)
    cdef list keys_since(self, str table, uint64_t version)
    cdef Listed listed(self, str table, str index)
    cdef list entries_between(self, Listed listed, lo, hi)
    cdef note_unique(self)
    cpdef apply(self, uint64_t number, Commit commit)
    cpdef Version visible(self, str table, bytes key, uint64_t version)
    cdef bint is_untouched(self, str table, keys, uint64_t version) except -1
    cdef bint forget_some(self, mark, Py_ssize_t at_most) except -1
    cdef forget_key(self, Table table, bytes key, uint64_t version)
    cdef forget_entries(self, Table table, bytes key, list gone, list kept)
    cpdef Py_ssize_t count_keys(self, str table, lo, hi) except -1
