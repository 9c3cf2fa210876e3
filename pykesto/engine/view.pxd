"""The view, for compiled modules."""

from libc.stdint cimport uint64_t

from pykesto._system cimport SharedWords
from pykesto._locks cimport Mutex
from pykesto.engine.overlay cimport Overlay
from pykesto.engine.snapshot cimport BaseSnapshot, Used
from pykesto.journal.reader cimport Reader
from pykesto.journal.state cimport JournalState


cdef class View:
    cdef readonly object layout
    cdef readonly object segments
    cdef readonly JournalState state
    cdef readonly object control
    cdef readonly bint closed
    cdef readonly Overlay overlay
    cdef readonly Reader reader
    cdef SharedWords words
    cdef Py_ssize_t pins
    cdef Mutex lock
    cdef Used base
    cdef uint64_t base_word
    cdef uint64_t base_position
    cdef list old_bases
    cdef BaseSnapshot oldest
    cdef BaseSnapshot newest
    cdef object ended
    cdef list live
    cdef bint stale
    cdef public Py_ssize_t overlay_bytes_max
    cdef bint busy
    cdef bint forgetting
    cdef uint64_t due_bytes
    cdef object on_due
    cdef bint enter(self) except -1
    cdef int leave(self, bint was) except -1
    cdef int settle(self) except -1
    cdef int release_ended(self) except -1
    cdef int release(self, BaseSnapshot snapshot) except -1
    cdef int unlink(self, BaseSnapshot snapshot) except -1
    cdef BaseSnapshot take(self)
    cdef int publish_pins(self, uint64_t also) except -1
    cdef uint64_t current_word(self) except? 0xFFFFFFFFFFFFFFFF
    cdef int catch_up(self) except -1
    cdef int enter_base(self, uint64_t word) except -1
    cdef int follow_from_base(self) except -1
    cdef int tail(self) except -1
    cdef int forget(self) except -1
    cdef bint is_swollen(self) except -1
    cdef bint is_full(self) except -1
    cdef int note_whether_stale(self) except -1
    cdef int close_unused_bases(self) except -1
