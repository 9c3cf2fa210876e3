"""What a journal record of the engine holds: one commit. The bytes are specified in docs/journal.md."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy
from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

import json
from dataclasses import asdict

from pykesto.errors import CorruptionError, UsageError
from pykesto.store import KEY_BYTES_MAX as _KEY_BYTES_MAX
from pykesto.store import SchemaChange

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(str text, Py_ssize_t *size) except NULL
    str PyUnicode_DecodeUTF8(const char *text, Py_ssize_t size, const char *errors)

cdef extern from "pykesto/numbers.h" nogil:
    uint32_t kesto_u32(const char *at)
    uint64_t kesto_u64(const char *at)
    char *kesto_add32(char *at, uint32_t value)
    char *kesto_add64(char *at, uint64_t value)

cdef Py_ssize_t IMAGE_BYTES = (1 << 31) - (1 << 20)  # what Tokyo Cabinet can store in a C int, less its own
IMAGE_BYTES_MAX = IMAGE_BYTES
cdef Py_ssize_t KEY_BYTES = _KEY_BYTES_MAX

# Headings without schema changes repeat: a process commits under one pid, with few notes.
cdef dict headings = {}
cdef dict parsed_headings = {}
cdef dict latest_about = None  # never changed after it was handed over
cdef bytes latest_heading = None
cdef str latest_name = ""
cdef enum:
    HEADINGS = 256  # kept at most, and only short ones
    SHORT = 512


@cython.final
cdef class Commit:
    """The changes of one commit: table -> key -> new image, or None for a deletion; who made it, and when."""

    def __init__(self, dict rows not None, tuple schema not None=(), dict about not None={}, uint64_t time_ms=0):
        self.rows = rows
        self.schema = schema
        self.about = about
        self.time_ms = time_ms

    def __eq__(self, other):
        if not isinstance(other, Commit):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in ("rows", "schema", "about", "time_ms"))

    def __hash__(self):
        raise TypeError("a Commit holds dicts")

    def __repr__(self):
        return f"Commit({self.rows!r}, {self.schema!r}, {self.about!r}, {self.time_ms})"


cdef Commit commit_of(dict rows, tuple schema, dict about, uint64_t time_ms):
    """A commit, made without a call through Python."""
    cdef Commit commit = Commit.__new__(Commit)
    commit.rows, commit.schema, commit.about, commit.time_ms = rows, schema, about, time_ms
    return commit


cdef uint64_t now_ms() noexcept:
    """The wall clock, in milliseconds since 1970."""
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return <uint64_t>now.tv_sec * 1000 + <uint64_t>now.tv_nsec // 1000000


cdef bytes heading_of(Commit commit):
    """What a commit says of itself and changes of the schema, as JSON."""
    global latest_about, latest_heading
    cdef object who = None
    if not commit.schema:
        if commit.about is latest_about:
            return latest_heading
        who = tuple(commit.about.items())
        known = headings.get(who)
        if known is not None:
            latest_about, latest_heading = commit.about, known
            return known
    made = json.dumps({"about": commit.about, "schema": [asdict(change) for change in commit.schema]}).encode()
    if who is not None and len(made) < SHORT:
        if len(headings) >= HEADINGS:
            headings.clear()
        headings[who] = made
    return made


cdef tuple parsed_heading(bytes heading):
    known = parsed_headings.get(heading)
    if known is not None:
        return known
    fields = json.loads(heading)
    made = (tuple(map(SchemaChange.from_json, fields["schema"])), fields["about"])
    if len(heading) < SHORT and not made[0]:
        if len(parsed_headings) >= HEADINGS:
            parsed_headings.clear()
        parsed_headings[heading] = made
    return made


cdef Py_ssize_t size_of_rows(str table, dict rows) except -1:
    """How much the rows of a table take; UsageError if a key or an image is too large."""
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t one
    for key, image in rows.items():
        one = PyBytes_GET_SIZE(<bytes?>key)
        if one > KEY_BYTES:
            raise UsageError(f"a key of {table} takes {one} bytes; at most {KEY_BYTES} can be stored")
        size += 8 + one
        if image is not None:
            one = PyBytes_GET_SIZE(<bytes?>image)
            if one > IMAGE_BYTES:
                raise UsageError(f"a row of {table} takes {one} bytes; at most {IMAGE_BYTES} can be stored")
            size += one
    return size


cdef inline char *add_bytes(char *at, bytes content) noexcept:
    memcpy(at, PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content))
    return at + PyBytes_GET_SIZE(content)


cpdef bytes pack_commit(Commit commit):
    """The payload; UsageError, before anything is written, if a key or a row is too large."""
    cdef bytes heading = heading_of(commit)
    cdef Py_ssize_t size = 16 + PyBytes_GET_SIZE(heading)
    cdef Py_ssize_t name_size = 0
    cdef const char *name
    for table, rows in commit.rows.items():
        PyUnicode_AsUTF8AndSize(<str?>table, &name_size)
        size += 8 + name_size + size_of_rows(<str>table, <dict?>rows)
    cdef bytes payload = PyBytes_FromStringAndSize(NULL, size)
    cdef char *at = PyBytes_AS_STRING(payload)
    at = kesto_add64(at, commit.time_ms)
    at = kesto_add32(at, <uint32_t>PyBytes_GET_SIZE(heading))
    at = add_bytes(at, heading)
    at = kesto_add32(at, <uint32_t>len(commit.rows))
    for table, rows in commit.rows.items():
        name = PyUnicode_AsUTF8AndSize(<str>table, &name_size)
        at = kesto_add32(at, <uint32_t>name_size)
        at = kesto_add32(at, <uint32_t>len(<dict>rows))
        memcpy(at, name, name_size)
        at += name_size
        for key, image in (<dict>rows).items():
            at = kesto_add32(at, <uint32_t>PyBytes_GET_SIZE(<bytes>key))
            if image is None:
                at = kesto_add32(at, DELETED)
                at = add_bytes(at, <bytes>key)
            else:
                at = kesto_add32(at, <uint32_t>PyBytes_GET_SIZE(<bytes>image))
                at = add_bytes(at, <bytes>key)
                at = add_bytes(at, <bytes>image)
    return payload


cdef uint32_t number(Cursor *cursor) except? 0xFFFFFFFE:
    if cursor.end - cursor.at < 4:
        raise ValueError("it ends inside a number")
    cursor.at += 4
    return kesto_u32(cursor.at - 4)


cdef uint64_t large_number(Cursor *cursor) except? 0xFFFFFFFFFFFFFFFE:
    if cursor.end - cursor.at < 8:
        raise ValueError("it ends inside a number")
    cursor.at += 8
    return kesto_u64(cursor.at - 8)


cdef const char *skipped(Cursor *cursor, Py_ssize_t size) except NULL:
    """Where so many bytes begin; the cursor goes behind them, and never beyond the end."""
    if cursor.end - cursor.at < size:
        raise ValueError(f"{size} bytes are claimed, and {cursor.end - cursor.at} are left")
    cursor.at += size
    return cursor.at - size


cdef bytes taken(Cursor *cursor, Py_ssize_t size):
    return PyBytes_FromStringAndSize(skipped(cursor, size), size)


cdef str name_taken(Cursor *cursor, Py_ssize_t size):
    """The name of a table. Most often it is the one that was read last."""
    global latest_name
    cdef const char *at = skipped(cursor, size)
    cdef Py_ssize_t known_size = 0
    cdef const char *known = PyUnicode_AsUTF8AndSize(latest_name, &known_size)
    if known_size != size or memcmp(known, at, size):
        latest_name = PyUnicode_DecodeUTF8(at, size, NULL)
    return latest_name


cpdef Commit unpack_commit(bytes payload):
    """The commit in a payload whose checksum was verified."""
    try:
        return unpacked(payload)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptionError(f"a record of the journal holds no commit: {error}") from error


cdef Commit unpacked(bytes payload):
    cdef Cursor cursor
    cursor.at = PyBytes_AS_STRING(payload)
    cursor.end = cursor.at + PyBytes_GET_SIZE(payload)
    cdef Commit commit = Commit.__new__(Commit)
    commit.time_ms = large_number(&cursor)
    commit.schema, commit.about = parsed_heading(taken(&cursor, number(&cursor)))
    commit.rows = {}
    cdef uint32_t tables = number(&cursor)
    cdef uint32_t name_size, count, key_size, image_size
    cdef str name
    cdef dict rows
    cdef bytes key
    while tables:
        tables -= 1
        name_size = number(&cursor)
        count = number(&cursor)
        name = name_taken(&cursor, name_size)
        rows = commit.rows.get(name)
        if rows is None:
            rows = commit.rows[name] = {}
        while count:
            count -= 1
            key_size = number(&cursor)
            image_size = number(&cursor)
            key = taken(&cursor, key_size)
            rows[key] = None if image_size == DELETED else taken(&cursor, image_size)
    if cursor.at != cursor.end:
        raise ValueError(f"{cursor.end - cursor.at} bytes are left over")
    return commit


cpdef bint changes_schema(Commit commit, dict known) except -1:
    """Whether the commit changes the schema, or writes to a table that is not among the known ones."""
    if commit.schema:
        return True
    for table in commit.rows:
        if table not in known:
            return True
    return False
