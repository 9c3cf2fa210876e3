"""Locks, for compiled modules."""

from libc.stdint cimport uint64_t

from pykesto._system cimport SharedWords


cdef extern from "pythread.h":
    ctypedef void *PyThread_type_lock


cdef class Mutex:
    cdef PyThread_type_lock bell  # rung for one of those who sleep, and silent when one has heard it
    cdef bint rung
    cdef Py_ssize_t sleepers
    cdef unsigned long owner  # the thread that has it, 0: none
    cdef Py_ssize_t depth
    cdef bint try_enter(self) except -1
    cdef int enter(self) except -1
    cdef int leave(self) except -1
    cpdef bint is_mine(self)


cdef class ProcessLock:
    cdef readonly object file
    cdef SharedWords words
    cdef Py_ssize_t first
    cdef bint in_use  # by a thread of this process; read and written with the GIL
    cdef int burst
    cdef int in_a_row
    cdef uint64_t last_taken
    cdef unsigned long owner  # the thread that has it, 0: none of this process
    cdef unsigned long user  # while in use: the thread that takes it, has it or lets go
    cdef bint has_holder(self) except -1
    cdef bint take(self) except -1
    cdef bint take_if_free(self) except -1
    cdef bint ask(self) except -1
    cdef int count(self) except -1
    cdef int give(self) except -1
    cdef int give_mine(self) except -1
    cdef int take_in_time(self, object timeout_s) except -1
    cdef int let_others(self) except -1
    cdef bint sleep(self, bint anyway) except -1
