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


class Error(StorageError):
    """Tokyo Cabinet could not do what it was asked.

    Attributes:
        code: the library's number, such as 3 for "file not found".
        operation: what was tried: "open", "put", ...
        path: the table's file, or None.
        errno: the operating system's number at that moment, or None; the message names the call that failed.
    """

    def __init__(self, code, operation, *, path=None, errno=None, call="", hint=""):
        self.code = code
        self.operation = operation
        where = "" if path is None else f" {os.fspath(path)}"
        why = f": {call}: {os.strerror(errno)}" if call and errno is not None else ""
        super().__init__(
            f"{operation}{where}: {_message_of(code)} (code {code}){why}", errno=errno, path=path, hint=hint
        )


Error.__module__ = "pykesto.tc"  # the public face; pickles find it there


def _message_of(int code):
    return tctdberrmsg(code).decode("ascii", "replace")


# --- Bytes and sizes -----------------------------------------------------------------------------------------------

# The library adds key, row, a header and padding up to the alignment in C ints.
cdef int RECORD_BYTES_MAX = INT_MAX - (1 << 17)


cdef int size_of(bytes data) except -1:
    """The size of `data` as the library counts it, in a C int."""
    if PyBytes_GET_SIZE(data) > RECORD_BYTES_MAX:
        raise UsageError(f"{len(data)} bytes; Tokyo Cabinet stores at most {RECORD_BYTES_MAX}")
    return <int>PyBytes_GET_SIZE(data)


cdef bytes take(void *block, int size):
    """Copy a block that the library allocated, and free it."""
    try:
        return PyBytes_FromStringAndSize(<char *>block, size)
    finally:
        tcfree(block)


cdef bytes c_string(bytes text, str what):
    """`text`, known to hold no NUL: the library would cut it there."""
    if 0 in text:
        raise UsageError(f"{what} {text!r} holds a NUL byte; Tokyo Cabinet cuts it there")
    return text


cdef bytes encoded(object text, str what):
    """A name or operand as bytes: text is encoded as UTF-8."""
    if isinstance(text, bytes):
        return c_string(text, what)
    if isinstance(text, str):
        return c_string((<str>text).encode(), what)
    raise TypeError(f"{what} must be str or bytes, not {type(text).__name__}")


cdef int check_key(object key) except -1:
    if not isinstance(key, bytes):
        raise TypeError(f"key must be bytes, not {type(key).__name__}")
    return 0


# --- Rows: for each column a varint size, the name, a varint size, the value --------------------------------------

cdef inline int64_t varint(const unsigned char **at, const unsigned char *end) noexcept nogil:
    """Read a size and move `at` past it; -1 where there is none. The library stores 7 bits a byte, lowest first,
    and complements every byte but the last."""
    cdef uint64_t number = 0
    cdef int shift = 0
    cdef unsigned char byte
    while at[0] < end and shift <= 28:
        byte = at[0][0]
        at[0] += 1
        if byte < 0x80:
            number |= (<uint64_t>byte) << shift
            if number > <uint64_t>INT_MAX or (byte == 0 and shift > 0):
                return -1
            return <int64_t>number
        number |= (<uint64_t>(byte ^ 0xFF)) << shift
        shift += 7
    return -1


cdef struct Column:
    const char *name
    int name_size
    const char *value
    int value_size


cdef extern from *:
    """
    /* The library's calls of sched_yield come here, where it is linked statically (setup.py says why). */
    int __wrap_sched_yield(void) { return 0; }
    """


cdef struct Change:
    const char *key
    int key_size
    TCMAP *columns  # NULL: delete


cdef inline bint next_column(const unsigned char **at, const unsigned char *end, Column *column) noexcept nogil:
    """Read one column and move `at` past it; false where the row is malformed."""
    cdef int64_t size = varint(at, end)
    if size < 0 or size > end - at[0]:
        return False
    column.name = <const char *>at[0]
    column.name_size = <int>size
    at[0] += size
    size = varint(at, end)
    if size < 0 or size > end - at[0]:
        return False
    column.value = <const char *>at[0]
    column.value_size = <int>size
    at[0] += size
    return True


cdef dict columns_of(const char *row, int size):
    """The columns of a stored row; None where it is malformed."""
    cdef const unsigned char *at = <const unsigned char *>row
    cdef const unsigned char *end = at + size
    cdef Column column
    cdef dict columns = {}
    while at < end:
        if not next_column(&at, end, &column):
            return None
        columns[PyBytes_FromStringAndSize(column.name, column.name_size)] = PyBytes_FromStringAndSize(
            column.value, column.value_size
        )
    return columns


cdef str EMPTY_NAME = "row has a column with an empty name; Tokyo Cabinet can't store that"


cdef TCMAP *map_of_raw(bytes row) except NULL:
    """The library's map of a row in its own layout, checked strictly; the caller frees it."""
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(row)
    cdef const unsigned char *end = at + size_of(row)
    cdef Column column
    cdef uint64_t count = 0
    while at < end:
        if not next_column(&at, end, &column):
            raise UsageError(f"row is malformed after column {count}: {row[:40]!r}")
        if column.name_size == 0:
            raise UsageError(EMPTY_NAME)
        count += 1
    cdef TCMAP *columns = tcmapload(PyBytes_AS_STRING(row), <int>PyBytes_GET_SIZE(row))
    if tcmaprnum(columns) != count:
        tcmapdel(columns)
        raise UsageError("row holds one column twice")
    return columns


cdef TCMAP *map_of_dict(object row) except NULL:
    """The library's map of a mapping of columns; the caller frees it."""
    if not isinstance(row, Mapping):
        raise TypeError(f"row must be a mapping of bytes to bytes, not {type(row).__name__}")
    cdef dict columns = row if type(row) is dict else dict(row)
    cdef int64_t size = 0
    for name, value in columns.items():
        if not isinstance(name, bytes):
            raise TypeError(f"column name must be bytes, not {type(name).__name__}: {name!r}")
        if not name:
            raise UsageError(EMPTY_NAME)
        if not isinstance(value, bytes):
            raise TypeError(f"value of column {name!r} must be bytes, not {type(value).__name__}")
        size += size_of(name) + size_of(value) + 10
    if size > RECORD_BYTES_MAX:
        raise UsageError(f"row of {size} bytes; Tokyo Cabinet stores at most {RECORD_BYTES_MAX}")
    cdef TCMAP *columns_map = tcmapnew2(<unsigned int>(len(columns) * 2 + 1))
    for name, value in columns.items():
        tcmapput(
            columns_map,
            PyBytes_AS_STRING(name), <int>PyBytes_GET_SIZE(name),
            PyBytes_AS_STRING(value), <int>PyBytes_GET_SIZE(value),
        )
    return columns_map


cdef bint is_ordered(int kind) noexcept:
    """Whether the index is a B+ tree of values: those abort the process on an empty value."""
    return kind == TDBITLEXICAL or kind == TDBITDECIMAL


cdef str misfit(const char *index, int kind, Column *column):
    """Why the library can't index this column, or None. It compares names as C strings, so it takes a name with
    a NUL for its beginning."""
    cdef size_t size = strlen(index)
    if column.name_size == <int>size and memcmp(column.name, index, size) == 0:
        if column.value_size == 0 and is_ordered(kind):
            return f"column {index[:size]!r} has a {kind_name(kind)} index, which can't hold an empty value"
        return None
    if column.name_size > <int>size and memcmp(column.name, index, size) == 0 and column.name[size] == 0:
        return f"column {column.name[:column.name_size]!r} holds a NUL byte, and {index[:size]!r} has an index"
    return None


_KINDS = {"lexical": TDBITLEXICAL, "decimal": TDBITDECIMAL, "token": TDBITTOKEN, "qgram": TDBITQGRAM}
_SUFFIXES = {b"lex": TDBITLEXICAL, b"dec": TDBITDECIMAL, b"tok": TDBITTOKEN, b"qgr": TDBITQGRAM}


cdef str kind_name(int kind):
    for name, number in _KINDS.items():
        if number == kind:
            return name
    return f"unknown ({kind})"


