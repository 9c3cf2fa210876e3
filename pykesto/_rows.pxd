"""What compiled code reaches of tables and rows without a call through Python."""

from pykesto._session cimport Session


cdef class TableSession(Session):
    pass


cdef class TableCore:
    cdef readonly Session _session
    cdef readonly str table, label
    cdef readonly dict _changed
    cdef readonly dict _rows
    cdef Py_ssize_t _prune_at
    cdef bint _plain
    cdef set _keys
    cdef list _merging
    cdef bytes _policies_key
    cdef long _keys_epoch

    cdef int set_up(self, Session session, str name, str prefix) except -1
    cdef object lookup(self, bytes key)
    cdef RowCore find(self, bytes key)
    cdef RowCore known(self, bytes key)
    cdef RowCore held(self, bytes key)
    cdef RowCore adopt(self, bytes key)
    cdef int prune(self) except -1
    cdef RowCore row_of_change(self, bytes key, change)
    cdef int assign(self, bytes key, bytes image) except -1
    cdef bint remove(self, bytes key) except -1
    cdef int note(self, RowCore row) except -1
    cdef bint has_policies(self) except -1


cdef class RowCore:
    cdef object __weakref__
    cdef readonly TableCore _table
    cdef readonly bytes _key
    cdef dict _columns
    cdef bytes _image, _base, _sent
    cdef object _version
    cdef long _loaded
    cdef int _state
    cdef bint _opaque

    cdef dict read(self)
    cdef int require(self) except -1
    cdef int unpack(self) except -1
    cdef int fill(self, found) except -1
    cdef int become(self, dict columns, bytes image) except -1
    cdef dict require_writable(self)
    cdef int touch(self) except -1
    cdef int assign(self, bytes image) except -1
    cdef int settle_version(self) except -1
    cdef int delete(self) except -1
    cdef bytes packed(self)
    cdef int unload(self) except -1
