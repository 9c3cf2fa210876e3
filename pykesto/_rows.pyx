"""Tables and rows of one session: what is read, what was changed, and that each key has one row.

`pykesto.rows` is the face. A change is kept as what it costs least to keep: a row that was assigned and that nobody
looked into since stays the packed row that it will be in the journal. Whether it is new or replaces another is found
out when somebody asks.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_Next
from cpython.object cimport PyObject
from cpython.weakref cimport PyWeakref_NewRef

from pykesto.codec._codec cimport image_of, key_of, row_of

from collections.abc import Mapping, MutableMapping
from copy import deepcopy

from pykesto.codec import decode_key
from pykesto.errors import CodecError, UsageError
from pykesto.merging import difference as _difference
from pykesto.store import KEY_BYTES_MAX as _KEY_BYTES_MAX
from pykesto.store import Merge as _Merge
from pykesto.tokens import Edited as _Edited
from pykesto.tokens import pack_token as _pack_token
from pykesto.tracked import HOLDERS as _HOLDERS
from pykesto.tracked import PLAIN as _PLAIN
from pykesto.tracked import detach, tracked

cdef Py_ssize_t KEY_BYTES_MAX = _KEY_BYTES_MAX
cdef Py_ssize_t _PRUNE_AT = 512
cdef object _holders = _HOLDERS, _plain = _PLAIN
cdef object _absent = object()

cdef enum:
    CLEAN
    DIRTY  # changed, and in the snapshot
    NEW  # changed, and not in the snapshot
    WRITTEN  # changed, and nobody asked yet whether it is in the snapshot
    DELETED

cdef tuple _STATES = ("clean", "dirty", "new", "written", "deleted")
PREFIX = "t_"  # tables of rows and those of objects are apart
MERGES = "merges"  # the table of all tables' policies
cdef str _prefix = PREFIX, _merges = MERGES


cdef dict plain(bytes image):
    """The columns of a packed row."""
    return row_of(PyBytes_AS_STRING(image), PyBytes_GET_SIZE(image), None)


def require_column(name):
    """Refuse what can be no column's name."""
    named(name)


cdef int named(name) except -1:
    if type(name) is not str and not isinstance(name, str):
        raise TypeError(f"a column's name is a str, not {type(name).__name__}")
    if not name:
        raise UsageError("a column's name must not be empty")
    return 0


cdef bytes packed_row(columns):
    """The packed row of what is assigned; what can't be stored is refused here, before anything changes."""
    if type(columns) is not dict:
        if isinstance(columns, RowCore):
            (<RowCore>columns).require()
            return (<RowCore>columns).packed()
        if not isinstance(columns, Mapping):
            raise TypeError(f"a row is a mapping of columns to values, not {type(columns).__name__}")
    try:
        return image_of(columns, None)
    except CodecError:
        for name in columns:
            named(name)
        raise


include "_rows_row.pxi"
include "_rows_table.pxi"