# --- Open tables: a list in C, so that a forked child finds them whatever Python is doing --------------------------

cdef struct Handle:
    TCTDB *tdb  # NULL once closed
    PyThread_type_lock lock
    unsigned long owner  # the thread that holds `lock`
    int pid  # who opened it
    uint64_t device
    uint64_t inode
    uint64_t changes  # counts what moves rows or index entries, so that iterators and cursors notice
    Handle *previous
    Handle *following


cdef Handle *open_handles = NULL  # changed only under the GIL
cdef int current_pid = c_getpid()  # kept by pthread_atfork: a system call less on every read

# Held shared by whatever takes the library's own global locks (open, close, index files), and alone around a fork,
# so that no child inherits one of those locks taken.
cdef pthread_rwlock_t gate


cdef void note_child() noexcept nogil:
    global current_pid
    current_pid = c_getpid()


cdef void enlist(Handle *handle) noexcept:
    global open_handles
    handle.previous = NULL
    handle.following = open_handles
    if open_handles is not NULL:
        open_handles.previous = handle
    open_handles = handle


cdef void delist(Handle *handle) noexcept:
    global open_handles
    if handle.previous is not NULL:
        handle.previous.following = handle.following
    elif open_handles is handle:
        open_handles = handle.following
    if handle.following is not NULL:
        handle.following.previous = handle.previous
    handle.previous = handle.following = NULL


cdef void abandon_file(TCHDB *hdb) noexcept nogil:
    """Let go of a file that belongs to the parent: its locks stay with the parent, its path may be opened anew."""
    if hdb.fd >= 0:
        c_close(hdb.fd)
    if hdb.walfd >= 0:
        c_close(hdb.walfd)
    if hdb.rpath is not NULL:
        tcpathunlock(hdb.rpath)


cdef void abandon(TCTDB *tdb) noexcept nogil:
    """Never close it: a child would write the parent's caches a second time. The memory is leaked on purpose."""
    cdef int i
    if tdb.open:
        for i in range(tdb.inum):
            abandon_file((<TCBDB *>tdb.idxs[i].db).hdb)
        abandon_file(tdb.hdb)


def _before_fork():
    with nogil:
        pthread_rwlock_wrlock(&gate)


def _after_fork_in_parent():
    pthread_rwlock_unlock(&gate)


def _after_fork_in_child():
    pthread_rwlock_init(&gate, NULL)
    while open_handles is not NULL:
        if open_handles.tdb is not NULL:
            abandon(open_handles.tdb)
        delist(open_handles)


def _close_all():
    """At exit: a table left open would lose what its index caches hold."""
    cdef Handle *handle
    while open_handles is not NULL:
        handle = open_handles
        delist(handle)
        if handle.pid == current_pid:
            acquire(handle)
            shut(handle)
            release(handle)


pthread_rwlock_init(&gate, NULL)
pthread_atfork(NULL, NULL, note_child)
os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
atexit.register(_close_all)


cdef int acquire(Handle *handle) except -1:
    """Take the table's lock, waiting without the GIL."""
    if not PyThread_acquire_lock(handle.lock, NOWAIT_LOCK):
        if handle.owner == <unsigned long>PyThread_get_thread_ident():
            raise UsageError("the table is in use by this very thread (from a finalizer or a signal handler?)")
        with nogil:
            PyThread_acquire_lock(handle.lock, WAIT_LOCK)
    handle.owner = <unsigned long>PyThread_get_thread_ident()
    return 0


cdef inline void release(Handle *handle) noexcept nogil:
    handle.owner = 0
    PyThread_release_lock(handle.lock)


cdef Failure shut(Handle *handle) noexcept:
    """Close the library's table and free it; its code is 0 unless the last writes failed."""
    global io_failure
    cdef Failure outer = io_failure  # a finalizer may close one table in the midst of the work on another
    cdef Failure failure
    cdef bint done = True
    failure.code = TCESUCCESS
    if handle.tdb is NULL:
        return failure
    with nogil:
        pthread_rwlock_rdlock(&gate)
        io_begin()
        if handle.tdb.open:
            done = tctdbclose(handle.tdb)
        if not done or io_failure.error:
            failure = failure_of(tctdbecode(handle.tdb), io_errno())
        tctdbdel(handle.tdb)
        handle.tdb = NULL
        pthread_rwlock_unlock(&gate)
    io_failure = outer
    return failure


cdef Failure failure_of(int code, int error) noexcept nogil:
    """The call of the system that failed, where one was noted; else what the library and the system left."""
    cdef Failure failure = io_failure
    if not failure.error:
        failure.code = TCEMISC if code == TCESUCCESS else code
        failure.error, failure.call = error, NULL
    return failure


cdef object error_of(Failure failure, str operation, object path, str hint=""):
    call = "" if failure.call is NULL else failure.call.decode()
    return Error(failure.code, operation, path=path, errno=failure.error or None, call=call, hint=hint)


# --- Looking at files before the library does ----------------------------------------------------------------------

cdef int HEADER_BYTES = 256
cdef int FLAGS_OFFSET = 33
cdef int FLAG_OPEN = 1
_MAGIC = b"ToKyO CaBiNeT"
_WAIT_S = 0.01


def _check_header(path, bytes header, Py_ssize_t size, int kind):
    """Raise where a header would crash the library, or isn't one.

    The library stores numbers in the byte order that it was built for; a damaged one is plausible in neither.
    """
    if len(header) < HEADER_BYTES:
        raise CorruptionError(f"{size} bytes, less than a header", path=path, offset=0)
    if not header.startswith(_MAGIC):
        raise FormatError(f"{os.fsdecode(path)} is no Tokyo Cabinet file", path=path)
    if header[32] != kind:
        expected = "a table" if kind == TCDBTTABLE else "an index"
        raise FormatError(f"{os.fsdecode(path)} is a Tokyo Cabinet file, but not {expected}", path=path)
    if header[34] > 16 or header[35] > 20:
        raise CorruptionError("the header's alignment or pool size is out of range", path=path, offset=34)
    if not any(_is_plausible(header, size, order) for order in ("little", "big")):
        raise CorruptionError("the header's sizes don't fit the file", path=path, offset=40)


def _is_plausible(bytes header, Py_ssize_t size, str order):
    buckets, rows, file_bytes, first_row = (int.from_bytes(header[at : at + 8], order) for at in (40, 48, 56, 64))
    bucket_bytes = 8 if header[36] & TDBTLARGE else 4
    if header[32] == TCDBTBTREE:
        # The entries of a leaf and of a node: the library allocates as many.
        members = [int.from_bytes(header[at : at + 4], order) for at in (136, 140)]
        if not all(0 < count < 1 << 20 for count in members):
            return False
    return (
        buckets > 0
        and rows <= file_bytes
        and HEADER_BYTES + buckets * bucket_bytes < first_row <= file_bytes <= size
    )


cdef _check_file(bytes path, int fd, int kind):
    _check_header(path, os.pread(fd, HEADER_BYTES, 0), os.fstat(fd).st_size, kind)


cdef list index_files(bytes path):
    """The files that the library would take for indexes of the table."""
    directory, name = os.path.split(path)
    prefix = name + b".idx."
    return [
        os.path.join(directory, entry)
        for entry in sorted(os.listdir(directory or b"."))
        if entry.startswith(prefix) and entry[len(prefix) :].rpartition(b".")[2] in _SUFFIXES
    ]


cdef bytes table_path(object path):
    """The absolute path as bytes: the library opens files again by it after a chdir."""
    cdef bytes name = os.fsencode(path)
    c_string(name, "path")
    name = os.path.abspath(name)
    if any(character in b"*?[\\" for character in name):
        raise UsageError(
            f"path {os.fsdecode(name)!r} holds one of * ? [ \\",
            hint="Tokyo Cabinet finds index files by a glob pattern made of the path; choose another path",
        )
    return name


cdef refuse_second_handle(bytes path, object status):
    cdef Handle *handle = open_handles
    while handle is not NULL:
        if handle.inode == <uint64_t>status.st_ino and handle.device == <uint64_t>status.st_dev:
            raise already_open(path)
        handle = handle.following


