"""Values as bytes: the ordered form of scalars, the plain form of containers, and rows of them.

docs/codec.md is the specification. Decoding imports nothing and runs nothing that the bytes name, but what was
registered; every count and size is held against the bytes that are left before memory is asked for.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.datetime cimport (
    date_day,
    date_month,
    date_new,
    date_year,
    datetime_day,
    datetime_fold,
    datetime_hour,
    datetime_microsecond,
    datetime_minute,
    datetime_month,
    datetime_new,
    datetime_second,
    datetime_tzinfo,
    datetime_year,
    import_datetime,
    time_fold,
    time_hour,
    time_microsecond,
    time_minute,
    time_new,
    time_second,
    time_tzinfo,
    timedelta_days,
    timedelta_microseconds,
    timedelta_new,
    timedelta_seconds,
)
from cpython.dict cimport PyDict_Copy, PyDict_Next, PyDict_SetItem, PyDict_Size
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject, PyObject_GenericSetAttr, PyObject_Hash
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.limits cimport INT_MAX
from libc.math cimport frexp, isinf, isnan, ldexp, rint, signbit
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, memmove

import datetime as _datetime
from decimal import Decimal as _Decimal
from fractions import Fraction as _Fraction
from uuid import UUID as _UUID, SafeUUID
from zoneinfo import ZoneInfo as _ZoneInfo

from pykesto import failpoints as _failpoints
from pykesto.codec import exact, zones
from pykesto.errors import CodecError
from pykesto.failpoints import off

cdef bint ACTIVE = _failpoints.ACTIVE

import_datetime()

__all__ = [
    "Reference",
    "Unknown",
    "add_type",
    "decode",
    "decode_key",
    "decode_row",
    "decode_stored",
    "encode",
    "encode_key",
    "encode_row",
    "family",
    "family_range",
    "find_column",
    "is_scalar_encoding",
    "pack_columns",
    "parse_columns",
    "prefix_range",
    "range_of",
    "register_container",
]

cdef object Decimal = _Decimal, Fraction = _Fraction, UUID = _UUID, ZoneInfo = _ZoneInfo
cdef object date = _datetime.date, datetime = _datetime.datetime, time = _datetime.time
cdef object timedelta = _datetime.timedelta, timezone = _datetime.timezone, utc = _datetime.timezone.utc

include "_codec_tags.pxi"
include "_codec_types.pxi"
include "_codec_buffers.pxi"
include "_codec_text.pxi"
include "_codec_pieces.pxi"
include "_codec_numbers.pxi"
include "_codec_decimals.pxi"
include "_codec_times.pxi"
include "_codec_ordered.pxi"
include "_codec_shapes.pxi"
include "_codec_plain.pxi"
include "_codec_containers.pxi"
include "_codec_values.pxi"
include "_codec_ranges.pxi"
include "_codec_rows.pxi"
