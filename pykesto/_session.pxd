"""What compiled parts of a session reach without a call through Python."""

from pykesto._stored cimport Reads, Writes


cdef class Session:
    cdef object _store_of, _store, _hooks
    cdef unsigned long _user, _born  # the thread at work; how many forks there had been when the snapshot began
    cdef bint _entered
    cdef readonly long _epoch  # how many snapshots have ended
    cdef readonly object _snapshot
    cdef readonly object _options
    cdef readonly bint _closed
    cdef bint _doomed, _managed, _read_only
    cdef public object note
    cdef public object _catalog  # of names and classes, for the layer of objects
    cdef public dict _parts
    cdef public list _schema
    cdef Reads _reads

    cdef int set_up(self, store, options, note, bint managed) except -1
    cdef object begin(self)
    cdef set keys_read(self, str table)
    cdef int observe(self, str table, condition) except -1
    cdef int require_usable(self) except -1
    cdef int require_writable(self) except -1
    cdef bint take(self) except -1
    cdef int end_snapshot(self) except -1
    cdef int require_alone(self) except -1
    cdef object _terms(self, bint force, durability, isolation)
    cdef object _write(self, terms)
    cdef Writes _writes(self)
    cdef object _written(self, snapshot, writes, terms)
    cdef int _undo(self) except -1
    cdef int warn_of_changes(self) except -1
    cdef int leave(self, bint committed) except -1
    cdef int shut(self) except -1
    cdef int _hook(self, name, fn) except -1
    cdef int _run_hooks(self, name) except -1