cdef object already_open(bytes path):
    return UsageError(
        f"{os.fsdecode(path)} is open in this process already",
        hint="share the Table among threads; a second handle of one file would misread or damage it",
    )


cdef set_cloexec(TCHDB *hdb):
    for fd in (hdb.fd, hdb.walfd):
        if fd >= 0:
            fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.fcntl(fd, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)


cdef allocate_map(TCHDB *hdb):
    """Give the mapped part of the file its blocks now: a store into a hole of it on a full disk is SIGBUS."""
    cdef int failed
    with nogil:
        failed = posix_fallocate(hdb.fd, 0, <int64_t>hdb.msiz)
    if failed == ENOSPC:
        raise StorageError("no space for the bucket array", errno=ENOSPC, path=os.fsdecode(hdb.path))


cdef require_space(object path, int64_t size):
    """The library rebuilds a file through a mapping of a new one: on a full disk that is SIGBUS."""
    status = os.statvfs(path)
    if status.f_bavail * status.f_frsize < size:
        raise StorageError(f"rebuilding needs {size} bytes of free disk", errno=ENOSPC, path=os.fsdecode(path))


cdef copy_file(int source, int64_t size, object path):
    """Copy through the descriptor that is open: opening the file anew and closing it would drop our lock."""
    cdef int64_t offset = 0
    with open(path, "xb", buffering=0) as target:
        while offset < size:
            sent = os.sendfile(target.fileno(), source, offset, size - offset)
            if sent == 0:
                raise CorruptionError("the file is shorter than its header says", path=path, offset=offset)
            offset += sent
        # The writer's mark "open": the copy is not.
        os.pwrite(target.fileno(), bytes([os.pread(source, 1, FLAGS_OFFSET)[0] & ~FLAG_OPEN]), FLAGS_OFFSET)
        os.fsync(target.fileno())


cdef sync_directory(object path):
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# --- The table -----------------------------------------------------------------------------------------------------

_MODES = {
    "r": TDBOREADER,
    "w": TDBOWRITER,
    "c": TDBOWRITER | TDBOCREAT,
    "n": TDBOWRITER | TDBOCREAT | TDBOTRUNC,
}


