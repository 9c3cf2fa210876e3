"""The driver of Tokyo Cabinet's table database: files of rows, each a key and columns, all bytes.

Usable alone, through `pykesto.tc`. It promises that what would abort, hang or crash inside the library,
or lose data, raises instead: empty indexed values, nested transactions, use after fork, two handles of
one file, damaged headers. It knows nothing of versions, journals or Python values.

Threads may share a `Table`: every call takes the table's own lock, waiting without the GIL. Calls into the
library that may block run without the GIL too; reads of one row keep it, since letting it go costs more
than the read.
"""

import atexit
import fcntl
import os
import re
import stat
import time
from collections.abc import ItemsView, KeysView, Mapping, MutableMapping, ValuesView
from copy import copy as error_again  # an exception raised twice would gather two tracebacks
from decimal import Decimal

from pykesto.errors import (
    ClosedError,
    CorruptionError,
    FormatError,
    ReadOnlyError,
    StorageError,
    UsageError,
)
from pykesto.files import read_at, translated
from pykesto.files import sync_directory as _sync_directory

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
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
from libc.errno cimport ENOENT, ENOSPC
from libc.limits cimport INT_MAX
from libc.stdint cimport UINT64_MAX, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memchr, memcmp, strlen


cdef extern from *:
    """
    /* The library's calls of sched_yield come here, where it is linked statically (setup.py says why). */
    int __wrap_sched_yield(void) { return 0; }
    """


# One compiled module, since only one may link the library; a file for each noun. A class that is too long for one
# file is a chain: _OpenTable, _Rows, _Upkeep, Table.
include "_tc_errors.pxi"
include "_tc_rows.pxi"
include "_tc_handles.pxi"
include "_tc_files.pxi"
include "_tc_open.pxi"
include "_tc_mapping.pxi"
include "_tc_upkeep.pxi"
include "_tc_table.pxi"
include "_tc_cursors.pxi"
include "_tc_queries.pxi"
