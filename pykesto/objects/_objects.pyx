"""What is hot of persistent objects: their state, the identity map of a session, loading and packing.

An object that is read is an instance of its class, with its attributes where those of any object are, and nothing of
ours is in the way. One that is not read yet is an instance of its class's *shell*: a subclass without
additions but for `__getattribute__`, which loads, and then gives the object its class.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyObject_GenericGetAttr, PyObject_GenericSetAttr
from cpython.weakref cimport PyWeakref_GetObject, PyWeakref_NewRef
from libc.string cimport memcmp

from pykesto._session cimport Session
from pykesto._stored cimport Row
from pykesto.codec._codec cimport Column, column_of, find_in, next_column, value_of

import os
import time
from collections import deque

from pykesto.codec import decode_key, encode_row
from pykesto.errors import ClosedError, CodecError, UsageError
from pykesto import store
from pykesto.tracked import HOLDERS as _HOLDERS
from pykesto.tracked import TrackedBytearray, TrackedDict, TrackedList, TrackedSet, detach


class _Unset:
    """The type of Unset."""

    __slots__ = ()

    def __repr__(self):
        return "Unset"

    def __bool__(self):
        return False


UNSET = _Unset()

cdef extern from "_objects_held.h":
    int become(object obj, object cls) except -1  # another class of the same layout
    void held_alike(object cls, object shell)
    int held_begin(object obj) except -1
    bint held_next(object obj, Py_ssize_t *at, PyObject **name, PyObject **value) except -1
    PyObject *held_get(object obj, object name) except? NULL
    int held_set(object obj, object name, object value) except -1
    int held_put(object obj, object name, object value, Py_ssize_t *place) except -1
    PyObject *held_in_class(object cls, object name)
    bint holds_any(object obj) except -1
    int held_del(object obj, object name) except -1


cdef extern from "Python.h":
    void PyObject_GC_UnTrack(PyObject *)
    PyObject *PyDict_GetItemWithError(object, object) except? NULL
    object PyObject_GenericGetDict(object, void *)
    int PyObject_GenericSetDict(object, object, void *) except -1
    ctypedef struct PyTypeObject:
        unsigned long tp_flags
    const unsigned long Py_TPFLAGS_IMMUTABLETYPE


def freeze(type cls not None):
    """Let nobody change a class any more.

    What is of such a class can stand in another class under the name of an attribute, and the interpreter still takes
    its short way to that attribute of the objects: it need not fear that the class becomes a descriptor.
    """
    (<PyTypeObject *>cls).tp_flags |= Py_TPFLAGS_IMMUTABLETYPE


TRANSIENT, NEW, CLEAN, DIRTY, DELETED, DETACHED = range(6)
STATES = ("transient", "new", "clean", "dirty", "deleted", "detached")
CACHE_BYTES = 256 << 20
OBJECT_BYTES = 400  # what an object takes beside what is stored of it, about
UNSTORED = "!"  # begins the column of an attribute that was never stored, which only this session knows
UNHINTED = 0xFFF  # in an id: nothing is said of the class

cdef enum:
    transient_, new_, clean_, dirty_, deleted_, detached_

cdef enum:
    unhinted_ = 0xFFF

cdef object new_list = list.__new__, new_dict = dict.__new__, new_set = set.__new__
cdef frozenset HOLDERS = _HOLDERS
cdef frozenset TRACKED = frozenset({TrackedBytearray, TrackedDict, TrackedList, TrackedSet, tuple})
cdef char SCOPE_BYTE = ord(store.SCOPE_COLUMN)
cdef str INITIAL = "_k_initial"
cdef frozenset OWN = frozenset(
    {"_k_space", "_k_key", "_k_state", "_k_awake", "_k_kept", "_k_version", "_k_given"}
)


cdef class Layout
cdef class Space


include "_objects_ids.pxi"
include "_objects_tracked.pxi"
include "_objects_stored.pxi"
include "_objects_layout.pxi"
include "_objects_space.pxi"