@cython.final
cdef class Table:
    """A table file of Tokyo Cabinet and its index files: a mutable mapping of bytes to dicts of bytes.

    Args:
        path: the file; its indexes are files beside it, `PATH.idx.COLUMN.lex` and the like.
        flag: as in dbm: "r" reads a file that exists, "w" writes one that exists, "c" creates it where it is
            missing, "n" begins with an empty one.
        bnum: buckets of a new file, fixed until `optimize`; 0 is the library's 131,071. One to four times the
            rows that you expect.
        apow, fpow: alignment of rows and size of the pool of free blocks, as powers of 2; -1 is the default.
        large: allow a new file to outgrow 2 GB.
        deflate: compress the rows of a new file.
        lock: wait for other processes that write the file (any that use it, when writing), and keep them out.
            Without it, all that a writer elsewhere does leads to wrong answers or damage.
        cache_leaves: leaves of each index kept in memory; 0 is the library's 4,096.
        map_bytes: how much of the file is mapped; None is all of it for a reader, and for a writer only the
            bucket array, since growing a mapped file on a full disk kills the process.

    Raises:
        tc.Error: the file is missing, not permitted, or an I/O error.
        CorruptionError, FormatError: the file is damaged, or no table.
        UsageError: the file is open in this process already, or the path holds one of `* ? [ \\` or a NUL.

    Keys are not empty. Equality of tables is identity. Threads may share a table; a transaction belongs to the
    table, not to the thread that began it. After fork, a child opens its own.

    >>> with Table("people.tct", "n") as t:
    ...     t[b"ann"] = {b"name": b"Ann", b"age": b"41"}
    ...     t[b"ann"][b"age"]
    b'41'
    """

    cdef Handle *handle
    cdef bytes path_bytes
    cdef bint names_changed
    cdef object broken  # the error of the write that failed
    cdef object __weakref__

    def __cinit__(self):
        self.handle = <Handle *>calloc(1, sizeof(Handle))
        if self.handle is NULL:
            raise MemoryError
        self.handle.lock = PyThread_allocate_lock()
        if self.handle.lock is NULL:
            raise MemoryError
        self.handle.pid = current_pid

    def __init__(
        self, path, flag="r", *, bnum=0, apow=-1, fpow=-1, large=True, deflate=False, lock=True, cache_leaves=0,
        map_bytes=None,
    ):
        if self.handle.tdb is not NULL or self.path_bytes is not None:
            raise UsageError("a Table is opened once")
        if flag not in _MODES:
            raise UsageError(f"flag must be 'r', 'w', 'c' or 'n', not {flag!r}")
        if bnum < 0 or cache_leaves < 0 or (map_bytes is not None and map_bytes < 0):
            raise UsageError("bnum, cache_leaves and map_bytes can't be negative")
        self.path_bytes = table_path(path)
        cdef int mode = _MODES[flag]
        if map_bytes is None:
            map_bytes = 0 if mode & TDBOWRITER else 1 << 46  # the library cuts a reader's to the file
        cdef TCTDB *tdb = tctdbnew()
        tctdbtune(tdb, bnum, apow, fpow, (TDBTLARGE if large else 0) | (TDBTDEFLATE if deflate else 0))
        tctdbsetcache(tdb, 0, cache_leaves, 0)
        tctdbsetxmsiz(tdb, map_bytes)
        self.handle.tdb = tdb
        try:
            self._open(mode | (TDBOLCKNB if lock else TDBONOLCK))
            self._settle(bool(mode & TDBOWRITER))
        except BaseException:
            self._discard()
            raise

    def __dealloc__(self):
        cdef Handle *handle = self.handle
        if handle is NULL:
            return
        if handle.pid == current_pid:
            shut(handle)
            delist(handle)
            if handle.lock is not NULL:
                PyThread_free_lock(handle.lock)
        free(handle)

    # Opening and closing

    cdef _open(self, int mode):
        """Wait for locks by looking again: the library's own wait can't be interrupted, and would hold up forks."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef const char *path = PyBytes_AS_STRING(self.path_bytes)
        cdef int error
        cdef bint done
        while True:
            if not self._looks_sound(mode):
                time.sleep(_WAIT_S)
                continue
            # In the list first: a child forked between the library's return and ours must find it.
            enlist(self.handle)
            with nogil:
                pthread_rwlock_rdlock(&gate)
                io_begin()
                done = tctdbopen(tdb, path, mode)
                error = io_errno()
                if done and io_failure.error:
                    # It went on without a log or an index that it could not open. Closing would take the mark "open"
                    # from the file, and the log would never be rolled back.
                    abandon(tdb)
                    self.handle.tdb = NULL
                pthread_rwlock_unlock(&gate)
            if done and not io_failure.error:
                return
            delist(self.handle)
            if done:
                raise error_of(io_failure, "open", self.path)
            code = tctdbecode(tdb)
            if code == TCETHREAD:
                raise already_open(self.path_bytes)
            if code != TCELOCK:
                raise error_of(failure_of(code, error), "open", self.path)
            time.sleep(_WAIT_S)

    cdef bint _looks_sound(self, int mode) except -1:
        """Check the files that the library is about to trust; false where another process has them locked."""
        cdef bint locking = not mode & TDBONOLCK
        try:
            status = os.stat(self.path_bytes)
        except FileNotFoundError:
            return self._may_create(mode)
        refuse_second_handle(self.path_bytes, status)
        if not stat.S_ISREG(status.st_mode):
            raise FormatError(f"{self.path} is not a regular file", path=self.path_bytes)
        if mode & TDBOTRUNC:
            return True
        try:
            fd = os.open(self.path_bytes, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as e:
            raise StorageError(f"open {self.path}: {e.strerror}", errno=e.errno, path=self.path_bytes) from e
        try:
            if locking:
                try:
                    fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    return False
            _check_file(self.path_bytes, fd, TCDBTTABLE)
            self._check_indexes()
            if not locking and not mode & TDBOWRITER and os.path.exists(self.path_bytes + b".wal"):
                raise UsageError(
                    f"{self.path} has a transaction under way, or cut short",
                    hint="open it with lock=True: the reader would roll that transaction back under its writer",
                )
        finally:
            os.close(fd)
        return True

    cdef bint _may_create(self, int mode) except -1:
        if not mode & TDBOCREAT:
            raise Error(TCENOFILE, "open", path=self.path, errno=ENOENT)
        if not mode & TDBOTRUNC and os.path.isdir(os.path.dirname(self.path_bytes)):
            stale = index_files(self.path_bytes)
            if stale:
                raise CorruptionError("an index without its table", path=stale[0])
        return True

    cdef _check_indexes(self):
        for path in index_files(self.path_bytes):
            with open(path, "rb", buffering=0) as file:
                _check_file(path, file.fileno(), TCDBTBTREE)

    cdef _settle(self, bint writing):
        """Make what the library opened as we promise it; its open ignores an index that it can't open."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef set found = {(<TCBDB *>tdb.idxs[i].db).hdb.path for i in range(tdb.inum)}
        for path in index_files(self.path_bytes):
            if path not in found:
                raise CorruptionError("Tokyo Cabinet can't open this index", path=path)
        self._adopt(writing)

    cdef _adopt(self, bint writing):
        """After files were opened, or opened anew."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef TCHDB *hdb
        cdef int i
        for i in range(-1, tdb.inum):
            hdb = tdb.hdb if i < 0 else (<TCBDB *>tdb.idxs[i].db).hdb
            if hdb.fd < 0:
                continue
            set_cloexec(hdb)
            if writing:
                allocate_map(hdb)
        if tdb.hdb.fd >= 0:
            status = os.fstat(tdb.hdb.fd)
            self.handle.device, self.handle.inode = status.st_dev, status.st_ino
        self.names_changed = writing

    cdef _discard(self):
        shut(self.handle)
        delist(self.handle)

    def close(self):
        """Close the files; an open transaction is aborted. Closing twice does nothing.

        Raises:
            tc.Error: the last writes failed, or one before them did.
        """
        cdef Failure failure
        if self.handle.pid != current_pid:
            return  # the parent's: it was let go of at the fork
        acquire(self.handle)
        try:
            # Out of the list only afterwards: a child forked meanwhile must find the table there.
            failure = shut(self.handle)
            delist(self.handle)
        finally:
            release(self.handle)
        broken, self.broken = self.broken, None
        if broken is not None:
            raise error_again(broken)
        if failure.code != TCESUCCESS:
            raise error_of(failure, "close", self.path)

    def __enter__(self):
        self._enter()
        release(self.handle)
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __repr__(self):
        cdef Handle *handle = self.handle
        state = "open" if handle.tdb is not NULL and handle.pid == current_pid else "closed"
        return f"<tc.Table {self.path!r} {state}>"

    # Entering: every call does, so that it has the table to itself and the table is open

    cdef int _enter(self) except -1:
        if self.handle.pid != current_pid:
            # Before the lock: another thread of the parent may have held it at the fork.
            raise UsageError(
                f"{self.path} was opened by process {self.handle.pid}, before fork",
                hint="open the table again in the child",
            )
        acquire(self.handle)
        if self.handle.tdb is NULL:
            release(self.handle)
            raise ClosedError(f"{self.path} is closed")
        io_begin()
        return 0

    cdef int _enter_to_write(self, str operation) except -1:
        self._enter()
        if not self.handle.tdb.wmode:
            release(self.handle)
            raise ReadOnlyError(f"{operation}: {self.path} was opened for reading", hint="open it with flag 'w' or 'c'")
        if self.broken is not None and operation != "abort":
            release(self.handle)
            raise error_again(self.broken)
        return 0

    cdef int _enter_to_maintain(self, str operation) except -1:
        self._enter_to_write(operation)
        if self.handle.tdb.tran:
            release(self.handle)
            raise UsageError(f"{operation} can't run inside a transaction", hint="commit or abort it first")
        return 0

    # Leaving: an error of the library, or a call of the system that failed though the library said success

    cdef int _check_read(self, str operation, bint done, int code) except -1:
        """After a call that reads. The next one may succeed, so the library must forget this one."""
        if (done or code == TCENOREC) and not io_failure.error:
            return 0
        cdef Failure failure = failure_of(code, io_errno())
        forget_errors(self.handle.tdb)
        raise error_of(failure, operation, self.path)

    cdef int _check_write(self, str operation, bint done, int error) except -1:
        """After a call that writes: the table takes no more writes once one has failed."""
        if done and not io_failure.error:
            return 0
        cdef Failure failure = failure_of(first_error(self.handle.tdb), error)
        forget_errors(self.handle.tdb)
        if failure.code in (TCENOFILE, TCENOPERM, TCEOPEN) and self._began_nothing(operation):
            raise error_of(failure, operation, self.path)
        failed = error_of(failure, operation, self.path, "nothing more is written to this table: close it")
        if self.broken is None:
            self.broken = error_again(failed)
        raise failed

    cdef bint _began_nothing(self, str operation) noexcept:
        """Whether the table is as it was, when a file that an operation needs could not be opened."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef int i
        for i in range(tdb.inum):
            if (<TCBDB *>tdb.idxs[i].db).hdb.tran:
                return False
        return operation == "create_index" or (operation == "begin" and not tdb.hdb.tran)

    # What it is

    @property
    def path(self):
        """The absolute path of the table's file, as str."""
        return "" if self.path_bytes is None else os.fsdecode(self.path_bytes)

    @property
    def size(self):
        """Bytes of the table's file and its indexes."""
        self._enter()
        try:
            return tctdbfsiz(self.handle.tdb)
        finally:
            release(self.handle)

    @property
    def bnum(self):
        """Buckets of the hash file."""
        self._enter()
        try:
            return tctdbbnum(self.handle.tdb)
        finally:
            release(self.handle)

    def __len__(self):
        self._enter()
        try:
            return <Py_ssize_t>tctdbrnum(self.handle.tdb)
        finally:
            release(self.handle)

    # The mapping

    def get_raw(self, bytes key not None):
        """The row as it is stored, or None: for each column the name, then the value, each after its size as a varint.

        For engines that decode rows by themselves: no dict is built. A varint holds 7 bits a byte, lowest first, every
        byte but the last complemented: 300 is `d3 02`.
        """
        cdef int key_size = size_of(key)
        cdef int size = 0
        cdef void *row
        self._enter()
        try:
            row = tchdbget(self.handle.tdb.hdb, PyBytes_AS_STRING(key), key_size, &size)
            if row is not NULL and not io_failure.error:
                return take(row, size)
            tcfree(row)
            self._check_read("get", row is not NULL, tctdbecode(self.handle.tdb))
            return None
        finally:
            release(self.handle)

    def get(self, key, default=None):
        """The row of `key`, a dict of bytes to bytes, or `default`."""
        check_key(key)
        cdef bytes row = self.get_raw(key)
        if row is None:
            return default
        return self._columns(key, PyBytes_AS_STRING(row), <int>PyBytes_GET_SIZE(row))

    cdef dict _columns(self, bytes key, const char *row, int size):
        cdef dict columns = columns_of(row, size)
        if columns is None:
            raise CorruptionError(f"the row of {key!r} is malformed", path=self.path)
        return columns

    def __getitem__(self, key):
        row = self.get(key)
        if row is None:
            raise KeyError(key)
        return row

    def __contains__(self, key):
        check_key(key)
        cdef int key_size = size_of(key)
        self._enter()
        try:
            found = tchdbvsiz(self.handle.tdb.hdb, PyBytes_AS_STRING(key), key_size) >= 0
            self._check_read("get", found, tctdbecode(self.handle.tdb))
            return found
        finally:
            release(self.handle)

    def __setitem__(self, key, row):
        check_key(key)
        self._put(key, map_of_dict(row))

    def put(self, key, row):
        """Store `row`, a mapping of bytes to bytes, under `key`; same as `table[key] = row`.

        Raises:
            TypeError: naming the key, column name or value that isn't bytes.
            UsageError: an empty key or column name, or an empty value in a column with a lexical or decimal index.
            tc.Error: the library could not write.
        """
        self[key] = row

    def put_raw(self, bytes key not None, bytes row not None):
        """Store a row given in the layout of `get_raw`, checked strictly.

        For engines that encode rows by themselves.

        Raises:
            UsageError: a malformed row, one column twice, or what `put` refuses.
        """
        self._put(key, map_of_raw(row))

    def apply_raw(self, list changes not None):
        """Store rows given in the layout of `get_raw`, or delete them; a key that is not there is no error.

        Everything is checked before the first change, then the GIL is released once for all of it: a thread that
        gives it up for each row waits for its turn each time while others compute.

        Args:
            changes: tuples of (key, row), or (key, None) to delete.

        Raises:
            UsageError: a malformed row, or what `put` refuses; nothing was changed.
            tc.Error: the library failed; the changes before it were made.
        """
        cdef list own = list(changes)  # keeps the keys alive, whatever another thread does to the caller's list
        cdef Py_ssize_t count = len(own), i
        cdef Change *made = <Change *>calloc(count + 1, sizeof(Change))
        cdef int error = 0
        cdef bint done = True
        cdef bytes key
        if made == NULL:
            raise MemoryError
        try:
            self._enter_to_write("put")
            try:
                for i in range(count):
                    key, row = own[i]
                    check_key(key)
                    made[i].key = PyBytes_AS_STRING(key)
                    made[i].key_size = size_of(key)
                    if made[i].key_size == 0:
                        raise UsageError("the key is empty; Tokyo Cabinet can't store that")
                    if row is not None:
                        made[i].columns = map_of_raw(row)
                        self._check_indexable(made[i].columns)
                with nogil:
                    for i in range(count):
                        if made[i].columns != NULL:
                            done = tctdbput(self.handle.tdb, made[i].key, made[i].key_size, made[i].columns)
                        else:
                            done = tctdbout(self.handle.tdb, made[i].key, made[i].key_size)
                            done = done or tctdbecode(self.handle.tdb) == TCENOREC
                        if not done or io_failure.error:
                            break
                    error = io_errno()
                self.handle.changes += 1
                self._check_write("put", done, error)
            finally:
                release(self.handle)
        finally:
            for i in range(count):
                if made[i].columns != NULL:
                    tcmapdel(made[i].columns)
            free(made)

    cdef int _put(self, bytes key, TCMAP *columns) except -1:
        """Store a map, and free it."""
        cdef const char *name = PyBytes_AS_STRING(key)
        cdef int key_size, error
        cdef bint done
        try:
            key_size = size_of(key)
            if key_size == 0:
                raise UsageError("the key is empty; Tokyo Cabinet can't store that")
            self._enter_to_write("put")
            try:
                self._check_indexable(columns)
                with nogil:
                    done = tctdbput(self.handle.tdb, name, key_size, columns)
                    error = io_errno()
                self.handle.changes += 1
                self._check_write("put", done, error)
            finally:
                release(self.handle)
        finally:
            tcmapdel(columns)
        return 0

    cdef int _check_indexable(self, TCMAP *columns) except -1:
        cdef TCTDB *tdb = self.handle.tdb
        if tdb.inum == 0:
            return 0
        cdef Column column
        cdef int i
        cdef str reason
        tcmapiterinit(columns)
        while True:
            column.name = <const char *>tcmapiternext(columns, &column.name_size)
            if column.name is NULL:
                return 0
            column.value = <const char *>tcmapiterval(column.name, &column.value_size)
            # Most values are not empty, nor names odd: no index needs to be asked about those.
            if column.value_size and not memchr(column.name, 0, column.name_size):
                continue
            for i in range(tdb.inum):
                reason = misfit(tdb.idxs[i].name, tdb.idxs[i].type, &column)
                if reason is not None:
                    raise UsageError(reason)

    def __delitem__(self, key):
        check_key(key)
        cdef const char *name = PyBytes_AS_STRING(key)
        cdef int size = size_of(key)
        cdef int error
        cdef bint done
        self._enter_to_write("delete")
        try:
            with nogil:
                done = tctdbout(self.handle.tdb, name, size)
                error = io_errno()
            if not done and not io_failure.error and tctdbecode(self.handle.tdb) == TCENOREC:
                raise KeyError(key)
            self.handle.changes += 1
            self._check_write("delete", done, error)
        finally:
            release(self.handle)

    def __iter__(self):
        """The keys, in no order. Any number of iterations may run at once; a change of the table ends them all
        with RuntimeError: take `list(table)` first."""
        return _flatten(Batches(self, 256, False))

    def keys(self):
        return KeysView(self)

    def values(self):
        return ValuesView(self)

    def items(self):
        return ItemsView(self)

    def pop(self, key, *default):
        """Remove a row and return it; `default` where there is none, else KeyError."""
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        row = self.get(key)
        if row is not None:
            del self[key]
            return row
        if not default:
            raise KeyError(key)
        return default[0]

    def popitem(self):
        """Remove some row and return its key and columns; KeyError where there is none."""
        return MutableMapping.popitem(self)

    def setdefault(self, key, default):
        """The row of `key`, stored from `default` where there is none."""
        return MutableMapping.setdefault(self, key, default)

    def update(self, rows=(), /):
        """Store each row of a mapping, or of an iterable of keys and rows."""
        MutableMapping.update(self, rows)

    def clear(self):
        """Remove all rows, in a transaction too."""
        if not self.in_transaction:
            return self.vanish()
        for key in list(self):
            del self[key]

    def raw_batches(self, int count):
        """Iterate over all rows in no order, as lists of at most `count` pairs (key, row as in `get_raw`).

        Raises:
            RuntimeError: the table was changed meanwhile.
        """
        if count < 1:
            raise UsageError("count must be at least 1")
        return Batches(self, count, True)

    # Transactions

    @property
    def in_transaction(self):
        """Whether a transaction is open."""
        self._enter()
        try:
            return bool(self.handle.tdb.tran)
        finally:
            release(self.handle)

    def begin(self):
        """Begin a transaction. It belongs to the table: what other threads write meanwhile is part of it.

        Raises:
            UsageError: one is open already (the library would wait for ever).
        """
        self._enter_to_write("begin")
        try:
            if self.handle.tdb.tran:
                raise UsageError("a transaction is open already; they don't nest")
            try:
                self._run("begin", tctdbtranbegin)
            finally:
                self._adopt_log()
        finally:
            release(self.handle)

    cdef _adopt_log(self):
        """The log of the transaction is a descriptor more, of the table and of each index."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef int i
        set_cloexec(tdb.hdb)
        for i in range(tdb.inum):
            set_cloexec((<TCBDB *>tdb.idxs[i].db).hdb)

    def commit(self):
        """Make what was written since `begin` stay."""
        self._end("commit", tctdbtrancommit)

    def abort(self):
        """Undo what was written since `begin`."""
        self._end("abort", tctdbtranabort)

    cdef _end(self, str operation, c_bool (*call)(TCTDB *) noexcept nogil):
        self._enter_to_write(operation)
        try:
            if not self.handle.tdb.tran:
                if self.broken is not None:  # the commit failed
                    raise error_again(self.broken)
                raise UsageError(f"{operation} without a transaction", hint="call begin() first")
            self.handle.changes += 1
            self._run(operation, call)
        finally:
            release(self.handle)

    cdef _run(self, str operation, c_bool (*call)(TCTDB *) noexcept nogil):
        """Call the library without the GIL; the caller holds the lock."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef int error
        cdef bint done
        with nogil:
            pthread_rwlock_rdlock(&gate)
            done = call(tdb)
            error = io_errno()
            pthread_rwlock_unlock(&gate)
        self._check_write(operation, done, error)

    def transaction(self):
        """A context that begins a transaction, commits at its end, and aborts where an exception leaves it."""
        return Transaction(self)

    # Maintenance

    def sync(self):
        """Write everything to stable storage (fsync), the names of new files included."""
        self._enter_to_maintain("sync")
        try:
            self._run("sync", tctdbsync)
            if self.names_changed:
                sync_directory(self.path_bytes)
                self.names_changed = False
        finally:
            release(self.handle)

    def vanish(self):
        """Remove all rows at once; indexes stay."""
        self._enter_to_maintain("vanish")
        try:
            self.handle.changes += 1
            self._run("vanish", tctdbvanish)
            self._adopt(True)
        finally:
            release(self.handle)

    def optimize(self, int64_t bnum=0):
        """Rebuild the file with `bnum` buckets (0: twice the rows), without holes, and its indexes.

        A crash in the midst of it may leave the file under another name, `PATH.tmp.NUMBER`: copy first.
        """
        cdef TCTDB *tdb
        cdef int error
        cdef bint done
        if bnum < 0:
            raise UsageError("bnum can't be negative")
        self._enter_to_maintain("optimize")
        try:
            tdb = self.handle.tdb
            buckets = bnum or tctdbrnum(tdb) * 2 + 1
            require_space(self.path_bytes, 2 * tctdbfsiz(tdb) + 8 * buckets + (64 << 20))
            self.handle.changes += 1
            with nogil:
                pthread_rwlock_rdlock(&gate)
                done = tctdboptimize(tdb, bnum, -1, -1, 255)
                error = io_errno()
                pthread_rwlock_unlock(&gate)
            try:
                self._check_write("optimize", done, error)
            finally:
                self._adopt(True)
        finally:
            release(self.handle)

    def copy(self, path):
        """Copy the table and its indexes, as they are now, to files that don't exist yet; the copies are synced.

        Raises:
            UsageError: a transaction is open, the target exists, or its path begins with `@`.
        """
        if os.fsencode(path).startswith(b"@"):
            raise UsageError("a path that begins with '@' is a shell command to Tokyo Cabinet", hint="write ./@...")
        cdef bytes target = table_path(path)
        if os.path.lexists(target):
            raise UsageError(f"{os.fsdecode(target)} exists already")
        stale = index_files(target)
        if stale:
            raise UsageError(f"{os.fsdecode(stale[0])} exists already")
        self._enter()
        try:
            if self.handle.tdb.tran:
                raise UsageError("copy can't run inside a transaction", hint="commit or abort it first")
            if self.broken is not None:
                raise error_again(self.broken)
            if self.handle.tdb.wmode:
                self._run("copy", flush)
            self._copy_files(target)
        finally:
            release(self.handle)
        sync_directory(target)

    cdef _copy_files(self, bytes target):
        cdef TCTDB *tdb = self.handle.tdb
        cdef TCHDB *hdb
        made = []
        try:
            # The table last: a copy cut short is no table.
            for i in range(tdb.inum - 1, -2, -1):
                hdb = tdb.hdb if i < 0 else (<TCBDB *>tdb.idxs[i].db).hdb
                made.append(target + hdb.path[len(self.path_bytes) :])
                copy_file(hdb.fd, <int64_t>hdb.fsiz, made[-1])
        except BaseException:
            for path in made:
                if os.path.exists(path):
                    os.unlink(path)
            raise

    # Indexes

    def create_index(self, name, kind="lexical", keep=False):
        """Index a column, over the rows that there are and all to come.

        Args:
            name: the column, str or bytes; "" is the primary key.
            kind: "lexical" (equality, prefixes, order of bytes), "decimal" (numbers), "token" (words),
                "qgram" (any part of a text).
            keep: leave an index of that name as it is; otherwise it is replaced.

        Raises:
            UsageError: a transaction is open, or a row has an empty value in the column (lexical, decimal).
        """
        cdef bytes column = encoded(name, "column name")
        if kind not in _KINDS:
            raise UsageError(f"kind must be one of {', '.join(_KINDS)}, not {kind!r}")
        cdef int number = _KINDS[kind]
        self._enter_to_maintain("create_index")
        try:
            if keep and self._index(column) is not NULL:
                return
            self._check_rows(column, number)
            try:
                self._set_index("create_index", column, number)
            except Error:
                if self._index(column) is not NULL:
                    self._set_index("create_index", column, TDBITVOID)
                raise
        finally:
            release(self.handle)

    def drop_index(self, name):
        """Remove the index of a column and its file. UsageError where there is none, or in a transaction."""
        self._maintain_index("drop_index", encoded(name, "column name"), TDBITVOID)

    def optimize_index(self, name):
        """Rebuild the file of an index without holes."""
        self._maintain_index("optimize_index", encoded(name, "column name"), TDBITOPT)

    cdef _maintain_index(self, str operation, bytes column, int number):
        self._enter_to_maintain(operation)
        try:
            if self._index(column) is NULL:
                raise UsageError(f"column {column!r} has no index")
            if number == TDBITOPT:
                require_space(self.path_bytes, 2 * tctdbfsiz(self.handle.tdb) + (64 << 20))
            self._set_index(operation, column, number)
        finally:
            release(self.handle)

    cdef _set_index(self, str operation, bytes column, int number):
        cdef TCTDB *tdb = self.handle.tdb
        cdef const char *name = PyBytes_AS_STRING(column)
        cdef int error
        cdef bint done
        self.handle.changes += 1
        with nogil:
            pthread_rwlock_rdlock(&gate)
            io_begin()
            done = tctdbsetindex(tdb, name, number)
            error = io_errno()
            pthread_rwlock_unlock(&gate)
        self._check_write(operation, done, error)
        self._adopt(True)

    cdef _check_rows(self, bytes index, int number):
        """Refuse what the library would abort on while it indexes the rows that there are."""
        cdef uint64_t offset = self.handle.tdb.hdb.frec
        cdef Column column
        cdef const unsigned char *at
        cdef const unsigned char *end
        cdef str reason
        while True:
            rows = self._rows(&offset, 1000, True)
            if not rows:
                return
            for key, row in rows:
                at = <const unsigned char *>PyBytes_AS_STRING(row)
                end = at + PyBytes_GET_SIZE(row)
                while at < end:
                    if not next_column(&at, end, &column):
                        raise CorruptionError(f"the row of {key!r} is malformed", path=self.path)
                    reason = misfit(PyBytes_AS_STRING(index), number, &column)
                    if reason is not None:
                        raise UsageError(f"row {key!r}: {reason}")

    cdef TDBIDX *_index(self, bytes column) noexcept:
        """The index of a column, or NULL; the caller holds the lock."""
        cdef TCTDB *tdb = self.handle.tdb
        cdef int i
        for i in range(tdb.inum):
            if column == tdb.idxs[i].name:
                return &tdb.idxs[i]
        return NULL

    def indexes(self):
        """The indexed columns and the kind of each, as in `create_index`."""
        self._enter()
        try:
            return {
                <bytes>self.handle.tdb.idxs[i].name: kind_name(self.handle.tdb.idxs[i].type)
                for i in range(self.handle.tdb.inum)
            }
        finally:
            release(self.handle)

    def has_index(self, bytes name not None):
        """Whether the column has an index, of any kind."""
        self._enter()
        try:
            return self._index(name) is not NULL
        finally:
            release(self.handle)

    def index_cursor(self, bytes name not None):
        """A cursor over the lexical index of a column (b"": the primary key); it stands nowhere until it seeks."""
        return IndexCursor(self, name)

    @property
    def query(self):
        """A query that matches every row; narrow it with `col`."""
        return Query(self)

    # For the iterators and queries below; the caller holds the lock

    cdef list _rows(self, uint64_t *offset, int count, bint whole):
        """The next keys, or pairs of key and row, from a place in the file that moves on. The library has one
        iterator: it is set to our place before each batch."""
        cdef TCHDB *hdb = self.handle.tdb.hdb
        cdef list rows = []
        cdef void *key
        cdef int size
        cdef TCXSTR *name = tcxstrnew()
        cdef TCXSTR *row = tcxstrnew()
        hdb.iter = offset[0]
        try:
            while len(rows) < count:
                if whole:
                    if not tchdbiternext3(hdb, name, row):
                        break
                    rows.append((
                        PyBytes_FromStringAndSize(<char *>tcxstrptr(name), tcxstrsize(name)),
                        PyBytes_FromStringAndSize(<char *>tcxstrptr(row), tcxstrsize(row)),
                    ))
                else:
                    key = tchdbiternext(hdb, &size)
                    if key is NULL:
                        break
                    rows.append(take(key, size))
        finally:
            tcxstrdel(name)
            tcxstrdel(row)
        self._check_read("iterate", len(rows) == count, tchdbecode(hdb))
        offset[0] = hdb.iter
        return rows


