"""The driver of Tokyo Cabinet's table database: files of rows, each a key and columns, all bytes.

Usable alone, through `pykesto.tc`. It promises that what would abort, hang or crash inside the library,
or lose data, raises instead: empty indexed values, nested transactions, use after fork, two handles of
one file, damaged headers. It knows nothing of versions, journals or Python values.

Threads may share a `Table`: every call takes the table's own lock, waiting without the GIL. Calls into the
library that may block run without the GIL too; reads of one row keep it, since letting it go costs more
than the read.
"""

import atexit
import bz2
import enum
import fcntl
import itertools
import mmap
import os
import re
import resource
import stat
import time
import typing
import urllib.parse
import zlib
from collections.abc import ItemsView, KeysView, Mapping, MutableMapping, ValuesView
from contextlib import suppress
from copy import copy as error_again  # an exception raised twice would gather two tracebacks
from decimal import Decimal

from pykesto._system import crc32c
from pykesto.errors import (
    ClosedError,
    CorruptionError,
    FormatError,
    LockTimeout,
    ReadOnlyError,
    StorageError,
    UsageError,
)
from pykesto.files import read_at, sync_file, translated
from pykesto.files import sync_directory as _sync_directory

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.pythread cimport (
    NOWAIT_LOCK,
    WAIT_LOCK,
    PyThread_acquire_lock,
    PyThread_allocate_lock,
    PyThread_free_lock,
    PyThread_get_thread_ident,
    PyThread_release_lock,
    PyThread_type_lock,
)
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.errno cimport EDQUOT, EFBIG, ENOENT, ENOMEM, ENOSPC
from libc.limits cimport INT_MAX
from libc.stdint cimport INT64_MAX, UINT64_MAX, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memchr, memcmp, memcpy, strlen


cdef extern from "string.h" nogil:
    void *memrchr(const void *block, int byte, size_t size)


cdef extern from "Python.h":
    int Py_EnterRecursiveCall(const char *where) except *  # not 0: an exception is set
    void Py_LeaveRecursiveCall()


cdef extern from *:
    """
    /* The library's calls of sched_yield come here, where it is linked statically (setup.py says why). */
    int __wrap_sched_yield(void) { return 0; }
    """


catch_fatal()


# One compiled module, since only one may link the library; a file for each noun. A class that is too long for one
# file is a chain: _OpenTable, _Rows, _Changes, _Upkeep, Table.
include "_tc_errors.pxi"
include "_tc_rows.pxi"
include "_tc_codec.pxi"
include "_tc_handles.pxi"
include "_tc_headers.pxi"
include "_tc_files.pxi"
include "_tc_options.pxi"
include "_tc_open.pxi"
include "_tc_mapping.pxi"
include "_tc_changes.pxi"
include "_tc_upkeep.pxi"
include "_tc_table.pxi"
include "_tc_cursors.pxi"
include "_tc_pages.pxi"
include "_tc_places.pxi"
include "_tc_operands.pxi"
include "_tc_searches.pxi"
include "_tc_queries.pxi"
include "_tc_verify.pxi"