MutableMapping.register(Table)


cdef c_bool flush(TCTDB *tdb) noexcept nogil:
    return tctdbmemsync(tdb, False)


@cython.final
cdef class Batches:
    """Lists of keys, or of pairs (key, raw row): see `Table.raw_batches`."""

    cdef Table table
    cdef uint64_t offset
    cdef uint64_t changes
    cdef int count
    cdef bint whole

    def __init__(self, Table table not None, int count, bint whole):
        self.table, self.count, self.whole = table, count, whole
        table._enter()
        self.offset = table.handle.tdb.hdb.frec
        self.changes = table.handle.changes
        release(table.handle)

    def __iter__(self):
        return self

    def __next__(self):
        self.table._enter()
        try:
            if self.changes != self.table.handle.changes:
                raise RuntimeError("the table changed during iteration; take a list of the keys first")
            rows = self.table._rows(&self.offset, self.count, self.whole)
        finally:
            release(self.table.handle)
        if not rows:
            raise StopIteration
        return rows


def _flatten(batches):
    for batch in batches:
        yield from batch


@cython.final
cdef class Transaction:
    """The context of `Table.transaction`."""

    cdef Table table

    def __init__(self, Table table not None):
        self.table = table

    def __enter__(self):
        self.table.begin()
        return self.table

    def __exit__(self, kind, error, traceback):
        if kind is None:
            self.table.commit()
        else:
            self.table.abort()


# --- Walking an index ----------------------------------------------------------------------------------------------

@cython.final
cdef class IndexCursor:
    """A place in the lexical index of a column, whose entries are ordered by value, bytewise.

    Values that hold NUL bytes may be out of order by the width of the NUL and two bytes more: the index appends
    those to every value. After any change of the table the cursor must seek again (UsageError).

    >>> with Table("people.tct", "n") as t:
    ...     t.create_index("age")
    ...     t.update({b"ann": {b"age": b"41"}, b"bob": {b"age": b"29"}})
    ...     cursor = t.index_cursor(b"age")
    ...     cursor.seek(b"30")
    ...     cursor.next_batch(10)
    True
    [(b'41', b'ann')]
    """

    cdef Table table
    cdef bytes name
    cdef BDBCUR *cursor
    cdef uint64_t changes

    def __init__(self, Table table not None, bytes name not None):
        self.table, self.name = table, name
        table._enter()
        try:
            self._renew()
        finally:
            release(table.handle)

    def __dealloc__(self):
        if self.cursor is not NULL:
            tcbdbcurdel(self.cursor)  # frees the struct alone; it never looks at the tree

    cdef TCBDB *_renew(self) except NULL:
        """A fresh cursor on the index as it is now: the old one may point into a tree that is no more."""
        cdef TDBIDX *index = self.table._index(self.name)
        if index is NULL:
            raise UsageError(f"column {self.name!r} has no index")
        if index.type != TDBITLEXICAL:
            raise UsageError(f"the index of column {self.name!r} is {kind_name(index.type)}, not lexical")
        if self.cursor is not NULL:
            tcbdbcurdel(self.cursor)
        self.cursor = tcbdbcurnew(<TCBDB *>index.db)
        self.changes = self.table.handle.changes
        return <TCBDB *>index.db

    cdef bint _found(self, TCBDB *bdb, bint found) except -1:
        self.table._check_read("seek", found, tcbdbecode(bdb))
        return found

    def seek(self, bytes value not None):
        """Stand on the first entry whose value is `value` or greater; false where there is none."""
        cdef int size = size_of(value)
        cdef TCBDB *bdb
        self.table._enter()
        try:
            bdb = self._renew()
            return self._found(bdb, tcbdbcurjump(self.cursor, PyBytes_AS_STRING(value), size))
        finally:
            release(self.table.handle)

    def seek_before(self, bytes value not None):
        """Stand on the last entry whose value is less than `value`; false where there is none."""
        cdef int size = size_of(value)
        cdef int key_size = 0
        cdef TCBDB *bdb
        cdef const void *key
        cdef bint found
        self.table._enter()
        try:
            bdb = self._renew()
            found = tcbdbcurjumpback(self.cursor, PyBytes_AS_STRING(value), size)
            # Entries of columns are longer than their value; those of the primary key may equal it.
            while found:
                key = tcbdbcurkey3(self.cursor, &key_size)
                if key is NULL:
                    found = False
                    break
                if not at_least(<const char *>key, key_size, PyBytes_AS_STRING(value), size):
                    break
                found = tcbdbcurprev(self.cursor)
            return self._found(bdb, found)
        finally:
            release(self.table.handle)

    def seek_first(self):
        """Stand on the first entry; false where there is none."""
        cdef TCBDB *bdb
        self.table._enter()
        try:
            bdb = self._renew()
            return self._found(bdb, tcbdbcurfirst(self.cursor))
        finally:
            release(self.table.handle)

    def seek_last(self):
        """Stand on the last entry; false where there is none."""
        cdef TCBDB *bdb
        self.table._enter()
        try:
            bdb = self._renew()
            return self._found(bdb, tcbdbcurlast(self.cursor))
        finally:
            release(self.table.handle)

    def next_batch(self, int count):
        """At most `count` pairs (value, key) from where the cursor stands, ascending; it then stands behind them."""
        return self._batch(count, tcbdbcurnext)

    def prev_batch(self, int count):
        """At most `count` pairs (value, key) from where the cursor stands, descending; it then stands before them."""
        return self._batch(count, tcbdbcurprev)

    cdef list _batch(self, int count, c_bool (*step)(BDBCUR *) noexcept nogil):
        cdef list entries = []
        cdef const char *value
        cdef const char *key
        cdef int value_size, key_size
        cdef TDBIDX *index
        cdef int suffix = 3 if self.name else 0  # a NUL and two bytes of the key's hash
        self.table._enter()
        try:
            if self.changes != self.table.handle.changes:
                raise UsageError("the table changed under the cursor", hint="seek again")
            while len(entries) < count:
                value = <const char *>tcbdbcurkey3(self.cursor, &value_size)
                if value is NULL:
                    break
                if value_size < suffix:
                    raise CorruptionError(f"an entry of the index of {self.name!r} is too short", path=self.table.path)
                entry = PyBytes_FromStringAndSize(value, value_size - suffix)
                key = <const char *>tcbdbcurval3(self.cursor, &key_size)
                if key is NULL:
                    break
                entries.append((entry, PyBytes_FromStringAndSize(key, key_size)))
                if not step(self.cursor):
                    break
            try:
                index = self.table._index(self.name)
                self.table._check_read("seek", len(entries) == count, tcbdbecode(<TCBDB *>index.db))
            except Error:
                self.changes = UINT64_MAX  # where the cursor stands now is anybody's guess: it must seek again
                raise
        finally:
            release(self.table.handle)
        return entries


cdef bint at_least(const char *a, int a_size, const char *b, int b_size) noexcept nogil:
    cdef int order = memcmp(a, b, min(a_size, b_size))
    return order > 0 if order else a_size >= b_size


# --- Queries -------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(rb"[+-]?[0-9]+(\.[0-9]*)?")


cdef bytes number(object value):
    """A number as the library reads it: digits and a point. It knows no exponents: '1e3' would be 1."""
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        decimal = Decimal(repr(value) if isinstance(value, float) else value)
        if not decimal.is_finite():
            raise UsageError(f"{value!r} is no number that Tokyo Cabinet knows")
        return format(decimal, "f").encode()
    cdef bytes text = encoded(value, "operand")
    if not _NUMBER.fullmatch(text):
        raise UsageError(f"operand {value!r} is not a plain decimal number")
    return text


@cython.final
cdef class Query:
    """Conditions on columns, all of which must hold, an order and a limit. Immutable: each call makes a new one.

    Iterating runs it and gives the keys. Text is encoded as UTF-8. Operands and names can't hold NUL bytes, and
    a column's value is compared up to its first NUL, save by `equals`. Conditions on numbers read a value as far
    as it is a plain decimal; anything else is 0.

    >>> with Table("people.tct", "n") as t:
    ...     t.update({b"ann": {b"age": b"41"}, b"bob": {b"age": b"29"}, b"cy": {b"age": b"33"}})
    ...     list(t.query.col("age").num_gt(30).order_by("age", numeric=True))
    [b'cy', b'ann']
    """

    cdef Table table
    cdef tuple conditions  # of (name, operation, operand)
    cdef tuple order  # (name, type), or None
    cdef tuple window  # (limit, skip); a negative limit is none
    cdef str last_hint

    def __init__(self, Table table not None):
        self.table = table
        self.conditions = ()
        self.window = (-1, 0)
        self.last_hint = None

    cdef Query _twin(self):
        cdef Query twin = Query(self.table)
        twin.conditions, twin.order, twin.window = self.conditions, self.order, self.window
        return twin

    cdef Query _where(self, tuple condition):
        cdef Query twin = self._twin()
        twin.conditions += (condition,)
        return twin

    def col(self, name):
        """A column to put a condition on; "" is the primary key."""
        return QueryColumn(self, name)

    def order_by(self, name, *, numeric=False, descending=False):
        """Order by a column ("": the primary key); rows without it come last."""
        cdef Query twin = self._twin()
        ascending, reverse = (TDBQONUMASC, TDBQONUMDESC) if numeric else (TDBQOSTRASC, TDBQOSTRDESC)
        twin.order = (encoded(name, "column name"), reverse if descending else ascending)
        return twin

    def limit(self, max, skip=0):
        """At most `max` rows, after leaving out the first `skip`."""
        for count in (max, skip):
            if not 0 <= count <= INT_MAX:
                raise UsageError(f"{count} is no count of rows")
        cdef Query twin = self._twin()
        twin.window = (max, skip)
        return twin

    cdef TDBQRY *_build(self) except NULL:
        """The library's query; the caller holds the table's lock, and frees it."""
        cdef TDBQRY *query = tctdbqrynew(self.table.handle.tdb)
        cdef bytes name, operand
        for name, operation, operand in self.conditions:
            tctdbqryaddcond(query, PyBytes_AS_STRING(name), operation, PyBytes_AS_STRING(operand))
        if self.order is not None:
            name, operation = self.order
            tctdbqrysetorder(query, PyBytes_AS_STRING(name), operation)
        tctdbqrysetlimit(query, self.window[0], self.window[1])
        return query

    def _keys(self):
        cdef TDBQRY *query
        cdef TCLIST *found
        self.table._enter()
        try:
            if self.window[0] == 0:
                return []
            query = self._build()
            try:
                forget_errors(self.table.handle.tdb)
                with nogil:
                    found = tctdbqrysearch(query)
                try:
                    code = self._remember(query)
                    self.table._check_read("search", code == TCESUCCESS, code)
                    return list_of(found)
                finally:
                    tclistdel(found)
            finally:
                tctdbqrydel(query)
        finally:
            release(self.table.handle)

    cdef int _remember(self, TDBQRY *query) except -1:
        """Keep the hint, and tell the error that the library swallowed: it returns what it found until then."""
        self.last_hint = tctdbqryhint(query).decode("utf-8", "replace")
        return first_error(self.table.handle.tdb)

    def __iter__(self):
        return iter(self._keys())

    def items(self):
        """Iterate over (key, row); rows deleted since the search are left out."""
        for key in self._keys():
            row = self.table.get(key)
            if row is not None:
                yield key, row

    def rows(self):
        """Iterate over the rows, dicts of bytes."""
        for _, row in self.items():
            yield row

    def count(self):
        """How many rows match."""
        return len(self._keys())

    def first(self):
        """The first key and row as a pair, or None."""
        limit, skip = self.window
        return next(self.limit(1 if limit else 0, skip).items(), None)

    def delete(self):
        """Delete the rows that match, and return how many there were."""
        cdef TDBQRY *query
        cdef int error
        cdef bint done
        self.table._enter_to_write("delete")
        try:
            if self.window[0] == 0:
                return 0
            query = self._build()
            try:
                forget_errors(self.table.handle.tdb)
                self.table.handle.changes += 1
                with nogil:
                    done = tctdbqrysearchout(query)
                    error = io_errno()
                self.table._check_write("delete", done and self._remember(query) == TCESUCCESS, error)
                return tctdbqrycount(query)
            finally:
                tctdbqrydel(query)
        finally:
            release(self.table.handle)

    @property
    def hint(self):
        """How the library went about it: the index used, or a scan. Runs the query if it has not run yet."""
        if self.last_hint is None:
            self._keys()
        return self.last_hint or ""


cdef list list_of(TCLIST *found):
    cdef list keys = []
    cdef const char *key
    cdef int i, size
    for i in range(tclistnum(found)):
        key = <const char *>tclistval(found, i, &size)
        keys.append(PyBytes_FromStringAndSize(key, size))
    return keys


cdef void forget_errors(TCTDB *tdb) noexcept:
    """The library keeps its first grave error for good, and tells no other from then on."""
    cdef TCHDB *hdb
    cdef int i
    for i in range(-1, tdb.inum):
        hdb = tdb.hdb if i < 0 else (<TCBDB *>tdb.idxs[i].db).hdb
        hdb.ecode = TCESUCCESS
        hdb.fatal = False


cdef int first_error(TCTDB *tdb) noexcept:
    """An error that happened since `forget_errors`; that a record isn't there is none."""
    cdef int i, code
    for i in range(-1, tdb.inum):
        code = (tdb.hdb if i < 0 else (<TCBDB *>tdb.idxs[i].db).hdb).ecode
        if code != TCESUCCESS and code != TCENOREC:
            return code
    return TCESUCCESS


@cython.final
cdef class QueryColumn:
    """A column of a query: every method adds one condition and gives the narrower query.

    `negate=True` turns the condition round: rows without the column match too, and no index is used.
    """

    cdef Query query
    cdef bytes name

    def __init__(self, Query query not None, name):
        self.query = query
        self.name = encoded(name, "column name")

    cdef Query _add(self, int operation, bytes operand, object negate):
        return self.query._where((self.name, operation | (TDBQCNEGATE if negate else 0), operand))

    def equals(self, text, *, negate=False):
        """The value is `text`."""
        return self._add(TDBQCSTREQ, encoded(text, "operand"), negate)

    def includes(self, text, *, negate=False):
        """The value holds `text` somewhere."""
        return self._add(TDBQCSTRINC, encoded(text, "operand"), negate)

    def startswith(self, text, *, negate=False):
        """The value begins with `text`."""
        return self._add(TDBQCSTRBW, encoded(text, "operand"), negate)

    def endswith(self, text, *, negate=False):
        """The value ends with `text`."""
        return self._add(TDBQCSTREW, encoded(text, "operand"), negate)

    def num_equals(self, value, *, negate=False):
        """The value, as a number, is `value`: an int, float, Decimal, or plain decimal text."""
        return self._add(TDBQCNUMEQ, number(value), negate)

    def num_gt(self, value, *, negate=False):
        """The value, as a number, is greater than `value`."""
        return self._add(TDBQCNUMGT, number(value), negate)

    def num_ge(self, value, *, negate=False):
        """The value, as a number, is `value` or greater."""
        return self._add(TDBQCNUMGE, number(value), negate)

    def num_lt(self, value, *, negate=False):
        """The value, as a number, is less than `value`."""
        return self._add(TDBQCNUMLT, number(value), negate)

    def num_le(self, value, *, negate=False):
        """The value, as a number, is `value` or less."""
        return self._add(TDBQCNUMLE, number(value), negate)

    def num_between(self, low, high, *, negate=False):
        """The value, as a number, lies between `low` and `high`, both included."""
        return self._add(TDBQCNUMBT, number(low) + b" " + number(high), negate)
